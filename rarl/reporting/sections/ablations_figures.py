"""Figures of ablations: differences from the base agent, the grid of A-6, rows of values."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import seaborn
from matplotlib.figure import Figure

from rarl.reporting import figures
from rarl.reporting.against_base import Row, against_base
from rarl.reporting.figures import FAINT, PALETTE, Look
from rarl.reporting.results import Results
from rarl.reporting.sections.ablations_measures import (
    BEYOND,
    DOSES,
    PAPER,
    RETRIEVES_NOTHING,
    Agent,
    Bench,
    compare,
    compared,
    dose,
    grid,
    label,
    part_of,
    scores,
)
from rarl.reporting.statistics import Interval, t_interval, welch_interval

GROUPS = {"The paper's ablations": (PAPER, PALETTE[3], "D"), "Beyond the paper": (BEYOND, PALETTE[6], "^")}


def look(bench: Bench, variant: str) -> Look:
    """How a variant is drawn."""
    if variant == bench.base.variant:
        return Look(bench.names[0], PALETTE[0], "o", (0, (5, 1.5)))
    if variant == bench.full.variant:
        return Look(bench.names[1], PALETTE[1], "s")
    for members, colour, marker in GROUPS.values():
        if variant in members:
            return Look(label(bench, variant), colour, marker)
    return figures.spare_look(variant)


def relative(results: Results, bench: Bench, task_set: str) -> Figure | None:
    """Every variant as a difference from the base agent, the full agent as a band; None without base or variants."""
    agents = [agent for agent in compared(results, bench, task_set) if agent not in (bench.base, bench.full)]

    def row(agent: Agent) -> Row | None:
        own, base = scores(results, bench, [agent, bench.base], task_set)
        if not own or not base:
            return None
        name = part_of(bench, agent)
        return Row(look(bench, name), list(own.values()), list(base.values()), hollow=name in RETRIEVES_NOTHING)

    rows = {part_of(bench, agent): made for agent in agents if (made := row(agent)) is not None}
    if not rows:
        return None
    ends = [made for agent in (bench.base, bench.full) if (made := row(agent)) is not None]
    groups: dict[str, list[Row]] = {"Without and with retrieval": ends}
    for header, (members, _, _) in GROUPS.items():
        groups[header] = [rows[variant] for variant in members if variant in rows]
    groups["Others"] = [made for variant, made in rows.items() if not any(variant in m for m, _, _ in GROUPS.values())]
    gain = compare(results, bench, bench.full, bench.base, task_set)
    base, full = (look(bench, agent.variant) for agent in (bench.base, bench.full))
    band = (full, gain.interval(0.95)) if gain is not None else None
    xlabel = f"difference from {bench.names[0]},\n{bench.axis}"
    return against_base({name: members for name, members in groups.items() if members}, base, xlabel, band=band)


def grid_values(
    results: Results, bench: Bench, task_set: str, level: float
) -> dict[tuple[int, int], tuple[Interval, Interval]]:
    """Cell -> (its score, its difference from the full agent; one without an interval where that cannot be told)."""
    found = {}
    for cell, agent in grid(results, bench, task_set).items():
        own, full = scores(results, bench, [agent, bench.full], task_set)
        (alone,) = scores(results, bench, [agent], task_set)
        if alone:
            found[cell] = (t_interval(list(alone.values()), level), _difference(own, full, level))
    return found


def _difference(a: Mapping[int, float], b: Mapping[int, float], level: float) -> Interval:
    return welch_interval(list(a.values()), list(b.values()), level)


def grid_heatmap(cells: Mapping[tuple[int, int], tuple[Interval, Interval]], bench: Bench) -> Figure:
    """Scores over k_traj and k_states, with the difference from the full agent and a mark where it is not 0."""
    rows, columns = (sorted({cell[i] for cell in cells}) for i in (0, 1))
    table = np.full((len(rows), len(columns)), np.nan)
    for (k_traj, k_states), (score, _) in cells.items():
        table[rows.index(k_traj), columns.index(k_states)] = score.estimate
    figure = figures.new_figure(0.72 * len(rows) + 0.95)
    axes = figure.subplots()
    spread = max(float(np.nanmax(table) - np.nanmin(table)), 1e-9)
    low, high = float(np.nanmin(table)) - 0.1 * spread, float(np.nanmax(table)) + 0.1 * spread
    image = axes.imshow(table, cmap="cividis", vmin=low, vmax=high, aspect="auto")
    axes.set_facecolor("#eeeeee")
    for (k_traj, k_states), (score, change) in cells.items():
        place = (columns.index(k_states), rows.index(k_traj))
        ink = "white" if (score.estimate - low) / (high - low) < 0.5 else "black"
        digits = min(bench.digits, 2)
        axes.text(
            *place, f"{score.estimate:.{digits}f}", ha="center", va="bottom", color=ink, fontsize=11, weight="bold"
        )
        if math.isfinite(change.estimate):
            text = f"{change.estimate:+.{digits}f}".replace("-", "−") + mark(change)
            axes.text(place[0], place[1] + 0.08, text, ha="center", va="top", color=ink, fontsize=8.5)
    axes.set_xticks(range(len(columns)), [str(value) for value in columns])
    axes.set_yticks(range(len(rows)), [str(value) for value in rows])
    axes.set_xlabel("k_states: states kept by attention")
    axes.set_ylabel("k_traj: trajectories kept")
    axes.grid(visible=False)
    seaborn.despine(ax=axes, left=True, bottom=True)
    figure.colorbar(image, ax=axes, label=bench.axis)
    return figure


def mark(change: Interval) -> str:
    """An arrow where the interval of a difference does not hold 0."""
    if not change.known:
        return ""
    return " ▲" if change.low > 0 else " ▼" if change.high < 0 else ""


def doses(results: Results, bench: Bench, task_set: str) -> Figure | None:
    """Rows of values: every seed a dot, means joined by a line, the full agent in its own colour; None without any."""
    shown = {pattern: dose(results, bench, pattern, task_set) for pattern in DOSES}
    shown = {pattern: values for pattern, values in shown.items() if values}
    rows = {
        pattern: [
            (value, agent, list(of_one.values()))
            for value, agent in values.items()
            if (of_one := scores(results, bench, [agent], task_set)[0])
        ]
        for pattern, values in shown.items()
    }
    rows = {pattern: found for pattern, found in rows.items() if found}
    if not rows:
        return None
    figure = figures.new_figure(0.33 * sum(map(len, rows.values())) + 0.42 * len(rows) + 0.9)
    axes = figure.subplots()
    placed = figures.Rows(axes)
    for pattern, found in rows.items():
        placed.header(DOSES[pattern].title)
        line = []
        for value, agent, values in found:
            full = agent == bench.full
            position, mean = placed.row(f"{value:g}" + (f" ({bench.names[1]})" if full else "")), t_interval(values)
            drawn = look(bench, bench.full.variant) if full else Look("", PALETTE[3], "D")
            figures.dots_with_interval(axes, values, mean, position, drawn)
            line.append((mean.estimate, position))
        axes.plot(*zip(*line, strict=True), color=FAINT, lw=1, zorder=1)
    (base,) = scores(results, bench, [bench.base], task_set)
    if base:
        drawn = look(bench, bench.base.variant)
        axes.axvline(float(np.mean(list(base.values()))), color=drawn.colour, lw=1.4, ls=drawn.line, zorder=1)
        axes.text(
            float(np.mean(list(base.values()))), 1.0, bench.names[0], color=drawn.colour, fontsize=8.5, weight="bold",
            ha="center", va="bottom", transform=axes.get_xaxis_transform(),
        )  # fmt: skip
    placed.finish()
    axes.set_xlabel(f"{bench.axis}, mean over {bench.many}")
    return figure
