"""How Snakemake and DVC decide what runs again, proved with the real tools, real git and real (short) training."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.workflow.workflow_project import DQN, RA_DQN, Project, jobs_in

pytestmark = pytest.mark.workflow

UPDATES = 4000  # of a run that is long enough to be killed four times
AFTER_A_RUN = {"probe_run": 1, "make_report": 1}
ALL_STAGES = ["datasets", "runs", "probes", "index-cost", "costs", "report"]  # each leaves to Snakemake what is due
AFTER_OTHER_SETTINGS = {"measure_costs": 1, **AFTER_A_RUN}  # or other code, or other data


def test_reproduce_makes_everything(recorded: Project) -> None:
    output = (recorded.store / "reproduce.txt").read_text()
    assert jobs_in(output) == {
        "make_gridroboman_planner_dataset": 10,
        "train_run": 2,
        "probe_run": 1,
        "measure_index_cost": 1,
        "measure_costs": 1,
        "make_preview": 1,
        "make_report": 1,
        "make_site": 1,
    }
    before, _, _ = output.partition("Building DAG of jobs")
    assert "Scale tiny: two short runs" in before
    assert "  datasets  10 (10 not there)" in before
    assert output.count("Scale tiny: ") == 1
    for path in ("reports/tiny/README.md", "reports/tiny/site/index.html", "scratch/tiny/preview/site/index.html"):
        assert (recorded.folder / path).stat().st_size > 1000
    record = json.loads(recorded.product("runs", DQN, "run.json").read_text())
    assert (record["status"], record["updates"]) == ("finished", 6)


def test_git_holds_the_small_products_and_dvc_the_large_ones(project: Project) -> None:
    held = project.run("git", "ls-files").split()
    assert f"results/tiny/runs/{DQN}/run.json" in held
    assert f"results/tiny/probes/{RA_DQN}/gallery.json" in held
    assert {"results/tiny/costs.csv", "results/tiny/environment-speed.csv"} <= {*held}
    assert "reports/tiny/README.md" in held
    assert not [
        path for path in held if path.startswith(("data/", "scratch/", ".snakemake/", "results/tiny/checkpoints/"))
    ]
    assert project.run("git", "status", "--porcelain") == ""
    tracked = project.run("dvc", "list", "--recursive", "--dvc-only", ".").split()
    assert f"results/tiny/checkpoints/{DQN}/checkpoint.pt" in tracked
    assert "data/tiny/gridroboman/planner/lift-red/observations.npy" in tracked


def test_nothing_is_left_to_do(project: Project) -> None:
    assert project.planned() == {}
    assert project.stages() == []
    assert "up to date" in project.run("dvc", "status")
    assert "Running" not in project.run("dvc", "repro")


@pytest.mark.slow
def test_a_clone_with_pulled_data_has_nothing_to_do(recorded: Project, tmp_path: Path) -> None:
    clone = recorded.clone(tmp_path / "clone")
    # A taste of another scale before the pull must not be in its way.
    clone.snakemake("--config", "scale=smoke", "--", "data/smoke/gridroboman/planner/lift-red/manifest.json")
    clone.run("dvc", "pull")
    assert clone.planned() == {}
    # Neither git nor DVC keeps times, so they may not matter.
    for path in clone.folder.rglob("*"):
        if path.is_file() and not {".git", ".dvc", ".snakemake"} & set(path.relative_to(clone.folder).parts):
            os.utime(path)
    output = clone.snakemake("-n", "all")
    assert "Nothing to be done" in output
    assert "missing provenance" not in output
    assert clone.stages() == []
    assert clone.planned("--config", "scale=smoke", "--", "data/smoke/gridroboman/planner/lift-red/manifest.json") == {}


@pytest.mark.slow
def test_a_clone_without_the_data_makes_them_again(recorded: Project, tmp_path: Path) -> None:
    clone = recorded.clone(tmp_path / "clone")
    made = {"make_gridroboman_planner_dataset": 10, "train_run": 2, "measure_index_cost": 1}
    everything = {**made, **AFTER_OTHER_SETTINGS}
    assert clone.planned() == everything
    for path in clone.folder.rglob("*"):  # times decide nothing
        if path.is_file() and ".git" not in path.parts:
            os.utime(path)
    assert clone.planned() == everything
    # Once measured here, the costs of an index stay, until their code changes.
    clone.snakemake("index_cost")
    assert clone.planned("index_cost") == {}
    clone.append("rarl/benchmarks/index_cost.py", "ANOTHER = 1\n")
    assert clone.planned("index_cost") == {"measure_index_cost": 1}


@pytest.mark.slow
def test_a_changed_setting_concerns_only_what_depends_on_it(project: Project) -> None:
    before = project.product("runs", DQN, "run.json").read_bytes()
    hidden = "    settings: {agent: {task: hidden, retrieval: {process: slots}}}\n"
    change = hidden, hidden.replace("process: slots", "process: slots, bottleneck: 0.01")
    project.edit("config/experiments/gridroboman.yaml", *change)
    assert project.planned() == {"train_run": 1, **AFTER_OTHER_SETTINGS}
    output = project.run("dvc", "repro")
    assert jobs_in(output) == {"train_run": 1, **AFTER_OTHER_SETTINGS}
    assert "Stage 'datasets@tiny' didn't change, skipping" in output
    assert "  runs      2 (1 current, 1 with other settings)" in output
    assert output.count("Scale tiny: ") == 1, "once, though DVC starts Snakemake for every stage"
    assert project.product("runs", DQN, "run.json").read_bytes() == before
    record = json.loads(project.product("runs", RA_DQN, "run.json").read_text())
    assert record["config"]["agent"]["retrieval"]["bottleneck"] == 0.01
    output = project.snakemake("-n", "all")
    assert "Nothing to be done" in output
    assert "Scale tiny: " not in output
    assert "up to date" in project.run("dvc", "status")

    # Back to the commit, with its data: no file of the other setting may pass for one of this.
    project.run("git", "checkout", "--quiet", "--force", "HEAD")
    project.run("dvc", "checkout", "--force")
    assert project.planned() == {}
    project.edit("config/experiments/gridroboman.yaml", *change)
    assert project.planned() == {"train_run": 1, **AFTER_OTHER_SETTINGS}


@pytest.mark.slow
def test_extended_variants_wait_for_their_target_and_then_stay(project: Project) -> None:
    project.scale(lambda settings: settings["experiments"].update(ancestors=MORE))
    assert "train_run" not in project.planned()
    assert project.planned("extended") == {"train_run": 1}
    assert "extended  1 more runs" in project.snakemake("extended")
    made = project.planned()
    assert "make_report" in made
    assert "train_run" not in made
    project.snakemake("all")
    assert project.planned() == {}
    assert "mfec-hidden" in (project.folder / "reports/tiny/tables/runs.csv").read_text()

    # As where git brings what was made on another machine: shown as it is, and made again only by other code.
    shutil.rmtree(next((project.folder / "results/tiny/checkpoints").rglob("mfec-hidden")))
    assert "train_run" not in project.snakemake("-n", "extended")
    assert jobs_in(project.snakemake("all")) == {"make_report": 1}
    assert "mfec-hidden" in (project.folder / "reports/tiny/tables/runs.csv").read_text()
    assert project.planned() == {}
    assert "  elsewhere 1 (1 current), only records are here" in project.run("rarl", "plan")
    record = next((project.folder / "results/tiny/runs").rglob("mfec-hidden/*/run.json"))
    as_it_was = record.read_text()
    record.write_text(as_it_was + " ")
    assert project.planned() == {"make_report": 1}
    record.write_text(as_it_was)
    assert project.planned() == {}

    # The report counts the runs that other code made, whose files stay as they are.
    project.append("rarl/learners/episodic.py", ANOTHER)
    assert project.planned() == {"make_report": 1}
    assert "  elsewhere 1 (1 by other code)" in project.run("python", "-m", "rarl", "plan")
    assert project.planned("extended") == {"train_run": 1}


MORE = {
    "settings": {
        "updates": 4,
        "log_every": 2,
        "learning": {"batch_states": 16},
        "episodic": {"epsilon_from_steps": 500, "epsilon_to_steps": 1000},
        "evaluation": {"every_updates": 2},
    },
    "task_sets": {10: {"variants": [], "extended": ["mfec-hidden"]}},
}


def other_seed(settings: dict) -> None:
    settings["datasets"]["gridroboman"][0]["seed"] = 1


EVERYTHING = {"make_gridroboman_planner_dataset": 10, "train_run": 2, **AFTER_OTHER_SETTINGS}
DUELING = "dueling: bool = Field(True"  # another default
A_REMARK, ANOTHER = "# a remark\n", "ANOTHER = 1\n"
# What is changed, the jobs that are due then, and the stages with which DVC begins.
CHANGES: dict[str, tuple[Callable[[Project], None], dict[str, int], list[str]]] = {
    "datasets": (lambda project: project.scale(other_seed), EVERYTHING, ALL_STAGES),
    "claims": (lambda project: project.append("config/claims.yaml", A_REMARK), {"make_report": 1}, ["report"]),
    "remark": (lambda project: project.append("rarl/runs/loop.py", A_REMARK), {}, ALL_STAGES),
    "training": (
        lambda project: project.append("rarl/runs/loop.py", ANOTHER),
        {"train_run": 2, **AFTER_OTHER_SETTINGS},
        ALL_STAGES,
    ),
    "report": (lambda project: project.append("rarl/reporting/tables.py", ANOTHER), {"make_report": 1}, ALL_STAGES),
    "rules": (lambda project: project.append("workflow/rules/train.smk", A_REMARK), {}, ["runs"]),
}
# More of the same; which file concerns which job is known by tests/test_jobs.py, too.
CHANGES_OF_CODE: dict[str, tuple[Callable[[Project], None], dict[str, int], list[str]]] = {
    "acting": (
        lambda project: project.append("rarl/benchmarks/acting.py", ANOTHER),
        {"measure_costs": 1, "make_report": 1},
        ALL_STAGES,
    ),
    "networks": (
        lambda project: project.edit("rarl/nn/decays.py", "0.8", "0.7"),
        {"train_run": 2, "measure_index_cost": 1, **AFTER_OTHER_SETTINGS},
        ALL_STAGES,
    ),
    "defaults": (
        lambda project: project.edit(
            "rarl/config/settings.py", "dueling: bool = Field(False", "dueling: bool = Field(True"
        ),
        {"train_run": 2, **AFTER_OTHER_SETTINGS},
        ALL_STAGES,
    ),
    "babyai": (
        lambda project: project.append("rarl/envs/babyai/vector.py", ANOTHER),
        {},  # this scale has no job there
        ALL_STAGES,
    ),
    "atari": (lambda project: project.append("rarl/envs/atari/vector.py", ANOTHER), {}, ALL_STAGES),
}


@pytest.mark.parametrize(
    ("change", "jobs", "stages"),
    [
        *(pytest.param(*case, id=name) for name, case in CHANGES.items()),
        *(pytest.param(*case, id=name, marks=pytest.mark.slow) for name, case in CHANGES_OF_CODE.items()),
    ],
)
def test_each_kind_of_change_reaches_what_it_concerns(
    project: Project, change: Callable[[Project], None], jobs: dict[str, int], stages: list[str]
) -> None:
    change(project)
    assert project.planned() == jobs
    # DVC names the stages that begin; what follows depends on what they change.
    assert project.stages() == stages


@pytest.mark.slow
def test_a_comment_in_the_code_trains_nothing_in_dvc_either(project: Project) -> None:
    record = project.product("runs", DQN, "run.json").read_bytes()
    project.append("rarl/agents/losses.py", "# a remark\n")
    output = project.run("dvc", "repro")
    assert jobs_in(output) == {}
    assert "Running stage 'runs@tiny'" in output
    assert "Scale tiny: " not in output, "nothing is left to be made"
    assert project.product("runs", DQN, "run.json").read_bytes() == record
    assert project.stages() == []


def test_what_is_made_again_is_told_with_the_reason_before_anything_runs(project: Project) -> None:
    project.append("rarl/runs/loop.py", ANOTHER)
    output = project.snakemake("-n", "all")
    told = [
        "Scale tiny: two short runs",
        "  datasets  10 (10 current)",
        "  runs      2 (2 by other code)",
        "  probes    1 (1 by other code)",
        "  costs     2 (1 current, 1 by other code)",
        "  report    1 (1 to follow)",
        "  page      reports/tiny/README.md; as a site by the target `site`",
        "Changed since, with the number of runs that it concerns: rarl.runs.loop (2).",
    ]
    lines = output.splitlines()
    start = lines.index(told[0])
    assert lines[start : start + len(told)] == told
    assert lines[start + len(told)].startswith("About ")
    assert output.count(told[0]) == 1
    assert start < lines.index("Building DAG of jobs...")


@pytest.mark.slow
def test_lost_files_are_made_again(project: Project) -> None:
    shutil.rmtree(project.folder / "reports/tiny/figures")
    project.product("probes", RA_DQN, "attention.csv").unlink()
    assert jobs_in(project.snakemake("all")) == AFTER_A_RUN
    assert project.product("probes", RA_DQN, "attention.csv").is_file()
    assert any((project.folder / "reports/tiny/figures").glob("*.svg"))
    project.folder.joinpath("results/tiny/costs.csv").unlink()
    assert project.planned() == {"measure_costs": 1, "make_report": 1}
    shutil.rmtree(project.folder / "results/tiny/checkpoints/gridroboman/10-tasks/ra-dqn-hidden")
    assert project.planned() == {"train_run": 1, "measure_costs": 1, **AFTER_A_RUN}


@pytest.mark.slow
def test_lost_data_are_made_again_and_nothing_that_learned_from_them(project: Project) -> None:
    folder = project.folder / "data/tiny/gridroboman/planner/lift-red"
    before = {path.name: path.read_bytes() for path in folder.glob("*.*")}
    (folder / "rewards.npy").unlink()
    assert jobs_in(project.snakemake("all")) == {"make_gridroboman_planner_dataset": 1}
    assert {path.name: path.read_bytes() for path in folder.glob("*.*")} == before
    assert project.planned() == {}
    assert project.stages() == ["provenance"]  # when it was made
    # But where the code or the settings of the dataset changed, and so perhaps its content: then all is due.
    (folder / "rewards.npy").unlink()
    project.append("rarl/envs/gridroboman/datasets.py", "ANOTHER = 1\n")
    assert project.planned() == {"make_gridroboman_planner_dataset": 10, "train_run": 2, **AFTER_OTHER_SETTINGS}
    project.run("git", "checkout", "--quiet", "--", ".")
    # A whole dataset, by the documented command.
    shutil.rmtree(folder)
    jobs = jobs_in(project.make("reproduce"))
    assert jobs == {"make_gridroboman_planner_dataset": 1}
    assert {path.name: path.read_bytes() for path in folder.glob("*.*")} == before


def until(condition: Callable[[], bool], process: subprocess.Popen, output: Path, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, output.read_text()
        assert time.monotonic() < end, output.read_text()
        time.sleep(0.05)


@pytest.mark.slow
def test_killed_and_stopped_workflows_go_on(project: Project, tmp_path: Path) -> None:
    def longer(settings: dict) -> None:
        at_scale = settings["experiments"]["gridroboman"]
        at_scale["settings"] |= {"updates": UPDATES, "log_every": 10}
        at_scale["settings"]["evaluation"]["every_updates"] = UPDATES
        at_scale["task_sets"][10] = {"variants": ["dqn-hidden"]}

    project.scale(longer)
    output, record = tmp_path / "output.txt", project.product("runs", DQN, "run.json")
    progress = project.folder / "scratch" / "tiny" / "runs" / DQN / "training.csv"

    def rows() -> int:
        return len(progress.read_text().splitlines()) if progress.is_file() else 0

    # Two are started in the same instant: one works.
    outputs = [tmp_path / name for name in ("one.txt", "two.txt")]
    both = [project.start("snakemake", "--cores", "1", "all", output=path) for path in outputs]
    while all(process.poll() is None for process in both):
        time.sleep(0.05)
    refused = 0 if both[0].poll() is not None else 1
    workflow = both[1 - refused]
    assert both[refused].returncode == 1
    told = outputs[refused].read_text()
    assert f"a workflow is running in this folder (process {workflow.pid} on host" in told
    assert "Traceback" not in told
    until(lambda: rows() > 20, workflow, outputs[1 - refused])
    assert "train_run" in project.snakemake("-n", "train")  # a dry run disturbs nobody

    # The power fails: everything is gone in an instant.
    os.killpg(workflow.pid, signal.SIGKILL)
    workflow.wait()
    until_gone(workflow.pid)
    assert not record.exists()
    assert not project.product("checkpoints", DQN, "checkpoint.pt").exists()
    assert list((project.folder / ".snakemake/locks").iterdir())

    # The workflow alone is killed, and the job that it started goes on working.
    reached = rows()
    workflow = project.start("snakemake", "--cores", "1", "all", output=output)
    until(lambda: rows() > reached + 20, workflow, output)
    workflow.kill()
    workflow.wait()
    os.killpg(workflow.pid, signal.SIGSTOP)  # so that it does not end before it is found

    # DVC starts it, and is killed too.
    repro = project.start("dvc", "repro", output=output)
    until(lambda: "stopping the jobs that it left" in output.read_text(), repro, output)
    os.killpg(workflow.pid, signal.SIGCONT)
    until_gone(workflow.pid)
    reached = rows()
    until(lambda: rows() > reached + 20, repro, output)
    assert "unlock" not in output.read_text()
    os.killpg(repro.pid, signal.SIGKILL)
    repro.wait()
    until_gone(repro.pid)

    # Ctrl-C.
    reached = rows()
    workflow = project.start("snakemake", "--cores", "1", "all", output=output)
    until(lambda: rows() > reached + 20, workflow, output)
    os.killpg(workflow.pid, signal.SIGINT)
    assert workflow.wait(60) != 0
    assert not record.exists()

    output = project.run("dvc", "repro")
    assert jobs_in(output)["train_run"] == 1
    found = json.loads(record.read_text())
    assert (found["status"], found["updates"], found["resumed"]) == ("finished", UPDATES, 4)
    assert project.planned() == {}
    assert project.stages() == []


@pytest.mark.slow
def test_code_that_changes_while_the_workflow_runs_makes_no_result(project: Project, tmp_path: Path) -> None:
    """Edited while the first run goes on, and taken back after the workflow ended: neither run passes as current."""

    def longer(settings: dict) -> None:
        at_scale = settings["experiments"]["gridroboman"]
        at_scale["settings"] |= {"updates": 600, "log_every": 10}
        at_scale["settings"]["evaluation"]["every_updates"] = 600

    project.scale(longer)
    output = tmp_path / "output.txt"
    scratch = project.folder / "scratch" / "tiny" / "runs"
    loop = project.folder / "rarl" / "runs" / "loop.py"
    before = loop.read_text()
    workflow = project.start("snakemake", "--cores", "1", "train", output=output)
    until(
        lambda: any(len(path.read_text().splitlines()) > 5 for path in scratch.rglob("training.csv")), workflow, output
    )
    project.append("rarl/runs/loop.py", "ANOTHER = 1\n")
    assert workflow.wait(300) != 0
    loop.write_text(before)
    said = output.read_text()
    assert said.count("the code of this job (train) changed while it worked: rarl.runs.loop") == 1
    assert said.count("the code of this job (train) has digest") == 1
    assert "Traceback" not in said
    assert not [run for run in (DQN, RA_DQN) if project.product("runs", run, "run.json").exists()]

    planned = project.planned("train")
    assert planned == {"train_run": 2}
    project.snakemake("train")
    records = [json.loads(project.product("runs", run, "run.json").read_text()) for run in (DQN, RA_DQN)]
    assert sorted(record["resumed"] for record in records) == [0, 1]
    assert len({record["code_digest"] for record in records}) == 1
    assert project.planned("train") == {}


def until_gone(group: int) -> None:
    """Wait until no process of a group is left."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("updates: 6\n", "update: 6\n", "unknown key 'update'; did you mean 'updates'"),
        ("updates: 6\n", "updates: -6\n", "greater than or equal to 1, got -6"),
        ("ra-dqn-hidden\n", "ra-dqn-hiden\n", "did you mean 'ra-dqn-hidden'"),
        ("episodes: 6", "episodes: [6", "not valid YAML"),
    ],
)
def test_a_fault_in_the_configuration_is_told_before_any_job(untouched: Project, old: str, new: str, told: str) -> None:
    path = untouched.folder / "config" / "tiny.yaml"
    path.write_text(path.read_text().replace(old, new, 1))
    output = untouched.snakemake("all", expect=1)
    assert told in output
    assert "config/" in output
    assert "Traceback" not in output
    assert len(output.splitlines()) < 8
    assert not (untouched.folder / "logs").exists()


def test_wrong_options_are_told(untouched: Project) -> None:
    assert "only 'scale' can be set" in untouched.snakemake("-n", "all", "--config", "updates=3", expect=1)
    assert "did you mean 'laptop'" in untouched.snakemake("-n", "all", "--config", "scale=labtop", expect=1)
    assert "change it there" in untouched.make("record", "SCALE=smoke", expect=2)


def test_snakemakes_own_report_needs_no_network(project: Project, tmp_path: Path) -> None:
    nowhere = {f"{name}_proxy": "http://127.0.0.1:9" for name in ("http", "https")}
    project.snakemake("--report", str(tmp_path / "report.html"), **nowhere)
    page = (tmp_path / "report.html").read_text()
    assert not re.findall(r"<(?:script|link)[^>]+(?:src|href)=[\"']https?:", page)
    assert "README.md" in page
    assert "gridroboman-curves" in page


@pytest.mark.slow
def test_smoke_runs_the_whole_workflow(fresh: Project, tmp_path: Path) -> None:
    clone = fresh.clone(tmp_path / "clone")
    clone.make("smoke")
    assert "Scale smoke tests" in (clone.folder / "reports/smoke/README.md").read_text()
    assert clone.run("git", "status", "--porcelain") == ""
