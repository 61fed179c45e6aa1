"""What a VQ-VAE reads of BabyAI's views (`rarl.nn.vq_vae`)."""

from __future__ import annotations

from torch import Tensor

from rarl.envs.babyai.view import CELLS
from rarl.nn.vq_vae import Symbols


def _view(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Type, colour and state of each cell (see `rarl.envs.babyai.view`), (n, 49) each."""
    codes = x[:, :CELLS].long()
    return codes // 18, codes % 18 // 3, codes % 3


READING = Symbols([(CELLS, 11), (CELLS, 6), (CELLS, 3)], _view)
