"""Q-networks: encoder, retrieval (or what stands in its place), fusion, head; one class for all agents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rarl.nn.arguments import chosen
from rarl.nn.bottleneck import Gaussian, gaussian_kl
from rarl.nn.encoders import encoder_named
from rarl.nn.fusion import FUSIONS
from rarl.nn.retrieval import DirectRetrieval, Mode, RetrievalProcess, RetrievalStep, SlotReadout, Summaries


class QHead(nn.Module):
    """Q(s~, z, a): one hidden layer, on which the head attends over z again.

    Args:
      d_s: width of s~ and of the hidden layer.
      n_actions: number of actions.
      d_m, d_e: widths of z and of the attention; d_m = 0 for an agent without z.
      dueling: Q = V + A - mean A (Wang et al. 2016): V has a hidden layer of its own, to which what is read from z is
        added too.
    """

    def __init__(self, d_s: int, n_actions: int, d_m: int = 0, d_e: int = 0, dueling: bool = False):
        super().__init__()
        self.hidden = nn.Linear(d_s, d_s)
        self.readout = SlotReadout(d_s, d_m, d_e) if d_m else None
        self.value = nn.Linear(d_m, d_s, bias=False) if d_m else None
        self.q = nn.Linear(d_s, n_actions)
        # Drawn last, so that all others are initialised as they are without them.
        self.state_hidden = nn.Linear(d_s, d_s) if dueling else None
        self.state_value = nn.Linear(d_s, 1) if dueling else None

    def forward(self, s: Tensor, z: Tensor | None) -> Tensor:
        """s (..., d_s), z (..., n_f, d_m) or None -> Q values (..., n_actions)."""
        s = torch.relu(s)
        hidden = self.hidden(s)
        state_hidden = None if self.state_hidden is None else self.state_hidden(s)
        if self.readout is not None:
            read = self.value(self.readout(hidden, z))
            hidden = hidden + read
            state_hidden = None if state_hidden is None else state_hidden + read
        q = self.q(torch.relu(hidden))
        if state_hidden is None:
            return q
        return self.state_value(torch.relu(state_hidden)) + q - q.mean(-1, keepdim=True)


class ValueNetwork(nn.Module):
    """Encoder, then steps 1 to 6 where the agent retrieves, then the head.

    Args:
      encoder: its name, see `rarl.nn.encoders`.
      d_s: width of the agent's state.
      n_actions: number of actions.
      n_tasks: number of tasks.
      task_observed: the encoder sees the task id.
      retrieval: the retrieval process, or None for the base agent.
      d_m, d_e: widths of z and of attention.
      carry: the recurrent form carries slots from step to step.
      own_retriever: the retrieval process sees states through an encoder of its own, so that it can be frozen.
      fusion: name in `FUSIONS`.
      encoder_options: more of the encoder's own arguments.
      oracle: z is a learned embedding of the task in place of what retrieval reads (a control).
      dueling: the head's.
    """

    def __init__(
        self,
        encoder: str,
        d_s: int,
        n_actions: int,
        n_tasks: int,
        task_observed: bool,
        retrieval: RetrievalProcess | DirectRetrieval | None = None,
        d_m: int = 0,
        d_e: int = 0,
        fusion: str = "film",
        oracle: bool = False,
        encoder_options: Mapping[str, int] | None = None,
        dueling: bool = False,
        carry: bool = True,
        own_retriever: bool = False,
    ):
        super().__init__()
        direct = isinstance(retrieval, DirectRetrieval)
        uses_z = oracle or (retrieval is not None and not direct)

        def new_encoder() -> nn.Module:
            return encoder_named(encoder)(d_s, n_tasks if task_observed else 0, **(encoder_options or {}))

        self.encoder = new_encoder()
        self.retrieval = retrieval
        self.oracle = nn.Embedding(n_tasks, d_m) if oracle else None
        self.readout = SlotReadout(d_s, d_m, d_e) if uses_z else None
        join = chosen("fusion", fusion, FUSIONS)
        self.fusion = join(d_s, retrieval.d_v if direct else d_m) if uses_z or direct else None
        self.head = QHead(d_s, n_actions, d_m if uses_z else 0, d_e, dueling)
        self.carries_slots = carry and retrieval is not None and not direct
        self.retriever_encoder = new_encoder() if own_retriever else None

    def forward(
        self,
        x: Tensor,
        task: Tensor,
        retrieved: Summaries | None = None,
        *,
        mode: Mode = Mode.ACT,
        counts: Tensor | None = None,
        exclude: Tensor | None = None,
    ) -> tuple[Tensor, RetrievalStep | None]:
        """x (G, B, ...), task (G, B) int64 -> Q values (G, B, n_actions), the retrieval step.

        Slots start afresh at every state: an agent without recurrence learns from states out of their order.

        Args:
          x, task: observations and task ids.
          retrieved: the retrieval batch of each group.
          mode: what the pass is for.
          counts: (G, B) bool, False at padded states; None: there are none.
          exclude: (G, B, n_traj) bool, trajectories that a state must not read; None: none.
        """
        s = self.encoder(x, task)
        step, z = None, None
        if self.retrieval is not None:
            asking = s if self.retriever_encoder is None else self.retriever_encoder(x, task)
            step = self.ask(asking, retrieved, mode=mode, task=task, counts=counts, exclude=exclude)
            z = step.z
        elif self.oracle is not None:
            z = self.oracle(task)[..., None, :]
        return self._values(s, z), step

    def ask(
        self,
        s: Tensor,
        retrieved: Summaries | None,
        *,
        mode: Mode,
        task: Tensor | None = None,
        counts: Tensor | None = None,
        exclude: Tensor | None = None,
    ) -> RetrievalStep:
        """The retrieval process for states out of their order: s (G, B, d_s), task (G, B), slots afresh."""
        slots = self.retrieval.initial_slots(mode, *s.shape[:2])
        return self.retrieval(s, slots, retrieved, mode=mode, carry=False, task=task, counts=counts, exclude=exclude)

    def queries(self, x: Tensor, task: Tensor) -> Tensor:
        """What the states ask for: x (G, B, ...), task (G, B) int64 -> (G, B, n_f, d_e), scaled as attention has it."""
        slots = self.retrieval.initial_slots(Mode.ACT, *x.shape[:2])
        q = self.retrieval.ask(self.encoder_of_retrieved(x, task), slots, task)[1]
        return q * self.retrieval.d_e**-0.5

    @property
    def encoder_of_retrieved(self) -> nn.Module:
        """The encoder of retrieved trajectories: the agent's own (the paper), or the retriever's."""
        return self.encoder if self.retriever_encoder is None else self.retriever_encoder

    def freeze_retriever(self, frozen: bool = True) -> ValueNetwork:
        """Whether the retrieval process and its encoder stay as they are from now on, statistics included."""
        for part in (self.retrieval, self.retriever_encoder):
            part.requires_grad_(not frozen).train(not frozen)
        return self

    def _values(self, s: Tensor, z: Tensor | None) -> Tensor:
        """Step 6 and the head: s (..., d_s), z (..., n_f, d_m) or None -> Q values (..., n_actions)."""
        if z is not None:
            # A-1 has one z and nothing to choose from: it is added, and the head does not see it again.
            s = self.fusion(s, z.squeeze(-2) if self.readout is None else self.readout(s, z))
        return self.head(s, z)


class State(NamedTuple):
    """What a recurrent agent carries from step to step.

    core: (G, B, d_s), of the GRU. slots: (G or 1, B or 1, n_f, d_m), None for an agent that carries none.
    """

    core: Tensor
    slots: Tensor | None


class Unrolled(NamedTuple):
    """A recurrent agent over T steps.

    q: (G, B, T, n_actions). state: after the last step. z: (G, B, T, n_f, d_m); p, r: its posterior and prior;
    alpha: (G, B, T, n_f, N), attention, and queries: (G, B, T, n_f, d_e), only if asked for. All None without a
    retrieval process; p and r also where they play no part.
    trail: the state after each step, core (G, B, T, d_s) and slots (G, B, T, n_f, d_m); only if asked for.
    """

    q: Tensor
    state: State
    z: Tensor | None = None
    p: Gaussian | None = None
    r: Gaussian | None = None
    alpha: Tensor | None = None
    trail: State | None = None
    queries: Tensor | None = None

    @property
    def kl(self) -> Tensor:
        """(G, B, T): KL of the bottleneck in nats, summed over slots; 0 if it has no price."""
        return self.z.new_zeros(self.z.shape[:3]) if self.r is None else gaussian_kl(self.p, self.r).sum(-1)


class RecurrentValueNetwork(ValueNetwork):
    """As `ValueNetwork`, with a GRU between encoder and head, and slots that are carried through time.

    The GRU sees what the encoder gives (e_t); its output is s_t, which asks the retrieval process. What is retrieved
    changes s_t on the way to the head but is not fed back into the GRU. Retrieved states are encoded by the encoder
    alone: their past and future are the summariser's business.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self.oracle is not None or self.retriever_encoder is not None:
            raise ValueError("the oracle and a retriever with an encoder of its own have no recurrent form")
        d_s = self.head.hidden.in_features
        self.core = nn.GRU(d_s, d_s, batch_first=True)

    def initial_state(self, groups: int, batch: int, mode: Mode = Mode.ACT) -> State:
        """The state at an episode's start, for G groups of B agents."""
        core = self.core.weight_hh_l0.new_zeros(groups, batch, self.core.hidden_size)
        return State(core, self.retrieval.initial_slots(mode, groups, batch) if self.carries_slots else None)

    def unroll(
        self,
        x: Tensor,
        told: Tensor,
        state: State,
        retrieved: Summaries | None = None,
        *,
        mode: Mode = Mode.ACT,
        counts: Tensor | None = None,
        exclude: Tensor | None = None,
        keep_attention: bool = False,
        keep_states: bool = False,
    ) -> Unrolled:
        """T steps.

        Args:
          x: (G, B, T, ...), observations.
          told: (G, B, 1, ...), what the encoder is told about the episode.
          state: before the first step.
          retrieved: the retrieval batch of each group.
          mode: what the pass is for.
          counts: (G, B, T) bool, False at padded observations; None: there are none.
          exclude: (G, B, n_traj) bool, trajectories that a sequence must not read; None: none.
          keep_attention: return alpha and queries.
          keep_states: return the trail.
        """
        e = self.encoder(x, told)
        groups, batch, length, d_s = e.shape
        core = state.core.expand(groups, batch, d_s).reshape(1, groups * batch, d_s).contiguous()
        s, core = self.core(torch.relu(e).flatten(0, 1), core)
        s, core = s.view(groups, batch, length, d_s), core.view(groups, batch, d_s)
        if self.retrieval is None:
            trail = State(s, None) if keep_states else None
            return Unrolled(self._values(s, None), State(core, None), trail=trail)
        if not self.carries_slots:
            return self._all_steps_at_once(
                s, State(core, None), retrieved, mode, counts, exclude, keep_attention, keep_states
            )
        slots, steps = state.slots, []
        for t in range(length):
            now = None if counts is None else counts[:, :, t]
            step = self.retrieval(s[:, :, t], slots, retrieved, mode=mode, carry=True, counts=now, exclude=exclude)
            slots = step.m_t
            steps.append(step)
        z = torch.stack([step.z for step in steps], 2)
        p, r = (_over_time([getattr(step, name) for step in steps], step.z) for name in ("p", "r"))
        alpha = queries = None
        if keep_attention and step.alpha is not None:
            alpha, queries = (torch.stack([getattr(step, name) for step in steps], 2) for name in ("alpha", "q"))
        trail = State(s, torch.stack([step.m_t for step in steps], 2)) if keep_states else None
        return Unrolled(self._values(s, z), State(core, slots), z, p, r, alpha, trail, queries)

    def _all_steps_at_once(
        self,
        s: Tensor,
        state: State,
        retrieved: Summaries | None,
        mode: Mode,
        counts: Tensor | None,
        exclude: Tensor | None,
        keep_attention: bool,
        keep_states: bool,
    ) -> Unrolled:
        """A retrieval process without recurrence: no step waits for the one before. s (G, B, T, d_s)."""
        batch, length = s.shape[1:3]
        counts = None if counts is None else counts.flatten(1, 2)
        exclude = None if exclude is None else exclude.repeat_interleave(length, dim=1)
        step = self.ask(s.flatten(1, 2), retrieved, mode=mode, counts=counts, exclude=exclude)

        def over_time(part: Tensor) -> Tensor:
            return part.unflatten(1, (batch, length))

        z = over_time(step.z)
        p, r = (
            None if gaussian is None else Gaussian(*(over_time(part.expand_as(step.z)) for part in gaussian))
            for gaussian in (step.p, step.r)
        )
        alpha = queries = None
        if keep_attention and step.alpha is not None:
            alpha, queries = over_time(step.alpha), over_time(step.q)
        trail = State(s, None) if keep_states else None
        return Unrolled(self._values(s, z), state, z, p, r, alpha, trail, queries)


def _over_time(gaussians: list[Gaussian | None], like: Tensor) -> Gaussian | None:
    """T Gaussians (G or 1, B or 1, n_f, d_m) -> one of (G, B, T, n_f, d_m); None if they are."""
    if gaussians[0] is None:
        return None
    return Gaussian(
        *(torch.stack([part.expand_as(like) for part in parts], 2) for parts in zip(*gaussians, strict=True))
    )
