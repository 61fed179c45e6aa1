"""Actors: play games without end, for a replay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from rarl.agents.policy import Policy
from rarl.agents.value_rescaling import rescale, unrescale
from rarl.envs.atari.vector import VectorAtari
from rarl.training.playing import Playing
from rarl.training.replay import Replay


class Begun(NamedTuple):
    """Episodes that begin: arguments of `Replay.begin`."""

    actors: np.ndarray
    frames: np.ndarray


class Stepped(NamedTuple):
    """One step of all actors: arguments of `Replay.add`."""

    actors: np.ndarray
    states: dict[str, np.ndarray]
    actions: np.ndarray
    rewards: np.ndarray
    frames: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    td_errors: np.ndarray


@dataclass
class Experience:
    """What was played: for the replay, in order; returns and lengths (in steps) of the episodes that ended."""

    events: list[Begun | Stepped]
    returns: list[float]
    lengths: list[int]

    def add_to(self, replay: Replay) -> None:
        """Hand it to the replay."""
        for event in self.events:
            if isinstance(event, Begun):
                replay.begin(*event)
            else:
                replay.add(*event)


class Actors:
    """Play without end, with a TD error for each step: that of the actor's own network, as R2D2's actors compute it.

    A step is handed out one step later than it is taken, when the value of the state after it is known; steps at which
    an episode was cut off have no such value, and a TD error of NaN.

    Args:
      envs: n environments.
      policy: of n actors.
      stack: frames in an x.
      discount: gamma.
      rescale_epsilon: of the value rescaling, None without.
    """

    def __init__(self, envs: VectorAtari, policy: Policy, stack: int, discount: float, rescale_epsilon: float | None):
        self.envs, self.policy, self.discount, self.rescale_epsilon = envs, policy, discount, rescale_epsilon
        self._all = np.arange(envs.num_envs)
        self._playing = Playing(envs, stack)
        self._pending: dict[str, Any] | None = None

    def play(self, steps: int) -> Experience:
        """So many steps of every actor."""
        gained = Experience([], [], [])
        for _ in range(steps):
            first = self._playing.first.copy()
            self.policy.begin(first)
            states = self.policy.state
            actions = self.policy(self._playing.x)
            q = self.policy.q
            if self._pending is not None:
                gained.events.append(self._completed(self._pending, q))
            if first.any():
                actors = np.flatnonzero(first)
                gained.events.append(Begun(actors, self._playing.newest[actors]))
            played = self._playing.step(actions)
            step = played.step
            self._pending = {
                "states": states,
                "actions": actions,
                "rewards": step.rewards,
                "frames": step.observations,
                "terminated": step.terminated,
                "truncated": step.truncated,
                "q": q[self._all, actions],
            }
            gained.returns += played.returns
            gained.lengths += played.lengths
        return gained

    def _completed(self, step: Mapping[str, Any], q: np.ndarray) -> Stepped:
        """The step before, now that the values q (n, n_actions) of what came after are known."""
        best = unrescale(torch.from_numpy(q).amax(1).double(), self.rescale_epsilon).numpy()
        goes_on = np.where(step["terminated"], 0.0, self.discount)
        target = rescale(torch.from_numpy(step["rewards"] + goes_on * best), self.rescale_epsilon).numpy()
        errors = target - step["q"]
        known = ~step["truncated"] & np.isfinite(errors)  # infinite values are for the learner to report
        errors = np.where(known, errors, np.nan)
        parts = {name: part for name, part in step.items() if name != "q"}
        return Stepped(self._all, **parts, td_errors=errors)

    def state_dict(self) -> dict[str, Any]:
        return {"playing": self._playing.state_dict(), "policy": self.policy.state_dict(), "pending": self._pending}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._playing.load_state_dict(state["playing"])
        self.policy.load_state_dict(state["policy"])
        self._pending = None if state["pending"] is None else dict(state["pending"])
