"""Per-seed numbers of Gridroboman runs, for claims, tables and figures."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import numpy as np
import pandas as pd

from rarl.envs.gridroboman.tasks import EPISODE_STEPS, FAMILIES, TASKS
from rarl.reporting.claims import Claim, Samples, Settings
from rarl.reporting.configurations import first_run, value_of
from rarl.reporting.effects import (
    NOTHING_RETRIEVED,
    OTHERS,
    REMOVED,
    RETRIEVAL,
    SHUFFLED,
    Change,
    Effect,
    effect,
    present,
)
from rarl.reporting.results import Results
from rarl.reporting.scores import (
    intervention_scores,
    paired,
    run_means,
    seed_means,
    task_table,
    two_interventions,
    two_variants,
)

EXPERIMENT = "gridroboman"
ALL_TASKS = "30-tasks"
BASELINE = "dqn-hidden"
PROBED = "ra-dqn-hidden"
UNIT = "of the expert's return"
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
# Interventions that leave a part of the data: first part of their names -> what the number after it counts.
AMOUNTS = {"truncated": "trajectories", "cut": "steps"}
_AMOUNT = re.compile(rf"({'|'.join(AMOUNTS)})-(\d+)")
TASKS_BY_FAMILY = [task for family in FAMILIES for task in TASKS if task.family == family]


def normalised_table(results: Results, task_set: str, variant: str, experiment: str = EXPERIMENT) -> pd.DataFrame:
    """(seeds, tasks): last return divided by the expert's. Empty where there are no usable runs."""
    return task_table(results, experiment, task_set, variant, "normalised")


def seed_scores(results: Results, task_set: str, variant: str, experiment: str = EXPERIMENT) -> dict[int, float]:
    """seed -> mean over tasks of the normalised last return. A seed that lacks a task's score is left out."""
    return seed_means(normalised_table(results, task_set, variant, experiment))


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


def intervention_table(results: Results, task_set: str, variant: str, experiment: str = EXPERIMENT) -> pd.DataFrame:
    """Rows intervention, seed, task, given_task, normalised: the return over the expert's on the task measured on."""
    frame = results.select(results.interventions, experiment, task_set, variant).copy()
    measured = frame["task"].where(frame["intervention"] != "swapped-given", frame["given_task"])
    keys = zip(frame["environment"], measured, strict=True)
    expert = np.array([results.expert.get(key, math.nan) for key in keys], dtype=float)
    frame["normalised"] = frame["return_mean"].astype(float) / expert
    return frame.dropna(subset=["normalised"])


def intervention(results: Results, claim: Claim, settings: Settings) -> Samples | None:
    """The same networks under the interventions `of` and `against`, on the tasks that both were measured on."""
    return two_interventions(intervention_table(results, claim.test["task_set"], claim.test["a"]), claim)


def amount_of(name: str) -> tuple[str, int] | None:
    """("trajectories", 8) of the intervention truncated-8, ("steps", 10) of cut-10; None of another one."""
    found = _AMOUNT.fullmatch(name)
    return (AMOUNTS[found[1]], int(found[2])) if found else None


def amount_table(results: Results, task_set: str, variant: str, of: str) -> pd.DataFrame:
    """(amounts, seeds): normalised return with so many "trajectories" in a batch, or so many first "steps" of each.

    As trained, which the configuration tells, is the largest amount. May be empty.
    """
    frame = intervention_table(results, task_set, variant)
    rows = {found[1]: intervention_scores(frame, name) for name in frame["intervention"].unique()
            if (found := amount_of(name)) and found[0] == of}  # fmt: skip
    whole = EPISODE_STEPS
    if of == "trajectories":
        whole = value_of(results, first_run(results, EXPERIMENT, task_set, variant), "agent.retrieval.n_traj")
    own = intervention_scores(frame, "own")
    if rows and own and isinstance(whole, int) and whole > max(rows):
        rows[whole] = own
    return pd.DataFrame.from_dict(rows, orient="index").sort_index(axis=0).sort_index(axis=1)


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


def effects(results: Results, settings: Settings) -> list[Effect]:
    """What retrieval adds on all tasks, controls, and interventions on the networks that were looked into."""
    full, base = (seed_scores(results, ALL_TASKS, variant) for variant in (PROBED, BASELINE))
    gain = Samples(full, base) if full and base else None
    # Without a hidden task there is less to find out, so the gain is another one.
    observed = [seed_scores(results, ALL_TASKS, variant) for variant in ("ra-dqn-observed", "dqn-observed")]
    told = Samples(*observed) if all(observed) else None

    def made(change: Change, samples: Samples | None, where: str = "Gridroboman") -> Effect | None:
        return effect(change, where, EXPERIMENT, ALL_TASKS, samples, settings, unit=UNIT, digits=3, gain=gain)

    def trained(variant: str) -> Samples | None:
        scores = seed_scores(results, ALL_TASKS, variant)
        return Samples(scores, full) if scores and full else None

    found = [
        made(RETRIEVAL, gain, "Gridroboman, task hidden"),
        made(RETRIEVAL, told, "Gridroboman, task observed"),
        made(NOTHING_RETRIEVED, trained("no-retrieval")),
        made(
            Change("part", "One retrieval batch per task, never redrawn", "batch never redrawn"), trained("same-batch")
        ),
        made(Change("data", "Trained on batches of random tasks", "random tasks' batches"), trained("random-tasks")),
    ]
    frame = intervention_table(results, ALL_TASKS, PROBED)
    own = intervention_scores(frame, "own")
    for name, change in (("removed", REMOVED), ("shuffled", SHUFFLED), ("swapped", OTHERS)):
        found.append(made(change, paired(intervention_scores(frame, name), own)))
    for of in AMOUNTS.values():
        found += _amount_effects(amount_table(results, ALL_TASKS, PROBED, of), of, made)
    return present(found)


def _amount_effects(
    table: pd.DataFrame, of: str, made: Callable[[Change, Samples | None], Effect | None]
) -> list[Effect | None]:
    """The least amount that makes no visible difference, and the largest that costs."""
    if len(table) < 2:
        return []
    scores = {n: {int(seed): float(v) for seed, v in table.loc[n].dropna().items()} for n in table.index}
    whole = table.index[-1]
    words = {"trajectories": "Only {} trajectories to retrieve from, in the place of {}",
             "steps": "Only the first {} steps of each trajectory, in the place of {}"}  # fmt: skip
    found = {n: made(Change("data", words[of].format(n, whole), f"only {n} {of}"), paired(scores[n], scores[whole]))
             for n in table.index[:-1]}  # fmt: skip
    same = min((n for n, e in found.items() if e is not None and e.reading == "same"), default=None)
    costs = max((n for n, e in found.items() if e is not None and e.reading == "costs"), default=None)
    return [found[n] for n in (same, costs) if n is not None]


MEASURES = {
    "normalised_return": normalised_return,
    "solved_of_unsolved": solved_of_unsolved,
    "intervention": intervention,
}
