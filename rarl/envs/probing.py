"""What probes (`rarl.probes`) record and measure in one environment beside what they do in every one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


def observed(x: np.ndarray) -> dict[str, Any]:
    """A state as it is stored."""
    return {"observation": x.tolist()}


# (observations (n, ...), what their episodes are about (n, ...) or None) -> (n, d) float32.
Features = Callable[[np.ndarray, np.ndarray | None], np.ndarray]


def flat(x: np.ndarray, context: np.ndarray | None) -> np.ndarray:
    """The observation's numbers as they are."""
    return x.reshape(len(x), -1).astype(np.float32)


@dataclass(frozen=True)
class Probing:
    """By default nothing is particular.

    Attributes:
      episodes: per task and intervention, of agents that learned from datasets; those of others are of their
        evaluations.
      stream: of random numbers, of start states and of what is drawn.
      truncated: numbers of trajectories, and
      cut: numbers of first steps of each, that are left of retrieval batches in interventions of their own.
      experience: numbers of trajectories of the task that are given to the agent, see `rarl.probes.experience`.
      state: observation -> what of it a gallery records for pictures, ready for JSON.
      about: context of an episode -> what of it a gallery records.
      related: (context of an episode, those of trajectories (n, ...)) -> (n,) bool, which of the trajectories are about
        something that the episode is about; None: nothing is known about them.
      rewards_in: (environments, names of tasks, one for each) -> function () that tells the rewards (n,) that their
        last step would have given if these were their tasks; None: nobody knows.
      features: of observations, by whose distance the control "retrieve and play" tells how alike states are.
      quartiles: those of the returns whose episodes a gallery shows.
      steps: shown of an episode, the first;
      up_to_reward: or as many in a row, at most so many of them up to the first positive reward; None: the first.
      every: of every so many steps shown, what was retrieved.
      named_actions: whether a gallery has their names in the place of their numbers.
    """

    episodes: int = 20
    stream: int = 5
    truncated: Sequence[int] = ()
    cut: Sequence[int] = ()
    experience: Sequence[int] = ()
    state: Callable[[np.ndarray], dict[str, Any]] = observed
    about: Callable[[np.ndarray], dict[str, Any]] | None = None
    related: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
    rewards_in: Callable[[Any, Sequence[str]], Callable[[], np.ndarray]] | None = None
    features: Features = flat
    quartiles: Sequence[int] = (1, 2, 3)
    steps: int = 80
    up_to_reward: int | None = None
    every: int = 1
    named_actions: bool = False

    @property
    def rule(self) -> str:
        """Which episodes a gallery shows, and which of their steps."""
        names = {1: "the lower quartile", 2: "the median", 3: "the upper quartile"}
        steps = f"the first {self.steps} steps"
        if self.up_to_reward:
            steps = (
                f"{self.steps} steps in a row, at most {self.up_to_reward} of them up to its first positive reward "
                f"(without one, its last {self.up_to_reward})"
            )
        of = " and ".join(names[q] for q in self.quartiles)
        return f"Of all episodes evaluated, in the order of their tasks, those at {of} of the return; of each {steps}."


PLAIN = Probing()
