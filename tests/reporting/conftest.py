"""One made-up project for the tests that only read a report."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from rarl.reporting.report import build_report
from tests.reporting import synthetic


@pytest.fixture(scope="session")
def full_project(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """(project, planned runs): every agent with probes on 10 and 30 tasks, and one planned run that is missing."""
    root = tmp_path_factory.mktemp("project")
    names = synthetic.write_results(root, sets=(10, 30), seeds=5)
    return root, [*names, synthetic.run_name(30, "oracle", 5)]


@pytest.fixture(scope="session")
def full_report(full_project: tuple[Path, list[str]]) -> Path:
    """The folder of the project's laptop report; building it may not warn."""
    root, planned = full_project
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return build_report("laptop", root, planned_runs=planned).parent
