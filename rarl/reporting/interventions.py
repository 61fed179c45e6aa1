"""Interventions on what trained agents retrieve: their names, how much of the data they leave, whose data they give."""

from __future__ import annotations

import re

import pandas as pd

from rarl.reporting.results import spelled
from rarl.reporting.study import Study, Variant

OWN = "own"
NAMES = {
    OWN: "as trained",
    "removed": "nothing retrieved",
    "shuffled": "states shuffled across trajectories",
    "reordered": "steps shuffled within trajectories",
    "exchanged-by-reward": "states shuffled within equal reward",
    "z-mean": "read-out z fixed at its mean",
    "others": "other tasks' trajectories only",
    "swapped": "another task's dataset, scored on the task in play",
    "swapped-given": "another task's dataset, scored on that task",
    "retrieve-and-play": "no learning: action of the nearest retrieved state",
    "retrieve-and-play-best": "no learning: action of the nearest state in the best quarter",
}
# Those that leave a part of the data: first part of their names -> what the number after it counts.
AMOUNTS = {"truncated": "trajectories", "cut": "steps"}
_AMOUNT = re.compile(rf"({'|'.join(AMOUNTS)})-(\d+)")


def amount_of(name: str) -> tuple[str, int] | None:
    """("trajectories", 8) of the intervention truncated-8, ("steps", 10) of cut-10; None of another one."""
    found = _AMOUNT.fullmatch(name)
    return (AMOUNTS[found[1]], int(found[2])) if found else None


def swaps(study: Study, variant: Variant, task_set: str) -> pd.DataFrame:
    """(given task, task measured on): score, mean over seeds; own dataset on the diagonal. May be empty."""
    frame = study.interventions(variant, task_set)
    swapped = frame[frame["intervention"] == "swapped"]
    if swapped.empty:
        return pd.DataFrame()
    own = frame[frame["intervention"] == OWN].assign(given_task=lambda rows: rows["task"])
    rows = pd.concat([swapped, own], ignore_index=True)
    matrix = rows.pivot_table(index="given_task", columns="task", values="score", aggfunc="mean")
    order = study.task_order(map(spelled, {*matrix.index, *matrix.columns}))
    tasks = [task for members in order.values() for task in members]
    return matrix.reindex(index=tasks, columns=tasks).astype(float)
