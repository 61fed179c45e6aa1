"""Episodes of a Q-network on Gridroboman, many boards at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch

from rarl.config.settings import RunSettings
from rarl.envs.gridroboman.tasks import ACTIONS, EPISODE_STEPS, Task
from rarl.envs.gridroboman.vector import Boards, VectorGridroboman, condition, random_boards
from rarl.nn.retrieval import Summaries
from rarl.nn.value_network import ValueNetwork

# observations (N, 11) int8 -> the best actions (N,), as the agent thinks.
Greedy = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Episodes:
    """N episodes: observations (N, 51, 11) int8, actions (N, 50) int8, rewards (N, 50) float32.

    also: rewards (N, 50) that the same episodes would have had for other tasks, where asked for.
    """

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    also: np.ndarray | None = None

    @property
    def returns(self) -> np.ndarray:
        return self.rewards.sum(axis=1)


def evaluation_generators(settings: RunSettings) -> tuple[np.random.Generator, ...]:
    """Of boards, of exploration, and of what is retrieved, the same at every evaluation of a run.

    Streams of their own, so that agents with and without retrieval meet the same boards and the same exploration.
    """
    return tuple(np.random.default_rng([settings.seed, settings.evaluation.board_seed, stream]) for stream in range(3))


@torch.no_grad()
def roll_out(
    network: ValueNetwork,
    tasks: Sequence[Task],
    task_ids: np.ndarray,
    episodes: int,
    retrieved: Summaries | None,
    rng: np.random.Generator,
    epsilon: float,
    boards: Boards | None = None,
    also: Sequence[Task] | None = None,
) -> Episodes:
    """Play with the greedy policy.

    Args:
      network: the agent; z is its mean.
      tasks: the task of each of G groups.
      task_ids: (G,) the ids told to the network.
      episodes: episodes per group.
      retrieved: one retrieval batch per group, kept for the whole episode; None for an agent that retrieves nothing.
      rng: start boards and exploration.
      epsilon: share of random actions.
      boards: start states of all G * episodes boards, left as they are; drawn from `rng` if None.
      also: one other task per group, whose reward is measured on the same episodes.
    """
    groups = len(tasks)
    n = groups * episodes
    device = next(network.parameters()).device
    told = torch.as_tensor(task_ids, device=device)[:, None].expand(groups, episodes)

    def greedy(observation: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(observation).to(device).view(groups, episodes, -1)
        q, _ = network(x, told, retrieved)
        return q.argmax(-1).flatten().cpu().numpy()

    return play_boards(greedy, tasks, deepcopy(boards) if boards else random_boards(n, rng), rng, epsilon, also)


def play_boards(
    greedy: Greedy,
    tasks: Sequence[Task],
    boards: Boards,
    rng: np.random.Generator,
    epsilon: float,
    also: Sequence[Task] | None = None,
) -> Episodes:
    """Play with the greedy policy of any agent; the same number of boards for each of the tasks, one after another.

    `boards` are the start states, and are changed. rng: exploration. The rest as in `roll_out`.
    """
    n = len(boards.held)
    episodes = n // len(tasks)
    env = VectorGridroboman([task for task in tasks for _ in range(episodes)])
    observation, _ = env.reset(options={"boards": boards})
    observations = np.empty((n, EPISODE_STEPS + 1, observation.shape[1]), dtype=observation.dtype)
    actions = np.empty((n, EPISODE_STEPS), dtype=np.int8)
    rewards = np.empty((n, EPISODE_STEPS), dtype=np.float32)
    others = np.empty_like(rewards) if also else None
    observations[:, 0] = observation
    for t in range(EPISODE_STEPS):
        action = greedy(observation)
        explore = rng.random(n) < epsilon
        action[explore] = rng.integers(len(ACTIONS), size=int(explore.sum()))
        observation, reward, *_ = env.step(action)
        observations[:, t + 1], actions[:, t], rewards[:, t] = observation, action, reward
        if also:
            for g, task in enumerate(also):
                group = slice(g * episodes, (g + 1) * episodes)
                others[group, t] = condition(env.boards, task, group)
    return Episodes(observations, actions, rewards, others)
