"""Targets and losses as pure functions: tensors in, tensors out."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor


@torch.no_grad()
def greedy_value(
    q_target: Float[Tensor, "*_"], q_online: Float[Tensor, "*b n_actions"] | None = None
) -> Float[Tensor, "*_"]:
    """Q_target(s, a*), with a* greedy for the online network (double Q-learning) or, without one, for the target.

    q_target is (*b, n_actions) -> (*b); or (*b, n_actions, parts), what is learned in the place of Q -> (*b, parts).
    """
    chooser = q_target if q_online is None else q_online
    best = chooser.argmax(-1, keepdim=True)
    if q_target.dim() > chooser.dim():
        return q_target.gather(-2, best[..., None].expand(*best.shape, q_target.shape[-1])).squeeze(-2)
    return q_target.gather(-1, best).squeeze(-1)


def part_by_part(targets: Callable[[Tensor], Tensor], value: Tensor, parts: bool) -> Tensor:
    """Targets (...) of values (...); if they have parts (..., parts), those of each."""
    return torch.stack([targets(part) for part in value.unbind(-1)], -1) if parts else targets(value)


@torch.no_grad()
def n_step_targets(
    r_t: Float[Tensor, "*b T"],
    discount_t: Float[Tensor, "*b T"],
    value_t: Float[Tensor, "*b T"],
    mask: Bool[Tensor, "*b T"],
    n: int,
) -> Float[Tensor, "*b T"]:
    """Targets of n steps on sequences: r_t + discount_t (r_{t+1} + discount_{t+1} (... + value)).

    A sum ends with the sequence's last real step, where the value of the state after it takes over.

    Args:
      r_t, discount_t: reward and discount of the step taken at t; discount 0 where the episode terminated.
      value_t: value of the state after that step.
      mask: True on real steps, which come first.
      n: at least 1.

    Returns:
      What stands at padded steps has no meaning.
    """
    one_step = r_t + discount_t * value_t
    target = one_step
    for _ in range(n - 1):
        # G_t^(k+1) = r_t + discount_t G_{t+1}^(k), for all t that have a next step.
        longer = r_t[..., :-1] + discount_t[..., :-1] * target[..., 1:]
        target = torch.cat([torch.where(mask[..., 1:], longer, one_step[..., :-1]), one_step[..., -1:]], dim=-1)
    return target


def weighted_mean(value: Float[Tensor, "*b"], weight: Shaped[Tensor, "*b"]) -> Float[Tensor, ""]:
    """Mean of value under weights, which are bool or not negative."""
    weight = weight.to(value.dtype)
    return (value * weight).sum() / weight.sum()


def conservative_loss(q: Float[Tensor, "*b n_actions"], a: Int[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """logsumexp_b Q(s, b) - Q(s, a): small where the data's action stands out (CQL(H) of Kumar et al., 2020)."""
    return q.logsumexp(-1) - q.gather(-1, a[..., None]).squeeze(-1)


def td_loss(
    q_tm1: Float[Tensor, "*b n_actions"],
    a_tm1: Int[Tensor, "*b"],
    target: Float[Tensor, "*b"],
    huber_delta: float | None,
) -> Float[Tensor, "*b"]:
    """Huber loss per transition; half the squared error without a delta."""
    chosen = q_tm1.gather(-1, a_tm1[..., None]).squeeze(-1)
    if huber_delta is None:
        return 0.5 * (chosen - target).square()
    return F.huber_loss(chosen, target, delta=huber_delta, reduction="none")


def relevance_loss(scores: Float[Tensor, "G Q n"], relevant: Bool[Tensor, "G n"]) -> Float[Tensor, ""]:
    """-log of the softmax weight of each relevant trajectory against all that are not relevant; its mean, in nats.

    As dense passage retrieval is trained (Karpukhin et al., 2020, arXiv:2004.04906); what an index proposes makes hard
    negatives (Xiong et al., 2020, arXiv:2007.00808). A group with no trajectory of either kind does not count.

    Args:
      scores: log of the weight that each of n trajectories has for each of Q queries.
      relevant: which trajectories are.
    """
    others = scores.masked_fill(relevant[:, None], float("-inf")).logsumexp(-1, keepdim=True)
    counts = (relevant & ~relevant.all(-1, keepdim=True))[:, None].expand_as(scores)
    losses = F.softplus((others - scores).masked_fill(~counts, 0.0))
    return (losses * counts).sum() / counts.sum().clamp(min=1)
