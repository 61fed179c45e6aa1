"""A finished run's network, and its retrieval batches put into another order."""

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


def reordered(batch: RetrievalBatch, rng: np.random.Generator) -> RetrievalBatch:
    """The real steps of each trajectory in a random order."""
    x, a, r = batch.x.clone(), batch.a.clone(), batch.r.clone()
    for g, i in np.ndindex(*batch.a.shape[:2]):
        real = np.arange(batch.a.shape[2]) if batch.mask is None else np.flatnonzero(batch.mask[g, i].numpy())
        order = rng.permutation(real)
        x[g, i, real], a[g, i, real], r[g, i, real] = batch.x[g, i, order], batch.a[g, i, order], batch.r[g, i, order]
    return replace(batch, x=x, a=a, r=r)


def exchanged_by_reward(batch: RetrievalBatch, rng: np.random.Generator) -> RetrievalBatch:
    """All states of a group's batch permuted among those in which the same reward was given."""
    x, a = batch.x.flatten(1, 2).clone(), batch.a.flatten(1).clone()
    for g, rewards in enumerate(batch.r.flatten(1).numpy()):
        real = np.ones(len(rewards), bool) if batch.mask is None else batch.mask[g].flatten().numpy()
        for reward in np.unique(rewards[real]):
            to = np.flatnonzero(real & (rewards == reward))
            order = rng.permutation(to)
            x[g, to], a[g, to] = batch.x[g].flatten(0, 1)[order], batch.a[g].flatten()[order]
    return replace(batch, x=x.view_as(batch.x), a=a.view_as(batch.a))
