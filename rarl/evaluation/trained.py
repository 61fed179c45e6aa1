"""A finished run's network, what all probes share, and changes to what is retrieved."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch

from rarl.agents.build import build_network
from rarl.agents.memory import Memory, RetrievalBatch
from rarl.config import Run, Scale
from rarl.errors import RarlError
from rarl.nn.value_network import ValueNetwork
from rarl.training import checkpoints
from rarl.training.runs import open_datasets
from rarl.training.run_folder import RunPaths

SHOWN = 6  # retrieved states per step in a gallery


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


class Candidate(NamedTuple):
    """One of the states that a query could attend to.

    group, trajectory, look: its place in the retrieval batch. source: id of the dataset that it is from.
    """

    group: int
    trajectory: int
    look: int
    source: int


class Probe(ABC):
    """Measurements on one finished run.

    Args:
      scale, run: which.
      tasks: names, in the order of the task ids.
      n_actions: number of actions.
      stream: keeps the random numbers of one kind of probe apart from those of others.
    """

    def __init__(self, scale: Scale, run: Run, tasks: Sequence[str], n_actions: int, stream: int):
        s = run.settings
        torch.set_num_threads(s.threads)
        self.run, self.names = run, list(tasks)
        self.network = final_network(scale, run, n_actions)
        self.memory = (
            Memory(open_datasets(scale, run), s.agent.retrieval, seed=s.seed, episodes=s.episodes)
            if run.retrieves
            else None
        )
        self.rng = np.random.default_rng([s.seed, s.evaluation.board_seed, stream])

    @abstractmethod
    def interventions(self) -> list[dict[str, Any]]:
        """Rows of interventions.csv."""

    @abstractmethod
    def attention(self) -> list[dict[str, Any]]:
        """Rows of attention.csv."""

    @abstractmethod
    def gallery(self) -> dict[str, Any]:
        """The content of gallery.json."""

    @abstractmethod
    def _state(self, batch: RetrievalBatch, candidate: Candidate) -> dict[str, Any]:
        """What the gallery needs to draw a retrieved state."""

    def retrieved(self, group: int, alpha: np.ndarray, batch: RetrievalBatch) -> list[dict[str, Any]]:
        """The states with the largest of the weights alpha (N,), largest first; those without weight are left out."""
        found = []
        for index in np.argsort(-alpha, kind="stable")[:SHOWN]:
            weight = round(float(alpha[index]), 5)
            if weight == 0:
                break
            trajectory, look = divmod(int(index), batch.a.shape[-1])
            source = int(batch.given[group, trajectory])
            episode = batch.episodes[group, trajectory]
            found.append(
                {
                    "weight": weight,
                    "task": self.names[source],
                    "return": float(self.memory.samplers[source].dataset.returns[episode]),
                    "step": int(batch.steps[group, trajectory, look]),
                    "rewarded": bool(batch.r[group, trajectory, look] > 0),
                    **self._state(batch, Candidate(group, trajectory, look, source)),
                }
            )
        return found

    @staticmethod
    def intervention_row(
        intervention: str, task: str, given: str, returns: np.ndarray, success: np.ndarray | None = None
    ) -> dict[str, Any]:
        """A row of interventions.csv, from the returns and successes (episodes,) of one task."""
        row = {
            "intervention": intervention,
            "task": task,
            "given_task": given,
            "episodes": len(returns),
            "return_mean": float(returns.mean()),
        }
        return row if success is None else row | {"success_rate": float(success.mean())}
