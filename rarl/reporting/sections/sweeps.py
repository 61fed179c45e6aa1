"""Sweeps over one value, and grids over two."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
import seaborn
from matplotlib.figure import Figure

from rarl.reporting import figures, tables
from rarl.reporting.figures import FAINT, PALETTE, Look, StripRow
from rarl.reporting.rules import READINGS
from rarl.reporting.sections.differences import row_of
from rarl.reporting.sheet import Sheet
from rarl.reporting.statistics import Interval
from rarl.reporting.study import Study
from rarl.reporting.sweeps import Cell, cells_of, paper_cell, tuned


def write(study: Study, sheet: Sheet) -> None:
    """A figure of all sweeps over one value, a heat map of each grid, and the table of both, on every task set."""
    frames = []
    for task_set in study.compared_sets:
        for name, settings in study.settings.sweeps.items():
            frame = _frame(study, [name], task_set, sheet)
            if frame.empty:
                continue
            sheet.heading(f"Sweep: {settings.title[0].lower()}{settings.title[1:]}")
            frames.append(frame)
            if len(settings.keys) == 2:
                _grid(study, sheet, name, task_set, frame)
            else:
                full = study.full.label if study.full is not None else ""
                sheet.figure(
                    f"{study.name}-{name}-{task_set}",
                    _lines(study, frame, task_set),
                    frame,
                    f"Score against {settings.title}: every seed, means and confidence intervals.",
                    f"{study.where(task_set)}, {settings.title}. Dots: seeds. Ticks, joined: means with 95 % CI. Vertical: "
                    f"{study.base.label}. {full} stands at its own value.",
                )
    frame = pd.concat(frames) if frames else pd.DataFrame()
    full = study.full.label if study.full is not None else ""
    columns = [
        tables.words("title", "Setting"),
        tables.words("values", "Value"),
        *study.columns[2:],
        tables.intervals("delta", f"Δ vs {full}", signed=True),
        tables.words("reading", "Verdict", READINGS.get),
    ]
    sheet.table(f"{study.name}-sweeps", frame, columns, "sweeps, with 95 % CI.", folded=True)


def _frame(study: Study, sweeps: list[str], task_set: str, sheet: Sheet) -> pd.DataFrame:
    """A row for each value of each sweep."""
    rows = []
    for name in sweeps:
        for cell, variant in cells_of(study, name, task_set).items():
            row = row_of(study, variant, task_set, sheet.rules, sheet.judged)
            values = dict(zip(("value", "second_value"), cell, strict=False))
            title = study.settings.sweeps[name].title
            rows.append(row | {"sweep": name, "title": title, "values": ", ".join(f"{v:g}" for v in cell)} | values)
    return pd.DataFrame(rows)


def _lines(study: Study, frame: pd.DataFrame, task_set: str) -> Figure:
    """Rows of values, means joined by a line, the full agent in its own colour; the base agent as a line."""
    groups: dict[str, list[StripRow]] = {}
    for title, rows in frame.groupby("title", sort=False):
        for _, row in rows.iterrows():
            variant = study.variants[row["variant"]]
            full = variant == study.full
            look = variant.look if full else Look("", PALETTE[3], "D")
            look = replace(look, label=row["values"] + (f" ({variant.label})" if full else ""))
            values = list(study.seed_scores(variant, task_set).values())
            groups.setdefault(str(title), []).append(StripRow(look, values, row["score"]))
    figure, axes = figures.strip(groups, study.score.label)
    positions = iter(axes.get_yticks())
    for rows in groups.values():
        means = [row.interval.estimate for row in rows if row.interval is not None]
        axes.plot(means, [next(positions) for _ in means], color=FAINT, lw=1, zorder=1)
    base = list(study.seed_scores(study.base, task_set).values())
    if base:
        axes.axvline(float(np.mean(base)), color=study.base.look.colour, lw=1.4, ls=study.base.look.line, zorder=1)
    return figure


def _grid(study: Study, sheet: Sheet, name: str, task_set: str, frame: pd.DataFrame) -> None:
    """The heat map of a grid, and what choosing its best cell gives."""
    settings, unit = study.settings.sweeps[name], study.score.unit
    cells: dict[Cell, tuple[Interval, Interval | None]] = {
        (row["value"], row["second_value"]): (row["score"], row["delta"]) for _, row in frame.iterrows()
    }
    sheet.figure(
        f"{study.name}-{name}-{task_set}",
        heatmap(study, name, cells),
        frame,
        f"Heat map of scores over {' and '.join(settings.keys)}.",
        f"{study.where(task_set)}: {study.score.label}; below it Δ vs {study.full.label if study.full else ''}.",
    )
    fixed = paper_cell(study, name, task_set)
    best = tuned(study, name, fixed, task_set) if fixed is not None else None
    if best is not None:
        gain = tables.interval(best.interval(sheet.rules.level), signed=True)
        paper = ", ".join(f"{value:g}" for value in settings.paper or ())
        sheet.text(f"Tuned − {paper}: {gain} {unit} (cross-fitted: each seed scores the cell that the other seeds choose). "
                   f"{best.detail}")


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
