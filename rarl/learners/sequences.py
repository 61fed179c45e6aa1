"""Offline multi-task learning of recurrent agents, (RA-)RDQN, from sequences: BabyAI."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from rarl.agents.diagnosis import Asking
from rarl.agents.losses import conservative_loss, greedy_value, n_step_targets, td_loss, weighted_mean
from rarl.agents.memory import Memory
from rarl.config.scale import Run
from rarl.envs.babyai.levels import level_named
from rarl.envs.babyai.vector import ACTIONS
from rarl.learners.value_learner import ASKING, Losses, ValueLearner
from rarl.nn.auxiliary import Supports
from rarl.nn.retrieval import Mode, Summaries
from rarl.nn.value_network import Unrolled, ValueNetwork
from rarl.rollouts.levels import evaluation_seeds, play_levels
from rarl.rollouts.rows import retrieval_blocks
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
        self._rewarded = self.sequences.rewarded()

    def _losses(self) -> Losses:
        """On G tasks with B sequences each; one group of all where the retrieval batch serves all tasks."""
        learning = self.settings.learning
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

        source = (array.reshape(groups) for array in (batch.task_indices, batch.episodes))
        retrieved = self._retrieve(tasks).apart_from(*source, self.settings.agent.retrieval.keep_apart)
        seen = torch.cat([mask[..., :1], mask], dim=-1)  # observations that are real: one more than steps

        def unrolled(network: ValueNetwork, summaries: Summaries | None, mode: Mode) -> Unrolled:
            state = network.initial_state(*groups, mode)
            return network.unroll(x, told, state, summaries, mode=mode, counts=seen, exclude=retrieved.exclude)

        online = unrolled(self.network, retrieved.online, Mode.LEARN)
        with torch.no_grad():
            target = unrolled(self.target, retrieved.target, Mode.TARGET)
            value = greedy_value(target.q[:, :, 1:], online.q[:, :, 1:] if learning.double else None)
            targets = n_step_targets(r_t, discount_t, value, mask, learning.n_step)
        q_t = online.q[:, :, :-1]
        td = weighted_mean(td_loss(q_t, a_t, targets, learning.huber_delta), learn)
        conservative = weighted_mean(conservative_loss(q_t, a_t), learn) if learning.conservative > 0 else None
        kl = self._kl(online.step, seen)
        scalars = {
            "q_mean": weighted_mean(q_t.detach().mean(-1), learn),
            # As often learned from as they are in the data, if windows are drawn right.
            "rewarded_steps": weighted_mean((r_t != 0).float(), learn),
            "rewarded_steps_of_data": self._rewarded,
        }
        return Losses(td, conservative, kl, self._auxiliary(retrieved), scalars, masking=self._masking(tasks))

    def _asking(self, rng: np.random.Generator) -> Asking:
        n, each = len(self.levels), ASKING // 2
        batch = self.sequences.sample(np.repeat(np.arange(n), each), rng)
        groups = (1, n * each) if self.memory.pooled else (n, each)
        x, mission, mask = (
            torch.from_numpy(array).to(self.device).unflatten(0, groups)
            for array in (batch.observations, batch.extras["mission"].astype(np.int64), batch.mask)
        )
        return Asking(x, mission[:, :, None], torch.cat([mask[..., :1], mask], dim=-1))

    def evaluate(self) -> list[dict[str, Any]]:
        """Episodes of every level, from starts that are the same at every evaluation of a run and for every agent."""
        s = self.settings.evaluation
        of_exploration, of_memory = (np.random.default_rng([self.settings.seed, s.board_seed, i]) for i in (1, 2))
        seeds = evaluation_seeds(self.levels, s.episodes_per_task, self.settings.seed, s.board_seed)
        blocks = retrieval_blocks(s.episodes_per_task, s.retrieval_batches)
        episodes = play_levels(
            self.network, self.levels, seeds, self.memory, of_memory, blocks, of_exploration, s.epsilon
        )
        return self._evaluation_rows([level.name for level in self.levels], episodes.returns, episodes.success)
