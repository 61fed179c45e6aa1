"""The command line: help, exit codes, and what each command does that no other test looks at."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rarl import cli
from rarl.config.scale import Scale
from rarl.trajectories.store import TrajectoryDataset
from tests import tiny_project
from tests.command_line import fails

COMMANDS = [
    [],
    ["datasets"],
    ["datasets", "make"],
    ["datasets", "list"],
    ["datasets", "verify"],
    ["datasets", "export"],
    ["train"],
    ["search"],
    ["probe"],
    ["report"],
    ["plan"],
    ["costs"],
]
TOUCH_RED = "gridroboman/planner/touch-red"


def python(*arguments, cwd):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def at_tiny(tiny_root, monkeypatch):
    monkeypatch.chdir(tiny_root)
    return tiny_root


@pytest.fixture
def at_own(own_root, monkeypatch):
    monkeypatch.chdir(own_root)
    return own_root


# ----------------------------------------------------------------------------------------------------------------- help


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_a_help_text(capsys, command):
    with pytest.raises(SystemExit) as stopped:
        cli.main([*command, "--help"])
    assert stopped.value.code == 0
    out, error = capsys.readouterr()
    assert error == ""
    assert out.startswith(f"usage: {' '.join(['rarl', *command])}")
    lines = out.splitlines()
    # Each command is listed with a text, and each option that is not plain has one.
    for following in [c for c in COMMANDS if c and c[:-1] == command]:
        assert any(re.match(rf"\s+{following[-1]}\s+\w", line) for line in lines), following


def test_the_module_is_the_command(tmp_path):
    done = python("-m", "rarl", "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("usage: rarl ")


@pytest.mark.parametrize("arguments", [[], ["datasets"], ["trane"], ["train"], ["train", "a", "--devise", "cpu"]])
def test_wrong_usage_is_exit_code_two(capsys, arguments):
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith("usage: rarl")


def test_help_imports_nothing_heavy(tmp_path):
    code = (
        "import sys; from rarl.cli import parser; parser().format_help(); "
        "print([name for name in ('torch', 'pandas', 'matplotlib') if name in sys.modules])"
    )
    done = python("-c", code, cwd=tmp_path)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


# --------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["train", "gridroboman/10-tasks/dqm/seed-0"], ["no run", "'gridroboman/10-tasks/dqn/seed-0'"]),
        (["train", "x", "--scale", "tinny"], ["config/tinny.yaml", "no such scale", "'tiny'"]),
        (["train", "gridroboman/10-tasks/dqn/seed-0", "--device", "gpu"], ["'gpu'", "'auto', 'cpu', 'cuda'"]),
        (["train", "gridroboman/10-tasks/dqn/seed-0", "--digest", "0" * 12], ["expected 000000000000", "config/"]),
        (["probe", "gridroboman/10-tasks/ra-dqn/seed-0"], ["no checkpoint", "rarl train --scale tiny"]),
        (["probe", "gridroboman/10-tasks/ra-dqn/seed-9"], ["no run", "seed-0"]),
        (["datasets", "make", "gridroboman/planner/lift-rad"], ["no dataset", "'gridroboman/planner/lift-red'"]),
        (["datasets", "make", TOUCH_RED, "--digest", "abc"], [TOUCH_RED, "expected abc", "start the workflow again"]),
        (["datasets", "verify", "data/tiny/nothing"], ["data/tiny/nothing", "no such dataset folder"]),
        (["datasets", "verify", "config"], ["config/manifest.json", "generate the dataset again"]),
        (["datasets", "list", "--scale", "tinny"], ["tinny"]),
        (["plan", "--scale", "tinny"], ["tinny"]),
        (["search", "gridroboman", "dqn", "--seed", "3"], ["--seed 3", "100"]),
        (["search", "gridroboman", "dqm"], ["config/experiments/gridroboman.yaml", "'dqm'", "'dqn'"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_errors_are_one_line_and_exit_code_two(at_tiny, capsys, arguments, expected):
    error = fails(capsys, *arguments)
    for part in expected:
        assert part in error, error
    assert "rarl restore config" not in error
    assert not (at_tiny / "results").exists()


@pytest.mark.parametrize(
    ("kind", "command"),
    [
        ("dataset", ["datasets", "make", TOUCH_RED]),
        ("train", ["train", "gridroboman/10-tasks/dqn/seed-0"]),
        ("probe", ["probe", "gridroboman/10-tasks/ra-dqn/seed-0"]),
        ("costs", ["costs"]),
        ("index-cost", ["index-cost"]),
        ("report", ["report"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_job_that_was_planned_with_other_code_does_nothing(own_root, monkeypatch, capsys, kind, command):
    monkeypatch.chdir(own_root)
    before = sorted(own_root.rglob("*"))
    for option, part in (("--code", f"code of this job ({kind})"), ("--digest", "the configuration on disk")):
        error = fails(capsys, *command, option, "0" * 12)
        assert part in error, error
        assert "expected 000000000000" in error
        assert "start the workflow again" in error
    assert sorted(own_root.rglob("*")) == before


def test_an_error_of_the_real_command_is_one_line(tiny_root):
    done = python("-m", "rarl", "train", "gridroboman/10-tasks/dqm/seed-0", cwd=tiny_root)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("rarl: error: scale 'tiny' has no run")
    assert done.stderr.count("\n") == 1


def test_of_many_known_names_a_few_are_told(at_own, capsys):
    tiny_project.write_config(at_own, {"seeds": list(range(30))})
    error = fails(capsys, "train", "qqqq")
    assert len(error) < 800
    assert error.count("seed-") == 8
    assert f"and {len(Scale('tiny').runs) - 8} more" in error


def test_ctrl_c_is_one_line(at_tiny, monkeypatch, capsys):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("rarl.workflow.plan.describe_plan", stopped)
    with pytest.raises(SystemExit) as end:
        cli.main(["plan"])
    assert end.value.code == 130
    assert capsys.readouterr().err == "rarl: interrupted\n"


def test_who_reads_only_the_first_lines_is_no_error(at_tiny):
    script = f"{sys.executable} -m rarl datasets list | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], cwd=at_tiny, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("141\n", "")


def test_outside_of_a_project_the_missing_file_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert "config/config.yaml: no such file" in fails(capsys, "plan")


# ------------------------------------------------------------------------------------------------------------- datasets


def test_datasets_are_listed(at_tiny, capsys):
    cli.main(["datasets", "list"])
    assert capsys.readouterr().out.splitlines() == list(Scale("tiny").datasets)
    cli.main(["datasets", "list", "--scale", "tiny"])
    assert TOUCH_RED in capsys.readouterr().out


def test_a_dataset_is_made_without_torch(at_own):
    """Thirty of them are made side by side: a second and 200 MB each would be most of the work."""
    folder = at_own / "data" / "tiny" / TOUCH_RED
    before = (folder / "manifest.json").read_bytes()
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    digest = Scale("tiny", at_own).datasets[TOUCH_RED].digest
    code = (
        "import sys; from rarl.cli import main; "
        f"main(['datasets', 'make', '{TOUCH_RED}', '--digest', '{digest}']); "
        "print('torch' in sys.modules)"
    )
    done = python("-c", code, cwd=at_own)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "False"
    assert TOUCH_RED in done.stderr
    assert (folder / "manifest.json").read_bytes() == before  # the same settings, the same bytes
    dataset = TrajectoryDataset.open(folder)
    assert dataset.episodes == tiny_project.EPISODES


def test_datasets_are_verified(at_own, capsys):
    folders = [f"data/tiny/gridroboman/planner/{name}" for name in ("touch-red", "lift-red")]
    cli.main(["datasets", "verify", *folders])
    out = capsys.readouterr().out
    assert out.count("16 episodes, 800 steps, all hashes match") == 2
    path = Path(folders[1]) / "observations.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 2
    path.write_bytes(content)
    with pytest.raises(SystemExit):
        cli.main(["datasets", "verify", *folders])
    out, error = capsys.readouterr()
    assert "touch-red" in out
    assert error.startswith(f"rarl: error: {path}: damaged")


def test_a_dataset_is_exported(at_own, capsys):
    pytest.importorskip("minari")
    cli.main(["datasets", "export", f"data/tiny/{TOUCH_RED}", "rarl/touch-red-v0", "--root", str(at_own / "minari")])
    assert "rarl/touch-red-v0" in capsys.readouterr().out
    assert any((at_own / "minari").rglob("*.hdf5"))


# ----------------------------------------------------------------------------------------------------------------- plan


def test_the_plan_counts_what_is_there(at_own, capsys):
    cli.main(["plan"])
    out = capsys.readouterr().out
    assert out.startswith("Scale tiny: the smallest sizes, for tests")
    assert "datasets  30 (10 current, 20 not there)" in out
    assert "runs      7 (7 not there)" in out
    assert "probes    1 (1 not there)" in out
    assert "reports/tiny/README.md" in out
    assert re.search(r"About .+ on this machine \(\d+ CPU core", out)


# ------------------------------------------------------------------------------------------------------ train and probe


def test_a_run_is_trained_and_looked_into(at_own, capsys):
    """From the command line to the files that the report reads."""
    run = "gridroboman/10-tasks/ra-dqn/seed-0"
    digest = Scale("tiny").runs[run].digest
    cli.main(["train", run, "--device", "cpu", "--digest", digest])
    results = at_own / "results" / "tiny"
    record = json.loads((results / "runs" / run / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["config_digest"] == digest
    assert record["hardware"]["device"] == "cpu"
    assert record["parameters"]["total"] == sum(v for k, v in record["parameters"].items() if k != "total")
    rows = (results / "runs" / run / "evaluations.csv").read_text().splitlines()
    assert rows[0] == "update,task,episodes,return_mean,return_std,success_rate"
    assert len(rows) == 1 + 3 * 10
    assert (results / "checkpoints" / run / "checkpoint.pt.sha256").is_file()
    first = (results / "runs" / run / "run.json").read_text()
    cli.main(["train", run, "--device", "cpu"])
    assert (results / "runs" / run / "run.json").read_text() == first
    cli.main(["train", run, "--device", "cpu", "--force"])
    assert (results / "runs" / run / "evaluations.csv").read_text().splitlines() == rows
    cli.main(["probe", run])
    files = {file.name for file in (results / "probes" / run).iterdir()}
    assert files == {"interventions.csv", "attention.csv", "gallery.json"}
