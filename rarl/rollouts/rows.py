"""What an evaluation says: the rows of evaluations.csv."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def evaluation_rows(tasks: Sequence[str], returns: np.ndarray, successes: np.ndarray) -> list[dict[str, Any]]:
    """One row per task, from returns and successes (tasks, episodes)."""
    episodes = returns.shape[1]
    return [
        {
            "task": task,
            "episodes": episodes,
            "return_mean": float(returns[i].mean()),
            "return_std": float(returns[i].std(ddof=1)) if episodes > 1 else 0.0,
            "success_rate": float(successes[i].mean()),
        }
        for i, task in enumerate(tasks)
    ]


def retrieval_blocks(episodes: int, most: int) -> int:
    """Over how many retrieval batches so many episodes are spread evenly: at most the setting `retrieval_batches`."""
    return max(n for n in range(1, most + 1) if episodes % n == 0)
