"""Which steps of an episode pictures show; nothing is picked by eye."""

from __future__ import annotations

from collections.abc import Sequence

STEP_RULE = (
    "Steps: the first one, the one half-way to the first reward, and the one that brings it (or, without reward, "
    "those at 0, 1/3 and 2/3)."
)


def chosen_steps(rewards: Sequence[float]) -> list[int]:
    """Indices of the steps that a strip shows, by `STEP_RULE`; a reward is one above 0."""
    n, rewarded = len(rewards), [i for i, reward in enumerate(rewards) if reward > 0]
    chosen = (0, rewarded[0] // 2, rewarded[0]) if rewarded else (0, n // 3, 2 * n // 3)
    return sorted(set(chosen))
