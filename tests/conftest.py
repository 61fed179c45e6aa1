from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import tiny_babyai
import tiny_project


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory) -> Path:
    """A tiny project with its datasets, shared by all tests: read it, do not write to it."""
    root = tmp_path_factory.mktemp("tiny")
    tiny_project.write_config(root)
    tiny_project.make_datasets(root)
    return root


@pytest.fixture(scope="session")
def tiny_babyai_root(tmp_path_factory) -> Path:
    """The same for BabyAI."""
    root = tmp_path_factory.mktemp("tiny-babyai")
    tiny_babyai.write_config(root)
    tiny_babyai.make_datasets(root)
    return root


@pytest.fixture
def own_root(tiny_root, tmp_path) -> Path:
    """A copy of the tiny project that a test may change."""
    shutil.copytree(tiny_root, tmp_path, dirs_exist_ok=True)
    return tmp_path
