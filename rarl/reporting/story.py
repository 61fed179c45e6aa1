"""What matters: the effects of all studies, sorted by how their intervals are read."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rarl.envs.spec import Score
from rarl.reporting import figures, tables
from rarl.reporting.effects import Effect
from rarl.reporting.figures import FAINT, PALETTE, Look
from rarl.reporting.rules import EQUIVALENT, INCONCLUSIVE, READINGS, VOID, p_columns
from rarl.reporting.sheet import Sheet

_LOOKS = {
    "costs": Look("costs", PALETTE[1], "v"),
    "helps": Look("helps", PALETTE[0], "^"),
    "same": Look(EQUIVALENT, PALETTE[7], "s"),
    "open": Look(INCONCLUSIVE, FAINT, "o"),
    "void": Look(VOID, FAINT, "X"),
}
_HEADERS = {"gain": "retrieval", "part": "changed in the agent", "data": "changed in its data", "repair": "repair"}


# Title -> (kinds of changes, readings) of the effects below it.
GROUPS = {
    "What retrieval adds": (["gain"], ["helps"]),
    "Where retrieval adds nothing that counts, or costs": (["gain"], ["same", "costs"]),
    # Not among the folded rest: what the method is for is asked first.
    "Where it cannot be told whether retrieval adds anything": (["gain"], ["open", "void"]),
    "What matters: changed, it costs": (["part"], ["costs"]),
    "What makes no difference that counts": (["part"], ["same"]),
    "What breaks it": (["data", "repair"], ["costs"]),
    "What does not break it": (["data"], ["same", "helps"]),
    "What repairs or improves it": (["part", "repair"], ["helps"]),
    "What does not repair it": (["repair"], ["same"]),
}


def write(sheet: Sheet, effects: Sequence[Effect]) -> None:
    """The whole part. Call inside `figures.style()`; without effects nothing is written."""
    if not effects:
        return
    figure = summary(effects)
    if figure is not None:
        sheet.figure(
            "what-matters",
            figure,
            "Effects of changes of the agent and of what it retrieves from, with intervals, one panel per environment.",
            "What each change does to the score (with the change minus without it), with its interval; shaded: too "
            "small to count. Where a change was tried on several agents of an environment, the first is shown.",
        )
    for title, (kinds, readings) in GROUPS.items():
        members = [e for e in effects if e.change.kind in kinds and e.reading in readings]
        if members:
            sheet.heading(title)
            sheet.parts.append(_bullets(members))
    unknown = [effect for effect in effects if effect.reading in ("open", "void") and effect.change.kind != "gain"]
    if unknown:
        title = f"What cannot be told from these runs ({tables.plural(len(unknown), 'comparison')})"
        sheet.folded(title, _bullets(unknown))
    sheet.numbers("what-matters", frame(effects))


def numbers(effects: Sequence[Effect]) -> dict[str, str]:
    """For the paragraph above: how many comparisons came out how, and the margins."""
    changes = [effect for effect in effects if effect.change.kind != "gain"]
    counts = {name: sum(effect.reading == name for effect in changes) for name in READINGS}
    specs = {effect.spec.name: effect.spec for effect in effects}.values()
    return {
        "tried": tables.plural(len(changes), "change"),
        "came_out": ", ".join(f"{READINGS[name]}: {n}" for name, n in counts.items() if n),
        "margins": "; ".join(f"{s.title} ±{s.score.margin:g} {s.score.unit}" for s in specs),
    }


def _bullets(effects: Sequence[Effect]) -> Markup:
    """One line per change, with all environments that it was tried in; the largest effects come first."""
    changes: dict[str, list[Effect]] = {}
    for effect in sorted(effects, key=lambda e: -abs(e.interval.estimate) / (e.score.margin or 1.0)):
        changes.setdefault(effect.change.what, []).append(effect)
    lines = [
        Markup("- **{}.** {}.").format(tables.md(what), tables.md("; ".join(map(_text, members))))
        for what, members in changes.items()
    ]
    return Markup("\n").join(lines)


def _text(effect: Effect) -> str:
    """ "My tasks −0.400 [−0.430, −0.370], 98 % of the gain"; the units are told above."""
    suffix = f" {effect.score.suffix}" if effect.score.suffix else ""
    text = f"{effect.where} {tables.interval(effect.interval, signed=True)}{suffix}"
    if effect.share is not None and effect.reading == "costs":
        text += f", {tables.number(100 * effect.share, 0)}{tables.HARD_SPACE}% of the gain"
    said = effect.verdict
    return text + (f" ({said.outcome}: {said.reason})" if effect.reading in ("open", "void") and said.reason else "")


def frame(effects: Sequence[Effect]) -> pd.DataFrame:
    """One row per effect, for tables/what-matters.csv."""
    return pd.DataFrame(
        [
            {"kind": e.change.kind, "change": e.change.what, "where": e.where, "environment": e.spec.name,
             "task_set": e.task_set, "reading": e.reading, "estimate": e.interval, "seeds": e.interval.seeds,
             "unit": e.score.unit, "share_of_gain": e.share, **p_columns(e.verdict)}
            for e in effects
        ]
    )  # fmt: skip


def summary(effects: Sequence[Effect]) -> Figure | None:
    """Rows of changes, a panel per environment; of several effects of one change the first. None without any."""
    shown: dict[str, dict[str, dict[str, Effect]]] = {}  # kind -> short name -> environment -> effect
    short: dict[str, str] = {}  # change -> what its first effect calls it
    specs = {}
    for effect in effects:
        if effect.change.short and effect.interval.known:
            row = short.setdefault(effect.change.what, effect.change.short)
            shown.setdefault(effect.change.kind, {}).setdefault(row, {}).setdefault(effect.spec.name, effect)
            specs[effect.spec.name] = effect.spec
    environments = list(specs)
    if not environments:
        return None
    shown = {kind: dict(sorted(shown[kind].items())) for kind in _HEADERS if kind in shown}
    count = sum(map(len, shown.values()))
    figure = figures.new_figure(0.24 * count + 0.33 * len(shown) + 1.35)
    widths = [1.25 if len(environments) > 1 and i == 0 else 1.0 for i in range(len(environments))]
    grid = figure.subplots(1, len(environments), sharey=True, squeeze=False, width_ratios=widths)[0]
    placed = figures.Rows(grid[0])
    positions: dict[tuple[str, str], float] = {}
    for kind, rows in shown.items():
        placed.header(_HEADERS[kind])
        for label in rows:
            positions[kind, label] = placed.row(label)
    for axes, environment in zip(grid, environments, strict=True):
        score = specs[environment].score or Score()
        margin = score.margin
        axes.axvspan(-margin, margin, color=FAINT, alpha=0.16, lw=0, zorder=0)
        axes.axvline(0, color=FAINT, lw=1, zorder=1)
        for (kind, label), position in positions.items():
            there = shown[kind][label].get(environment)
            if there is not None:
                look, ends = _LOOKS[there.reading], [there.interval.low, there.interval.high]
                axes.plot(ends, [position] * 2, color=look.colour, lw=2, alpha=0.5, solid_capstyle="butt")
                axes.plot(there.interval.estimate, position, marker=look.marker, ms=5.5, color=look.colour,
                          mfc="white" if there.reading in ("open", "void") else look.colour)  # fmt: skip
        axes.set_title(specs[environment].title, weight="bold")
        axes.set_xlabel(textwrap.fill(score.label, 15))
        axes.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 3, 4, 5, 10]))  # three labels; more do not fit
    placed.finish()
    for axes in grid:
        axes.grid(axis="y", visible=False)
    used = [look for name, look in _LOOKS.items() if any(e.reading == name for e in effects)]
    figures.legend(figure, used, line=False)
    return figure
