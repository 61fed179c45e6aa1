"""Whole episodes, for evaluation: of given seeds, each played exactly once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from rarl.envs.atari.observation import Observer
from rarl.envs.atari.vector import VectorAtari

# x (n, bytes) uint8, first (n,) bool, playing (n,) bool -> actions (n,). At `first` an episode begins: a recurrent
# agent forgets its state. Where nothing is `playing`, the action does not matter.
Act = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Episodes:
    """E episodes, in the order of their seeds.

    returns (E,) float64, undiscounted and unclipped; lengths (E,) int64, in steps; truncated (E,) bool, by the cap.
    """

    returns: np.ndarray
    lengths: np.ndarray
    truncated: np.ndarray


def play_episodes(envs: VectorAtari, act: Act, seeds: Sequence[int] | np.ndarray, stack: int = 1) -> Episodes:
    """Play one episode of every seed; an environment that has ended one takes the next seed.

    No episode is cut off and none is left out, so that short ones do not count more often than long ones.

    Args:
      envs: of one game; the settings for no-ops and the cap are theirs. Episodes on their way are given up.
      act: what plays.
      seeds: of the episodes.
      stack: frames in an x.
    """
    total, n = len(seeds), envs.num_envs
    returns, lengths, truncated = np.zeros(total), np.zeros(total, dtype=np.int64), np.zeros(total, dtype=bool)
    observer = Observer(n, stack)
    envs.active[:] = False
    episode = np.full(n, -1)  # which one each environment plays; -1: none
    begun = 0
    first = np.zeros(n, dtype=bool)
    ended = np.arange(n)
    while True:
        fresh = ended[: total - begun]
        if len(fresh):
            episode[fresh] = np.arange(begun, begun + len(fresh))
            begun += len(fresh)
            observer.begin(envs.reset(np.asarray(seeds)[episode[fresh]], fresh), fresh)
        first[:] = False
        first[fresh] = True
        playing = episode >= 0
        if not playing.any():
            return Episodes(returns, lengths, truncated)
        actions = np.asarray(act(observer.x, first.copy(), playing.copy()))
        step = envs.step(actions)
        observer.step(actions, step.rewards, step.observations)
        now = episode[playing]
        returns[now] += step.rewards[playing]
        lengths[now] += 1
        truncated[now] = step.truncated[playing]
        ended = np.flatnonzero(playing & (step.terminated | step.truncated))
        episode[ended] = -1
