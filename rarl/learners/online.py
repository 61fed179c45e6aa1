"""Online learning of one task, (RA-)R2D2 and (RA-)DQN: play, replay, learn; retrieval from its own replay.

One call of `OnlineLearner.update` plays a few steps with every actor and, once the replay holds enough, takes one
learner step. The two know nothing of each other: the actors have a network and a retrieval batch of their own, which
they get every `refresh_updates`, and what they played reaches the replay afterwards. So they may run at the same time,
and the outcome is the same as if they did not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from rarl.agents.build import copy_network
from rarl.agents.diagnosis import Asking
from rarl.agents.losses import part_by_part, td_loss, weighted_mean
from rarl.agents.memory import RetrievalBatch
from rarl.agents.policy import Policy
from rarl.agents.priorities import actor_epsilons, sequence_priorities
from rarl.agents.targets import sequence_targets
from rarl.agents.value_rescaling import rescale
from rarl.config.scale import Run
from rarl.envs.spec import make_vector
from rarl.errors import RunFailedError, required
from rarl.learners.actors import Actors, Experience
from rarl.learners.playing import Playing
from rarl.learners.value_learner import ASKING, Losses, Retrieved, StepInputs, ValueLearner
from rarl.nn.retrieval import Mode, Readable, Summaries
from rarl.nn.value_network import State, Unrolled, ValueNetwork
from rarl.replay.codec import Codec, codec_of
from rarl.replay.prioritised import Replay, ReplaySettings, Sequences
from rarl.replay.windows import Window
from rarl.rollouts.evaluation import Evaluation
from rarl.trajectories.sampling import Span, random_span, subsample

PRIORITIES = "priorities"  # among what a learner step finds; not logged


def retrieval_batch(
    codec: Codec, windows: Sequences, stride: int, rescale_epsilon: float | None, span: Span | None = None
) -> RetrievalBatch:
    """Windows of the replay as a retrieval batch for one group.

    Of every `stride` steps the last is looked at, as in `rarl.trajectories.sampling`, and the last one that there is.
    Rewards and values are rescaled; a value counts the rewards up to the window's end.

    Args:
      codec: how the replay keeps observations.
      windows: which.
      stride: in steps.
      rescale_epsilon: see `rarl.agents.value_rescaling`.
      span: the steps of each window that are looked at; None: all.
    """
    to_end = np.zeros_like(windows.r_t)
    value = np.zeros(len(windows), dtype=np.float32)
    for t in reversed(range(windows.r_t.shape[1])):
        value = np.where(windows.mask[:, t], windows.r_t[:, t] + windows.discount_t[:, t] * value, 0.0)
        to_end[:, t] = value
    n, longest = windows.mask.shape
    if span is None:
        looks, mask = subsample(Span(np.zeros(n, dtype=np.int64), windows.mask.sum(1)), stride, longest)
    else:
        looks, mask = subsample(span, stride)
    looks[~mask] = 0
    rows = np.arange(n)[:, None]
    x = codec.restore(
        windows.observations[rows, looks], windows.last_actions[rows, looks], windows.last_rewards[rows, looks]
    )
    rewards, values = (
        rescale(torch.from_numpy(array[rows, looks]), rescale_epsilon) for array in (windows.r_t, to_end)
    )
    return RetrievalBatch(
        torch.from_numpy(x)[None],
        torch.from_numpy(windows.actions[rows, looks])[None],
        rewards[None],
        values[None],
        None if mask.all() else torch.from_numpy(mask)[None],
        _context_of(windows)[None],
        np.zeros((1, n), dtype=np.int64),
        windows.episodes[None],
        (windows.starts[:, None] + looks)[None],
        (mask & (looks == windows.mask.sum(1, keepdims=True) - 1))[None],
    )


def _context_of(windows: Sequences) -> Tensor:
    """(B, 1, ...) int64, what is told about the windows' episodes; 0 where there is nothing but the one task."""
    context = windows.state.get("context")
    if context is None:
        return torch.zeros(len(windows), 1, dtype=torch.int64)
    return torch.from_numpy(context).long()[:, None]


class SequencesToLearn(NamedTuple):
    """B sequences of T steps; the group is 1.

    ids: in the replay. x: the observation after the last step included. before, lead: the burn-in's, and how many steps
    of it are real; None: there is none. learn: steps that are real. weights: of importance. state: by name the stored
    recurrent state. begins: where an episode starts.
    """

    ids: Int[np.ndarray, " B"]
    x: Shaped[Tensor, "1 B T+1 ..."]
    before: Shaped[Tensor, "1 B burn_in ..."] | None
    lead: Int[Tensor, " B"]
    context: Shaped[Tensor, "1 B 1 ..."]
    a_t: Int[Tensor, "1 B T"]
    r_t: Float[Tensor, "1 B T"]
    discount_t: Float[Tensor, "1 B T"]
    learn: Bool[Tensor, "1 B T"]
    weights: Float[Tensor, "1 B 1"]
    state: dict[str, Float[Tensor, "1 B ..."]]
    begins: Bool[Tensor, "1 B"]

    @property
    def seen(self) -> Bool[Tensor, "1 B _"]:
        """Observations that are real: one more than steps."""
        return torch.cat([self.learn[..., :1], self.learn], dim=-1)


class OnlineLearner(ValueLearner):
    """Learns one task while it plays it.

    Args:
      run: the settings.
      device: where the networks are.
    """

    def __init__(self, run: Run, device: str):
        s, learning = run.settings, run.settings.learning
        online = self.online = required(s.online, "online")
        self.task = run.tasks[0]
        envs = make_vector(s, [self.task] * online.actors, s.seed)
        self.codec = codec_of(s, envs)
        n_actions = len(envs.actions)
        super().__init__(run, 1, device, n_actions)
        self._memory_rng, actor_rng = (np.random.default_rng([s.seed, 2, stream]) for stream in range(2))
        self.acting = copy_network(self.network, s, n_actions)
        epsilons = actor_epsilons(online.actors, online.epsilon_base, online.epsilon_alpha)
        policy = Policy(self.acting, epsilons, actor_rng)
        self.actors = Actors(envs, policy, self.codec)
        self.replay = Replay(
            ReplaySettings(
                capacity_sequences=online.capacity_sequences,
                trace_steps=learning.sequence_steps - learning.burn_in,
                period_steps=online.period_steps,
                burn_in_steps=learning.burn_in,
                stack=self.codec.stack,
                discount=learning.discount,
                priority_exponent=online.priority_exponent,
                importance_exponent=online.importance_exponent,
                retrieval=online.retrieve_by,
                compression=online.compression,
            ),
            online.actors,
            frame_shape=self.codec.frame_shape,
            state_shapes={name: part.shape[1:] for name, part in self.actors.states.items()},
            first_priority=self._first_priority if online.priority_exponent > 0 else None,
        )
        self.rounds = 0  # of playing; learner steps are fewer
        self._random_play: tuple[np.ndarray, np.ndarray] | None = None
        self._pool = ThreadPoolExecutor(1) if online.overlap else None

    def facts(self) -> dict[str, Any]:
        """For the record of a run: the actions that the environment accepts, in the order of their numbers."""
        return {"actions": list(self.actors.envs.actions)}

    # --- one round ----------------------------------------------------------------------------------------------------

    def update(self) -> Mapping[str, float | Tensor]:
        """A few steps of every actor and, once the replay holds enough, one learner step."""
        playing = self._play(self.online.steps_per_update)
        scalars: dict[str, float | Tensor] = {}
        try:
            if len(self.replay) >= self.settings.least_sequences:
                scalars |= super().update()
        finally:
            gained = playing.result()
        gained.add_to(self.replay)
        self.rounds += 1
        if self.rounds % self.online.refresh_updates == 0:
            self._refresh()
        scalars["replay_sequences"] = float(len(self.replay))
        if gained.returns:
            scalars |= {"actor_return": float(np.mean(gained.returns)), "actor_steps": float(np.mean(gained.lengths))}
        return scalars

    def _play(self, steps: int) -> Future[Experience]:
        if self._pool is not None:
            return self._pool.submit(self.actors.play, steps)
        done: Future[Experience] = Future()
        done.set_result(self.actors.play(steps))
        return done

    def _refresh(self) -> None:
        """Give the actors the network as it is now and, if they retrieve, a new retrieval batch."""
        self.acting.load_state_dict(self.network.state_dict())
        self.actors.policy.retrieved = self._retrieved_to_play(self.acting, self._memory_rng)

    def _retrieved_to_play(self, network: ValueNetwork, rng: np.random.Generator) -> Summaries | None:
        """A retrieval batch from the whole replay as a network summarises it; None as long as there is too little."""
        batch = self.sample_batch(rng)
        if batch is None:
            return None
        with torch.no_grad():
            return batch.to(self.device).summarise(network)

    def sample_batch(self, rng: np.random.Generator, groups: int = 1) -> RetrievalBatch | None:
        """Retrieval batches from the whole replay; None if the agent has no use for one or the replay too little."""
        n_traj = self.settings.agent.retrieval.n_traj
        if not self.settings.agent.retrieves or len(self.replay) < n_traj:
            return None
        drawn = (self.replay.at(self.replay.draw_apart(n_traj, rng)) for _ in range(groups))
        return RetrievalBatch.joined([self._batch(windows, rng) for windows in drawn])

    def _batch(self, windows: Sequences, rng: np.random.Generator) -> RetrievalBatch:
        retrieval = self.settings.agent.retrieval
        span = random_span(windows.mask.sum(1), retrieval.trajectory_steps, rng)
        return retrieval_batch(self.codec, windows, retrieval.step_stride, self.settings.learning.rescale_epsilon, span)

    # --- one learner step ---------------------------------------------------------------------------------------------

    def _draw(self) -> StepInputs:
        """B sequences, with one retrieval batch for all."""
        s, learning, retrieves = self.settings, self.settings.learning, self.settings.agent.retrieves
        draw = self.replay.sample(learning.batch_sequences, s.agent.retrieval.n_traj if retrieves else 0, self.rng)
        windows, trace = draw.learn, learning.sequence_steps - learning.burn_in
        # The steps to learn from begin where the burn-in of each sequence ends; near an episode's start it is shorter.
        lead = windows.mask.sum(1) - windows.learn.sum(1)
        at = lead[:, None] + np.arange(trace + 1)
        rows = np.arange(len(windows))[:, None]
        a_t, r_t, discount_t, learn = (
            self._tensor(array[rows, at[:, :-1]])
            for array in (windows.actions, windows.r_t, windows.discount_t, windows.learn)
        )
        packed = self.codec.restore(windows.observations, windows.last_actions, windows.last_rewards)
        batch = SequencesToLearn(
            windows.ids,
            self._tensor(packed[rows, at] if learning.burn_in else packed),
            self._tensor(packed[:, : learning.burn_in]) if learning.burn_in else None,
            self._tensor(lead)[0],
            _context_of(windows)[None],
            a_t,
            r_t,
            discount_t,
            learn,
            self._tensor(draw.weights)[..., None],
            {name: self._tensor(part) for name, part in windows.state.items() if name != "context"},
            self._tensor(windows.starts == 0),
        )
        retrieval = self._batch(draw.retrieve, self.rng) if retrieves else None
        of_task = np.zeros((1, len(windows)), dtype=np.int64)
        exclude = self._own_episodes(retrieval, of_task, windows.episodes[None])
        return StepInputs(batch, retrieval, exclude, None if self.masking is None else self._to_mask(windows))

    def _losses_of(self, drawn: StepInputs) -> Losses:
        learning, batch = self.settings.learning, drawn.learn
        with self._precision():
            retrieved = Retrieved() if drawn.retrieval is None else self._summarise(drawn.retrieval)
            retrieved = retrieved.apart_from(drawn.exclude)
            values_of = partial(self._values, batch=batch, readable=retrieved.readable)
            online = values_of(self.network, retrieved.online, Mode.LEARN)
            with torch.no_grad():
                target = values_of(self.target, retrieved.target, Mode.TARGET)
            masking = self._masking(drawn.masking)
        a_t, learn = batch.a_t, batch.learn
        q, values = online.q.float(), online.values.float()
        chooser = q.detach() if learning.double else target.q.float()
        targets = self._targets(batch.r_t, batch.discount_t, a_t, learn, target.values.float(), chooser)
        q_t = q[:, :, :-1]
        loss = self.network.head.loss or td_loss
        td = weighted_mean(loss(values[:, :, :-1], a_t, targets, learning.huber_delta) * batch.weights, learn)
        expected = targets if targets.dim() == a_t.dim() else targets.mean(-1)
        priorities = self._priorities(q_t.detach(), a_t, expected, learn)[0]
        kl = self._kl(online.step, batch.seen)
        scalars = {
            "q_mean": weighted_mean(q_t.detach().mean(-1), learn),
            "priority": priorities.mean(),
            PRIORITIES: priorities,
        }
        return Losses(td, None, kl, self._auxiliary(retrieved), scalars, masking=masking)

    def _learned(self, drawn: StepInputs, found: dict[str, Tensor]) -> dict[str, Tensor]:
        priorities = found.pop(PRIORITIES).cpu()
        if not priorities.isfinite().all():
            raise RunFailedError(f"update {self.rounds + 1}: the TD errors are not finite")
        self.replay.update_priorities(drawn.learn.ids, priorities.numpy())
        return found

    def _targets(
        self,
        r_t: Float[Tensor, "*b T"],
        discount_t: Float[Tensor, "*b T"],
        a_t: Int[Tensor, "*b T"],
        learn: Bool[Tensor, "*b T"],
        q_target: Float[Tensor, "*_"],
        chooser: Float[Tensor, "*b T+1 n_actions"],
    ) -> Float[Tensor, "*_"]:
        """What the values of the steps taken should be; arguments as in `sequence_targets`, of q_target's parts too."""
        learning = self.settings.learning

        def targets(q: Tensor) -> Tensor:
            return sequence_targets(
                r_t,
                discount_t,
                a_t,
                learn,
                q,
                chooser,
                method=learning.targets,
                n_step=learning.n_step,
                lambda_=learning.trace_lambda,
                epsilon=learning.rescale_epsilon,
            )

        return part_by_part(targets, q_target, parts=q_target.dim() > chooser.dim())

    def _priorities(
        self,
        q_t: Float[Tensor, "*b T n_actions"],
        a_t: Int[Tensor, "*b T"],
        targets: Float[Tensor, "*b T"],
        learn: Bool[Tensor, "*b T"],
    ) -> Float[Tensor, "*b"]:
        """Of sequences, by their TD errors."""
        chosen = q_t.gather(-1, a_t[..., None]).squeeze(-1)
        return sequence_priorities(chosen - targets, learn, self.online.eta)

    def _first_priority(self, window: Window) -> float:
        """That of a new window, from the actor's values as a learner step computes it from the networks'."""
        steps = slice(window.burn_in, None)
        values = torch.from_numpy(window.values[steps].astype(np.float32))
        now, after = values.chunk(2, dim=-1)
        q = torch.cat([now, after[-1:]])
        a_t, r_t = torch.tensor(window.actions[steps]), torch.tensor(window.rewards[steps], dtype=torch.float32)
        discount_t = torch.full_like(r_t, self.settings.learning.discount)
        if window.terminated:
            discount_t[-1] = 0.0
        learn = torch.ones_like(a_t, dtype=torch.bool)
        targets = self._targets(r_t, discount_t, a_t, learn, q, q)
        return float(self._priorities(now, a_t, targets, learn))

    def _to_mask(self, windows: Sequences) -> RetrievalBatch:
        """Trajectories for the masking loss: of those that are learned from, which have been read anyway, the first."""
        masking = self.settings.learning.masking
        windows = windows.rows(slice(masking.trajectories))
        span = random_span(windows.mask.sum(1), masking.trajectory_steps, self.rng)
        return retrieval_batch(self.codec, windows, masking.step_stride, self.settings.learning.rescale_epsilon, span)

    def _tensor(self, array: Shaped[np.ndarray, "B ..."]) -> Shaped[Tensor, "1 B ..."]:
        """One group."""
        return torch.from_numpy(np.require(array, requirements=("C", "W")))[None]

    @contextlib.contextmanager
    def _precision(self) -> Iterator[None]:
        """The encoders' precision in a learner step; everything else is small and stays in float32."""
        encoders: list[Any] = [self.network.encoder, self.target.encoder]  # who has none does not mind
        for encoder in encoders:
            encoder.precision = getattr(torch, self.online.precision)
        try:
            yield
        finally:
            for encoder in encoders:
                encoder.precision = torch.float32

    def _values(
        self,
        network: ValueNetwork,
        retrieved: Summaries | None,
        mode: Mode,
        *,
        batch: SequencesToLearn,
        readable: Readable | None,
    ) -> Unrolled:
        """Values in the states of the batch, after a burn-in without gradients where there is one.

        readable: what the states may read.
        """
        unroll = partial(network.unroll, mode=mode, readable=readable)
        if network.core is None:
            return unroll(batch.x, batch.context, None, retrieved, counts=batch.seen)
        state = self._stored_state(network, batch, mode)
        if batch.before is not None:
            real = torch.arange(batch.before.shape[2], device=self.device) < batch.lead[:, None]
            with torch.no_grad():
                before = unroll(batch.before, batch.context, state, retrieved, counts=real[None], keep_states=True)
                trail = before.trail
            state = _state_after(state, trail, batch.lead)
        return unroll(batch.x, batch.context, state, retrieved, counts=batch.seen)

    def _stored_state(self, network: ValueNetwork, batch: SequencesToLearn, mode: Mode) -> State:
        """The recurrent state that the actor had; at an episode's start the network's own, as it is now."""
        core, slots = batch.state["core"], batch.state.get("slots")
        if slots is None:
            return State(core, None)
        begins = batch.begins[..., None, None]
        return State(core, torch.where(begins, network.process.initial_slots(mode, 1, slots.shape[1]), slots))

    # --- evaluation ---------------------------------------------------------------------------------------------------

    def _batch_to_evaluate(self, evaluation: Evaluation) -> RetrievalBatch | None:
        return self.sample_batch(evaluation.of_memory, evaluation.blocks)

    def _asking(self, rng: np.random.Generator) -> Asking:
        """Sequences of random play, since those of the replay change with the agent."""
        if self._random_play is None:
            self._random_play = self._play_at_random(rng)
        return Asking(*(torch.from_numpy(part).to(self.device)[None] for part in self._random_play))

    def _play_at_random(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """(sequences, T, ...): sequences in a row of the first episodes of two environments, and (sequences, 1, ...),
        what is told at the beginning of each."""
        envs = make_vector(self.settings, [self.task] * 2)
        playing, seen, contexts = Playing(envs), [], []
        length = self.settings.learning.sequence_steps
        for _ in range(ASKING // 2 * length):
            seen.append(playing.x.copy())
            contexts.append(np.zeros(2, np.int64) if envs.context is None else envs.context.astype(np.int64))
            playing.step(rng.integers(len(envs.actions), size=2))
        stacked, context = np.stack(seen, 1), np.stack(contexts[::length], 1)
        return stacked.reshape(ASKING, length, *stacked.shape[2:]), context.reshape(ASKING, 1, *context.shape[2:])

    def _batch_to_diagnose(self, rng: np.random.Generator) -> RetrievalBatch | None:
        return self.sample_batch(rng)

    # --- state --------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything: networks, replay, emulators, and what the actors retrieve from."""
        retrieved = self.actors.policy.retrieved
        return super().state_dict() | {
            "rounds": self.rounds,
            "acting": self.acting.state_dict(),
            "retrieved": None if retrieved is None else dict(retrieved._asdict()),
            "memory_rng": self._memory_rng.bit_generator.state,
            "actors": self.actors.state_dict(),
            "replay": self.replay.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.rounds = state["rounds"]
        self.acting.load_state_dict(state["acting"])
        parts = state["retrieved"]
        self.actors.policy.retrieved = None
        if parts is not None:
            self.actors.policy.retrieved = Summaries(**parts).map(lambda part: part.to(self.device))
        self._memory_rng.bit_generator.state = state["memory_rng"]
        self.actors.load_state_dict(state["actors"])
        self.replay.load_state_dict(state["replay"])

    def final_state_dict(self) -> dict[str, Any]:
        """The network and, if it retrieves, the retrieval batches that its last evaluation was played with."""
        batch = self._batch_to_evaluate(Evaluation.of(self.settings))
        return {"network": self.network.state_dict(), "memory": {} if batch is None else dict(vars(batch))}


def _state_after(stored: State, trail: State, lead: Int[Tensor, " B"]) -> State:
    """The state of each sequence after as many steps as its burn-in has.

    stored: before the burn-in. trail: after each of its steps. lead: 0 for none.
    """
    return stored.map(lambda before, after: _part_after(before, after, lead), trail)


def _part_after(before: Tensor, after: Tensor, lead: Tensor) -> Tensor:
    shape = [1, len(lead)] + [1] * (before.dim() - 2)
    index = (lead - 1).clamp(min=0).view(1, -1, 1, *shape[2:]).expand(1, len(lead), 1, *before.shape[2:])
    chosen = after.gather(2, index).squeeze(2)
    return torch.where((lead > 0).view(shape), chosen, before)
