"""How recorded episodes of an environment look, for the galleries of reports, and which steps of them are shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Pictures:
    """Pictures of what a probe wrote into gallery.json; that of another shape may raise whatever comes up.

    Attributes:
      states: (episode, pixels) -> pictures (height, width, 3) uint8, about so many pixels wide: one before each
        recorded step and, where it can be known, one after the last.
      retrieved: (retrieved state, pixels) -> its picture.
      actions: names, where steps hold numbers of actions.
      milliseconds: of a step of an animation.
      about: under which name galleries have what an episode is about; None: nowhere.
    """

    states: Callable[[Mapping[str, Any], int], list[np.ndarray]]
    retrieved: Callable[[Mapping[str, Any], int], np.ndarray]
    actions: Sequence[str] = ()
    milliseconds: int = 350
    about: str | None = None


STEP_RULE = (
    "Steps: the first one, the one half-way to the first reward, and the one that brings it (or, without reward, "
    "those at 0, 1/3 and 2/3)."
)


def chosen_steps(rewards: Sequence[float]) -> list[int]:
    """Indices of the steps that a strip shows, by `STEP_RULE`; a reward is one above 0."""
    n, rewarded = len(rewards), [i for i, reward in enumerate(rewards) if reward > 0]
    chosen = (0, rewarded[0] // 2, rewarded[0]) if rewarded else (0, n // 3, 2 * n // 3)
    return sorted(set(chosen))
