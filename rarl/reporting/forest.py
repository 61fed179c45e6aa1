"""Ablations: how many hurt, help or change nothing, and a forest plot for each study and task set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from rarl.reporting import charts, figures, tables
from rarl.reporting.effects import Effect
from rarl.reporting.figures import FAINT, PALETTE, PAPER, Look
from rarl.reporting.registry import BEYOND
from rarl.reporting.rules import READINGS, p_columns
from rarl.reporting.sheet import Sheet

_LOOKS: Mapping[str, Look] = {
    "costs": Look(READINGS["costs"], PALETTE[1], "v"),
    "helps": Look(READINGS["helps"], PALETTE[0], "^"),
    "same": Look(READINGS["same"], PALETTE[7], "s"),
    "open": Look(READINGS["open"], FAINT, "o"),
    "void": Look(READINGS["void"], FAINT, "X"),
}
_HOLLOW = ("open", "void")
_KINDS = {"part": "of the agent", "data": "of what it retrieves from", "repair": "repairs"}


def write(sheet: Sheet, effects: Sequence[Effect]) -> None:
    """Counts, a forest plot for each environment and task set, all effects as numbers; nothing without effects. What is
    beyond the paper is no ablation. Call inside `figures.style()`."""
    if not effects:
        return
    changes = [e for e in effects if e.study.page != BEYOND and e.change.kind != "gain"]
    sheet.text(summary(changes))
    groups: dict[tuple[str, str, str], list[Effect]] = {}
    for e in changes:
        if e.change.short and e.interval.known and e.change.kind != "grid":
            groups.setdefault((e.study.spec.name, e.where, e.task_set), []).append(e)
    for number, ((environment, where, _), members) in enumerate(groups.items(), 1):
        score = members[0].study.score
        sheet.figure(
            f"forest-{environment}-{number}",
            forest(members),
            frame(members),
            f"Forest plot: ablations of {where}, as differences in score with confidence intervals.",
            f"{where}: Δ vs the agent without the change, {score.unit}, 95 % CI. Shaded: margin ±{score.margin:g}.",
            charts.effects(frame(members), _LOOKS, _KINDS),
        )
    sheet.numbers(
        "effects" if sheet.name == "ablations" else f"{sheet.name}-effects",
        frame(effects),
        "All effects, those of retrieval included",
    )


def summary(effects: Sequence[Effect]) -> str:
    """ "48 ablations. Hurts: 15; helps: 2; ..." """
    counts = Counter(READINGS[e.reading] for e in effects if e.reading)
    said = "; ".join(f"{reading}: {counts[reading]}" for reading in READINGS.values() if counts[reading])
    return f"{tables.plural(len(effects), 'ablation')}. {said.capitalize()}." if effects else "No ablation has runs."


def frame(effects: Sequence[Effect]) -> pd.DataFrame:
    """One row per effect."""
    return pd.DataFrame(
        [
            {"kind": e.change.kind, "change": e.change.what, "where": e.where, "environment": e.study.spec.name,
             "task_set": e.task_set, "reading": e.reading, "estimate": e.interval, "seeds": e.interval.seeds,
             "unit": e.study.score.unit, "margin": e.study.score.margin, "share_of_gain": e.share, "gain": e.gain,
             **p_columns(e.verdict)}
            for e in effects
        ]
    )  # fmt: skip


def forest(effects: Sequence[Effect]) -> Figure:
    """Rows of changes, sorted by estimate; the margin shaded; a second axis in percent of the gain where it is one."""
    members = sorted(effects, key=lambda e: e.interval.estimate)
    figure = figures.new_figure(0.31 * len(members) + 1.5)
    axes = figure.subplots()
    score = members[0].study.score
    axes.axvspan(-score.margin, score.margin, color=FAINT, alpha=0.16, lw=0, zorder=0)
    axes.axvline(0, color=FAINT, lw=1, zorder=1)
    for position, e in enumerate(members):
        look = _LOOKS[e.reading]
        axes.plot([e.interval.low, e.interval.high], [position] * 2, color=look.colour, lw=2.4, alpha=0.55,
                  solid_capstyle="butt")  # fmt: skip
        axes.plot(e.interval.estimate, position, marker=look.marker, ms=6, color=look.colour,
                  mfc=PAPER if e.reading in _HOLLOW else look.colour)  # fmt: skip
    figures.rows_of(axes, {i: e.change.short for i, e in enumerate(members)})
    axes.set_xlabel(f"Δ {score.label}")
    gains = {e.gain for e in members}
    gain = gains.pop() if len(gains) == 1 else None
    if gain:
        above = axes.secondary_xaxis(
            "top", functions=(partial(np.multiply, 100 / gain), partial(np.multiply, gain / 100))
        )
        above.set_xlabel("% of the gain from retrieval", fontsize=9)
    figures.legend(
        figure, [look for name, look in _LOOKS.items() if any(e.reading == name for e in members)], line=False
    )
    return figure
