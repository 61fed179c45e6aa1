"""Forward and backward summaries of retrieved trajectories (h_ij and b_ij of the paper).

h_ij summarises steps 1..j of trajectory i, b_ij steps l..j: the past and the future of a moment.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from rarl.nn.decays import DECAYS


class GRUSummariser(nn.Module):
    """The paper's: one GRU forwards, one backwards.

    Args:
      d_in: width of the trajectory's inputs.
      d_h: width of a summary.
    """

    def __init__(self, d_in: int, d_h: int):
        super().__init__()
        self.forwards = nn.GRU(d_in, d_h, batch_first=True)
        self.backwards = nn.GRU(d_in, d_h, batch_first=True)

    def forward(
        self, s: Float[Tensor, "n l d_in"], mask: Bool[Tensor, "n l"] | None = None
    ) -> tuple[Float[Tensor, "n l d_h"], Float[Tensor, "n l d_h"]]:
        """h, b; mask: True on real steps, which come first.

        Padded steps do not influence real ones; what stands at padded steps has no meaning.
        """
        h, _ = self.forwards(s)
        if mask is None:
            b, _ = self.backwards(s.flip(1))
            return h, b.flip(1)
        # Reverse the real part of each trajectory, so that the backward GRU starts at the last real step.
        steps = torch.arange(s.shape[1], device=s.device).expand(s.shape[:2])
        lengths = mask.sum(1, keepdim=True)
        reverse = torch.where(mask, lengths - 1 - steps, steps)[..., None]
        b, _ = self.backwards(s.gather(1, reverse.expand_as(s)))
        return h, b.gather(1, reverse.expand_as(b))


class DecaySummariser(nn.Module):
    """Parallel over time: weighted means of the past (future) at fixed time scales, between two linear layers.

    Each group of channels averages with weights decay^|j - j'|; one product with an (l, l) matrix takes the place of l
    recurrent steps.

    Args:
      d_in: width of the trajectory's inputs.
      d_h: width of a summary; a multiple of the number of decays.
      decays: one per time scale, in steps of the retrieved trajectory; 0 looks at the step itself, 1 at all alike.
    """

    def __init__(self, d_in: int, d_h: int, decays: tuple[float, ...] = DECAYS):
        super().__init__()
        if d_h % len(decays):
            raise ValueError(f"d_h={d_h}: must be a multiple of the {len(decays)} decays")
        self.decays = decays
        self.inputs = nn.Linear(d_in, 2 * d_h)
        # Layer norm of each direction (mean and variance over its d_h channels).
        self.norm_weight = nn.Parameter(torch.ones(2, d_h))
        self.norm_bias = nn.Parameter(torch.zeros(2, d_h))
        self.forwards = nn.Linear(d_h, d_h)
        self.backwards = nn.Linear(d_h, d_h)
        self._weights_of: dict[tuple[int, torch.device, torch.dtype], Tensor] = {}

    def _weights(self, length: int, like: Tensor) -> Tensor:
        """(2 * decays, l, l): row j holds the weights of steps 1..j, then those of steps j..l."""
        key = (length, like.device, like.dtype)
        if key not in self._weights_of:
            steps = torch.arange(length, device=like.device)
            age = (steps[:, None] - steps).clamp(min=0).to(like.dtype)
            decays = torch.tensor(self.decays, device=like.device, dtype=like.dtype)[:, None, None]
            past = (decays**age).tril()
            self._weights_of[key] = torch.cat([past, past.flip(1, 2)])
        return self._weights_of[key]

    def forward(
        self, s: Float[Tensor, "n l d_in"], mask: Bool[Tensor, "n l"] | None = None
    ) -> tuple[Float[Tensor, "n l d_h"], Float[Tensor, "n l d_h"]]:
        """h, b; mask: True on real steps."""
        n, length, _ = s.shape
        weights = self._weights(length, s)
        projected = self.inputs(s).view(n, length, len(weights), -1)
        if mask is None:
            weights = weights / weights.sum(-1, keepdim=True)
            mean = torch.einsum("cjm,nmcd->njcd", weights, projected)
        else:
            weights = weights[None] * mask[:, None, None, :]
            weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-6)
            mean = torch.einsum("ncjm,nmcd->njcd", weights, projected)
        d_h = self.norm_weight.shape[1]
        normed = F.layer_norm(mean.reshape(n, length, 2, d_h), (d_h,))
        past, future = torch.relu(torch.addcmul(self.norm_bias, normed, self.norm_weight)).unbind(2)
        return self.forwards(past), self.backwards(future)


SUMMARISERS = {"gru": GRUSummariser, "decay": DecaySummariser}
