"""Minigrid's own environments, untouched, to compare with."""

from __future__ import annotations

import contextlib

import gymnasium as gym
import minigrid  # noqa: F401 (registers its levels)
import numpy as np

from rarl.envs.babyai.generation import PutNextMaze

ACTIONS = 7


def plain_level(level):
    if level.gym_id is None:
        return PutNextMaze()
    return gym.make(level.gym_id, disable_env_checker=True).unwrapped


def plain_reset(env, seed):
    with contextlib.redirect_stdout(None):
        return env.reset(seed=seed)[0]


def busy_action(rng):
    """A random walk that gets about: half of its actions go forward."""
    return int(rng.choice(ACTIONS, p=np.array([2, 2, 6, 2, 1, 2, 1]) / 16))
