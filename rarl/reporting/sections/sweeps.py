"""Sweeps over one value, and grids over two."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd
import seaborn
from matplotlib.figure import Figure

from rarl.reporting import figures, tables
from rarl.reporting.rules import READINGS
from rarl.reporting.sections.differences import row_of
from rarl.reporting.sheet import Sheet
from rarl.reporting.statistics import Interval
from rarl.reporting.study import Study
from rarl.reporting.sweeps import Cell, cells_of, paper_cell, tuned


def write(study: Study, sheet: Sheet) -> None:
    """A heat map of each grid, and the table of all sweeps, on every task set; sweeps over one value are drawn among the
    ablations."""
    frames, full = [], study.full.label if study.full is not None else ""
    for task_set in study.compared_sets:
        for name, settings in study.settings.sweeps.items():
            frame = _frame(study, name, task_set, sheet)
            if len(frame):
                frames.append(frame)
                if len(settings.keys) == 2:
                    _grid(study, sheet, name, task_set, frame)
    columns = [
        tables.words("title", "Setting"),
        tables.words("values", "Value"),
        *study.columns[2:],
        tables.intervals("delta", f"Δ vs {full}", signed=True),
        tables.words("reading", "Effect", READINGS.get),
    ]
    if frames:
        sheet.table(f"{study.name}-sweeps", pd.concat(frames), columns, "sweeps, with 95 % CI", folded=True)


def _frame(study: Study, name: str, task_set: str, sheet: Sheet) -> pd.DataFrame:
    """A row for each value of a sweep."""
    rows = []
    for cell, variant in cells_of(study, name, task_set).items():
        row = row_of(study, variant, task_set, sheet.rules, sheet.judged)
        values = dict(zip(("value", "second_value"), cell, strict=False))
        title = study.settings.sweeps[name].title
        rows.append(row | {"sweep": name, "title": title, "values": ", ".join(f"{v:g}" for v in cell)} | values)
    return pd.DataFrame(rows)


def _grid(study: Study, sheet: Sheet, name: str, task_set: str, frame: pd.DataFrame) -> None:
    """The heat map of a grid, and what choosing its best cell gives."""
    settings = study.settings.sweeps[name]
    full = study.full.label if study.full is not None else ""
    sheet.heading(f"Sweep: {settings.title}")
    cells: dict[Cell, tuple[Interval, Interval | None]] = {
        (row["value"], row["second_value"]): (row["score"], row["delta"]) for _, row in frame.iterrows()
    }
    fixed, gain = paper_cell(study, name, task_set), ""
    best = tuned(study, name, fixed, task_set) if fixed is not None else None
    if best is not None:
        paper = ", ".join(f"{value:g}" for value in settings.paper or ())
        gain = (f" Tuned − {paper}, cross-fitted: {tables.interval(best.interval(sheet.rules.level), signed=True)}. "
                f"{best.detail}")  # fmt: skip
    sheet.figure(
        f"{study.name}-{name}-{task_set}",
        heatmap(study, name, cells),
        frame,
        f"Heat map of scores over {' and '.join(settings.keys)}.",
        f"{study.where(task_set)}: {study.score.label}; below it Δ vs {full}.{gain}",
    )


def heatmap(study: Study, sweep: str, cells: Mapping[Cell, tuple[Interval, Interval | None]]) -> Figure:
    """Scores over two values, with differences from the full agent."""
    digits = min(study.score.digits, 2)
    scores = pd.Series({cell: score.estimate for cell, (score, _) in cells.items()}).unstack()
    texts = pd.Series({cell: _cell_text(*found, digits) for cell, found in cells.items()}).unstack().fillna("")
    figure = figures.new_figure(0.72 * len(scores) + 0.95)
    axes = figure.subplots()
    seaborn.heatmap(
        scores, annot=texts, fmt="", cmap="cividis", ax=axes, annot_kws={"fontsize": 9}, linewidths=0.5,
        cbar_kws={"label": study.score.label}, xticklabels=[f"{v:g}" for v in scores.columns],
        yticklabels=[f"{v:g}" for v in scores.index],
    )  # fmt: skip
    first, second = (key.rpartition(".")[2] for key in study.settings.sweeps[sweep].keys)
    axes.set(ylabel=first, xlabel=second)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    return figure


def _cell_text(score: Interval, change: Interval | None, digits: int) -> str:
    """The score, and the difference."""
    text = tables.number(score.estimate, digits)
    if change is None or not math.isfinite(change.estimate):
        return text
    return f"{text}\n{tables.number(change.estimate, digits, signed=True)}"
