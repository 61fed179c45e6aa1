"""What agents retrieve and whether they use it, and whether sequences are drawn right: by the runs' own records."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from rarl.reporting import tables
from rarl.reporting.results import Results

TITLE = "What is retrieved, and whether it is used"
_RETRIEVAL = {  # column of retrieval.csv -> head and digits
    "states": ("States in a batch", 0),
    "steps_per_trajectory": ("Steps of a trajectory", 1),
    "last_share": ("Last steps, share", 2),
    "effective_states": ("States attended to, effectively", 1),
    "logit_std": ("Standard deviation of logits", 3),
    "z_between": ("Deviation of z between batches, of its size", 3),
    "flips_redrawn": ("Actions changed by another draw, %", 1),
    "flips_exchanged": ("by another task's batch, %", 1),
    "flips_removed": ("by none, %", 1),
}
_WHO = ["experiment", "task_set", "variant"]


def retrieval_table(results: Results, label: Callable[[str, str], str]) -> str:
    """One row for each variant of a task set, means over its seeds at their last evaluation; empty without any."""
    frame = results.retrieval
    if frame.empty:
        return ""
    last = frame[frame["update"] == frame.groupby("run")["update"].transform("max")]
    columns = [column for column in _RETRIEVAL if column in last]
    rows = []
    for (experiment, task_set, variant), group in last.groupby(_WHO, sort=False):
        cells = []
        for column in columns:
            value = pd.to_numeric(group[column], errors="coerce").mean()
            value *= 100 if column.startswith("flips") else 1
            cells.append("" if pd.isna(value) else tables.number(float(value), _RETRIEVAL[column][1]))
        rows.append([f"{label(experiment, variant)} ({task_set})", *cells])
    return tables.table(["Agent", *(_RETRIEVAL[column][0] for column in columns)], rows, "l" + "r" * len(columns))


def sampling_line(results: Results) -> str:
    """How often rewarded steps are learned from, against their share of the data; empty where nobody says."""
    frame = results.training
    if not {"rewarded_steps", "rewarded_steps_of_data"} <= set(frame.columns):
        return ""
    means = frame[["rewarded_steps", "rewarded_steps_of_data"]].apply(pd.to_numeric, errors="coerce").dropna()
    if means.empty:
        return ""
    learned, of_data = 100 * means.mean()
    return (
        f"Of the steps learned from in sequences, {tables.number(learned, 2)} % have a reward; of the steps of their "
        f"datasets, {tables.number(of_data, 2)} %."
    )
