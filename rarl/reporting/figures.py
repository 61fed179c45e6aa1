"""The look of every figure, and files that are equal byte for byte when the numbers are.

Colours are petroff10 (best worst-case distance for colour-blind readers); each agent also has a marker and a line
style, so that nothing is told by colour alone. Figures are narrow (WIDTH): their text stays readable on a phone.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from rarl.files import atomic_writer
from rarl.reporting.statistics import Interval, t_interval

WIDTH = 5.8  # inches
INK = "#333333"
FAINT = "#8a8a8a"
PALETTE = (
    "#3f90da",
    "#bd1f01",
    "#ffa90e",
    "#832db6",
    "#94a4a2",
    "#a96b59",
    "#e76300",
    "#717581",
    "#b9ac70",
    "#92dadd",
)
_SPARE_MARKERS = ("P", "X", "<", ">", "h", "*")
_STYLE = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "axes.edgecolor": FAINT,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "text.parse_math": False,  # names are text, whatever they hold
    "axes.labelcolor": INK,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "svg.hashsalt": "rarl",
    "svg.fonttype": "path",
    "figure.constrained_layout.use": True,
}


@dataclass(frozen=True)
class Look:
    """How one agent is drawn everywhere."""

    label: str
    colour: str
    marker: str
    line: str | tuple = "-"


def spare_look(name: str, i: int = 0) -> Look:
    """A look for an agent that no section knows."""
    return Look(name, PALETTE[(4 + i) % len(PALETTE)], _SPARE_MARKERS[i % len(_SPARE_MARKERS)], "-.")


def look_of(looks: Mapping[str, Look], name: str) -> Look:
    """How a variant is drawn; one that the section does not know gets a spare look."""
    return looks.get(name) or spare_look(name, sum(map(ord, name)))


def in_order(known: Iterable[str], names: Iterable[str]) -> list[str]:
    """Each name once: known ones first, in the order of `known`."""
    known = list(known)
    return sorted(set(names), key=lambda v: (known.index(v) if v in known else len(known), v))


@contextmanager
def style() -> Iterator[None]:
    """All drawing and saving happens inside."""
    with matplotlib.style.context("petroff10"), mpl.rc_context(_STYLE):
        yield


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """An empty figure, without pyplot and its global state."""
    figure = Figure(figsize=(min(width, WIDTH), height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def stamp(figure: Figure, text: str) -> None:
    """A warning across the figure that cannot be cropped away from the numbers."""
    figure.text(
        0.5,
        0.5,
        text,
        rotation=25,
        ha="center",
        va="center",
        fontsize=34,
        color="#bd1f01",
        alpha=0.22,
        weight="bold",
        zorder=99,
    )


def save(figure: Figure, stem: str | Path, formats: Sequence[str] = ("svg", "png")) -> list[Path]:
    """Write `stem`.svg and `stem`.png; both are byte-stable."""
    paths = []
    figure.set_dpi(160)
    engine = figure.get_layout_engine()
    if engine is not None:  # once for all formats; savefig would do it twice for each, and draw each once in vain
        engine.execute(figure)
        figure.set_layout_engine("none")
    for kind in formats:
        buffer = io.BytesIO()
        figure.set_dpi(160)  # which drawing an SVG changes
        if kind == "svg":
            FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None})
        else:
            FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
        path = Path(f"{stem}.{kind}")
        with atomic_writer(path, "wb") as file:
            file.write(buffer.getvalue())
        paths.append(path)
    return paths


def spread(positions: Sequence[float], gap: float, low: float = -math.inf, high: float = math.inf) -> np.ndarray:
    """Move numbers apart so that neighbours are at least `gap` away, each as little as possible, inside [low, high].

    Without the gaps it is a monotone regression: neighbours that are too close are pooled at their mean.
    """
    positions = np.asarray(positions, dtype=float)
    order = np.argsort(positions, kind="stable")
    steps = gap * np.arange(len(positions))
    pools: list[list[float]] = []  # [mean, size]
    for value in positions[order] - steps:
        pools.append([value, 1])
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            mean, size = pools.pop()
            pools[-1] = [(pools[-1][0] * pools[-1][1] + mean * size) / (pools[-1][1] + size), pools[-1][1] + size]
    moved = np.array([mean for mean, size in pools for _ in range(int(size))])
    out = np.empty_like(positions)
    out[order] = np.maximum(np.minimum(moved, high - steps[-1:]), low) + steps
    return out


def label_ends(axes: Axes, labels: Iterable[tuple[float, str, str]], height: float, size: float = 8.5) -> None:
    """Write (y, text, colour) to the right of the axes, beside the lines' ends, without overlap.

    height: of the axes in inches, roughly; it gives the size of a line of text in data units.
    """
    labels = [entry for entry in labels if math.isfinite(entry[0])]
    low, high = axes.get_ylim()
    gap = size * 1.25 / 72 / height * (high - low)
    for (_, text, colour), y in zip(labels, spread([entry[0] for entry in labels], gap, low, high), strict=True):
        axes.text(
            1.03, y, text, color=colour, fontsize=size, va="center", transform=axes.get_yaxis_transform(), weight="bold"
        )


def legend_handles(looks: Iterable[Look], *, line: bool = True) -> list[Line2D]:
    """One legend entry per look."""
    return [
        Line2D([], [], color=look.colour, marker=look.marker, ls=look.line if line else "none", ms=5, label=look.label)
        for look in looks
    ]


def learning_curve(axes: Axes, table: pd.DataFrame, look: Look) -> float:
    """Every seed thin, their mean bold, a t band.

    Args:
      table: one row per learner update, one column per seed. Only updates that all seeds have enter the mean.

    Returns:
      The mean's last value, NaN where there is none.
    """
    table = table.sort_index()
    for seed in table:
        axes.plot(table.index, table[seed], color=look.colour, lw=0.7, alpha=0.45)
    table = table.dropna()
    if table.empty:
        return math.nan
    bands = [t_interval(row) for row in table.to_numpy()]
    mean = np.array([band.estimate for band in bands])
    if bands[0].known:
        axes.fill_between(
            table.index, [b.low for b in bands], [b.high for b in bands], color=look.colour, alpha=0.16, lw=0
        )
    every = max(1, len(mean) // 6)
    axes.plot(table.index, mean, color=look.colour, ls=look.line, marker=look.marker, markevery=every, ms=4.5, lw=2)
    return float(mean[-1])


def thousands(axes: Axes) -> None:
    """Few ticks on the x axis, written as 0, 500, 10k, 2M."""
    axes.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: short(x)))


def short(number: float) -> str:
    """ "500", "10k", "2.5M", "2,000M"."""
    if number >= 1e6:
        return f"{number / 1e6:,g}M"
    return f"{number / 1000:g}k" if number >= 1000 else f"{number:g}"


def dots_per_task(
    axes: Axes, values: pd.Series, positions: Mapping[str, float], look: Look, *, offset: float, tick: float
) -> None:
    """Horizontal: one dot per value beside its task's position, a tick at each task's mean.

    Args:
      values: by task, one per seed.
      positions: of the tasks.
      offset: of this agent from there.
      tick: size of the ticks.
    """
    y = values.index.map(positions).to_numpy(dtype=float) + offset
    axes.plot(values, y, ls="none", marker=look.marker, ms=3.2, color=look.colour, alpha=0.6, mew=0)
    means = values.groupby(level=0).mean()
    at = means.index.map(positions).to_numpy(dtype=float) + offset
    axes.plot(means, at, ls="none", marker="|", ms=tick, mew=2, color=look.colour)


def dots_with_interval(
    axes: Axes,
    values: Sequence[float],
    interval: Interval,
    position: float,
    look: Look,
    *,
    size: float = 4.5,
    hollow: bool = False,
) -> None:
    """Horizontal: one dot per seed, a bar at the mean, a line for the interval where there is one."""
    values = [v for v in values if math.isfinite(v)]
    if not values:
        return
    if interval.known:
        axes.plot(
            [interval.low, interval.high], [position] * 2, color=look.colour, lw=2, alpha=0.45, solid_capstyle="butt"
        )
    # A small shift per seed, the same every time, keeps equal values apart.
    shift = np.linspace(-0.13, 0.13, len(values)) if len(values) > 1 else np.zeros(1)
    axes.plot(
        values,
        position + shift,
        ls="none",
        marker=look.marker,
        ms=size,
        mfc="white" if hollow else look.colour,
        mec=look.colour,
        mew=0.9,
        alpha=0.85,
    )
    axes.plot(
        [interval.estimate] * 2, [position - 0.28, position + 0.28], color=look.colour, lw=2.4, solid_capstyle="butt"
    )


class Rows:
    """Labelled rows from top to bottom, in groups with a bold header.

    Args:
      header: height of a header, in rows.
    """

    def __init__(self, axes: Axes, header: float = 1.0):
        self.axes, self._height = axes, header
        self.labels: list[str] = []
        self.positions: list[float] = []
        self.position = -1.0  # of the last row or header
        self._step = 1.0  # from there to the next row
        self._header: str | None = None

    def header(self, text: str) -> None:
        """A bold line above the next row, if it is another one than the last."""
        if text == self._header:
            return
        self.position += 1.0 if self._header is None else 0.25 + self._height
        self._step = self._height
        self._header = text
        transform = self.axes.get_yaxis_transform()
        self.axes.text(-0.01, self.position, text, weight="bold", ha="right", va="center", transform=transform)

    def row(self, label: str) -> float:
        """The position of the next row."""
        self.position += self._step
        self._step = 1.0
        self.labels.append(label)
        self.positions.append(self.position)
        return self.position

    def finish(self) -> None:
        """Set ticks and limits."""
        self.axes.set_yticks(self.positions, self.labels)
        self.axes.set_ylim(self.position + 0.7, -0.6 * self._height)
        self.axes.grid(axis="y", visible=False)
