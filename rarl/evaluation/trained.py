"""A finished run's network, and changes to what it retrieves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from rarl.agents.build import build_network
from rarl.agents.memory import RetrievalBatch
from rarl.config import Run, Scale
from rarl.errors import RarlError
from rarl.nn.value_network import ValueNetwork
from rarl.training import checkpoints
from rarl.training.run_folder import RunPaths


def final_network(scale: Scale, run: Run, n_actions: int) -> ValueNetwork:
    """The run's final network, on the CPU, without gradients."""
    path = RunPaths.of(run.id, scale.name, scale.root).checkpoint / checkpoints.NAME
    if not path.is_file():
        raise RarlError(f"{path}: no checkpoint; train the run first (`rarl train --scale {scale.name} {run.id}`)")
    network = build_network(run.settings.agent, n_actions, len(run.tasks))
    network.load_state_dict(checkpoints.load(path).state["learner"]["network"])
    return network.requires_grad_(False)


def shuffled(batch: RetrievalBatch, rng: np.random.Generator) -> RetrievalBatch:
    """At every step, the states of a batch's trajectories permuted among them: what belongs together no longer does."""
    x, a, r = batch.x.clone(), batch.a.clone(), batch.r.clone()
    groups, n_traj, length = batch.a.shape
    for g in range(groups):
        for j in range(length):
            order = torch.from_numpy(rng.permutation(n_traj))
            x[g, :, j], a[g, :, j], r[g, :, j] = batch.x[g, order, j], batch.a[g, order, j], batch.r[g, order, j]
    return replace(batch, x=x, a=a, r=r)
