"""What agents retrieve and whether they use it: by the runs' own records."""

from __future__ import annotations

import pandas as pd

from rarl.reporting.results import IDENTITY
from rarl.reporting.sheet import Sheet
from rarl.reporting.study import Study

_HEADS = {  # of retrieval.csv
    "agent": "Agent",
    "set": "Task set",
    "states": "States per batch",
    "steps_per_trajectory": "Steps per trajectory",
    "last_share": "Share of last steps",
    "effective_states": "Effective number of attended states",
    "logit_std": "SD of logits",
    "z_between": "SD of z between batches / its size",
    "flips_redrawn": "Actions changed by another draw, %",
    "flips_exchanged": "by another task's batch, %",
    "flips_removed": "by none, %",
}


def retrieval_frame(study: Study) -> pd.DataFrame:
    """One row for each variant of a task set, means over its seeds at their last evaluation; empty without any."""
    frame = study.results.select(study.results.retrieval, study.name)
    last = frame[frame["update"] == frame.groupby("run")["update"].transform("max")]
    measured = [name for name in _HEADS if name in last]
    numbers = last[measured].apply(pd.to_numeric, errors="coerce")
    means = numbers.groupby([last[key] for key in IDENTITY[2:4]], sort=False).mean().reset_index()
    means[[name for name in measured if name.startswith("flips")]] *= 100
    return means.assign(agent=means["variant"].map(study.label), set=means["task_set"].map(study.set_title))


def write(study: Study, sheet: Sheet) -> None:
    """The table."""
    frame = retrieval_frame(study)
    if len(frame):
        sheet.heading("What is retrieved, and whether it is used")
        caption = ("fixed set of states, last evaluation, mean over seeds. An agent whose greedy actions do not change "
                   "without retrieval does not use it.")  # fmt: skip
        sheet.table(f"{study.name}-retrieval", frame, _HEADS, caption)
