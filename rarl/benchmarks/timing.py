"""How long things take that are compared with each other: they take turns, and the median over the rounds counts."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Work:
    """Something that is done again and again, in cycles of `phases` calls that may differ from each other.

    Attributes:
      call: does it once.
      phases: calls of a cycle.
      seconds: that all rounds may take together; a round has one cycle in any case.
      device: where it computes; a GPU is waited for.
      clock: by which it is timed, in seconds. The time of the process, for work of one thread, leaves out what others
        take on a busy machine.
      per_round: (rounds, phases), mean seconds of each call of a cycle.
    """

    call: Callable[[], Any]
    phases: int = 1
    seconds: float = 0.0
    device: str = "cpu"
    clock: Callable[[], float] = time.perf_counter
    per_round: list[list[float]] = field(default_factory=list)

    def cycle(self) -> list[float]:
        """Seconds of each call of one cycle."""
        found = []
        for _ in range(self.phases):
            started = self.clock()
            self.call()
            if self.device != "cpu":
                import torch

                torch.cuda.synchronize(self.device)
            found.append(self.clock() - started)
        return found

    def turn(self, rounds: int) -> None:
        """One of so many rounds."""
        ends = time.perf_counter() + self.seconds / rounds
        cycles = [self.cycle()]
        while time.perf_counter() + sum(cycles[-1]) <= ends:
            cycles.append(self.cycle())
        self.per_round.append([statistics.fmean(calls) for calls in zip(*cycles, strict=True)])

    def milliseconds(self, period: int = 1) -> float:
        """Of a call in the long run, where what only some calls of a cycle do is done every `period` calls."""
        calls = [statistics.median(rounds) for rounds in zip(*self.per_round, strict=True)]
        ordinary = statistics.median(calls)
        return 1e3 * (ordinary + sum(seconds - ordinary for seconds in calls) / period)
