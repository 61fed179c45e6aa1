"""Charts that answer, as Vega-Lite: learning curves, effects, and tasks of which one can be opened.

A `Chart` is a frame, which is the CSV beside the figure and all that is drawn, and a document for assets/charts.js: the
controls above the chart and one or two Vega-Lite views, whose parameters the controls set. Numbers are computed here;
the browser only filters. `rarl.reporting.interactive` saves a chart and puts it in the place of a static figure.

Colours are `light-dark(...)` pairs of a look's colour with enough contrast on either page; text has the page's own.
"""

from __future__ import annotations

import colorsys
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import to_hex, to_rgb

from rarl.reporting import tables
from rarl.reporting.figures import Look, in_order
from rarl.reporting.statistics import LEVEL, UNBOUNDED, Bounds, Interval, t_interval

LIGHT, DARK = "#ffffff", "#1e2129"  # pages
CONTRAST = {LIGHT: 3.0, DARK: 4.5}  # of marks, for which 3 is asked (WCAG 2.2, 1.4.11)
X = {"update": "updates", "steps": "environment steps", "seconds": "seconds of training"}
# Paths within [-1, 1], by matplotlib's names of markers.
_SHAPES = {
    "o": "M-1,0A1,1,0,1,1,1,0A1,1,0,1,1,-1,0Z", "s": "M-.9,-.9H.9V.9H-.9Z", "D": "M0,-1.2L1.2,0L0,1.2L-1.2,0Z",
    "^": "M0,-1.1L1.1,.9H-1.1Z", "v": "M0,1.1L1.1,-.9H-1.1Z", "<": "M-1.1,0L.9,-1.1V1.1Z", ">": "M1.1,0L-.9,-1.1V1.1Z",
    "P": "M-.4,-1H.4V-.4H1V.4H.4V1H-.4V.4H-1V-.4H-.4Z",
    "X": "M-1,-.5L-.5,-1L0,-.5L.5,-1L1,-.5L.5,0L1,.5L.5,1L0,.5L-.5,1L-1,.5L-.5,0Z",
    "*": "M0,-1.2L.35,-.4L1.2,-.35L.55,.2L.75,1.05L0,.6L-.75,1.05L-.55,.2L-1.2,-.35L-.35,-.4Z",
}  # fmt: skip
_SIZE = 45  # of marks, in square pixels
_SPACED = "replace({}, /[-_]/g, ' ')"


@dataclass(frozen=True)
class Chart:
    """frame: its numbers, intervals expanded. document: JSON for assets/charts.js."""

    frame: pd.DataFrame
    document: dict[str, Any]


def on_both(colour: str) -> str:
    """A colour for light and dark pages: its hue, darker or lighter where it would not be seen."""
    return f"light-dark({_seen(colour, LIGHT)}, {_seen(colour, DARK)})"


def contrast(one: str, other: str) -> float:
    """Of two colours, 1 to 21 (WCAG 2.2)."""
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    rgb = np.array(to_rgb(colour))
    return float(np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])


def _seen(colour: str, page: str) -> str:
    hue, lightness, saturation = colorsys.rgb_to_hls(*to_rgb(colour))
    towards = 0.0 if page == LIGHT else 1.0
    tried = (to_hex(colorsys.hls_to_rgb(hue, float(one), saturation)) for one in np.linspace(lightness, towards, 101))
    return next(one for one in tried if contrast(one, page) >= CONTRAST[page])


def points(frame: pd.DataFrame, keys: Sequence[str], bounds: Bounds = UNBOUNDED, level: float = LEVEL) -> pd.DataFrame:
    """A row for each of `keys`, variant and update: x values, mean, interval, number of seeds, and each seed's score.

    A mean is of all of an agent's seeds, and missing where one of them is.

    Args:
      frame: columns `keys`, variant, seed, update, score and those of `X` that there are.
    """
    xs = [name for name in X if name in frame and name != "update" and frame[name].notna().any()]
    seeds = sorted(frame["seed"].unique())
    rows = []
    for who, group in frame.groupby([*keys, "variant"], sort=False):
        scores = group.pivot(index="update", columns="seed", values="score")
        at = group.groupby("update")[xs].mean()
        for update, values in scores.iterrows():
            mean = t_interval(list(values), level, bounds) if values.notna().all() else Interval(*[np.nan] * 3, ())
            x = {"update": update, **at.loc[update]}
            of_seeds = {f"seed_{seed}": values.get(seed, np.nan) for seed in seeds}
            rows.append(dict(zip([*keys, "variant"], who, strict=True)) | x
                        | {"score": mean, "seeds": len(values)} | of_seeds)  # fmt: skip
    return tables.expanded(pd.DataFrame(rows)).dropna(axis=1, how="all")


def curves(
    frame: pd.DataFrame,
    looks: Mapping[str, Look],
    score: str,
    *,
    ends: tuple[float, float] | None = None,
    marks: Mapping[str, float] | None = None,
    x: str = "update",
) -> Chart:
    """Learning curves: a panel at a time, agents and seeds to be toggled, x to be chosen; values under the pointer.

    Args:
      frame: of `points`, by "panel".
      looks: variant -> look.
      score: what it is called.
      ends: of the y axis.
      marks: name -> score, dotted lines.
      x: the first choice of `X`.
    """
    controls = [_panels(frame), _x(frame, x), _agents(frame, looks), _seeds(frame)]
    view = _view(controls, frame, 320, [], _curves(frame, looks, score, ends, marks))
    return Chart(frame, {"controls": controls, "views": [view]})


def tasks(
    frame: pd.DataFrame,
    looks: Mapping[str, Look],
    score: str,
    *,
    order: Iterable[str] = (),
    noun: str = "task",
    ends: tuple[float, float] | None = None,
    x: str = "update",
) -> Chart:
    """Last scores of every task; the curve and the seeds of the one that is chosen, by click or by name.

    Args:
      frame: of `points`, by "panel" and "task".
      order: of tasks, from above.
      noun: what a task is called.
      looks, score, ends, x: as of `curves`.
    """
    names = in_order(order, frame["task"])
    chosen = _select("task", noun.capitalize(), {name: tables.spaced(name) for name in names})
    controls = [_panels(frame), _agents(frame, looks), chosen, _x(frame, x), _seeds(frame)]
    label = {"labelExpr": f"{_SPACED.format('datum.label')}", "labelLimit": 140, "grid": False, "ticks": False}
    y = {"field": "task", "sort": names, "title": None, "axis": label}
    of_agent = {"y": y, "yOffset": {"field": "variant", "sort": list(looks)}, "color": _colour(looks)}
    score_of = _axis("score", score, scale=_domain(ends))
    dot = {"type": "point", "filled": True, "cursor": "pointer"}
    overview = [
        {"transform": [{"aggregate": [{"op": "count"}], "groupby": ["task"]}],
         "mark": {"type": "rect", "height": {"expr": "bandwidth('y')"}, "cursor": "pointer", "fill": "currentColor",
                  "fillOpacity": {"expr": "datum.task == task ? 0.14 : 0.001"}},
         "encoding": {"y": y, "x": {"value": 0}, "x2": {"value": "width"}}},
        {"transform": _each_seed(frame), "mark": dot | {"opacity": 0.5, "size": 14},
         "encoding": of_agent | {"x": score_of | {"field": "value"}}},
        {"mark": dot | {"opacity": 1, "size": _SIZE},
         "encoding": of_agent | {"x": score_of, "shape": _shape(looks), "tooltip": _told({"field": "task"})}},
    ]  # fmt: skip
    step = max(20, 6 * int(frame.groupby("panel")["variant"].nunique().max()))
    detail = _curves(frame, looks, score, ends)
    title = {"text": {"expr": _SPACED.format("task")}, "anchor": "start"}
    views = [_view(controls, frame, {"step": step, "for": "position"}, _LAST, overview),
             _view(controls, frame, 300, [{"filter": "datum.task == task"}], detail, title=title)]  # fmt: skip
    return Chart(frame, {"controls": controls, "click": "task", "views": views})


def effects(
    frame: pd.DataFrame, verdicts: Mapping[str, Look], *, groups: Mapping[str, str] | None = None, title: str = "Group"
) -> Chart:
    """A forest plot: differences with intervals, the largest first, by panel, group and verdict.

    Args:
      frame: columns panel, label (different within a panel), estimate, low, high, seeds (as text), verdict, unit, and
        group if `groups`.
      verdicts: verdict -> look.
      groups: group -> what it is called.
      title: what a group is called.
    """
    controls = [_panels(frame)]
    if groups:
        controls.append(_select("group", title, {"": "all"} | {name: groups[name] for name in groups}))
    used = frame.groupby("verdict")["panel"].unique()
    controls.append(_checkboxes("verdicts", "Verdict", verdicts, used))
    kept = [{"filter": "indexof(verdicts, datum.verdict) >= 0"}]
    kept += [{"filter": "group == '' || datum.group == group"}] if groups else []
    y = {"field": "label", "sort": {"field": "estimate", "order": "descending"}, "axis": None}
    colour = _colour(verdicts, "verdict")
    told = [{"field": "label", "title": "change"}, *_numbers("estimate"), {"field": "seeds"}, {"field": "verdict"}]
    layers = [
        {"mark": {"type": "rule", "strokeDash": [2, 3], "color": "currentColor"}, "encoding": {"x": {"datum": 0}}},
        {"mark": {"type": "rule", "strokeWidth": 3, "opacity": 0.55},
         "encoding": {"y": y, "x": _axis("low"), "x2": {"field": "high"}, "color": colour}},
        {"mark": {"type": "point", "filled": True, "size": 1.5 * _SIZE, "opacity": 1},
         "encoding": {"y": y, "x": _axis("estimate"), "color": colour, "shape": _shape(verdicts, "verdict"),
                      "tooltip": told}},
        {"mark": {"type": "text", "align": "left", "x": 0, "dy": -12, "limit": {"expr": "width"}},
         "encoding": {"y": y, "text": {"field": "label"}}},
        {"transform": [{"aggregate": [{"op": "min", "field": "unit", "as": "unit"}]}],
         "mark": _BELOW, "encoding": {"text": {"field": "unit"}}},
    ]  # fmt: skip
    return Chart(frame, {"controls": controls, "views": [_view(controls, frame, {"step": 36}, kept, layers)]})


# --- views ------------------------------------------------------------------------------------------------------------

_BELOW = {"type": "text", "align": "right", "x": "width", "y": {"expr": "height + 34"}}  # in the place of x's title
_INK = {"labelColor": "currentColor", "titleColor": "currentColor", "gridColor": "currentColor", "gridOpacity": 0.12,
        "domainColor": "currentColor", "tickColor": "currentColor", "labelFontSize": 12, "titleFontSize": 12,
        "titleFontWeight": "normal"}  # fmt: skip
_CONFIG = {"background": None, "aria": False, "customFormatTypes": True, "view": {"stroke": None}, "axis": _INK,
           "axisX": {"tickCount": {"expr": "ceil(width / 80)"}}, "axisY": {"tickCount": 5},
           "text": {"color": "currentColor", "fontSize": 12}, "title": {"color": "currentColor"}}  # fmt: skip


def _view(
    controls: Sequence[Mapping[str, Any]],
    frame: pd.DataFrame,
    height: Any,
    transform: list[Any],
    layers: list[Any],
    **more: Any,
) -> dict[str, Any]:
    """A view of what is chosen; all views know all controls."""
    kept = [{"filter": "datum.panel == panel"}]
    estimate = "score_" if "variant" in frame else ""
    if "variant" in frame:
        agents = next(control for control in controls if control["param"] == "agents")
        labels = {option["value"]: option["label"] for option in agents["options"]}
        each = (f"(isValid(datum.{name}) ? ', ' + format(datum.{name}, '.3~r') : '')" for name in _seed_columns(frame))
        kept += [{"filter": "indexof(agents, datum.variant) >= 0"},
                 {"calculate": f"slice({' + '.join(each)}, 2)", "as": "of_seeds"},
                 {"calculate": f"{json.dumps(labels)}[datum.variant]", "as": "agent"}]  # fmt: skip
    ends = [f"format(datum.{estimate}{end}, '.3~r')" for end in ("low", "high")]
    said = f"isValid(datum.{estimate}low) ? {ends[0]} + ' to ' + {ends[1]} : 'none'"
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "data": {"name": "table", "format": {
            "type": "csv", "parse": {name: "number" for name in frame.select_dtypes("number")}}},
        "params": [{"name": control["param"], "value": control["value"]} for control in controls],
        "transform": [*kept, {"calculate": said, "as": "interval"}, *transform],
        "width": "container", "height": height,
        "layer": layers, "config": _CONFIG, **more,
    }  # fmt: skip


def _curves(
    frame: pd.DataFrame,
    looks: Mapping[str, Look],
    score: str,
    ends: tuple[float, float] | None,
    marks: Mapping[str, float] | None = None,
) -> list[Any]:
    """Bands, seeds, means, levels of agents without this x, what x is, named scores."""
    y = _axis("score", score, scale=_domain(ends))
    there = [{"calculate": "datum[x]", "as": "at"}, {"filter": "isValid(datum.at)"},
             {"calculate": f"format(datum.at, ',.4~r') + ' ' + {json.dumps(X)}[x]", "as": "place"}]  # fmt: skip
    means = [*there, {"filter": "isValid(datum.score)"}]
    of_agent = {"x": _axis("at", axis={"labelExpr": "format(datum.value, '~s')"}), "y": y, "color": _colour(looks)}
    last = [*_LAST, {"filter": "!isValid(datum[x])"}]
    low, high = ends or (frame["score"].min(), frame["score"].max())
    named = [{"at": at, "name": name} for name, at in (marks or {}).items() if low <= at <= high]
    across = {"y": {"field": "at", "type": "quantitative"}}
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
        {"transform": last, "mark": {"type": "rule", "strokeWidth": 2},
         "encoding": {"y": y, "color": _colour(looks), "tooltip": _told()}},
        {"data": {"values": [{}]}, "mark": _BELOW | {"text": {"expr": f"{json.dumps(X)}[x]"}}},
        {"data": {"values": named}, "encoding": across, "layer": [
            {"mark": {"type": "rule", "strokeDash": [2, 3], "color": "currentColor", "opacity": 0.7}},
            {"mark": {"type": "text", "align": "right", "x": "width", "dy": -6},
             "encoding": {"text": {"field": "name"}}}]},
    ]  # fmt: skip


_LAST = [{"joinaggregate": [{"op": "max", "field": "update", "as": "last"}], "groupby": ["variant", "task"]},
         {"filter": "datum.update == datum.last"}]  # fmt: skip


def _each_seed(frame: pd.DataFrame) -> list[Any]:
    return [{"fold": _seed_columns(frame), "as": ["seed", "value"]},
            {"filter": "indexof(seeds, datum.seed) >= 0 && isValid(datum.value)"}]  # fmt: skip


def _seed_columns(frame: pd.DataFrame) -> list[str]:
    return [name for name in frame if name.startswith("seed_")]


def _axis(field: str, title: str | None = None, **more: Any) -> dict[str, Any]:
    return {"field": field, "type": "quantitative", "title": title, **more}


def _domain(ends: tuple[float, float] | None) -> dict[str, Any]:
    return {"domain": list(ends)} if ends else {"zero": False}


def _numbers(name: str) -> list[Any]:
    return [{"field": name, "type": "quantitative", "format": ".3~r", "formatType": "number"},
            {"field": "interval", "title": f"{100 * LEVEL:g}% CI"}]  # fmt: skip


def _told(*more: Mapping[str, Any]) -> list[Any]:
    """What is under the pointer."""
    told = [{"field": "agent"}, *more, *_numbers("score"), {"field": "of_seeds", "title": "seeds"}]
    # Text of the nearest point is only found where it has a format.
    return [{"formatType": "toString", "format": "", "title": one["field"]} | one for one in told]


def _scale(field: str, looks: Mapping[str, Look], values: Sequence[Any]) -> dict[str, Any]:
    return {"field": field, "type": "nominal", "legend": None, "scale": {"domain": list(looks), "range": list(values)}}


def _colour(looks: Mapping[str, Look], field: str = "variant") -> dict[str, Any]:
    return _scale(field, looks, [on_both(look.colour) for look in looks.values()])


def _shape(looks: Mapping[str, Look], field: str = "variant") -> dict[str, Any]:
    return _scale(field, looks, [_SHAPES[look.marker] for look in looks.values()])


def _dash(look: Look) -> list[float]:
    """matplotlib's dashes are in widths of the line."""
    return [2.2 * length for length in look.dashes] if look.dashes else [1, 0]


# --- controls: which parameter, of which kind, with which options, and what is chosen at first ------------------------


def _select(param: str, label: str, options: Mapping[str, str], value: str | None = None) -> dict[str, Any]:
    shown = [{"value": name, "label": text} for name, text in options.items()]
    return {"param": param, "label": label, "type": "select", "value": value or shown[0]["value"], "options": shown}


def _checkboxes(param: str, label: str, looks: Mapping[str, Look], panels: pd.Series) -> dict[str, Any]:
    """panels: in which an option is shown."""
    options = [
        {"value": name, "label": look.label, "colour": on_both(look.colour), "shape": _SHAPES[look.marker],
         "dash": _dash(look) if param == "agents" else None, "panels": list(panels[name])}
        for name, look in looks.items() if name in panels
    ]  # fmt: skip
    return {"param": param, "label": label, "type": "checkbox", "value": [o["value"] for o in options],
            "options": options}  # fmt: skip


def _panels(frame: pd.DataFrame) -> dict[str, Any]:
    return _select("panel", "Show", {name: name for name in frame["panel"].unique()})


def _x(frame: pd.DataFrame, x: str) -> dict[str, Any]:
    there = {name: text for name, text in X.items() if name in frame}
    return _select("x", "Against", there, x if x in there else None)


def _agents(frame: pd.DataFrame, looks: Mapping[str, Look]) -> dict[str, Any]:
    return _checkboxes("agents", "Agent", looks, frame.groupby("variant")["panel"].unique())


def _seeds(frame: pd.DataFrame) -> dict[str, Any]:
    names = _seed_columns(frame)
    options = [{"value": name, "label": name.removeprefix("seed_")} for name in names]
    return {"param": "seeds", "label": "Seed", "type": "checkbox", "value": names, "options": options}
