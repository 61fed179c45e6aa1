"""The committed report's verdicts, derived once more from the runs' files by code that shares nothing with it."""

from __future__ import annotations

import ast

import pandas as pd

from tests import recompute_verdicts
from tests.reporting import synthetic as made
from tests.reporting.built import build

CLAIMS = made.PROJECT / "reports/laptop/tables/claims.csv"


def test_it_shares_no_code():
    tree = ast.parse((made.PROJECT / "tests/recompute_verdicts.py").read_text())
    names = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    names += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert not [name for name in names if name.partition(".")[0] in ("rarl", "tests")]


def test_the_committed_verdicts():
    assert recompute_verdicts.disagreements(made.PROJECT, "laptop") == []


def test_it_finds_a_verdict_that_is_another_one(tmp_path):
    made.write_runs(tmp_path, "gridroboman", "30-tasks", {"dqn-hidden": 0.1, "ra-dqn-hidden": 0.5}, made.BOARDS[:2])
    folder = tmp_path / "rarl/envs/atari"
    folder.mkdir(parents=True)
    (folder / "scores.csv").write_text((made.PROJECT / "rarl/envs/atari/scores.csv").read_text())
    build(tmp_path)
    assert recompute_verdicts.disagreements(tmp_path, "laptop") == []
    path = tmp_path / "reports/laptop/tables/claims.csv"
    claims = pd.read_csv(path)
    claims.loc[claims["id"] == "C3c-hidden", "outcome"] = "contradicted"
    claims.to_csv(path, index=False)
    assert recompute_verdicts.disagreements(tmp_path, "laptop") == ["C3c-hidden: contradicted, here supported"]


def test_the_committed_report_says_how_each_verdict_came_about():
    claims = pd.read_csv(CLAIMS)
    tested = claims[~claims["outcome"].isin(["not tested", "measured", "not interpretable"])]
    assert tested["p_sign"].notna().all()
    assert (tested["p_sign_holm"] >= tested["p_sign"]).all()
    assert tested["family_size"].gt(0).all()


def test_one_quantity_has_one_verdict_in_the_committed_report():
    """What a table says of a difference that is a claim too is what the claim says."""
    claims = pd.read_csv(CLAIMS)
    said = {"equivalent within the margin": "same", "inconclusive": "open", "the paper's size excluded": "open",
            "not interpretable": "void"}  # fmt: skip
    tables, found = [pd.read_csv(path) for path in CLAIMS.parent.glob("*effects.csv")], 0
    for path in CLAIMS.parent.glob("*-differences.csv"):
        names = {f"delta{end}": f"estimate{end}" for end in ("", "_low", "_high")}
        tables.append(pd.read_csv(path).rename(columns=names))
    for _, row in pd.concat(tables).dropna(subset=["estimate", "reading"]).iterrows():
        # Found by its numbers, either way round; a mean of counts alone is met by chance.
        same = claims[(claims["estimate"].abs() - abs(row["estimate"])).abs() < 1e-9]
        wide = abs(row["estimate_high"] - row["estimate_low"])
        same = same[(same["estimate_high"] - same["estimate_low"] - wide).abs() < 1e-6 * wide]
        for _, claim in same[same["kind"] == "superiority"].iterrows():
            by_sign = "helps" if row["estimate"] > 0 else "costs"
            assert row["reading"] == said.get(claim["outcome"], by_sign), claim["id"]
            found += 1
    assert found > 12
