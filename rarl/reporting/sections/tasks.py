"""Task by task."""

from __future__ import annotations

import pandas as pd
import seaborn
from matplotlib.figure import Figure

from rarl.envs.spec import MEASURED_ON_DATA
from rarl.reporting import charts, figures, tables
from rarl.reporting.results import spelled
from rarl.reporting.sheet import Sheet
from rarl.reporting.study import Study

_COLUMNS = ["task_set", "variant", "seed", "task", "group", "episodes", "update", "steps", "return_mean", "return_std",
            "success_rate", *MEASURED_ON_DATA, "expert", "score"]  # fmt: skip


def write(study: Study, sheet: Sheet) -> None:
    """A heat map where one network learns several tasks, and every run's every task as numbers."""
    last = study.rows(study.results.last)
    group_of = {spelled(task): group for group, members in study.spec.task_groups.items() for task in members}
    last = last.assign(group=last["task"].map(group_of), steps=study.steps(last))
    frame = last[[name for name in _COLUMNS if name in last]].dropna(axis=1, how="all")
    noun, task_set = study.spec.task_noun, study.used_sets[-1]
    if study.spec.one_task or last["task"].nunique() < 2:
        sheet.numbers(f"{study.name}-tasks", frame, f"Every run, every {noun}")
        return
    sheet.heading(f"Scores by {noun}")
    means = pd.DataFrame({v.label: study.table(v, task_set).mean() for v in study.variants_on(task_set, sweeps=False)})
    sheet.figure(
        f"{study.name}-tasks",
        by_task(study, means),
        frame,
        f"Heat map of final scores ({study.score.label}): rows are {noun}s, columns agents.",
        f"{study.set_title(task_set)}, {study.score.label}, last evaluation, mean over seeds.",
        charts.tasks(study),
    )


def by_task(study: Study, means: pd.DataFrame) -> Figure:
    """(tasks, columns) -> a heat map, tasks in the environment's groups."""
    order = [task for members in study.task_order(means.index).values() for task in members]
    figure = figures.new_figure(0.22 * len(order) + 2.1)
    axes = figure.subplots()
    ends = study.score.ends or (None, None)
    seaborn.heatmap(
        means.loc[order], annot=True, fmt=f".{min(study.score.digits, 2)}f", cmap="cividis", ax=axes, vmin=ends[0],
        vmax=ends[1], cbar=False, annot_kws={"fontsize": 9}, yticklabels=list(map(tables.spaced, order)),
    )  # fmt: skip
    axes.set(xlabel="", ylabel="")
    axes.tick_params(length=0, labelrotation=0)
    axes.set_xticks(axes.get_xticks(), list(means.columns), rotation=40, ha="right", rotation_mode="anchor")
    axes.grid(visible=False)
    return figure
