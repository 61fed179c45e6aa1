"""Charts: what is drawn is what the frame holds."""

from __future__ import annotations

import math
import re

import numpy as np
import pandas as pd
import pytest
import vl_convert

from rarl.reporting import charts, figures
from rarl.reporting.figures import Look
from rarl.reporting.statistics import t_interval

LOOKS = {"dqn": Look("DQN", *figures._LOOKS[0]), "ra-dqn": Look("RA-DQN", *figures._LOOKS[1])}
VERDICTS = {"helps": Look("helps", "#3f90da", "^"), "costs": Look("hurts", "#bd1f01", "v")}


def runs(**more):
    """Two agents, three seeds, four evaluations; the second agent's last one lacks a seed."""
    rows = [
        {"variant": variant, "seed": seed, "update": update, "steps": 8.0 * update,
         "score": level * update + 0.01 * seed**2}
        | more
        for variant, level in (("dqn", 0.001), ("ra-dqn", 0.002)) for seed in range(3) for update in (0, 100, 200, 300)
        if (variant, seed, update) != ("ra-dqn", 2, 300)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def points_of_panels():
    return charts.points(pd.concat([runs(panel="10 tasks"), runs(panel="30 tasks").query("seed < 2")]), ["panel"])


def points_of_tasks():
    frames = [runs(panel="all", task=task) for task in ("lift-red", "touch-blue")]
    return charts.points(pd.concat(frames), ["panel", "task"])


def differences():
    return pd.DataFrame({
        "panel": ["A", "A", "A", "B"], "label": ["no slots", "more states", "no bottleneck", "no slots"],
        "group": ["part", "data", "part", "part"], "estimate": [-0.3, 0.1, 0.2, 5.0], "low": [-0.4, 0.0, 0.1, 1.0],
        "high": [-0.2, 0.2, 0.3, 9.0], "seeds": "5 v 5", "verdict": ["costs", "helps", "helps", "helps"],
        "unit": ["share"] * 3 + ["points"],
    })  # fmt: skip


KINDS = {
    "curves": lambda: charts.curves(points_of_panels(), LOOKS, "score", marks={"expert": 0.5, "far": 9.0}),
    "tasks": lambda: charts.tasks(points_of_tasks(), LOOKS, "score", order=["touch-blue"], ends=(0.0, 1.0)),
    "effects": lambda: charts.effects(differences(), VERDICTS, groups={"part": "of the agent", "data": "of the data"}),
}


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


def test_points_are_means_over_all_seeds_with_their_intervals():
    frame = points_of_panels().set_index(["panel", "variant", "update"])
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


@pytest.mark.parametrize("colour", figures.PALETTE)
def test_every_colour_is_seen_on_light_and_on_dark(colour):
    light, dark = re.fullmatch(r"light-dark\((#\w{6}), (#\w{6})\)", charts.on_both(colour)).groups()
    assert charts.contrast(light, charts.LIGHT) >= 3
    assert charts.contrast(dark, charts.DARK) >= 3


def test_contrast_is_that_of_the_standard():
    assert charts.contrast("#000000", "#ffffff") == pytest.approx(21)
    assert charts.contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def test_curves_draw_the_means_of_the_chosen_panel_and_agents():
    chart = KINDS["curves"]()
    here = chart.frame[chart.frame["panel"] == "10 tasks"].dropna(subset="score")
    texts, symbols, _ = drawn(chart)
    assert len(symbols[0]) == len(here) == 7
    x, y = np.array(symbols[0]).T
    assert np.corrcoef(y, here["score"])[0, 1] == pytest.approx(-1)
    assert np.corrcoef(x, here["update"])[0, 1] == pytest.approx(1)
    assert {"updates", "expert"} <= set(texts)
    assert "far" not in texts
    texts, symbols, _ = drawn(chart, agents=["dqn"], x="steps")
    assert len(symbols[0]) == 4
    assert "environment steps" in texts
    lines = [m for m in drawn(chart, seeds=["seed_1"])[2] if m["marktype"] == "line" and m["items"]]
    assert len(lines) == 2 * len(LOOKS)  # a seed and the mean of each


def test_an_agent_without_this_x_is_a_level():
    frame = runs(panel="all")
    frame.loc[frame["variant"] == "dqn", "steps"] = np.nan
    chart = charts.curves(charts.points(frame, ["panel"]), LOOKS, "score", x="steps")
    _, symbols, marks = drawn(chart)
    assert len(symbols[0]) == 3
    dashes = [m for m in marks if m["marktype"] == "rule" and m["items"] and m["items"][0].get("strokeWidth") == 2]
    assert [len(m["items"]) for m in dashes] == [1]


def test_tasks_draw_the_last_scores_in_order_and_the_chosen_task():
    chart = KINDS["tasks"]()
    assert [option["value"] for option in chart.document["controls"][2]["options"]] == ["touch-blue", "lift-red"]
    texts, symbols, _ = drawn(chart)
    assert texts.index("touch blue") < texts.index("lift red")
    last = chart.frame.sort_values("update").groupby(["task", "variant"]).tail(1).dropna(subset="score")
    assert len(symbols[0]) == len(last)
    texts, symbols, _ = drawn(chart, 1, task="lift-red")
    assert "lift red" in texts
    assert len(symbols[0]) == 7


def test_effects_are_sorted_and_filtered():
    chart = KINDS["effects"]()
    texts, symbols, _ = drawn(chart)
    rows = [text for text in texts if text in set(chart.frame["label"])]
    by_height = [x for x, _ in sorted(symbols[0], key=lambda place: place[1])]
    assert by_height == sorted(by_height, reverse=True)
    assert sorted(rows) == sorted(chart.frame["label"][:3])
    assert "share" in texts
    assert len(drawn(chart, verdicts=["costs"])[1][0]) == 1
    assert len(drawn(chart, group="part")[1][0]) == 2
    assert "points" in drawn(chart, panel="B")[0]


@pytest.mark.parametrize("kind", KINDS)
def test_controls_offer_what_the_frame_holds(kind):
    chart = KINDS[kind]()
    for control in chart.document["controls"]:
        values = [option["value"] for option in control["options"]]
        field = {"panel": "panel", "agents": "variant", "verdicts": "verdict", "task": "task"}.get(control["param"])
        if field:
            assert set(values) == set(chart.frame[field])
        assert {name for option in control["options"] for name in option.get("panels", [])} <= set(chart.frame["panel"])
    assert {column for view in chart.document["views"] for column in view["data"]["format"]["parse"]} <= set(
        chart.frame
    )
