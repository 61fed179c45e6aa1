"""Sweeps over one value, and grids over two; those over one are drawn among the ablations."""

from __future__ import annotations

import pandas as pd

from rarl.reporting import tables
from rarl.reporting.rules import READINGS
from rarl.reporting.sections.differences import row_of
from rarl.reporting.sheet import Sheet
from rarl.reporting.study import Study
from rarl.reporting.sweeps import cells_of, paper_cell, tuned


def write(study: Study, sheet: Sheet) -> None:
    """The table of all sweeps on every task set, and what choosing the best cell of a grid gives."""
    rows, full = [], study.full.label if study.full is not None else ""
    for task_set, (name, settings) in (
        (s, sweep) for s in study.compared_sets for sweep in study.settings.sweeps.items()
    ):
        cells = cells_of(study, name, task_set)
        for cell, variant in cells.items():
            values = dict(zip(("value", "second_value"), cell, strict=False))
            row = row_of(study, variant, task_set, sheet.rules, sheet.judged) | {"sweep": name, "title": settings.title}
            rows.append(row | {"values": ", ".join(f"{v:g}" for v in cell)} | values)
        fixed = paper_cell(study, name, task_set) if cells else None
        best = tuned(study, name, fixed, task_set) if fixed is not None else None
        if best is not None:
            paper = ", ".join(f"{value:g}" for value in settings.paper or ())
            gain = tables.interval(best.interval(sheet.rules.level), signed=True)
            sheet.text(f"{settings.title}: tuned − {paper}, cross-fitted over seeds: {gain}. {best.detail}")
    heads = {"title": "Setting", "values": "Value", **study.heads, "delta": f"Δ vs {full}", "reading": "Effect"}
    del heads["agent"]
    frame = pd.DataFrame(rows)
    sheet.table(f"{study.name}-sweeps", frame, heads, "sweeps, with 95 % CI", folded=True, reading=READINGS.get)
