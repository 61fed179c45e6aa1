"""Episodes of a recurrent Q-network on BabyAI levels, all in lockstep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rarl.envs.babyai.levels import Level
from rarl.envs.babyai.vector import ACTIONS, VectorBabyAI
from rarl.nn.retrieval import Summaries
from rarl.nn.value_network import RecurrentValueNetwork, State, Unrolled

# Called at every step with what the network gave and which episodes were still going on, (n,) bool.
Watch = Callable[[Unrolled, np.ndarray], None]


@dataclass(frozen=True)
class LevelEpisodes:
    """G levels with n episodes each.

    returns (G, n) float32; success (G, n) bool; lengths (G, n) int64, in steps; missions (G, n, words) uint8.
    actions (G, n, T) uint8 and rewards (G, n, T) float32, padded with zeros to the longest episode.
    """

    returns: np.ndarray
    success: np.ndarray
    lengths: np.ndarray
    missions: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray


def evaluation_seeds(levels: Sequence[Level], episodes: int, seed: int, board_seed: int) -> np.ndarray:
    """(G, episodes) int64: seeds of start states that depend on the level, not on which others are evaluated."""
    return np.stack(
        [np.random.default_rng([seed, board_seed, level.id]).integers(2**31, size=episodes) for level in levels]
    )


@torch.no_grad()
def roll_out_levels(
    network: RecurrentValueNetwork,
    levels: Sequence[Level],
    seeds: np.ndarray,
    retrieved: Summaries | None,
    rng: np.random.Generator,
    epsilon: float,
    watch: Watch | None = None,
) -> LevelEpisodes:
    """Play with the greedy policy. Levels whose episodes have all ended are left out of what the network computes.

    Args:
      network: the agent; z is its mean, slots start at their means.
      levels: the level of each of G groups.
      seeds: (G, n), of the start states.
      retrieved: one retrieval batch per group, or one for all; kept for the whole episode; None retrieves nothing.
      rng: exploration.
      epsilon: share of random actions.
      watch: looks at every step; then attention is kept, and no level is left out before all have ended.
    """
    groups, each = seeds.shape
    n, device = groups * each, next(network.parameters()).device
    env = VectorBabyAI([level for level in levels for _ in range(each)])
    observation = env.reset(seeds.ravel())
    missions = env.missions.copy()
    pooled = retrieved is not None and len(retrieved.keys) == 1

    def grouped(part: Tensor) -> Tensor:
        """(episodes, ...) -> (1, episodes, ...) where one retrieval batch serves all, else (levels, each, ...)."""
        return part.view(*((1, -1) if pooled else (-1, each)), *part.shape[1:])

    told = grouped(torch.from_numpy(missions.astype(np.int64)).to(device))[:, :, None]
    state = network.initial_state(*told.shape[:2])
    playing = np.arange(groups)  # levels that the network still plays
    actions, rewards = [], []
    lengths = np.zeros(n, np.int64)
    while env.active.any():
        active = env.active.copy()
        still = active.reshape(groups, each)[playing].any(1)
        if watch is None and not still.all():
            playing, keep = playing[still], torch.from_numpy(np.flatnonzero(still)).to(device)

            def kept(part: Tensor | None, keep: Tensor = keep) -> Tensor | None:
                return (
                    None if part is None else grouped(part.flatten(0, 1).unflatten(0, (-1, each))[keep].flatten(0, 1))
                )

            told, state = kept(told), State(*map(kept, state))
            if retrieved is not None and not pooled:
                retrieved = Summaries(*(None if part is None else part[keep] for part in retrieved))
        rows = (playing[:, None] * each + np.arange(each)).ravel()
        x = grouped(torch.from_numpy(observation[rows]).to(device))[:, :, None]
        step = network.unroll(x, told, state, retrieved, keep_attention=watch is not None)
        state = step.state
        action = np.zeros(n, np.int64)
        action[rows] = step.q.argmax(-1).flatten().cpu().numpy()
        explore = rng.random(n) < epsilon
        action[explore] = rng.integers(len(ACTIONS), size=int(explore.sum()))
        observation, reward, _, _ = env.step(action)
        if watch:
            watch(step, active)
        lengths += active
        actions.append(np.where(active, action, 0).astype(np.uint8))
        rewards.append(reward)
    actions, rewards = np.stack(actions, 1), np.stack(rewards, 1)
    return LevelEpisodes(
        rewards.sum(1).reshape(groups, each),
        env.success.reshape(groups, each).copy(),
        lengths.reshape(groups, each),
        missions.reshape(groups, each, -1),
        actions.reshape(groups, each, -1),
        rewards.reshape(groups, each, -1),
    )
