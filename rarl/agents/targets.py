"""Targets on sequences for networks that predict rescaled values h(Q): n-step, Peng's Q(λ), Watkins's Q(λ).

The Bellman sums are taken in units of reward: values of the network are brought there by h⁻¹ first, and targets go back
to its scale by h last. h is increasing, so greedy actions are the same on both scales. With v_t = h⁻¹(Q(s_t, a*)):

    n-step    G_t = r_{t+1} + γ_{t+1} (r_{t+2} + ... + γ_{t+n} v_{t+n})
    Q(λ)      G_t = r_{t+1} + γ_{t+1} ((1 - λ_{t+1}) v_{t+1} + λ_{t+1} G_{t+1})
    target    h(G_t)

Peng's Q(λ) has the same λ everywhere: it goes on through actions that were not greedy, so its values lie between those
of the behaviour and of the greedy policy. Watkins's is off-policy: λ_{t+1} = λ where the action taken in s_{t+1} is
greedy, else 0.

In arrays the index t stands for the step taken in s_t, as in `rarl.agents.losses.n_step_targets`: `r_t[t]` is r_{t+1},
`discount_t[t]` is γ_{t+1}, 0 where the episode terminated with that step. A window that ends before its episode does,
and an episode that was cut off, bootstraps from the state after its last real step.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rarl.agents.losses import greedy_value, n_step_targets
from rarl.agents.value_rescaling import EPSILON, rescale, unrescale

Method = Literal["n-step", "peng", "watkins"]


@torch.no_grad()
def lambda_targets(
    r_t: Float[Tensor, "*b T"],
    discount_t: Float[Tensor, "*b T"],
    value_t: Float[Tensor, "*b T"],
    mask: Bool[Tensor, "*b T"],
    lambda_t: Float[Tensor, "*b T"] | float,
) -> Float[Tensor, "*b T"]:
    """Returns of Q(λ) on sequences, in units of reward.

    Args:
      r_t, discount_t: reward and discount of the step taken at t; discount 0 where the episode terminated.
      value_t: value of the state after that step.
      mask: True on real steps, which come first.
      lambda_t: in [0, 1]: in the state after the step, the weight of the return from there
        against its value. Without effect at the last real step, where the value is all there is.

    Returns:
      What stands at padded steps has no meaning.
    """
    weight = torch.as_tensor(lambda_t, dtype=r_t.dtype, device=r_t.device).expand_as(r_t)
    steps = r_t.shape[-1]
    returns = [r_t[..., -1] + discount_t[..., -1] * value_t[..., -1]]
    for t in reversed(range(steps - 1)):
        value = value_t[..., t]
        mixed = (1 - weight[..., t]) * value + weight[..., t] * returns[-1]
        mixed = torch.where(mask[..., t + 1], mixed, value)
        returns.append(r_t[..., t] + discount_t[..., t] * mixed)
    return torch.stack(returns[::-1], dim=-1)


@torch.no_grad()
def watkins_lambda(
    q: Float[Tensor, "*b _ n_actions"], a_t: Int[Tensor, "*b T"], lambda_: float
) -> Float[Tensor, "*b T"]:
    """λ_t of Watkins's Q(λ) for `lambda_targets`: λ where the next action taken is greedy, else 0.

    Args:
      q: values in the states before the steps and after the last, by which actions are greedy; equally good actions
        all are.
      a_t: the actions taken.

    Returns:
      0 at the last step, after which no action is known.
    """
    q = q[..., 1:-1, :]
    chosen = q.gather(-1, a_t[..., 1:, None]).squeeze(-1)
    return F.pad(lambda_ * (chosen >= q.amax(-1)).to(q.dtype), (0, 1))


@torch.no_grad()
def sequence_targets(
    r_t: Float[Tensor, "*b T"],
    discount_t: Float[Tensor, "*b T"],
    a_t: Int[Tensor, "*b T"],
    mask: Bool[Tensor, "*b T"],
    q_target: Float[Tensor, "*b T+1 n_actions"],
    q_online: Float[Tensor, "*b T+1 n_actions"] | None = None,
    *,
    method: Method = "peng",
    n_step: int = 5,
    lambda_: float = 0.8,
    epsilon: float | None = EPSILON,
) -> Float[Tensor, "*b T"]:
    """Targets of Q(s_t, a_t) on the network's scale, without a gradient.

    Args:
      r_t, discount_t, mask: as in `lambda_targets`.
      a_t: the actions taken.
      q_target: the target network's values, on its scale, in the states before the steps and
        after the last. Finite everywhere, padded steps included.
      q_online: the same of the online network: it chooses a*, and what is greedy (double Q-learning). None: the target
        network does.
      method: "n-step", "peng" or "watkins".
      n_step: of "n-step", at least 1; sums are shorter at the end of the real steps.
      lambda_: of the other two, in [0, 1].
      epsilon: of `rescale`; None: the network predicts returns as they are.

    Returns:
      What stands at padded steps has no meaning.
    """
    chooser = q_target if q_online is None else q_online
    value_t = unrescale(greedy_value(q_target[..., 1:, :], chooser[..., 1:, :]), epsilon)
    if method == "n-step":
        returns = n_step_targets(r_t, discount_t, value_t, mask, n_step)
    elif method == "peng":
        returns = lambda_targets(r_t, discount_t, value_t, mask, lambda_)
    else:
        returns = lambda_targets(r_t, discount_t, value_t, mask, watkins_lambda(chooser, a_t, lambda_))
    return rescale(returns, epsilon)
