"""One project that has been run and recorded; every test gets its own copy."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.workflow.workflow_project import TINY, Project, copy_sources


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of these tests share."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "workflow"
    folder.mkdir(exist_ok=True)
    return folder


def once(folder: Path, make: Callable[[], None]) -> None:
    """Have a folder made by the first process that needs it; the others wait."""
    done = folder.with_suffix(".done")
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            make()
            done.touch()


@pytest.fixture(scope="session")
def fresh(shared: Path) -> Project:
    """A committed project in which nothing has run: clone it, do not run anything in it."""
    project = Project(shared / "fresh", shared / "store")

    def make() -> None:
        project.store.mkdir(exist_ok=True)
        copy_sources(project.folder)
        (project.folder / "config" / "tiny.yaml").write_text(yaml.safe_dump(TINY, sort_keys=False))
        (project.folder / "config" / "config.yaml").write_text("scale: tiny\n")
        project.run("git", "init", "--quiet")
        project.commit("sources")

    once(project.folder, make)
    return project


@pytest.fixture(scope="session")
def recorded(fresh: Project) -> Project:
    """The project after `make reproduce`, `make record`, `git commit` and `dvc push`: only to be read and cloned."""
    project = Project(fresh.folder.with_name("recorded"), fresh.store)

    def make() -> None:
        fresh.clone(project.folder)
        (fresh.store / "reproduce.txt").write_text(project.make("reproduce"))
        project.make("record")
        project.commit("results")
        project.run("dvc", "push", "--quiet")

    once(project.folder, make)
    return project


@pytest.fixture
def project(recorded: Project, tmp_path: Path) -> Project:
    """A copy of the recorded project, times included."""
    shutil.copytree(recorded.folder, tmp_path / "project", symlinks=True)
    return Project(tmp_path / "project", recorded.store)


@pytest.fixture
def untouched(fresh: Project, tmp_path: Path) -> Project:
    """A clone in which nothing has run."""
    return fresh.clone(tmp_path / "untouched")
