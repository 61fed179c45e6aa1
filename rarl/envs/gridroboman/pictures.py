"""Recorded episodes of Gridroboman as pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rarl.envs.gridroboman.render import board_image
from rarl.envs.gridroboman.tasks import ACTIONS, BOARD
from rarl.envs.pictures import Pictures


def states(episode: Mapping[str, Any], pixels: int) -> list[np.ndarray]:
    """The board before each step and after the last."""
    observations = [*(step["observation"] for step in episode["steps"]), episode["final_observation"]]
    return [_image(observation, pixels) for observation in observations]


def retrieved(state: Mapping[str, Any], pixels: int) -> np.ndarray:
    """The board of a retrieved state."""
    return _image(state["observation"], pixels)


def _image(values: Any, pixels: int) -> np.ndarray:
    observation = np.asarray(values, dtype=np.int8)
    if observation.shape != (11,):
        raise ValueError(f"an observation has 11 numbers, not shape {observation.shape}")
    return board_image(observation, cell=pixels // BOARD)


PICTURES = Pictures(states, retrieved, ACTIONS)
