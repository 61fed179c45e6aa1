"""The parts on an experiment, by their tables: numbers by hand, the same code for every environment."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from rarl.reporting import figures
from rarl.reporting.sections import attention, scores
from rarl.reporting.sections.interventions import amount_of
from tests.reporting import synthetic as made
from tests.reporting.built import build, study_of, table

SMALL, LARGE = "4-levels-200-episodes", "4-levels-800-episodes"


def test_scores_of_every_environment(report):
    rows = table(report, "gridroboman-scores", "task_set", "variant")
    row = rows.loc["30-tasks", "ra-dqn-hidden"]
    assert row[["seeds", "tasks", "raw", "score"]].tolist() == pytest.approx([5, 3, 20, 0.5])
    assert row["score_low"] == pytest.approx(0.5 - made.ALONE, abs=1e-3)
    assert row[["iqm", "solved"]].tolist() == pytest.approx([0.5, 3 * 3 / 5])  # 0.5, 0.51 and 0.52 of 5 seeds
    rows = table(report, "babyai-scores", "task_set", "variant")
    assert rows.loc[SMALL, "ra-rdqn-all"][["score", "reported", "spread"]].tolist() == pytest.approx([60, 55, 5])
    assert rows.loc[LARGE, "ra-rdqn-all"][["reported", "spread"]].tolist() == [74, 3]
    assert math.isnan(rows.loc[LARGE, "no-retrieval"]["reported"])
    rows = table(report, "atari-scores", "task_set", "variant")
    row = rows.loc["breakout", "ra-r2d2"]
    assert row[["raw", "score"]].tolist() == pytest.approx([1.7 + 28.8 * 0.16, 0.16])
    assert row[["reported", "spread"]].tolist() == [869, 51]


def test_curves_in_updates_and_in_what_was_played(report):
    rows = table(report, "atari-curves", "task_set", "variant", "seed", "update")
    row = rows.loc["pong", "r2d2", 4, 1000]
    assert row[["steps", "raw", "score"]].tolist() == pytest.approx([160_000, made.at("pong", 0.06), 0.06])
    rows = table(report, "babyai-curves", "task_set", "variant", "seed", "update")
    assert rows.loc[SMALL, "rdqn", 4, 1000]["score"] == pytest.approx(16)
    assert "Level lines" not in (report / "atari.md").read_text()  # there are some where not all agents play


def test_panels_of_curves(studies):
    """One for each task set and group, those of the controls with what they change."""
    with figures.style():
        study = studies["gridroboman"]
        figure, axis = scores.learning_curves(study, study.curves(["10-tasks", "30-tasks"]))
    shown = [axes for axes in figure.axes if axes.axison]
    assert (axis, len(shown)) == ("updates", 2 + 2 + 1)
    assert [axes.get_title() for axes in shown] == [
        "10 tasks\ntask hidden", "10 tasks\ntask observed", "30 tasks\ntask hidden", "30 tasks\ntask observed",
        "30 tasks\ncontrols",
    ]  # fmt: skip
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


def test_interventions_of_every_environment(report):
    rows = table(report, "gridroboman-interventions", "intervention")
    assert rows.loc["removed"][["score", "delta"]].tolist() == pytest.approx([0.10, -0.40])
    assert rows.loc["swapped-given", "score"] == pytest.approx(0.48)
    rows = table(report, "babyai-interventions", "variant", "intervention")
    assert rows.loc["ra-rdqn-all", "others"][["score", "delta"]].tolist() == pytest.approx([58, -2])
    rows = table(report, "atari-intervention-seeds", "intervention", "seed")
    assert rows.loc["removed", 4][["raw", "score"]].tolist() == pytest.approx([made.at("pong", 0.14), 0.14])


def test_names_of_amounts():
    assert amount_of("truncated-8") == ("truncated", 8)
    assert amount_of("cut-10") == ("cut", 10)
    assert amount_of("given-best-64") == ("given-best", 64)
    for name in ("own", "cut", "cut-", "truncated-8-more", "held-out"):
        assert amount_of(name) is None


def test_attention_beside_chance(report):
    rows = table(report, "babyai-attention", "quantity", "group")
    assert rows.loc[("other_share", "compositional"), ["value", "delta_chance"]].tolist() == pytest.approx(
        [0.55, -0.30]
    )
    assert rows.loc[("other_share", "all"), "value"] == pytest.approx(0.40)
    rows = table(report, "gridroboman-attention", "quantity")
    assert rows.loc["rewarded_share", ["value", "delta_chance"]].tolist() == pytest.approx([0.6, 0.2])


def test_what_is_retrieved_as_means_over_seeds_at_the_end(tmp_path):
    names = made.write_runs(tmp_path, "gridroboman", "10-tasks", {"ra-dqn-hidden": 0.5}, made.BOARDS[:1], seeds=2)
    for seed, name in enumerate(names):
        rows = pd.DataFrame({"update": [5, 10], "states": 64, "flips_removed": [0.9, 0.2 + 0.1 * seed]})
        made.write_frame(tmp_path / f"results/laptop/runs/{name}/retrieval.csv", rows)
    build(tmp_path)
    rows = table(tmp_path / "reports/laptop", "gridroboman-retrieval", "variant")
    assert rows.loc["ra-dqn-hidden", ["states", "flips_removed"]].tolist() == pytest.approx([64, 25])


def test_a_page_tells_what_runs_warned_of_and_what_else_was_measured(tmp_path):
    warning = "k_states = 10, but a retrieval batch holds 8"
    names = made.write_runs(tmp_path, "gridroboman", "30-tasks", {"ra-dqn-hidden": 0.5}, made.BOARDS[:1],
                            warnings=[warning])  # fmt: skip
    for seed, name in enumerate(names):
        path = tmp_path / f"results/laptop/runs/{name}/evaluations.csv"
        made.write_frame(path, pd.read_csv(path).assign(first_faced=0.5 + 0.1 * seed))
        rows = pd.DataFrame({"update": [5, 10], "states": 8})
        made.write_frame(tmp_path / f"results/laptop/runs/{name}/retrieval.csv", rows)
    text = build(tmp_path)["gridroboman"]
    assert "What the runs warn of" in text
    assert text.count("but a retrieval batch holds 8") == 1
    assert "First faced" in text
    row = table(tmp_path / "reports/laptop", "gridroboman-scores", "variant").loc["ra-dqn-hidden"]
    assert row["first_faced"] == pytest.approx(0.7)


def test_the_first_page_tells_use_and_costs_of_the_main_agents(tmp_path):
    names = made.write_runs(
        tmp_path, "gridroboman", "30-tasks", {"dqn-hidden": 0.2, "ra-dqn-hidden": 0.5}, made.BOARDS[:1]
    )
    for name in names:
        rows = pd.DataFrame({"update": [5, 10], "states": 30, "effective_states": [30, 6], "flips_removed": [0.9, 0.2]})
        made.write_frame(tmp_path / f"results/laptop/runs/{name}/retrieval.csv", rows)
    cost = {"experiment": "gridroboman", "task_set": "30-tasks", "base": "dqn-hidden", "step": "10 states"}
    numbers = {"acting_ms": 1, "read_ms": None, "memory_mb": 9, "tensors_mb": 1, "gflop": 2, "rounds": 5,
               "threads": 1}  # fmt: skip
    costs = [cost | numbers | {"variant": name, "parameters": n, "learner_step_ms": ms, "device": "cpu"}
             for name, n, ms in (("dqn-hidden", 1000, 10), ("ra-dqn-hidden", 1500, 35))]  # fmt: skip
    made.write_frame(tmp_path / "results/laptop/costs.csv", pd.DataFrame(costs))
    build(tmp_path)
    row = table(tmp_path / "reports/laptop", "main-agents").iloc[0]
    measured = ["effective_states", "flips_removed", "learner_step_ms", "learner_step_ratio", "parameters_ratio"]
    assert row[measured].tolist() == pytest.approx([6, 20, 35, 3.5, 1.5])
    assert row[["agent", "read"]].tolist() == ["Gridroboman: RA-DQN, task hidden", "30 of 30"]
    text = (tmp_path / "reports/laptop/README.md").read_text()
    assert "(tables/main-agents.csv)" in text
    assert "(gridroboman.md#Q3-none)" not in text  # not answered


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


def test_scores_by_experience(report):
    means = table(report, "gridroboman-experience").groupby(["agent", "amount"])["value"].mean()
    assert means["given-best", 64] == pytest.approx(0.51)
    assert means["given", 4] == pytest.approx(0.20)


def test_scores_against_a_setting(tmp_path):
    wide, narrow = {"dqn-hidden-256": 0.2, "ra-dqn-hidden-256": 0.6}, {"dqn-hidden-32": 0.1, "ra-dqn-hidden-32": 0.5}
    made.write_runs(tmp_path, "widths", "30-tasks", wide | narrow, made.BOARDS[:2], data=made.DATA)
    build(tmp_path)
    rows = table(tmp_path / "reports/laptop", "widths-30-tasks-across", "group", "agent", "amount", "seed")
    means = rows["value"].groupby(["group", "agent", "amount"]).mean()
    assert means.loc["task hidden", "with retrieval", 32] == pytest.approx(0.5)
    assert means.loc["task hidden", "without retrieval", 256] == pytest.approx(0.2)
    assert len(means) == 4


@pytest.mark.parametrize(("second", "ever"), [([4, 7, 9], 3), ([9, 4, 2], 4)])
def test_states_ever_among_the_three_of_most_attention(tmp_path, second, ever):
    """By their weights, in steps of which it was recorded; a run without a gallery is left out."""
    (run, *_) = made.write_runs(tmp_path, "gridroboman", "30-tasks", {"ra-dqn-hidden": 0.5}, made.BOARDS[:1])
    shown = [[4, 9, 7, 2], second, []]
    steps = [{"retrieved": [{"candidate": c, "weight": 1 / (1 + i)} for i, c in enumerate(few)]} for few in shown]
    made.write_gallery(tmp_path, run, {"episodes": [{"task": made.BOARDS[0], "return": 1.0, "steps": steps}]})
    frame = pd.DataFrame({"update": [2000], "flips_redrawn": [0.1]})
    made.write_frame(tmp_path / f"results/laptop/runs/{run}/retrieval.csv", frame)
    (row,) = attention.retrieval_frame(study_of(tmp_path, "gridroboman")).to_dict("records")
    assert row["top_three"] == ever
