"""BabyAI's figures: curves, success beside the paper's, levels, access to other levels, interventions."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from rarl.reporting import figures
from rarl.reporting.figures import FAINT, INK, PALETTE, Look
from rarl.reporting.interventions import interventions_strip
from rarl.reporting.results import Results
from rarl.reporting.scores import intervention_scores
from rarl.reporting.sections.babyai_measures import (
    BASELINE,
    EXPERIMENT,
    LABELS,
    PAPER_OTHERS,
    PAPER_SIZES,
    PAPER_SUCCESS,
    TaskSet,
    attention_on_others,
    by_kind,
    intervention_table,
    kind,
    level_order,
    reason,
    seed_scores,
)
from rarl.reporting.statistics import t_interval

LOOKS = {
    "rdqn": Look(LABELS["rdqn"], PALETTE[0], "o", (0, (5, 1.5))),
    "ra-rdqn-own": Look(LABELS["ra-rdqn-own"], PALETTE[2], "^", (0, (3, 1, 1, 1))),
    "ra-rdqn-all-open": Look(LABELS["ra-rdqn-all-open"], PALETTE[3], "D", (0, (1, 1))),
    "ra-rdqn-all": Look(LABELS["ra-rdqn-all"], PALETTE[1], "s", "-"),
    "no-retrieval": Look(LABELS["no-retrieval"], PALETTE[5], "v", "-."),
}


def look(variant: str) -> Look:
    """How a variant is drawn."""
    return figures.look_of(LOOKS, variant)


def in_order(variants: Iterable[str]) -> list[str]:
    """Known variants first, in the order of the paper's table."""
    return figures.in_order(LOOKS, variants)


def curve_table(results: Results) -> pd.DataFrame:
    """Rows task_set, variant, seed, update, success: percent, the mean over levels at each evaluation point."""
    frame = results.select(results.evaluations, EXPERIMENT)
    keys = ["task_set", "variant", "seed", "update"]
    rates = frame.groupby(keys)["success_rate"].agg(lambda x: 100 * float(x.mean(skipna=False)))
    return rates.rename("success").reset_index()


def learning_curves(results: Results, sets: Sequence[TaskSet]) -> Figure:
    """One panel per task set, two in a row; all agents in each."""
    curves = curve_table(results)
    columns = min(2, len(sets))
    rows = math.ceil(len(sets) / columns)
    figure = figures.new_figure(2.5 * rows + 0.75)
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axes, chosen in zip(grid.flat, sets, strict=False):
        here = curves[curves["task_set"] == chosen.name]
        for variant in in_order(here["variant"]):
            table = here[here["variant"] == variant].pivot(index="update", columns="seed", values="success")
            figures.learning_curve(axes, table, look(variant))
        axes.set_title(chosen.title, weight="bold")
        axes.set_ylim(0, 100)
        axes.set_xlabel("learner updates")
        figures.thousands(axes)
    for axes in grid.flat[len(sets) :]:
        axes.set_axis_off()
    for axes in grid[:, 0]:
        axes.set_ylabel("success, %")
    looks = [look(variant) for variant in in_order(curves["variant"])]
    figure.legend(handles=figures.legend_handles(looks), loc="outside upper center", ncols=2)
    return figure


def success_strip(results: Results, sets: Sequence[TaskSet]) -> Figure:
    """Success of every seed, per task set and variant, with the paper's numbers where the sets are two."""
    rows = [
        (chosen, variant)
        for chosen in sets
        for variant in in_order(results.select(results.last, EXPERIMENT, chosen.name)["variant"])
        if seed_scores(results, chosen.name, variant)
    ]
    columns = paper_columns(sets)
    figure = figures.new_figure(0.3 * len(rows) + 0.35 * len(sets) + 0.9)
    axes = figure.subplots()
    grouped = figures.Rows(axes)
    for chosen, variant in rows:
        grouped.header(chosen.title)
        position = grouped.row(look(variant).label)
        values = list(seed_scores(results, chosen.name, variant).values())
        figures.dots_with_interval(axes, values, t_interval(values), position, look(variant))
        if chosen.name in columns and variant in PAPER_SUCCESS:
            mean, error = PAPER_SUCCESS[variant][columns[chosen.name]]
            axes.plot([mean - error, mean + error], [position + 0.36] * 2, color=FAINT, lw=1.2, zorder=1)
            axes.plot(mean, position + 0.36, marker="D", ms=4.5, mfc="white", mec=FAINT, mew=1.2, zorder=1)
    grouped.finish()
    axes.set_xlim(0, 100)
    axes.set_xlabel("success, %, mean over levels, last evaluation")
    return figure


def paper_columns(sets: Sequence[TaskSet]) -> dict[str, int]:
    """Which column of the paper's table a task set is set beside: the least and the most data, if there are two."""
    return {sets[0].name: 0, sets[-1].name: len(PAPER_SIZES) - 1} if len(sets) > 1 else {}


def level_label(task: str) -> str:
    """ "GoToSeq (sequence)"."""
    return f"{task} ({reason(task)})" if reason(task) else task


def per_level(results: Results, sets: Sequence[TaskSet]) -> Figure:
    """Success per level, each seed a dot, all agents; a panel per task set, single levels above compositional ones."""
    frame = results.select(results.last, EXPERIMENT)
    frame = frame[frame["task_set"].isin([chosen.name for chosen in sets])]
    levels, variants = level_order(frame["task"]), in_order(frame["variant"])
    height = 0.115 * len(variants) * len(levels) + 0.3 * len({kind(task) for task in levels}) + 1.4
    figure = figures.new_figure(height)
    grid = figure.subplots(1, len(sets), sharey=True, squeeze=False)[0]
    grouped = figures.Rows(grid[0], header=0.75)
    positions = {}
    for task in levels:
        grouped.header(kind(task))
        positions[task] = grouped.row(level_label(task))
    offsets = dict(zip(variants, np.linspace(-0.3, 0.3, len(variants)) if len(variants) > 1 else [0], strict=True))
    for axes, chosen in zip(grid, sets, strict=True):
        for variant in variants:
            here = frame[(frame["task_set"] == chosen.name) & (frame["variant"] == variant)]
            rates = 100 * here.set_index("task")["success_rate"].astype(float)
            figures.dots_per_task(axes, rates, positions, look(variant), offset=offsets[variant], tick=6.5)
        axes.set_title(textwrap.fill(chosen.title, 27), weight="bold", fontsize=9)
        axes.set_xlim(-3, 103)
        axes.set_xlabel("success, %")
        axes.hlines(np.array(list(positions.values())) + 0.5, -3, 103, color="#e6e6e6", lw=0.7, zorder=0)
    grouped.finish()
    for axes in grid:
        axes.grid(axis="y", visible=False)
    handles = figures.legend_handles([look(variant) for variant in variants], line=False)
    figure.legend(handles=handles, loc="outside upper center", ncols=2)
    return figure


def access(results: Results, task_set: str, variants: Sequence[str]) -> Figure | None:
    """Per level: attention on other levels' trajectories, and their share among the candidates; a panel per variant."""
    tables = {variant: attention_on_others(results, task_set, variant) for variant in variants}
    tables = {variant: found for variant, found in tables.items() if not found[0].empty}
    if not tables:
        return None
    levels = level_order(task for share, _ in tables.values() for task in share)
    kinds = [k for k in PAPER_OTHERS if any(kind(task) == k for task in levels)]
    figure = figures.new_figure(0.27 * (len(levels) + 2.25 * len(kinds)) + 1.35)
    grid = figure.subplots(1, len(tables), sharey=True, squeeze=False)[0]
    grouped = figures.Rows(grid[0])
    means, positions = {}, {}
    for task in levels:
        grouped.header(f"{kind(task)} levels")
        if kind(task) in kinds and kind(task) not in means:
            means[kind(task)] = grouped.row("their mean")
        positions[task] = grouped.row(level_label(task))
    for axes, (variant, (share, candidates)) in zip(grid, tables.items(), strict=True):
        drawn = look(variant)
        for which, position in means.items():
            values = list(by_kind(share, which).values())
            figures.dots_with_interval(axes, values, t_interval(values), position, Look("", INK, "o"), size=3.5)
            axes.plot(PAPER_OTHERS[which], position + 0.36, marker="D", ms=4.5, mfc="white", mec=FAINT, mew=1.2)
        for task, position in positions.items():
            if task in candidates:
                axes.plot(candidates[task].mean(), position, marker="|", ms=12, mew=1.6, color=FAINT)
            if task in share:
                values = share[task].dropna().to_numpy()
                y = position + (np.linspace(-0.12, 0.12, len(values)) if len(values) > 1 else np.zeros(len(values)))
                axes.plot(values, y, ls="none", marker=drawn.marker, ms=4.2, color=drawn.colour, alpha=0.75, mew=0)
        axes.set_xlim(-3, 103)
        axes.set_xlabel("attention on other levels'\ntrajectories, %")
        if len(tables) > 1:
            axes.set_title(textwrap.fill(drawn.label, 22), weight="bold", fontsize=8.5)
    grouped.finish()
    for axes in grid:
        axes.grid(axis="y", visible=False)
    first = look(next(iter(tables)))
    entries = [
        Look("a seed" if len(tables) == 1 else "a seed (coloured)", first.colour, first.marker),
        Look("mean over levels, by seed", INK, "o"),
        Look("share among the candidates", FAINT, "|"),
    ]
    handles = figures.legend_handles(entries, line=False)
    handles[2].set(markersize=11, markeredgewidth=1.6)
    paper = figures.legend_handles([Look("paper", FAINT, "D")], line=False)[0]
    paper.set(markerfacecolor="white", markeredgewidth=1.4)
    figure.legend(handles=[*handles, paper], loc="outside upper center", ncols=2)
    return figure


def interventions(results: Results, task_set: str) -> Figure | None:
    """Success of every probed agent under each intervention, every seed a dot; RDQN's last evaluation as a line."""
    frame = intervention_table(results, task_set)
    changed = frame["variant"].isin(frame["variant"][frame["intervention"] != "own"])
    frame = frame[changed]
    if frame.empty:
        return None
    groups = {}
    for variant in in_order(frame["variant"]):
        here = frame[frame["variant"] == variant]
        scores = {name: intervention_scores(here, name, value="success") for name in here["intervention"].unique()}
        groups[look(variant).label] = (look(variant), scores)
    figure, axes = interventions_strip(groups)
    base = seed_scores(results, task_set, BASELINE)
    if base:
        drawn, mean = look(BASELINE), float(np.mean(list(base.values())))
        axes.axvline(mean, color=drawn.colour, ls=drawn.line, lw=1.4)
        right = mean > 70
        axes.text(mean, -0.1, f"{drawn.label} " if right else f" {drawn.label}", color=drawn.colour, fontsize=8.5,
                  ha="right" if right else "left", va="center", weight="bold")  # fmt: skip
    axes.set_xlim(0, 100)
    axes.set_xlabel("success, %, mean over levels")
    return figure
