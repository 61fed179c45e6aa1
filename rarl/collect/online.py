"""What the agents that play while they learn have in common."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch

from rarl.errors import RarlError

STREAM = 2**31  # keeps these generators' random numbers apart from those of the experts' chunks and attempts


@dataclass(frozen=True)
class OnlineSettings:
    """Settings that every such agent has.

    Attributes:
      learning_rate: of Adam.
      discount: gamma.
      environment_steps_per_update: counted over all episodes that are played at once.
      target_update_period_updates: updates between copies to the target network.
      first_update_environment_steps: random play before learning starts.
      epsilon_first, epsilon_last: probability of a random action at the first step and after the decay.
      epsilon_decay_share: share of all environment steps over which it falls linearly.

    Raises:
      RarlError: it names the setting that is out of its range.
    """

    learning_rate: float = 3e-4
    discount: float = 0.99
    environment_steps_per_update: int = 32
    target_update_period_updates: int = 500
    first_update_environment_steps: int = 10_000
    epsilon_first: float = 1.0
    epsilon_last: float = 0.02
    epsilon_decay_share: float = 0.3

    # Names of settings by what they may be; agents add their own.
    AT_LEAST_0: ClassVar[tuple[str, ...]] = ("first_update_environment_steps",)
    AT_LEAST_1: ClassVar[tuple[str, ...]] = ("environment_steps_per_update", "target_update_period_updates")
    POSITIVE: ClassVar[tuple[str, ...]] = ("learning_rate",)
    SHARES: ClassVar[tuple[str, ...]] = ("discount", "epsilon_first", "epsilon_last", "epsilon_decay_share")

    def __post_init__(self) -> None:
        for name in self.AT_LEAST_1:
            self._require(name, getattr(self, name) >= 1, "at least 1")
        for name in self.AT_LEAST_0:
            self._require(name, getattr(self, name) >= 0, "at least 0")
        for name in self.POSITIVE:
            self._require(name, 0 < getattr(self, name) < math.inf, "above 0")
        for name in self.SHARES:
            self._require(name, 0 <= getattr(self, name) <= 1, "between 0 and 1")

    def _require(self, name: str, holds: bool, what: str) -> None:
        if not holds:
            raise RarlError(f"{name}={getattr(self, name)}: must be {what}")

    def epsilon(self, done_share: float) -> float:
        """Probability of a random action after this share of the environment steps."""
        if self.epsilon_decay_share == 0:
            return self.epsilon_last
        decayed = min(1.0, done_share / self.epsilon_decay_share)
        return self.epsilon_first + decayed * (self.epsilon_last - self.epsilon_first)


@contextmanager
def one_thread() -> Iterator[None]:
    """The order of floating-point sums, and so the dataset, must not depend on the number of cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
