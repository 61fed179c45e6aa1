"""Per-seed numbers of Gridroboman runs, for claims, tables and figures."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from rarl.envs.gridroboman.tasks import FAMILIES, TASKS
from rarl.reporting.claims import Claim, Samples, Settings
from rarl.reporting.results import Results
from rarl.reporting.scores import run_means, seed_means, task_table, two_interventions, two_variants

EXPERIMENT = "gridroboman"
ALL_TASKS = "30-tasks"
LABELS = {
    "dqn-hidden": "DQN, task hidden",
    "ra-dqn-hidden": "RA-DQN, task hidden",
    "dqn-observed": "DQN, task observed",
    "ra-dqn-observed": "RA-DQN, task observed",
    "no-retrieval": "nothing retrieved",
    "random-tasks": "random tasks retrieved",
    "same-batch": "retrieval batch never redrawn",
    "oracle": "oracle embedding",
}
TASKS_BY_FAMILY = [task for family in FAMILIES for task in TASKS if task.family == family]


def normalised_table(results: Results, task_set: str, variant: str) -> pd.DataFrame:
    """(seeds, tasks): last return divided by the expert's. Empty where there are no usable runs."""
    return task_table(results, EXPERIMENT, task_set, variant, "normalised")


def seed_scores(results: Results, task_set: str, variant: str) -> dict[int, float]:
    """seed -> mean over tasks of the normalised last return. A seed that lacks a task's score is left out."""
    return seed_means(normalised_table(results, task_set, variant))


def normalised_return(results: Results, claim: Claim, settings: Settings) -> Samples | None:
    """Variant a against variant b, mean over tasks of the normalised last return."""
    return two_variants(seed_scores, results, claim)


def solved(results: Results, task_set: str, variant: str, threshold: float) -> pd.DataFrame:
    """(seeds, tasks) bool: the run reaches `threshold` of the expert's return at its last evaluation."""
    return normalised_table(results, task_set, variant).dropna() >= threshold


def solved_of_unsolved(results: Results, claim: Claim, settings: Settings) -> Samples | None:
    """Per seed of a: which share of the tasks that b does not solve (in at least half of its runs) it solves."""
    task_set = claim.test["task_set"]
    a, b = (solved(results, task_set, claim.test[side], settings.solved) for side in ("a", "b"))
    if not a.size or not b.size:
        return None
    forth, open_to_b = _solved_among_open(a, b)
    back, open_to_a = _solved_among_open(b, a)
    name_a, name_b = (LABELS.get(claim.test[side], claim.test[side]) for side in ("a", "b"))
    detail = (
        f"({name_b}) leaves {len(open_to_b)} of {b.shape[1]} tasks unsolved; ({name_a}) solves {_mean(forth):.1f} of "
        f"them. "
        f"The other way round: {_mean(back):.1f} of {len(open_to_a)}."
    )
    if not open_to_b:
        return Samples({}, detail=f"({name_b}) solves every task.", design="single")
    shares = {int(seed): number / len(open_to_b) for seed, number in forth.items()}
    return Samples(shares, {int(seed): math.nan for seed in b.index}, design="single", detail=detail)


def _solved_among_open(a: pd.DataFrame, b: pd.DataFrame) -> tuple[dict[int, int], list[str]]:
    tasks = [task for task in b.columns if b[task].mean() < 0.5 and task in a]
    return {seed: int(a.loc[seed, tasks].sum()) for seed in a.index}, tasks


def _mean(counts: dict[int, int]) -> float:
    return float(np.mean(list(counts.values()))) if counts else math.nan


def intervention_table(results: Results, task_set: str, variant: str) -> pd.DataFrame:
    """Rows intervention, seed, task, given_task, normalised: the return over the expert's on the task measured on."""
    frame = results.select(results.interventions, EXPERIMENT, task_set, variant).copy()
    measured = frame["task"].where(frame["intervention"] != "swapped-given", frame["given_task"])
    keys = zip(frame["environment"], measured, strict=True)
    expert = np.array([results.expert.get(key, math.nan) for key in keys], dtype=float)
    frame["normalised"] = frame["return_mean"].astype(float) / expert
    return frame.dropna(subset=["normalised"])


def intervention(results: Results, claim: Claim, settings: Settings) -> Samples | None:
    """The same networks under the interventions `of` and `against`, on the tasks that both were measured on."""
    return two_interventions(intervention_table(results, claim.test["task_set"], claim.test["a"]), claim)


def scale_facts(results: Results, claim: Claim) -> dict[str, float]:
    """Our numbers beside the paper's: the smallest data set of a task that a run of this claim used."""
    episodes = [
        manifest.get("episodes")
        for manifest in results.manifests.values()
        if manifest.get("environment") == EXPERIMENT and isinstance(manifest.get("episodes"), int)
    ]
    return {"episodes per task": float(min(episodes))} if episodes else {}


def aggregate(results: Results) -> dict[str, float]:
    """run -> mean over tasks of the normalised last return."""
    return run_means(results.select(results.last, EXPERIMENT), "normalised")


MEASURES = {
    "normalised_return": normalised_return,
    "solved_of_unsolved": solved_of_unsolved,
    "intervention": intervention,
}
