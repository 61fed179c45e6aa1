"""Atari's figures: learning curves, human-normalised scores, interventions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rarl.envs.atari.scores import table
from rarl.reporting import figures
from rarl.reporting.figures import FAINT, PALETTE, Look
from rarl.reporting.interventions import interventions_strip
from rarl.reporting.results import Results
from rarl.reporting.scores import intervention_scores
from rarl.reporting.sections.atari_measures import (
    LABELS,
    Game,
    curve_table,
    intervention_table,
    seed_scores,
)
from rarl.reporting.statistics import t_interval

LOOKS = {
    "r2d2": Look(LABELS["r2d2"], PALETTE[0], "o", (0, (5, 1.5))),
    "ra-r2d2": Look(LABELS["ra-r2d2"], PALETTE[1], "s", "-"),
    "dqn": Look(LABELS["dqn"], PALETTE[7], "D", (0, (1, 1))),
    "ra-dqn": Look(LABELS["ra-dqn"], PALETTE[6], "^", (0, (3, 1, 1, 1))),
    "no-retrieval": Look(LABELS["no-retrieval"], PALETTE[5], "v", "-."),
}
_DOTTED, _DASHED = (0, (1, 1.5)), (0, (6, 3))
_STRETCH = 1.5  # how many times the height of the curves a panel may grow to show the human's score


def look(variant: str) -> Look:
    """How a variant is drawn."""
    return figures.look_of(LOOKS, variant)


def in_order(variants: Iterable[str]) -> list[str]:
    """Known variants first."""
    return figures.in_order(LOOKS, variants)


def learning_curves(results: Results, shown: Sequence[Game]) -> Figure:
    """Mean episode score against frames: one panel per game, three in a row, with random play and the human."""
    curves = curve_table(results)
    columns = min(3, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure = figures.new_figure(2.05 * rows + 0.6)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, game in zip(grid.flat, shown, strict=False):
        here = curves[curves["task_set"] == game.task_set]
        for variant in in_order(here["variant"]):
            of_one = here[here["variant"] == variant].dropna(subset=["frames"])
            figures.learning_curve(axes, of_one.pivot(index="frames", columns="seed", values="score"), look(variant))
        axes.set_title(game.title, weight="bold")
        figures.thousands(axes)
        axes.xaxis.set_major_locator(MaxNLocator(2, steps=[1, 2, 5, 10]))
        if game.name:
            _references(axes, game, here["score"])
    for axes in grid.flat[len(shown) :]:
        axes.set_axis_off()
    for axes in grid[:, 0]:
        axes.set_ylabel("score")
    for i, axes in enumerate(grid.flat[: len(shown)]):
        if i + columns >= len(shown):
            axes.set_xlabel("frames")
    looks = [look(variant) for variant in in_order(curves["variant"])]
    figure.legend(handles=figures.legend_handles(looks), loc="outside upper center", ncols=min(3, len(looks)))
    return figure


def _references(axes: Axes, game: Game, scores: pd.Series) -> None:
    """Lines for random play and, where there is room, for the human; else how far away the human is."""
    marks = table()[game.name]
    low, high = min(scores.min(), marks.random), max(scores.max(), marks.random)
    span = max(high - low, 0.02 * abs(marks.human - marks.random))
    in_reach = marks.human <= high + _STRETCH * span
    if in_reach:
        low, high = min(low, marks.human), max(high, marks.human)
        span = max(span, high - low)
    axes.set_ylim(low - 0.16 * span, high + 0.16 * span)
    transform = axes.get_yaxis_transform()
    for value, line, name in ((marks.random, _DOTTED, "random"), (marks.human, _DASHED, "human")):
        if name == "random" or in_reach:
            axes.axhline(value, color=FAINT, lw=1, ls=line, zorder=1)
            axes.text(0.98, value, name, color=FAINT, fontsize=7.5, ha="right", va="top", transform=transform)
    if not in_reach:
        axes.text(
            0.98, 0.98, f"human: {marks.human:,.10g} ↑", color=FAINT, fontsize=7.5, ha="right", va="top",
            transform=axes.transAxes,
        )  # fmt: skip


def human_normalised_bars(results: Results, shown: Sequence[Game]) -> Figure | None:
    """Per game and agent: a bar from random play to the mean over seeds, its interval, every seed a dot."""
    groups = {
        game.title: {variant: list(scores.values()) for variant in in_order(_variants(results))
                     if (scores := seed_scores(results, game.task_set, variant))}
        for game in shown if game.name
    }  # fmt: skip
    groups = {title: agents for title, agents in groups.items() if agents}
    if not groups:
        return None
    figure = figures.new_figure(0.27 * sum(len(agents) for agents in groups.values()) + 0.42 * len(groups) + 0.85)
    axes = figure.subplots()
    rows = figures.Rows(axes)
    for title, agents in groups.items():
        rows.header(title)
        for variant, values in agents.items():
            position, mean = rows.row(look(variant).label), t_interval(values)
            axes.barh(position, mean.estimate, height=0.62, color=look(variant).colour, alpha=0.22, lw=0)
            figures.dots_with_interval(axes, values, mean, position, look(variant))
    rows.finish()
    _random_and_human(axes)
    return figure


def _variants(results: Results) -> list[str]:
    return sorted(set(curve_table(results)["variant"]))


def _random_and_human(axes: Axes) -> None:
    """Lines at 0 and, where the axis reaches there, at 1."""
    axes.use_sticky_edges = False
    axes.margins(x=0.04)
    low, high = axes.get_xlim()
    high = 1.05 if 0.6 < high < 1.05 else high
    axes.set_xlim(min(low, -0.02 * high), max(high, 0.0))
    axes.xaxis.set_major_locator(MaxNLocator(6))
    for value, line, name in ((0, _DOTTED, "random"), (1, _DASHED, "human")):
        if value <= high:
            axes.axvline(value, color=FAINT, lw=1, ls=line, zorder=1)
            axes.text(value, 1.0, name, color=FAINT, fontsize=8, ha="center", va="bottom",
                      transform=axes.get_xaxis_transform())  # fmt: skip
    axes.set_xlabel("human-normalised score")


def interventions(results: Results, shown: Sequence[Game]) -> Figure | None:
    """Human-normalised score of every probed agent that retrieves, under each intervention, game by game."""
    frame = intervention_table(results)
    groups = {}
    for game in shown:
        here = frame[frame["task_set"] == game.task_set]
        for variant in in_order(here["variant"][here["intervention"] != "own"]):
            of_one = here[here["variant"] == variant]
            scores = {name: intervention_scores(of_one, name, value="human_normalised")
                      for name in of_one["intervention"].unique()}  # fmt: skip
            groups[f"{game.title}: {look(variant).label}"] = (look(variant), scores)
    if not groups:
        return None
    figure, axes = interventions_strip(groups)
    _random_and_human(axes)
    return figure
