"""Sweeps over one value, grids over two: which variant has which value, and what choosing the best cell gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import pandas as pd

from rarl.config.files import SweepSettings
from rarl.reporting import tables
from rarl.reporting.statistics import Samples, left_out_best, paired, seed_means
from rarl.reporting.study import Study, Variant, common

Cell = tuple[float, ...]


def cells_of(study: Study, sweep: str, task_set: str) -> dict[Cell, Variant]:
    """Values of a sweep's settings -> the variant that has them, by configuration, in the order of the values.

    The full agent stands for its own values, if it is like the variants in what the sweep asks for; in a grid only
    where its values are among theirs.
    """
    settings = study.settings.sweeps[sweep]
    members = [v for v in study.variants_on(task_set) if v.settings.sweep == sweep]
    if not members:
        return {}
    found = {cell: v for v in members if (cell := _cell(study, settings, v, task_set)) is not None}
    axes = [{cell[i] for cell in found} for i in range(len(settings.keys))]
    ways = {tuple(study.value(v, task_set, key) for key in settings.alike) for v in members}
    full = study.full
    if full is not None and tuple(study.value(full, task_set, key) for key in settings.alike) in ways:
        cell = _cell(study, settings, full, task_set)
        if cell is not None and (len(axes) == 1 or cell in product(*axes)):
            found[cell] = full
    return dict(sorted(found.items()))


def _cell(study: Study, settings: SweepSettings, variant: Variant, task_set: str) -> Cell | None:
    values = [study.value(variant, task_set, key) for key in settings.keys]
    return tuple(map(float, values)) if all(isinstance(value, int | float) for value in values) else None


def paper_cell(study: Study, sweep: str, task_set: str) -> Variant | None:
    """The variant with the paper's values."""
    paper = study.settings.sweeps[sweep].paper
    return cells_of(study, sweep, task_set).get(tuple(map(float, paper))) if paper else None


def tuned(study: Study, sweep: str, fixed: Variant, task_set: str) -> Samples | None:
    """The best cell, cross-fitted, against a fixed variant, seed by seed.

    Each seed is scored with the cell that the other seeds choose by their mean; where every run learns one task alone,
    task by task. Paired, because the choice may be the fixed variant itself: then the difference is exactly 0.
    """
    cells = cells_of(study, sweep, task_set)
    if len(cells) < 2 or any(study.mismatches(fixed, variant, task_set) for variant in cells.values()):
        return None
    of_cell = dict(zip(cells, common([study.table(v, task_set) for v in cells.values()]), strict=True))
    of_fixed = study.table(fixed, task_set)
    columns = list(next(iter(of_cell.values())))
    chosen, best, without = [], [], []
    for group in [[name] for name in columns] if study.spec.one_task else [columns]:
        if not set(group) <= set(of_fixed):
            continue
        by_cell = pd.DataFrame({i: pd.Series(seed_means(t[group])) for i, t in enumerate(of_cell.values())})
        picked = left_out_best(by_cell)
        chosen += [list(of_cell)[i] for i, _ in picked.values()]
        best.append({seed: score for seed, (_, score) in picked.items()})
        without.append(seed_means(of_fixed[group]))
    samples = paired(_mean_over(best), _mean_over(without), bounds=study.bounds) if best else None
    return samples and replace(samples, detail=_choices(study, sweep, chosen, len(best)))


def _mean_over(groups: Sequence[dict[int, float]]) -> dict[int, float]:
    """seed -> mean over the groups, of the seeds that all have."""
    return seed_means(pd.DataFrame({i: pd.Series(group, dtype=float) for i, group in enumerate(groups)}))


def _choices(study: Study, sweep: str, chosen: Sequence[Cell], groups: int) -> str:
    keys = "/".join(key.rpartition(".")[2] for key in study.settings.sweeps[sweep].keys)
    counts = sorted({cell: chosen.count(cell) for cell in chosen}.items(), key=lambda entry: (-entry[1], entry[0]))
    shown = ", ".join(f"{'/'.join(f'{value:g}' for value in cell)} ({n} of {len(chosen)})" for cell, n in counts)
    where = f" on {tables.plural(groups, study.spec.task_noun)}" if study.spec.one_task else ""
    return f"Chosen by the other seeds{where}, {keys}: {shown}."
