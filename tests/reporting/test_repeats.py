"""Runs made again: one report's claims against another's, on the command line and in the report."""

from __future__ import annotations

import subprocess

import pandas as pd
import pytest

from rarl.cli import main
from rarl.errors import RarlError
from rarl.reporting import repeats
from tests.reporting import synthetic as made
from tests.reporting.built import build, table


def rows(*numbers: tuple[str, str, float, float, float]) -> pd.DataFrame:
    return pd.DataFrame(numbers, columns=repeats.KEPT).assign(text=[f"Is it {row[0]}?" for row in numbers])


BEFORE = rows(("same", "supported", 0.5, 0.4, 0.6), ("moved", "supported", 0.5, 0.4, 0.6),
              ("turned", "inconclusive", 0.0, -0.1, 0.1), ("gone", "supported", 1, 0.9, 1.1))  # fmt: skip
NOW = rows(("same", "supported", 0.5000001, 0.4, 0.6), ("moved", "supported", 0.55, 0.45, 0.65),
           ("turned", "contradicted", -0.25, -0.35, -0.15), ("new", "supported", 1, 0.9, 1.1))  # fmt: skip


def test_only_what_was_measured_twice_is_compared():
    found = repeats.compared(BEFORE, NOW)
    assert found["id"].tolist() == ["moved", "turned"]
    assert found["moved"].tolist() == pytest.approx([0.5, 2.5])
    says = repeats.told(found)
    assert says.startswith(
        "turned: inconclusive 0.00 [−0.10, +0.10], here contradicted −0.25 [−0.35, −0.15]: Is it turned?\n"
    )
    assert "\n2 claims and questions rest on runs that were made in both. Same verdict: 1;" in says
    assert "estimate in the other's interval: 1. The median estimate differs by 1.5 of its" in says
    assert repeats.told(repeats.compared(BEFORE, BEFORE)) == "no run that a claim or question rests on was made again"


def test_the_report_here_against_the_committed_one(tmp_path, monkeypatch, capsys):
    """As after `make reproduce` in a clone; then the other's numbers are kept, and the report tells of them."""

    def make(share: float) -> None:
        levels = {"dqn-hidden": 0.1, "ra-dqn-hidden": share}
        made.write_runs(tmp_path, "gridroboman", "30-tasks", levels, made.BOARDS[:2])
        build(tmp_path)

    make(0.5)
    for command in (
        ["init", "-q"],
        ["add", "-Af", "."],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "."],
    ):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    make(0.05)
    monkeypatch.chdir(tmp_path)
    main(["compare", "--scale", "laptop"])
    assert "C3c-hidden: supported +0.40 [+0.38, +0.42], here contradicted −0.05" in capsys.readouterr().out
    for _ in range(2):  # the second one takes the first one's place
        main(["compare", "--scale", "laptop", "--keep", "another machine"])
    kept = pd.read_csv("results/laptop/repeats.csv")
    assert kept["id"].is_unique
    assert set(kept["made"]) == {"another machine"}
    build(tmp_path)
    row = table(tmp_path / "reports/laptop", "repeats", "id").loc["C3c-hidden"]
    assert row[["outcome_before", "outcome"]].tolist() == ["supported", "contradicted"]
    assert row[["estimate_before", "estimate"]].tolist() == pytest.approx([0.4, -0.05])
    assert "another machine" in (tmp_path / "reports/laptop/appendix.md").read_text()


@pytest.mark.parametrize(
    "text", [None, "", "id,outcome\n1,2\n", "id,text,outcome,estimate,estimate_low,estimate_high\na,b,c,d,e,f\n"]
)
def test_what_is_no_table_of_claims_is_named(tmp_path, text):
    path = tmp_path / "claims.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(RarlError, match=r"claims\.csv: (there is none|is no table of claims)"):
        repeats.read(path)
    with pytest.raises(RarlError, match=r"^reports/laptop/tables/claims\.csv of the last commit: there is none"):
        repeats.committed(tmp_path, "laptop")
