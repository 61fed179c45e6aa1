from __future__ import annotations

import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import hypothesis
import jaxtyping
import pytest

from tests import tiny_atari, tiny_babyai, tiny_project

# No example is too slow: other jobs may take the processor meanwhile.
hypothesis.settings.register_profile(
    "any-processor", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any-processor")


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


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Signatures are checked (pyproject.toml) by tests of what computes, and not where one gives what they forbid."""
    computes = item.nodeid.split("/")[1] in ("nn", "agents", "learners", "replay")
    unchecked = not computes or any(item.get_closest_marker(name) for name in ("slow", "unchecked"))
    jaxtyping.config.update("jaxtyping_disable", unchecked)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The workflow's tests first: they are long, and none shall be left for one process when the others are done."""
    items.sort(key=lambda item: item.get_closest_marker("workflow") is None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Which tests go together to a process, with `--dist loadscope`: those of a file, which share what they prepare.

    Each of the workflow's slow ones goes by itself: they are long, and what they share is shared by all processes.
    Without those, one process makes that while the others go on.
    """
    if config.getoption("dist") != "loadscope":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            alone = nodeid.startswith("tests/workflow/") and "not slow" not in config.getoption("markexpr")
            return nodeid if alone else nodeid.partition("::")[0]

    return Scheduling(config, log)
