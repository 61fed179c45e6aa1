"""A finished run's network, and its retrieval batches put into another order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from rarl.agents.build import build_network
from rarl.agents.memory import RetrievalBatch
from rarl.config.scale import Run, Scale
from rarl.nn.value_network import ValueNetwork
from rarl.runs import checkpoints
from rarl.runs.train import load_published
from rarl.trajectories.store import TrajectoryDataset


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


def by_return(dataset: TrajectoryDataset, sign: int) -> np.ndarray:
    """(n,), the used episodes of a dataset by their returns, the highest first (sign 1) or the lowest (-1); equal ones
    as they lie."""
    return dataset.used[np.argsort(-sign * dataset.returns[dataset.used], kind="stable")]


def shuffled(batch: RetrievalBatch, rng: np.random.Generator) -> RetrievalBatch:
    """At every step, the states of a batch's trajectories permuted among them: what belongs together no longer does.

    Trajectories that have ended before a step take no part in it.
    """
    return _permuted(batch, np.broadcast_to(np.arange(batch.a.shape[2]), batch.a.shape), rng)


def reordered(batch: RetrievalBatch, rng: np.random.Generator) -> RetrievalBatch:
    """The real steps of each trajectory in a random order."""
    return _permuted(batch, np.broadcast_to(np.arange(batch.a.shape[1])[:, None], batch.a.shape), rng)


def exchanged_by_reward(batch: RetrievalBatch, rng: np.random.Generator) -> RetrievalBatch:
    """All states of a group's batch permuted among those in which the same reward was given."""
    return _permuted(batch, batch.r.numpy(), rng)


def _permuted(batch: RetrievalBatch, among: np.ndarray, rng: np.random.Generator) -> RetrievalBatch:
    """The real steps of each group permuted among those that have the same number in `among` (G, n_traj, l)."""
    parts = [part.flatten(1, 2).clone() for part in (batch.x, batch.a, batch.r)]
    for g, numbers in enumerate(among.reshape(len(among), -1)):
        real = np.ones(len(numbers), bool) if batch.mask is None else batch.mask[g].flatten().numpy()
        for number in np.unique(numbers[real]):
            to = np.flatnonzero(real & (numbers == number))
            order = rng.permutation(to)
            for part in parts:
                part[g, to] = part[g, order]
    x, a, r = (part.view_as(of) for part, of in zip(parts, (batch.x, batch.a, batch.r), strict=True))
    return replace(batch, x=x, a=a, r=r)
