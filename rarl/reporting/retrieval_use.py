"""What agents retrieve and whether they use it: by the runs' own records."""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd

from rarl.reporting import tables
from rarl.reporting.results import Results
from rarl.reporting.sheet import Sheet
from rarl.reporting.study import Study

_COLUMNS = [  # of retrieval.csv
    tables.words("agent", "Agent"),
    tables.numbers("states", "States per batch"),
    tables.numbers("steps_per_trajectory", "Steps per trajectory", 1),
    tables.numbers("last_share", "Share of last steps", 2),
    tables.numbers("effective_states", "Effective number of attended states", 1),
    tables.numbers("logit_std", "SD of logits", 3),
    tables.numbers("z_between", "SD of z between batches / its size", 3),
    tables.numbers("flips_redrawn", "Actions changed by another draw, %", 1),
    tables.numbers("flips_exchanged", "by another task's batch, %", 1),
    tables.numbers("flips_removed", "by none, %", 1),
]


def retrieval_frame(results: Results, experiments: Collection[str]) -> pd.DataFrame:
    """One row for each variant of a task set, means over its seeds at their last evaluation; empty without any."""
    frame = results.retrieval[results.retrieval["experiment"].isin(experiments)]
    if frame.empty:
        return frame
    last = frame[frame["update"] == frame.groupby("run")["update"].transform("max")]
    who = ["experiment", "task_set", "variant"]
    measured = [column.name for column in _COLUMNS if column.name in last]
    numbers = last[measured].apply(pd.to_numeric, errors="coerce")
    means = numbers.groupby([last[key] for key in who], sort=False).mean().reset_index()
    for column in means.columns[means.columns.str.startswith("flips")]:
        means[column] *= 100
    means["agent"] = [f"{results.label(row.experiment, row.variant)} ({row.task_set})" for row in means.itertuples()]
    return means


def write(study: Study, sheet: Sheet) -> None:
    """The table of a study."""
    frame = retrieval_frame(study.results, [study.name])
    if len(frame):
        sheet.heading("What is retrieved, and whether it is used")
        caption = ("fixed set of states, last evaluation, mean over seeds. An agent whose greedy actions do not change "
                   "without retrieval does not use it.")  # fmt: skip
        sheet.table(f"{study.name}-retrieval", frame, _COLUMNS, caption)
