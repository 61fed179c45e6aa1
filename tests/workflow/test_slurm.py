"""profiles/slurm on a real cluster of this machine alone, with and without GPUs."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.workflow import slurm_cluster
from tests.workflow.slurm_cluster import Cluster
from tests.workflow.workflow_project import DQN, Project

LACKING = slurm_cluster.why_not()
pytestmark = [
    pytest.mark.servers,
    pytest.mark.workflow,
    pytest.mark.skipif(LACKING is not None, reason=LACKING or ""),
]


@pytest.fixture(scope="module")
def without_gpus() -> Iterator[Cluster]:
    with slurm_cluster.cluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def with_gpus() -> Iterator[Cluster]:
    """A second partition has GPUs."""
    with slurm_cluster.cluster(gpu=True) as cluster:
        yield cluster


def submit(project: Project, cluster: Cluster, *arguments: str, expect: int = 0, **environment: str) -> str:
    """What Snakemake says that sends its jobs to a cluster."""
    output = project.folder.with_name("output.txt")
    process = project.start(
        *("snakemake", "--workflow-profile", "profiles/slurm", "--slurm-init-seconds-before-status-checks", "2"),
        *("--seconds-between-status-checks", "3"),
        *arguments,
        output=output,
        **{name: cluster.environment[name] for name in ("PATH", "SLURM_CONF")} | environment,
    )
    try:
        assert process.wait(timeout=3600) == expect, output.read_text()[-10_000:]
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(timeout=60)
    return output.read_text()


def jobs_of(cluster: Cluster, begun_after: int = 0) -> list[dict[str, str]]:
    """Rule, partition, what was asked for, and how it ended, of each job of the cluster later than one."""
    found = cluster.accounting("JobID", "Comment", "Partition", "State", "ReqTRES")
    return [
        job | {"rule": job["Comment"].removeprefix("rule_").partition("_wildcards_")[0]}
        for job in found
        if int(job["JobID"]) > begun_after
    ]


def gpus_by_rule(jobs: list[dict[str, str]]) -> dict[str, set[tuple[str, bool]]]:
    """Rule -> (partition, whether a GPU was asked for) of its jobs."""
    found: dict[str, set[tuple[str, bool]]] = {}
    for job in jobs:
        found.setdefault(job["rule"], set()).add((job["Partition"], "gres/gpu" in job["ReqTRES"]))
    return found


def wait_until(done: Callable[[], bool], tell: Callable[[], str], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, tell()
        time.sleep(0.1)


def cuda_build_of_torch(folder: Path) -> str:
    """A folder for the PYTHONPATH that says torch is installed as it is where there are GPUs."""
    record = folder / "torch-2.13.0.dist-info" / "METADATA"
    record.parent.mkdir(parents=True)
    record.write_text("Metadata-Version: 2.1\nName: torch\nVersion: 2.13.0\n")
    return os.pathsep.join([str(folder), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]).rstrip(os.pathsep)


def memory_used(cluster: Cluster) -> dict[str, tuple[float, float]]:
    """By job: the most memory of its processes, all steps together, and what was asked for, in MB of 10^6 bytes."""
    used: dict[str, float] = {}
    asked: dict[str, float] = {}
    for step, most, memory in cluster.sacct("--units=K", "--format=JobID,MaxRSS,ReqMem"):
        job = step.partition(".")[0]
        if step == job:
            asked[job] = float(memory.rstrip("K")) * 1.024e-3
        else:
            used[job] = used.get(job, 0) + float(most.rstrip("K") or 0) * 1.024e-3
    return {job: (used[job], asked[job]) for job in asked}


def test_the_smoke_scale_on_a_cluster_without_gpus(untouched: Project, without_gpus: Cluster) -> None:
    cluster = without_gpus
    output = submit(untouched, cluster, "all", "--config", "scale=smoke")
    assert (untouched.folder / "reports" / "smoke" / "README.md").is_file()
    jobs = jobs_of(cluster)
    assert {job["State"] for job in jobs} == {"COMPLETED"}
    assert len(jobs) == output.count("has been submitted with SLURM jobid")
    found = gpus_by_rule(jobs)
    made = {"make_gridroboman_planner_dataset", "make_babyai_bot_dataset"}
    assert set(found) >= made | {"train_run", "probe_run", "measure_costs"}
    assert set().union(*found.values()) == {("main", False)}
    used = memory_used(cluster)
    assert len(used) == len(jobs)
    assert {job: (used_mb, asked_mb) for job, (used_mb, asked_mb) in used.items() if used_mb > 0.9 * asked_mb} == {}


def test_a_gpu_is_asked_for_where_there_is_one_and_the_scale_wants_it(
    untouched: Project, with_gpus: Cluster, tmp_path: Path
) -> None:
    project, cluster = untouched, with_gpus

    def trained(*arguments: str, **environment: str) -> set[tuple[str, bool]]:
        """Where the runs were trained, each anew."""
        last = max((int(job["JobID"]) for job in jobs_of(cluster)), default=0)
        submit(project, cluster, "train", "--forcerun", "train_run", *arguments, **environment)
        jobs = jobs_of(cluster, last)
        assert {job["State"] for job in jobs} == {"COMPLETED"}
        found = gpus_by_rule(jobs)
        assert found.get("make_gridroboman_planner_dataset", {("main", False)}) == {("main", False)}
        return found["train_run"]

    cuda = {"PYTHONPATH": cuda_build_of_torch(tmp_path / "cuda")}
    assert trained(**cuda) == {("main", False)}  # the scale wants none
    project.scale(lambda settings: settings.update(resources={"gpu": True}))
    assert trained(**cuda) == {("gpu", True)}
    assert trained(**cuda, RARL_GPU_PARTITION="") == {("main", False)}
    assert trained(RARL_GPU_PARTITION="gpu") == {("gpu", True)}


def test_jobs_that_a_killed_workflow_left_in_the_queue_are_cancelled_and_go_on(
    untouched: Project, without_gpus: Cluster, tmp_path: Path
) -> None:
    project, cluster = untouched, without_gpus
    project.scale(lambda settings: settings["experiments"]["gridroboman"]["settings"].update(updates=4000))
    submit(project, cluster, "datasets")
    last = max(int(job["JobID"]) for job in jobs_of(cluster))
    target = f"results/tiny/runs/{DQN}/run.json"
    log = tmp_path / "killed.txt"
    process = project.start(
        *("snakemake", "--workflow-profile", "profiles/slurm", target),
        output=log,
        **{name: cluster.environment[name] for name in ("PATH", "SLURM_CONF")},
    )
    begun = project.folder / "scratch/tiny/runs" / DQN / "training.csv"
    wait_until(lambda: begun.exists() or process.poll() is not None, log.read_text)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    (running,) = cluster.run("squeue", "--noheader", "--format=%i %T %k").splitlines()  # before accounting knows of it
    number, state, rule = running.split()
    assert (state, rule.partition("_wildcards")[0]) == ("RUNNING", "rule_train_run")

    output = submit(project, cluster, target)
    assert f"cancelling the jobs that it left in Slurm ({number})" in output
    assert [job["State"].split()[0] for job in jobs_of(cluster, last)] == ["CANCELLED", "COMPLETED"]
    assert json.loads(project.product("runs", DQN, "run.json").read_text())["resumed"] == 1


def test_a_scale_that_wants_a_gpu_runs_without_one(untouched: Project, without_gpus: Cluster, tmp_path: Path) -> None:
    project, cluster = untouched, without_gpus
    last = max((int(job["JobID"]) for job in jobs_of(cluster)), default=0)
    project.scale(lambda settings: settings.update(resources={"gpu": True}))
    submit(project, cluster, "probes", PYTHONPATH=cuda_build_of_torch(tmp_path / "cuda"))
    assert set().union(*gpus_by_rule(jobs_of(cluster, last)).values()) == {("main", False)}
