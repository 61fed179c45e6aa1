"""Gridroboman's figures on the retrieval dataset: does it decide the task, and how much of it is needed."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from rarl.reporting import figures, tables
from rarl.reporting.figures import PALETTE, Look
from rarl.reporting.results import Results
from rarl.reporting.scores import intervention_scores
from rarl.reporting.sections.gridroboman_measures import (
    ALL_TASKS,
    AMOUNTS,
    PROBED,
    TASKS_BY_FAMILY,
    amount_table,
    intervention_table,
)
from rarl.reporting.statistics import t_interval

_LEVELS = {"removed": Look("nothing retrieved", PALETTE[5], "v", (0, (1, 1))),
           "shuffled": Look("states shuffled", PALETTE[6], "^", (0, (5, 1.5)))}  # fmt: skip
MOST_TOLD = 12  # tasks in a sentence
_AXES = {"trajectories": "trajectories in a batch", "steps": "first steps of each trajectory"}


def swap_matrix(results: Results) -> pd.DataFrame:
    """(given task, task measured on): normalised return, mean over seeds; own dataset on the diagonal. May be empty."""
    frame = intervention_table(results, ALL_TASKS, PROBED)
    swapped = frame[frame["intervention"] == "swapped"]
    if swapped.empty:
        return pd.DataFrame()
    own = frame[frame["intervention"] == "own"].assign(given_task=lambda x: x["task"])
    rows = pd.concat([swapped, own], ignore_index=True)
    matrix = rows.pivot_table(index="given_task", columns="task", values="normalised", aggfunc="mean")
    tasks = [t.slug for t in TASKS_BY_FAMILY if t.slug in matrix.index or t.slug in matrix.columns]
    return matrix.reindex(index=tasks, columns=tasks).astype(float)


def decided_text(matrix: pd.DataFrame) -> str:
    """On how many tasks of a swap matrix no other dataset gives more, and whose do; "" without numbers."""
    values = matrix.to_numpy()
    own = np.diag(values)
    others = np.where(np.eye(len(values), dtype=bool), np.nan, values)
    measured = np.isfinite(own) & np.isfinite(others).any(axis=0)
    if not measured.any():
        return ""
    best = np.where(np.isfinite(others), others, -np.inf).max(axis=0)
    beaten = [task for i, task in enumerate(matrix.columns) if measured[i] and best[i] > own[i]]
    n = int(measured.sum())
    text = (
        f"On {n - len(beaten)} of {tables.plural(n, 'task')} no other task's dataset gives more return than the task's "
        f"own. Mean over tasks: {tables.number(own[measured].mean())} with the own dataset, "
        f"{tables.number(np.nanmean(others[:, measured]))} with that of another."
    )
    if beaten:
        shown = [
            f"{tables.spaced(task)} "
            f"({tables.spaced(matrix.index[np.nanargmax(others[:, matrix.columns.get_loc(task)])])})"
            for task in beaten[:MOST_TOLD]
        ]
        more = f" and {len(beaten) - MOST_TOLD} more" if len(beaten) > MOST_TOLD else ""
        text += f" Tasks on which another one gives more, and whose: {', '.join(shown)}{more}."
    return text


def swap_heatmap(matrix: pd.DataFrame) -> Figure:
    """`swap_matrix` as a heat map with families apart, and the values written in where there is room."""
    names = list(map(tables.spaced, matrix.index))
    n = len(names)
    figure = figures.new_figure(max(3.4, min(5.2, 1.6 + 0.17 * n)))
    axes = figure.subplots()
    image = axes.imshow(matrix.to_numpy(), cmap="cividis", vmin=0, vmax=1, aspect="equal")
    size = 8.5 if n <= 12 else 6.5
    axes.set_facecolor("#eeeeee")  # what was not measured
    axes.set_xticks(range(n), names, rotation=90, fontsize=size)
    axes.set_yticks(range(n), names, fontsize=size)
    axes.set_xlabel("task that the return is measured on")
    axes.set_ylabel("task whose dataset is given")
    axes.grid(visible=False)
    family = {task.slug: task.family for task in TASKS_BY_FAMILY}
    for i in range(1, n):
        if family.get(matrix.index[i]) != family.get(matrix.index[i - 1]):
            axes.axhline(i - 0.5, color="white", lw=0.8)
            axes.axvline(i - 0.5, color="white", lw=0.8)
    if n <= 12:
        for i in range(n):
            for j in range(n):
                value = matrix.iat[i, j]
                if math.isfinite(value):
                    ink = "white" if value < 0.5 else "black"
                    axes.text(j, i, f"{value:.1f}", ha="center", va="center", fontsize=7.5, color=ink)
    figure.colorbar(image, ax=axes, label="share of the expert's return", shrink=0.7)
    return figure


def amounts(results: Results) -> Figure | None:
    """Return against how many trajectories are left, and how many of their first steps; None where neither is known."""
    shown: Mapping[str, pd.DataFrame] = {of: amount_table(results, ALL_TASKS, PROBED, of) for of in AMOUNTS.values()}
    shown = {of: table for of, table in shown.items() if not table.empty}
    if not shown:
        return None
    frame = intervention_table(results, ALL_TASKS, PROBED)
    figure = figures.new_figure(2.75)
    grid = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    drawn = Look("that much left", PALETTE[1], "s", "-")
    used: dict[str, Look] = {}
    for axes, (of, table) in zip(grid, shown.items(), strict=True):
        figures.learning_curve(axes, table, drawn)
        for name, look in _LEVELS.items():
            values = list(intervention_scores(frame, name).values())
            if values:
                mean = t_interval(values)
                axes.axhline(mean.estimate, color=look.colour, lw=1.4, ls=look.line)
                used[name] = Look(look.label, look.colour, "", look.line)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(list(table.index)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axes.set_xlabel(_AXES[of])
    grid[0].set_ylim(bottom=0)
    grid[0].set_ylabel("share of the expert's return")
    figure.legend(handles=figures.legend_handles([drawn, *used.values()]), loc="outside upper center", ncols=3)
    return figure
