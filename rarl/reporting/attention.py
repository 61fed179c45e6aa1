"""What was measured of attention, averaged over tasks; the same for every experiment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pandas as pd
from markupsafe import Markup

from rarl.reporting import tables
from rarl.reporting.figures import Look
from rarl.reporting.statistics import t_interval

# quantity of attention.csv -> what it is
QUANTITIES = {
    "effective_states": "states that share the attention (exp of its entropy)",
    "kl": "KL of z's posterior from its prior, nats per step",
    "rewarded_share": "attention on rewarded states",
    "rewarded_candidates": "rewarded states among the candidates",
}


def quantity_table(frame: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """(seeds, tasks): a quantity of rows of attention.csv, as it stands there. May be empty."""
    frame = frame[frame["quantity"] == quantity].astype({"value": float})
    return frame.pivot_table(index="seed", columns="task", values="value", aggfunc="mean")


def table(
    frame: pd.DataFrame,
    quantities: Mapping[str, str],
    variants: Sequence[str],
    look: Callable[[str], Look],
    tasks: str,
    level: float,
) -> Markup:
    """One row per agent and quantity that was measured on it: its mean over tasks, and the t interval over seeds.

    Args:
      frame: rows of attention.csv.
      quantities: name -> what it is.
      tasks: what the tasks are called.
    """
    rows = []
    for variant in variants:
        for quantity, text in quantities.items():
            values = quantity_table(frame[frame["variant"] == variant], quantity).dropna()
            if values.size:
                mean = t_interval(values.mean(axis=1), level)
                rows.append([look(variant).label, text, tables.seeds(mean.n), tables.interval(mean, 3)])
    return tables.table(["Agent", f"Quantity (mean over {tasks})", "Seeds", "Value"], rows, "llrr")
