# The scale and the names that all rules share. What can be plain Python is in rarl/workflow.py.

import re
from functools import cache
from pathlib import Path

from snakemake.exceptions import WorkflowError

from rarl.errors import RarlError
from rarl.files import sha256_file
from rarl.jobs import ENTRY_MODULES, code_of, job_of
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
from rarl.workflow_records import has_params, inputs_of, plan_of
from rarl.workflow_start import guard

prepare_environment()

# A fault in config/ is told here, before any job starts.
try:
    SCALE = scale_of(config)
    COST_RUNS = [run for runs in SCALE.cost_runs().values() for run in runs.values()]
    CODE = {kind: code_of(kind) for kind in ENTRY_MODULES}
    INDEX_COST = index_cost_digest(SCALE)
    guard(workflow, SCALE)
except RarlError as error:
    raise WorkflowError(str(error)) from None

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


def manifests_of(product, runs):
    """The manifests of the datasets that runs learn from. They hold the arrays' hashes, so the arrays are not read.

    Where only arrays of a dataset are lost, its job makes the same bytes again, and that is no reason to make `product`
    again: a manifest from which it was made and which is not due itself is `ancient` to Snakemake.
    """
    made_from = inputs_of(product)

    def is_needless(dataset, path):
        return path in made_from and made_from[path] == checksum(path) and is_settled(dataset)

    names = dict.fromkeys(name for run in runs for name in SCALE.datasets_of(run))
    paths = {f"data/{S}/{name}/manifest.json": SCALE.datasets[name] for name in names}
    return [ancient(path) if is_needless(dataset, path) else path for path, dataset in paths.items()]


@cache
def checksum(path):
    """The SHA-256 of a file as the workflow found it; None if there was none."""
    return sha256_file(path) if Path(path).is_file() else None


@cache
def is_settled(dataset):
    """Whether a dataset was made with the settings and the code that it has now."""
    return has_params(f"data/{S}/{dataset.id}/manifest.json", [dataset.digest, CODE[dataset.settings.source]])


def plan_for(product, **plan):
    """The file that says by what `product` is measured, as an input: it has no others, or not always."""
    return plan_of(product, plan, S) if workflow.is_main_process else f"scratch/{S}/plans/{Path(product).stem}.json"


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


def report_inputs(product, runs):
    """The files that a report, `product`, about these runs reads."""
    return [
        *manifests_of(product, [SCALE.runs[run] for run in runs]),
        *(path for path in run_targets(runs) if "/checkpoints/" not in path),
        *probe_targets([run for run in SCALE.probes() if run in runs]),
    ]


def digest_of_dataset(kind):
    """The digest of the settings of a dataset of a kind such as "gridroboman/planner", given its task."""
    return lambda wildcards: SCALE.find_dataset(f"{kind}/{wildcards.task}").digest


def digest_of_run(wildcards):
    """The digest of the settings of a run."""
    return SCALE.runs[wildcards.run].digest


def code_of_run(job):
    """The digest of the code of a job ("train", "probe") of a run."""
    return lambda wildcards: CODE[job_of(job, SCALE.runs[wildcards.run])]


def threads_of_run(wildcards):
    """The threads that a run computes with."""
    return SCALE.runs[wildcards.run].settings.threads


def first_look(wildcards):
    """Jobs that the preview waits for come first."""
    return 20 if wildcards.run in FIRST else 0


onerror:
    print(
        f"Not everything is done: jobs failed, or were stopped. What they said is under logs/{S}/; "
        "started again, the workflow goes on from here."
    )
