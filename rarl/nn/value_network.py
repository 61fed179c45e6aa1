"""Q-networks: encoder, core, retriever, fusion, head; one class and one call for all agents."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from rarl.nn.retrieval import (
    Mode,
    Readable,
    Reading,
    RetrievalProcess,
    RetrievalStep,
    Retriever,
    SlotReadout,
    Summaries,
)


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

    def forward(
        self, s: Float[Tensor, "*b d_s"], z: Float[Tensor, "*b n_f d_m"] | None
    ) -> Float[Tensor, "*b n_actions"]:
        """Q values of s~; z: None for an agent without."""
        s = torch.relu(s)
        hidden = self.hidden(s)
        state_hidden = None if self.state_hidden is None else self.state_hidden(s)
        if self.readout is not None and self.value is not None and z is not None:
            read = self.value(self.readout(hidden, z))
            hidden = hidden + read
            state_hidden = None if state_hidden is None else state_hidden + read
        q: Tensor = self.q(torch.relu(hidden))
        if self.state_value is None or state_hidden is None:
            return q
        return torch.add(self.state_value(torch.relu(state_hidden)), q) - q.mean(-1, keepdim=True)

    def expected(self, values: Tensor) -> Tensor:
        """Q (..., n_actions) of what `forward` gives."""
        return values


class State(NamedTuple):
    """What an agent carries from step to step.

    core: of the GRU; None for an agent without. slots: None for an agent that carries none.
    """

    core: Float[Tensor, "G B d_s"] | None
    slots: Float[Tensor, "#G #B n_f d_m"] | None

    def map(self, change: Callable[..., Tensor], *others: State) -> State:
        """The same with another form of its parts; `change` also gets the same part of each of the others."""
        return State(*(None if of[0] is None else change(*of) for of in zip(self, *others, strict=True)))


class Unrolled(NamedTuple):
    """An agent over T steps.

    state: after the last step. step: what the retriever gave, with T behind B in the shapes of all its parts; None for
    an agent without. Where slots are carried, m_t is left out, and alpha and q too unless they are asked for. trail:
    the state after each step, core (G, B, T, d_s) and slots (G, B, T, n_f, d_m), as far as it was asked for. values:
    what the head gave, q itself or (G, B, T, n_actions, parts).
    """

    q: Float[Tensor, "G B T n_actions"]
    state: State
    step: RetrievalStep | None
    values: Float[Tensor, "G B T n_actions ..."]
    trail: State = State(None, None)


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
        self.carries_slots = recurrent and carry and retriever is not None and retriever.process.has_slots
        if recurrent and retriever_encoder is not None:
            raise ValueError("a retriever with an encoder of its own has no recurrent form")

    @property
    def process(self) -> RetrievalProcess:
        """Steps 1 to 5, of an agent with a retriever."""
        return self._retriever.process

    @property
    def reading(self) -> Reading:
        """The same, of an agent that reads retrieval batches."""
        return self._retriever.reading

    @property
    def _retriever(self) -> Retriever:
        if self.retriever is None:
            raise TypeError("this agent has no retriever")
        return self.retriever

    def initial_state(self, groups: int, batch: int, mode: Mode = Mode.ACT) -> State:
        """The state at an episode's start, for G groups of B agents."""
        core = None
        if self.core is not None:
            core = next(self.core.parameters()).new_zeros(groups, batch, self.core.hidden_size)
        return State(core, self.process.initial_slots(mode, groups, batch) if self.carries_slots else None)

    def unroll(
        self,
        x: Shaped[Tensor, "G B T ..."],
        context: Shaped[Tensor, "G B 1 ..."] | None,
        state: State | None = None,
        retrieved: Summaries | None = None,
        *,
        mode: Mode = Mode.ACT,
        counts: Bool[Tensor, "G B T"] | None = None,
        readable: Readable | None = None,
        keep_attention: bool = False,
        keep_states: bool = False,
    ) -> Unrolled:
        """T steps. An agent without core and carried slots takes them as T states that have nothing to do with each
        other.

        Args:
          x: observations.
          context: what the agent is told about the episode: a task id, for example.
          state: before the first step; None: that at an episode's start.
          retrieved: the retrieval batch of each group.
          mode: what the pass is for.
          counts: False at padded observations; None: there are none.
          readable: what the states of a sequence may read; None: all of their retrieval batch.
          keep_attention: return alpha and queries also where slots are carried.
          keep_states: return the trail.
        """
        groups, batch = x.shape[:2]
        state = self.initial_state(groups, batch, mode) if state is None else state
        s, core = self.states(x, context, state.core)
        of_core = s if self.core is not None else None
        if self.retriever is None:
            return self._unrolled(s, None, State(core, None), None, State(of_core, None))
        if not self.carries_slots:
            asking = s if self.retriever_encoder is None else self.retriever_encoder(x, context)
            step = self.ask(asking, context, retrieved, mode=mode, counts=counts, readable=readable)
            return self._unrolled(s, step.z, State(core, None), step, State(of_core, None))
        assert state.slots is not None
        step, slots = self.process.unroll(
            s, state.slots, retrieved, mode=mode, counts=counts, readable=readable, keep=keep_attention
        )
        of_slots = torch.stack(slots[1:], 2) if keep_states else None
        return self._unrolled(s, step.z, State(core, slots[-1]), step, State(of_core, of_slots))

    def states(
        self,
        x: Shaped[Tensor, "G B T ..."],
        context: Shaped[Tensor, "G B 1 ..."] | None,
        core: Float[Tensor, "#G #B d_s"] | None,
    ) -> tuple[Float[Tensor, "G B T d_s"], Float[Tensor, "G B d_s"] | None]:
        """The agent's states s, which ask, and the core's after the last step."""
        s = self.encoder(x, context)
        if self.core is None or core is None:
            return s, None
        groups, batch, length, d_s = s.shape
        core = core.expand(groups, batch, d_s).reshape(1, groups * batch, d_s).contiguous()
        s, core = self.core(torch.relu(s).flatten(0, 1), core)
        return s.view(groups, batch, length, d_s), core.view(groups, batch, d_s)

    def forward(
        self,
        x: Shaped[Tensor, "G B ..."],
        context: Shaped[Tensor, "G B ..."],
        retrieved: Summaries | None = None,
        *,
        mode: Mode = Mode.ACT,
        counts: Bool[Tensor, "G B"] | None = None,
        readable: Readable | None = None,
    ) -> tuple[Float[Tensor, "G B n_actions"], RetrievalStep | None]:
        """States by themselves, each as at an episode's start: `unroll` with T = 1, arguments as there.

        Returns:
          Q values, and what the retriever gave.
        """
        out = self.unroll(
            x[:, :, None],
            context[:, :, None],
            None,
            retrieved,
            mode=mode,
            counts=None if counts is None else counts[..., None],
            readable=readable,
            keep_attention=True,
        )
        return out.q.squeeze(2), None if out.step is None else out.step.map(lambda part: part.squeeze(2))

    def ask(
        self,
        s: Float[Tensor, "G B T d_s"],
        context: Shaped[Tensor, "G B 1 ..."] | None,
        retrieved: Summaries | None,
        *,
        mode: Mode,
        counts: Bool[Tensor, "G B T"] | None = None,
        readable: Readable | None = None,
    ) -> RetrievalStep:
        """The retriever for states that have nothing to do with each other, slots afresh at each; T behind B."""
        groups, batch, length, _ = s.shape
        context = context if self.process.told else None
        step = self.process(
            s.flatten(1, 2),
            self.process.initial_slots(mode, groups, batch * length),
            retrieved,
            mode=mode,
            carry=False,
            context=None if context is None else context.expand(s.shape[:3]).flatten(1, 2),
            counts=None if counts is None else counts.flatten(1, 2),
            readable=readable if readable is None or length == 1 else readable.at_each_of(length),
        )
        return step.map(lambda part: _apart(part, batch, length))

    def queries(self, x: Shaped[Tensor, "G B ..."], context: Int[Tensor, "G B"]) -> Float[Tensor, "G B n_f d_e"]:
        """What the states ask for, scaled as attention has it."""
        s = self.encoder_of_retrieved(x[:, :, None], context[:, :, None]).squeeze(2)
        slots = self.process.initial_slots(Mode.ACT, *s.shape[:2])
        return self.reading.ask(s, slots, context)[1].mul(self.reading.d_e**-0.5)

    @property
    def encoder_of_retrieved(self) -> nn.Module:
        """The encoder of retrieved trajectories: the agent's own (the paper), or the retriever's."""
        return self.encoder if self.retriever_encoder is None else self.retriever_encoder

    def freeze_retriever(self, frozen: bool = True) -> ValueNetwork:
        """Whether the retrieval process and its encoder stay as they are from now on, statistics included."""
        for part in (self.process, self.retriever_encoder):
            if part is not None:
                part.requires_grad_(not frozen).train(not frozen)
        return self

    def _unrolled(
        self,
        s: Float[Tensor, "*b d_s"],
        z: Float[Tensor, "*b n_f d_z"] | None,
        state: State,
        step: RetrievalStep | None,
        trail: State,
    ) -> Unrolled:
        """Step 6 and the head."""
        if z is not None:
            s, z = self._retriever.fuse(s, z), z if self._retriever.d_z else None
        values = self.head(s, z)
        return Unrolled(self.head.expected(values), state, step, values, trail)


def _apart(part: Tensor, batch: int, length: int) -> Tensor:
    """(G, B * T, ...) -> (G, B, T, ...); what is the same for all states stays so."""
    same = part.shape[1] != batch * length
    return part[:, :, None] if same else part.reshape(-1, batch, length, *part.shape[2:])
