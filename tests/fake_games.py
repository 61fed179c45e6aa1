"""A game that costs nothing, behind the interface of `VectorAtari`, and a policy that remembers what it did."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rarl.agents.policy import Policy
from rarl.envs.atari.packed import PackedAtari
from rarl.envs.atari.vector import GameStep


class FakeGames:
    """n environments: noise to look at; rewards, terminations and truncations by chance.

    Args:
      n: environments.
      seed: of all of them.
      actions: number of actions.
      ends, cut: probability that an episode terminates, or is truncated, with a step.
      pays: the action with reward 1 where all others have 0; None: rewards are random.

    Attributes:
      log: (actions, GameStep) of every step.
    """

    def __init__(
        self, n: int, seed: int = 0, actions: int = 4, ends: float = 0.05, cut: float = 0.03, pays: int | None = None
    ):
        self.num_envs, self.num_actions = n, actions
        self.actions = tuple(f"action {i}" for i in range(actions))
        self.ends, self.cut, self.pays = ends, cut, pays
        self.active = np.zeros(n, dtype=bool)
        self._rngs = [np.random.default_rng([seed, i]) for i in range(n)]
        self._frames = np.zeros((n, 84, 84), dtype=np.uint8)
        self.log: list[tuple[np.ndarray, GameStep]] = []

    @classmethod
    def packed(cls, n: int, stack: int = 1, **options: Any) -> PackedAtari:
        """As agents see them: the games themselves are its `games`."""
        return PackedAtari(cls(n, **options), stack)

    @classmethod
    def play_instead(cls, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
        """From here on games are fake, whoever plays."""

        def games(names: list[str], *, seed: int, **protocol: Any) -> FakeGames:
            return cls(len(names), seed, **options)

        monkeypatch.setattr("rarl.envs.atari.packed.VectorAtari", games)

    def _look(self, i: int) -> None:
        self._frames[i] = self._rngs[i].integers(256, size=(84, 84), dtype=np.uint8)

    def reset(self, seeds: Any = None, where: Any = None) -> np.ndarray:
        where = range(self.num_envs) if where is None else np.asarray(where).tolist()
        for k, i in enumerate(where):
            if seeds is not None:
                self._rngs[i] = np.random.default_rng(int(seeds[k]))
            self._look(i)
            self.active[i] = True
        return self._frames.copy()

    def step(self, actions: np.ndarray) -> GameStep:
        rewards = np.zeros(self.num_envs, dtype=np.float32)
        terminated, truncated = np.zeros((2, self.num_envs), dtype=bool)
        for i in np.flatnonzero(self.active):
            rng = self._rngs[i]
            self._look(i)
            random = rng.choice([0.0, 0.0, 1.0, -2.0, 30.0])
            rewards[i] = random if self.pays is None else float(actions[i] == self.pays)
            chance = rng.random()
            terminated[i], truncated[i] = chance < self.ends, self.ends <= chance < self.ends + self.cut
        self.active &= ~(terminated | truncated)
        step = GameStep(self._frames.copy(), rewards, terminated, truncated, np.zeros(self.num_envs, dtype=np.int64))
        self.log.append((np.array(actions), step))
        return step

    def state_dict(self) -> dict[str, Any]:
        return {
            "active": self.active.copy(),
            "frames": self._frames.copy(),
            "rngs": [rng.bit_generator.state for rng in self._rngs],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.active, self._frames = state["active"].copy(), state["frames"].copy()
        for rng, saved in zip(self._rngs, state["rngs"], strict=True):
            rng.bit_generator.state = saved


class Watched(Policy):
    """A policy that remembers every call: `calls` of (first, x, state before it, q, actions)."""

    calls: list[tuple[np.ndarray, np.ndarray, dict[str, np.ndarray], np.ndarray, np.ndarray]]

    @classmethod
    def watch(cls, policy: Policy) -> Watched:
        """The same policy, from now on remembering."""
        policy.__class__ = cls
        policy.calls = []
        return policy

    def begin(self, first: np.ndarray, context: np.ndarray | None = None) -> None:
        self._first = first.copy()
        super().begin(first, context)

    def __call__(self, x: np.ndarray, playing: np.ndarray | None = None, keep_attention: bool = False) -> np.ndarray:
        state = self.state
        actions = super().__call__(x, playing, keep_attention)
        self.calls.append((self._first, x.copy(), state, self.q.copy(), actions))
        return actions
