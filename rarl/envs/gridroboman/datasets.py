"""Gridroboman datasets from the scripted expert mixed with graded random actions."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import numpy as np

from rarl.collect.arguments import NOISE_PERCENTAGES, check_noisy_episodes
from rarl.envs.gridroboman.planner import planner_episodes
from rarl.envs.gridroboman.tasks import EPISODE_STEPS, Task, task_named
from rarl.envs.gridroboman.vector import OBSERVATION_SIZE
from rarl.trajectories.store import DatasetWriter

CHUNK_EPISODES = 4096


def generate_planner(
    task: Task | str,
    episodes: int,
    seed: int,
    folder: str | os.PathLike,
    noise_percent: Sequence[int] = NOISE_PERCENTAGES,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a dataset of the expert's episodes; it appears in `folder` once it is complete.

    Every episode draws one of `noise_percent`: on each step a random action replaces the expert's with that
    probability. Episodes come in chunks, each with a generator of its own, seeded by seed, task and chunk, so the
    bytes depend on the arguments alone. Memory: one chunk, about 5 MB.

    Args:
      task: the task or its name.
      episodes: how many.
      seed: of the dataset, at least 0.
      folder: where it shall lie (an older dataset there is replaced).
      noise_percent: whole percentages from 0 to 100. The mean return of the episodes at 0 becomes the manifest's
        `expert_return`, null if there are none.
      progress: called with (episodes done, episodes) after every chunk.

    Raises:
      RarlError: an argument is out of its range, or the folder holds something else.
    """
    task = task_named(task) if isinstance(task, str) else task
    noise_percent = check_noisy_episodes(episodes, seed, noise_percent)
    generator = {
        "policy": "planner",
        "noise_percent": list(noise_percent),
        "chunk_episodes": CHUNK_EPISODES,
    }
    expert_rewards, expert_episodes = 0, 0
    with DatasetWriter(
        folder, environment="gridroboman", task=task.name, source="planner", seed=seed, generator=generator
    ) as writer:
        for chunk, first in enumerate(range(0, episodes, CHUNK_EPISODES)):
            size = min(CHUNK_EPISODES, episodes - first)
            rng = np.random.default_rng([seed, task.id, chunk])
            observations, actions, rewards, noise = _chunk(task, size, rng, noise_percent)
            writer.add(observations, actions, rewards, noise=noise)
            expert_rewards += int(rewards[noise == 0].sum(dtype=np.int64))
            expert_episodes += int((noise == 0).sum())
            if progress:
                progress(first + size, episodes)
        writer.expert_return = expert_rewards / expert_episodes if expert_episodes else None


def expert_return(task: str, seed: int) -> float:
    """Mean return of the expert without noise, over 4096 episodes."""
    rng = np.random.default_rng([seed, task_named(task).id])
    _, _, rewards = planner_episodes(task_named(task), CHUNK_EPISODES, rng, np.zeros(1, dtype=np.int8))
    return float(rewards.sum(dtype=np.int64)) / CHUNK_EPISODES


def _chunk(
    task: Task, size: int, rng: np.random.Generator, noise_percent: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Observations (size, 51, 11), actions and rewards (size, 50), noise (size,) int8 percent."""
    noise = np.asarray(noise_percent, dtype=np.int8)[rng.integers(len(noise_percent), size=size)]
    observations = np.empty((size, EPISODE_STEPS + 1, OBSERVATION_SIZE), dtype=np.int8)
    actions = np.empty((size, EPISODE_STEPS), dtype=np.int8)
    rewards = np.empty((size, EPISODE_STEPS), dtype=np.uint8)
    # One call per percentage, because the noise of each episode is recorded beside it.
    for percent in sorted(set(noise_percent)):
        rows = np.flatnonzero(noise == percent)
        if rows.size:
            only = np.array([percent], dtype=np.int8)
            observations[rows], actions[rows], rewards[rows] = planner_episodes(task, rows.size, rng, only)
    return observations, actions, rewards, noise
