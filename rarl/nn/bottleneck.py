"""The information bottleneck of the retrieval process (Algorithm 1, step 4)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Gaussian(NamedTuple):
    """A diagonal Gaussian."""

    mean: Float[Tensor, "*b d"]
    log_std: Float[Tensor, "*b d"]


def gaussian_kl(p: Gaussian, r: Gaussian) -> Float[Tensor, "*b"]:
    """KL(p || r) in nats, summed over the last axis; zero exactly where p equals r."""
    variance_ratio = torch.exp(2 * (p.log_std - r.log_std))
    distance = ((p.mean - r.mean) * torch.exp(-r.log_std)).square()
    return 0.5 * (variance_ratio + distance - 1).sum(-1) - (p.log_std - r.log_std).sum(-1)


class InformationBottleneck(nn.Module):
    """z^k ~ p(z | g^k), with the cost KL(p || r(z | m_tm1^k)).

    Drawing z and paying for it are two switches: noise alone already hides what is read while its standard deviation
    is large. Both deviations therefore start at `sigma`, whatever the input: with common initial weights they would
    start near 1, seven times the spread of the means, and retrieval could only be heard after sigma has been learned.

    Args:
      d_g: width of what was read.
      d_m: width of a slot and of z.
      draw: z is drawn while learning; otherwise it is its mean.
      priced: there is a prior to pay against.
      sigma: standard deviation of posterior and prior before learning.
    """

    LOG_STD_RANGE = (-5.0, 2.0)

    def __init__(self, d_g: int, d_m: int, draw: bool, priced: bool, sigma: float):
        super().__init__()
        least = math.exp(self.LOG_STD_RANGE[0])
        if not least <= sigma <= 1:
            raise ValueError(f"sigma = {sigma}: must be between {least:.4f} and 1")
        self.draw = draw
        # What no loss would reach is not built: the deviation of a z that is neither drawn nor priced, and its prior.
        self.posterior = nn.Linear(d_g, 2 * d_m if draw or priced else d_m)
        self.prior = nn.Linear(d_m, 2 * d_m) if priced else None
        with torch.no_grad():
            for head in (self.posterior, self.prior):
                if head is not None and head.out_features == 2 * d_m:
                    head.weight[d_m:] = 0.0
                    head.bias[d_m:] = math.log(sigma)

    def forward(
        self, posterior: Float[Tensor, "*b n_f d_p"], noise: Float[Tensor, "*b n_f d_m"] | None
    ) -> Float[Tensor, "*b n_f d_m"]:
        """z.

        Args:
          posterior: what `self.posterior` makes of g, which each slot read.
          noise: standard normal: z is drawn by reparameterisation, if `draw` is on (learning); None: its mean (acting).
        """
        if self.prior is None and not self.draw:
            return posterior
        mean, log_std = posterior.chunk(2, dim=-1)
        if noise is None:
            return mean
        return torch.addcmul(mean, torch.exp(log_std.clamp(*self.LOG_STD_RANGE)), noise)

    def gaussians(
        self, posterior: Float[Tensor, "*b n_f d_p"], m_tm1: Float[Tensor, "*#b n_f d_m"]
    ) -> tuple[Gaussian | None, Gaussian | None]:
        """p(z | g), r(z | m_tm1), for any number of steps at once.

        p and r are None where they play no part: r without a price, p also without drawing.

        Args:
          posterior: as in `forward`.
          m_tm1: the slots before each step.
        """
        r = None if self.prior is None else self._gaussian(self.prior(m_tm1))
        return None if r is None and not self.draw else self._gaussian(posterior), r

    def _gaussian(self, parameters: Tensor) -> Gaussian:
        mean, log_std = parameters.chunk(2, dim=-1)
        return Gaussian(mean, log_std.clamp(*self.LOG_STD_RANGE))
