"""Charts that answer, as Vega-Lite: learning curves, tasks of which one can be opened, effects.

A `Chart` is a frame, which is the CSV beside the figure and all that is drawn, and a document for assets/charts.js: the
controls above the chart and one or two Vega-Lite views, whose parameters the controls set. Numbers are computed here;
the browser only filters. `rarl.reporting.interactive` puts a chart in the place of a static figure.

Text has the colour of the page, light or dark; marks have one for each.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from rarl.reporting import tables
from rarl.reporting.claims import LEVEL
from rarl.reporting.figures import DARK, Look
from rarl.reporting.statistics import UNBOUNDED, Bounds, Interval, t_interval
from rarl.reporting.study import Study, Variant

# Within [-1, 1], by matplotlib's names of markers.
_SHAPES = {
    "o": "M-1,0A1,1,0,1,1,1,0A1,1,0,1,1,-1,0Z", "s": "M-.9,-.9H.9V.9H-.9Z", "D": "M0,-1.2L1.2,0L0,1.2L-1.2,0Z",
    "^": "M0,-1.1L1.1,.9H-1.1Z", "v": "M0,1.1L1.1,-.9H-1.1Z", "<": "M-1.1,0L.9,-1.1V1.1Z", ">": "M1.1,0L-.9,-1.1V1.1Z",
    "P": "M-.4,-1H.4V-.4H1V.4H.4V1H-.4V.4H-1V-.4H-.4Z",
    "X": "M-1,-.5L-.5,-1L0,-.5L.5,-1L1,-.5L.5,0L1,.5L.5,1L0,.5L-.5,1L-1,.5L-.5,0Z",
    "*": "M0,-1.2L.35,-.4L1.2,-.35L.55,.2L.75,1.05L0,.6L-.75,1.05L-.55,.2L-1.2,-.35L-.35,-.4Z",
}  # fmt: skip
_SIZE = 45  # of marks, in square pixels
_INK = {"labelColor": "currentColor", "titleColor": "currentColor", "gridColor": "currentColor", "gridOpacity": 0.12,
        "domainColor": "currentColor", "tickColor": "currentColor", "labelFontSize": 12, "titleFontSize": 12,
        "titleFontWeight": "normal"}  # fmt: skip
_CONFIG = {"background": None, "aria": False, "customFormatTypes": True, "view": {"stroke": None}, "axis": _INK,
           "axisX": {"tickCount": {"expr": "ceil(width / 80)"}}, "axisY": {"tickCount": 5},
           "text": {"color": "currentColor", "fontSize": 12}, "title": {"color": "currentColor"}}  # fmt: skip
_BELOW = {"type": "text", "align": "right", "x": "width", "y": {"expr": "height + 34"}}  # in the place of x's title
_SPACED = "replace({}, /[-_]/g, ' ')"
_LAST = [{"joinaggregate": [{"op": "max", "field": "update", "as": "last"}], "groupby": ["variant", "task"]},
         {"filter": "datum.update == datum.last"}]  # fmt: skip
_NONE = Interval(np.nan, np.nan, np.nan, ())

Panels = Mapping[str, tuple[str, Sequence[Variant]]]


class Chart(NamedTuple):
    """frame: its numbers. document: JSON for assets/charts.js."""

    frame: pd.DataFrame
    document: dict[str, Any]


def panels_of(study: Study, task_sets: Iterable[str]) -> dict[str, tuple[str, list[Variant]]]:
    """Title -> (task set, variants): a panel per task set and group."""
    return {", ".join(filter(None, (study.set_title(task_set), header))): (task_set, variants)
            for task_set, header, variants in study.panels_on(task_sets)}  # fmt: skip


def curves(study: Study) -> Chart:
    """Learning curves: a panel at a time, agents and seeds to be toggled, x to be chosen, values under the pointer."""
    panels = panels_of(study, study.used_sets)
    looks = _looks(panels)
    frame = points(_evaluations(study, panels), ["panel"], study.bounds)
    controls = [_panels(frame, "panel"), _x(study, frame), _agents(frame, looks), _seeds(frame)]
    view = _view(controls, frame, 320, [], _curves(study, frame, looks, controls[1]))
    return Chart(frame, {"controls": controls, "views": [view]})


def tasks(study: Study) -> Chart:
    """Last scores of every task of the largest task set; the curve of the one that is chosen, by click or by name."""
    panels, noun = panels_of(study, study.used_sets[-1:]), study.spec.task_noun
    looks = _looks(panels)
    frame = points(_evaluations(study, panels, "task"), ["panel", "task"], study.bounds)
    names = [name for group in study.task_order(frame["task"]).values() for name in group]
    chosen = _select("task", noun.capitalize(), {name: tables.spaced(name) for name in names})
    controls = [_panels(frame, "panel"), _agents(frame, looks), chosen, _x(study, frame), _seeds(frame)]
    label = {"labelExpr": _SPACED.format("datum.label"), "labelLimit": 140, "grid": False, "ticks": False}
    y = {"field": "task", "sort": names, "title": None, "axis": label}
    of_agent = {"y": y, "yOffset": {"field": "variant", "sort": list(looks)}, "color": _colour(looks)}
    x = _axis("score", study.score.label, scale=_domain(study))
    dot = {"type": "point", "filled": True, "cursor": "pointer"}
    rows = {"type": "rect", "height": {"expr": "bandwidth('y')"}, "cursor": "pointer", "fill": "currentColor",
            "fillOpacity": {"expr": "datum.task == task ? 0.14 : 0.001"}}  # fmt: skip
    overview = [
        {"transform": [{"aggregate": [{"op": "count"}], "groupby": ["task"]}], "mark": rows,
         "encoding": {"y": y, "x": {"value": 0}, "x2": {"value": "width"}}},
        {"transform": _each_seed(frame), "mark": dot | {"opacity": 0.5, "size": 14},
         "encoding": of_agent | {"x": x | {"field": "value"}}},
        {"mark": dot | {"opacity": 1, "size": _SIZE},
         "encoding": of_agent | {"x": x, "shape": _shape(looks), "tooltip": _told({"field": "task", "title": noun})}},
    ]  # fmt: skip
    step = max(20, 6 * int(frame.groupby("panel")["variant"].nunique().max()))
    title = {"text": {"expr": _SPACED.format("task")}, "anchor": "start"}
    detail = _curves(study, frame, looks, controls[3])
    views = [_view(controls, frame, {"step": step, "for": "position"}, _LAST, overview),
             _view(controls, frame, 300, [{"filter": "datum.task == task"}], detail) | {"title": title}]  # fmt: skip
    return Chart(frame, {"controls": controls, "click": "task", "views": views})


def effects(frame: pd.DataFrame, readings: Mapping[str, Look], kinds: Mapping[str, str]) -> Chart:
    """A forest plot: differences with intervals, the largest first, by where, kind and reading.

    Args:
      frame: a row per effect: change (once in each "where"), where, kind, reading, estimate (an interval), seeds, unit,
        margin of equivalence (shaded).
      readings: how each is drawn.
      kinds: of changes, in words.
    """
    frame = tables.expanded(frame)
    there = {name: text for name, text in kinds.items() if name in set(frame["kind"])}
    controls = [_panels(frame, "where"), _select("kind", "Changes", {"": "all", **there} if len(there) > 1 else there),
                _checkboxes("readings", "Verdict", readings, frame.groupby("reading")["where"].unique())]  # fmt: skip
    names = json.dumps({name: look.label for name, look in readings.items()})
    kept = [{"filter": "indexof(readings, datum.reading) >= 0 && (kind == '' || datum.kind == kind)"},
            {"calculate": f"{names}[datum.reading]", "as": "verdict"}]  # fmt: skip
    y = {"field": "change", "sort": {"field": "estimate", "order": "descending"}, "axis": None}
    colour = _colour(readings, "reading")
    told = [{"field": "change"}, *_numbers("estimate"), {"field": "seeds"}, {"field": "verdict"}]
    margin = [
        {"aggregate": [{"op": "max", "field": "margin", "as": "high"}]},
        {"calculate": "-datum.high", "as": "low"},
    ]
    layers = [
        {"transform": margin, "mark": {"type": "rect", "color": "currentColor", "opacity": 0.1},
         "encoding": {"x": _axis("low"), "x2": {"field": "high"}}},
        {"mark": {"type": "rule", "strokeDash": [2, 3], "color": "currentColor"}, "encoding": {"x": {"datum": 0}}},
        {"mark": {"type": "rule", "strokeWidth": 3, "opacity": 0.55},
         "encoding": {"y": y, "x": _axis("estimate_low"), "x2": {"field": "estimate_high"}, "color": colour}},
        {"mark": {"type": "point", "filled": True, "size": 1.5 * _SIZE, "opacity": 1},
         "encoding": {"y": y, "x": _axis("estimate"), "color": colour, "shape": _shape(readings, "reading"),
                      "tooltip": told}},
        {"mark": {"type": "text", "align": "left", "x": 0, "dy": -12, "limit": {"expr": "width"}},
         "encoding": {"y": y, "text": {"field": "change"}}},
        {"transform": [{"aggregate": [{"op": "min", "field": "unit", "as": "unit"}]}],
         "mark": _BELOW, "encoding": {"text": {"field": "unit"}}},
    ]  # fmt: skip
    return Chart(frame, {"controls": controls, "views": [_view(controls, frame, {"step": 36}, kept, layers)]})


# --- frames -----------------------------------------------------------------------------------------------------------


def _evaluations(study: Study, panels: Panels, *more: str) -> pd.DataFrame:
    """Rows panel, variant, seed, update, `more` of an evaluation, score, steps, seconds: means over all else."""
    parts, results = [], study.results
    for title, (task_set, variants) in panels.items():
        for variant in variants:
            found = study.rows(results.evaluations, variant, task_set)
            parts.append(found.assign(panel=title, variant=variant.name))
    frame = pd.concat(parts, ignore_index=True)
    frame["steps"] = study.steps(frame)
    for run, rows in frame.groupby("run"):
        trained = results.training[results.training["run"] == run]
        if "seconds" in trained:
            at = np.interp(rows["update"], [0, *trained["update"]], [0, *trained["seconds"]])
            frame.loc[frame["run"] == run, "seconds"] = at
    values = [name for name in ("score", "steps", "seconds") if name in frame]
    keys = ["panel", *more, "variant", "seed", "update"]
    return frame.groupby(keys, sort=False)[values].agg(lambda x: x.mean(skipna=False)).reset_index()


def points(frame: pd.DataFrame, keys: Sequence[str], bounds: Bounds = UNBOUNDED) -> pd.DataFrame:
    """A row for each of `keys`, variant and update: x values, mean, interval, number of seeds, and each seed's score.

    A mean is of all of an agent's seeds, and missing where one of them is.

    Args:
      frame: columns `keys`, variant, seed, update, score; steps and seconds, if there are any.
    """
    xs = [name for name in ("steps", "seconds") if name in frame and frame[name].notna().any()]
    rows = []
    for who, group in frame.groupby([*keys, "variant"], sort=False):
        scores, at = group.pivot(index="update", columns="seed", values="score"), group.groupby("update")[xs].mean()
        for update, values in scores.iterrows():
            mean = t_interval(list(values), bounds=bounds) if values.notna().all() else _NONE
            each = {f"seed_{seed}": value for seed, value in values.items()}
            of = dict(zip([*keys, "variant"], who, strict=True))
            rows.append({**of, "update": update, **at.loc[update], "score": mean, "seeds": len(values), **each})
    return tables.expanded(pd.DataFrame(rows))


# --- views ------------------------------------------------------------------------------------------------------------


def _view(controls: Sequence[Mapping[str, Any]], frame: pd.DataFrame, height: Any, kept: Any, layers: Any) -> Any:
    """A view of what is kept of the chosen panel; all views know all controls."""
    estimate, transform = "estimate", [{"filter": f"datum['{controls[0]['field']}'] == panel"}]
    if "variant" in frame:
        estimate, labels = "score", next(control for control in controls if control["param"] == "agents")["options"]
        names = json.dumps({option["value"]: option["label"] for option in labels})
        each = (f"(isValid(datum.{name}) ? ', ' + format(datum.{name}, '.3~r') : '')" for name in _seed_columns(frame))
        transform += [{"filter": "indexof(agents, datum.variant) >= 0"},
                      {"calculate": f"slice({' + '.join(each)}, 2)", "as": "of_seeds"},
                      {"calculate": f"{names}[datum.variant]", "as": "agent"}]  # fmt: skip
    low, high = (f"datum.{estimate}_{end}" for end in ("low", "high"))
    interval = f"isValid({low}) ? format({low}, '.3~r') + ' to ' + format({high}, '.3~r') : 'none'"
    numbers = {name: "number" for name in frame.select_dtypes("number")}
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "data": {"name": "table", "format": {"type": "csv", "parse": numbers}},
        "params": [{"name": control["param"], "value": control["value"]} for control in controls],
        "transform": [*transform, {"calculate": interval, "as": "interval"}, *kept],
        "width": "container", "height": height, "layer": layers, "config": _CONFIG,
    }  # fmt: skip


def _curves(study: Study, frame: pd.DataFrame, looks: Mapping[str, Look], against: Mapping[str, Any]) -> list[Any]:
    """Bands, seeds, means, levels of agents without this x, what x is, named scores."""
    x_name = f"{json.dumps({option['value']: option['label'] for option in against['options']})}[x]"
    there = [{"calculate": "datum[x]", "as": "at"}, {"filter": "isValid(datum.at)"},
             {"calculate": f"format(datum.at, ',.4~r') + ' ' + {x_name}", "as": "place"}]  # fmt: skip
    means = [*there, {"filter": "isValid(datum.score)"}]
    y = _axis("score", study.score.label, scale=_domain(study))
    of_agent = {"x": _axis("at", axis={"labelExpr": "format(datum.value, '~s')"}), "y": y, "color": _colour(looks)}
    low, high = study.score.ends or (frame["score"].min(), frame["score"].max())
    named = [{"at": at, "name": name} for name, at in study.score.marks.items() if low <= at <= high]
    near = {"name": "near", "select": {"type": "point", "on": "pointerover", "nearest": True, "clear": "pointerout"}}
    return [
        {"transform": means, "mark": {"type": "area", "opacity": 0.16},
         "encoding": of_agent | {"y": y | {"field": "score_low"}, "y2": {"field": "score_high"}}},
        {"transform": there + _each_seed(frame), "mark": {"type": "line", "strokeWidth": 0.8, "opacity": 0.6},
         "encoding": of_agent | {"y": y | {"field": "value"}, "detail": {"field": "seed"}}},
        {"transform": means, "mark": {"type": "line", "strokeWidth": 2.2},
         "encoding": of_agent | {"strokeDash": _scale("variant", looks, [_dash(look) for look in looks.values()])}},
        {"transform": means, "mark": {"type": "point", "filled": True, "opacity": 1}, "params": [near],
         "encoding": of_agent | {
             "shape": _shape(looks), "tooltip": _told({"field": "place", "title": "at"}),
             "size": {"condition": {"param": "near", "empty": False, "value": 3 * _SIZE}, "value": _SIZE}}},
        {"transform": [*_LAST, {"filter": "!isValid(datum[x])"}], "mark": {"type": "rule", "strokeWidth": 2},
         "encoding": {"y": y, "color": _colour(looks), "tooltip": _told()}},
        {"data": {"values": [{}]}, "mark": _BELOW | {"text": {"expr": x_name}}},
        {"data": {"values": named}, "encoding": {"y": _axis("at", study.score.label)}, "layer": [
            {"mark": {"type": "rule", "strokeDash": [2, 3], "color": "currentColor", "opacity": 0.7}},
            {"mark": {"type": "text", "align": "right", "x": "width", "dy": -6},
             "encoding": {"text": {"field": "name"}}}]},
    ]  # fmt: skip


def _each_seed(frame: pd.DataFrame) -> list[Any]:
    return [{"fold": _seed_columns(frame), "as": ["seed", "value"]},
            {"filter": "indexof(seeds, datum.seed) >= 0 && isValid(datum.value)"}]  # fmt: skip


def _seed_columns(frame: pd.DataFrame) -> list[str]:
    return sorted((name for name in frame if name.startswith("seed_")), key=lambda name: int(name[5:]))


def _axis(field: str, title: str | None = None, **more: Any) -> dict[str, Any]:
    return {"field": field, "type": "quantitative", "title": title, **more}


def _domain(study: Study) -> dict[str, Any]:
    return {"domain": list(study.score.ends)} if study.score.ends else {"zero": False}


def _numbers(name: str) -> list[Any]:
    return [{"field": name, "type": "quantitative", "format": ".3~r", "formatType": "number"},
            {"field": "interval", "title": f"{100 * LEVEL:g}% CI"}]  # fmt: skip


def _told(*more: Mapping[str, Any]) -> list[Any]:
    """What is under the pointer. The text of the nearest point is only found where it has a format."""
    told = [{"field": "agent"}, *more, *_numbers("score"), {"field": "of_seeds", "title": "seeds"}]
    return [{"formatType": "toString", "format": "", "title": one["field"]} | one for one in told]


def _scale(field: str, looks: Mapping[str, Look], values: Sequence[Any]) -> dict[str, Any]:
    return {"field": field, "type": "nominal", "legend": None, "scale": {"domain": list(looks), "range": list(values)}}


def _colour(looks: Mapping[str, Look], field: str = "variant") -> dict[str, Any]:
    return _scale(field, looks, [_on_both(look) for look in looks.values()])


def _shape(looks: Mapping[str, Look], field: str = "variant") -> dict[str, Any]:
    return _scale(field, looks, [_SHAPES[look.marker] for look in looks.values()])


def _on_both(look: Look) -> str:
    return f"light-dark({look.colour}, {DARK[look.colour]})"


def _dash(look: Look) -> list[float]:
    """matplotlib's dashes are in widths of the line."""
    return [2.2 * float(length) for length in look.dashes] if look.dashes else [1, 0]


def _looks(panels: Panels) -> dict[str, Look]:
    return {variant.name: variant.look for _, variants in panels.values() for variant in variants}


# --- controls: which parameter, of which kind, with which options, and what is chosen at first ------------------------


def _select(param: str, label: str, options: Mapping[str, str], value: str | None = None) -> dict[str, Any]:
    shown = [{"value": name, "label": text} for name, text in options.items()]
    return {"param": param, "label": label, "type": "select", "value": value or next(iter(options)), "options": shown}


def _checkboxes(param: str, label: str, looks: Mapping[str, Look], panels: pd.Series) -> dict[str, Any]:
    """panels: in which an option is shown."""
    options = [
        {"value": name, "label": look.label, "colour": _on_both(look), "shape": _SHAPES[look.marker],
         "dash": _dash(look) if param == "agents" else None, "panels": list(panels[name])}
        for name, look in looks.items() if name in panels
    ]  # fmt: skip
    return {"param": param, "label": label, "type": "checkbox", "value": [o["value"] for o in options],
            "options": options}  # fmt: skip


def _panels(frame: pd.DataFrame, field: str) -> dict[str, Any]:
    return _select("panel", "Show", {name: name for name in frame[field].unique()}) | {"field": field}


def _x(study: Study, frame: pd.DataFrame) -> dict[str, Any]:
    names = {"update": "updates", "steps": study.step_unit, "seconds": "seconds of training"}
    first = study.x_axis(frame)[0] if "steps" in frame else "update"
    return _select("x", "x axis", {name: text for name, text in names.items() if name in frame}, first)


def _agents(frame: pd.DataFrame, looks: Mapping[str, Look]) -> dict[str, Any]:
    return _checkboxes("agents", "Agent", looks, frame.groupby("variant")["panel"].unique())


def _seeds(frame: pd.DataFrame) -> dict[str, Any]:
    options = [{"value": name, "label": name.removeprefix("seed_")} for name in _seed_columns(frame)]
    return {"param": "seeds", "label": "Seed", "type": "checkbox", "value": _seed_columns(frame), "options": options}
