# The scale and the names that all rules share. What can be plain Python is in rarl/workflow.py.

import json
import os
import re
import socket
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from rarl.errors import RarlError
from rarl.workflow import DATASET_FILES, code_of, gpus, plan_digest, preview_runs, scale_of

# Jobs use the Python of this Snakemake, also where nobody has activated its environment; a job is one process on its
# `threads`, so libraries must not start one thread per core beside it.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A fault in config/ is told here, before any job starts.
try:
    SCALE = scale_of(config)
    CODE = {kind: code_of(kind) for kind in ("planner", "dqn", "train", "probe", "report")}
except RarlError as error:
    raise WorkflowError(str(error)) from None

S = SCALE.name
GPU = min(gpus(), 1)  # a job uses one; on a machine without, 0 lets jobs run side by side
FIRST = set(preview_runs(SCALE))


wildcard_constraints:
    task="[a-z-]+",
    run="|".join(map(re.escape, SCALE.runs)) or "-",


def dataset_targets():
    """All files of all datasets of this scale."""
    return [
        f"data/{S}/{dataset.id}/{name}"
        for dataset in SCALE.datasets.values()
        for name in DATASET_FILES[dataset.settings.source]
    ]


def run_targets(runs):
    """All files of these runs."""
    return expand(rules.train_run.output, run=runs)


def probe_targets(runs):
    """All files of what was found by looking into these runs."""
    return expand(rules.probe_run.output, run=runs)


def manifests_of(wildcards):
    """The manifests of the datasets that a run learns from. They hold the arrays' hashes, so the arrays are not read."""
    return [f"data/{S}/{dataset}/manifest.json" for dataset in SCALE.datasets_of(SCALE.runs[wildcards.run])]


def first_look(wildcards):
    """Jobs that the preview waits for come first."""
    return 20 if wildcards.run in FIRST else 0


# workflow/unlock.py reads this after a kill: a lock is stale if the process that took it is gone.
onstart:
    Path(".snakemake/holder.json").write_text(json.dumps({"host": socket.gethostname(), "pid": os.getpid()}))


onerror:
    print(f"Some jobs failed; what they said is under logs/{S}/. Started again, the workflow goes on from here.")
