"""Figures on rare relevance: returns and what is found by share, and the cost of an index."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from rarl.reporting import figures
from rarl.reporting.figures import FAINT, PALETTE, Look
from rarl.reporting.results import Results
from rarl.reporting.sections.relevance_measures import (
    LABELS,
    chance,
    dataset_size,
    other_ways,
    quantity_table,
    return_table,
    score,
    variants,
)
from rarl.reporting.statistics import t_interval

LOOKS = {
    "uniform": Look(LABELS["uniform"], PALETTE[0], "o", (0, (5, 1.5))),
    "index": Look(LABELS["index"], PALETTE[1], "s", "-"),
    "index-ivf": Look(LABELS["index-ivf"], PALETTE[2], "^", (0, (3, 1, 1, 1))),
    "index-hnsw": Look(LABELS["index-hnsw"], PALETTE[3], "D", (0, (1, 1))),
    "uniform-end-to-end": Look(LABELS["uniform-end-to-end"], PALETTE[4], "P", (0, (2, 1))),
    "index-end-to-end": Look(LABELS["index-end-to-end"], PALETTE[5], "v", "-."),
}
KINDS = {  # of index-cost.csv
    "exact": Look("exact", PALETTE[1], "s", "-"),
    "ivf": Look("IVF", PALETTE[2], "^", (0, (3, 1, 1, 1))),
    "hnsw": Look("HNSW", PALETTE[3], "D", (0, (1, 1))),
}
# Level lines, the first that was measured.
LEVELS = {"share-0": "nothing relevant", "removed": "nothing retrieved"}
PANELS = {"recall@10": "recall@10", "mrr": "MRR"}


def look(variant: str) -> Look:
    """How a variant is drawn."""
    return figures.look_of(LOOKS, variant)


def _share_axis(axes: Axes, shares: Sequence[float]) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(list(shares)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.set_xlim(min(shares) / 1.35, max(shares) * 1.35)
    axes.set_xlabel("share of trajectories that are relevant")


def returns(results: Results, task_set: str) -> Figure | None:
    """Return against the share; hollow: the same networks with their batch found in the other way."""
    shown = {v: return_table(results, task_set, v) for v in variants(results, task_set)}
    shown = {variant: table for variant, table in shown.items() if not table.empty}
    if not shown:
        return None
    figure = figures.new_figure(3.7)
    axes = figure.subplots()
    handles = figures.legend_handles([look(variant) for variant in shown])
    for variant, table in shown.items():
        drawn = look(variant)
        figures.learning_curve(axes, table, drawn)
        for way in other_ways(results, task_set, variant):
            handles.append(_other_way(axes, return_table(results, task_set, variant, way), drawn, way))
    for name, text in LEVELS.items():
        levels = {v: np.mean(list(scores.values())) for v in shown if (scores := score(results, task_set, v, name))}
        for variant, mean in levels.items():  # not one for all: where one is high, its network needs nothing relevant
            axes.axhline(mean, color=look(variant).colour, lw=1, ls=(0, (1, 1.5)))
        if levels:
            handles.append(Line2D([], [], color=FAINT, lw=1, ls=(0, (1, 1.5)), label=text))
            break
    _share_axis(axes, sorted({share for table in shown.values() for share in table.index}))
    axes.set_ylim(bottom=0)
    axes.set_ylabel("share of the expert's return")
    figure.legend(handles=handles, loc="outside upper center", ncols=1 if len(handles) > len(shown) else 2)
    return figure


def _other_way(axes: Axes, table: pd.DataFrame, drawn: Look, way: str) -> Line2D:
    """Means and intervals of the same networks evaluated in another way; returns what the legend shows."""
    named = {"uniform": "its batch drawn uniformly", "index": "its batch found by the index"}.get(way, way)
    for share, values in table.iterrows():
        mean = t_interval(values.dropna().to_numpy())
        if mean.known:
            axes.plot([share] * 2, [mean.low, mean.high], color=drawn.colour, lw=1.6, alpha=0.45, zorder=4)
    (line,) = axes.plot(table.index, table.mean(axis=1), color=drawn.colour, lw=0.9, ls=(0, (1, 1)), zorder=5)
    line.set(marker=drawn.marker, ms=6, mfc="white", mew=1.4, label=f"{drawn.label}, {named}")
    return line


def found(results: Results, task_set: str) -> Figure | None:
    """Recall and MRR against the share, with chance."""
    shown = {
        what: {v: table for v in variants(results, task_set)
               if not (table := quantity_table(results, task_set, v, what)).empty}
        for what in PANELS
    }  # fmt: skip
    shown = {what: tables for what, tables in shown.items() if tables}
    if not shown:
        return None
    figure = figures.new_figure(2.75)
    grid = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for axes, (what, tables) in zip(grid, shown.items(), strict=True):
        for variant, table in tables.items():
            figures.learning_curve(axes, table, look(variant))
        shares = sorted({share for table in tables.values() for share in table.index})
        fine, size = np.geomspace(min(shares), max(shares), 60), dataset_size(results, task_set)
        axes.plot(fine, [chance(what, x, size) for x in fine], color=FAINT, lw=1.2, ls=(0, (1, 1.5)))
        _share_axis(axes, shares)
        axes.tick_params(axis="x", labelsize=7.5)
        axes.set_ylim(0, 1.03)
        axes.set_title(PANELS[what], weight="bold")
    names = dict.fromkeys(v for tables in shown.values() for v in tables)
    looks = [*(look(variant) for variant in names), Look("chance", FAINT, "", (0, (1, 1.5)))]
    ncols = 3 if len(looks) <= 3 else 2
    figure.legend(handles=figures.legend_handles(looks), loc="outside upper center", ncols=ncols)
    return figure


def index_cost(table: pd.DataFrame) -> Figure | None:
    """Four panels against the number of states: building, searching, memory, what is found. None without rows."""
    panels = {
        "build_seconds": "building, seconds",
        "query_ms": "searching, ms per query",
        "memory_mb": "memory, MB",
        "recall_at_10": "recall@10",
    }
    table = table.dropna(subset=["states"])
    shown = {column: title for column, title in panels.items() if table[column].notna().any()}
    if table.empty or not shown:
        return None
    figure = figures.new_figure(2.05 * math.ceil(len(shown) / 2) + 0.5)
    grid = figure.subplots(math.ceil(len(shown) / 2), 2, sharex=True, squeeze=False).ravel()
    kinds = figures.in_order(KINDS, table["kind"].astype(str))
    for axes, (column, title) in zip(grid, shown.items(), strict=False):
        for kind in kinds:
            rows = table[table["kind"] == kind].dropna(subset=[column]).sort_values("states")
            drawn = figures.look_of(KINDS, kind)
            axes.plot(rows["states"], rows[column], color=drawn.colour, marker=drawn.marker, ls=drawn.line, ms=4.5)
            if column == "query_ms" and rows["single_query_ms"].notna().any():
                axes.plot(rows["states"], rows["single_query_ms"], color=drawn.colour, marker=drawn.marker, mfc="white",
                          ls=drawn.line, lw=0.9, ms=4)  # fmt: skip
        axes.set_title(title, weight="bold")
        axes.set_xscale("log")
        if column == "recall_at_10":
            axes.set_ylim(0, 1.05)
        elif (table[column] > 0).any():
            axes.set_yscale("log", nonpositive="mask")
            axes.yaxis.set_minor_formatter(NullFormatter())
            axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: figures.short(x)))
    for axes in grid[len(shown) :]:
        axes.set_axis_off()
    for axes in grid[max(0, len(shown) - 2) : len(shown)]:
        axes.set_xlabel("states in the index")
        axes.tick_params(axis="x", labelbottom=True)
    looks = [figures.look_of(KINDS, kind) for kind in kinds]
    figure.legend(handles=figures.legend_handles(looks), loc="outside upper center", ncols=3)
    return figure
