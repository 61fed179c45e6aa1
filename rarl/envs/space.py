"""Spaces of observations and numbers of actions, told by a specification or by the environments themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gymnasium as gym

from rarl.envs.spec import make_vector, plays, spec_of
from rarl.errors import RarlError

if TYPE_CHECKING:
    from rarl.config.settings import RunSettings


def observation_space(settings: RunSettings) -> gym.Space:
    """The space of what a run's agents observe, one observation.

    Raises:
      RarlError: nobody tells it.
    """
    spec = spec_of(settings.environment)
    if spec.observation is not None:
        return spec.observation
    space = getattr(_one(settings), "observation_space", None) if plays(spec) else None
    if space is None:
        raise RarlError(f"{spec.name}: `observation`, the space of what is observed, is not given")
    return space


def number_of_actions(settings: RunSettings) -> int:
    """How many actions a run's agents have.

    Raises:
      RarlError: nobody tells it.
    """
    spec = spec_of(settings.environment)
    if spec.n_actions is not None:
        return spec.n_actions
    if not plays(spec):
        raise RarlError(f"{spec.name}: `n_actions` is not given, and there is no simulator that tells")
    return len(_one(settings).actions)


def _one(settings: RunSettings):
    return make_vector(settings, [settings.tasks[0]])
