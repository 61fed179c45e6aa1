"""Episodes of a recurrent Q-network on BabyAI levels, all in lockstep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from rarl.agents.memory import Memory, RetrievalBatch
from rarl.envs.babyai.levels import Level
from rarl.envs.babyai.vector import ACTIONS, VectorBabyAI
from rarl.nn.retrieval import Summaries
from rarl.nn.value_network import State, Unrolled, ValueNetwork

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
    network: ValueNetwork,
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
      retrieved: R retrieval batches, each for G / R groups in a row, kept for whole episodes; None retrieves nothing.
      rng: exploration.
      epsilon: share of random actions.
      watch: looks at every step; then attention is kept, and no level is left out before all have ended.
    """
    groups, each = seeds.shape
    n, device = groups * each, next(network.parameters()).device
    env = VectorBabyAI([level for level in levels for _ in range(each)])
    observation = env.reset(seeds.ravel())
    missions = env.missions.copy()
    shape = (groups, 1) if retrieved is None else (len(retrieved.keys), groups // len(retrieved.keys))
    place = np.arange(n).reshape(*shape, each)  # of each episode in the environment
    # What the network still plays: retrieval batches of which no level has ended, and levels that have ended in none.
    batches, columns = np.arange(shape[0]), np.arange(shape[1])

    def part_of(array: np.ndarray) -> Tensor:
        """(n, ...) of all episodes -> (R, episodes, ...) of those that are still played."""
        rows = place[np.ix_(batches, columns)].reshape(len(batches), -1)
        return torch.from_numpy(array[rows]).to(device)

    told = part_of(missions.astype(np.int64))[:, :, None]
    state = network.initial_state(*told.shape[:2])
    actions, rewards = [], []
    lengths = np.zeros(n, np.int64)
    while env.active.any():
        active = env.active.copy()
        still = active.reshape(*shape, each).any(2)[np.ix_(batches, columns)]
        if watch is None and not (still.any(1).all() and still.any(0).all()):
            kept = [torch.from_numpy(np.flatnonzero(still.any(axis))).to(device) for axis in (1, 0)]

            def keep(part: Tensor | None, kept: Sequence[Tensor] = kept, width: int = len(columns)) -> Tensor | None:
                if part is None:
                    return None
                return part.unflatten(1, (width, each))[kept[0]][:, kept[1]].flatten(1, 2)

            told, state = keep(told), State(*map(keep, state))
            if retrieved is not None:
                retrieved = Summaries(*(None if part is None else part[kept[0]] for part in retrieved))
            batches, columns = batches[still.any(1)], columns[still.any(0)]
        x = part_of(observation)[:, :, None]
        step = network.unroll(x, told, state, retrieved, keep_attention=watch is not None)
        state = step.state
        action = np.zeros(n, np.int64)
        action[place[np.ix_(batches, columns)].ravel()] = step.q.argmax(-1).flatten().cpu().numpy()
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


@torch.no_grad()
def play_levels(
    network: ValueNetwork,
    levels: Sequence[Level],
    seeds: np.ndarray,
    memory: Memory | None,
    of_memory: np.random.Generator,
    blocks: int,
    rng: np.random.Generator,
    epsilon: float,
    change: Callable[[RetrievalBatch], RetrievalBatch] | None = None,
) -> LevelEpisodes:
    """Episodes (G, n) of all levels, each level's spread over several retrieval batches.

    Args:
      network, levels, seeds, rng, epsilon: as in `roll_out_levels`.
      memory: what is retrieved from; None: nothing.
      of_memory: chooses what is retrieved.
      blocks: retrieval batches per level, or for all levels where one serves all; divides n.
      change: what is done to the retrieval batches first.
    """
    groups, n = seeds.shape
    if memory is None:
        return roll_out_levels(network, levels, seeds, None, rng, epsilon)
    if memory.pooled:
        drawn = [memory.sample(np.arange(groups), of_memory) for _ in range(blocks)]
        batch = RetrievalBatch.joined(drawn)
        order = np.arange(groups * n).reshape(groups, blocks, -1).swapaxes(0, 1)  # (blocks, levels, each)
        levels = [*levels] * blocks
    else:
        batch = memory.sample(np.repeat(np.arange(groups), blocks), of_memory)
        order = np.arange(groups * n).reshape(groups, blocks, -1)
        levels = [level for level in levels for _ in range(blocks)]
    batch = batch if change is None else change(batch)
    retrieved = batch.to(next(network.parameters()).device).summarise(network)
    order = order.reshape(groups * blocks, -1)
    played = roll_out_levels(network, levels, seeds.ravel()[order], retrieved, rng, epsilon)
    back = np.argsort(order.ravel())

    def sorted_back(part: np.ndarray) -> np.ndarray:
        return part.reshape(groups * n, *part.shape[2:])[back].reshape(groups, n, *part.shape[2:])

    return LevelEpisodes(*(sorted_back(getattr(played, field.name)) for field in fields(played)))
