"""One made-up project for the tests that only read a report."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import synthetic

from rarl.reporting.report import build_report


@pytest.fixture(scope="session")
def full_report(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(project, report folder) of a laptop report with every agent, probes and one missing run; no warning is allowed."""
    root = tmp_path_factory.mktemp("project")
    names = synthetic.write_results(root, sets=(10, 30), seeds=5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        page = build_report("laptop", root, planned_runs=[*names, synthetic.run_name(30, "oracle", 5)])
    return root, page.parent
