"""What trajectories of Gridroboman may hold."""

from __future__ import annotations

import gymnasium as gym

from rarl.envs.content import NOISE, Content, Public, Values
from rarl.envs.gridroboman.tasks import ACTIONS, EPISODE_STEPS
from rarl.envs.gridroboman.vector import observation_space

_SPACE = observation_space()


def _environment(task: str) -> gym.envs.registration.EnvSpec | None:
    return gym.make("rarl.envs:rarl/Gridroboman-v0", task=task).spec


CONTENT = Content(
    observations=Values(
        str(_SPACE.dtype), _SPACE.shape, low=tuple(_SPACE.low.tolist()), high=tuple(_SPACE.high.tolist())
    ),
    actions=Values("int8", low=0, high=len(ACTIONS) - 1),
    rewards=Values("uint8", low=0, high=1),
    ends="truncation",
    public=Public(_SPACE, gym.spaces.Discrete(len(ACTIONS)), _environment),
    steps=EPISODE_STEPS,
    extras={"noise": NOISE, "terminated": Values("bool")},
)
