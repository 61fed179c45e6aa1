"""Offline multi-task learning of recurrent agents, (RA-)RDQN, from sequences: BabyAI."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from rarl.agents.losses import conservative_loss, greedy_value, n_step_targets, td_loss, weighted_mean
from rarl.agents.memory import Memory
from rarl.envs.babyai.levels import level_named
from rarl.envs.babyai.vector import ACTIONS
from rarl.evaluation.levels import evaluation_seeds, roll_out_levels
from rarl.nn.auxiliary import Supports
from rarl.planning.scale import Run
from rarl.training.learner import Losses, ValueLearner
from rarl.trajectories.sampling import SequenceSampler
from rarl.trajectories.store import TrajectoryDataset


class SequenceLearner(ValueLearner):
    """Learns from windows of episodes of many tasks, with a recurrent state that starts at zero.

    Args:
      run: the settings.
      datasets: one per task, in the order of the task ids.
      device: where the networks are.
    """

    def __init__(self, run: Run, datasets: list[TrajectoryDataset], device: str):
        super().__init__(run, Memory.of(run, datasets), len(datasets), device, len(ACTIONS), Supports(), datasets)
        learning = run.settings.learning
        self.levels = [level_named(name) for name in run.tasks]
        self.sequences = SequenceSampler(
            datasets,
            learning.sequence_steps,
            learning.discount,
            learning.burn_in,
            extras=["mission"],
            episodes=run.settings.episodes,
        )

    def _losses(self) -> Losses:
        """On G tasks with B sequences each; one group of all where the retrieval batch serves all tasks."""
        s, learning = self.settings, self.settings.learning
        tasks, each = self._tasks_of_batch(learning.batch_sequences)
        batch = self.sequences.sample(np.repeat(tasks, each), self.rng)
        pooled = self.memory is None or self.memory.pooled
        groups = (1, len(tasks) * each) if pooled else (len(tasks), each)
        x, a_t, r_t, discount_t, mask, learn, mission = (
            torch.from_numpy(array).to(self.device).view(*groups, *array.shape[1:])
            for array in (
                batch.observations,
                batch.actions.astype(np.int64),
                batch.r_t,
                batch.discount_t,
                batch.mask,
                batch.learn,
                batch.extras["mission"].astype(np.int64),
            )
        )
        told = mission[:, :, None]

        retrieved = self._retrieve(tasks)
        sample = s.agent.retrieval.bottleneck > 0
        online = self.network.unroll(
            x, told, self.network.initial_state(*groups, sample=sample), retrieved.online, sample=sample
        )
        with torch.no_grad():
            target = self.target.unroll(x, told, self.target.initial_state(*groups), retrieved.target)
            value = greedy_value(target.q[:, :, 1:], online.q[:, :, 1:] if learning.double else None)
            targets = n_step_targets(r_t, discount_t, value, mask, learning.n_step)
        q_t = online.q[:, :, :-1]
        td = weighted_mean(td_loss(q_t, a_t, targets, learning.huber_delta), learn)
        conservative = weighted_mean(conservative_loss(q_t, a_t), learn) if learning.conservative > 0 else None
        kl = None
        if online.p is not None:
            # The state after a sequence's last step counts as that step does.
            kl = self._kl(online.p, online.r, torch.cat([mask, mask[..., -1:]], dim=-1))
        q_mean = weighted_mean(q_t.detach().mean(-1), learn)
        return Losses(
            td, conservative, kl, self._auxiliary(retrieved), {"q_mean": q_mean}, masking=self._masking(tasks)
        )

    def evaluate(self) -> list[dict[str, Any]]:
        """Episodes of every level, from starts that are the same at every evaluation of a run and for every agent."""
        s = self.settings.evaluation
        of_exploration, of_memory = (np.random.default_rng([self.settings.seed, s.board_seed, i]) for i in (1, 2))
        seeds = evaluation_seeds(self.levels, s.episodes_per_task, self.settings.seed, s.board_seed)
        retrieved = None
        if self.memory is not None:
            with torch.no_grad():
                batch = self.memory.sample(np.arange(len(self.levels)), of_memory).to(self.device)
                retrieved = batch.summarise(self.network)
        episodes = roll_out_levels(self.network, self.levels, seeds, retrieved, of_exploration, s.epsilon)
        return self._evaluation_rows([level.name for level in self.levels], episodes.returns, episodes.success)
