"""What a record says about its making."""

from __future__ import annotations

import subprocess
import sys

import pytest

from rarl import provenance
from rarl.provenance import git_state


@pytest.fixture
def package(tmp_path):
    root = tmp_path / "toy"
    root.mkdir()
    for name in ("__init__", "late"):
        (root / f"{name}.py").write_text("value = 1\n")
    return root


def git(folder, *arguments):
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path, package):
    git(tmp_path, "init")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "a.csv").write_text("1\n")
    (tmp_path / "dvc.lock").write_text("1\n")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-m", "x")
    return tmp_path


def test_commit_and_cleanness(repository, package):
    state = git_state(package)
    assert len(state["commit"]) == 40
    assert state["dirty"] is False
    (repository / "results" / "a.csv").write_text("2\n")
    (repository / "results" / "new.csv").write_text("2\n")
    (repository / "dvc.lock").write_text("2\n")
    assert git_state(package)["dirty"] is False, "products do not make the code dirty"
    (package / "late.py").write_text("value = 2\n")
    assert git_state(package) == {"commit": state["commit"], "dirty": True}


def test_a_new_file_of_code_is_dirty(repository, package):
    (package / "new.py").write_text("")
    assert git_state(package)["dirty"] is True


def test_a_shallow_clone_knows_its_commit(repository, package, tmp_path_factory):
    clone = tmp_path_factory.mktemp("clone") / "c"
    subprocess.run(
        ["git", "clone", "--depth", "1", f"file://{repository}", str(clone)], check=True, capture_output=True
    )
    assert git_state(clone / "toy")["commit"] == git_state(package)["commit"]


UNKNOWN = {"commit": "unknown", "dirty": "unknown"}


def test_no_repository(package):
    assert git_state(package) == UNKNOWN


def test_no_git(repository, package, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert git_state(package) == UNKNOWN


def test_a_repository_without_commit(package, tmp_path):
    git(tmp_path, "init")
    git(tmp_path, "add", "-A")
    assert git_state(package) == UNKNOWN


def test_somebody_elses_repository_says_nothing(repository):
    installed = repository / ".venv" / "toy"
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("")
    assert git_state(installed) == UNKNOWN


def test_a_record_is_whole(monkeypatch):
    record = provenance.run_record(threads=2)
    assert set(record) == {"command", "git", "versions", "hardware", "peak_memory_mb"}
    assert {"python", "rarl", "torch", "numpy"} <= set(record["versions"])
    assert record["hardware"]["threads"] == 2
    assert record["hardware"]["device"] == "cpu"
    assert record["hardware"]["gpu"] is None
    assert record["hardware"]["cores"] >= 1
    assert record["hardware"]["cpu"]
    assert 5 < record["peak_memory_mb"] < 1e6


@pytest.mark.parametrize(
    ("argv", "command"),
    [
        (["/somewhere/bin/rarl", "train", "--seed", "0"], "rarl train --seed 0"),
        ([str(provenance.PACKAGE / "__main__.py"), "train"], "python -m rarl train"),
        (["{here}/tools/x.py", "{here}/config/a b.yaml"], "python tools/x.py 'config/a b.yaml'"),
        ([""], "python"),
    ],
)
def test_the_command_can_be_pasted_and_names_no_folder_of_this_machine(monkeypatch, tmp_path, argv, command):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [part.format(here=tmp_path) for part in argv])
    assert provenance.command_line() == command
