"""The part on measured costs: ratios, table and what is said of a file that is missing or odd."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from rarl.benchmarks import history
from rarl.benchmarks.costs import COLUMNS
from rarl.errors import RarlError
from rarl.reporting import figures, measured_costs
from rarl.reporting.claims import load_claims
from rarl.reporting.results import load_results
from rarl.reporting.rules import Judged
from rarl.reporting.sheet import Sheet
from tests.reporting import synthetic as made
from tests.reporting.built import build, table

HEAD = ",".join(column for column in COLUMNS if column not in ("gpu_busy", "kernels"))
# Parameters, step, milliseconds of step, acting, reading; MB of memory and tensors; GFLOP; rounds, threads, device.
ROWS = """\
gridroboman,30-tasks,dqn-hidden,dqn-hidden,1000,"1,320 states",10,0.02,,300,1.5,0.2,5,1,cpu
gridroboman,30-tasks,ra-dqn-hidden,dqn-hidden,1500,"1,320 states",65,0.05,1.25,330,2.5,0.9,5,1,cpu
relatives,10-tasks,dqn-hidden,dqn-hidden,1000,40 states,8,0.02,,300,1.5,0.1,5,1,cpu
relatives,10-tasks,mfec,dqn-hidden,0,1 episode of every task,4,,,450,0,0.3,5,1,cpu
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path, ROWS)
    return made.write_project(tmp_path)


def write(root: Path, rows: str, head: str = HEAD) -> None:
    path = root / "results" / "laptop" / "costs.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{head}\n{rows}")


def part(root: Path) -> Sheet:
    settings, _ = load_claims(root / "config" / "claims.yaml")
    sheet = Sheet(root / "out", load_results("laptop", root), Judged(settings))
    measured_costs.write(sheet, measured_costs.read_costs(sheet.results))
    return sheet


def test_the_columns_are_those_that_are_measured():
    of_gpus = {"gpu_busy", "kernels"}  # which the report does not show
    assert set(COLUMNS) - of_gpus == {*measured_costs.NAMES, *measured_costs.NUMBERS}


def test_ratios_to_the_base_by_hand(root):
    frame = measured_costs.read_costs(load_results("laptop", root)).set_index(["experiment", "variant"])
    ratios = ["learner_step_ratio", "gflop_ratio", "acting_ratio", "parameters_ratio", "memory_ratio"]
    assert list(frame.loc[("gridroboman", "ra-dqn-hidden"), ratios]) == pytest.approx([6.5, 4.5, 2.5, 1.5, 1.1])
    assert list(frame.loc[("gridroboman", "dqn-hidden"), ratios]) == [1, 1, 1, 1, 1]
    mfec = frame.loc[("relatives", "mfec"), ratios]
    # A step of its own is not the base's; it says not how it acts, and has no parameters.
    assert list(mfec.isna()) == [True, True, True, True, False]
    assert list(mfec.dropna()) == pytest.approx([1.5])


def test_table_and_numbers(root):
    assert part(root).results.problems == []
    frame = table(root / "out", "measured-costs")
    assert frame["learner_step_ratio"].tolist() == pytest.approx([1, 6.5, 1, float("nan")], nan_ok=True)
    assert frame["name"].tolist()[:2] == ["DQN, task hidden", "RA-DQN, task hidden"]


@pytest.mark.parametrize(
    ("rows", "head", "says"),
    [
        (None, HEAD, "costs.csv is missing or has no rows; `rarl costs --scale laptop` measures them"),
        ("", HEAD, "costs.csv is missing or has no rows; `rarl costs --scale laptop` measures them"),
        (ROWS[:-5], HEAD, "costs.csv: the last line is torn"),
        (ROWS, HEAD.replace("base,", "basis,"), "costs.csv lacks the columns base"),
        (
            ROWS.replace(",65,", ",fast,"),
            HEAD,
            "costs.csv: column learner_step_ms holds something that is not a number",
        ),
        (ROWS + ROWS, HEAD, "costs.csv names a variant twice"),
    ],
)
def test_a_missing_or_odd_file_is_a_problem_and_no_more(root, rows, head, says):
    if rows is None:
        (root / "results" / "laptop" / "costs.csv").unlink()
    else:
        write(root, rows, head)
    sheet = part(root)
    assert sheet.results.problems == [("results/laptop", says)]
    assert not (root / "out").exists()


def test_a_missing_base_costs_its_experiment_the_ratios(root):
    write(root, "".join(row for row in ROWS.splitlines(keepends=True) if not row.startswith("relatives,10-tasks,dqn")))
    sheet = part(root)
    assert sheet.results.problems == []
    assert table(root / "out", "measured-costs", "variant").loc["mfec"].filter(like="ratio").isna().all()


def test_a_history_of_costs_by_commit(root, monkeypatch):
    """Measured twice; the file is appended to, by clean commits alone, and the report draws it."""
    monkeypatch.setattr(history.provenance, "hardware", lambda **_: {"cpu": "A processor", "cores": 2, "gpu": None})
    costs = root / "results" / "laptop" / "costs.csv"
    costs.write_text(",".join(COLUMNS) + "\n" + ROWS.replace(",5,1,cpu", ",,,5,1,cpu"))
    for commit in ("a" * 40, "b" * 40):
        state = {"commit": commit, "dirty": False}
        monkeypatch.setattr(history.provenance, "git_state", lambda state=state: state)
        path = history.append(root, "reference", costs)
    frame = pd.read_csv(path)
    assert frame["commit"].str[0].tolist() == ["a"] * 4 + ["b"] * 4
    assert set(frame["machine"]) == {"A processor, 2 cores"}
    assert frame["learner_step_ms"].tolist() == [10, 65, 8, 4] * 2
    monkeypatch.setattr(history.provenance, "git_state", lambda: {"commit": "c" * 40, "dirty": True})
    with pytest.raises(RarlError, match="commit what was changed"):
        history.append(root, "reference", costs)
    made.write_runs(root, "gridroboman", "10-tasks", {"dqn-hidden": 0.1}, made.BOARDS[:1], seeds=1)
    costs.unlink()
    assert "figures/costs-history.svg" in build(root)["appendix"]
    assert "$" not in (root / "reports/laptop/figures/costs-history.svg").read_text()  # as TeX would be
    path.write_text("date\n")
    monkeypatch.setattr(history.provenance, "git_state", lambda: {"commit": "c" * 40, "dirty": False})
    write(root, ROWS)
    with pytest.raises(RarlError, match="its first line"):
        history.append(root, "reference", costs)


def test_lines_of_a_history_are_of_one_scale(root):
    """Drawn where it was measured twice; the last measurement of each scale is a table with its own ratios."""
    rows = [
        {"date": "d", "commit": commit * 40, "machine": "m", "scale": scale, "experiment": "gridroboman",
         "task_set": "30-tasks", "base": "dqn-hidden", "step": "1 state", "device": "cpu",
         "variant": variant, "parameters": parameters, "learner_step_ms": ms * times}
        for commit, scale, parameters, ms in
        (("a", "reference", None, 1.0), ("a", "mine", None, 9.0), ("b", "reference", 7, 1.0), ("b", "mine", 7, 9.0),
         ("a", "large", 8, 50.0))
        for variant, times in (("dqn-hidden", 1), ("ra-dqn-hidden", 4 if commit == "b" else 3))
    ]  # fmt: skip
    path = root / "results/costs-history.csv"
    made.write_frame(path, pd.DataFrame(rows, columns=history.COLUMNS))
    made.write_runs(root, "gridroboman", "10-tasks", {"dqn-hidden": 0.1}, made.BOARDS[:1], seeds=1)
    sheet = part(root)
    with figures.style():
        measured_costs.write_history(sheet)
    assert sheet.results.problems == []
    drawn = (root / "out/figures/costs-history.svg").read_text()
    assert drawn.count(">DQN, task hidden, reference<") == drawn.count(">DQN, task hidden, mine<") == 1
    assert ">DQN, task hidden, large<" not in drawn
    ratios = {name: table(root / "out", f"costs-{name}")["learner_step_ratio"].tolist() for name in ("mine", "large")}
    assert ratios == {"mine": [1, 4], "large": [1, 3]}
    assert measured_costs.told_of_scales(sheet.results) == "large: Gridroboman 3"


def test_a_preview_does_not_wait_for_it(root):
    made.write_runs(root, "gridroboman", "10-tasks", {"dqn-hidden": 0.1}, made.BOARDS[:1], seeds=1)
    assert "tables/measured-costs.csv" in build(root)["appendix"]
    (root / "results" / "laptop" / "costs.csv").unlink()
    assert "costs.csv" not in build(root, preview=True)["appendix"]
