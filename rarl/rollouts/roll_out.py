"""The one roll-out: episodes of given seeds, each played exactly once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from rarl.envs.vector import Step, VectorEnv


class Acting(Protocol):
    """What plays; `rarl.agents.policy.Policy`, for example."""

    def begin(self, first: np.ndarray, context: np.ndarray | None = None) -> None:
        """Episodes begin: first (n,) bool where, context (n, ...) of all, None if nothing is told."""
        ...

    def __call__(self, x: np.ndarray, playing: np.ndarray) -> np.ndarray:
        """x (n, ...) -> actions (n,); those where nobody is playing (n,) do not matter."""
        ...


class Memoryless:
    """Acts by the observation alone.

    Args:
      function: x (n, ...) -> actions (n,).
    """

    def __init__(self, function: Callable[[np.ndarray], np.ndarray]):
        self._function = function

    def begin(self, first: np.ndarray, context: np.ndarray | None = None) -> None:
        """There is nothing to forget."""

    def __call__(self, x: np.ndarray, playing: np.ndarray) -> np.ndarray:
        return self._function(x)


# After every step of the environments: which of them took it, (n,) bool, and what it gave.
Watch = Callable[[np.ndarray, Step], None]


@dataclass(frozen=True)
class Episodes:
    """E episodes, in the order of their seeds.

    returns (E,) float64, undiscounted; lengths (E,) int64, in steps; terminated (E,) bool, by the environment and not
    by a limit of time; last_rewards (E,) float64, of the last step. context (E, ...), what was told about each, None:
    nothing. measured: name -> (E,), what else the environments tell.
    """

    returns: np.ndarray
    lengths: np.ndarray
    terminated: np.ndarray
    last_rewards: np.ndarray
    context: np.ndarray | None = None
    measured: Mapping[str, np.ndarray] = field(default_factory=dict)


def roll_out(
    envs: VectorEnv,
    act: Acting,
    seeds: Sequence[int] | np.ndarray,
    *,
    watch: Watch | None = None,
) -> Episodes:
    """Play one episode of every seed; an environment that has ended one takes the next seed.

    No episode is cut off and none is left out, so that short ones do not count more often than long ones.

    Args:
      envs: n environments; episodes on their way are given up. With more seeds than environments, all of one task.
      act: what plays.
      seeds: of the episodes; the first n begin in the environments in their order.
      watch: looks at every step.
    """
    seeds = np.asarray(seeds)
    total, n = len(seeds), envs.num_envs
    returns, last_rewards, lengths = np.zeros(total), np.zeros(total), np.zeros(total, dtype=np.int64)
    terminated = np.zeros(total, dtype=bool)
    contexts: dict[int, np.ndarray] = {}
    measured = {name: np.zeros(total) for name in envs.measured}
    envs.active[:] = False
    episode = np.full(n, -1)  # which one each environment plays; -1: none
    begun, ended = 0, np.arange(n)
    while True:
        fresh = ended[: total - begun]
        first = np.zeros(n, dtype=bool)
        if len(fresh):
            episode[fresh] = np.arange(begun, begun + len(fresh))
            begun += len(fresh)
            x = envs.reset(seeds[episode[fresh]], fresh)
            first[fresh] = True
            if envs.context is not None:
                contexts |= {int(episode[i]): envs.context[i].copy() for i in fresh.tolist()}
        playing = episode >= 0
        if not playing.any():
            break
        act.begin(first, envs.context)
        step = envs.step(np.asarray(act(x, playing)))
        now = episode[playing]
        returns[now] += step.rewards[playing]
        lengths[now] += 1
        last_rewards[now], terminated[now] = step.rewards[playing], step.terminated[playing]
        if watch is not None:
            watch(playing, step)
        x = step.observations
        ended = np.flatnonzero(playing & (step.terminated | step.truncated))
        for name, values in measured.items():
            values[episode[ended]] = envs.measured[name][ended]
        episode[ended] = -1
    context = np.stack([contexts[e] for e in range(total)]) if contexts else None
    return Episodes(returns, lengths, terminated, last_rewards, context, measured)
