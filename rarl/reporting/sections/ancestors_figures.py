"""Figures of episodic control beside the agents that it is the ancestor of."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rarl.reporting import figures, tables
from rarl.reporting.results import Results
from rarl.reporting.sections.ancestors_measures import (
    EPISODIC,
    Family,
    agents_of,
    curve_table,
    look,
    scores,
)
from rarl.reporting.statistics import t_interval


def bars(results: Results, family: Family, shown: list[str]) -> Figure | None:
    """A bar from 0 to the mean of each agent, its interval, every seed a dot; by side, and by game on Atari."""
    groups = {}
    for task_set in shown:
        for side in family.sides:
            title = side or tables.spaced(task_set).replace("_", " ")
            agents = agents_of(results, family, task_set, side)
            found = {a: list(of_one.values()) for a in agents if (of_one := scores(results, family, a, task_set))}
            if found:
                groups[title] = found
    if not groups:
        return None
    figure = figures.new_figure(0.31 * sum(map(len, groups.values())) + 0.4 * len(groups) + 0.85)
    axes = figure.subplots()
    placed = figures.Rows(axes)
    for title, agents in groups.items():
        placed.header(title)
        for agent, values in agents.items():
            drawn, mean = look(family, agent), t_interval(values)
            position = placed.row(drawn.label)
            axes.barh(position, mean.estimate, height=0.62, color=drawn.colour, alpha=0.22, lw=0)
            figures.dots_with_interval(axes, values, mean, position, drawn, hollow=is_episodic(agent.variant))
    placed.finish()
    axes.use_sticky_edges = False
    axes.margins(x=0.04)
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, 0.0) if low < 0 else 0.0, high)
    axes.set_xlabel(f"{family.axis}, mean over {family.many}" if family.environment != "atari" else family.axis)
    return figure


def is_episodic(variant: str) -> bool:
    """Whether it is one of the ancestors."""
    return variant.split("-")[0] in EPISODIC


def curves(results: Results, family: Family, shown: list[str]) -> Figure | None:
    """Score against the environment steps that the agent played; those that learn from datasets as level lines."""
    table = curve_table(results, family)
    panels = [(task_set, side) for task_set in shown for side in family.sides]
    played = table.dropna(subset=["steps"])
    panels = [p for p in panels if any(_of(played, a, p[0]).shape[0] for a in agents_of(results, family, *p))]
    if not panels:
        return None
    columns = min(2, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = figures.new_figure(2.35 * rows + 0.7)
    grid = figure.subplots(rows, columns, sharey=family.environment != "atari", squeeze=False)
    looks = {}
    for axes, (task_set, side) in zip(grid.flat, panels, strict=False):
        for agent in agents_of(results, family, task_set, side):
            drawn = look(family, agent)
            of_one = _of(played, agent, task_set)
            if len(of_one):
                figures.learning_curve(axes, of_one.pivot(index="steps", columns="seed", values="score"), drawn)
            else:
                _level(axes, list(scores(results, family, agent, task_set).values()), drawn)
            looks[drawn.label] = drawn
        axes.set_title(side or tables.spaced(task_set).replace("_", " "), weight="bold")
        axes.set_xlabel("environment steps played")
        figures.thousands(axes)
        axes.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
        if family.environment != "atari":
            axes.set_ylim(0, 1)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for axes in grid[:, 0]:
        axes.set_ylabel(family.axis)
    figure.legend(handles=figures.legend_handles(looks.values()), loc="outside upper center", ncols=min(4, len(looks)))
    return figure


def _of(table, agent, task_set: str):
    """An agent's rows."""
    same = (table["experiment"] == agent.experiment) & (table["variant"] == agent.variant)
    return table[same & (table["task_set"] == task_set)]


def _level(axes: Axes, values: list[float], drawn: figures.Look) -> None:
    """A level line at the mean, with its t band."""
    if not values:
        return
    mean = t_interval(values)
    if mean.known:
        axes.axhspan(mean.low, mean.high, color=drawn.colour, alpha=0.12, lw=0)
    axes.axhline(float(np.mean(values)), color=drawn.colour, ls=drawn.line, lw=1.6)
