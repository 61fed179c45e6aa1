"""What probes record and measure in BabyAI beside what they do everywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rarl.envs.babyai.levels import level_named
from rarl.envs.babyai.missions import VOCABULARY, share_a_thing, things, words
from rarl.envs.babyai.vector import VectorBabyAI
from rarl.envs.babyai.view import CELLS, decode, thing_code
from rarl.envs.probing import Probing
from rarl.errors import required


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


def features(x: np.ndarray, mission: np.ndarray | None) -> np.ndarray:
    """Types, colours and states of the cells in view, one-hot; and the words of the mission, a word for ten cells."""
    parts = [one_hot for part, n in zip(np.moveaxis(decode(x[:, :CELLS]), -1, 0), (11, 6, 3), strict=True)
             for one_hot in [np.eye(n, dtype=np.float32)[part].reshape(len(x), -1)]]  # fmt: skip
    if mission is not None:
        said = np.zeros((len(x), len(VOCABULARY)), dtype=np.float32)
        np.put_along_axis(said, mission.astype(np.int64), 10**0.5, axis=1)
        parts.append(said[:, 1:])
    return np.concatenate(parts, 1)


PROBING = Probing(episodes=24, stream=3, state=seen, about=mission, related=related, features=features)


def rewards_in(envs: VectorBabyAI, tasks: Sequence[str]) -> Callable[[], np.ndarray]:
    """1 where the agent stands before the thing of another mission and the episode still goes on."""
    targets = np.array([thing_code(*required(level_named(task).target, "target")) for task in tasks])
    return lambda: (envs.ahead == targets).astype(np.float64)


OF_MISSIONS = Probing(episodes=24, stream=3, state=seen, features=features, rewards_in=rewards_in)
