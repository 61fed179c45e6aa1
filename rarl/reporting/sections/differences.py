"""Every variant against the base agent and against what it changes; sweeps and grids."""

from __future__ import annotations

from itertools import product
from typing import Any

import pandas as pd

from rarl.reporting import tables
from rarl.reporting.claims import EVERY
from rarl.reporting.rules import READINGS, Judged
from rarl.reporting.sheet import Sheet
from rarl.reporting.statistics import probability_of_improvement
from rarl.reporting.study import Study, Variant, common
from rarl.reporting.sweeps import cells_of, paper_cell, tuned


def write(study: Study, sheet: Sheet) -> None:
    """The table of all task sets."""
    frame = difference_frame(study, sheet.judged)
    if frame.empty:
        return
    sheet.heading("Differences")
    base = study.base.label
    references = frame["reference"].dropna().unique()
    heads = {**study.heads, "delta_base": f"Δ vs {base}", "improves": f"P(better than {base})",
             "reference": "Compared with", "delta": "Δ vs that", "reading": "That change"}  # fmt: skip
    if len(references) == 1:
        del heads["reference"]
        heads["delta"] = f"Δ vs {study.label(references[0])}"
    caption = ("differences with 95 % CI; the verdict is corrected for their number (Holm). P: probability of "
               "improvement (rliable), over pairs of seeds, mean over tasks.")  # fmt: skip
    sheet.table(f"{study.name}-differences", frame, heads, caption,
                reference=study.label, reading=READINGS.get, improves="{:.2f}".format)  # fmt: skip


def difference_frame(study: Study, judged: Judged) -> pd.DataFrame:
    """A row for each task set and variant: score, differences from the base and from what it changes, the reading."""
    rows = []
    sets = study.used_sets + [EVERY] * (study.spec.one_task and len(study.used_sets) > 1)
    for task_set in sets:
        shown = study.variants_on(task_set, sweeps=False)
        for variant in shown if any(v.runs[0] == study.name for v in shown) else ():
            rows.append(row_of(study, variant, task_set, judged))
    return pd.DataFrame(rows)


def row_of(study: Study, variant: Variant, task_set: str, judged: Judged) -> dict[str, Any]:
    """A variant's row; differences that cannot be computed are None, and so is the reading of what was not judged."""
    scores, level = study.seed_scores(variant, task_set), judged.rules.level
    row: dict[str, Any] = {
        "task_set": task_set, "variant": variant.name, "seeds": len(scores),
        "score": study.interval(scores, level), "improves": None,
        "delta_base": None, "delta": None, "reference": None, "reading": None,
        "set": study.set_title(task_set), "agent": variant.label,
    }  # fmt: skip
    reference = study.variants[variant.relative_to[0]] if variant.relative_to else None
    if variant != study.base:
        samples = study.compare(variant, study.base, task_set)
        row["delta_base"] = samples and samples.interval(level)
        if samples is not None:
            of_both = common([study.table(v, task_set) for v in (variant, study.base)])
            row["improves"] = probability_of_improvement(*of_both)
        for line in study.mismatches(variant, study.base, task_set):
            study.results.note("/".join(variant.runs), f"not compared with {'/'.join(study.base.runs)}: {line}")
    samples = study.compare(variant, reference, task_set) if reference not in (None, study.base) else None
    if samples is not None and reference is not None:
        verdict = judged.of(samples)
        row |= {"delta": samples.interval(level), "reference": reference.name, "reading": verdict and verdict.reading}
    return row


def write_sweeps(study: Study, sheet: Sheet) -> None:
    """The table of all sweeps (those over one value are drawn among the ablations), and what choosing a grid's best
    cell gives."""
    rows, full = [], study.full.label if study.full is not None else ""
    for task_set, (name, settings) in product(study.compared_sets, study.settings.sweeps.items()):
        cells = cells_of(study, name, task_set)
        for cell, variant in cells.items():
            values = dict(zip(("value", "second_value"), cell, strict=False))
            row = row_of(study, variant, task_set, sheet.judged) | {"sweep": name, "title": settings.title}
            rows.append(row | {"values": ", ".join(f"{v:g}" for v in cell)} | values)
        fixed = paper_cell(study, name, task_set)
        best = tuned(study, name, fixed, task_set) if fixed is not None else None
        if best is not None:
            paper = ", ".join(f"{value:g}" for value in settings.paper or ())
            gain = tables.interval(best.interval(sheet.rules.level), signed=True)
            sheet.text(f"{settings.title}: tuned − {paper}, cross-fitted over seeds: {gain}. {best.detail}")
    heads = {"title": "Setting", "values": "Value", **study.heads, "delta": f"Δ vs {full}", "reading": "Effect"}
    del heads["agent"]
    frame = pd.DataFrame(rows)
    sheet.table(f"{study.name}-sweeps", frame, heads, "sweeps, with 95 % CI", folded=True, reading=READINGS.get)
