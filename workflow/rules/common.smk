# The scale and the names that all rules share. What can be plain Python is in rarl/workflow.py.

import json
import re
import socket
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from rarl.errors import RarlError
from rarl.jobs import (
    code_digest_of,
    costs_job,
    dataset_job,
    index_cost_job,
    probe_job,
    report_job,
    train_job,
)
from rarl.planning.plan import plan_to_tell
from rarl.planning.scale import index_cost_plan
from rarl.workflow import (
    DATASET_FILES,
    cost_digest,
    gpus,
    index_cost_digest,
    plan_digest,
    prepare_environment,
    preview_runs,
    scale_of,
)

prepare_environment()

# A fault in config/ is told here, before any job starts.
try:
    SCALE = scale_of(config)
    COST_RUNS = [run for runs in SCALE.cost_runs().values() for run in runs.values()]
    INDEX_COST, INDEX_COST_PLAN = index_cost_digest(SCALE), index_cost_plan(SCALE)
    CODE = {
        "costs": code_digest_of(costs_job(SCALE)),
        "index-cost": code_digest_of(index_cost_job(INDEX_COST_PLAN and INDEX_COST_PLAN[1])),
        "report": code_digest_of(report_job()),
    }
    PLAN = plan_to_tell(SCALE) if workflow.is_main_process else None
except RarlError as error:
    raise WorkflowError(str(error)) from None

if PLAN is not None:
    print(PLAN, file=sys.stderr)

S = SCALE.name
GPU = min(gpus(), 1)  # a job uses one; on a machine without, 0 lets jobs run side by side
FIRST = set(preview_runs(SCALE))


wildcard_constraints:
    task="[a-z0-9-]+",
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


def manifests_of_costs():
    """The manifests of the datasets from which the variants learn whose costs are measured."""
    datasets = dict.fromkeys(dataset for run in COST_RUNS for dataset in SCALE.datasets_of(run))
    return [f"data/{S}/{dataset}/manifest.json" for dataset in datasets]


def cores_to_time():
    """All cores of this machine, so that a job that is timed runs alone.

    One where other machines do the work, and where times mean nothing as little as results do.
    """
    if not SCALE.settings.judges:
        return 1
    try:
        return workflow.cores
    except WorkflowError:
        return 1


def report_inputs(runs):
    """The files that a report about these runs reads."""
    datasets = dict.fromkeys(dataset for run in runs for dataset in SCALE.datasets_of(SCALE.runs[run]))
    return [
        *(f"data/{S}/{dataset}/manifest.json" for dataset in datasets),
        *(path for path in run_targets(runs) if "/checkpoints/" not in path),
        *probe_targets([run for run in SCALE.probes() if run in runs]),
    ]


def digest_of_dataset(kind):
    """The digest of the settings of a dataset of a kind such as "gridroboman/planner", given its task."""
    return lambda wildcards: SCALE.find_dataset(f"{kind}/{wildcards.task}").digest


def code_of_dataset(kind):
    """The digest of the code that makes a dataset of a kind such as "gridroboman/planner", given its task."""
    return lambda wildcards: code_digest_of(dataset_job(SCALE.find_dataset(f"{kind}/{wildcards.task}")))


def digest_of_run(wildcards):
    """The digest of the settings of a run."""
    return SCALE.runs[wildcards.run].digest


def code_of_training(wildcards):
    """The digest of the code that trains a run."""
    return code_digest_of(train_job(SCALE.runs[wildcards.run]))


def code_of_probe(wildcards):
    """The digest of the code that looks into a run."""
    return code_digest_of(probe_job(SCALE.runs[wildcards.run]))


def threads_of_run(wildcards):
    """The threads that a run computes with."""
    return SCALE.runs[wildcards.run].settings.threads


def first_look(wildcards):
    """Jobs that the preview waits for come first."""
    return 20 if wildcards.run in FIRST else 0


# workflow/unlock.py reads this after a kill: only on the same machine can it see whether the process is gone.
onstart:
    Path(".snakemake/holder.json").write_text(json.dumps({"host": socket.gethostname()}))


onerror:
    print(
        f"Not everything is done: jobs failed, or were stopped. What they said is under logs/{S}/; "
        "started again, the workflow goes on from here."
    )
