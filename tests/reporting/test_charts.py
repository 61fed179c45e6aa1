"""Charts: what is drawn is what the frame holds."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import vl_convert

from rarl.reporting import charts, figures
from rarl.reporting.figures import Look
from rarl.reporting.statistics import Interval, t_interval
from tests.reporting import synthetic as made

READINGS = {"helps": Look("helps", figures.PALETTE[0], "^"), "costs": Look("hurts", figures.PALETTE[1], "v")}
HIDDEN = "30 tasks, task hidden"


def differences():
    rows = [
        ("A", "no slots", "part", -0.3, "costs", "share"), ("A", "more states", "data", 0.1, "helps", "share"),
        ("A", "no bottleneck", "part", 0.2, "helps", "share"), ("B", "no slots", "part", 5.0, "helps", "points"),
    ]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["where", "change", "kind", "estimate", "reading", "unit"])
    frame["estimate"] = [Interval(x, x - 0.1, x + 0.1, (5, 5)) for x in frame["estimate"]]
    return frame.assign(seeds="5 v 5", margin=0.05)


def kinds(studies):
    """A chart of each kind."""
    return {
        "curves": charts.curves(studies["gridroboman"]), "tasks": charts.tasks(studies["gridroboman"]),
        "effects": charts.effects(differences(), READINGS, {"part": "of the agent", "data": "of the data"}),
    }  # fmt: skip


@pytest.fixture(scope="module")
def all_kinds(studies):
    return kinds(studies)


def drawn(chart, view=0, **chosen):
    """(texts, groups of symbols with a colour as [(x, y)]) of a view, with parameters as chosen."""
    spec = chart.document["views"][view]
    values = chart.frame.to_csv(index=False)
    params = [param | {"value": chosen.get(param["name"], param["value"])} for param in spec["params"]]
    spec = spec | {"data": {"values": values, "format": spec["data"]["format"]}, "params": params, "width": 400}
    marks = list(flat(vl_convert.vegalite_to_scenegraph(spec)["scenegraph"]))
    texts = [item["text"] for mark in marks if mark["marktype"] == "text" for item in mark["items"] if "text" in item]
    symbols = [[(item["x"], item["y"]) for item in mark["items"] if item.get("opacity", 1) == 1]
               for mark in marks if mark["marktype"] == "symbol"]  # fmt: skip
    return texts, [found for found in symbols if found], marks


def flat(mark):
    if "marktype" in mark:
        yield mark
    for item in mark.get("items", ()):
        yield from flat(item)


def runs(**more):
    """Two agents, three seeds, four evaluations; the second agent's last one lacks a seed."""
    rows = [
        {"variant": variant, "seed": seed, "update": update, "steps": 8.0 * update,
         "score": level * update + 0.01 * seed**2} | more
        for variant, level in (("dqn", 0.001), ("ra-dqn", 0.002)) for seed in range(3) for update in (0, 100, 200, 300)
        if (variant, seed, update) != ("ra-dqn", 2, 300)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_points_are_means_over_all_seeds_with_their_intervals():
    frame = pd.concat([runs(panel="10 tasks"), runs(panel="30 tasks").query("seed < 2")])
    frame = charts.points(frame, ["panel"]).set_index(["panel", "variant", "update"])
    row = frame.loc["10 tasks", "dqn", 200]
    seeds = [0.2, 0.21, 0.24]
    interval = t_interval(seeds)
    assert row[["seed_0", "seed_1", "seed_2"]].tolist() == pytest.approx(seeds)
    assert row[["score", "score_low", "score_high"]].tolist() == pytest.approx(
        [interval.estimate, interval.low, interval.high]
    )
    assert (row["seeds"], row["steps"]) == (3, 1600)
    lacking = frame.loc["10 tasks", "ra-dqn", 300]
    assert lacking[["score", "score_low", "seed_2"]].isna().all()
    assert lacking["seed_1"] == pytest.approx(0.61)
    fewer = frame.loc["30 tasks", "dqn", 200]
    assert (fewer["seeds"], math.isnan(fewer["seed_2"])) == (2, True)
    assert "seconds" not in frame


def test_the_frame_has_the_studys_means_and_intervals(studies, all_kinds):
    study, frame = studies["gridroboman"], all_kinds["curves"].frame.set_index(["panel", "variant", "update"])
    row = frame.loc[HIDDEN, "ra-dqn-hidden", made.UPDATES[-1]]
    assert row["score"] == pytest.approx(0.5)
    whole = study.interval(study.seed_scores(study.variants["ra-dqn-hidden"], "30-tasks"))
    assert row[["score_low", "score_high"]].tolist() == pytest.approx([whole.low, whole.high])
    assert [row[f"seed_{k}"] for k in range(5)] == pytest.approx([0.5 + x for x in made.BY_SEED])
    groups = {"10 tasks": ("task hidden", "task observed"), "30 tasks": ("task hidden", "task observed", "controls")}
    assert {panel for panel, *_ in frame.index} == {f"{n}, {group}" for n, of_set in groups.items() for group in of_set}


def test_x_is_what_there_is(studies):
    played = charts.curves(studies["atari"])
    offered = {c["param"]: c for c in played.document["controls"]}["x"]
    assert [option["value"] for option in offered["options"]] == ["update", "steps"]
    assert offered["value"] == "steps"
    assert (played.frame["steps"] == 8 * 5 * 4 * played.frame["update"]).all()


def test_seconds_are_those_of_training(studies, monkeypatch):
    study = studies["gridroboman"]
    training = study.results.training.query("update > 0")  # what is said after updates
    results = replace(study.results, training=training.assign(seconds=0.25 * training["update"]))
    monkeypatch.setattr(study, "results", results)
    frame = charts.curves(study).frame
    assert frame["seconds"].tolist() == pytest.approx((0.25 * frame["update"]).tolist())


def test_curves_draw_the_means_of_the_chosen_panel_and_agents(all_kinds):
    chart = all_kinds["curves"]
    here = chart.frame[chart.frame["panel"] == HIDDEN]
    texts, symbols, _ = drawn(chart, panel=HIDDEN)
    assert len(symbols[0]) == len(here)
    x, y = np.array(symbols[0]).T
    assert np.corrcoef(y, here["score"])[0, 1] == pytest.approx(-1)
    assert np.corrcoef(x, here["update"])[0, 1] == pytest.approx(1)
    assert {"updates", "expert"} <= set(texts)
    _, symbols, marks = drawn(chart, panel=HIDDEN, agents=["dqn-hidden"], seeds=["seed_1"])
    assert len(symbols[0]) == len(made.UPDATES)
    lines = [m for m in marks if m["marktype"] == "line" and m["items"]]
    assert len(lines) == 2  # a seed and the mean


def test_an_agent_without_this_x_is_a_level(studies, monkeypatch):
    study = studies["atari"]
    steps = study.steps_per_update
    monkeypatch.setattr(study, "steps_per_update", lambda run: math.nan if "/r2d2/" in run else steps(run))
    _, symbols, marks = drawn(charts.curves(study), x="steps")
    shown = len(study.groups_on(study.used_sets[0])[""])
    assert len(symbols[0]) == (shown - 1) * len(made.UPDATES)
    levels = [m for m in marks if m["marktype"] == "rule" and m["items"] and m["items"][0].get("strokeWidth") == 2]
    assert [len(m["items"]) for m in levels] == [1]


def test_tasks_draw_the_last_scores_in_order_and_the_chosen_task(studies, all_kinds):
    chart, study = all_kinds["tasks"], studies["gridroboman"]
    order = [task for group in study.task_order(chart.frame["task"]).values() for task in group]
    texts, symbols, _ = drawn(chart, panel=HIDDEN)
    spaced = [task.replace("-", " ") for task in order]
    assert [text for text in texts if text in spaced] == spaced
    agents = chart.frame["variant"][chart.frame["panel"] == HIDDEN].nunique()
    assert len(symbols[0]) == agents * len(order)
    texts, symbols, _ = drawn(chart, 1, panel=HIDDEN, task=order[1])
    assert spaced[1] in texts
    assert len(symbols[0]) == agents * len(made.UPDATES)


def test_effects_are_sorted_and_filtered(all_kinds):
    chart = all_kinds["effects"]
    texts, symbols, _ = drawn(chart)
    rows = [text for text in texts if text in set(chart.frame["change"])]
    by_height = [x for x, _ in sorted(symbols[0], key=lambda place: place[1])]
    assert by_height == sorted(by_height, reverse=True)
    assert sorted(rows) == sorted(chart.frame["change"][:3])
    assert "share" in texts
    assert len(drawn(chart, readings=["costs"])[1][0]) == 1
    assert len(drawn(chart, kind="part")[1][0]) == 2
    assert "points" in drawn(chart, panel="B")[0]


@pytest.mark.parametrize("kind", ["curves", "tasks", "effects"])
def test_controls_offer_what_the_frame_holds(all_kinds, kind):
    chart = all_kinds[kind]
    fields = {"agents": "variant", "readings": "reading", "task": "task", "panel": "panel"}
    for control in chart.document["controls"]:
        field = control.get("field", fields.get(control["param"]))
        if field:
            assert {option["value"] for option in control["options"]} == set(chart.frame[field])
    assert {name for view in chart.document["views"] for name in view["data"]["format"]["parse"]} <= set(chart.frame)
