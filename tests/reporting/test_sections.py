"""The parts on an experiment, by their tables: numbers by hand, the same code for every environment."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from rarl.reporting import figures
from rarl.reporting.claims import Rules
from rarl.reporting.interventions import amount_of, amounts, swaps
from rarl.reporting.sections import scores
from rarl.reporting.sections.differences import relative
from rarl.reporting.sections.interventions import decided_text
from tests.reporting import conftest
from tests.reporting import synthetic as made
from tests.reporting.built import build, study_of, table

SMALL, LARGE = "4-levels-200-episodes", "4-levels-800-episodes"


def test_scores_of_every_environment(report):
    rows = table(report, "gridroboman-scores", "task_set", "variant")
    row = rows.loc["30-tasks", "ra-dqn-hidden"]
    assert row[["seeds", "tasks", "raw", "score"]].tolist() == pytest.approx([5, 3, 20, 0.5])
    assert row["score_low"] == pytest.approx(0.5 - made.ALONE, abs=1e-3)
    assert row[["iqm", "solved"]].tolist() == pytest.approx([0.5, 3 * 3 / 5])  # 0.5, 0.51 and 0.52 of 5 seeds
    assert row[["learns_from", "steps"]].tolist() == ["datasets (planner)", 30 * 4000 * 50]
    rows = table(report, "babyai-scores", "task_set", "variant")
    assert rows.loc[SMALL, "ra-rdqn-all"][["score", "reported", "spread"]].tolist() == pytest.approx([60, 55, 5])
    assert rows.loc[LARGE, "ra-rdqn-all"][["reported", "spread"]].tolist() == [74, 3]
    assert math.isnan(rows.loc[LARGE, "no-retrieval"]["reported"])
    rows = table(report, "atari-scores", "task_set", "variant")
    row = rows.loc["breakout", "ra-r2d2"]
    assert row[["raw", "score", "steps"]].tolist() == pytest.approx([1.7 + 28.8 * 0.16, 0.16, 320_000])
    assert row[["reported", "spread"]].tolist() == [869, 51]


def test_what_the_papers_own_table_adds_up_to(report):
    rows = table(report, "atari-reported", "aggregate")
    assert rows["games"].tolist() == [56, 56]
    assert rows["gain"].round(3).tolist() == [0.233, 0.284]


def test_curves_in_updates_and_in_what_was_played(report):
    rows = table(report, "atari-curves", "task_set", "variant", "seed", "update")
    row = rows.loc["pong", "r2d2", 4, 1000]
    assert row[["steps", "raw", "score"]].tolist() == pytest.approx([160_000, made.at("pong", 0.06), 0.06])
    rows = table(report, "babyai-curves", "task_set", "variant", "seed", "update")
    assert rows.loc[SMALL, "rdqn", 4, 1000]["score"] == pytest.approx(16)


def test_panels_of_curves(studies):
    """A row of panels for each group, those of the controls with what they change; else one row."""
    with figures.style():
        study = studies["gridroboman"]
        figure, axis = scores.learning_curves(study, study.curves(["10-tasks", "30-tasks"]))
    shown = [axes for axes in figure.axes if axes.axison]
    assert (axis, len(shown)) == ("learner updates", 2 + 2 + 1)
    assert [axes.get_title() for axes in shown] == ["10 tasks", "30 tasks", "", "", "30 tasks"]
    groups = study.groups_on("30-tasks")
    assert [v.name for v in groups["controls"]][:2] == ["ra-dqn-hidden", "oracle"]
    with figures.style():
        figure, axis = scores.learning_curves(studies["atari"], studies["atari"].curves(["breakout", "pong"]))
    assert (axis, len(figure.axes)) == ("frames", 2)


def test_only_points_that_all_seeds_have_enter_a_mean():
    frame = pd.DataFrame([("a", seed, x, x + seed) for seed in range(3) for x in range(3) if (seed, x) != (2, 2)],
                         columns=["agent", "seed", "x", "y"])  # fmt: skip
    with figures.style():
        axes = figures.new_figure(2).subplots()
        figures.curves(axes, frame, "x", "y", {"a": figures.Look("A", "red", "o")})
    bold = [line for line in axes.lines if line.get_linewidth() == 2]
    assert [line.get_xdata().tolist() for line in bold] == [[0, 1]]
    assert bold[0].get_ydata().tolist() == [1, 2]


def test_every_task_in_its_group(report):
    rows = table(report, "babyai-tasks", "task_set", "variant", "seed", "task")
    row = rows.loc[SMALL, "ra-rdqn-all", 0, "UnlockPickup"]
    assert row["group"] == "compositional"
    assert row[["success_rate", "score"]].tolist() == pytest.approx([0.58, 58])
    rows = table(report, "gridroboman-tasks", "task_set", "variant", "seed", "task")
    assert rows.loc["30-tasks", "oracle", 2, "touch-red"][["group", "expert"]].tolist() == ["touch", 40]
    assert not (report / "figures/atari-tasks.svg").exists()  # a network for each game


def test_differences_from_the_base_and_from_what_is_changed(report):
    rows = table(report, "gridroboman-differences", "task_set", "variant")
    row = rows.loc["30-tasks", "no-retrieval"]
    assert row[["delta_base", "delta"]].tolist() == pytest.approx([0.01, -0.39])
    assert row["delta_high"] == pytest.approx(-0.39 + made.HALF, abs=1e-5)
    assert row[["reference", "reading"]].tolist() == ["ra-dqn-hidden", "costs"]
    assert rows.loc["10-tasks", "ra-dqn-observed"]["reference"] == "dqn-observed"
    assert rows.loc["10-tasks", "ra-dqn-observed"]["delta"] == pytest.approx(0.22)
    rows = table(report, "atari-differences", "task_set", "variant")
    assert rows.loc["every", "ra-dqn"]["delta"] == pytest.approx(0.03)
    assert rows.loc["pong", "ra-r2d2"]["delta_base"] == pytest.approx(0.06)


def test_the_band_is_the_full_agents_interval(studies):
    with figures.style():
        figure = relative(studies["gridroboman"], "30-tasks", Rules())
    (band,) = [patch for patch in figure.axes[0].patches if patch.get_alpha() == 0.1]
    ends = np.array(band.get_extents().transformed(figure.axes[0].transData.inverted()))
    assert ends[:, 0].tolist() == pytest.approx([0.4 - made.HALF, 0.4 + made.HALF], abs=1e-4)


def test_interventions_of_every_environment(report):
    rows = table(report, "gridroboman-interventions", "intervention")
    assert rows.loc["removed"][["score", "delta"]].tolist() == pytest.approx([0.10, -0.40])
    assert rows.loc["swapped-given", "score"] == pytest.approx(0.48)
    rows = table(report, "babyai-interventions", "variant", "intervention")
    assert rows.loc["ra-rdqn-all", "others"][["score", "delta"]].tolist() == pytest.approx([58, -2])
    rows = table(report, "atari-intervention-seeds", "intervention", "seed")
    assert rows.loc["removed", 4][["raw", "score"]].tolist() == pytest.approx([made.at("pong", 0.14), 0.14])


def test_names_of_amounts():
    assert amount_of("truncated-8") == ("trajectories", 8)
    assert amount_of("cut-10") == ("steps", 10)
    for name in ("own", "cut", "cut-", "truncated-8-more", "held-out"):
        assert amount_of(name) is None


def test_amounts_end_with_what_it_was_trained_with(studies, report):
    study = studies["gridroboman"]
    found = amounts(study, study.full, "30-tasks", "trajectories")
    assert found.index.tolist() == [1, 8, 32, 64]  # the last by configuration
    assert found.mean(axis=1).tolist() == pytest.approx([0.15, 0.40, 0.45, 0.50])
    assert amounts(study, study.full, "30-tasks", "steps").index.tolist() == [10, 25, 50]
    assert amounts(study, study.base, "30-tasks", "steps").empty
    rows = table(report, "gridroboman-amounts", "of", "left")
    assert rows.loc["trajectories", 8][["score", "delta"]].tolist() == pytest.approx([0.40, -0.10])


def test_swaps_have_the_given_task_in_rows(studies, report):
    study = studies["gridroboman"]
    matrix = swaps(study, study.full, "30-tasks")
    task, given = conftest.TASKS[0].replace(" ", "-"), conftest.TASKS[1].replace(" ", "-")
    assert matrix.loc[given, task] == pytest.approx(0.12)
    assert matrix.loc[task, task] == pytest.approx(0.50)
    assert math.isnan(matrix.loc[task, given])
    assert table(report, "gridroboman-swaps", "given_task").loc[given, task] == pytest.approx(0.12)


def matrix(values) -> pd.DataFrame:
    names = ["touch-red", "lift-red", "red-on-blue"]
    return pd.DataFrame(values, index=names, columns=names, dtype=float)


def test_which_dataset_decides():
    text = decided_text(matrix([[0.5, 0.1, 0.1], [0.1, 0.2, 0.1], [0.2, 0.6, 0.4]]))
    assert text.startswith("On 2 of 3 tasks")
    assert "0.37 with the own dataset, 0.20 with" in text
    nothing = math.nan  # of one task the own is unknown, of another all others are
    text = decided_text(matrix([[0.5, 0.1, nothing], [nothing, nothing, nothing], [0.2, 0.6, 0.4]]))
    assert text.startswith("On 1 of 1 task ")
    assert decided_text(matrix(np.full((3, 3), nothing))) == ""


def test_attention_beside_chance(report):
    rows = table(report, "babyai-attention", "quantity", "group")
    assert rows.loc[("other_share", "compositional"), ["value", "over_chance"]].tolist() == pytest.approx([0.55, -0.30])
    assert rows.loc[("other_share", "all"), "value"] == pytest.approx(0.40)
    rows = table(report, "gridroboman-attention", "quantity")
    assert rows.loc["goal_state_mass", ["value", "over_chance"]].tolist() == pytest.approx([0.6, 0.2])


def test_datasets_by_their_manifests(report):
    rows = table(report, "gridroboman-datasets", "task")
    assert len(rows) == 30
    assert rows.loc["lift-red", ["source", "episodes", "expert_return"]].tolist() == ["planner", 4000, 40]


def test_any_agent_alone_and_one_seed(tmp_path):
    """Nothing to compare with, nothing probed: tables have what there is, and no interval."""
    made.write_runs(tmp_path, "gridroboman", "30-tasks", {"oracle": 0.7}, made.BOARDS[:2], seeds=1)
    build(tmp_path)
    rows = table(tmp_path / "reports/laptop", "gridroboman-scores", "variant")
    assert rows.loc["oracle", "score"] == pytest.approx(0.68)
    assert math.isnan(rows.loc["oracle", "score_low"])
    assert not (tmp_path / "reports/laptop/tables/gridroboman-interventions.csv").exists()


def test_without_experts_nothing_is_normalised(tmp_path):
    made.write_runs(tmp_path, "gridroboman", "10-tasks", {"dqn-hidden": 0.1}, made.BOARDS[:2], expert_returns={})
    study = study_of(tmp_path, "gridroboman")
    assert study.table(study.base, "10-tasks").isna().all(axis=None)
    build(tmp_path)
