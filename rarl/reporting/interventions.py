"""What agents do when what they retrieve from is changed at evaluation: the figure of any experiment."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rarl.reporting import figures
from rarl.reporting.figures import Look
from rarl.reporting.statistics import t_interval

NAMES = {
    "own": "as trained",
    "removed": "nothing retrieved",
    "shuffled": "states shuffled",
    "others": "other levels only",
}


def interventions_strip(groups: Mapping[str, tuple[Look, Mapping[str, Mapping[int, float]]]]) -> tuple[Figure, Axes]:
    """Every seed a dot, with the mean and its interval; the axes' labels are left to the caller.

    Args:
      groups: header -> (look, intervention -> seed -> score).
    """
    figure = figures.new_figure(0.3 * sum(1.2 + len(scores) for _, scores in groups.values()) + 0.8)
    axes = figure.subplots()
    rows = figures.Rows(axes)
    for header, (look, scores) in groups.items():
        rows.header(header)
        for name in figures.in_order(NAMES, scores):
            position, values = rows.row(NAMES.get(name, name)), list(scores[name].values())
            figures.dots_with_interval(axes, values, t_interval(values), position, look, hollow=name != "own")
    rows.finish()
    return figure, axes
