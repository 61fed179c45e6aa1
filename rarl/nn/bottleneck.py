"""The information bottleneck of the retrieval process (Algorithm 1, step 4)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Gaussian(NamedTuple):
    """A diagonal Gaussian; mean and log_std have one shape."""

    mean: Tensor
    log_std: Tensor


def gaussian_kl(p: Gaussian, r: Gaussian) -> Tensor:
    """KL(p || r) in nats, summed over the last axis; zero exactly where p equals r."""
    variance_ratio = torch.exp(2 * (p.log_std - r.log_std))
    distance = ((p.mean - r.mean) * torch.exp(-r.log_std)).square()
    return 0.5 * (variance_ratio + distance - 1).sum(-1) - (p.log_std - r.log_std).sum(-1)


class InformationBottleneck(nn.Module):
    """z^k ~ p(z | g^k), paid for by KL(p || r(z | m_tm1^k)).

    Args:
      d_g: width of what was read.
      d_m: width of a slot and of z.
    """

    LOG_STD_RANGE = (-5.0, 2.0)

    def __init__(self, d_g: int, d_m: int):
        super().__init__()
        self.posterior = nn.Linear(d_g, 2 * d_m)
        self.prior = nn.Linear(d_m, 2 * d_m)

    def _gaussian(self, parameters: Tensor) -> Gaussian:
        mean, log_std = parameters.chunk(2, dim=-1)
        return Gaussian(mean, log_std.clamp(*self.LOG_STD_RANGE))

    def forward(self, g: Tensor, m_tm1: Tensor, sample: bool) -> tuple[Tensor, Gaussian, Gaussian]:
        """g (..., n_f, d_g), m_tm1 (..., n_f, d_m) -> z (..., n_f, d_m), p(z | g), r(z | m_tm1).

        Args:
          g: what each slot read.
          m_tm1: the slots before this step.
          sample: draw z by reparameterisation (training) or take the mean (evaluation).
        """
        p, r = self._gaussian(self.posterior(g)), self._gaussian(self.prior(m_tm1))
        z = p.mean + torch.exp(p.log_std) * torch.randn_like(p.mean) if sample else p.mean
        return z, p, r
