"""Test-time interventions: what trained agents score when what they retrieve from is changed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from rarl.reporting import figures
from rarl.reporting.figures import PALETTE, Look, StripRow, in_order
from rarl.reporting.registry import AMOUNTS, INTERVENTIONS, OWN
from rarl.reporting.sheet import Sheet
from rarl.reporting.study import Study, Variant

_AMOUNT = re.compile(rf"({'|'.join(AMOUNTS)})-(\d+)")
EXPERIENCE: Mapping[str, Look] = {
    "given": Look("learned from", PALETTE[0], "o"),
    "given-new": Look("never seen", PALETTE[1], "s", (4, 2)),
    "given-best": Look("best quarter", PALETTE[2], "^"),
    "given-worst": Look("worst quarter", PALETTE[4], "v"),
}


def amount_of(name: str) -> tuple[str, int] | None:
    """("truncated", 8) of the intervention truncated-8, ("cut", 10) of cut-10; None of another one."""
    found = _AMOUNT.fullmatch(name)
    return (found[1], int(found[2])) if found else None


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
            StripRow(replace(variant.look, label=INTERVENTIONS.get(name, name)),
                     list(study.under(variant, task_set, name).values()), hollow=name != OWN)
            for name in _names(study, variant, task_set) if amount_of(name) is None
        ]  # fmt: skip
    figure, axes = figures.strip(groups, study.score.label, study.score.ends, study.bounds)
    bases = list(study.seed_scores(study.base, shown[-1]).values()) if len(shown) == 1 else []
    if bases:
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
        f"seeds, mean over {study.spec.task_noun}s. Tick and bar: mean with 95 % CI. Episodes are others than those of "
        "the last evaluation, so “as trained” is not the final score."
        + (f" Vertical: {study.base.label}." if bases else ""),
    )
    heads = {"what": "Retrieval dataset", **study.heads, "delta": "Δ vs as trained"}
    _experience(study, sheet, shown[-1])
    sheet.table(f"{study.name}-interventions", frame, heads, "all test-time interventions, with 95 % CI", folded=True)


def _experience(study: Study, sheet: Sheet, task_set: str) -> None:
    """The score of the full agent by how many trajectories of which kind it is given at test time."""
    variant = study.full
    names = study.interventions(variant, task_set)["intervention"].unique() if variant is not None else ()
    given = [(name, *amount) for name in names if (amount := amount_of(name)) and amount[0] in EXPERIENCE]
    if variant is None or not given:
        return
    frame = pd.DataFrame(
        [{"agent": kind, "amount": n, "seed": seed, "value": score} for name, kind, n in given
         for seed, score in study.under(variant, task_set, name).items()]
    )  # fmt: skip
    label, bounds = study.score.label, {"": study.bounds}
    figure, (axes,) = figures.by_amount({"": frame}, EXPERIENCE, "trajectories given", label, bounds)
    bases = list(study.seed_scores(study.base, task_set).values())
    if bases:
        axes.axhline(float(np.mean(bases)), color=study.base.look.colour, ls=study.base.look.line, lw=1.4)
    sheet.figure(
        f"{study.name}-experience",
        figure,
        frame,
        f"{label} of {variant.label} by how many trajectories of which kind it is given at test time.",
        f"Experience at test time, no weight changed ({study.set_title(task_set)}, {variant.label}): trajectories of "
        f"the {study.spec.task_noun} given to retrieve from. Horizontal: {study.base.label}.",
    )


def _probed(study: Study, task_set: str) -> list[Variant]:
    """The variants on which more than their own way was measured."""
    frame = study.interventions(task_set=task_set)
    changed = set(frame["variant"][frame["intervention"] != OWN])
    return [v for v in study.variants_on(task_set) if v.runs == (study.name, v.name) and v.name in changed]


def _names(study: Study, variant: Variant, task_set: str) -> list[str]:
    found = study.interventions(variant, task_set)["intervention"].unique()
    return in_order(INTERVENTIONS, sorted(found, key=lambda name: amount_of(name) or ("", 0)))


def intervention_frame(study: Study, level: float) -> pd.DataFrame:
    """A row for each task set, variant and intervention: the score, and its difference from that as trained."""
    rows = []
    for task_set, variant in ((s, v) for s in study.probed_sets() for v in _probed(study, s)):
        for name in _names(study, variant, task_set):
            scores, amount = study.under(variant, task_set, name), amount_of(name)
            change = study.acted(variant, task_set, name, OWN) if name != OWN else None
            rows.append({
                "task_set": task_set, "variant": variant.name, "intervention": name, "seeds": len(scores),
                "score": study.interval(scores, level), "delta": change and change.interval(level),
                "set": study.set_title(task_set), "agent": variant.label,
                "what": AMOUNTS[amount[0]].format(amount[1]) if amount else INTERVENTIONS.get(name, name),
            })  # fmt: skip
    return pd.DataFrame(rows)
