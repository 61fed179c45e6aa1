"""Q-networks: encoder, core, retriever, fusion, head; one class and one call for all agents."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rarl.nn.bottleneck import Gaussian
from rarl.nn.retrieval import Mode, RetrievalProcess, RetrievalStep, Retriever, SlotReadout, Summaries


class QHead(nn.Module):
    """Q(s~, z, a): one hidden layer, on which the head attends over z again.

    Args:
      d_s: width of s~ and of the hidden layer.
      n_actions: number of actions.
      d_m, d_e: widths of z and of the attention; d_m = 0 for an agent without z.
      dueling: Q = V + A - mean A (Wang et al. 2016): V has a hidden layer of its own, to which what is read from z is
        added too.

    A head with other values of its own (a distribution, for example) is a class with the same arguments that says what
    Q is of them (`expected`), and by what they are learned (`loss`).

    Attributes:
      loss: function (values (..., n_actions, *parts), a (...) int64, target (..., *parts), huber_delta) -> (...); None:
        `rarl.agents.losses.td_loss`.
    """

    loss: Callable[[Tensor, Tensor, Tensor, float | None], Tensor] | None = None

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

    def expected(self, values: Tensor) -> Tensor:
        """Q (..., n_actions) of what `forward` gives."""
        return values


class State(NamedTuple):
    """What an agent carries from step to step.

    core: (G, B, d_s), of the GRU; None for an agent without. slots: (G or 1, B or 1, n_f, d_m), None for an agent that
    carries none.
    """

    core: Tensor | None
    slots: Tensor | None


class Unrolled(NamedTuple):
    """An agent over T steps.

    q: (G, B, T, n_actions). state: after the last step. step: what the retriever gave, with T behind B in the shapes of
    all its parts; None for an agent that retrieves nothing. Where slots are carried, m_t is left out, and alpha and q
    too unless they are asked for. trail: the state after each step, core (G, B, T, d_s) and slots (G, B, T, n_f, d_m);
    only if asked for. values: what the head gave, q itself or (G, B, T, n_actions, parts).
    """

    q: Tensor
    state: State
    step: RetrievalStep | None = None
    trail: State | None = None
    values: Tensor | None = None


class ValueNetwork(nn.Module):
    """Encoder, core, steps 1 to 6 where the agent retrieves, head.

    Args:
      encoder: observations and context to e (..., d_s); see `rarl.agents.build.encoder_of`.
      d_s: width of the agent's state.
      n_actions: number of actions.
      retriever: what finds u; None for the base agent.
      d_e: width of the head's attention over z.
      dueling: the head's.
      recurrent: a GRU between encoder and head. It sees e_t; its output is s_t, which asks the retriever. What is
        retrieved changes s_t on the way to the head but is not fed back into the GRU. Retrieved states are encoded by
        the encoder alone: their past and future are the summariser's business.
      carry: slots are carried from step to step, in a recurrent agent.
      retriever_encoder: by which the retriever sees states, so that it can be frozen; None: the agent's own.
      head: class of the head.
    """

    def __init__(
        self,
        encoder: nn.Module,
        d_s: int,
        n_actions: int,
        retriever: Retriever | None = None,
        *,
        d_e: int = 0,
        dueling: bool = False,
        recurrent: bool = False,
        carry: bool = True,
        retriever_encoder: nn.Module | None = None,
        head: type[QHead] = QHead,
    ):
        super().__init__()
        self.encoder = encoder
        self.retriever = retriever
        self.head = head(d_s, n_actions, 0 if retriever is None else retriever.d_z, d_e, dueling)
        self.retriever_encoder = retriever_encoder
        self.core = nn.GRU(d_s, d_s, batch_first=True) if recurrent else None
        self.carries_slots = recurrent and carry and self.process is not None and self.process.has_slots
        if recurrent and retriever_encoder is not None:
            raise ValueError("a retriever with an encoder of its own has no recurrent form")

    @property
    def process(self) -> RetrievalProcess | None:
        """Steps 1 to 5 of the retriever; None without one."""
        return None if self.retriever is None else self.retriever.process

    def initial_state(self, groups: int, batch: int, mode: Mode = Mode.ACT) -> State:
        """The state at an episode's start, for G groups of B agents."""
        core = None
        if self.core is not None:
            core = self.core.weight_hh_l0.new_zeros(groups, batch, self.core.hidden_size)
        return State(core, self.process.initial_slots(mode, groups, batch) if self.carries_slots else None)

    def unroll(
        self,
        x: Tensor,
        context: Tensor | None,
        state: State | None = None,
        retrieved: Summaries | None = None,
        *,
        mode: Mode = Mode.ACT,
        counts: Tensor | None = None,
        exclude: Tensor | None = None,
        keep_attention: bool = False,
        keep_states: bool = False,
    ) -> Unrolled:
        """T steps. An agent without core and carried slots takes them as T states that have nothing to do with each
        other.

        Args:
          x: (G, B, T, ...), observations.
          context: (G, B, 1, ...), what the agent is told about the episode: a task id, for example.
          state: before the first step; None: that at an episode's start.
          retrieved: the retrieval batch of each group.
          mode: what the pass is for.
          counts: (G, B, T) bool, False at padded observations; None: there are none.
          exclude: (G, B, n_traj) bool, trajectories that a sequence must not read; None: none.
          keep_attention: return alpha and queries also where slots are carried.
          keep_states: return the trail.
        """
        s = self.encoder(x, context)
        groups, batch, length, d_s = s.shape
        state = self.initial_state(groups, batch, mode) if state is None else state
        core = None
        if self.core is not None:
            core = state.core.expand(groups, batch, d_s).reshape(1, groups * batch, d_s).contiguous()
            s, core = self.core(torch.relu(s).flatten(0, 1), core)
            s, core = s.view(groups, batch, length, d_s), core.view(groups, batch, d_s)
        of_core = s if self.core is not None else None
        if self.retriever is None:
            return self._unrolled(s, None, State(core, None), None, State(of_core, None))
        if not self.carries_slots:
            asking = s if self.retriever_encoder is None else self.retriever_encoder(x, context)
            step = self.ask(asking, context, retrieved, mode=mode, counts=counts, exclude=exclude)
            return self._unrolled(s, step.z, State(core, None), step, State(of_core, None))
        slots, steps = state.slots, []
        for t in range(length):
            now = None if counts is None else counts[:, :, t]
            step = self.process(s[:, :, t], slots, retrieved, mode=mode, carry=True, counts=now, exclude=exclude)
            slots = step.m_t
            steps.append(step)
        whole = _over_time(steps, keep_attention)
        trail = State(of_core, torch.stack([step.m_t for step in steps], 2)) if keep_states else None
        return self._unrolled(s, whole.z, State(core, slots), whole, trail)

    def forward(
        self, x: Tensor, context: Tensor, retrieved: Summaries | None = None, **options: Mode | Tensor | None
    ) -> tuple[Tensor, RetrievalStep | None]:
        """States by themselves, each as at an episode's start: `unroll` with T = 1.

        Args:
          x, context: (G, B, ...).
          retrieved, options: as in `unroll`; counts (G, B).

        Returns:
          Q values (G, B, n_actions), and what the retriever gave, (G, B, ...).
        """
        if options.get("counts") is not None:
            options["counts"] = options["counts"][..., None]
        out = self.unroll(x[:, :, None], context[:, :, None], None, retrieved, keep_attention=True, **options)
        return out.q.squeeze(2), None if out.step is None else out.step.map(lambda part: part.squeeze(2))

    def ask(
        self,
        s: Tensor,
        context: Tensor | None,
        retrieved: Summaries | None,
        *,
        mode: Mode,
        counts: Tensor | None = None,
        exclude: Tensor | None = None,
    ) -> RetrievalStep:
        """The retriever for states that have nothing to do with each other: s (G, B, T, d_s), slots afresh at each."""
        groups, batch, length, _ = s.shape

        def together(part: Tensor | None) -> Tensor | None:
            return None if part is None else part.expand(groups, batch, length, *part.shape[3:]).flatten(1, 2)

        step = self.process(
            s.flatten(1, 2),
            self.process.initial_slots(mode, groups, batch * length),
            retrieved,
            mode=mode,
            carry=False,
            context=together(context) if self.process.told else None,
            counts=together(counts),
            exclude=None if exclude is None else exclude.repeat_interleave(length, dim=1),
        )

        def apart(part: Tensor) -> Tensor:
            # What is the same for all states stays so.
            return part.unflatten(1, (batch, length)) if part.shape[1] == batch * length else part[:, :, None]

        return step.map(apart)

    def queries(self, x: Tensor, context: Tensor) -> Tensor:
        """What the states ask for: x, context (G, B, ...) -> (G, B, n_f, d_e), scaled as attention has it."""
        s = self.encoder_of_retrieved(x[:, :, None], context[:, :, None]).squeeze(2)
        slots = self.process.initial_slots(Mode.ACT, *s.shape[:2])
        return self.process.ask(s, slots, context)[1] * self.process.d_e**-0.5

    @property
    def encoder_of_retrieved(self) -> nn.Module:
        """The encoder of retrieved trajectories: the agent's own (the paper), or the retriever's."""
        return self.encoder if self.retriever_encoder is None else self.retriever_encoder

    def freeze_retriever(self, frozen: bool = True) -> ValueNetwork:
        """Whether the retrieval process and its encoder stay as they are from now on, statistics included."""
        for part in (self.process, self.retriever_encoder):
            part.requires_grad_(not frozen).train(not frozen)
        return self

    def _unrolled(self, s: Tensor, z: Tensor | None, *parts: State | RetrievalStep | None) -> Unrolled:
        """Step 6 and the head: s (..., d_s), z (..., n_f, d_m) or None; parts: of the result."""
        if z is not None:
            s, z = self.retriever.fuse(s, z), z if self.retriever.d_z else None
        values = self.head(s, z)
        return Unrolled(self.head.expected(values), *parts, values)


def _over_time(steps: list[RetrievalStep], keep_attention: bool) -> RetrievalStep:
    """T steps (G, B, ...) as one, (G, B, T, ...)."""
    shape = steps[0].z.shape[:2]
    last = steps[-1]

    def stacked(parts: list[Tensor | None]) -> Tensor | None:
        if parts[0] is None:
            return None
        return torch.stack([part.expand(*shape, *part.shape[2:]) for part in parts], 2)

    def gaussians(name: str) -> Gaussian | None:
        parts = [getattr(step, name) for step in steps]
        return None if parts[0] is None else Gaussian(*map(stacked, zip(*parts, strict=True)))

    attends = keep_attention and last.alpha is not None
    return RetrievalStep(
        stacked([step.z for step in steps]),
        None,
        gaussians("p"),
        gaussians("r"),
        stacked([step.alpha for step in steps]) if attends else None,
        stacked([step.q for step in steps]) if attends else None,
    )
