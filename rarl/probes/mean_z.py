"""What is read, held at its mean: whether retrieval says what is to be done here, or only which task this is."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from rarl.agents.policy import Policy
from rarl.errors import required
from rarl.nn.retrieval import Mode, RetrievalProcess, RetrievalStep


class MeanOfZ:
    """A policy that is watched; its network leaves nobody out.

    Attributes:
      z: (R, n_f, d_z), the mean over all steps of the episodes that read each of R batches.
    """

    def __init__(self, policy: Policy, places: Int[np.ndarray, "R m"]):
        self.policy, self._places = policy, places
        self._sum, self._steps = torch.zeros(()), torch.zeros(len(places), 1, 1)

    @property
    def z(self) -> Float[Tensor, "R n_f d_z"]:
        return self._sum / self._steps

    def begin(self, first: np.ndarray, context: np.ndarray | None = None) -> None:
        """As of a policy."""
        self.policy.begin(first, context)

    def __call__(self, x: np.ndarray, playing: np.ndarray) -> np.ndarray:
        """As of a policy."""
        actions = self.policy(x)
        z = required(self.policy.unrolled.step, "retriever").z[:, :, 0].cpu()  # (R, m, n_f, d_z)
        counts = torch.from_numpy(playing[self._places]).to(z.dtype)[..., None, None]
        self._sum, self._steps = self._sum + (z * counts).sum(1), self._steps + counts.sum(1)
        return actions


class Constant(RetrievalProcess):
    """A retrieval process that goes on as it did, but what it passes on is given.

    Args:
      process: the one in whose place it is.
      z: (R, n_f, d_z), of each group.
    """

    def __init__(self, process: RetrievalProcess, z: Float[Tensor, "R n_f d_z"]):
        super().__init__()
        self.process, self.given = process, z
        self.d_z, self.several, self.has_slots, self.told = (
            process.d_z, process.several, process.has_slots, process.told
        )  # fmt: skip

    def initial_slots(self, mode: Mode, groups: int, batch: int) -> Tensor:
        """As before."""
        return self.process.initial_slots(mode, groups, batch)

    def forward(self, s_t: Tensor, *arguments: Any, **options: Any) -> RetrievalStep:
        """As before, z apart."""
        return self._given_in(self.process(s_t, *arguments, **options))

    def unroll(self, s: Tensor, *arguments: Any, **options: Any) -> tuple[RetrievalStep, list[Tensor]]:
        """As before, z apart."""
        step, slots = self.process.unroll(s, *arguments, **options)
        return self._given_in(step), slots

    def _given_in(self, step: RetrievalStep) -> RetrievalStep:
        z = self.given.to(step.z.device)
        return step._replace(z=z.view(len(z), *[1] * (step.z.dim() - z.dim()), *z.shape[1:]).expand_as(step.z))
