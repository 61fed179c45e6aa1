"""f_enc on BabyAI; see `rarl.agents.build.encoder_of`."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rarl.envs.babyai.levels import MISSIONS
from rarl.envs.babyai.missions import VOCABULARY, tokenise
from rarl.envs.babyai.view import CELLS, CODES, VIEW


class BabyAIEncoder(nn.Module):
    """View and mission, the usual design of the field: embedded cells, convolutions modulated by the mission (FiLM).

    The mission is read by a GRU; its last state opens and closes channels of the view.

    Args:
      d_s: width of s.
      n_tasks: not used; the mission tells the task.
      channels: of the cells' embeddings and of the convolutions.
      blocks: 3x3 convolutions, each followed by FiLM; 0: FiLM on the embeddings themselves.
      d_mission: width of the mission's GRU.
    """

    def __init__(self, d_s: int, n_tasks: int = 0, *, channels: int, blocks: int, d_mission: int):
        super().__init__()
        self.cells = nn.Parameter(torch.randn(CODES, channels) * 0.5)
        self.words = nn.Embedding(len(VOCABULARY), d_mission, padding_idx=0)
        self.mission = nn.GRU(d_mission, d_mission, batch_first=True)
        self.convolutions = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(blocks))
        self.film = nn.Linear(d_mission, 2 * channels * max(blocks, 1))
        self.out = nn.Linear(channels * CELLS, d_s)
        self.norm = nn.LayerNorm(d_s)

    def read_mission(self, mission: Tensor) -> Tensor:
        """mission (..., words) int64, 0 where it has ended -> (..., d_mission): the GRU's state after its last word."""
        flat = mission.reshape(-1, mission.shape[-1])
        length = (flat > 0).sum(-1).clamp(min=1)
        # Elsewhere, to look how long the longest is makes the device wait.
        most = int(length.max()) if flat.device.type == "cpu" else flat.shape[1]
        states, _ = self.mission(self.words(flat[:, :most]))
        last = states.gather(1, (length - 1)[:, None, None].expand(-1, 1, states.shape[-1]))
        return last.view(*mission.shape[:-1], -1)

    def forward(self, x: Tensor, mission: Tensor) -> Tensor:
        """x (..., T, 50) uint8, mission (..., 1, words) int64 -> s (..., T, d_s).

        The last number of x, the compass direction, is not looked at: it is not part of the usual observation.
        """
        codes = x[..., :CELLS].long()
        film = self.film(self.read_mission(mission)).unsqueeze(-2)  # (..., 1, 1, 2 * channels * blocks)
        scales, shifts = film.chunk(2, dim=-1)
        channels = self.cells.shape[1]
        v = F.embedding(codes, self.cells)  # (..., T, cells, channels)
        for block, (scale, shift) in enumerate(
            zip(scales.split(channels, -1), shifts.split(channels, -1), strict=True)
        ):
            if self.convolutions:
                image = v.reshape(-1, VIEW, VIEW, channels).permute(0, 3, 1, 2)
                v = self.convolutions[block](image).permute(0, 2, 3, 1).reshape(*codes.shape, channels)
            v = torch.relu(torch.addcmul(v + shift, v, scale))
        return self.norm(self.out(v.flatten(-2)))


class GoToEncoder(BabyAIEncoder):
    """The same where tasks are missions (`rarl.envs.babyai.go_to`): told the mission by the task's id, or no word.

    Args: as in `BabyAIEncoder`; n_tasks: 0 if the mission is hidden.
    """

    missions: Tensor

    def __init__(self, d_s: int, n_tasks: int = 0, **options: int):
        super().__init__(d_s, n_tasks, **options)
        texts = [f"go to the {' '.join(level.target or ())}" for level in MISSIONS[:n_tasks]]
        tokens = np.stack([tokenise(text) for text in texts]) if texts else np.zeros((1, 1))
        self.register_buffer("missions", torch.from_numpy(tokens).long(), persistent=False)
        self.told = n_tasks > 0

    def forward(self, x: Tensor, mission: Tensor) -> Tensor:
        """x (..., T, 50) uint8, mission (..., 1) int64, the task's id -> s (..., T, d_s)."""
        return super().forward(x, self.missions[mission if self.told else torch.zeros_like(mission)])
