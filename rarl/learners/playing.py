"""Environments played one episode after another without end, whoever plays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from rarl.envs.vector import Step, VectorEnv


class Played(NamedTuple):
    """One step of all environments.

    step: what it gave. ended: where an episode ended with it. returns, lengths (in steps): of these, unclipped and
    undiscounted.
    """

    step: Step
    ended: Int[np.ndarray, " m"]
    returns: list[float]
    lengths: list[int]


class Playing:
    """n environments in which the next episode begins as soon as one has ended.

    Args:
      envs: the environments.

    Attributes:
      x: (n, ...), what is to be acted upon.
      first: (n,) bool, where the next step is an episode's first.
    """

    def __init__(self, envs: VectorEnv):
        self.envs = envs
        n = envs.num_envs
        self.first = np.ones(n, dtype=bool)
        self._returns, self._lengths = np.zeros(n), np.zeros(n, dtype=np.int64)
        self.x = envs.reset()

    def step(self, actions: Int[np.ndarray, " n"]) -> Played:
        """One step of each environment."""
        step = self.envs.step(actions)
        self.x = step.observations
        self._returns += step.rewards
        self._lengths += 1
        self.first = step.terminated | step.truncated
        ended = np.flatnonzero(self.first)
        played = Played(step, ended, self._returns[ended].tolist(), self._lengths[ended].tolist())
        if len(ended):
            self._returns[ended], self._lengths[ended] = 0, 0
            self.x = self.envs.reset(where=ended)
        return played

    def state_dict(self) -> dict[str, Any]:
        return {
            "envs": self.envs.state_dict(),
            "x": self.x.copy(),
            "first": self.first.copy(),
            "returns": self._returns.copy(),
            "lengths": self._lengths.copy(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.envs.load_state_dict(state["envs"])
        self.x, self.first = state["x"].copy(), state["first"].copy()
        self._returns, self._lengths = state["returns"].copy(), state["lengths"].copy()
