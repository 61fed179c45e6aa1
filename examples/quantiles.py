"""Quantile regression DQN (Dabney et al., 2018) as a base agent, with retrieval too, in one file.

An experiment has it by `agent: {values: examples/quantiles.py:QuantileHead}`.
"""

import torch
import torch.nn.functional as F

from rarl.nn.value_network import QHead

N = 16  # quantiles


class QuantileHead(QHead):
    """N equally likely returns of each action."""

    def __init__(self, d_s, n_actions, d_m=0, d_e=0, dueling=False):
        super().__init__(d_s, n_actions * N, d_m, d_e, dueling)
        self.register_buffer("tau", (torch.arange(N) + 0.5) / N, persistent=False)

    def forward(self, s, z):
        return super().forward(s, z).unflatten(-1, (-1, N))

    def expected(self, values):
        return values.mean(-1)

    def loss(self, values, a, target, huber_delta):
        """values (..., n_actions, N), a (...), target (..., N) -> (...)."""
        chosen = values.gather(-2, a[..., None, None].expand(*a.shape, 1, N)).squeeze(-2)
        chosen, target = torch.broadcast_tensors(chosen[..., :, None], target[..., None, :])
        error = F.huber_loss(chosen, target, delta=huber_delta or 1.0, reduction="none")
        weight = (self.tau[:, None] - (target < chosen).float()).abs()
        return (weight * error).mean(-1).sum(-1)
