"""The masking loss of ablations A-4 and A-5: tokens of masked steps, predicted from the steps around them.

A trajectory's states are encoded by the agent's encoder, some of them are hidden, and of these the tokens are predicted
that a VQ-VAE gives their observations. The cross-entropy trains the agent's encoder, the summariser of its retrieval
process and what predicts; nothing else of the retrieval process, the core or the head. The VQ-VAE learns beside them,
on the same observations, with an optimiser of its own; it shares nothing with the agent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from rarl.agents.memory import Memory, RetrievalBatch
from rarl.config.scale import Run
from rarl.envs.spec import load, spec_of
from rarl.errors import RarlError, required
from rarl.nn.masking import MaskedTokens, masked_steps
from rarl.nn.value_network import ValueNetwork
from rarl.nn.vq_vae import VQVAE
from rarl.trajectories.store import TrajectoryDataset


class MaskingLoss(NamedTuple):
    """loss: cross-entropy in nats, mean over masked steps. scalars: it, and how good the tokens are, to log."""

    loss: Float[Tensor, ""]
    scalars: Mapping[str, Tensor]


class Masking:
    """What a learner needs for the masking loss.

    Args:
      run: the settings.
      datasets: one per task, from which trajectories are drawn; none for a learner that hands them over itself.
      device: where the networks are.

    Raises:
      RarlError: a dataset has fewer trajectories than are drawn from it.
    """

    def __init__(self, run: Run, datasets: Sequence[TrajectoryDataset], device: torch.device):
        s, settings = run.settings, run.settings.learning.masking
        spec = spec_of(s.environment)
        self.settings = settings
        self.memory = None
        if datasets:
            groups = min(s.learning.tasks_per_batch or len(datasets), len(datasets))
            each = max(settings.trajectories // groups, 1)
            for dataset in datasets:
                there = len(dataset.used)
                if there < each:
                    raise RarlError(
                        f"{dataset.folder}: holds {there} episodes, but learning.masking.trajectories = "
                        f"{settings.trajectories} takes {each} of each task"
                    )
            changes = {
                "source": "own",
                "fresh": True,
                "n_traj": each,
                "select_by": "none",
                "step_stride": settings.step_stride,
                "trajectory_steps": settings.trajectory_steps,
            }
            look = s.agent.retrieval.model_copy(update=changes)
            self.memory = Memory(datasets, look, context=spec.context)
        # The summariser of the retrieval process. Where there is none, or one that is told actions and rewards too: one
        # as wide and of its kind.
        retrieval = s.agent.retrieval
        self.shares_summariser = run.retrieves and retrieval.trajectory_inputs == "state"
        kind = None if self.shares_summariser else retrieval.summariser
        self.predictor = MaskedTokens(s.agent.d_s, retrieval.d_h, settings.tokens, kind).to(device)
        self.vq_vae = VQVAE(load(spec.tokens), settings.tokens, settings.d_token).to(device)
        self.optimiser = torch.optim.Adam(self.vq_vae.parameters(), settings.token_rate, fused=True)

    @classmethod
    def of(cls, run: Run, datasets: Sequence[TrajectoryDataset], device: torch.device) -> Masking | None:
        """None where the loss has no weight: then nothing is built and nothing is drawn."""
        return cls(run, datasets, device) if run.settings.learning.masking.weight > 0 else None

    @property
    def modules(self) -> nn.ModuleList:
        """All that has parameters."""
        return nn.ModuleList([self.predictor, self.vq_vae])

    def draw(self, tasks: Int[np.ndarray, " G"], rng: np.random.Generator) -> RetrievalBatch:
        """Trajectories of each of the tasks, drawn uniformly from their datasets."""
        return required(self.memory, "datasets").sample(tasks, rng)

    def loss(self, network: ValueNetwork, batch: RetrievalBatch, rng: np.random.Generator) -> MaskingLoss:
        """The loss on a batch of trajectories; the VQ-VAE makes a step of its own on the way.

        Args:
          network: the agent's.
          batch: where the networks are.
          rng: chooses the masked steps.
        """
        real = torch.ones(batch.a.shape, dtype=torch.bool) if batch.mask is None else batch.mask.cpu()
        masked = torch.from_numpy(masked_steps(real.flatten(0, 1).numpy(), self.settings.share, rng))
        real, masked = real.to(batch.x.device), masked.to(batch.x.device)

        coded = self.vq_vae(batch.x[real])
        self.optimiser.zero_grad(set_to_none=True)
        coded.loss.backward()
        self.optimiser.step()
        tokens = torch.zeros(real.shape, dtype=torch.int64, device=real.device)
        tokens[real] = coded.tokens
        tokens = tokens.flatten(0, 1)[masked]

        s = network.encoder_of_retrieved(batch.x, batch.context).flatten(0, 1)
        summariser = network.reading.summariser if self.shares_summariser else None
        logits = self.predictor(s, masked, None if batch.mask is None else batch.mask.flatten(0, 1), summariser)
        loss = F.cross_entropy(logits, tokens)
        scalars = {
            "masking_loss": loss.detach(),
            "masking_accuracy": (logits.detach().argmax(-1) == tokens).float().mean(),
            "token_loss": coded.loss.detach(),
            "token_error": coded.error,
            "token_perplexity": coded.perplexity,
        }
        return MaskingLoss(loss, scalars)

    def state_dict(self) -> dict[str, Any]:
        return {
            "predictor": self.predictor.state_dict(),
            "vq_vae": self.vq_vae.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.predictor.load_state_dict(state["predictor"])
        self.vq_vae.load_state_dict(state["vq_vae"])
        self.optimiser.load_state_dict(state["optimiser"])
