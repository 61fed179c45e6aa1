"""Gridroboman datasets as the paper made them: one DQN per task learns online, and all its episodes are recorded.

A dataset holds the whole way from random play to the learned policy, in the order of playing (Goyal et al. 2022,
appendix A.4.2). The agent is a double DQN of three layers, the third predicting Q. The paper does not print the
settings of this agent; those that are not in its table of hyper-parameters for Gridroboman are ours.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rarl.envs.gridroboman.planner import planner_episodes
from rarl.envs.gridroboman.tasks import ACTIONS, EPISODE_STEPS, Task, task_named
from rarl.envs.gridroboman.vector import OBSERVATION_SIZE, VectorGridroboman
from rarl.errors import RarlError
from rarl.nn.encoders import RelationalEncoder
from rarl.trajectories.store import DatasetWriter

_STREAM = 2**31  # keeps this generator's random numbers apart from those of the planner's chunks
_EXPERT_EPISODES = 4096


@dataclass(frozen=True)
class OnlineDQNSettings:
    """Settings of the agent that plays while it learns.

    Attributes:
      hidden_units: width of the first two layers.
      learning_rate: of Adam.
      discount: gamma.
      batch_transitions: learner batch.
      boards: episodes that are played at once.
      environment_steps_per_update: counted over all boards.
      target_update_period_updates: updates between copies to the target network.
      replay_transitions: capacity; the oldest are overwritten.
      first_update_environment_steps: random play before learning starts.
      epsilon_first, epsilon_last: probability of a random action at the first step and after the decay.
      epsilon_decay_share: share of all environment steps over which it falls linearly.
    """

    hidden_units: int = 256
    learning_rate: float = 3e-4
    discount: float = 0.99
    batch_transitions: int = 256
    boards: int = 32
    environment_steps_per_update: int = 32
    target_update_period_updates: int = 500
    replay_transitions: int = 500_000
    first_update_environment_steps: int = 10_000
    epsilon_first: float = 1.0
    epsilon_last: float = 0.02
    epsilon_decay_share: float = 0.3

    def __post_init__(self) -> None:
        for name in (
            "hidden_units",
            "batch_transitions",
            "boards",
            "environment_steps_per_update",
            "target_update_period_updates",
            "replay_transitions",
        ):
            if getattr(self, name) < 1:
                raise RarlError(f"{name}={getattr(self, name)}: must be at least 1")
        if self.first_update_environment_steps < 0:
            raise RarlError(
                f"first_update_environment_steps={self.first_update_environment_steps}: must not be negative"
            )
        if self.learning_rate <= 0:
            raise RarlError(f"learning_rate={self.learning_rate}: must be above 0")
        for name in ("discount", "epsilon_first", "epsilon_last", "epsilon_decay_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise RarlError(f"{name}={getattr(self, name)}: must be between 0 and 1")

    def epsilon(self, done_share: float) -> float:
        """Probability of a random action after this share of the environment steps."""
        if self.epsilon_decay_share == 0:
            return self.epsilon_last
        decayed = min(1.0, done_share / self.epsilon_decay_share)
        return self.epsilon_first + decayed * (self.epsilon_last - self.epsilon_first)


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
    if seed < 0:
        raise RarlError(f"seed={seed}: must be at least 0")
    episodes = environment_steps // EPISODE_STEPS
    rng = np.random.default_rng([seed, task.id, _STREAM])
    with (
        DatasetWriter(
            folder,
            environment="gridroboman",
            task=task.name,
            source="dqn",
            seed=seed,
            generator={"policy": "online double DQN", "environment_steps": environment_steps, **asdict(settings)},
        ) as writer,
        _one_thread(),
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
    observations[:, 0], _ = envs.reset(seed=int(rng.integers(2**62)))
    for t in range(EPISODE_STEPS):
        epsilon = settings.epsilon((done + boards * t / EPISODE_STEPS) / episodes)
        explores = rng.random(boards) < epsilon
        random_actions = rng.integers(len(ACTIONS), size=boards)
        x_tm1 = observations[:, t]
        actions[:, t] = np.where(explores, random_actions, agent.greedy(x_tm1))
        x_t, r_t, _, _, _ = envs.step(actions[:, t])
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
            target = double_q_target(r_t, self.settings.discount, self.network(x_t), self.target(x_t))
        q = self.network(x_tm1).gather(1, a_tm1[:, None]).squeeze(1)
        loss = F.huber_loss(q, target)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.updates += 1
        if self.updates % self.settings.target_update_period_updates == 0:
            self.target.load_state_dict(self.network.state_dict())
        return loss.item()


def double_q_target(r_t: Tensor, discount: float, q_t_online: Tensor, q_t_target: Tensor) -> Tensor:
    """r + gamma * Q_target(x_t, argmax_a Q_online(x_t, a)).

    r_t: (B,). q_t_online, q_t_target: (B, actions). Returns (B,).
    """
    best = q_t_online.argmax(dim=1, keepdim=True)
    return r_t + discount * q_t_target.gather(1, best).squeeze(1)


@contextmanager
def _one_thread() -> Iterator[None]:
    """The order of floating-point sums, and so the dataset, must not depend on the number of cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
