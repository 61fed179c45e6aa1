"""Auxiliary losses on the summaries of the retrieval batch: action, reward and value prediction.

All three are classifications; rewards and values are two-hot on a grid of supports, as in MuZero.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


def two_hot(value: Float[Tensor, "*b"], support: Float[Tensor, " n"]) -> tuple[Int[Tensor, "*b"], Float[Tensor, "*b"]]:
    """The lower of each value's two neighbours on an evenly spaced grid, and the upper one's weight: the lower has the
    rest of 1, so that the mean is the value.

    Values beyond the grid are clipped. support: increasing.
    """
    step = support[1] - support[0]
    position = ((value - support[0]) / step).clamp(0, len(support) - 1)
    low = position.floor().clamp(max=len(support) - 2)
    return low.long(), position - low


class Supports(NamedTuple):
    """Least and largest reward and discounted return that can be expressed, and on how many points each."""

    reward: tuple[float, float] = (0.0, 1.0)
    value: tuple[float, float] = (0.0, 1.0)
    reward_points: int = 2
    value_points: int = 21


class AuxiliaryLosses(nn.Module):
    """Predict a_ij, r_ij and the discounted return from step j, from h_ij and b_ij.

    Args:
      d_h: width of a summary.
      n_actions: number of actions.
      supports: of rewards and returns.
    """

    reward_support: Float[Tensor, " n_rewards"]
    value_support: Float[Tensor, " n_values"]

    def __init__(self, d_h: int, n_actions: int, supports: Supports):
        super().__init__()
        self.past, self.future = nn.Linear(d_h, d_h), nn.Linear(d_h, d_h, bias=False)
        rewards, values = supports.reward_points, supports.value_points
        self.register_buffer("reward_support", torch.linspace(*supports.reward, rewards), persistent=False)
        self.register_buffer("value_support", torch.linspace(*supports.value, values), persistent=False)
        self.sizes = (n_actions, rewards, values)
        self.out = nn.Linear(d_h, sum(self.sizes))

    __call__: Callable[..., Tensor]

    def forward(
        self,
        h: Float[Tensor, "*b d_h"],
        b: Float[Tensor, "*b d_h"],
        a: Int[Tensor, "*b"],
        r: Float[Tensor, "*b"],
        value: Float[Tensor, "*b"],
        mask: Bool[Tensor, "*b"] | None,
    ) -> Float[Tensor, ""]:
        """Mean cross-entropy in nats over real steps (None: all are), summed over the three predictions."""
        logits = self.out(torch.relu(self.past(h) + self.future(b)))
        action, reward, returns = logits.split(self.sizes, dim=-1)
        loss: Tensor = -action.log_softmax(-1).gather(-1, a[..., None]).squeeze(-1)
        for values, said, support in ((r, reward, self.reward_support), (value, returns, self.value_support)):
            low, upper = two_hot(values, support)
            of_lower, of_upper = said.log_softmax(-1).gather(-1, torch.stack([low, low + 1], -1)).unbind(-1)
            loss = loss - torch.lerp(of_lower, of_upper, upper)
        if mask is None:
            return loss.mean()
        weight = mask.flatten().to(loss.dtype)
        return (loss.flatten() * weight).sum() / weight.sum()
