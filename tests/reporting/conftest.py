"""Made-up projects for the tests that only read a report."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import pytest

from rarl.reporting.report import build_report
from rarl.reporting.results import load_results
from rarl.reporting.study import load_studies
from tests.reporting import synthetic as made

FOUR = {"dqn-hidden": 0.10, "dqn-observed": 0.35, "ra-dqn-hidden": 0.50, "ra-dqn-observed": 0.57}
CONTROLS = {"oracle": 0.72, "no-retrieval": 0.11, "random-tasks": 0.10, "same-batch": 0.58}
TASKS = made.BOARDS[:3]
GIVEN = {"given-4": 0.20, "given-64": 0.50, "given-best-64": 0.51, "given-worst-64": 0.30, "given-new-64": 0.49}
AMOUNTS = {"truncated-32": 0.45, "truncated-8": 0.40, "truncated-1": 0.15, "cut-25": 0.44, "cut-10": 0.35}


def write_gridroboman(root: Path) -> list[str]:
    """Four agents on 10 and 30 tasks, controls on 30; RA-DQN is probed."""
    data = made.DATA
    names = made.write_runs(root, "gridroboman", "10-tasks", FOUR, TASKS[:2], data=data)
    names += made.write_runs(root, "gridroboman", "30-tasks", FOUR | CONTROLS, TASKS, data=data)
    probed = [name for name in names if name.startswith("gridroboman/30-tasks/ra-dqn-hidden/")]
    rows = made.same({"own": 0.50, "removed": 0.10, "shuffled": 0.49, **AMOUNTS, **GIVEN}, TASKS)
    for i, task in enumerate(TASKS):
        given = TASKS[(i + 1) % 3]
        rows |= {("swapped", task, given): 0.12, ("swapped-given", task, given): 0.48}
    made.write_interventions(root, probed, rows)
    quantities = {"rewarded_share": 0.6, "rewarded_candidates": 0.4, "kl": 1.4, "task_named": 0.9}
    made.write_attention(root, probed, [(t, q, v) for t in TASKS for q, v in quantities.items()])
    for run in probed:
        made.write_gallery(root, run, made.board_gallery())
    return names


def write_babyai(root: Path) -> list[str]:
    """Four agents with less and more data; two are probed on the latter."""
    levels = {"rdqn": 0.30, "ra-rdqn-own": 0.40, "ra-rdqn-all-open": 0.48, "ra-rdqn-all": 0.60}
    names = []
    for episodes, more in ((200, {}), (800, {"no-retrieval": 0.31})):
        task_set, changes = f"4-levels-{episodes}-episodes", {"source": "bot", "episodes": episodes}
        names += made.write_runs(root, "babyai", task_set, levels | more, made.LEVELS, changes=changes)
    probed = [name for name in names if "800" in name and "/ra-rdqn-all/" in name]
    rows = made.same({"own": 0.60, "removed": 0.30, "shuffled": 0.50, "others": 0.58}, made.LEVELS)
    made.write_interventions(root, probed, rows, "babyai")
    seen = [(level, "other_share", 0.55 if level in made.LEVELS[2:] else 0.25) for level in made.LEVELS]
    seen += [(level, "other_candidates", 0.85 if level in made.LEVELS[2:] else 0.80) for level in made.LEVELS]
    made.write_attention(root, probed, seen)
    return names


def write_atari(root: Path) -> list[str]:
    """Four agents on two games; RA-R2D2 is probed on one."""
    levels = {"r2d2": 0.10, "ra-r2d2": 0.16, "dqn": 0.05, "ra-dqn": 0.08}
    names = []
    for game in ("breakout", "pong"):
        names += made.write_runs(root, "atari", game, levels, [game], changes=made.PLAYED)
    probed = [name for name in names if "/pong/ra-r2d2/" in name]
    made.write_interventions(root, probed, made.same({"own": 0.20, "removed": 0.12}, ["pong"]), "atari")
    for run in probed:
        made.write_gallery(root, run, made.screen_gallery())
    return names


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """(project, planned runs): the three main experiments, and one planned run that is missing."""
    root = tmp_path_factory.mktemp("project")
    names = [*write_gridroboman(root), *write_babyai(root), *write_atari(root)]
    return root, [*names, "gridroboman/30-tasks/oracle/seed-5"]


@pytest.fixture(scope="session")
def studies(project):
    """name -> study of the project."""
    return load_studies(load_results("laptop", *project), ["gridroboman", "babyai", "atari"])


@pytest.fixture(scope="session")
def report(project) -> Path:
    """The folder of the project's laptop report; building it may not warn."""
    root, planned = project
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return build_report("laptop", root, planned_runs=planned, planned_datasets=made.DATASETS).parent


@pytest.fixture(scope="module")
def browser():
    """Debian's Chromium, or that of `playwright install chromium`; for a module: its loop would disturb others."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        program = shutil.which("chromium") or playwright.chromium.executable_path
        if not Path(program).is_file():
            pytest.skip("there is no chromium")
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def open_page(browser):
    """(path, width) -> the page, open. That none says an error or asks for more than files is checked at the end."""
    opened, errors, asked = [], [], []

    def open_one(path: Path, width: int = 1000):
        page = browser.new_page(viewport={"width": width, "height": 900}, reduced_motion="reduce")
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        opened.append(page)
        return page

    yield open_one
    for page in opened:
        page.close()
    assert errors == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
