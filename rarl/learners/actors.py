"""Actors: play without end, for a replay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from rarl.agents.policy import Policy
from rarl.envs.vector import VectorEnv
from rarl.learners.playing import Playing
from rarl.replay.codec import Codec
from rarl.replay.prioritised import Replay


class Begun(NamedTuple):
    """Episodes that begin: arguments of `Replay.begin`."""

    actors: Int[np.ndarray, " m"]
    frames: Shaped[np.ndarray, "m ..."]


class Stepped(NamedTuple):
    """One step of all actors: arguments of `Replay.add`."""

    actors: Int[np.ndarray, " n"]
    states: dict[str, Float[np.ndarray, "n ..."]]
    actions: Int[np.ndarray, " n"]
    rewards: Float[np.ndarray, " n"]
    frames: Shaped[np.ndarray, "n ..."]
    terminated: Bool[np.ndarray, " n"]
    truncated: Bool[np.ndarray, " n"]
    values: Float[np.ndarray, "n 2*n_actions"]


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
    """Play without end, with the values that the actor's own network has: those of the state in which a step is taken
    and of the one after it, (n, 2 actions) in all, from which the replay computes first priorities.

    A step is handed out one step later than it is taken, when the values of the state after it are known. A step at
    which an episode was cut off has none: NaN. Infinite ones count as not known; they are for the learner to report.

    Args:
      envs: n environments.
      policy: of n actors.
      codec: how the replay keeps observations.
    """

    def __init__(self, envs: VectorEnv, policy: Policy, codec: Codec):
        self.envs, self.policy, self.codec = envs, policy, codec
        self._all = np.arange(envs.num_envs)
        self._playing = Playing(envs)
        self._pending: dict[str, Any] | None = None

    def play_in(self, envs: VectorEnv) -> None:
        """Play in other n environments from now on, from the start of new episodes."""
        self.envs = self._playing.envs = envs
        self._playing.x = envs.reset()

    def play(self, steps: int) -> Experience:
        """So many steps of every actor."""
        gained = Experience([], [], [])
        for _ in range(steps):
            first = self._playing.first.copy()
            self.policy.begin(first, self.envs.context)
            states = self.states
            actions = self.policy(self._playing.x)
            q = self.policy.q
            if self._pending is not None:
                gained.events.append(self._completed(self._pending, q))
            if first.any():
                actors = np.flatnonzero(first)
                gained.events.append(Begun(actors, self.codec.newest(self._playing.x)[actors]))
            played = self._playing.step(actions)
            step = played.step
            self._pending = {
                "states": states,
                "actions": actions,
                "rewards": step.rewards,
                "frames": self.codec.newest(step.observations),
                "terminated": step.terminated,
                "truncated": step.truncated,
                "q": q.copy(),
            }
            gained.returns += played.returns
            gained.lengths += played.lengths
        return gained

    @property
    def states(self) -> dict[str, np.ndarray]:
        """What a step is begun with, for each actor: its recurrent state, and what it is told (n, ...) if anything."""
        context = self.envs.context
        return self.policy.state | ({} if context is None else {"context": context.astype(np.float32)})

    def _completed(self, step: Mapping[str, Any], q: np.ndarray) -> Stepped:
        """The step before, now that the values q (n, n_actions) of what came after are known."""
        values = np.concatenate([step["q"], q], axis=1).astype(np.float64)
        known = ~step["truncated"] & np.isfinite(values).all(1)
        parts = {name: part for name, part in step.items() if name != "q"}
        return Stepped(self._all, **parts, values=np.where(known[:, None], values, np.nan))

    def state_dict(self) -> dict[str, Any]:
        return {"playing": self._playing.state_dict(), "policy": self.policy.state_dict(), "pending": self._pending}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._playing.load_state_dict(state["playing"])
        self.policy.load_state_dict(state["policy"])
        self._pending = None if state["pending"] is None else dict(state["pending"])
