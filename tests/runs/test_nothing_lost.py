"""What a finished run published is that run's, and stays until another one can really take its place."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from rarl import cli
from rarl.config.scale import Scale
from rarl.runs import checkpoints
from rarl.runs import train as runs
from rarl.runs.run_folder import CHECKPOINT, RunPaths
from tests.command_line import fails

DQN, RA_DQN, OTHER = (f"gridroboman/10-tasks/{name}/seed-0" for name in ("dqn", "ra-dqn", "random"))


@pytest.fixture(scope="module")
def trained(tiny_root, tmp_path_factory):
    """A project with three finished runs: read it only."""
    root = tmp_path_factory.mktemp("trained")
    shutil.copytree(tiny_root, root, dirs_exist_ok=True)
    scale = Scale("tiny", root)
    for run in (DQN, RA_DQN, OTHER):
        runs.train_run(scale, scale.find_run(run), device="cpu")
    return root


@pytest.fixture
def root(trained, tmp_path, monkeypatch):
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def paths(run) -> RunPaths:
    return RunPaths.of(run, "tiny")


def everything(root: Path) -> dict[str, bytes]:
    """All that is published, by its path."""
    return {str(path): path.read_bytes() for path in sorted((root / "results").rglob("*")) if path.is_file()}


def change_scale(root: Path, change) -> None:
    path = root / "config" / "tiny.yaml"
    content = yaml.safe_load(path.read_text())
    change(content)
    path.write_text(yaml.safe_dump(content, sort_keys=False))


# ------------------------------------------------------------------------------------------------------------ published


def probe_fails(root, capsys, *expected):
    before = everything(root)
    error = fails(capsys, "probe", RA_DQN)
    for part in (f"{paths(RA_DQN).checkpoint}/checkpoint.pt: ", *expected):
        assert part in error, error
    assert everything(root) == before


@pytest.mark.parametrize("other", [DQN, OTHER])
def test_a_checkpoint_of_another_run_is_refused(root, capsys, other):
    shutil.rmtree(paths(RA_DQN).checkpoint)
    shutil.copytree(paths(other).checkpoint, paths(RA_DQN).checkpoint)
    probe_fails(root, capsys, f"belongs to run {other}, not to {RA_DQN}")


def test_a_damaged_checkpoint_is_refused(root, capsys):
    path = paths(RA_DQN).checkpoint / CHECKPOINT
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    probe_fails(root, capsys, "SHA-256 is", "train the run again")
    path.write_bytes(content[:100])
    probe_fails(root, capsys, "SHA-256 is")
    for content in (b"", b"\xff"):
        path.with_name("checkpoint.pt.sha256").write_bytes(content)
        probe_fails(root, capsys, "checkpoint.pt.sha256 holds no checksum")
    path.with_name("checkpoint.pt.sha256").unlink()
    probe_fails(root, capsys, "checkpoint.pt.sha256 is missing")


def test_a_checkpoint_of_other_settings_code_or_data_is_refused(root, capsys):
    def narrower(content):
        content["experiments"]["gridroboman"]["settings"]["agent"] = {"d_s": 20}

    shutil.copy("config/tiny.yaml", "kept")
    change_scale(root, narrower)
    probe_fails(root, capsys, "was made with something else: agent.d_s: 16 then, 20 now")
    shutil.copy("kept", "config/tiny.yaml")
    record = paths(RA_DQN).record / "run.json"
    before = record.read_text()
    record.write_text(json.dumps(json.loads(before) | {"code_digest": "0" * 12}))
    probe_fails(root, capsys, "code: ", "then, 000000000000 now")
    record.write_text("[]")
    assert f"{record}: not the record of a run" in fails(capsys, "probe", RA_DQN)
    record.write_text(before)
    lift_red = "data/tiny/gridroboman/planner/lift-red"
    manifest = json.loads(Path(lift_red, "manifest.json").read_text())
    Path(lift_red, "manifest.json").write_text(json.dumps(manifest))
    probe_fails(root, capsys, f"data {lift_red}/manifest.json: ")


def test_a_checkpoint_without_a_network_is_refused(root, capsys):
    path = paths(RA_DQN).checkpoint / CHECKPOINT
    loaded = checkpoints.load(path)
    checkpoints.save(path, {"update": 0, "learner": None}, loaded.header, keep_previous=False)
    probe_fails(root, capsys, "holds no network")
    learner = loaded.state["learner"]
    del learner["network"]["head.hidden.weight" if "head.hidden.weight" in learner["network"] else next(
        name for name in learner["network"] if name.startswith("head")
    )]  # fmt: skip
    checkpoints.save(path, {"update": 12, "learner": learner}, loaded.header, keep_previous=False)
    error = fails(capsys, "probe", RA_DQN)
    assert f"the checkpoint of {RA_DQN}: does not fit this learner: head" in error


def test_the_right_checkpoint_is_looked_into(root):
    cli.main(["probe", RA_DQN])
    assert (root / "results" / "tiny" / "probes" / RA_DQN / "gallery.json").is_file()


# ----------------------------------------------------------------------------------------------------------- lost never


FORCED = ["train", RA_DQN, "--device", "cpu", "--force"]


def test_a_run_whose_datasets_do_not_fit_keeps_its_record(root, capsys):
    """The scale says that a retrieval batch has more trajectories than the datasets hold by their manifests."""
    before = everything(root)

    def fewer(content):
        content["datasets"]["gridroboman"][0]["episodes"] = 20

    change_scale(root, fewer)
    assert "episodes 16 (planned: 20)" in fails(capsys, *FORCED)
    assert everything(root) == before


@pytest.mark.parametrize("digest", [[], ["--digest", "of the run"]])
def test_a_learner_that_cannot_be_built_leaves_the_record(root, capsys, monkeypatch, digest):
    def refuse(*_):
        raise runs.RarlError("data/a: holds 3 episodes, but a retrieval batch takes n_traj = 6")

    monkeypatch.setattr(runs, "learner_of", refuse)
    if digest:  # as the workflow does after a change of the code
        path = root / "results" / "tiny" / "runs" / RA_DQN / "run.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"code_digest": "0" * 12}))
        command = ["train", RA_DQN, "--device", "cpu", "--digest", Scale("tiny").runs[RA_DQN].digest]
    else:
        command = FORCED
    before = everything(root)
    assert "takes n_traj = 6" in fails(capsys, *command)
    assert everything(root) == before


@pytest.mark.parametrize("kind", ["runs", "checkpoints"])
def test_a_place_that_cannot_be_written_is_told_before_anything_is_lost(root, capsys, kind):
    place = root / "results" / "tiny" / kind / RA_DQN
    shutil.rmtree(place)
    place.write_text("in the way")
    before = everything(root)
    error = fails(capsys, *FORCED)
    assert f"results/tiny/{kind}/{RA_DQN}: cannot be written" in error
    assert "Not a directory" in error
    assert everything(root) == before


def test_a_wrong_device_keeps_the_record(root, capsys):
    before = everything(root)
    assert "'tpu'" in fails(capsys, "train", RA_DQN, "--device", "tpu", "--force")
    assert everything(root) == before


def test_forced_training_forgets_what_was_there(root):
    scratch = paths(RA_DQN).scratch
    scratch.mkdir(parents=True)
    (scratch / "train.log").write_text("of the run before\n")
    (scratch / "other").write_text("")
    first = json.loads((paths(RA_DQN).record / "run.json").read_text())
    evaluations = (paths(RA_DQN).record / "evaluations.csv").read_bytes()
    cli.main(FORCED)
    again = json.loads((paths(RA_DQN).record / "run.json").read_text())
    assert again["started"] >= first["finished"]
    assert again["resumed"] == 0
    assert (paths(RA_DQN).record / "evaluations.csv").read_bytes() == evaluations
    assert not scratch.exists()


# -------------------------------------------------------------------------------------------------------------- outputs


@pytest.mark.parametrize(
    ("command", "place"),
    [
        (["costs", "--output", "file/costs.csv"], "file/costs.csv"),
        (["costs", "--output", "config"], "config"),
        (["index-cost"], "results/tiny/index-cost.csv"),
        (["probe", RA_DQN], f"results/tiny/probes/{RA_DQN}"),
        (["report"], "reports/tiny"),
        (["report", "--preview"], "scratch/tiny/preview"),
        (["search", "gridroboman", "dqn"], "results/search/gridroboman.jsonl"),
        (["datasets", "make", "gridroboman/planner/lift-red"], "data/tiny/gridroboman/planner/lift-red"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_output_that_cannot_be_written_is_told_before_the_work(root, capsys, monkeypatch, command, place):
    def work(*_, **__):
        raise AssertionError("the work has begun")

    for name in (
        "rarl.benchmarks.costs._measured",
        "rarl.benchmarks.index_cost.index_cost_plan",
        "rarl.probes.probe.load", "rarl.reporting.report.load_results", "rarl.runs.search.learner_of",
        "rarl.collect.make.load",
    ):  # fmt: skip
        monkeypatch.setattr(name, work)
    (root / "file").write_text("")
    if "--output" not in command:
        top, _, rest = place.partition("/")
        blocked = root / top / rest.partition("/")[0] / rest.partition("/")[2].partition("/")[0]
        if top in ("results", "data"):
            blocked = {"results/tiny/index-cost.csv": root / place}.get(place, blocked)
        if blocked.is_dir():
            shutil.rmtree(blocked)
        blocked.parent.mkdir(parents=True, exist_ok=True)
        if place.endswith((".csv", ".jsonl")):
            blocked.mkdir()
        else:
            blocked.write_text("in the way")
    error = fails(capsys, *command)
    assert f"{place}: cannot be written" in error, error


def test_trouble_with_disk_or_permissions_is_one_line(root, capsys, monkeypatch):
    def full(*_):
        raise OSError(30, "Read-only file system", "results/tiny/x")

    monkeypatch.setattr("rarl.workflow.plan.describe_plan", full)
    assert fails(capsys, "plan") == "rarl: error: results/tiny/x: Read-only file system\n"

    def bug(*_):
        raise OSError(9, "Bad file descriptor")

    monkeypatch.setattr("rarl.workflow.plan.describe_plan", bug)
    with pytest.raises(OSError, match="Bad file descriptor"):
        cli.main(["plan"])
