"""When and how an agent that plays tries something else than what it thinks best."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int


def explore(
    best: Int[np.ndarray, " n"], n_actions: int, epsilon: Float[np.ndarray, " n"] | float, rng: np.random.Generator
) -> Int[np.ndarray, " n"]:
    """The actions `best`, each with probability epsilon replaced by any of the n_actions.

    epsilon: one for each, or for all. rng: advanced by as many draws whatever is explored.
    """
    explores = rng.random(len(best)) < epsilon
    return np.where(explores, rng.integers(n_actions, size=len(best)), best)


def any_of_the_best(q: Float[np.ndarray, "n n_actions"], rng: np.random.Generator) -> Int[np.ndarray, " n"]:
    """The place of the largest value; where there are several, of any."""
    best: np.ndarray = np.where(q == q.max(1, keepdims=True), rng.random(q.shape), -1.0).argmax(1)
    return best


def falling_epsilon(steps: int, first: int, last: int, at_last: float) -> float:
    """epsilon after so many environment steps: 1 up to step `first`, then linearly down to `at_last` at step `last`."""
    share = min(max((steps - first) / (last - first), 0.0), 1.0)
    return 1.0 + share * (at_last - 1.0)
