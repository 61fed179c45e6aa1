"""How well a ranking finds what is relevant: the measures of information retrieval."""

from __future__ import annotations

import numpy as np


def recall_at_k(hits: np.ndarray, k: int, relevant: int) -> float:
    """The share of what k places can hold of the relevant that is in the first k.

    Args:
      hits: (n,) bool, whether what is ranked is relevant, best first; what was not found is not in it.
      k: places.
      relevant: how many relevant ones there are, found or not; at least one.
    """
    return float(np.count_nonzero(hits[:k]) / min(k, relevant))


def reciprocal_rank(hits: np.ndarray) -> float:
    """1 / the place of the first relevant one, counted from 1; 0 if none was found. hits as in `recall_at_k`."""
    return float(1 / (1 + np.argmax(hits))) if hits.any() else 0.0
