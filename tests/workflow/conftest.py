"""One project that has been run and recorded; every test gets its own copy."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from tests.workflow.workflow_project import TINY, Project, copy_sources


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A committed project in which nothing has run."""
    folder = tmp_path_factory.mktemp("workflow")
    project = Project(folder / "fresh", folder / "store")
    project.store.mkdir()
    copy_sources(project.folder)
    (project.folder / "config" / "tiny.yaml").write_text(yaml.safe_dump(TINY, sort_keys=False))
    (project.folder / "config" / "config.yaml").write_text("scale: tiny\n")
    project.run("git", "init", "--quiet")
    project.commit("sources")
    return project


@pytest.fixture(scope="session")
def recorded(fresh: Project) -> Project:
    """The project after `make reproduce`, `make record`, `git commit` and `dvc push`."""
    project = fresh.clone(fresh.folder.with_name("recorded"))
    (fresh.store / "reproduce.txt").write_text(project.make("reproduce"))
    project.make("record")
    project.commit("results")
    project.run("dvc", "push", "--quiet")
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
