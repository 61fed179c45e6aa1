"""What probes record and measure in BabyAI beside what they do everywhere."""

from __future__ import annotations

from typing import Any

import numpy as np

from rarl.envs.babyai.missions import share_a_thing, things, words
from rarl.envs.babyai.view import CELLS
from rarl.envs.probing import Probing


def seen(x: np.ndarray) -> dict[str, Any]:
    """What the agent sees, without its direction and what it carries."""
    return {"view": x[:CELLS].tolist()}


def mission(tokens: np.ndarray) -> dict[str, Any]:
    """An episode is replayed from level, seed and actions; its mission says whether it is the same."""
    return {"mission": words(tokens)}


def related(tokens: np.ndarray, of_trajectories: np.ndarray) -> np.ndarray:
    """Trajectories whose mission speaks of a thing of this mission."""
    own = things(words(tokens))
    return np.array([share_a_thing(own, things(words(other))) for other in of_trajectories])


PROBING = Probing(episodes=24, stream=3, state=seen, about=mission, related=related)
