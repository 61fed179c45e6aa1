"""A finished run's network, and its retrieval batches shuffled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from rarl.agents.build import build_network
from rarl.agents.memory import RetrievalBatch
from rarl.config.scale import Run, Scale
from rarl.nn.value_network import ValueNetwork
from rarl.runs import checkpoints
from rarl.runs.train import load_published


def final_state(scale: Scale, run: Run) -> Mapping[str, Any]:
    """What the run's learner published at its end, on the CPU: network, and what else it needs."""
    return load_published(scale, run).state["learner"]


def network_of(run: Run, state: Mapping[str, Any], n_actions: int) -> ValueNetwork:
    """The network of a published state, on the CPU, without gradients.

    Raises:
      RarlError: it is not the network of this run; what does not fit is named.
    """
    network = build_network(run.settings, n_actions)
    checkpoints.restore(network, state.get("network", {}), f"the checkpoint of {run.id}")
    return network.requires_grad_(False)


def shuffled(batch: RetrievalBatch, rng: np.random.Generator) -> RetrievalBatch:
    """At every step, the states of a batch's trajectories permuted among them: what belongs together no longer does.

    Trajectories that have ended before a step take no part in it.
    """
    x, a, r = batch.x.clone(), batch.a.clone(), batch.r.clone()
    groups, _, length = batch.a.shape
    real = torch.ones(batch.a.shape, dtype=torch.bool) if batch.mask is None else batch.mask
    for g in range(groups):
        for j in range(length):
            to = torch.nonzero(real[g, :, j]).squeeze(1)
            order = to[torch.from_numpy(rng.permutation(len(to)))]
            x[g, to, j], a[g, to, j], r[g, to, j] = batch.x[g, order, j], batch.a[g, order, j], batch.r[g, order, j]
    return replace(batch, x=x, a=a, r=r)
