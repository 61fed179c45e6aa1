"""Offline multi-task learning of (RA-)DQN from single transitions, on Gridroboman."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from rarl.agents.losses import conservative_loss, q_learning_target, td_loss
from rarl.agents.memory import Memory
from rarl.config import Run
from rarl.envs.gridroboman.tasks import ACTIONS, task_named
from rarl.envs.gridroboman.vector import random_boards
from rarl.evaluation.rollouts import roll_out
from rarl.nn.auxiliary import Supports
from rarl.training.learner import Losses, ValueLearner
from rarl.trajectories.sampling import TransitionSampler
from rarl.trajectories.store import TrajectoryDataset


class TransitionLearner(ValueLearner):
    """Learns from transitions of many tasks.

    Args:
      run: the settings.
      datasets: one per task, in the order of the task ids.
      device: where the networks are.
    """

    def __init__(self, run: Run, datasets: list[TrajectoryDataset], device: str):
        learning = run.settings.learning
        horizon = 1 / (1 - learning.discount) if learning.discount < 1 else 50.0
        supports = Supports(value=(0.0, min(horizon, 50.0)))
        super().__init__(run, Memory.of(run, datasets), len(datasets), device, len(ACTIONS), supports, datasets)
        self.tasks = [task_named(name) for name in run.tasks]
        self.transitions = TransitionSampler(
            datasets, learning.discount, learning.n_step, episodes=run.settings.episodes
        )

    def _losses(self) -> Losses:
        """On G tasks with B states each."""
        s, learning = self.settings, self.settings.learning
        tasks, each = self._tasks_of_batch(learning.batch_states)
        groups = len(tasks)
        batch = self.transitions.sample(np.repeat(tasks, each), self.rng)
        x_tm1, a_tm1, r_t, discount_t, x_t = (
            torch.from_numpy(array).to(self.device).view(groups, each, *array.shape[1:])
            for array in (batch.x_tm1, batch.a_tm1.astype(np.int64), batch.r_t, batch.discount_t, batch.x_t)
        )
        task = torch.from_numpy(tasks).to(self.device)[:, None].expand(groups, each)

        retrieved = self._retrieve(tasks)
        with torch.no_grad():
            q_t_online = self.network(x_t, task, retrieved.online)[0] if learning.double else None
            q_t_target = self.target(x_t, task, retrieved.target)[0]
            target = q_learning_target(r_t, discount_t, q_t_target, q_t_online)
        q_tm1, step = self.network(x_tm1, task, retrieved.online, sample=s.agent.retrieval.bottleneck > 0)
        td = td_loss(q_tm1, a_tm1, target, learning.huber_delta).mean()
        conservative = conservative_loss(q_tm1, a_tm1).mean() if learning.conservative > 0 else None
        kl = self._kl(step.p, step.r) if step is not None else None
        return Losses(
            td, conservative, kl, self._auxiliary(retrieved), {"q_mean": q_tm1.detach().mean()}, self._masking(tasks)
        )

    def evaluate(self) -> list[dict[str, Any]]:
        """Greedy episodes of every task on boards that are the same at every evaluation of this run."""
        s = self.settings.evaluation
        # Streams of their own, so that agents with and without retrieval meet the same boards and the same exploration.
        of_boards, of_exploration, of_memory = (
            np.random.default_rng([self.settings.seed, s.board_seed, stream]) for stream in range(3)
        )
        boards = random_boards(len(self.tasks) * s.episodes_per_task, of_boards)
        blocks = 1
        if self.memory is not None:
            divisors = (n for n in range(1, s.retrieval_batches + 1) if s.episodes_per_task % n == 0)
            blocks = max(divisors)
        task_ids = np.repeat(np.arange(len(self.tasks)), blocks)
        retrieved = None
        with torch.no_grad():
            if self.memory is not None:
                retrieved = self.memory.sample(task_ids, of_memory).to(self.device).summarise(self.network)
        tasks = [self.tasks[i] for i in task_ids]
        episodes = roll_out(
            self.network, tasks, task_ids, s.episodes_per_task // blocks, retrieved, of_exploration, s.epsilon, boards
        )
        returns = episodes.returns.reshape(len(self.tasks), -1)
        at_end = episodes.rewards[:, -1].reshape(len(self.tasks), -1)
        return self._evaluation_rows([task.name for task in self.tasks], returns, at_end)
