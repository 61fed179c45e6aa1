"""Gridroboman's figures on what retrieval does: interventions and attention."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from rarl.reporting import figures, tables
from rarl.reporting.claims import Settings
from rarl.reporting.figures import FAINT, INK, PALETTE, Look
from rarl.reporting.results import Results
from rarl.reporting.scores import intervention_scores
from rarl.reporting.sections.gridroboman_measures import (
    ALL_TASKS,
    EXPERIMENT,
    LABELS,
    PROBED,
    amount_of,
    intervention_table,
    seed_scores,
)
from rarl.reporting.statistics import Interval, t_interval, welch_interval

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
    # Those that leave less data have a figure of their own.
    others = {name for name in frame["intervention"] if name not in known and amount_of(name) is None}
    names = known + sorted(others)
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
    axes.set_yticks(list(y), list(map(tables.spaced, values.index)))
    axes.set_ylim(-0.7, len(values) - 0.3)
    axes.set_xlim(0, 1)
    axes.set_xlabel("retrieved states at which the task's condition holds")
    figure.legend(loc="outside upper center", ncols=2)
    return figure


def candidate_causes(results: Results, settings: Settings) -> list[list[Any] | None]:
    """Rows (question, what was measured, seeds, value) on the gap to the oracle; None where nothing was measured."""
    seen = attention_table(results)
    seen = seen[seen["variant"] == PROBED] if len(seen) else seen

    def of_probe(quantity: str, question: str, measured: str) -> list[Any] | None:
        values = seen["value"][seen["quantity"] == quantity] if len(seen) else []
        return _row(question, measured, t_interval(values, settings.level)) if len(values) else None

    def difference(a: str, b: str, question: str, measured: str) -> list[Any] | None:
        scores = [list(seed_scores(results, ALL_TASKS, variant).values()) for variant in (a, b)]
        if not all(scores):
            return None
        return _row(question, measured, welch_interval(*scores, settings.level), signed=True)

    def _row(question: str, measured: str, value: Interval, signed: bool = False) -> list[Any]:
        return [question, measured, tables.seeds(value.n), tables.interval(value, signed=signed)]

    return [
        of_probe(
            "task_named",
            "… what is retrieved does not tell the task?",
            "share of fresh retrieval batches whose task a linear rule names from z alone",
        ),
        of_probe(
            "goal_state_share",
            "… the wrong trajectories are chosen?",
            "share of retrieved states at which the task's condition holds",
        ),
        of_probe(
            "goal_state_mass",
            "… attention looks at the wrong states?",
            "attention on those states (the share above is what looking everywhere gives)",
        ),
        of_probe(
            "effective_states",
            "… attention chooses too much?",
            "number of states over which attention spreads",
        ),
        difference(
            "same-batch",
            PROBED,
            "… what is read varies too much from batch to batch?",
            "gain in normalised return if the batch of each task is never redrawn",
        ),
        difference(
            "oracle",
            "same-batch",
            "… z is learned too slowly, or in a form that is hard to act on?",
            "what the oracle gains beyond that: its z is free to be whatever helps, and learns at the full rate",
        ),
        *(_late_gain(results, settings, variant, _row) for variant in (PROBED, "oracle")),
    ]


def _late_gain(results: Results, settings: Settings, variant: str, row) -> list[Any] | None:
    """How much of the last return came in the last quarter of the updates."""
    frame = results.select(results.evaluations, EXPERIMENT, ALL_TASKS, variant)
    if frame.empty:
        return None
    curve = frame.groupby(["seed", "update"])["return_mean"].mean().unstack("update")
    before = [update for update in curve.columns if update <= 0.75 * curve.columns[-1]]
    if not before:
        return None
    gain = (curve.iloc[:, -1] - curve[before[-1]]) / curve.iloc[:, -1]
    label = LABELS.get(variant, variant)
    return row(
        f"… there were too few updates? ({label})",
        "share of the last return that was gained in the last quarter of the updates",
        t_interval(gain, settings.level),
    )
