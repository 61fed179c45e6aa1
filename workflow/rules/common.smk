# The scale and the names that all rules share. What can be plain Python is in rarl/workflow/rules.py.

import functools
import json
import math
import os
import re
import socket
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from rarl.errors import RarlError
from rarl.files import digest, sha256_file
from rarl.jobs import (
    code_digest_of,
    costs_job,
    dataset_job,
    index_cost_job,
    probe_job,
    report_job,
    train_job,
)
from rarl.workflow.plan import made_by_all, made_by_extended, made_elsewhere, plan_to_tell
from rarl.config.scale import index_cost_plan
from rarl.workflow.resources import (
    gpu_partition,
    is_on_cluster,
    jobs_per_gpu,
    memory_of_costs,
    memory_of_index_cost,
    memory_of_run,
    uses_gpu,
)
from rarl.workflow.rules import (
    cost_digest,
    dataset_files,
    dataset_kinds,
    described_scales,
    gpus,
    index_cost_digest,
    plan_digest,
    prepare_environment,
    preview_runs,
    report_files,
    scale_of,
)
from rarl.workflow.records import has_params, inputs_of, plan_of
from rarl.workflow.start import guard

prepare_environment()

# A fault in config/ is told here, before any job starts.
try:
    SCALE = scale_of(config)
    COST_RUNS = [run for runs in SCALE.cost_runs().values() for run in runs.values()]
    INDEX_COST, INDEX_COST_PLAN = index_cost_digest(SCALE), index_cost_plan(SCALE)
    CODE = {
        "costs": code_digest_of(costs_job(SCALE)),
        "index-cost": code_digest_of(index_cost_job(INDEX_COST_PLAN and INDEX_COST_PLAN[1])),
        "report": code_digest_of(report_job(SCALE)),
    }
    PLAN = plan_to_tell(SCALE) if workflow.is_main_process else None
    guard(workflow, SCALE)
except RarlError as error:
    raise WorkflowError(str(error)) from None

if PLAN is not None:
    print(PLAN, file=sys.stderr)

S = SCALE.name
WANTED, ELSEWHERE = made_by_all(SCALE), made_elsewhere(SCALE)
WANTED_PROBES = [run for run in SCALE.probes() if run in WANTED]
MINUTES = math.ceil(60 * SCALE.settings.resources.hours)
FIRST = set(preview_runs(SCALE))
DATASET_KINDS = dataset_kinds(SCALE)


wildcard_constraints:
    task="[a-z0-9-]+",
    run="|".join(map(re.escape, SCALE.runs)) or "-",


def dataset_targets():
    """All files of all datasets of this scale."""
    return [f"data/{S}/{dataset.id}/{name}" for dataset in SCALE.datasets.values() for name in dataset_files(dataset)]


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

    names = dict.fromkeys(name for run in runs for name in run.datasets)
    paths = {f"data/{S}/{name}/manifest.json": SCALE.datasets[name] for name in names}
    return [ancient(path) if is_needless(dataset, path) else path for path, dataset in paths.items()]


@functools.cache
def checksum(path):
    """The SHA-256 of a file as the workflow found it; None if there was none."""
    return sha256_file(path) if Path(path).is_file() else None


@functools.cache
def is_settled(dataset):
    """Whether a dataset was made with the settings and the code that it has now."""
    return has_params(f"data/{S}/{dataset.id}/manifest.json", [dataset.digest, code_digest_of(dataset_job(dataset))])


def plan_for(product, **plan):
    """The file that says by what `product` is measured, as an input: it has no others, or not always."""
    return plan_of(product, plan, S) if workflow.is_main_process else f"scratch/{S}/plans/{Path(product).stem}.json"


def cores_to_time(wildcards):
    """All cores of this machine, so that a job that is timed runs alone.

    One where other machines do the work, and where times mean nothing as little as results do.
    """
    return 1 if on_cluster() or not SCALE.settings.allows_verdicts else workflow.cores


def extended_targets(wildcards):
    """All files of the target `extended`, but for what was made elsewhere, and looked into there."""
    runs = made_by_extended(SCALE)
    unseen = [run for run in ELSEWHERE if not all(map(os.path.isfile, probe_targets([run])))]
    return run_targets(runs) + probe_targets([run for run in SCALE.probes() if run in runs or run in unseen])


def records_from_elsewhere(wildcards):
    """What a report shows of runs that were made elsewhere: no job makes these files, so they are no inputs.

    Which of them were made by other code than today's is told as well, and no file changes when that does.
    """
    files = [path for path in report_inputs(ELSEWHERE) if Path(path).is_file()]
    if not files:
        return None
    not_as_today = sorted(set(made_by_extended(SCALE)) & set(ELSEWHERE))
    return digest([[[path, checksum(path)] for path in files], not_as_today])


def report_inputs(runs):
    """The files that a report about these runs reads."""
    return [
        *(path for path in run_targets(runs) if "/checkpoints/" not in path),
        *probe_targets([run for run in SCALE.probes() if run in runs]),
    ]


def digest_of_dataset(kind):
    """The digest of the settings of a dataset of a kind such as "environment/source", given its task."""
    return lambda wildcards: SCALE.find_dataset(f"{kind}/{wildcards.task}").digest


def code_of_dataset(kind):
    """The digest of the code that makes a dataset of a kind such as "environment/source", given its task."""
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


# --- what jobs ask for ------------------------------------------------------------------------------------------------


def on_cluster():
    """Whether jobs are sent to other machines, or this is such a job."""
    return is_on_cluster(not workflow.local_exec)


@functools.cache
def usual_partition():
    """The partition that the user names for all jobs; None: the cluster's default."""
    named = (workflow.resource_settings.default_resources or {}).get("slurm_partition")
    return getattr(named, "value", named)


@functools.cache
def gpu_there():
    """Whether jobs that want a GPU get a place on one: 0 or 1; without, they run side by side on the cores."""
    if not SCALE.settings.resources.gpu:
        return 0
    if not on_cluster():
        return min(gpus(), 1)
    return int(gpu_partition(usual_partition()) != "")


# `gpu` counts places on this machine's GPUs, of which each job takes one, on the GPU with the fewest jobs
# (rarl/runs/device.py); on a cluster it counts GPUs. `--resources gpu=N` says otherwise.
# Whether jobs are sent away is not known yet; if they are, there is a number of nodes.
if workflow.is_main_process and workflow.resource_settings.nodes is None and gpus():
    if "gpu" not in workflow.global_resources:
        workflow.register_resource("gpu", gpus() * jobs_per_gpu(SCALE))


def partition_of(gpu):
    """The partition of a job with so many GPUs; None where Slurm chooses, or does not run it."""
    return gpu_partition(usual_partition()) if gpu and on_cluster() else usual_partition()


def gpu_of(job):
    """The GPUs of a job ("train", "probe") of a run."""
    return lambda wildcards: gpu_there() * uses_gpu(job, SCALE.runs[wildcards.run])


def memory_of(job):
    """The memory of a job of a run, in MB; more when it is tried again."""

    def megabytes(wildcards, attempt):
        run = SCALE.runs[wildcards.run]
        datasets = [SCALE.datasets[name] for name in run.datasets]
        return memory_of_run(run, datasets, gpu_of(job)(wildcards) > 0, playing=job == "train") * min(attempt, 2)

    return megabytes


def first_look(wildcards):
    """Jobs that the preview waits for come first."""
    return 20 if wildcards.run in FIRST else 0


onerror:
    print(
        f"Not everything is done: jobs failed, or were stopped. What they said is under logs/{S}/; "
        "started again, the workflow goes on from here."
    )
