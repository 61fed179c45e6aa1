"""Games played one after another without end, whoever plays them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from rarl.envs.atari.observation import Observer
from rarl.envs.atari.vector import Step, VectorAtari


class Played(NamedTuple):
    """One step of all environments.

    step: what it gave. ended: (m,) int64, where an episode ended with it. last_x: (m, bytes), the observations after
    the last steps of these; returns, lengths: of these, unclipped and undiscounted, in steps.
    """

    step: Step
    ended: np.ndarray
    last_x: np.ndarray
    returns: list[float]
    lengths: list[int]


class Playing:
    """n environments in which the next episode begins as soon as one has ended.

    Args:
      envs: the environments.
      stack: frames in an x.

    Attributes:
      first: (n,) bool, where the next step is an episode's first.
    """

    def __init__(self, envs: VectorAtari, stack: int):
        self.envs = envs
        n = envs.num_envs
        self._observer = Observer(n, stack)
        self.first = np.ones(n, dtype=bool)
        self._returns, self._lengths = np.zeros(n), np.zeros(n, dtype=np.int64)
        self._observer.begin(envs.reset())

    @property
    def x(self) -> np.ndarray:
        """(n, bytes) uint8, what is to be acted upon; the caller's to keep."""
        return self._observer.x

    @property
    def newest(self) -> np.ndarray:
        """(n, 84, 84) uint8, the newest frame of each x: a view."""
        return self._observer.newest

    def step(self, actions: np.ndarray) -> Played:
        """actions: (n,)."""
        step = self.envs.step(actions)
        self._observer.step(actions, step.rewards, step.observations)
        self._returns += step.rewards
        self._lengths += 1
        self.first = step.terminated | step.truncated
        ended = np.flatnonzero(self.first)
        played = Played(
            step, ended, self._observer.x[ended], self._returns[ended].tolist(), self._lengths[ended].tolist()
        )
        if len(ended):
            self._returns[ended], self._lengths[ended] = 0, 0
            self._observer.begin(self.envs.reset(where=ended), ended)
        return played

    def state_dict(self) -> dict[str, Any]:
        return {
            "envs": self.envs.state_dict(),
            "observer": self._observer.state_dict(),
            "first": self.first.copy(),
            "returns": self._returns.copy(),
            "lengths": self._lengths.copy(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.envs.load_state_dict(state["envs"])
        self._observer.load_state_dict(state["observer"])
        self.first = state["first"].copy()
        self._returns, self._lengths = state["returns"].copy(), state["lengths"].copy()
