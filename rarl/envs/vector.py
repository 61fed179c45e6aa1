"""The one way in which environments are played: many at once, in lockstep, without automatic reset.

`VectorEnv` is what all else expects; `GymnasiumVector` makes one of ordinary gymnasium environments.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

from rarl.errors import RarlError


class Step(NamedTuple):
    """What a step gave, for each of n environments.

    observations (n, ...); rewards (n,) float32; terminated, truncated (n,) bool. Of an environment that stands still
    the observation is the last one, all else 0.
    """

    observations: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray


class VectorEnv(ABC):
    """n environments in lockstep.

    An episode begins when it is told to, by `reset`, which the other environments do not notice. One that has ended
    stands still until then.

    Attributes:
      num_envs: n.
      actions: names of the actions 0, 1, ...
      active: (n,) bool, which episodes go on. The caller may clear an entry to abandon an episode.
      context: (n, ...), what is told about each episode from its start on, a mission for example; None: nothing.
      measured: name -> (n,), what else is known of each episode when it ends; evaluations record its mean.
    """

    num_envs: int
    actions: Sequence[str]
    active: np.ndarray
    context: np.ndarray | None = None
    measured: Mapping[str, np.ndarray] = MappingProxyType({})

    @abstractmethod
    def reset(self, seeds: Sequence[int] | np.ndarray | None = None, where: np.ndarray | None = None) -> np.ndarray:
        """Begin episodes, wherever the ones before are.

        Args:
          seeds: one per environment to begin, 0 to 2^31 - 1; task, seed and actions fix the episode. None: the
            environment's own random numbers go on.
          where: indices of the environments to begin, each once; all by default.

        Returns:
          (n, ...), the observations of all environments; the caller's to keep.
        """

    @abstractmethod
    def step(self, actions: np.ndarray) -> Step:
        """One action (n,) each; those of environments that stand still do not matter."""

    def state_dict(self) -> dict[str, Any]:
        """All that decides what comes.

        Raises:
          RarlError: these environments cannot tell it.
        """
        raise RarlError(f"{type(self).__name__} cannot be saved in the middle of an episode")

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on as the environments would have from which the state is."""
        raise RarlError(f"{type(self).__name__} cannot be saved in the middle of an episode")


def where_of(num_envs: int, seeds: Sequence[int] | np.ndarray | None, where: np.ndarray | None) -> np.ndarray:
    """The indices that `reset` is about.

    Raises:
      ValueError: there are not as many seeds.
    """
    where = np.arange(num_envs) if where is None else np.asarray(where, dtype=np.int64)
    if seeds is not None and len(seeds) != len(where):
        raise ValueError(f"{len(where)} environments to start need as many seeds, not {len(seeds)}")
    return where


class GymnasiumVector(VectorEnv):
    """Ordinary gymnasium environments with discrete actions, one after another.

    What brings one back to where it was is the seed of its episode and the actions since, which are played again: exact
    for every environment that a seed fixes, and checked.

    Args:
      envs: n environments; observations are arrays or numbers (Box, Discrete, MultiDiscrete, MultiBinary).
      seed: of all episodes that are not given a seed of their own; each environment has its own stream.
      context: (observation, info) of an episode's start -> what is told about it, an array; None: nothing.
      prepare: observation -> the array that agents see; None: as it is, by its space.
    """

    def __init__(
        self,
        envs: Sequence[gym.Env],
        seed: int = 0,
        context: Callable[[Any, Mapping[str, Any]], np.ndarray] | None = None,
        prepare: Callable[[Any], np.ndarray] | None = None,
    ):
        self.envs, self.num_envs = list(envs), len(envs)
        counts = []
        for space in (env.action_space for env in self.envs):
            if not isinstance(space, gym.spaces.Discrete) or space.start:
                raise RarlError(f"action space {space}: agents here need Discrete(n), from 0")
            counts.append(int(space.n))
        if len(set(counts)) > 1:
            raise RarlError("environments that are played together need the same actions")
        self.actions = tuple(f"action {i}" for i in range(counts[0]))
        # What is prepared has a space that nobody knows.
        self.observation_space = None if prepare is not None else self.envs[0].observation_space
        self._rngs = [np.random.default_rng(stream) for stream in np.random.SeedSequence(seed).spawn(self.num_envs)]
        self._told, self._prepare = context, prepare
        self.active = np.zeros(self.num_envs, dtype=bool)
        self._seeds = np.full(self.num_envs, -1)
        self._logs: list[list[int]] = [[] for _ in self.envs]
        self._observations = np.zeros((self.num_envs, 0))  # as long as there is none

    def reset(self, seeds: Sequence[int] | np.ndarray | None = None, where: np.ndarray | None = None) -> np.ndarray:
        where = where_of(self.num_envs, seeds, where)
        for k, i in enumerate(where.tolist()):
            seed = int(self._rngs[i].integers(2**31)) if seeds is None else int(seeds[k])
            self._begin(i, seed)
        self.active[where] = True
        return self._observations.copy()

    def _begin(self, i: int, seed: int) -> None:
        observation, info = self.envs[i].reset(seed=seed)
        self._seeds[i], self._logs[i] = seed, []
        self._see(i, observation)
        if self._told is not None:
            told = np.asarray(self._told(observation, info))
            if self.context is None:
                self.context = np.zeros((self.num_envs, *told.shape), told.dtype)
            self.context[i] = told

    def _see(self, i: int, observation: Any) -> None:
        if self._prepare is not None:
            array = np.asarray(self._prepare(observation))
        else:
            array = np.asarray(observation, dtype=self.envs[i].observation_space.dtype)
        if self._observations.shape[1:] == (0,):  # none yet
            self._observations = np.zeros((self.num_envs, *array.shape), array.dtype)
        if self._observations.shape[1:] != array.shape:
            raise RarlError(
                f"environment {self.envs[i]}: an observation is of shape {array.shape}, those before it were of "
                f"{self._observations.shape[1:]}"
            )
        self._observations[i] = array

    def step(self, actions: np.ndarray) -> Step:
        rewards = np.zeros(self.num_envs, dtype=np.float32)
        terminated, truncated = np.zeros((2, self.num_envs), dtype=bool)
        for i in np.flatnonzero(self.active).tolist():
            rewards[i], terminated[i], truncated[i] = self._play(i, int(actions[i]))
        self.active &= ~(terminated | truncated)
        return Step(self._observations.copy(), rewards, terminated, truncated)

    def _play(self, i: int, action: int) -> tuple[float, bool, bool]:
        observation, reward, terminated, truncated, _ = self.envs[i].step(action)
        self._logs[i].append(action)
        self._see(i, observation)
        return float(reward), bool(terminated), bool(truncated)

    def state_dict(self) -> dict[str, Any]:
        return {
            "rngs": [rng.bit_generator.state for rng in self._rngs],
            "seeds": self._seeds.copy(),
            "logs": [np.array(log, dtype=np.int64) for log in self._logs],
            "active": self.active.copy(),
            "observations": self._observations.copy(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for rng, of_rng in zip(self._rngs, state["rngs"], strict=True):
            rng.bit_generator.state = of_rng
        saved = state["observations"]
        self._observations, self.context = saved.copy(), None
        self._seeds, self._logs = np.full(self.num_envs, -1), [[] for _ in self.envs]
        for i, (seed, log) in enumerate(zip(state["seeds"].tolist(), state["logs"], strict=True)):
            if seed < 0:
                continue
            self._begin(i, seed)
            for action in log.tolist():
                self._play(i, action)
            if not np.array_equal(self._observations[i], saved[i]):
                raise RarlError(
                    f"environment {self.envs[i]} does not play as it did when the state was saved: seed and actions do "
                    "not fix its episodes, or it has another version"
                )
        self.active = state["active"].copy()
