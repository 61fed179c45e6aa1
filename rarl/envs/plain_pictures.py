"""Pictures of observations of any kind, for environments that bring none of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rarl.envs.pictures import Pictures

_HIGH = (1.0, 10.0, 255.0)  # what the brightest value of a picture may stand for
_PAPER, _INK = np.array([250, 250, 250], np.uint8), np.array([60, 90, 140], np.uint8)


def picture(observation: Any, pixels: int) -> np.ndarray:
    """(pixels, pixels, 3) uint8: an array with three channels as colours; other numbers as bars from the middle, by
    x / (1 + |x|)."""
    x = np.asarray(observation, dtype=np.float64)
    if x.ndim == 3 and x.shape[-1] == 3:
        high = next((bound for bound in _HIGH if x.max() <= bound), x.max())
        rows, columns = (np.arange(pixels) * side // pixels for side in x.shape[:2])
        return (255 * x.clip(0) / high).astype(np.uint8)[rows][:, columns]
    x = x.ravel() / (1 + np.abs(x.ravel()))
    bar = x[np.arange(pixels) * len(x) // pixels]  # of each column
    height = np.linspace(1, -1, pixels)[:, None]  # of each row
    inked = (height * np.sign(bar) >= 0) & (np.abs(height) <= np.maximum(np.abs(bar), 1 / pixels))
    return np.where(inked[..., None], _INK, _PAPER)


def _states(episode: Mapping[str, Any], pixels: int) -> list[np.ndarray]:
    return [picture(step["observation"], pixels) for step in episode["steps"]]


def _retrieved(state: Mapping[str, Any], pixels: int) -> np.ndarray:
    return picture(state["observation"], pixels)


PICTURES = Pictures(_states, _retrieved, tuple(f"action {i}" for i in range(1000)))
