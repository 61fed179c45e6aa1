"""Retrieval: Algorithm 1 of Goyal et al. (2022), its six steps in order, under the paper's symbols.

A *retrieval process* is steps 1 to 5, from the agent's state s and a retrieval batch to z; a `Retriever` is all six, to
s~ = s + u.

Axes: G groups, each with a retrieval batch of its own (a task, say); B states of a group that ask;
k slots (n_f of them); i retrieved trajectories (n_traj); j their steps (l); N = n_traj * l candidate states.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, ClassVar, NamedTuple, cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from rarl.nn.arguments import chosen, require_multiple, require_positive, require_prefix
from rarl.nn.at_each_step import Map, at_each_step
from rarl.nn.bottleneck import Gaussian, InformationBottleneck, gaussian_kl
from rarl.nn.fusion import FUSIONS
from rarl.nn.noise import standard_normal
from rarl.nn.summarisers import SUMMARISERS

NEVER = float("-inf")


class Mode(Enum):
    """What a pass through a network is for: whether m_0 and z are drawn, and whose statistics normalise what is read.

    LEARN: the online network in a learner step, also where it chooses the next action of double Q-learning. Draws;
      statistics of its own batch, which the running ones follow.
    TARGET: the target network in a learner step. Means; statistics of its own batch. The online network's statistics
      do not fit its weights, which lag behind.
    ACT: play and evaluation. Means; running statistics.
    """

    LEARN = "learn"
    TARGET = "target"
    ACT = "act"


class Summaries(NamedTuple):
    """A retrieval batch, made ready once for all queries of a learner step.

    keys: κ_ij = (h_ij + s_ij) W_e.  values: b_ij W_v.  mask: True on real steps, None if all are real.  h, b: for the
    auxiliary losses.
    """

    keys: Float[Tensor, "G N d_e"]
    values: Float[Tensor, "G N d_v"]
    mask: Bool[Tensor, "G N"] | None
    h: Float[Tensor, "G n_traj l d_h"]
    b: Float[Tensor, "G n_traj l d_h"]

    @property
    def n_traj(self) -> int:
        return self.h.shape[1]

    def readable(self, exclude: Bool[Tensor, "G B n_traj"] | None = None) -> Readable:
        """What states may read: real steps.

        exclude: trajectories that a state must not read, those of its own episode; None: none.
        """
        looks = self.keys.device.type == "cpu"  # elsewhere, to look whether anything is forbidden makes the device wait
        mask = None if self.mask is None or (looks and self.mask.all()) else self.mask[:, None]
        exclude = None if exclude is None or (looks and not exclude.any()) else exclude
        if mask is None and exclude is None:
            return Readable()
        empty = self.keys.new_zeros((), dtype=torch.bool)
        if mask is not None:
            empty = ~mask.unflatten(-1, (self.n_traj, -1)).any(-1)
        never = self._never(empty if exclude is None else exclude | empty)
        finds = never.amax(-1, keepdim=True) == 0
        never = never.repeat_interleave(self.keys.shape[1] // self.n_traj, dim=-1)
        never = never if mask is None else never + self._never(~mask)
        if looks and finds.all():
            return Readable(never)
        return Readable(torch.where(finds, never, 0.0), finds)

    def _never(self, where: Bool[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        return torch.zeros_like(where, dtype=self.keys.dtype).masked_fill_(where, NEVER)

    def map(self, change: Callable[[Tensor], Tensor]) -> Summaries:
        """The same with another form of all its parts."""
        mask = None if self.mask is None else change(self.mask)
        return Summaries(change(self.keys), change(self.values), mask, change(self.h), change(self.b))


class Readable(NamedTuple):
    """Which candidates each state may read.

    never: -inf where it must not, else 0; None: it may read all. finds: whether there is anything that it may read;
    None: all states have something. One that has nothing has 0 everywhere, so that its weights are numbers, which
    `Reading.read` takes away.
    """

    never: Float[Tensor, "#G #B N"] | None = None
    finds: Bool[Tensor, "#G #B 1"] | None = None

    def at_each_of(self, steps: int) -> Readable:
        """The same for sequences whose steps count as so many states."""
        parts = (part if part is None or part.shape[1] == 1 else part.repeat_interleave(steps, 1) for part in self)
        return Readable(*parts)


class RetrievalStep(NamedTuple):
    """What one step of a retrieval process gives.

    z: what each slot passes on.  m_t: the slots after the step, None if not asked.
    p, r: posterior and prior of z, None where they play no part; G and B may be 1 where they are the same for all.
    alpha: attention weights; exactly 0 where not selected; None if nothing was retrieved.
    q: what was asked for.
    """

    z: Float[Tensor, "G B *T n_f d_m"]
    m_t: Float[Tensor, "G B *T n_f d_m"] | None
    p: Gaussian | None
    r: Gaussian | None
    alpha: Float[Tensor, "G B *T n_f N"] | None
    q: Float[Tensor, "G B *T n_f d_e"] | None = None

    @property
    def kl(self) -> Float[Tensor, "G B *T"]:
        """KL of the bottleneck in nats, summed over slots; 0 if it has no price. Computed when asked for."""
        if self.p is None or self.r is None:
            return self.z.new_zeros(self.z.shape[:-2])
        return gaussian_kl(self.p, self.r).sum(-1)

    def map(self, change: Callable[[Tensor], Tensor]) -> RetrievalStep:
        """The same with another shape of all its parts."""
        m_t, alpha, q = (None if part is None else change(part) for part in (self.m_t, self.alpha, self.q))
        p, r = (None if part is None else Gaussian(*map(change, part)) for part in (self.p, self.r))
        return RetrievalStep(change(self.z), m_t, p, r, alpha, q)


@torch.no_grad()
def select(
    logits: Float[Tensor, "*b N"], n_traj: int, k_traj: int | None, k_states: int | None
) -> Int[Tensor, "*b k"] | None:
    """Two-level top-k of step 2: first the trajectories, then the states within them.

    A trajectory's score is the sum of its states' softmax weights, which is monotone in the logsumexp of their
    logits: the softmax over all states is not needed.

    Args:
      logits: of N = n_traj * l steps; -inf where one is padding.
      n_traj: number of trajectories.
      k_traj: trajectories to keep for each query; None keeps all (they were chosen before, for example by return).
      k_states: states to keep for each query; None keeps all.

    Returns:
      Which of the N are selected, in no order, padding among them where there is nothing else; None: all.
    """
    require_positive(n_traj=n_traj, k_traj=k_traj, k_states=k_states)
    of_kept, by_trajectory = None, logits.unflatten(-1, (n_traj, -1))
    scores = None
    if k_traj is not None and k_traj < n_traj:
        scores = by_trajectory.logsumexp(-1)
    elif k_states is not None and 4 * k_states <= n_traj:
        # The k best states are in the k trajectories whose best ones are best: to look there is faster.
        k_traj, scores = k_states, by_trajectory.amax(-1)
    if scores is not None:
        kept = scores.topk(k_traj, dim=-1, sorted=False).indices
        length = by_trajectory.shape[-1]
        of_kept = torch.add(torch.arange(length, device=logits.device), kept[..., None], alpha=length).flatten(-2)
        logits = logits.gather(-1, of_kept)
    if k_states is None or k_states >= logits.shape[-1]:
        return of_kept
    best = logits.topk(k_states, dim=-1, sorted=False).indices
    return best if of_kept is None else of_kept.gather(-1, best)


class SlotGRU(nn.Module):
    """Step 1: m̂^k = GRU(s_t, m_tm1^k), with one set of weights for all slots.

    The half that sees s_t, `from_state`, is computed once for all slots and steps; the half that sees the slots once
    for all states where the slots are the same for all of them (a fresh start).
    """

    def __init__(self, d_s: int, d_m: int):
        super().__init__()
        self.from_state = nn.Linear(d_s, 3 * d_m)
        self.from_slot = nn.Linear(d_m, 3 * d_m)

    def forward(
        self,
        m_tm1: Float[Tensor, "#G #B n_f d_m"],
        said: Float[Tensor, "G B 3*d_m"],
        from_slot: Map | None = None,
    ) -> Float[Tensor, "G B n_f d_m"]:
        """m̂; the slots may be the same for all states. said: what `from_state` makes of s_t. from_slot: another form
        of the map of that name."""
        d_m = m_tm1.shape[-1]
        state, slot = said[..., None, :], (from_slot or self.from_slot)(m_tm1)
        reset, update = torch.sigmoid(state[..., : 2 * d_m] + slot[..., : 2 * d_m]).chunk(2, dim=-1)
        candidate = torch.tanh(torch.addcmul(state[..., 2 * d_m :], reset, slot[..., 2 * d_m :]))
        return torch.lerp(candidate, m_tm1.expand_as(candidate), update)


class SlotAttention(nn.Module):
    """Step 5's exchange among slots: multi-head self-attention, residual through a gate, then layer norm."""

    def __init__(self, d_m: int, heads: int):
        super().__init__()
        require_multiple("d_m", d_m, "heads", heads)
        self.heads = heads
        self.query_key_value = nn.Linear(d_m, 3 * d_m)
        self.out = nn.Linear(d_m, d_m)
        self.gate = nn.Linear(2 * d_m, d_m)
        self.norm = nn.LayerNorm(d_m)

    def maps(self, steps: int = 1, rows: int = 1) -> tuple[Map, Map]:
        """The linear maps of m (to queries, keys, values and the gate's one half) and of what was heard (to what comes
        out and the gate's other half): the gate is linear in both. To be called at so many steps, see `at_each_step`.
        """
        d_m = self.out.out_features
        of_m, of_heard = self.gate.weight.split(d_m, dim=1)
        gate_bias = torch.addmv(self.gate.bias, of_heard, self.out.bias)
        return (
            at_each_step(
                torch.cat([self.query_key_value.weight, of_m]),
                torch.cat([self.query_key_value.bias, gate_bias]),
                steps,
                rows,
            ),
            at_each_step(
                torch.cat([self.out.weight, of_heard @ self.out.weight]), F.pad(self.out.bias, (0, d_m)), steps, rows
            ),
        )

    def forward(
        self, m: Float[Tensor, "*b n_f d_m"], maps: tuple[Map, Map] | None = None
    ) -> Float[Tensor, "*b n_f d_m"]:
        """The slots m, each having heard the others; maps: from `maps`, which many steps may share."""
        n_f, d_m = m.shape[-2:]
        of_m, of_heard = maps or self.maps()
        query_key_value, gate = of_m(m).split([3 * d_m, d_m], dim=-1)
        q, k, v = query_key_value.reshape(-1, n_f, 3, self.heads, d_m // self.heads).permute(2, 0, 3, 1, 4)
        heard = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(m.shape)
        heard, gate_of_heard = of_heard(heard).chunk(2, dim=-1)
        normed: Tensor = self.norm(torch.addcmul(m, torch.sigmoid(gate + gate_of_heard), heard))
        return normed


class Standardise(nn.Module):
    """What was read, with mean 0 and variance 1 per channel: over the batch in a learner step, by running statistics
    when acting and once the module is frozen by `eval()`.

    What all tasks' trajectories have in common outweighs what tells them apart by two orders of magnitude at first;
    without this, hundreds of updates pass before retrieval says anything.

    The running variance is that over all batches, how their means differ included. Within a batch whose states all read
    one retrieval batch, what is read hardly varies, and its mean is that of this retrieval batch: measured by the
    variance within batches, another one's mean would be hundreds of deviations away when acting.

    Args:
      d: number of channels.
      rate: weight of the newest batch in the running statistics; the first ones share it alike (no bias of the start).
    """

    mean: Float[Tensor, " d"]
    variance: Float[Tensor, " d"]
    seen: Float[Tensor, ""]  # 1 - (1 - rate)^n after n batches

    def __init__(self, d: int, rate: float = 0.05):
        super().__init__()
        self.rate = rate
        self.register_buffer("mean", torch.zeros(d))
        self.register_buffer("variance", torch.ones(d))
        self.register_buffer("seen", torch.zeros(()))

    def forward(
        self, g: Float[Tensor, "*b d"], mode: Mode, counts: Bool[Tensor, "*#b"] | None = None
    ) -> Float[Tensor, "*b d"]:
        """What was read, normalised.

        Args:
          g: what was read.
          mode: see `Mode`.
          counts: which rows the statistics are of; None: all.
        """
        if mode is Mode.ACT or not self.training:
            mean, variance = self.mean, self.variance
        else:
            mean, variance, any_row = _moments(g, counts)
            if mode is Mode.LEARN:
                self._follow(mean.detach(), variance.detach(), any_row)
        return (g - mean) * torch.rsqrt(variance + 1e-5)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor, any_row: Tensor | None) -> None:
        rate = self.rate * (torch.ones_like(self.seen) if any_row is None else any_row.to(self.seen.dtype))
        self.seen.lerp_(torch.ones_like(self.seen), rate)
        weight = rate / self.seen.clamp(min=self.rate)
        apart = (mean - self.mean).square()
        self.variance.copy_((1 - weight) * (self.variance + weight * apart) + weight * variance)
        self.mean.lerp_(mean, weight)


def _moments(g: Tensor, counts: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Mean and variance (d,) of the rows of g (..., d) that count, and whether there is any (None: certainly)."""
    if counts is None:
        rows = g.flatten(0, -2)
        mean = rows.mean(0)  # var_mean takes ten times as long on a CPU
        return mean, (rows - mean).square().mean(0), None
    weight = counts.expand(g.shape[:-1]).reshape(-1, 1).to(g.dtype)
    total = weight.sum()
    weight = weight / total.clamp(min=1)
    rows = g.flatten(0, -2)
    mean = (rows * weight).sum(0)
    return mean, ((rows - mean).square() * weight).sum(0), total > 0


class RetrievalProcess(nn.Module):
    """Steps 1 to 5, or what stands in their place: from states and a retrieval batch to z.

    Attributes:
      d_z: width of z.
      several: z may be several vectors, over which step 6 and the head attend.
      has_slots: it has a state of its own, which can be carried from step to step.
      told: it sees the context.
      unroll: of one that has slots, the process for each of T steps; see `SlotRetrieval.unroll`.
    """

    d_z: int
    several, has_slots, told = True, False, False

    __call__: Callable[..., RetrievalStep]
    unroll: Callable[..., tuple[RetrievalStep, list[Tensor]]]

    def initial_slots(self, mode: Mode, groups: int, batch: int) -> Float[Tensor, "G B n_f d_m"]:
        """m_0 at the start of G x B episodes; n_f = 0 without slots."""
        return torch.zeros(1, 1, 0, 0)

    def forward(
        self,
        s_t: Float[Tensor, "G B d_s"],
        m_tm1: Float[Tensor, "#G #B n_f d_m"],
        retrieved: Summaries | None,
        *,
        mode: Mode,
        carry: bool = True,
        context: Int[Tensor, "G B"] | None = None,
        counts: Bool[Tensor, "G B"] | None = None,
        readable: Readable | None = None,
    ) -> RetrievalStep:
        """One step of the process.

        Args:
          s_t: the agent's states.
          m_tm1: the slots before.
          retrieved: the retrieval batch of each group; None: zeros are read, as long as there is none yet or where it
            is taken away from a trained agent.
          mode: what the pass is for.
          carry: compute m_t too; an agent without recurrence does not need it.
          context: task ids, for a process that is told them.
          counts: which states the statistics are of (padded ones are not); None: all.
          readable: as in `Reading.read`.
        """
        raise NotImplementedError


class Reading(RetrievalProcess):
    """Steps 2 and 3, for whatever asks: a retrieval batch made ready, and what queries read from it."""

    def _make_reading(
        self,
        d_s: int,
        n_actions: int,
        d_e: int,
        d_h: int,
        d_v: int,
        k_traj: int | None,
        k_states: int | None,
        summariser: str,
        standardise: bool,
    ) -> None:
        """The layers by which a batch is made ready and read; arguments as in `SlotRetrieval`."""
        require_positive(d_s=d_s, d_e=d_e, d_h=d_h, d_v=d_v, k_traj=k_traj, k_states=k_states)
        self.d_e, self.d_v, self.k_traj, self.k_states = d_e, d_v, k_traj, k_states
        self.summariser = chosen("summariser", summariser, SUMMARISERS)(d_s, d_h)
        # One column per action, the last for the reward.
        self.action_and_reward = nn.Linear(n_actions + 1, d_s, bias=False) if n_actions else None
        self.state_in_key = nn.Linear(d_s, d_h, bias=False)
        self.key = nn.Linear(d_h, d_e, bias=False)  # W_e
        self.value = nn.Linear(d_h, d_v, bias=False)  # W_v
        self.standardise = Standardise(d_v) if standardise else None

    def ask(
        self,
        s_t: Float[Tensor, "G B d_s"],
        m_tm1: Float[Tensor, "#G #B n_f d_m"],
        context: Int[Tensor, "G B"] | None = None,
    ) -> tuple[Float[Tensor, "G B n_f d_m"], Float[Tensor, "G B n_q d_e"]]:
        """Step 1: m̂ and the queries q."""
        raise NotImplementedError

    def summarise(
        self,
        s: Float[Tensor, "G n_traj l d_s"],
        a: Int[Tensor, "G n_traj l"] | None = None,
        r: Float[Tensor, "G n_traj l"] | None = None,
        mask: Bool[Tensor, "G n_traj l"] | None = None,
    ) -> Summaries:
        """Make a retrieval batch ready.

        Args:
          s: the encoded states of the batch.
          a, r: actions and rewards, needed only where the summariser is to see them.
          mask: True on real steps, which come first.

        Raises:
          ValueError: the mask is of another shape or dtype or (looked at on a CPU only) a real step follows padding.
        """
        g, n_traj, length, _ = s.shape
        if mask is not None:
            require_prefix(mask, (g, n_traj, length))
        inputs = s
        if self.action_and_reward is not None:
            if a is None or r is None:
                raise ValueError("a, r: are needed, since summaries see actions and rewards")
            told = torch.zeros(g * n_traj * length, self.action_and_reward.in_features, device=s.device, dtype=s.dtype)
            told.scatter_(1, a.reshape(-1, 1), 1.0)
            told[:, -1] = r.flatten()
            inputs = torch.addmm(s.flatten(0, 2), told, self.action_and_reward.weight.T).view_as(s)
        flat_mask = None if mask is None else mask.flatten(0, 1)
        h, b = self.summariser(inputs.flatten(0, 1), flat_mask)
        h, b = h.view(g, n_traj, length, -1), b.view(g, n_traj, length, -1)
        # κ = (h + s W) W_e, with W W_e multiplied first: it is the smaller product.
        keys = (self.key(h) + s @ (self.key.weight @ self.state_in_key.weight).T).flatten(1, 2)
        return Summaries(keys, self.value(b).flatten(1, 2), None if mask is None else mask.flatten(1), h, b)

    def read(
        self,
        q: Float[Tensor, "G B n_q d_e"],
        retrieved: Summaries,
        mode: Mode,
        counts: Bool[Tensor, "G B"] | None = None,
        readable: Readable | None = None,
    ) -> tuple[Float[Tensor, "G B n_q N"], Float[Tensor, "G B n_q d_v"]]:
        """alpha, g, normalised where the agent does that.

        The selection is not differentiated; what is not selected has weight 0 and gradient 0. A state that finds no
        real step has alpha 0, reads zeros, and does not count in the statistics.

        Args:
          q: queries.
          retrieved: the retrieval batch of each group.
          mode: see `Mode`.
          counts: which states the statistics are of (padded ones are not); None: all.
          readable: which steps each state may read; None: all real ones.
        """
        never, finds = readable or retrieved.readable()
        if never is None:
            never = q.new_zeros(())
        elif never.shape[1] > 1:
            never = never.repeat_interleave(q.shape[2], dim=1)
        logits = torch.baddbmm(never, q.flatten(1, 2), retrieved.keys.mT, alpha=self.d_e**-0.5)
        selected = select(logits, retrieved.n_traj, self.k_traj, self.k_states)
        if selected is None:
            alpha = torch.softmax(logits, dim=-1)
        else:
            weights = torch.softmax(logits.gather(-1, selected), dim=-1)
            alpha = torch.zeros_like(logits).scatter_(-1, selected, weights)
        g = torch.bmm(alpha, retrieved.values).view(*q.shape[:-1], -1)
        alpha = alpha.view(*q.shape[:-1], -1)
        if self.standardise is not None:
            counts = None if counts is None else counts[..., None]
            if finds is not None:
                counts = finds if counts is None else counts & finds
            g = self.standardise(g, mode, counts)
        if finds is not None:
            alpha, g = (torch.where(finds[..., None], part, 0.0) for part in (alpha, g))
        return alpha, g


class SlotRetrieval(Reading):
    """Slots that ask a retrieval batch: steps 1 to 5 of Algorithm 1.

    Args:
      d_s: width of the agent's state s.
      n_actions: number of actions if the summariser sees actions and rewards too, 0 if it sees states only.
      n_f: number of slots.
      d_m: width of a slot and of z.
      d_e: width of queries and keys.
      d_h: width of a summary.
      d_v: width of values.
      k_traj: trajectories kept by attention; None keeps all that the batch holds (chosen before by return).
      k_states: states kept by attention; None keeps all.
      summariser: "gru" (paper) or "decay" (parallel over time).
      standardise: bring what is read to mean 0 and variance 1 (ours; the paper does not say).
      slot_heads: heads of the slots' self-attention.
      draw_z, priced, sigma: of the bottleneck, see `InformationBottleneck`.
      draw_slots: m_0 is drawn at each episode's start while learning (paper); otherwise it is its mean.
      n_tasks: number of tasks if the query is told which one it asks for (ours), 0 if it is not.
      retrieves: False is ablation A-2, of an agent that never has a retrieval batch: steps 2 to 4 do not occur, and
        what step 6 attends over are the slots themselves (z = m_t).

    Raises:
      ValueError: it names the argument that is out of its range.
    """

    has_slots = True
    slot_log_std: nn.Parameter | None
    task_in_query: nn.Parameter | None

    def __init__(
        self,
        d_s: int,
        n_actions: int,
        n_f: int,
        d_m: int,
        d_e: int,
        d_h: int,
        d_v: int,
        k_traj: int | None,
        k_states: int | None,
        summariser: str,
        standardise: bool,
        slot_heads: int,
        draw_z: bool = True,
        priced: bool = True,
        sigma: float = 0.1,
        draw_slots: bool = True,
        n_tasks: int = 0,
        retrieves: bool = True,
    ):
        super().__init__()
        require_positive(n_f=n_f, d_m=d_m)
        require_multiple("d_m", d_m, "slot_heads", slot_heads)
        self.n_f, self.d_m, self.d_z, self.retrieves = n_f, d_m, d_m, retrieves
        self.slot_mean = nn.Parameter(torch.randn(n_f, d_m))
        self.slot_log_std = nn.Parameter(torch.full((n_f, d_m), -1.0)) if draw_slots else None
        self._make_reading(d_s, n_actions, d_e, d_h, d_v, k_traj, k_states, summariser, standardise)
        self.slot_gru = SlotGRU(d_s, d_m)
        self.query = nn.Sequential(nn.Linear(d_m, d_m), nn.ReLU(), nn.Linear(d_m, d_e))
        self.bottleneck = InformationBottleneck(d_v, d_m, draw_z, priced, sigma)
        self.slot_attention = SlotAttention(d_m, slot_heads)
        self.task_in_query, self.told = None, n_tasks > 0
        if n_tasks:
            with torch.random.fork_rng(devices=[]):  # so that all else is initialised as it is without
                self.task_in_query = nn.Parameter(torch.randn(n_tasks, d_m))

    def initial_slots(self, mode: Mode, groups: int, batch: int) -> Float[Tensor, "G B n_f d_m"]:
        """m_0 at the start of G x B episodes; if it is not drawn, G and B are 1.

        Each episode has a draw of its own, around each slot's own mean.
        """
        if mode is not Mode.LEARN or self.slot_log_std is None:
            return self.slot_mean[None, None]
        noise = standard_normal(groups, batch, *self.slot_mean.shape, device=self.slot_mean.device)
        return torch.addcmul(self.slot_mean, torch.exp(self.slot_log_std), noise)

    def ask(
        self,
        s_t: Float[Tensor, "G B d_s"],
        m_tm1: Float[Tensor, "#G #B n_f d_m"],
        context: Int[Tensor, "G B"] | None = None,
    ) -> tuple[Float[Tensor, "G B n_f d_m"], Float[Tensor, "G B n_f d_e"]]:
        """Step 1: m̂ and q.

        Where the query is told the task, an embedding of it is added to m̂ on the way to q and nowhere else.
        """
        m_hat = self.slot_gru(m_tm1, self.slot_gru.from_state(s_t))
        told = m_hat if self.task_in_query is None else m_hat + self.task_in_query[context][..., None, :]
        return m_hat, self.query(told)

    def forward(
        self,
        s_t: Float[Tensor, "G B d_s"],
        m_tm1: Float[Tensor, "#G #B n_f d_m"],
        retrieved: Summaries | None,
        *,
        mode: Mode,
        carry: bool = True,
        context: Int[Tensor, "G B"] | None = None,
        counts: Bool[Tensor, "G B"] | None = None,
        readable: Readable | None = None,
    ) -> RetrievalStep:
        """Steps 1 to 5; see `RetrievalProcess.forward`."""
        told = None if self.task_in_query is None else self.task_in_query[context][:, :, None, None]
        counts = None if counts is None else counts[:, :, None]
        step, slots = self.unroll(
            s_t[:, :, None], m_tm1, retrieved, mode=mode, carry=carry, told=told, counts=counts, readable=readable
        )
        return step.map(lambda part: part.squeeze(2))._replace(m_t=slots[-1] if carry else None)

    def unroll(
        self,
        s: Float[Tensor, "G B T d_s"],
        m_0: Float[Tensor, "#G #B n_f d_m"],
        retrieved: Summaries | None,
        *,
        mode: Mode,
        carry: bool = True,
        told: Float[Tensor, "G B 1 1 d_m"] | None = None,
        counts: Bool[Tensor, "G B T"] | None = None,
        readable: Readable | None = None,
        keep: bool = True,
    ) -> tuple[RetrievalStep, list[Float[Tensor, "#G #B n_f d_m"]]]:
        """Steps 1 to 5 for each of T steps; arguments as in `RetrievalProcess.forward`.

        What needs no slots is computed for all steps at once: before them what the states say to the slots' GRU, after
        them the two Gaussians of the bottleneck.

        told: what is added to m̂ on the way to q, an embedding of the task.
        keep: p, r, alpha and q are looked at. Without, p and r are there in a learner step alone.

        Returns:
          All steps, without m_t; the slots before the first and, where they are carried, after each.
        """
        groups, batch, steps, _ = s.shape
        said = self.slot_gru.from_state(s).unbind(2)
        if steps > 1:
            m_0 = m_0.expand(groups, batch, *m_0.shape[2:])
        rows = m_0.shape[:3].numel()
        from_slot, *of_query, posterior = (
            at_each_step(cast(Tensor, layer.weight), cast(Tensor, layer.bias), steps, rows)
            for layer in (self.slot_gru.from_slot, self.query[0], self.query[2], self.bottleneck.posterior)
        )
        maps = self.slot_attention.maps(steps, rows) if carry or not self.retrieves else None
        nothing = s.new_zeros(groups, batch, self.n_f, self.d_v)
        noise: Sequence[Tensor | None] = [None] * steps
        if self.retrieves and self.bottleneck.draw and mode is Mode.LEARN:
            noise = standard_normal(steps, groups, batch, self.n_f, self.d_m, device=s.device).unbind(0)
        readable = retrieved.readable() if readable is None and retrieved is not None else readable
        slots, reads = [m_0], list[Tensor]()
        found: list[tuple[Tensor, Tensor | None, Tensor | None]] = []
        for t in range(steps):
            # Step 1. Query.
            m_hat = self.slot_gru(slots[-1], said[t], from_slot)
            if not self.retrieves:
                slots.append(self.slot_attention(m_hat, maps))
                found.append((slots[-1], None, None))
                continue
            q = of_query[1](torch.relu(of_query[0](m_hat if told is None else m_hat + told.squeeze(2))))
            # Steps 2 and 3. Which trajectories, which states; read.
            alpha: Tensor | None = None
            g = nothing
            if retrieved is not None:
                alpha, g = self.read(q, retrieved, mode, None if counts is None else counts[:, :, t], readable)
            # Step 4. Information bottleneck.
            reads.append(posterior(g))
            z = self.bottleneck(reads[-1], noise[t])
            # Step 5. Slot update.
            if carry:
                slots.append(self.slot_attention(m_hat + z, maps))
            found.append((z, q, alpha))
        p = r = all_q = all_alpha = None
        if reads and (keep or mode is Mode.LEARN):
            p, r = self.bottleneck.gaussians(_over_time(reads), _over_time(slots[:steps]))
        if reads and keep:
            all_q, all_alpha = (_over_time_if_any([step[i] for step in found]) for i in (1, 2))
        return RetrievalStep(_over_time([z for z, _, _ in found]), None, p, r, all_alpha, all_q), slots


def _over_time(parts: Sequence[Tensor]) -> Tensor:
    """T tensors (G, B, ...) as one, (G, B, T, ...)."""
    return parts[0][:, :, None] if len(parts) == 1 else torch.stack(list(parts), 2)


def _over_time_if_any(parts: Sequence[Tensor | None]) -> Tensor | None:
    there = [part for part in parts if part is not None]
    return _over_time(there) if there else None


class DirectRetrieval(Reading):
    """Ablation A-1: the state itself asks, without slots and bottleneck; what is read (z = g) is added to the state.

    Args: as in `SlotRetrieval`.
    """

    several = False

    def __init__(
        self,
        d_s: int,
        n_actions: int,
        d_e: int,
        d_h: int,
        d_v: int,
        k_traj: int | None,
        k_states: int | None,
        summariser: str,
        standardise: bool,
    ):
        super().__init__()
        self.d_z = d_v
        self._make_reading(d_s, n_actions, d_e, d_h, d_v, k_traj, k_states, summariser, standardise)
        self.query = nn.Sequential(nn.Linear(d_s, d_s), nn.ReLU(), nn.Linear(d_s, d_e))

    def ask(
        self,
        s_t: Float[Tensor, "G B d_s"],
        m_tm1: Float[Tensor, "1 1 0 0"],
        context: Int[Tensor, "G B"] | None = None,
    ) -> tuple[Float[Tensor, "1 1 0 0"], Float[Tensor, "G B 1 d_e"]]:
        """Step 1: no slots, and one query."""
        return m_tm1, self.query(s_t)[..., None, :]

    def forward(
        self,
        s_t: Float[Tensor, "G B d_s"],
        m_tm1: Float[Tensor, "1 1 0 0"],
        retrieved: Summaries | None,
        *,
        mode: Mode,
        carry: bool = False,
        context: Int[Tensor, "G B"] | None = None,
        counts: Bool[Tensor, "G B"] | None = None,
        readable: Readable | None = None,
    ) -> RetrievalStep:
        """Steps 1 to 3: one z, of width d_v."""
        if retrieved is None:
            return RetrievalStep(s_t.new_zeros(*s_t.shape[:-1], 1, self.d_v), None, None, None, None)
        _, q = self.ask(s_t, m_tm1)
        alpha, g = self.read(q, retrieved, mode, counts, readable)
        return RetrievalStep(g, None, None, None, alpha, q)


class TaskOracle(RetrievalProcess):
    """A control: z is a learned embedding of the task, in place of what retrieval reads.

    Args:
      n_tasks: number of tasks.
      d_m: width of z.
    """

    told = True

    def __init__(self, n_tasks: int, d_m: int):
        super().__init__()
        self.d_z = d_m
        self.embedding = nn.Embedding(n_tasks, d_m)

    def forward(
        self,
        s_t: Float[Tensor, "G B d_s"],
        m_tm1: Float[Tensor, "1 1 0 0"],
        retrieved: Summaries | None,
        *,
        mode: Mode,
        carry: bool = False,
        context: Int[Tensor, "G B"] | None = None,
        counts: Bool[Tensor, "G B"] | None = None,
        readable: Readable | None = None,
    ) -> RetrievalStep:
        """One z, by the task ids; all else is not looked at."""
        return RetrievalStep(self.embedding(context)[..., None, :], None, None, None, None)


class SlotReadout(nn.Module):
    """Step 6: the agent attends over what the slots passed on.

    γ = softmax_k(d · κ^k / sqrt(d_e)) with d = s W_q and κ^k = z^k W_e. Returns Σ_k γ_k z^k; the value map W_v belongs
    to the fusion, since it is linear and commutes with the sum.
    """

    def __init__(self, d_s: int, d_m: int, d_e: int):
        super().__init__()
        self.query = nn.Linear(d_s, d_e, bias=False)
        self.key = nn.Linear(d_m, d_e, bias=False)
        self.scale = d_e**-0.5

    __call__: Callable[..., Tensor]

    def forward(self, s: Float[Tensor, "*b d_s"], z: Float[Tensor, "*b n_f d_m"]) -> Float[Tensor, "*b d_m"]:
        if z.shape[-2] == 1:
            return z.squeeze(-2)  # γ = 1
        logits = torch.einsum("...e,...ke->...k", self.query(s) * self.scale, self.key(z))
        return torch.einsum("...k,...km->...m", torch.softmax(logits, dim=-1), z)


class Retriever(nn.Module):
    """All six steps, one object: from states and a retrieval batch to u, and s~ = s + u.

        retriever = Retriever(d_s=64, n_actions=4)
        memory = retriever.remember(encoder(x), a, r)  # the retrieval batch: (n_traj, l, ...)
        u = retriever(encoder(states), memory)  # (B, d_s)

    Args:
      d_s: width of the agent's state.
      process: steps 1 to 5; None: `SlotRetrieval` with `DEFAULTS`, changed by `options`.
      n_actions: number of actions if summaries see actions and rewards too, 0 if they see states only.
      d_e: width of queries and keys, in step 6 too.
      fusion: how what is read changes the state, a name in `rarl.nn.fusion.FUSIONS`.
      options: arguments of `SlotRetrieval`.

    Raises:
      ValueError, TypeError: it names the argument.
    """

    DEFAULTS: ClassVar[dict[str, Any]] = {
        "n_f": 4,
        "d_m": 32,
        "d_h": 64,
        "d_v": 64,
        "k_traj": None,
        "k_states": 16,
        "summariser": "gru",
        "standardise": True,
        "slot_heads": 4,
        "priced": False,
    }

    def __init__(
        self,
        d_s: int,
        process: RetrievalProcess | None = None,
        *,
        n_actions: int = 0,
        d_e: int = 32,
        fusion: str = "film",
        **options: Any,
    ):
        super().__init__()
        join = chosen("fusion", fusion, FUSIONS)
        if process is None:
            require_positive(d_s=d_s, d_e=d_e)
            process = SlotRetrieval(d_s, n_actions, d_e=d_e, **{**self.DEFAULTS, **options})
        elif options:
            raise TypeError(f"{next(iter(options))}: of a process that is given, it cannot be set here")
        self.d_s, self.n_actions, self.process = d_s, n_actions, process
        self.readout = SlotReadout(d_s, process.d_z, d_e) if process.several else None
        self.fusion = join(d_s, process.d_z)

    @property
    def reading(self) -> Reading:
        """The retrieval process, of an agent that reads retrieval batches."""
        if not isinstance(self.process, Reading):
            raise TypeError(f"{type(self.process).__name__}: reads no retrieval batch")
        return self.process

    @property
    def d_z(self) -> int:
        """Width of what the head attends over; 0 where it does not: one z, and nothing to choose from (A-1)."""
        return self.process.d_z if self.process.several else 0

    def remember(
        self,
        s: Float[Tensor, "*G n_traj l d_s"],
        a: Int[Tensor, "*G n_traj l"] | None = None,
        r: Float[Tensor, "*G n_traj l"] | None = None,
        mask: Bool[Tensor, "*G n_traj l"] | None = None,
    ) -> Summaries:
        """Make a retrieval batch ready, for any number of states that ask.

        Args:
          s: encoded states of trajectories; an axis G for groups with a retrieval batch each.
          a, r: actions and rewards; needed where `n_actions` is not 0.
          mask: True on real steps, which come first; None: all are.

        Raises:
          ValueError: it names the argument whose shape does not fit.
        """
        if s.dim() not in (3, 4) or s.shape[-1] != self.d_s:
            raise ValueError(f"s: must be (n_traj, l, {self.d_s}) or (G, n_traj, l, {self.d_s}), is {tuple(s.shape)}")
        for name, part in (("a", a), ("r", r), ("mask", mask)):
            if part is None and self.n_actions and name != "mask":
                raise ValueError(f"{name}: is needed, for n_actions={self.n_actions}")
            if part is not None and part.shape != s.shape[:-1]:
                raise ValueError(f"{name}: must be {tuple(s.shape[:-1])} as s is, is {tuple(part.shape)}")
        whole = s.reshape(-1, *s.shape[-3:])
        groups = (None if part is None else part.reshape(whole.shape[:-1]) for part in (a, r, mask))
        return self.reading.summarise(whole, *groups)

    def forward(
        self, s: Float[Tensor, "*G B d_s"], memory: Summaries | None = None, mode: Mode | None = None
    ) -> Float[Tensor, "*G B d_s"]:
        """u, what retrieval adds to states; s~ = s + u.

        Args:
          s: states; an axis G for groups with a retrieval batch each.
          memory: from `remember`; None: slots read zeros.
          mode: see `Mode`; None: LEARN where the module is in training and gradients are on, else ACT.

        Raises:
          ValueError: shapes do not fit.
        """
        if s.dim() not in (2, 3) or s.shape[-1] != self.d_s:
            raise ValueError(f"s: must be (B, {self.d_s}) or (G, B, {self.d_s}), is {tuple(s.shape)}")
        asking = s if s.dim() == 3 else s[None]
        if memory is not None and len(memory.keys) != len(asking):
            raise ValueError(f"memory: has {len(memory.keys)} groups, s has {len(asking)}")
        if mode is None:
            mode = Mode.LEARN if self.training and torch.is_grad_enabled() else Mode.ACT
        slots = self.process.initial_slots(mode, *asking.shape[:2])
        step = self.process(asking, slots, memory, mode=mode, carry=False)
        return (self.fuse(asking, step.z) - asking).view_as(s)

    def fuse(self, s: Float[Tensor, "*b d_s"], z: Float[Tensor, "*b n_f d_z"]) -> Float[Tensor, "*b d_s"]:
        """Step 6: s~."""
        s_tilde: Tensor = self.fusion(s, z.squeeze(-2) if self.readout is None else self.readout(s, z))
        return s_tilde
