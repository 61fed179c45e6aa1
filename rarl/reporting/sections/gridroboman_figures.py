"""Gridroboman's figures on returns: curves, strips, tasks, controls."""

from __future__ import annotations

import math
from collections.abc import Iterable

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rarl.reporting import figures, tables
from rarl.reporting.against_base import Row, against_base
from rarl.reporting.figures import FAINT, INK, PALETTE, Look
from rarl.reporting.results import Results
from rarl.reporting.sections.gridroboman_measures import (
    ALL_TASKS,
    BASELINE,
    EXPERIMENT,
    LABELS,
    TASKS_BY_FAMILY,
    seed_scores,
)
from rarl.reporting.statistics import t_interval

LOOKS = {
    "dqn-hidden": Look(LABELS["dqn-hidden"], PALETTE[0], "o", (0, (5, 1.5))),
    "ra-dqn-hidden": Look(LABELS["ra-dqn-hidden"], PALETTE[1], "s", "-"),
    "dqn-observed": Look(LABELS["dqn-observed"], PALETTE[0], "o", (0, (5, 1.5))),
    "ra-dqn-observed": Look(LABELS["ra-dqn-observed"], PALETTE[1], "s", "-"),
    "no-retrieval": Look(LABELS["no-retrieval"], PALETTE[5], "v", ":"),
    "random-tasks": Look(LABELS["random-tasks"], PALETTE[7], "^", "-."),
    "same-batch": Look(LABELS["same-batch"], PALETTE[2], "P", (0, (1, 1))),
    "oracle": Look(LABELS["oracle"], PALETTE[3], "D", (0, (3, 1, 1, 1))),
}
SIDES = {"hidden": ("dqn-hidden", "ra-dqn-hidden"), "observed": ("dqn-observed", "ra-dqn-observed")}


def look(variant: str) -> Look:
    """How a variant is drawn."""
    return figures.look_of(LOOKS, variant)


def in_order(variants: Iterable[str]) -> list[str]:
    """Known variants first, in the order of LOOKS."""
    return figures.in_order(LOOKS, variants)


def task_sets(frame: pd.DataFrame) -> list[str]:
    """The task sets that a table holds, smallest first."""

    def size(name: str) -> tuple[float, str]:
        head = name.split("-")[0]
        return (int(head) if head.isdigit() else math.inf, name)

    return sorted(set(frame["task_set"]), key=size)


def curve_table(results: Results) -> pd.DataFrame:
    """Rows task_set, variant, seed, update, return_mean: the average over tasks at each evaluation point."""
    frame = results.select(results.evaluations, EXPERIMENT)
    return frame.groupby(["task_set", "variant", "seed", "update"], as_index=False)["return_mean"].mean()


def _curve(axes: Axes, curves: pd.DataFrame, look: Look) -> float:
    """One agent's rows of `curve_table` as a learning curve; returns the mean's last value."""
    return figures.learning_curve(axes, curves.pivot(index="update", columns="seed", values="return_mean"), look)


def learning_curves(results: Results) -> Figure:
    """One column per task set, one row per side (task hidden, task observed)."""
    curves = curve_table(results)
    four = [variant for side in SIDES.values() for variant in side]
    sets = task_sets(curves[curves["variant"].isin(four)])
    rows = [name for name, variants in SIDES.items() if curves["variant"].isin(variants).any()]
    height = 2.15 * len(rows) + 0.45
    figure = figures.new_figure(height)
    grid = figure.subplots(len(rows), len(sets), sharex="col", sharey=True, squeeze=False)
    top, labelled = max(results.expert.values(), default=50.0), True
    for i, side in enumerate(rows):
        for j, task_set in enumerate(sets):
            axes = grid[i, j]
            here = curves[curves["task_set"] == task_set]
            ends = [_curve(axes, here[here["variant"] == variant], look(variant)) for variant in SIDES[side]]
            expert = _expert_mean(results, task_set)
            if math.isfinite(expert):
                axes.axhline(expert, color=FAINT, lw=1, ls=(0, (1, 1.5)))
                axes.text(
                    0.02, expert, "expert", color=FAINT, fontsize=8, va="bottom", transform=axes.get_yaxis_transform()
                )
            axes.set_ylim(0, max(50.0, top))
            figures.thousands(axes)
            if i == 0:
                axes.set_title(tables.spaced(task_set), weight="bold")
            if i == len(rows) - 1:
                axes.set_xlabel("learner updates")
            if j == len(sets) - 1:
                colours = [look(variant).colour for variant in SIDES[side]]
                figures.label_ends(axes, zip(ends, ("DQN", "RA-DQN"), colours, strict=True), 1.7)
                labelled &= all(map(math.isfinite, ends))
        grid[i, 0].set_ylabel(f"task {side}\naverage return")
    if not labelled:  # a line that does not reach the last column still needs its name
        looks = [Look(name, look(v).colour, look(v).marker, look(v).line) for name, v in _agents(curves)]
        figure.legend(handles=figures.legend_handles(looks), loc="outside upper center", ncols=len(looks))
    return figure


def _agents(curves: pd.DataFrame) -> list[tuple[str, str]]:
    return [
        (name, variants[0])
        for name, variants in (
            ("DQN", ("dqn-hidden", "dqn-observed")),
            ("RA-DQN", ("ra-dqn-hidden", "ra-dqn-observed")),
        )
        if curves["variant"].isin(variants).any()
    ]


def _expert_mean(results: Results, task_set: str) -> float:
    frame = results.select(results.last, EXPERIMENT, task_set).drop_duplicates("task")
    values = frame["expert"].astype(float)
    return float(values.mean()) if len(values) and values.notna().all() else math.nan


def all_curves(results: Results) -> Figure:
    """Every variant on the largest task set, in one panel, labelled at the line's end."""
    curves = curve_table(results)
    task_set = ALL_TASKS if (curves["task_set"] == ALL_TASKS).any() else task_sets(curves)[-1]
    curves = curves[curves["task_set"] == task_set]
    figure = figures.new_figure(3.6)
    axes = figure.subplots()
    ends = []
    for variant in in_order(curves["variant"]):
        drawn = look(variant)
        if variant.endswith("-observed"):
            drawn = Look(drawn.label, drawn.colour, "*" if drawn.marker == "o" else "P", ":")
        ends.append((_curve(axes, curves[curves["variant"] == variant], drawn), drawn.label, drawn.colour))
    axes.set_ylim(0, 50)
    figures.thousands(axes)
    axes.set_xlabel("learner updates")
    axes.set_ylabel("average return")
    figures.label_ends(axes, ends, 3.0)
    return figure


def aggregate_strip(results: Results) -> Figure:
    """Normalised return of every seed, per task set and variant."""
    rows = [
        (task_set, variant)
        for task_set in task_sets(results.select(results.last, EXPERIMENT))
        for variant in in_order(results.select(results.last, EXPERIMENT, task_set)["variant"])
        if seed_scores(results, task_set, variant)
    ]
    figure = figures.new_figure(0.27 * len(rows) + 1.0)
    axes = figure.subplots()
    labels, positions, position, previous = [], [], 0.0, None
    for task_set, variant in rows:
        position += 1.0 if task_set == previous or previous is None else 1.9
        if task_set != previous:
            axes.text(-0.01, position - 0.75, tables.spaced(task_set), weight="bold", ha="right", va="center",
                      transform=axes.get_yaxis_transform())  # fmt: skip
            position += 0.15
        values = list(seed_scores(results, task_set, variant).values())
        figures.dots_with_interval(
            axes, values, t_interval(values), position, look(variant), hollow="observed" in variant
        )
        labels.append(look(variant).label)
        positions.append(position)
        previous = task_set
    axes.set_yticks(positions, labels)
    axes.set_ylim(position + 0.7, -0.1)
    axes.axvline(1, color=FAINT, lw=1, ls=(0, (1, 1.5)))
    axes.set_xlim(0, 1.06)
    axes.text(
        0.99, 0.02, "expert", color=FAINT, fontsize=8, ha="right", va="bottom", transform=axes.get_xaxis_transform()
    )
    axes.set_xlabel("mean over tasks of return / expert's return, last evaluation")
    axes.grid(axis="y", visible=False)
    return figure


def per_task(results: Results) -> Figure:
    """Return per task, each seed a dot, with the expert; tasks grouped by family; hidden and observed side by side."""
    frame = results.select(results.last, EXPERIMENT, ALL_TASKS)
    known = set(frame["task"])
    tasks = [task for task in TASKS_BY_FAMILY if task.slug in known]
    unknown = sorted(known - {task.slug for task in tasks})
    sides = [name for name, variants in SIDES.items() if frame["variant"].isin(variants).any()]
    rows = [(task.slug, task.name, task.family) for task in tasks] + [(slug, slug, "other") for slug in unknown]
    positions, position = {}, 0.0
    for k, (slug, _, family) in enumerate(rows):
        position += 1.0 if k == 0 or rows[k - 1][2] == family else 1.5
        positions[slug] = position
    figure = figures.new_figure(0.225 * position + 1.1)
    grid = figure.subplots(1, len(sides), sharey=True, squeeze=False)[0]
    for axes, side in zip(grid, sides, strict=True):
        for offset, variant in zip((-0.2, 0.2), SIDES[side], strict=True):
            returns = frame[frame["variant"] == variant].set_index("task")["return_mean"]
            figures.dots_per_task(axes, returns, positions, look(variant), offset=offset, tick=7)
        expert = frame.drop_duplicates("task").set_index("task")["expert"].astype(float)
        axes.plot(expert, expert.index.map(positions), ls="none", marker="|", ms=11, mew=1.1, color=INK)
        axes.set_title(f"task {side}", weight="bold")
        axes.set_xlim(-1, 51)
        axes.set_xlabel("return (at most 50)")
    grid[0].set_yticks(list(positions.values()), [name for _, name, _ in rows])
    grid[0].set_ylim(position + 0.8, 0.2)
    looks = [Look(name, look(v).colour, look(v).marker) for name, v in _agents(frame)]
    looks.append(Look("expert", INK, "|"))
    figure.legend(handles=figures.legend_handles(looks, line=False), loc="outside upper center", ncols=len(looks))
    return figure


def controls(results: Results) -> Figure:
    """Difference from DQN with the task hidden, on all tasks: seeds, means and Welch intervals."""
    base = list(seed_scores(results, ALL_TASKS, BASELINE).values())
    variants = in_order(results.select(results.last, EXPERIMENT, ALL_TASKS)["variant"])
    scores = {variant: list(seed_scores(results, ALL_TASKS, variant).values()) for variant in variants}
    rows = [Row(look(v), values, base, hollow="observed" in v) for v, values in scores.items() if values]
    xlabel = "difference from DQN with the task hidden,\nshare of the expert's return"
    return against_base({"": rows}, look(BASELINE), xlabel)
