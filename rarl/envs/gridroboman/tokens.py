"""What a VQ-VAE reads of Gridroboman's boards (`rarl.nn.vq_vae`)."""

from __future__ import annotations

import torch
from torch import Tensor

from rarl.envs.gridroboman.tasks import BOARD
from rarl.envs.gridroboman.vector import N_OBJECTS, OBSERVATION_SIZE
from rarl.nn.vq_vae import Symbols


def _board(x: Tensor) -> tuple[Tensor, Tensor]:
    """The coordinates (n, 8), and the objects' statuses (n, 3)."""
    statuses = torch.zeros(OBSERVATION_SIZE, dtype=torch.bool)
    statuses[4::3] = True
    return x[:, ~statuses].long(), x[:, statuses].long() + 1


READING = Symbols([(OBSERVATION_SIZE - N_OBJECTS, BOARD), (N_OBJECTS, 3)], _board)
