"""Gridroboman datasets as the paper made them: one DQN per task learns online, and all its episodes are recorded.

A dataset holds the whole way from random play to the learned policy, in the order of playing (Goyal et al. 2022,
appendix A.4.2). The agent is a double DQN of three layers, the third predicting Q. The paper does not print the
settings of this agent; those that are not in its table of hyper-parameters for Gridroboman are ours.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from rarl.agents.losses import q_learning_target, td_loss
from rarl.collect.arguments import check_seed
from rarl.collect.online import STREAM, OnlineSettings, one_thread
from rarl.envs.gridroboman.encoders import RelationalEncoder
from rarl.envs.gridroboman.planner import planner_episodes
from rarl.envs.gridroboman.tasks import ACTIONS, EPISODE_STEPS, Task, task_named
from rarl.envs.gridroboman.vector import OBSERVATION_SIZE, VectorGridroboman, random_boards
from rarl.errors import RarlError
from rarl.trajectories.store import DatasetWriter

_EXPERT_EPISODES = 4096


@dataclass(frozen=True)
class OnlineDQNSettings(OnlineSettings):
    """Settings of the agent that plays while it learns, beside those of `OnlineSettings`.

    Attributes:
      hidden_units: width of the first two layers.
      batch_transitions: learner batch.
      boards: episodes that are played at once.
      replay_transitions: capacity; the oldest are overwritten.
    """

    hidden_units: int = 256
    batch_transitions: int = 256
    boards: int = 32
    replay_transitions: int = 500_000

    AT_LEAST_1: ClassVar[tuple[str, ...]] = (
        *OnlineSettings.AT_LEAST_1,
        "hidden_units",
        "batch_transitions",
        "boards",
        "replay_transitions",
    )


def generate_dqn(
    task: Task | str,
    environment_steps: int,
    seed: int,
    folder: str | os.PathLike,
    settings: OnlineDQNSettings | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Train a DQN on `task` and write all its episodes; the dataset appears in `folder` once it is complete.

    A function of its arguments on one machine type and torch version (one thread, CPU). The optional array `epsilon`
    holds each episode's exploration at its start. `expert_return` is measured on 4096 episodes of the planner.

    Args:
      task: the task or its name.
      environment_steps: of all boards together, a multiple of 50; the paper's 100,000 episodes are 5,000,000.
      seed: at least 0.
      folder: where the dataset shall lie (an older one there is replaced).
      settings: of the agent.
      progress: called with (episodes done, episodes) whenever a set of boards has ended.

    Raises:
      RarlError: an argument is out of its range, or the folder holds something else.
    """
    task = task_named(task) if isinstance(task, str) else task
    settings = settings or OnlineDQNSettings()
    if environment_steps < EPISODE_STEPS or environment_steps % EPISODE_STEPS:
        raise RarlError(f"environment_steps={environment_steps}: must be a positive multiple of {EPISODE_STEPS}")
    check_seed(seed)
    episodes = environment_steps // EPISODE_STEPS
    rng = np.random.default_rng([seed, task.id, STREAM])
    with (
        DatasetWriter(
            folder,
            environment="gridroboman",
            task=task.name,
            source="dqn",
            seed=seed,
            generator={"policy": "online double DQN", "environment_steps": environment_steps, **asdict(settings)},
        ) as writer,
        one_thread(),
    ):
        agent = _Agent(settings, torch_seed=int(rng.integers(2**62)))
        done = 0
        while done < episodes:
            boards = min(settings.boards, episodes - done)
            epsilon = settings.epsilon(done / episodes)
            observations, actions, rewards = _play(agent, task, boards, done, episodes, settings, rng)
            writer.add(observations, actions, rewards, epsilon=np.full(boards, epsilon, dtype=np.float32))
            done += boards
            if progress:
                progress(done, episodes)
        expert = planner_episodes(task, _EXPERT_EPISODES, rng, np.zeros(1, dtype=np.int8))
        writer.expert_return = int(expert[2].sum(dtype=np.int64)) / _EXPERT_EPISODES


def _play(
    agent: _Agent,
    task: Task,
    boards: int,
    done: int,
    episodes: int,
    settings: OnlineDQNSettings,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One episode on every board, learning on the way: observations (boards, 51, 11), actions, rewards (boards, 50)."""
    envs = VectorGridroboman([task] * boards)
    observations = np.empty((boards, EPISODE_STEPS + 1, OBSERVATION_SIZE), dtype=np.int8)
    actions = np.empty((boards, EPISODE_STEPS), dtype=np.int8)
    rewards = np.empty((boards, EPISODE_STEPS), dtype=np.uint8)
    observations[:, 0] = envs.start(random_boards(boards, np.random.default_rng(int(rng.integers(2**62)))))
    for t in range(EPISODE_STEPS):
        epsilon = settings.epsilon((done + boards * t / EPISODE_STEPS) / episodes)
        explores = rng.random(boards) < epsilon
        random_actions = rng.integers(len(ACTIONS), size=boards)
        x_tm1 = observations[:, t]
        actions[:, t] = np.where(explores, random_actions, agent.greedy(x_tm1))
        x_t, r_t, *_ = envs.step(actions[:, t])
        observations[:, t + 1], rewards[:, t] = x_t, r_t
        agent.observe(x_tm1, actions[:, t], rewards[:, t], x_t, rng)
    return observations, actions, rewards


class _Agent:
    """Networks, replay and optimiser. Episodes only ever end by the time limit, so every target bootstraps."""

    def __init__(self, settings: OnlineDQNSettings, torch_seed: int):
        self.settings = settings
        hidden = settings.hidden_units
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch_seed)
            self.network = nn.Sequential(
                RelationalEncoder(hidden),
                nn.ReLU(),
                nn.Linear(hidden, hidden),
                nn.ReLU(),
                nn.Linear(hidden, len(ACTIONS)),
            )
        self.target = copy.deepcopy(self.network).requires_grad_(False)
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=settings.learning_rate, fused=True)
        capacity = settings.replay_transitions
        self.x_tm1 = np.empty((capacity, OBSERVATION_SIZE), dtype=np.int8)
        self.a_tm1 = np.empty(capacity, dtype=np.int8)
        self.r_t = np.empty(capacity, dtype=np.uint8)
        self.x_t = np.empty((capacity, OBSERVATION_SIZE), dtype=np.int8)
        self.environment_steps = 0
        self.updates = 0

    @torch.no_grad()
    def greedy(self, x: np.ndarray) -> np.ndarray:
        """x (N, 11) -> actions (N,)."""
        return self.network(torch.from_numpy(np.ascontiguousarray(x))).argmax(dim=1).numpy()

    def observe(
        self, x_tm1: np.ndarray, a_tm1: np.ndarray, r_t: np.ndarray, x_t: np.ndarray, rng: np.random.Generator
    ) -> None:
        """Store one transition of every board, and learn as often as the settings say."""
        s = self.settings
        rows = (self.environment_steps + np.arange(len(a_tm1))) % s.replay_transitions
        self.x_tm1[rows], self.a_tm1[rows], self.r_t[rows], self.x_t[rows] = x_tm1, a_tm1, r_t, x_t
        self.environment_steps += len(a_tm1)
        due = (self.environment_steps - s.first_update_environment_steps) // s.environment_steps_per_update
        while self.updates < due:
            filled = min(self.environment_steps, s.replay_transitions)
            self.update(rng.integers(filled, size=s.batch_transitions))

    def update(self, rows: np.ndarray) -> float:
        """One step of Adam on the replayed transitions `rows`; returns the loss."""
        x_tm1, x_t = torch.from_numpy(self.x_tm1[rows]), torch.from_numpy(self.x_t[rows])
        a_tm1 = torch.from_numpy(self.a_tm1[rows]).long()
        r_t = torch.from_numpy(self.r_t[rows]).float()
        with torch.no_grad():
            discount_t = torch.full_like(r_t, self.settings.discount)
            target = q_learning_target(r_t, discount_t, self.target(x_t), self.network(x_t))
        loss = td_loss(self.network(x_tm1), a_tm1, target, huber_delta=1.0).mean()
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.updates += 1
        if self.updates % self.settings.target_update_period_updates == 0:
            self.target.load_state_dict(self.network.state_dict())
        return loss.item()
