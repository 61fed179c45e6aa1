"""The look of every figure, and files that are equal byte for byte when the numbers are.

Colours are petroff10 (best worst-case distance for colour-blind readers), darkened to a contrast of 3 on white; each
agent also has a marker and a line style, so that nothing is told by colour alone. Figures are narrow (WIDTH), so that
text of 9 points is 11 pixels high on a phone of 420. An SVG holds its text as text, and the colours of a dark page.
"""

from __future__ import annotations

import io
import math
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import matplotlib.style
import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from rarl.files import atomic_writer
from rarl.reporting.statistics import UNBOUNDED, Bounds, Interval, t_interval

WIDTH = 4.3  # inches
_ROWS, _ROW = 4, 0.19  # of a legend that there is room for; inches of one more
INK, FAINT, GRID = "#333333", "#6b6b6b", "#e4e4e4"
PAPER = "#fefefe"  # of hollow markers: what lies behind the figure; white is written on coloured cells
PALETTE = ("#2f7fc8", "#bd1f01", "#c17f00", "#832db6", "#6f7f7d", "#a96b59", "#d95d00", "#717581", "#8d803f", "#23878c")
# On a dark page, in the same order. Other colours (of maps, of pictures) stay.
DARK = {INK: "#dcdde0", FAINT: "#a4a8b0", GRID: "#3b3f49", PAPER: "#1e2129"} | dict(zip(PALETTE, (
    "#6db3f2", "#ff7a5c", "#ffbe4d", "#c78bea", "#9fb0ae", "#d39a88", "#ff9142", "#a3a8b5", "#c8ba78", "#5cc4c9",
), strict=True))  # fmt: skip
_STYLE: dict[Any, Any] = {
    "font.size": 9, "axes.titlesize": 9.5, "axes.labelsize": 9, "xtick.labelsize": 9, "ytick.labelsize": 9,
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "sans-serif"],
    "legend.fontsize": 9, "legend.frameon": False, "lines.linewidth": 1.8, "figure.constrained_layout.use": True,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": GRID,
    "grid.linewidth": 0.7, "axes.axisbelow": True, "axes.edgecolor": FAINT, "xtick.color": INK, "ytick.color": INK,
    "text.color": INK, "axes.labelcolor": INK, "figure.facecolor": "none", "axes.facecolor": "none",
    "savefig.facecolor": "none", "svg.hashsalt": "rarl", "svg.fonttype": "none",
    "text.parse_math": False,  # names are text, whatever they hold
}  # fmt: skip


@dataclass(frozen=True)
class Look:
    """How one agent is drawn. dashes: "" for a solid line, else lengths of dashes and gaps."""

    label: str
    colour: str
    marker: str
    dashes: tuple[float, ...] | str = ""

    @property
    def line(self) -> Any:
        """matplotlib's line style."""
        return (0, self.dashes) if self.dashes else "-"

    def within(self, header: str) -> Look:
        """The same look under a header, which then need not be in its label: "DQN, task hidden" is "DQN"."""
        return replace(self, label=re.sub(rf", {re.escape(header)}(?=,|$)", "", self.label) if header else self.label)


_LOOKS = (  # first of an agent without retrieval, then of the full agent, then of the others
    (PALETTE[0], "o", (5, 1.5)),
    (PALETTE[1], "s", ""),
    (PALETTE[2], "^", (3, 1, 1, 1)),
    (PALETTE[3], "D", (1, 1)),
    (PALETTE[5], "v", (4, 1.5, 1, 1.5)),
    (PALETTE[6], "P", (2, 1)),
    (PALETTE[7], "X", (1, 2)),
    (PALETTE[4], "<", (6, 2)),
    (PALETTE[8], ">", (5, 1, 1, 1, 1, 1)),
    (PALETTE[9], "*", (3, 2)),
)


def looks(agents: Mapping[str, tuple[str, str, str]]) -> dict[str, Look]:
    """Different looks for agents, name -> (label, group, kind): always in a group, and over all groups as long as there
    are some left. A base looks alike in all groups, so does a full agent, and what is called the same but for its
    group."""
    found: dict[str, Look] = {}
    used: dict[str, list[int]] = {}
    called: dict[str, int] = {}
    for name, (label, group, kind) in agents.items():
        taken, everywhere = used.setdefault(group, []), {place for places in used.values() for place in places}
        words, others = Look(label, "", "").within(group).label, range(2, len(_LOOKS))
        wanted = {"base": [0], "gain": [1]}.get(kind, []) + ([called[words]] if words in called else [])
        wanted += [*(i for i in others if i not in everywhere), *others]
        place = next((i for i in wanted if i not in taken), 2 + len(taken) % len(others))
        taken.append(place)
        called.setdefault(words, place)
        found[name] = Look(label, *_LOOKS[place])
    return found


def in_order(known: Iterable[str], names: Iterable[str]) -> list[str]:
    """Each name once: known ones first, in the order of `known`; the others as they come."""
    known, names = list(known), list(dict.fromkeys(names))
    return sorted(names, key=lambda name: known.index(name) if name in known else len(known))


@contextmanager
def style() -> Iterator[None]:
    """All drawing and saving happens inside."""
    with matplotlib.style.context("petroff10"), mpl.rc_context(_STYLE):
        yield


def new_figure(height: float) -> Figure:
    """An empty figure, without pyplot and its global state."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def stamp(figure: Figure, text: str) -> None:
    """A warning across the figure that cannot be cropped away from the numbers."""
    options: dict[str, Any] = {"rotation": 25, "ha": "center", "va": "center", "fontsize": 34, "weight": "bold"}
    figure.text(0.5, 0.5, text, color=PALETTE[1], alpha=0.22, zorder=99, **options)


def save(figure: Figure, path: str | Path) -> None:
    """Write an SVG, the same bytes for the same figure."""
    buffer = io.BytesIO()
    FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None})
    rules = "".join(f'[style*="{what}: {light}"]{{{what}:{dark}!important}}'
                    for light, dark in DARK.items() for what in ("fill", "stroke"))  # fmt: skip
    style = f"<style>@media (prefers-color-scheme: dark){{{rules}}}</style>\n <defs>"
    with atomic_writer(Path(path), "w") as file:
        file.write(buffer.getvalue().decode("utf-8").replace("<defs>", style, 1))


def legend(figure: Figure, shown: Iterable[Look], *, line: bool = True) -> None:
    """Above the figure, in as many columns as fit; the figure grows where that takes many rows."""
    handles = [Line2D([], [], color=look.colour, marker=look.marker, ls=look.line if line else "none", ms=5,
                      label=look.label) for look in shown]  # fmt: skip
    longest = max((len(str(handle.get_label())) for handle in handles), default=1)
    columns = max(1, min(4, len(handles), 66 // (longest + 8)))
    rows = math.ceil(len(handles) / columns)
    figure.set_figheight(figure.get_figheight() + _ROW * max(0, rows - _ROWS))
    figure.legend(handles=handles, loc="outside upper center", ncols=columns)


def curves(
    axes: Axes, frame: pd.DataFrame, x: str, y: str, shown: Mapping[str, Look], bounds: Bounds = UNBOUNDED
) -> None:
    """Every seed thin, means bold with their t bands; only points that all seeds of an agent have enter its mean.

    frame: rows with the columns agent, seed, `x` and `y`. shown: agent -> look. bounds: of y.
    """
    frame = frame.dropna(subset=[x, y])
    frame = frame[frame["agent"].isin(list(shown))]
    if frame.empty:
        return
    common: dict[str, Any] = {
        "x": x, "y": y, "ax": axes, "legend": False, "hue": "agent", "hue_order": list(shown),
        "palette": {name: look.colour for name, look in shown.items()},
    }  # fmt: skip
    seaborn.lineplot(frame, units="seed", estimator=None, lw=0.7, alpha=0.45, **common)
    seeds = frame.groupby("agent")["seed"].transform("nunique")
    complete = frame[frame.groupby(["agent", x])["seed"].transform("nunique") == seeds]
    seaborn.lineplot(
        complete, style="agent", style_order=list(shown), errorbar=partial(_band, bounds=bounds),
        err_kws={"alpha": 0.16, "lw": 0}, lw=2,
        markers={name: look.marker for name, look in shown.items()}, ms=4.5, mew=0,
        dashes={name: look.dashes for name, look in shown.items()}, **common,
    )  # fmt: skip
    axes.set(xlabel="", ylabel="")


def _band(values: pd.Series, bounds: Bounds) -> tuple[float, float]:
    """The ends of the interval; the mean itself where there is none."""
    interval = t_interval(values, bounds=bounds)
    return (interval.low, interval.high) if interval.known else (interval.estimate, interval.estimate)


def level(axes: Axes, mean: Interval, look: Look) -> None:
    """A level line at a mean, with the band of its interval."""
    if mean.known:
        axes.axhspan(mean.low, mean.high, color=look.colour, alpha=0.12, lw=0)
    axes.axhline(mean.estimate, color=look.colour, ls=look.line, lw=1.6)


def marks(axes: Axes, named: Mapping[str, float], *, across: bool) -> None:
    """Dotted lines at named scores, where the axis reaches them. across: lines across the y axis; else up from the x
    axis."""
    low, high = axes.get_ylim() if across else axes.get_xlim()
    for name, value in named.items():
        if not low <= value <= high:
            continue
        draw, place = (axes.axhline, (0.99, value)) if across else (axes.axvline, (value, 1.0))
        draw(value, color=FAINT, lw=1, ls=(0, (1, 1.5)), zorder=1)
        above = "top" if across and value > (low + high) / 2 else "bottom"
        transform = axes.get_yaxis_transform() if across else axes.get_xaxis_transform()
        axes.text(*place, name, color=FAINT, fontsize=9, va=above, ha="right" if across else "center",
                  transform=transform)  # fmt: skip


def logarithmic(axes: Axes, values: Sequence[float]) -> None:
    """A logarithmic x axis with these values written at it."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(list(values)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.set_xlim(min(values) / 1.35, max(values) * 1.35)


def by_amount(
    panels: Mapping[str, pd.DataFrame], looks: Mapping[str, Look], xlabel: str, ylabel: str,
    bounds: Mapping[str, Bounds],
) -> tuple[Figure, list[Axes]]:  # fmt: skip
    """Values against an amount, on a logarithmic axis, a panel for each title: every seed and means, as in `curves`.

    panels: title -> rows with the columns agent, seed, amount, value. looks: agent -> look. bounds: title -> of values.
    """
    figure = new_figure(3.2)
    of_one_kind = len({bounds[title] for title in panels}) == 1
    grid = list(np.atleast_1d(figure.subplots(1, len(panels), sharey=of_one_kind)))
    for axes, (title, frame) in zip(grid, panels.items(), strict=True):
        curves(axes, frame, "amount", "value", looks, bounds[title])
        logarithmic(axes, sorted(frame["amount"].unique()))
        axes.tick_params(axis="x", rotation=45)
        axes.set_title(title, weight="bold")
        axes.set(xlabel=xlabel, ylabel=ylabel if axes is grid[0] else "")
    for axes in grid:  # when all is drawn: it ends the choice of the other end
        axes.set_ylim(bottom=0)
    legend(figure, looks.values())
    return figure, grid


def thousands(axes: Axes) -> None:
    """Few ticks on the x axis, written as 0, 500, 10k, 2M."""
    axes.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


class StripRow(NamedTuple):
    """A row of a strip.

    look: its label names the row. values: one per seed. hollow: of its markers. printed: score and spread that the
    paper printed, set beside.
    """

    look: Look
    values: Sequence[float]
    hollow: bool = False
    printed: tuple[float, float | None] | None = None


def strip(
    groups: Mapping[str, Sequence[StripRow]],
    xlabel: str,
    ends: tuple[float, float] | None = None,
    bounds: Bounds = UNBOUNDED,
) -> tuple[Figure, Axes]:
    """Labelled rows, each with every seed a dot, their mean and its interval, under bold headers.

    groups: header -> rows; the header "" is not written. ends: of the x axis. bounds: of values.
    """
    groups = {header: rows for header, rows in groups.items() if rows}
    figure = new_figure(0.31 * sum(map(len, groups.values())) + 0.36 * len(groups) + 0.9)
    axes, position, labels = figure.subplots(), -0.4, {}
    for header, rows in groups.items():
        if header:
            position += 1.2
            axes.text(-0.01, position, _wrapped(header), weight="bold", ha="right", va="center",
                      transform=axes.get_yaxis_transform())  # fmt: skip
        for row in rows:
            position += 1
            labels[position] = row.look.label
            values = [value for value in row.values if math.isfinite(value)]
            look, interval = row.look, t_interval(values, bounds=bounds)
            # A small shift per seed, the same every time, keeps equal values apart.
            shift = np.linspace(-0.13, 0.13, len(values)) if len(values) > 1 else np.zeros(len(values))
            axes.plot(values, position + shift, ls="none", marker=look.marker, ms=4.5, mec=look.colour, mew=0.9,
                      alpha=0.85, mfc=PAPER if row.hollow else look.colour)  # fmt: skip
            axes.hlines(position, interval.low, interval.high, color=look.colour, lw=2, alpha=0.45)
            axes.vlines(interval.estimate, position - 0.28, position + 0.28, color=look.colour, lw=2.4)
            if row.printed is not None:
                mean, spread = row.printed
                axes.errorbar(
                    mean, position + 0.36, xerr=spread, fmt="D", ms=4.5, mfc=PAPER, color=FAINT, lw=1.2, zorder=1
                )
    rows_of(axes, labels)
    if ends is not None:
        axes.set_xlim(*ends)
    axes.set_xlabel(xlabel, loc="right")
    return figure, axes


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 26)


def rows_of(axes: Axes, labels: Mapping[float, str]) -> None:
    """Position -> label of rows, from top to bottom."""
    axes.set_yticks(list(labels), list(map(_wrapped, labels.values())))
    axes.set_ylim(max(labels) + 0.7, -0.6)
    axes.grid(axis="y", visible=False)
