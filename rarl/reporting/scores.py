"""Per-seed numbers of a measure, for claims, tables and figures of any experiment."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import pandas as pd

from rarl.reporting.claims import Claim, Samples
from rarl.reporting.results import Results
from rarl.reporting.statistics import score_table


def task_table(results: Results, experiment: str, task_set: str, variant: str, value: str) -> pd.DataFrame:
    """(seeds, tasks): column `value` of the last evaluations. Empty where there are no usable runs."""
    return score_table(results.select(results.last, experiment, task_set, variant), value).astype(float)


def seed_means(table: pd.DataFrame) -> dict[int, float]:
    """(seeds, tasks) -> seed -> mean over tasks. A seed that lacks a task's score is left out."""
    table = table.dropna()
    return {int(seed): float(value) for seed, value in table.mean(axis=1).items()} if table.shape[1] else {}


def run_means(frame: pd.DataFrame, value: str) -> dict[str, float]:
    """run -> mean over tasks of its last evaluations; not a number where one task's score is missing."""
    return frame.groupby("run")[value].agg(lambda x: float(x.mean(skipna=False))).to_dict()


def intervention_scores(
    frame: pd.DataFrame, name: str, tasks: set[str] | None = None, value: str = "normalised"
) -> dict[int, float]:
    """seed -> mean over tasks (each the mean over the tasks given) under one intervention.

    Args:
      frame: rows of interventions, with the column `value`.
      name: of the intervention.
      tasks: only these; None: all.
    """
    rows = frame[frame["intervention"] == name]
    if tasks is not None:
        rows = rows[rows["task"].isin(tasks)]
    per_task = rows.groupby(["seed", "task"])[value].mean()
    return {int(seed): float(mean) for seed, mean in per_task.groupby("seed").mean().items()}


def two_variants(
    seed_scores: Callable[[Results, str, str], dict[int, float]], results: Results, claim: Claim
) -> Samples | None:
    """The claim's variant a against its variant b.

    Args:
      seed_scores: of a task set and a variant.
    """
    a, b = (seed_scores(results, claim.test["task_set"], claim.test[side]) for side in ("a", "b"))
    return Samples(a, b) if a and b else None


def two_interventions(frame: pd.DataFrame, claim: Claim, value: str = "normalised") -> Samples | None:
    """The same networks under the claim's interventions `of` and `against`, on the tasks that both were measured on."""
    names = (claim.test["of"], claim.test["against"])
    tasks = [set(frame["task"][frame["intervention"] == name]) for name in names]
    return paired(*(intervention_scores(frame, name, tasks[0] & tasks[1], value) for name in names))


def paired(a: dict[int, float], b: dict[int, float]) -> Samples | None:
    """Seed by seed; None without a seed that has both."""
    return Samples(a, b, design="paired") if set(a) & set(b) else None


def median_run(
    results: Results, experiment: str, task_set: str, variant: str, scores: Mapping[str, float]
) -> str | None:
    """Among the runs with a gallery, the one of (lower) median score: neither the best nor the worst seed; or None."""
    runs = results.select(results.runs, experiment, task_set, variant)
    known = sorted((scores.get(run, -math.inf), run) for run in runs["run"] if run in results.galleries)
    return known[(len(known) - 1) // 2][1] if known else None
