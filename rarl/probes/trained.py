"""A finished run's network, what all probes share, and changes to what is retrieved."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch

from rarl.agents.build import build_network
from rarl.agents.memory import Memory, RetrievalBatch
from rarl.config.scale import Run, Scale
from rarl.envs.spec import spec_of
from rarl.nn.value_network import ValueNetwork
from rarl.runs import checkpoints
from rarl.runs.train import load_published, open_datasets

SHOWN = 6  # retrieved states per step in a gallery


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
        self.run, self.names, self.spec = run, list(tasks), spec_of(s.environment)
        state = final_state(scale, run)
        self.network = network_of(run, state, n_actions)
        self._recall(scale, state)
        # No stream of start states ends like this (`Evaluation.of`); three numbers count as if task 0 came after them.
        self.rng = np.random.default_rng([s.seed, s.evaluation.board_seed, stream, -1 % 2**32])

    @abstractmethod
    def _recall(self, scale: Scale, state: Mapping[str, Any]) -> None:
        """Keep what the agent retrieves from, given the state that its learner published."""

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

    def _trajectory(self, batch: RetrievalBatch, candidate: Candidate) -> dict[str, Any]:
        """What the gallery says about the trajectory that a retrieved state is of."""
        return {}

    def retrieved(self, group: int, alpha: np.ndarray, batch: RetrievalBatch) -> list[dict[str, Any]]:
        """The states with the largest of the weights alpha (N,), largest first; those without weight are left out."""
        found = []
        for index in np.argsort(-alpha, kind="stable")[:SHOWN]:
            weight = round(float(alpha[index]), 5)
            if weight == 0:
                break
            trajectory, look = divmod(int(index), batch.a.shape[-1])
            candidate = Candidate(group, trajectory, look, int(batch.given[group, trajectory]))
            found.append(
                {
                    "weight": weight,
                    **self._trajectory(batch, candidate),
                    "step": int(batch.steps[group, trajectory, look]),
                    "rewarded": bool(batch.r[group, trajectory, look] > 0),
                    **self._state(batch, candidate),
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


class DatasetProbe(Probe):
    """Of an agent that learned from datasets, and retrieves from them.

    Attributes:
      memory: what it retrieves from; None if it retrieves nothing.
    """

    def _recall(self, scale: Scale, state: Mapping[str, Any]) -> None:
        s, self.memory = self.run.settings, None
        if self.run.retrieves:
            datasets = open_datasets(scale, self.run)
            more = {"seed": s.seed, "episodes": s.episodes, "context": self.spec.context}
            self.memory = Memory(datasets, s.agent.retrieval, **more)

    def _trajectory(self, batch: RetrievalBatch, candidate: Candidate) -> dict[str, Any]:
        episode = batch.episodes[candidate.group, candidate.trajectory]
        dataset = self.memory.samplers[candidate.source].dataset
        return {"task": self.names[candidate.source], "return": float(dataset.returns[episode])}
