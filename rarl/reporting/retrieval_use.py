"""What agents retrieve and whether they use it, and whether sequences are drawn right: by the runs' own records."""

from __future__ import annotations

import pandas as pd

from rarl.reporting import tables
from rarl.reporting.results import Results

_COLUMNS = [  # of retrieval.csv
    tables.words("agent", "Agent"),
    tables.numbers("states", "States in a batch"),
    tables.numbers("steps_per_trajectory", "Steps of a trajectory", 1),
    tables.numbers("last_share", "Last steps, share", 2),
    tables.numbers("effective_states", "Effective number of attended states", 1),
    tables.numbers("logit_std", "Standard deviation of logits", 3),
    tables.numbers("z_between", "Deviation of z between batches, of its size", 3),
    tables.numbers("flips_redrawn", "Actions changed by another draw, %", 1),
    tables.numbers("flips_exchanged", "by another task's batch, %", 1),
    tables.numbers("flips_removed", "by none, %", 1),
]


def retrieval_table(results: Results) -> str:
    """One row for each variant of a task set, means over its seeds at their last evaluation; empty without any."""
    frame = results.retrieval
    if frame.empty:
        return ""
    last = frame[frame["update"] == frame.groupby("run")["update"].transform("max")]
    who = ["experiment", "task_set", "variant"]
    measured = [column.name for column in _COLUMNS if column.name in last]
    numbers = last[measured].apply(pd.to_numeric, errors="coerce")
    means = numbers.groupby([last[key] for key in who], sort=False).mean().reset_index()
    for column in means.columns[means.columns.str.startswith("flips")]:
        means[column] *= 100
    means["agent"] = [f"{results.label(row.experiment, row.variant)} ({row.task_set})" for row in means.itertuples()]
    return tables.to_markdown(means, _COLUMNS)


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
