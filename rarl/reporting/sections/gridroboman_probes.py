"""Gridroboman's figures on what retrieval does: interventions, swapped datasets, attention."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from rarl.envs.gridroboman.tasks import FAMILIES, TASKS
from rarl.reporting import figures
from rarl.reporting.figures import FAINT, INK, PALETTE, Look
from rarl.reporting.results import Results
from rarl.reporting.scores import intervention_scores
from rarl.reporting.sections.gridroboman_measures import ALL_TASKS, EXPERIMENT, intervention_table, seed_scores
from rarl.reporting.statistics import t_interval

PROBED = "ra-dqn-hidden"
INTERVENTIONS = {
    "own": Look("own dataset", PALETTE[1], "s"),
    "removed": Look("nothing retrieved", PALETTE[5], "v"),
    "shuffled": Look("states shuffled", PALETTE[6], "^"),
    "swapped": Look("another task's dataset,\non the task in play", PALETTE[3], "D"),
    "swapped-given": Look("another task's dataset,\non the dataset's task", PALETTE[3], "o"),
}


def interventions(results: Results) -> Figure:
    """The probed agent's normalised return under each intervention, every seed a dot; DQN hidden as a line."""
    frame = intervention_table(results, ALL_TASKS, PROBED)
    known = [name for name in INTERVENTIONS if (frame["intervention"] == name).any()]
    names = known + sorted(set(frame["intervention"]) - set(known))
    figure = figures.new_figure(0.46 * len(names) + 0.9)
    axes = figure.subplots()
    for position, name in enumerate(names):
        drawn = INTERVENTIONS.get(name) or figures.spare_look(name, position)
        values = list(intervention_scores(frame, name).values())
        figures.dots_with_interval(axes, values, t_interval(values), position, drawn)
    axes.set_ylim(len(names) - 0.4, -0.6)
    base = seed_scores(results, ALL_TASKS, "dqn-hidden")
    if base:
        mean = float(np.mean(list(base.values())))
        axes.axvline(mean, color=PALETTE[0], ls=(0, (5, 1.5)), lw=1.4)
        axes.text(mean, -0.52, " DQN, task hidden", color=PALETTE[0], fontsize=8.5, va="top", weight="bold")
    axes.set_yticks(range(len(names)), [INTERVENTIONS[n].label if n in INTERVENTIONS else n for n in names])
    axes.set_xlim(left=0)
    axes.set_xlabel("mean over tasks of return / expert's return")
    axes.grid(axis="y", visible=False)
    return figure


def swap_matrix(results: Results) -> pd.DataFrame:
    """(given task, task measured on): normalised return, mean over seeds; own dataset on the diagonal. May be empty."""
    frame = intervention_table(results, ALL_TASKS, PROBED)
    swapped = frame[frame["intervention"] == "swapped"]
    if swapped.empty:
        return pd.DataFrame()
    own = frame[frame["intervention"] == "own"].assign(given_task=lambda x: x["task"])
    rows = pd.concat([swapped, own], ignore_index=True)
    matrix = rows.pivot_table(index="given_task", columns="task", values="normalised", aggfunc="mean")
    order = [t.slug for family in FAMILIES for t in TASKS if t.family == family]
    tasks = [t for t in order if t in matrix.index or t in matrix.columns]
    return matrix.reindex(index=tasks, columns=tasks).astype(float)


def swap_heatmap(matrix: pd.DataFrame) -> Figure:
    """`swap_matrix` as a heat map with the values written in where there is room."""
    names = [str(task).replace("-", " ") for task in matrix.index]
    n = len(names)
    figure = figures.new_figure(max(3.4, min(5.0, 1.6 + 0.17 * n)))
    axes = figure.subplots()
    image = axes.imshow(matrix.to_numpy(), cmap="cividis", vmin=0, vmax=1, aspect="equal")
    size = 8.5 if n <= 12 else 6.5
    axes.set_facecolor("#eeeeee")  # what was not measured
    axes.set_xticks(range(n), names, rotation=90, fontsize=size)
    axes.set_yticks(range(n), names, fontsize=size)
    axes.set_xlabel("task that the return is measured on")
    axes.set_ylabel("task whose dataset is given")
    axes.grid(visible=False)
    if n <= 12:
        for i in range(n):
            for j in range(n):
                value = matrix.iat[i, j]
                if math.isfinite(value):
                    ink = "white" if value < 0.5 else "black"
                    axes.text(j, i, f"{value:.1f}", ha="center", va="center", fontsize=7.5, color=ink)
    figure.colorbar(image, ax=axes, label="share of the expert's return", shrink=0.7)
    return figure


def attention_table(results: Results) -> pd.DataFrame:
    """Rows variant, quantity, seed, value: the mean over tasks."""
    frame = results.select(results.attention, EXPERIMENT, ALL_TASKS).copy()
    frame["value"] = frame["value"].astype(float)
    return frame.groupby(["variant", "quantity", "seed"], as_index=False)["value"].mean()


def goal_attention(results: Results) -> Figure | None:
    """Per task: share of goal states among the candidates, and attention on them; None without such numbers."""
    frame = results.select(results.attention, EXPERIMENT, ALL_TASKS, PROBED)
    frame = frame[frame["quantity"].isin(["goal_state_mass", "goal_state_share"])]
    values = frame.astype({"value": float}).pivot_table(
        index="task", columns="quantity", values="value", aggfunc="mean"
    )
    if not {"goal_state_mass", "goal_state_share"} <= set(values.columns):
        return None
    values = values.dropna().sort_values("goal_state_mass")
    if values.empty:
        return None
    figure = figures.new_figure(0.19 * len(values) + 1.1)
    axes = figure.subplots()
    y = range(len(values))
    axes.hlines(y, values["goal_state_share"], values["goal_state_mass"], color=FAINT, lw=1.2)
    axes.plot(
        values["goal_state_share"], y, ls="none", marker="o", mfc="white", mec=INK, ms=5, label="share among candidates"
    )
    axes.plot(values["goal_state_mass"], y, ls="none", marker="s", color=PALETTE[1], ms=5, label="attention on them")
    axes.set_yticks(list(y), [str(task).replace("-", " ") for task in values.index])
    axes.set_ylim(-0.7, len(values) - 0.3)
    axes.set_xlim(0, 1)
    axes.set_xlabel("retrieved states at which the task's condition holds")
    figure.legend(loc="outside upper center", ncols=2)
    return figure
