"""How often a sequence is replayed, and how much each actor explores, in R2D2."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rarl.errors import RarlError


@torch.no_grad()
def sequence_priorities(
    td: Float[Tensor, "*b T"], learn: Bool[Tensor, "*b T"], eta: float = 0.9
) -> Float[Tensor, "*b"]:
    """η max |td| + (1 - η) mean |td| over the steps of a sequence that are learned from.

    Args:
      td: TD errors on the network's scale; what stands at other steps does not matter, not even NaN.
      learn: True on real steps past the burn-in.
      eta: in [0, 1].

    Returns:
      At least 0; 0 for a sequence without a step to learn from.
    """
    error = torch.where(learn, td.abs(), torch.zeros_like(td))
    mean = error.sum(-1) / learn.sum(-1).clamp(min=1)
    return eta * error.amax(-1) + (1 - eta) * mean


def actor_epsilons(actors: int, base: float = 0.4, alpha: float = 7.0) -> Float[np.ndarray, " N"]:
    """Probabilities of a random action, base^(1 + α i / (N - 1)) for actor i of N: from 0.4 to 0.0007.

    A single actor, for which the formula divides by 0, gets the middle one, base^(1 + α / 2) = 0.016.

    Raises:
      RarlError: there is no actor.
    """
    if actors < 1:
        raise RarlError(f"actors={actors}: must be at least 1")
    share = np.arange(actors) / (actors - 1) if actors > 1 else np.array([0.5])
    return np.power(base, 1 + alpha * share)
