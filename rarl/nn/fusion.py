"""How what retrieval tells (u) changes the agent's state (Algorithm 1, step 6: s~ = s + u, gated and normalised)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class FilmFusion(nn.Module):
    """s~ = s + s * (u W_scale) + u W_shift: u opens and closes single features of s."""

    def __init__(self, d_s: int, d_u: int):
        super().__init__()
        self.scale_and_shift = nn.Linear(d_u, 2 * d_s, bias=False)

    def forward(self, s: Float[Tensor, "*b d_s"], u: Float[Tensor, "*b d_u"]) -> Float[Tensor, "*b d_s"]:
        """s~."""
        scale, shift = self.scale_and_shift(u).chunk(2, dim=-1)
        return torch.addcmul(s + shift, s, scale)


class GRUFusion(nn.Module):
    """The paper's implementation note: a GRU-style gate between s and u, then layer norm."""

    def __init__(self, d_s: int, d_u: int):
        super().__init__()
        self.cell = nn.GRUCell(d_u, d_s)
        self.norm = nn.LayerNorm(d_s)

    def forward(self, s: Float[Tensor, "*b d_s"], u: Float[Tensor, "*b d_u"]) -> Float[Tensor, "*b d_s"]:
        """s~."""
        fused: Tensor = self.cell(u.reshape(-1, u.shape[-1]), s.reshape(-1, s.shape[-1]))
        fused = self.norm(fused.reshape(s.shape))
        return fused


class AdditiveFusion(nn.Module):
    """Algorithm 1 to the letter: s~ = s + u."""

    def __init__(self, d_s: int, d_u: int):
        super().__init__()
        self.value = nn.Linear(d_u, d_s, bias=False)

    def forward(self, s: Float[Tensor, "*b d_s"], u: Float[Tensor, "*b d_u"]) -> Float[Tensor, "*b d_s"]:
        """s~."""
        return torch.add(s, self.value(u))


FUSIONS = {"film": FilmFusion, "gru": GRUFusion, "add": AdditiveFusion}
