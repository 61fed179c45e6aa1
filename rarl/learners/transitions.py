"""Offline multi-task learning of (RA-)DQN from single transitions, on Gridroboman."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rarl.agents.diagnosis import Asking
from rarl.agents.index import KeyIndex
from rarl.agents.losses import conservative_loss, q_learning_target, relevance_loss, td_loss
from rarl.agents.memory import Memory, RetrievalBatch
from rarl.agents.pools import PoolMemory, relevant
from rarl.config.scale import Run
from rarl.envs.gridroboman.tasks import ACTIONS, task_named
from rarl.envs.gridroboman.vector import OBSERVATION_SIZE, Boards, random_boards
from rarl.learners.value_learner import ASKING, Losses, Retrieved, ValueLearner
from rarl.nn.auxiliary import Supports
from rarl.nn.retrieval import Mode, RetrievalStep
from rarl.nn.reward_from_reading import RewardFromReading
from rarl.rollouts.boards import evaluation_generators, roll_out
from rarl.rollouts.rows import retrieval_blocks
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
        memory = PoolMemory if run.settings.agent.retrieval.pool else Memory
        super().__init__(run, memory.of(run, datasets), len(datasets), device, len(ACTIONS), supports, datasets)
        self._index = self.memory.index if isinstance(self.memory, PoolMemory) else None
        self.tasks = [task_named(name) for name in run.tasks]
        retrieval = run.settings.agent.retrieval
        self.first_updates, self._frozen = retrieval.first_updates if run.retrieves else 0, False
        if self.first_updates:
            self.reward_from_reading = RewardFromReading(run.settings.agent.d_s, retrieval.d_m, retrieval.d_e)
            self._learn_beside("retriever's reward prediction", self.reward_from_reading)
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

        retrieved, of_pools = self._retrieve_for(x_tm1, tasks)
        source = (array.reshape(groups, each) for array in (batch.task_indices, batch.episodes))
        retrieved = retrieved.apart_from(*source, s.agent.retrieval.keep_apart)
        apart = {"exclude": retrieved.exclude}
        if self.updates_done < self.first_updates:
            self._freeze_retriever(False)
            return self._losses_of_retriever(x_t, task, r_t, retrieved)
        self._freeze_retriever(self.first_updates > 0)
        with torch.no_grad():
            q_t_online = None
            if learning.double:
                q_t_online, _ = self.network(x_t, task, retrieved.online, mode=Mode.LEARN, **apart)
            q_t_target, _ = self.target(x_t, task, retrieved.target, mode=Mode.TARGET, **apart)
            target = q_learning_target(r_t, discount_t, q_t_target, q_t_online)
        q_tm1, step = self.network(x_tm1, task, retrieved.online, mode=Mode.LEARN, **apart)
        td = td_loss(q_tm1, a_tm1, target, learning.huber_delta).mean()
        conservative = conservative_loss(q_tm1, a_tm1).mean() if learning.conservative > 0 else None
        scalars = {"q_mean": q_tm1.detach().mean(), **of_pools}
        if self._frozen:
            return Losses(td, conservative, None, None, scalars, masking=self._masking(tasks))
        ranking = self._relevance(tasks, step, retrieved) if s.agent.retrieval.relevance > 0 else None
        return Losses(
            td, conservative, self._kl(step), self._auxiliary(retrieved), scalars, ranking, self._masking(tasks)
        )

    def _freeze_retriever(self, frozen: bool) -> None:
        if frozen != self._frozen:  # also when a state of the other stage was loaded
            self.network.freeze_retriever(frozen)
            self.target.freeze_retriever(frozen).requires_grad_(False)
            self._frozen = frozen

    def _losses_of_retriever(self, x_t: Tensor, task: Tensor, r_t: Tensor, retrieved: Retrieved) -> Losses:
        """The first stage: the retriever learns to tell rewards, by the squared error; there is no agent yet.

        x_t (G, B, ...), task (G, B), r_t (G, B).
        """
        s_t = self.network.encoder_of_retrieved(x_t, task)
        step = self.network.ask(
            s_t[:, :, None], task[:, :, None], retrieved.online, mode=Mode.LEARN, exclude=retrieved.exclude
        )
        error = 0.5 * (self.reward_from_reading(s_t[:, :, None], step.z) - r_t[:, :, None]).square().mean()
        scalars = {"td_loss": torch.zeros(()), "retriever_loss": error.detach()}
        return Losses(error, None, self._kl(step), self._auxiliary(retrieved), scalars)

    def _relevance(self, tasks: np.ndarray, step: RetrievalStep, retrieved: Retrieved) -> Tensor:
        """How far the queries are from scoring their task's trajectories over the others of their retrieval batch."""
        logits = step.q.flatten(1, 2) @ retrieved.online.keys.transpose(1, 2) * step.q.shape[-1] ** -0.5
        scores = logits.unflatten(-1, (retrieved.online.n_traj, -1)).logsumexp(-1)
        return relevance_loss(scores, torch.from_numpy(relevant(tasks, retrieved.batch)).to(self.device))

    def _retrieve_for(self, x: Tensor, tasks: np.ndarray) -> tuple[Retrieved, dict[str, float]]:
        """Fresh retrieval batches for the states x (G, B, ...) of tasks (G,), and what is to be logged about them."""
        if not isinstance(self.memory, PoolMemory):
            return self._retrieve(tasks), {}
        shares = self.memory.draw_shares(len(tasks), self.rng)
        proposed, scalars = self.memory.propose_to_learn(self.network, x, tasks, shares, self.updates_done)
        batch = self.memory.sample(tasks, self.rng, shares=shares, proposed=proposed)
        return self._summarise(batch), scalars | {"relevant_in_batch": float(relevant(tasks, batch).mean())}

    def evaluate(self) -> list[dict[str, Any]]:
        """Greedy episodes of every task on boards that are the same at every evaluation of this run.

        Where few trajectories are relevant, a task's retrieval batches are of the trained shares in turn; an index
        proposes them from the episodes' start states, by the keys of the network as it is.
        """
        s = self.settings.evaluation
        of_boards, of_exploration, of_memory = evaluation_generators(self.settings)
        boards = random_boards(len(self.tasks) * s.episodes_per_task, of_boards)
        blocks = 1
        if self.memory is not None:
            blocks = retrieval_blocks(s.episodes_per_task, s.retrieval_batches)
        task_ids = np.repeat(np.arange(len(self.tasks)), blocks)
        retrieved = None
        with torch.no_grad():
            if self.memory is not None:
                batch = self._batch_to_evaluate(task_ids, blocks, boards, of_memory)
                retrieved = batch.to(self.device).summarise(self.network)
        tasks = [self.tasks[i] for i in task_ids]
        episodes = roll_out(
            self.network, tasks, task_ids, s.episodes_per_task // blocks, retrieved, of_exploration, s.epsilon, boards
        )
        returns = episodes.returns.reshape(len(self.tasks), -1)
        at_end = episodes.rewards[:, -1].reshape(len(self.tasks), -1)
        return self._evaluation_rows([task.name for task in self.tasks], returns, at_end)

    def _batch_to_evaluate(
        self, task_ids: np.ndarray, blocks: int, boards: Boards, rng: np.random.Generator
    ) -> RetrievalBatch:
        """One retrieval batch for each of a task's blocks of episodes."""
        if not isinstance(self.memory, PoolMemory):
            return self.memory.sample(task_ids, rng)
        shares = np.tile(self.memory.shares_in_turn(blocks), len(self.tasks))
        proposed = None
        if self._index is not None:
            # Keys of the network as it is now, in an index of its own: training goes on with the keys that it has.
            index = KeyIndex(self.memory.pools, self._index.settings)
            index.refresh(self.memory.keys(self.network), self.updates_done)
            starts = torch.from_numpy(boards.observe()).to(self.device).view(len(task_ids), -1, OBSERVATION_SIZE)
            queries = self.memory.queries(self.network, starts, task_ids)
            proposed = index.propose(task_ids, shares, queries, self.memory.settings.n_traj)
        return self.memory.sample(task_ids, rng, shares=shares, proposed=proposed)

    def _asking(self, rng: np.random.Generator) -> Asking:
        tasks = np.arange(len(self.tasks))
        x = self.transitions.sample(np.repeat(tasks, ASKING), rng).x_tm1.reshape(len(tasks), ASKING, -1)
        context = torch.from_numpy(tasks)[:, None, None].expand(len(tasks), ASKING, 1)
        return Asking(torch.from_numpy(x).to(self.device)[:, :, None], context.to(self.device))

    # --- state --------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        return state if self._index is None else state | {"index": self._index.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        if self._index is not None:
            self._index.load_state_dict(state["index"])
