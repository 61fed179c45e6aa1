"""Offline multi-task learning from datasets: (RA-)DQN from transitions, (RA-)RDQN from sequences."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from rarl.agents.contrastive import contrastive_loss
from rarl.agents.diagnosis import Asking
from rarl.agents.index import KeyIndex
from rarl.agents.losses import (
    conservative_loss,
    greedy_value,
    n_step_targets,
    part_by_part,
    relevance_loss,
    td_loss,
    weighted_mean,
)
from rarl.agents.memory import Memory, RetrievalBatch
from rarl.agents.pools import PoolMemory, relevant
from rarl.config.scale import Run
from rarl.envs.space import number_of_actions
from rarl.envs.spec import plays, spec_of
from rarl.learners.value_learner import ASKING, Losses, Retrieved, StepInputs, ValueLearner
from rarl.nn.retrieval import Mode, Readable, Summaries
from rarl.nn.reward_from_reading import RewardFromReading
from rarl.nn.value_network import Unrolled, ValueNetwork
from rarl.rollouts.evaluation import Evaluation
from rarl.trajectories.sampling import SequenceSampler, TransitionSampler
from rarl.trajectories.store import TrajectoryDataset

CONTRASTED = 8  # states of each group
MEASURED = 256  # steps of data, or sequences, of each task


class LearnerBatch(NamedTuple):
    """What a learner step learns from, for G groups of B sequences with T steps; a transition is one of length 1.

    x: the observation after the last step included. mask: True on real steps, and learn, those of them that are learned
    from; None: all. tasks, episodes: where each is from. relevant: trajectories of its own task in a group's retrieval
    batch; None: nobody asks.
    """

    x: Shaped[Tensor, "G B T+1 ..."]
    context: Shaped[Tensor, "G B 1 ..."]
    a_t: Int[Tensor, "G B T"]
    r_t: Float[Tensor, "G B T"]
    discount_t: Float[Tensor, "G B T"]
    mask: Bool[Tensor, "G B T"] | None
    learn: Bool[Tensor, "G B T"] | None
    tasks: Int[np.ndarray, "G B"]
    episodes: Int[np.ndarray, "G B"]
    relevant: Bool[Tensor, "G n_traj"] | None = None

    @property
    def seen(self) -> Bool[Tensor, "G B T"] | None:
        """Which observations are real; None: all."""
        return None if self.mask is None else torch.cat([self.mask[..., :1], self.mask], dim=-1)


class OfflineLearner(ValueLearner):
    """Learns from datasets: a recurrent agent from windows of episodes, with a recurrent state that starts at zero;
    others from transitions.

    Args:
      run: the settings.
      datasets: one per task, in the order of the task ids.
      device: where the networks are.
    """

    def __init__(self, run: Run, datasets: list[TrajectoryDataset], device: str):
        s, spec, learning = run.settings, spec_of(run.settings.environment), run.settings.learning
        self.memory = (PoolMemory if s.agent.retrieval.pool else Memory).of(run, datasets)
        super().__init__(run, len(datasets), device, number_of_actions(s), datasets)
        self.tasks, self._context, self._plays = list(run.tasks), spec.context, plays(spec)
        self._index = self.memory.index if isinstance(self.memory, PoolMemory) else None
        retrieval = s.agent.retrieval
        self.first_updates, self._frozen = retrieval.first_updates if run.retrieves else 0, False
        if self.first_updates:
            self.reward_from_reading = RewardFromReading(s.agent.d_s, retrieval.d_m, retrieval.d_e)
            self._learn_beside("retriever's reward prediction", self.reward_from_reading)
        self.recurrent = s.agent.core != "none"
        self.sampler: TransitionSampler | SequenceSampler
        if not self.recurrent:
            self.sampler = TransitionSampler(datasets, learning.discount, learning.n_step)
        else:
            self.sampler = SequenceSampler(
                datasets,
                learning.sequence_steps,
                learning.discount,
                learning.burn_in,
                extras=[spec.context] if spec.context else [],
            )
            self._rewarded = self.sampler.rewarded()

    # --- one learner step ---------------------------------------------------------------------------------------------

    def draw(self, tasks: Int[np.ndarray, " G"], each: int, rng: np.random.Generator) -> LearnerBatch:
        """Sequences of tasks, `each` of them per group; one group of all where one retrieval batch serves all."""
        pooled = self.recurrent and (self.memory is None or self.memory.pooled)
        groups = (1, len(tasks) * each) if pooled else (len(tasks), each)
        of_each, tensor = np.repeat(tasks, each), partial(self._tensor, groups)
        mask: Tensor | None = None
        learn: Tensor | None = None
        if isinstance(self.sampler, TransitionSampler):
            one = self.sampler.sample(of_each, rng)
            x = torch.stack([tensor(one.x_tm1), tensor(one.x_t)], dim=2)
            a_t, r_t, discount_t = (
                tensor(part)[..., None] for part in (one.a_tm1.astype(np.int64), one.r_t, one.discount_t)
            )
            context, source = tensor(of_each)[..., None], (one.task_indices, one.episodes)
        else:
            batch = self.sampler.sample(of_each, rng)
            x, a_t, r_t, discount_t = (
                tensor(part)
                for part in (batch.observations, batch.actions.astype(np.int64), batch.r_t, batch.discount_t)
            )
            mask, learn = tensor(batch.mask), tensor(batch.learn)
            of_batch = of_each if self._context is None else batch.extras[self._context].astype(np.int64)
            context, source = tensor(of_batch)[:, :, None], (batch.task_indices, batch.episodes)
        of_task, episodes = (array.reshape(groups) for array in source)
        return LearnerBatch(x, context, a_t, r_t, discount_t, mask, learn, of_task, episodes)

    def _tensor(self, groups: tuple[int, int], array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).view(*groups, *array.shape[1:])

    def _draw(self) -> StepInputs:
        """G tasks with B states or sequences each."""
        learning = self.settings.learning
        size = learning.batch_sequences if self.recurrent else learning.batch_states
        tasks, each = self._tasks_of_batch(size)
        batch = self.draw(tasks, each, self.rng)
        retrieval, scalars = self._retrieve_for(batch, tasks)
        if retrieval is not None and self.settings.agent.retrieval.relevance:
            batch = batch._replace(relevant=torch.from_numpy(relevant(tasks, retrieval)))
        if batch.learn is not None:
            scalars["rewarded_steps_of_data"] = self._rewarded
        exclude = self._own_episodes(retrieval, batch.tasks, batch.episodes)
        masking = None if self.masking is None else self.masking.draw(tasks, self.rng)
        return StepInputs(batch, retrieval, exclude, masking, scalars)

    def _losses_of(self, drawn: StepInputs) -> Losses:
        learning, batch = self.settings.learning, drawn.learn
        retrieved = Retrieved() if drawn.retrieval is None else self._summarise(drawn.retrieval)
        retrieved = retrieved.apart_from(drawn.exclude)
        if self.updates_done < self.first_updates:
            self._freeze_retriever(False)
            return self._losses_of_retriever(batch, retrieved)
        self._freeze_retriever(self.first_updates > 0)
        online, value = self._values(batch, retrieved)
        n_step = learning.n_step if self.recurrent else 1  # transitions come summed up
        mask = torch.ones_like(batch.a_t, dtype=torch.bool) if batch.mask is None else batch.mask
        targets = part_by_part(
            lambda value_t: n_step_targets(batch.r_t, batch.discount_t, value_t, mask, n_step),
            value,
            parts=value.dim() > mask.dim(),
        )
        q_t, values_t = (part[:, :, : batch.a_t.shape[2]] for part in (online.q, online.values))
        loss = self.network.head.loss or td_loss
        td = self._mean(loss(values_t, batch.a_t, targets, learning.huber_delta), batch)
        conservative = self._mean(conservative_loss(q_t, batch.a_t), batch) if learning.conservative > 0 else None
        q_mean = q_t.detach().mean() if batch.learn is None else weighted_mean(q_t.detach().mean(-1), batch.learn)
        scalars = {"q_mean": q_mean}
        if batch.learn is not None:
            # As often learned from as they are in the data, if windows are drawn right.
            scalars["rewarded_steps"] = weighted_mean((batch.r_t != 0).float(), batch.learn)
        ranking = kl = auxiliary = contrastive = None
        if not self._frozen:
            q = None if online.step is None else online.step.q
            ranking = None if q is None or batch.relevant is None else self._relevance(batch.relevant, q, retrieved)
            kl, auxiliary = self._kl(online.step, batch.seen), self._auxiliary(retrieved)
            contrastive = self._contrastive(batch, retrieved, drawn.exclude)
        masking = self._masking(drawn.masking)
        return Losses(td, conservative, kl, auxiliary, scalars, ranking, contrastive, masking)

    def _mean(self, value: Tensor, batch: LearnerBatch) -> Tensor:
        """Over all steps that are learned from."""
        return value.mean() if batch.learn is None else weighted_mean(value, batch.learn)

    def _values(self, batch: LearnerBatch, retrieved: Retrieved) -> tuple[Unrolled, Tensor]:
        """The online network on the steps taken, with gradients; (G, B, T), the values of the states after them.

        The states of a sequence overlap: one pass sees all of them. A transition's two states have nothing in common,
        and only the first needs gradients.
        """
        double, unrolled = self.settings.learning.double, partial(self._unrolled, batch, retrieved.readable)
        now, after = slice(None, -1), slice(1, None)
        if not self.recurrent:
            with torch.no_grad():
                chooser = unrolled(self.network, retrieved.online, Mode.LEARN, after).q if double else None
                target = unrolled(self.target, retrieved.target, Mode.TARGET, after)
            value = greedy_value(target.values, chooser if double else target.q)
            return unrolled(self.network, retrieved.online, Mode.LEARN, now), value
        online = unrolled(self.network, retrieved.online, Mode.LEARN)
        with torch.no_grad():
            target = unrolled(self.target, retrieved.target, Mode.TARGET)
        return online, greedy_value(target.values[:, :, after], (online if double else target).q[:, :, after])

    def _unrolled(
        self,
        batch: LearnerBatch,
        readable: Readable | None,
        network: ValueNetwork,
        summaries: Summaries | None,
        mode: Mode,
        steps: slice = slice(None),
    ) -> Unrolled:
        counts = None if batch.seen is None else batch.seen[:, :, steps]
        x = batch.x[:, :, steps]
        return network.unroll(x, batch.context, None, summaries, mode=mode, counts=counts, readable=readable)

    def _freeze_retriever(self, frozen: bool) -> None:
        if frozen != self._frozen:  # also when a state of the other stage was loaded
            self.network.freeze_retriever(frozen)
            self.target.freeze_retriever(frozen).requires_grad_(False)
            self._frozen = frozen

    def _losses_of_retriever(self, batch: LearnerBatch, retrieved: Retrieved) -> Losses:
        """The first stage: the retriever learns to tell rewards, by the squared error; there is no agent yet."""
        s_t = self.network.encoder_of_retrieved(batch.x[:, :, 1:], batch.context)
        step = self.network.ask(s_t, batch.context, retrieved.online, mode=Mode.LEARN, readable=retrieved.readable)
        error = 0.5 * (self.reward_from_reading(s_t, step.z) - batch.r_t).square().mean()
        scalars = {"td_loss": torch.zeros(()), "retriever_loss": error.detach()}
        return Losses(error, None, self._kl(step), self._auxiliary(retrieved), scalars)

    def _contrastive(
        self, batch: LearnerBatch, retrieved: Retrieved, exclude: Bool[Tensor, "G B n_traj"] | None
    ) -> Float[Tensor, ""] | None:
        """By the first states of a few of each group's sequences; None if it is off."""
        settings = self.settings.agent.retrieval
        if not settings.contrastive or retrieved.online is None:
            return None
        x, context = batch.x[:, :CONTRASTED, :1], batch.context[:, :CONTRASTED]
        with torch.no_grad():  # it is about what is read, and not about what asks
            s, _ = self.network.states(x, context, self.network.initial_state(*x.shape[:2]).core)
        temperature = settings.contrastive_temperature
        own = None if exclude is None else exclude[:, :CONTRASTED]
        return contrastive_loss(self.network, s.squeeze(2), retrieved.online, temperature, context, own)

    def _relevance(
        self, relevant: Bool[Tensor, "G n_traj"], q: Float[Tensor, "G B T n_f d_e"], retrieved: Retrieved
    ) -> Float[Tensor, ""]:
        """How far the queries are from scoring their task's trajectories over the others of their retrieval batch."""
        summaries = retrieved.read[1]
        logits = q.flatten(1, 3) @ summaries.keys.transpose(1, 2) * q.shape[-1] ** -0.5
        return relevance_loss(logits.unflatten(-1, (summaries.n_traj, -1)).logsumexp(-1), relevant)

    def _retrieve_for(self, batch: LearnerBatch, tasks: np.ndarray) -> tuple[RetrievalBatch | None, dict[str, float]]:
        """Fresh retrieval batches for what is learned from, and what is to be logged about them."""
        if not isinstance(self.memory, PoolMemory):
            return None if self.memory is None else self.memory.sample(tasks, self.rng), {}
        shares = self.memory.draw_shares(len(tasks), self.rng)
        x = batch.x[:, :, 0].to(self.device)
        proposed, scalars = self.memory.propose_to_learn(self.network, x, tasks, shares, self.updates_done)
        drawn = self.memory.sample(tasks, self.rng, shares=shares, proposed=proposed)
        return drawn, scalars | {"relevant_in_batch": float(relevant(tasks, drawn).mean())}

    # --- evaluation ---------------------------------------------------------------------------------------------------

    def evaluate(self) -> list[dict[str, Any]]:
        """Greedy episodes; without a simulator, `measure` with the retrieval batch of an evaluation."""
        if self._plays:
            return super().evaluate()
        return self.measure(self.retrieval_to_measure(Evaluation.of(self.settings).of_memory))

    def retrieval_to_measure(self, rng: np.random.Generator, tasks: np.ndarray | None = None) -> RetrievalBatch | None:
        """A retrieval batch for each task, of its own dataset or that of `tasks` (G,); None: nothing is retrieved."""
        if self.memory is None:
            return None
        own = np.arange(self.n_tasks)
        return self.memory.sample(own, rng) if tasks is None else self.memory.sample(own, rng, given=tasks)

    @torch.no_grad()
    def measure(
        self, batch: RetrievalBatch | None, look: Callable[[LearnerBatch, Unrolled], None] | None = None
    ) -> list[dict[str, Any]]:
        """What the network says of steps of the data that are the same in all of a run.

        Args:
          batch: what is retrieved; None: nothing is. Trajectories of a state's own episode are not read.
          look: given the steps, and what the network gave on them.

        Returns:
          a row for each task: task, episodes (that the steps are of), agreement (share of steps at which the best
          action is the one taken), td_error (mean of |r + discount max Q(x_t, .) - Q(x_tm1, a)|).
        """
        evaluation = Evaluation.of(self.settings)
        steps = self._on_device(self.draw(np.arange(self.n_tasks), MEASURED, evaluation.of_exploration))
        summaries = None if batch is None else batch.to(self.device).summarise(self.network)
        own = self._own_episodes(batch, steps.tasks, steps.episodes)
        retrieved = Retrieved(batch, summaries).apart_from(self._on_device(own))
        out = self.network.unroll(
            steps.x,
            steps.context,
            None,
            summaries,
            counts=steps.seen,
            readable=retrieved.readable,
            keep_attention=True,
        )
        if look is not None:
            look(steps, out)
        q_tm1, q_t = out.q[:, :, :-1], out.q[:, :, 1:]
        error = steps.r_t + steps.discount_t * q_t.amax(-1) - q_tm1.gather(-1, steps.a_t[..., None]).squeeze(-1)
        learn = torch.ones_like(steps.a_t, dtype=torch.bool) if steps.learn is None else steps.learn
        rows = []
        for i, task in enumerate(self.tasks):
            of_task = torch.from_numpy(steps.tasks == i).to(self.device)[..., None] & learn
            rows.append(
                {
                    "task": task,
                    "episodes": len(np.unique(steps.episodes[steps.tasks == i])),
                    "agreement": float((q_tm1.argmax(-1) == steps.a_t)[of_task].double().mean()),
                    "td_error": float(error.abs()[of_task].double().mean()),
                }
            )
        return rows

    def _batch_to_evaluate(self, evaluation: Evaluation) -> RetrievalBatch | None:
        """Where few trajectories are relevant, a task's retrieval batches are of the trained shares in turn; an index
        proposes them from the episodes' start states, by the keys of the network as it is."""
        rng = evaluation.of_memory
        if not isinstance(self.memory, PoolMemory):
            if self.memory is None or not evaluation.pooled:
                return None if self.memory is None else self.memory.sample(evaluation.groups, rng)
            return RetrievalBatch.joined([self.memory.sample(evaluation.groups, rng) for _ in range(evaluation.blocks)])
        shares = np.tile(self.memory.shares_in_turn(evaluation.blocks), len(self.tasks))
        proposed = None
        if self._index is not None:
            # Keys of the network as it is now, in an index of its own: training goes on with the keys that it has.
            index = KeyIndex(self.memory.pools, self._index.settings)
            index.refresh(self.memory.keys(self.network), self.updates_done)
            x = evaluation.starts()
            starts = torch.from_numpy(x).to(self.device).view(len(evaluation.groups), -1, *x.shape[2:])
            queries = self.memory.queries(self.network, starts, evaluation.groups)
            proposed = index.propose(evaluation.groups, shares, queries, self.memory.settings.n_traj)
        return self.memory.sample(evaluation.groups, rng, shares=shares, proposed=proposed)

    def _asking(self, rng: np.random.Generator) -> Asking:
        batch = self.draw(np.arange(self.n_tasks), ASKING // 2 if self.recurrent else ASKING, rng)
        batch = self._on_device(batch)
        return Asking(batch.x if self.recurrent else batch.x[:, :, :1], batch.context, batch.seen)

    def _batch_to_diagnose(self, rng: np.random.Generator) -> RetrievalBatch | None:
        return None if self.memory is None else self.memory.sample(np.arange(self.n_tasks), rng)

    # --- state --------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        return state if self._index is None else state | {"index": self._index.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        if self._index is not None:
            self._index.load_state_dict(state["index"])
