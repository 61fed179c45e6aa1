"""What matters: the sections' effects, sorted by how their intervals are read; no sentence says more than they do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rarl.reporting import figures, tables
from rarl.reporting.claims import Settings
from rarl.reporting.effects import READINGS, Effect
from rarl.reporting.figures import FAINT, PALETTE, Look
from rarl.reporting.sheet import Sheet

TITLE = "What matters"
_TITLES = {"gridroboman": "Gridroboman", "babyai": "BabyAI", "atari": "Atari"}
_AXES = {
    "gridroboman": "share of the\nexpert's return",
    "babyai": "success,\npercentage points",
    "atari": "human-\nnormalised score",
}
_LOOKS = {
    "costs": Look("costs", PALETTE[1], "v"),
    "helps": Look("helps", PALETTE[0], "^"),
    "same": Look("no visible difference", PALETTE[7], "s"),
    "open": Look("cannot be told", FAINT, "o"),
}
_HEADERS = {
    "gain": "retrieval",
    "part": "changed in the agent",
    "data": "changed in its data",
    "repair": "repair",
}


class Group(NamedTuple):
    """Effects that belong together. title: said in bold. empty: said where there is none; "" says nothing."""

    title: str
    holds: Callable[[Effect], bool]
    empty: str = ""


def _is(effect: Effect, kinds: Sequence[str], *readings: str) -> bool:
    return effect.change.kind in kinds and effect.reading in readings


GROUPS = (
    Group("What retrieval adds", lambda e: _is(e, ["gain"], "helps")),
    Group("Where retrieval adds nothing visible, or costs", lambda e: _is(e, ["gain"], "same", "costs")),
    # Not among the folded rest: what the method is for is asked first.
    Group("Where it cannot be told whether retrieval adds anything", lambda e: _is(e, ["gain"], "open")),
    Group(
        "What matters: changed, it costs",
        lambda e: _is(e, ["part"], "costs"),
        "No change of the agent that was tried costs anything that these runs can show.",
    ),
    Group("What makes no visible difference", lambda e: _is(e, ["part"], "same")),
    Group(
        "What breaks it",
        lambda e: _is(e, ["data", "repair"], "costs"),
        "Nothing that was done to what it retrieves from breaks it as far as these runs can show.",
    ),
    Group("What does not break it", lambda e: _is(e, ["data"], "same", "helps")),
    Group(
        "What repairs or improves it",
        lambda e: _is(e, ["part", "repair"], "helps"),
        "Nothing that was tried repairs or improves it as far as these runs can show.",
    ),
    Group("What does not repair it", lambda e: _is(e, ["repair"], "same")),
)


def write(sheet: Sheet, effects: Sequence[Effect]) -> None:
    """The whole part. Call inside `figures.style()`; without effects nothing is written."""
    if not effects:
        return
    settings, planned = sheet.settings, sheet.results.planned()
    sheet.text(_opening(effects, settings))
    absent = int((~planned["usable"]).sum())
    if absent:
        sheet.text(
            f"{absent} of {tables.plural(len(planned), 'planned run')} cannot be used or "
            f"{'is' if absent == 1 else 'are'} not there yet: some of this may change."
        )
    figure = summary(effects, settings)
    if figure is not None:
        sheet.figure(
            "what-matters",
            figure,
            "Effects of changes of the agent and of what it retrieves from, with intervals, one panel per environment.",
            "What each change does to the score (with it, less without it), with its interval; shaded: too small to "
            "count. Downward: costs. Upward: helps. Square: no visible difference. Open: cannot be told. Where a "
            "change was tried on several agents of an environment, the first of them is shown.",
        )
    for group in GROUPS:
        members = [effect for effect in effects if group.holds(effect)]
        if members:
            sheet.heading(group.title)
            sheet.parts.append(_bullets(members, settings.margins))
        elif group.empty and any(e.change.kind != "gain" for e in effects):
            sheet.heading(group.title)
            sheet.text(group.empty)
    unknown = [effect for effect in effects if effect.reading == "open" and effect.change.kind != "gain"]
    if unknown:
        title = f"What cannot be told from these runs ({tables.plural(len(unknown), 'comparison')})"
        sheet.folded(title, _bullets(unknown, settings.margins))
    sheet.numbers("what-matters", frame(effects))


def _opening(effects: Sequence[Effect], settings: Settings) -> str:
    """How many comparisons came out how, and by which rule."""
    changes = [effect for effect in effects if effect.change.kind != "gain"]
    counts = {name: sum(effect.reading == name for effect in changes) for name in READINGS}
    verbs = {  # for one, for several
        "costs": ("costs", "cost"),
        "helps": ("helps", "help"),
        "same": ("makes no visible difference", "make no visible difference"),
        "open": ("cannot be told", "cannot be told"),
    }
    parts = [f"{n} {verbs[name][n != 1]}" for name, n in counts.items() if n]
    environments = figures.in_order(_TITLES, (effect.environment for effect in effects))
    margins = "; ".join(
        f"{_TITLES.get(name, name)} ±{settings.margins[name]:g} {unit}"
        for name in environments
        if name in settings.margins
        for unit in [next(effect.unit for effect in effects if effect.environment == name)]
    )
    said = f"Of {tables.plural(len(changes), 'change')} tried, {', '.join(parts)}. " if changes else ""
    expected = tables.number(len(changes) * (1 - settings.level), 1)
    return (
        "A retrieval agent looks stored trajectories up while it learns and acts. Here is what that adds to the agent "
        "without it (the base agent), and what the score loses or gains where one thing is changed. "
        f"{said}Every line below is computed: a change costs or helps if its "
        f"{tables.number(100 * settings.level, 0)} % interval does not hold 0, and makes no visible difference if it "
        f"lies inside a margin fixed before the runs ({margins}). Else, and with fewer than "
        f"{tables.plural(settings.min_seeds, 'seed')}, it cannot be told. The intervals are not corrected for their "
        f"number; if nothing made a difference, about {expected} would not hold 0. The gain is what retrieval adds to "
        "the base agent there."
    )


def _bullets(effects: Sequence[Effect], margins: Mapping[str, float]) -> Markup:
    """One line per change, with all environments that it was tried in; the largest effects come first."""
    changes: dict[str, list[Effect]] = {}
    for effect in sorted(effects, key=lambda e: -abs(e.interval.estimate) / (margins.get(e.environment) or 1.0)):
        changes.setdefault(effect.change.what, []).append(effect)
    lines = [
        Markup("- **{}.** {}.").format(tables.md(what), tables.md("; ".join(map(_text, members))))
        for what, members in changes.items()
    ]
    return Markup("\n").join(lines)


def _text(effect: Effect) -> str:
    """ "Gridroboman −0.400 [−0.430, −0.370], 98 % of the gain"; the units are told above."""
    points = " points" if effect.environment == "babyai" else ""
    text = f"{effect.where} {tables.interval(effect.interval, effect.digits, signed=True)}{points}"
    if effect.share is not None and effect.reading == "costs":
        text += f", {tables.number(100 * effect.share, 0)}{tables.HARD_SPACE}% of the gain"
    return text


def frame(effects: Sequence[Effect]) -> pd.DataFrame:
    """One row per effect, for tables/what-matters.csv."""
    return pd.DataFrame(
        [
            {"kind": e.change.kind, "change": e.change.what, "where": e.where, "environment": e.environment,
             "task_set": e.task_set, "reading": e.reading, "estimate": e.interval.estimate, "low": e.interval.low,
             "high": e.interval.high, "seeds": " v ".join(map(str, e.interval.n)), "unit": e.unit,
             "share_of_gain": e.share}
            for e in effects
        ]
    )  # fmt: skip


def _ordered(rows: Mapping[str, Any]) -> dict[str, Any]:
    """The paper's ablations by their number, then the others as they came."""
    return {name: rows[name] for name in sorted(rows, key=lambda name: name if name.startswith("A-") else "B")}


def summary(effects: Sequence[Effect], settings: Settings) -> Figure | None:
    """Rows of changes, a panel per environment; of several effects of one change the first. None without any."""
    shown: dict[str, dict[str, dict[str, Effect]]] = {}  # kind -> short name -> environment -> effect
    for effect in effects:
        if effect.change.short and effect.interval.known:
            of_kind = shown.setdefault(effect.change.kind, {})
            of_kind.setdefault(effect.change.short, {}).setdefault(effect.environment, effect)
    environments = [name for name in _TITLES if any(name in row for rows in shown.values() for row in rows.values())]
    if not environments:
        return None
    shown = {kind: _ordered(shown[kind]) for kind in _HEADERS if kind in shown}
    count = sum(map(len, shown.values()))
    figure = figures.new_figure(0.24 * count + 0.33 * len(shown) + 1.35)
    widths = [1.25 if len(environments) > 1 and i == 0 else 1.0 for i in range(len(environments))]
    grid = figure.subplots(1, len(environments), sharey=True, squeeze=False, width_ratios=widths)[0]
    placed = figures.Rows(grid[0])
    positions: dict[tuple[str, str], float] = {}
    for kind, rows in shown.items():
        placed.header(_HEADERS[kind])
        for short in rows:
            positions[kind, short] = placed.row(short)
    for axes, environment in zip(grid, environments, strict=True):
        margin = settings.margins.get(environment, 0.0)
        axes.axvspan(-margin, margin, color=FAINT, alpha=0.16, lw=0, zorder=0)
        axes.axvline(0, color=FAINT, lw=1, zorder=1)
        for (kind, short), position in positions.items():
            effect = shown[kind][short].get(environment)
            if effect is not None:
                look, ends = _LOOKS[effect.reading], [effect.interval.low, effect.interval.high]
                axes.plot(ends, [position] * 2, color=look.colour, lw=2, alpha=0.5, solid_capstyle="butt")
                axes.plot(effect.interval.estimate, position, marker=look.marker, ms=5.5, color=look.colour,
                          mfc="white" if effect.reading == "open" else look.colour)  # fmt: skip
        axes.set_title(_TITLES[environment], weight="bold")
        axes.set_xlabel(_AXES[environment])
        axes.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 3, 4, 5, 10]))  # three labels; more do not fit
    placed.finish()
    for axes in grid:
        axes.grid(axis="y", visible=False)
    used: Mapping[str, Look] = {name: look for name, look in _LOOKS.items() if any(e.reading == name for e in effects)}
    handles = figures.legend_handles(used.values(), line=False)
    for name, handle in zip(used, handles, strict=True):
        if name == "open":
            handle.set(markerfacecolor="white")
    figure.legend(handles=handles, loc="outside upper center", ncols=2 if len(used) == 4 else len(used))
    return figure
