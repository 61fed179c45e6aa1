"""What trajectories of BabyAI may hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from rarl.envs.babyai.levels import level_named
from rarl.envs.babyai.missions import MISSION_LENGTH, VOCABULARY, words
from rarl.envs.babyai.vector import ACTIONS, OBSERVATION_SIZE
from rarl.envs.babyai.view import CELLS, CODES, VIEW, decode
from rarl.envs.content import NOISE, Content, Public, Values

# Minigrid's own observations; its space of missions cannot be written down, so here they are any text of their letters.
_SPACE = gym.spaces.Dict(
    {
        "direction": gym.spaces.Discrete(4),
        "image": gym.spaces.Box(0, 255, (VIEW, VIEW, 3), np.uint8),
        "mission": gym.spaces.Text(
            MISSION_LENGTH * (1 + max(map(len, VOCABULARY))), charset="".join(sorted(set("".join(VOCABULARY) + " ")))
        ),
    }
)


def _environment(task: str) -> gym.envs.registration.EnvSpec | None:
    import minigrid  # noqa: F401 (registers the levels, which takes half a second)

    gym_id = level_named(task).gym_id
    return None if gym_id is None else gym.spec(gym_id)


def _observations(observations: np.ndarray, extras: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return {
        "direction": observations[:, CELLS].astype(np.int64),
        "image": decode(observations[:, :CELLS]),
        "mission": [words(extras["mission"])] * len(observations),
    }


def _attributes(extras: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return {**extras, "mission": words(extras["mission"])}


CONTENT = Content(
    # The codes of the cells in view, then the direction.
    observations=Values("uint8", (OBSERVATION_SIZE,), low=(0,) * OBSERVATION_SIZE, high=(CODES - 1,) * CELLS + (3,)),
    actions=Values("uint8", low=0, high=len(ACTIONS) - 1),
    rewards=Values("float32", low=0, high=1),
    ends="per-episode",
    public=Public(_SPACE, gym.spaces.Discrete(len(ACTIONS)), _environment, _observations, _attributes),
    extras={
        "mission": Values("uint8", (MISSION_LENGTH,), low=0, high=len(VOCABULARY) - 1),
        "terminated": Values("bool"),
        "seed": Values("int64", low=0, high=2**63 - 1),
        "noise": NOISE,
    },
    required=("mission", "terminated"),
)
