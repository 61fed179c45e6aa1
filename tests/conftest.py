from __future__ import annotations

import shutil
from pathlib import Path
from types import ModuleType

import pytest

from tests import tiny_atari, tiny_babyai, tiny_project


def _made(project: ModuleType, root: Path) -> Path:
    project.write_config(root)
    project.make_datasets(root)
    return root


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory) -> Path:
    """A tiny project with its datasets, shared by all tests: read it, do not write to it."""
    return _made(tiny_project, tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny_babyai_root(tmp_path_factory) -> Path:
    """The same for BabyAI."""
    return _made(tiny_babyai, tmp_path_factory.mktemp("tiny-babyai"))


@pytest.fixture(scope="session")
def tiny_atari_root(tmp_path_factory) -> Path:
    """The same for Atari, where there are no datasets."""
    return _made(tiny_atari, tmp_path_factory.mktemp("tiny-atari"))


@pytest.fixture
def own_root(tiny_root, tmp_path) -> Path:
    """A copy of the tiny project that a test may change."""
    shutil.copytree(tiny_root, tmp_path, dirs_exist_ok=True)
    return tmp_path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The workflow's tests first: they form one long piece, at whose end no other worker would have anything to do."""
    items.sort(key=lambda item: item.get_closest_marker("workflow") is None)
