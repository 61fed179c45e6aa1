"""Task by task: every seed of every agent."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from rarl.envs.spec import MEASURED_ON_DATA
from rarl.reporting import figures, tables
from rarl.reporting.figures import Look
from rarl.reporting.results import spelled
from rarl.reporting.sheet import Sheet
from rarl.reporting.study import Study


def write(study: Study, sheet: Sheet) -> None:
    """A figure where one network learns several tasks, and every run's every task as numbers."""
    last = study.results.select(study.results.last, study.name)
    if last.empty:
        return
    noun = study.spec.task_noun
    panels = _panels(study)
    group_of = {spelled(task): group for group, tasks_ in study.spec.task_groups.items() for task in tasks_}
    steps = last["run"].map({run: study.steps_per_update(run) for run in last["run"].unique()})
    last = last.assign(group=last["task"].map(group_of), steps=last["update"] * steps.astype(float))
    columns = ["task_set", "variant", "seed", "task", "group", "episodes", "update", "steps", "return_mean",
               "return_std", "success_rate", *MEASURED_ON_DATA, "expert", "score"]  # fmt: skip
    frame = last[[name for name in columns if name in last]].dropna(axis=1, how="all")
    if study.spec.one_task or last["task"].nunique() < 2 or not panels:
        sheet.numbers(f"{study.name}-tasks", frame, f"Every run, every {noun}")
        return
    sheet.heading(f"Scores by {noun}")
    sheet.figure(
        f"{study.name}-tasks",
        by_task(study, panels, study.score.label, study.score.ends, study.score.marks),
        frame,
        f"Final scores ({study.score.label}) on each {noun}, every seed a dot.",
        "Last evaluation. Dots: seeds. Ticks: means.",
    )


def _panels(study: Study) -> dict[str, dict[Look, pd.Series]]:
    """Title -> look -> scores by task: the groups of the largest task set; without groups, all task sets."""
    sets = study.used_sets
    groups = study.groups_on(sets[-1]) if sets else {}
    chosen = (
        {header: (sets[-1], variants) for header, variants in groups.items()}
        if len(groups) > 1
        else {study.set_title(s): (s, study.variants_on(s, sweeps=False)) for s in sets}
    )
    return {
        title: {v.look: stacked(study.table(v, task_set)) for v in variants}
        for title, (task_set, variants) in chosen.items()
    }


def stacked(table: pd.DataFrame) -> pd.Series:
    """(seeds, tasks) -> by task, one value per seed."""
    return table.stack().reset_index(level=0, drop=True)


def by_task(
    study: Study,
    panels: Mapping[str, Mapping[Look, pd.Series]],
    xlabel: str,
    ends: tuple[float, float] | None = None,
    marks: Mapping[str, float] | None = None,
    chance: Mapping[str, pd.Series] | None = None,
) -> Figure:
    """Rows of tasks in the environment's groups, a panel per title; every value a dot, its agent's mean a tick.

    Args:
      panels: title -> look -> values by task, one per seed.
      marks: name -> value, vertical lines.
      chance: title -> values by task, grey ticks.
    """
    order = study.task_order(task for drawn in panels.values() for values in drawn.values() for task in values.index)
    agents, count = max(map(len, panels.values())), sum(map(len, order.values()))
    figure = figures.new_figure(max(0.21, 0.075 * agents) * count + 0.3 * len(order) + 1.2)
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    placed = figures.Rows(grid[0], header=0.75)
    positions: dict[str, float] = {}
    for header, tasks in order.items():
        if header:
            placed.header(header)
        positions |= {task: placed.row(tables.spaced(task)) for task in tasks}
    looks: dict[tuple, Look] = {}
    for axes, (title, drawn) in zip(grid, panels.items(), strict=True):
        offsets = np.linspace(-0.3, 0.3, len(drawn)) if len(drawn) > 1 else [0.0]
        rows = [(values, look.marker, look.colour, offset)
                for offset, (look, values) in zip(offsets, drawn.items(), strict=True)]  # fmt: skip
        for values, marker, colour, offset in rows:
            y = values.index.map(positions).to_numpy(dtype=float) + offset
            axes.plot(values, y, ls="none", marker=marker, ms=3.4, color=colour, alpha=0.6, mew=0)
        for values, _, colour, offset in [*rows, *([(chance[title], "", figures.FAINT, 0.0)] if chance else [])]:
            means = values.groupby(level=0).mean()
            y = means.index.map(positions).to_numpy(dtype=float) + offset
            axes.plot(means, y, ls="none", marker="|", ms=7, mew=2, color=colour)
        looks |= {(look.within(title).label, look.colour): look.within(title) for look in drawn}
        if ends is not None:
            axes.set_xlim(ends[0] - 0.03 * (ends[1] - ends[0]), ends[1] + 0.03 * (ends[1] - ends[0]))
        axes.set_title(title, weight="bold", fontsize=9)
        lines = np.array(list(positions.values())) + 0.5
        axes.hlines(lines, 0, 1, color=figures.GRID, lw=0.7, zorder=0, transform=axes.get_yaxis_transform())
    placed.finish()
    for axes in grid:
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        figures.marks(axes, marks or {}, across=False, labels=False)
    figure.supxlabel(xlabel, fontsize=9)
    figures.legend(figure, looks.values(), line=False)
    return figure
