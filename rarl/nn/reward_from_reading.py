"""What a retriever learns on its own, before there is an agent: to read what tells the reward of a state."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rarl.nn.fusion import FilmFusion
from rarl.nn.retrieval import SlotReadout


class RewardFromReading(nn.Module):
    """Predicts the reward of arriving in a state from that state and from what was retrieved for it.

    In the two-stage recipe of retrieval-augmented generation the retriever is trained first and then frozen. Where the
    task is hidden, the reward of a state cannot be told without what the retrieved trajectories say about the task.

    Args:
      d_s: width of states.
      d_m, d_e: widths of z and of attention.
    """

    def __init__(self, d_s: int, d_m: int, d_e: int):
        super().__init__()
        self.readout = SlotReadout(d_s, d_m, d_e)
        self.fusion = FilmFusion(d_s, d_m)
        self.hidden = nn.Linear(d_s, d_s)
        self.reward = nn.Linear(d_s, 1)

    def forward(self, s: Float[Tensor, "*b d_s"], z: Float[Tensor, "*b n_f d_m"]) -> Float[Tensor, "*b"]:
        """The expected reward."""
        fused = torch.relu(self.fusion(s, self.readout(s, z)))
        reward: Tensor = self.reward(torch.relu(self.hidden(fused))).squeeze(-1)
        return reward
