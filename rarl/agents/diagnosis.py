"""What is retrieved, and whether the agent uses it: numbers that every run of an agent with retrieval records.

An agent may carry a retrieval process and pay no attention to it. So, at every evaluation, the network answers on a
fixed set of states: with a retrieval batch of their own, with another draw of it, with another group's, and with none.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from rarl.agents.memory import RetrievalBatch
from rarl.errors import required
from rarl.nn.retrieval import Summaries
from rarl.nn.value_network import ValueNetwork


class Asking(NamedTuple):
    """A fixed set of states, on the network's device.

    x: before whose first step an episode starts. context: what the agent is told about the episode. real: False at
    padded observations; None: there are none.
    """

    x: Shaped[Tensor, "G B T ..."]
    context: Shaped[Tensor, "G B 1 ..."] | None
    real: Bool[Tensor, "G B T"] | None = None


class _Answer(NamedTuple):
    """Of real states."""

    q: Float[Tensor, "n n_actions"]
    z: Float[Tensor, "n n_f d_m"]
    alpha: Float[Tensor, "G B n_f N"] | None
    queries: Float[Tensor, "G B n_f d_e"] | None


def _answer(network: ValueNetwork, asking: Asking, retrieved: Summaries | None) -> _Answer:
    out = network.unroll(asking.x, asking.context, None, retrieved, keep_attention=True)
    real, step = slice(None) if asking.real is None else asking.real.flatten(), required(out.step, "retriever")
    alpha, queries = (None if part is None else part.flatten(1, 2) for part in (step.alpha, step.q))
    return _Answer(out.q.flatten(0, 2)[real], step.z.flatten(0, 2)[real], alpha, queries)


@torch.no_grad()
def diagnose(network: ValueNetwork, asking: Asking, batch: RetrievalBatch, again: RetrievalBatch) -> dict[str, float]:
    """What a network retrieves for these states, and how far it matters.

    Args:
      network: acts (means, running statistics).
      asking: the states.
      batch, again: two draws of the groups' retrieval batches, where the network is.

    Returns:
      states: real candidates of a group's batch. last_share: of them, last steps of a trajectory. steps_per_trajectory:
      real candidates of a trajectory. effective_states: exp of the entropy of attention. logit_std: standard deviation
      of a query's logits over its candidates. z_rms: root mean square of z. z_between: deviation of z between groups,
      for the same states, as a share of z_rms. flips_redrawn, flips_exchanged, flips_removed: share of greedy actions
      that another draw, another group's batch and none change. z_between and flips_exchanged only with several groups.
    """
    retrieved = batch.summarise(network)
    own = _answer(network, asking, retrieved)
    mask = torch.ones(batch.a.shape, dtype=torch.bool) if batch.mask is None else batch.mask.cpu()
    last = torch.from_numpy(batch.last) & mask
    found = {
        "states": mask.flatten(1).sum(1).float().mean(),
        "last_share": last.sum() / mask.sum(),
        "steps_per_trajectory": mask.sum(-1).float().mean(),
        "z_rms": own.z.square().mean().sqrt(),
        "flips_redrawn": _flips(own, _answer(network, asking, again.summarise(network))),
        "flips_removed": _flips(own, _answer(network, asking, None)),
    }
    if own.alpha is not None and own.queries is not None:
        real = None if asking.real is None else asking.real.flatten(1, 2)
        of_states = (slice(None), slice(None)) if real is None else (real,)
        found["effective_states"] = effective_states(own.alpha)[of_states].mean()
        found["logit_std"] = _logit_std(own.queries, retrieved)[of_states].mean()
    if len(batch.a) > 1:
        other = _answer(network, asking, retrieved.map(lambda part: part.roll(1, 0)))
        found["flips_exchanged"] = _flips(own, other)
        # Two independent draws differ by sqrt(2) deviations.
        found["z_between"] = (own.z - other.z).square().mean().sqrt() / 2**0.5 / found["z_rms"].clamp(min=1e-12)
    return {name: float(value) for name, value in sorted(found.items())}


def effective_states(alpha: Float[Tensor, "*b N"]) -> Float[Tensor, "*b"]:
    """How many states each query attends to, as it were: exp of the entropy of its attention."""
    entropy: Tensor = torch.special.entr(alpha).sum(-1)
    return entropy.exp()


def _flips(one: _Answer, other: _Answer) -> Tensor:
    return (one.q.argmax(-1) != other.q.argmax(-1)).float().mean()


def _logit_std(queries: Tensor, retrieved: Summaries) -> Tensor:
    """(G, B, n_f): deviation of each query's logits over the real candidates of its batch."""
    logits = torch.einsum("gbke,gne->gbkn", queries, retrieved.keys).mul(queries.shape[-1] ** -0.5)
    if retrieved.mask is None:
        return logits.std(-1, correction=0)
    weight = retrieved.mask[:, None, None].to(logits.dtype)
    total = weight.sum(-1, keepdim=True).clamp(min=1)
    mean = (logits * weight).sum(-1, keepdim=True) / total
    return (((logits - mean).square() * weight).sum(-1) / total[..., 0]).sqrt()
