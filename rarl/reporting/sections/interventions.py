"""Test-time interventions: what trained agents score when what they retrieve from is changed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import seaborn

from rarl.reporting import figures, tables
from rarl.reporting.figures import StripRow, in_order
from rarl.reporting.interventions import NAMES, OWN, amount_of, swaps
from rarl.reporting.sheet import Sheet
from rarl.reporting.study import Study, Variant


def write(study: Study, sheet: Sheet) -> None:
    """Figures of the largest task set that was probed, and of all (where a task set is one task); the table of all."""
    probed = study.probed_sets()
    frame = intervention_frame(study, sheet.rules.level)
    if frame.empty:
        return
    sheet.heading("Test-time interventions on retrieval")
    shown = probed if study.spec.one_task else probed[-1:]
    groups: dict[str, list[StripRow]] = {}
    for task_set, variant in ((s, v) for s in shown for v in _probed(study, s)):
        header = f"{study.set_title(task_set)}: {variant.label}" if len(shown) > 1 else variant.label
        groups[header] = [
            StripRow(replace(variant.look, label=NAMES.get(name, name)),
                     list(study.under(variant, task_set, name).values()), hollow=name != OWN)
            for name in _names(study, variant, task_set) if amount_of(name) is None
        ]  # fmt: skip
    figure, axes = figures.strip(
        groups, f"{study.score.label}, mean over {study.spec.task_noun}s", study.score.ends, study.bounds
    )
    bases = list(study.seed_scores(study.base, shown[-1]).values())
    if bases and len(shown) == 1:
        axes.axvline(float(np.mean(bases)), color=study.base.look.colour, ls=study.base.look.line, lw=1.4)
    figures.marks(axes, study.score.marks, across=False)
    keys, raw = ["task_set", "variant", "intervention", "seed"], study.score.column
    means = study.interventions().groupby([*keys, "task"])[[raw, "score"]].mean().groupby(keys).mean()
    sheet.figure(
        f"{study.name}-intervention-seeds",
        figure,
        means.rename(columns={raw: "raw"}).reset_index(),
        "Scores of the probed agents with their retrieval dataset as trained, removed, shuffled or swapped.",
        f"Another retrieval dataset at test time, same networks ({', '.join(map(study.set_title, shown))}). Dots: "
        f"seeds. Tick and bar: mean with 95 % CI. Vertical: {study.base.label}.",
    )
    heads = {"what": "Retrieval dataset", **study.heads, "delta": "Δ vs as trained"}
    sheet.table(f"{study.name}-interventions", frame, heads, "all test-time interventions, with 95 % CI", folded=True)
    for variant in _probed(study, shown[-1]):
        _swaps(study, sheet, variant, shown[-1])


def _probed(study: Study, task_set: str) -> list[Variant]:
    """The variants on which more than their own way was measured."""
    frame = study.interventions(task_set=task_set)
    changed = set(frame["variant"][frame["intervention"] != OWN])
    return [v for v in study.variants_on(task_set) if v.runs == (study.name, v.name) and v.name in changed]


def _names(study: Study, variant: Variant, task_set: str) -> list[str]:
    found = study.interventions(variant, task_set)["intervention"].unique()
    return in_order(NAMES, sorted(found, key=lambda name: amount_of(name) or ("", 0)))


def intervention_frame(study: Study, level: float) -> pd.DataFrame:
    """A row for each task set, variant and intervention: the score, and its difference from that as trained."""
    rows = []
    for task_set, variant in ((s, v) for s in study.probed_sets() for v in _probed(study, s)):
        for name in _names(study, variant, task_set):
            scores, amount = study.under(variant, task_set, name), amount_of(name)
            change = study.acted(variant, task_set, name, OWN) if name != OWN else None
            what = {None: NAMES.get(name, name), "trajectories": "{} trajectories", "steps": "first {} steps of each"}
            rows.append({
                "task_set": task_set, "variant": variant.name, "intervention": name, "seeds": len(scores),
                "score": study.interval(scores, level), "delta": change and change.interval(level),
                "set": study.set_title(task_set), "agent": variant.label,
                "what": what[amount and amount[0]].format(amount and amount[1]),
            })  # fmt: skip
    return pd.DataFrame(rows)


def _swaps(study: Study, sheet: Sheet, variant: Variant, task_set: str) -> None:
    """Whose dataset decides what is done."""
    matrix = swaps(study, variant, task_set)
    if matrix.empty:
        return
    noun, names = study.spec.task_noun, list(map(tables.spaced, matrix.index)) if len(matrix) <= 12 else False
    figure = figures.new_figure(3.6)
    ends = study.score.ends or (None, None)
    axes = seaborn.heatmap(
        matrix, cmap="cividis", vmin=ends[0], vmax=ends[1], ax=figure.subplots(), xticklabels=names, yticklabels=names,
        cbar_kws={"label": study.score.label},
    )  # fmt: skip
    axes.grid(visible=False)
    axes.set(xlabel=f"{noun} that is measured on", ylabel=f"{noun} whose dataset is given")
    sheet.figure(
        f"{study.name}-swaps",
        figure,
        matrix.reset_index(names="given_task"),
        f"Heat map: rows are the {noun} whose dataset is retrieved from, columns the {noun} whose reward is measured.",
        f"{variant.label}: does the retrieval dataset decide which {noun} is done? A bright diagonal means yes.",
    )
