"""Agents as differences from a base agent, the form of the paper's figure 3: every seed, means and intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from rarl.reporting import figures
from rarl.reporting.figures import Look
from rarl.reporting.statistics import Interval, t_interval, welch_interval


class Row(NamedTuple):
    """One agent. scores: one per seed. base: those of the agent it is set against. hollow: how its dots are drawn."""

    look: Look
    scores: Sequence[float]
    base: Sequence[float]
    hollow: bool = False


def against_base(
    groups: Mapping[str, Sequence[Row]], base: Look, xlabel: str, *, band: tuple[Look, Interval] | None = None
) -> Figure:
    """One row per agent: its seeds less the mean of the base agent, their mean, the Welch interval of the difference.

    The base agent's own row, if it is among them, has the t interval of its mean.

    Args:
      groups: header -> rows; the header "" is not shown.
      base: whose line is at 0.
      band: an agent to see all others against, and the interval of its difference from the base agent.
    """
    count = sum(map(len, groups.values()))
    figure = figures.new_figure(0.33 * count + 0.34 * sum(map(bool, groups)) + 1.1)
    axes = figure.subplots()
    placed = figures.Rows(axes)
    for header, members in groups.items():
        if header:
            placed.header(header)
        for row in members:
            zero = float(np.mean(row.base))
            shifted = [score - zero for score in row.scores]
            own = row.look == base
            interval = t_interval(shifted) if own else welch_interval(list(row.scores), list(row.base))
            figures.dots_with_interval(axes, shifted, interval, placed.row(row.look.label), row.look, hollow=row.hollow)
    placed.finish()
    axes.axvline(0, color=base.colour, lw=1.6, ls=base.line)
    if band is not None:
        look, interval = band
        if interval.known:
            axes.axvspan(interval.low, interval.high, color=look.colour, alpha=0.1, lw=0, zorder=0)
        axes.axvline(interval.estimate, color=look.colour, lw=1, alpha=0.6, zorder=1)
    axes.set_xlabel(xlabel)
    return figure
