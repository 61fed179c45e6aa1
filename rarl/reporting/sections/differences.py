"""Every variant against the base agent and against what it changes: the form of the paper's figure 3."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from rarl.reporting import figures, tables
from rarl.reporting.claims import EVERY, Rules
from rarl.reporting.figures import PALETTE, Look, StripRow
from rarl.reporting.rules import READINGS, Judged
from rarl.reporting.sheet import Sheet
from rarl.reporting.statistics import mean_of, probability_of_improvement
from rarl.reporting.study import Study, Variant, common, grouped

_OF_GROUPS = ((PALETTE[3], "D"), (PALETTE[6], "^"), (PALETTE[2], "P"), (PALETTE[7], "s"))


def write(study: Study, sheet: Sheet) -> None:
    """A figure of the largest task set, and the table of all."""
    frame = difference_frame(study, sheet.rules, sheet.judged)
    if frame.empty:
        return
    sheet.heading("Differences")
    base, task_set = study.base.label, study.compared_sets[-1]
    figure = relative(study, task_set, sheet.rules)
    if figure is not None:
        band = f" Band: {study.full.label} with 95 % CI." if study.full is not None else ""
        seeds = [{"variant": v.name, "seed": seed, "score": score} for v in study.variants_on(task_set, sweeps=False)
                 for seed, score in study.seed_scores(v, task_set).items()]  # fmt: skip
        sheet.figure(
            f"{study.name}-relative",
            figure,
            pd.DataFrame(seeds),
            f"Every variant as its difference from {base}: each seed, the mean and its confidence interval.",
            f"{study.where(task_set)}: Δ vs {base} (line at 0), mean over {study.spec.task_noun}s. Dots: seeds. Tick and "
            f"bar: mean with 95 % CI (Welch).{band}",
        )
    references = frame["reference"].dropna().unique()
    columns = [
        *study.columns,
        tables.intervals("delta_base", f"Δ vs {base}", signed=True),
        tables.numbers("improves", f"P(better than {base})", 2),
        tables.words("reference", "Compared with", study.label),
        tables.intervals("delta", "Δ vs that", signed=True),
        tables.words("reading", "That change", READINGS.get),
    ]
    if len(references) == 1:
        columns[-3:-1] = [tables.intervals("delta", f"Δ vs {study.label(references[0])}", signed=True)]
    sheet.table(
        f"{study.name}-differences",
        frame,
        columns,
        "differences with 95 % CI; the verdict is corrected for their number (Holm). P: probability of improvement "
        "(rliable), over pairs of seeds, mean over tasks.",
    )


def difference_frame(study: Study, rules: Rules, judged: Judged | None = None) -> pd.DataFrame:
    """A row for each task set and variant: score, differences from the base and from what it changes, the reading."""
    rows = []
    sets = study.used_sets + [EVERY] * (study.spec.one_task and len(study.used_sets) > 1)
    for task_set in sets:
        shown = study.variants_on(task_set, sweeps=False)
        for variant in shown if any(v.runs[0] == study.name for v in shown) else ():
            rows.append(row_of(study, variant, task_set, rules, judged))
    return pd.DataFrame(rows)


def row_of(study: Study, variant: Variant, task_set: str, rules: Rules, judged: Judged | None = None) -> dict[str, Any]:
    """A variant's row; differences that cannot be computed are None, and so is the reading of what was not judged."""
    scores = study.seed_scores(variant, task_set)
    row: dict[str, Any] = {
        "task_set": task_set, "variant": variant.name, "seeds": len(scores),
        "score": study.interval(scores, rules.level), "improves": None,
        "delta_base": None, "delta": None, "reference": None, "reading": None,
        "set": study.set_title(task_set), "agent": variant.label,
    }  # fmt: skip
    reference = study.variants[variant.relative_to[0]] if variant.relative_to else None
    if variant != study.base:
        samples = study.compare(variant, study.base, task_set)
        row["delta_base"] = samples and samples.interval(rules.level)
        if samples is not None:
            row["improves"] = probability_of_improvement(
                *common([study.table(v, task_set) for v in (variant, study.base)])
            )
        for line in study.mismatches(variant, study.base, task_set):
            problem = ("/".join(variant.runs), f"not compared with {'/'.join(study.base.runs)}: {line}")
            if problem not in study.results.problems:
                study.results.problems.append(problem)
    samples = study.compare(variant, reference, task_set) if reference not in (None, study.base) else None
    if samples is not None and reference is not None:
        row |= {"delta": samples.interval(rules.level), "reference": reference.name}
        verdict = judged.of(samples) if judged is not None else None
        row["reading"] = verdict.reading if verdict is not None else None
    return row


def relative(study: Study, task_set: str, rules: Rules) -> Figure | None:
    """Every variant as a difference from the base agent, the full agent as a band; None without base or others."""
    shown = study.variants_on(task_set, sweeps=False)
    groups: dict[str, list[StripRow]] = {}
    for i, (header, variants) in enumerate(grouped(shown).items()):
        made = [_relative_row(study, v, task_set, rules, _OF_GROUPS[i % len(_OF_GROUPS)]) for v in variants]
        groups[header] = [row for row in made if row is not None]
    if not any(groups.values()) or study.base not in shown or len(shown) < 3:
        return None
    figure, axes = figures.strip(groups, f"Δ vs {study.base.label},\n{study.score.label}")
    axes.axvline(0, color=study.base.look.colour, lw=1.6, ls=study.base.look.line)
    gain = study.compare(study.full, study.base, task_set) if study.full is not None else None
    if gain is not None and study.full is not None:
        interval = gain.interval(rules.level)
        if interval.known:
            axes.axvspan(interval.low, interval.high, color=study.full.look.colour, alpha=0.1, lw=0, zorder=0)
        axes.axvline(interval.estimate, color=study.full.look.colour, lw=1, alpha=0.6, zorder=1)
    return figure


def _relative_row(
    study: Study, variant: Variant, task_set: str, rules: Rules, of_group: tuple[str, str]
) -> StripRow | None:
    own, base = study.common_scores([variant, study.base], task_set)
    if not own or not base:
        return None
    zero = sum(base.values()) / len(base)
    shifted = [score - zero for score in own.values()]
    samples = None if variant == study.base else study.compare(variant, study.base, task_set)
    interval = (samples or mean_of(shifted)).interval(rules.level)
    look = variant.look if variant in (study.base, study.full) else Look(variant.label, *of_group)
    return StripRow(look, shifted, interval)
