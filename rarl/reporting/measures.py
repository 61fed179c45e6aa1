"""What claims measure: functions (study, test, rules) that return per-seed samples, or None without runs for them."""

from __future__ import annotations

import math
from dataclasses import replace

import pandas as pd

from rarl.reporting import sweeps, tables
from rarl.reporting.claims import EVERY, ClaimTest, Rules
from rarl.reporting.results import spelled
from rarl.reporting.statistics import POSITIVE, SHARES, UNBOUNDED, Samples, independent, paired, score_table, seed_means
from rarl.reporting.study import Study, Variant, common


def _variants(study: Study, test: ClaimTest) -> list[Variant]:
    return [study.variant(side) for side in test.sides()]


def difference(study: Study, test: ClaimTest, rules: Rules) -> Samples | None:
    """Variant a against variant b: mean over the tasks that both have of the last score."""
    a, b = _variants(study, test)
    samples = study.compare(a, b, test.task_set)
    if samples is None or test.task_set != EVERY:
        return samples
    shared = common([study.table(v, EVERY) for v in (a, b)])[0]
    return replace(samples, detail=_over(study, list(shared)))


def _over(study: Study, task_sets: list[str]) -> str:
    return f"Mean over {tables.plural(len(task_sets), study.spec.task_noun)}: {', '.join(sorted(task_sets))}."


def intervention(study: Study, test: ClaimTest, rules: Rules) -> Samples | None:
    """The same networks of a under the interventions `of` and `against`; without that, a against b, both under `of`."""
    variants = _variants(study, test)
    if test.against:
        return study.acted(variants[0], test.task_set, test.of, test.against)
    return independent(*(study.under(variant, test.task_set, test.of) for variant in variants), bounds=study.bounds)


def interaction(study: Study, test: ClaimTest, rules: Rules) -> Samples | None:
    """What a has over b under `of`, less what it has under `against`: a difference of differences."""
    acted = [
        study.acted(variant, test.task_set, test.of, test.against) or Samples({}) for variant in _variants(study, test)
    ]
    return independent(*({seed: s.a[seed] - s.b[seed] for seed in set(s.a) & set(s.b)} for s in acted))


def ratio(study: Study, test: ClaimTest, rules: Rules) -> Samples | None:
    """What networks score under `of`, as a share of what they score under `against`, each on its own tasks."""
    (variant,) = _variants(study, test)
    of, against = (study.under(variant, test.task_set, name) for name in (test.of, test.against))
    ratios = {seed: of[seed] / against[seed] for seed in of if against.get(seed, 0) > 0}
    return Samples(ratios, design="single", bounds=POSITIVE) if ratios else None


def attention(study: Study, test: ClaimTest, rules: Rules) -> Samples | None:
    """A quantity of attention, less that of `chance`: tasks of the groups `of` and `against`, or variants a and b."""

    def table(variant: Variant) -> pd.DataFrame:
        found = study.attention(variant, test.task_set, test.quantity)
        chance = study.attention(variant, test.task_set, test.chance) if test.chance else 0
        return test.factor * (found - chance)

    variants = _variants(study, test)
    bounds = UNBOUNDED if test.chance else (0.0, test.factor)  # what is measured of attention are shares
    if len(variants) == 1:
        values = table(variants[0])
        groups = [set(map(spelled, study.spec.task_groups.get(name, ()))) for name in (test.of, test.against)]
        return paired(
            *(seed_means(values[[task for task in values if task in group]]) for group in groups), bounds=bounds
        )
    means = [table(variant).mean(axis=1).dropna() for variant in variants]
    return independent(*({int(seed): float(value) for seed, value in mean.items()} for mean in means), bounds=bounds)


def solved_of_unsolved(study: Study, test: ClaimTest, rules: Rules) -> Samples | None:
    """Per seed of a: which share of the tasks that b does not solve (in at least half of its runs) it solves."""
    names = [variant.label for variant in _variants(study, test)]
    a, b = (study.table(v, test.task_set).dropna() >= rules.solved for v in _variants(study, test))
    if not a.size or not b.size:
        return None
    forth, open_to_b = _solved_among_open(a, b)
    back, open_to_a = _solved_among_open(b, a)
    if not open_to_b:
        return Samples({}, detail=f"({names[1]}) solves every {study.spec.task_noun}.", design="single")
    detail = (
        f"({names[1]}) leaves {len(open_to_b)} of {b.shape[1]} {study.spec.task_noun}s unsolved; ({names[0]}) solves "
        f"{forth.mean():.1f} of them. The other way round: {back.mean():.1f} of {len(open_to_a)}."
    )
    shares = {int(seed): number / len(open_to_b) for seed, number in forth.items()}
    return Samples(shares, {int(seed): math.nan for seed in b.index}, "single", detail, SHARES)


def _solved_among_open(a: pd.DataFrame, b: pd.DataFrame) -> tuple[pd.Series, list[str]]:
    tasks = [task for task in b.columns if b[task].mean() < 0.5 and task in a]
    return a[tasks].sum(axis=1), tasks


def tuned(study: Study, test: ClaimTest, rules: Rules) -> Samples | None:
    """The cross-fitted best cell of the grid of variants a against variant b."""
    cells, fixed = test.sides()
    grids = {v.settings.sweep for v in study.variants_like(cells) if v.settings.sweep}
    return sweeps.tuned(study, min(grids), study.variant(fixed), test.task_set) if grids else None


def cost_ratio(study: Study, test: ClaimTest, rules: Rules) -> Samples | None:
    """Seed by seed a quantity of variant a over that of b, mean over what both learned: "parameters" of a network, or
    "ms_per_update", training time per learner update, playing included."""
    runs = study.results.planned()
    runs = runs[runs["usable"]]
    updates = runs["updates"].where(runs["updates"] > 0)
    runs = runs.assign(task=runs["task_set"], ms_per_update=1000 * runs["seconds_training"] / updates)
    each = (study.rows(runs, variant, test.task_set) for variant in _variants(study, test))
    a, b = common([score_table(rows, test.quantity).astype(float) for rows in each])
    seeds = a.index.intersection(b.index)
    ratios = seed_means(a.loc[seeds] / b.loc[seeds])
    return Samples(ratios, {}, "single", _over(study, list(a)), POSITIVE) if ratios else None
