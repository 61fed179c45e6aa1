"""How recorded episodes of an environment look, for the galleries of reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Pictures:
    """Pictures of what a probe wrote into gallery.json; that of another shape may raise whatever comes up.

    Attributes:
      boards: (episode, pixels) -> pictures (height, width, 3) uint8, about so many pixels wide: one before each
        recorded step and, where it can be known, one after the last.
      retrieved: (retrieved state, pixels) -> its picture.
      actions: names, where steps hold numbers of actions.
      milliseconds: of a step of an animation.
    """

    boards: Callable[[Mapping[str, Any], int], list[np.ndarray]]
    retrieved: Callable[[Mapping[str, Any], int], np.ndarray]
    actions: Sequence[str] = ()
    milliseconds: int = 350
