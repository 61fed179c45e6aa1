"""Looking into an agent whose retrieval datasets hold few relevant trajectories: what it finds, and what that is worth.

Every share of relevant trajectories that it was trained with, and 0, where nothing is relevant; each with uniformly
drawn retrieval batches and with batches that an index proposes, whichever of the two the agent was trained with. The
other one's rows have its name behind the share: "share-0.01" and, of an agent trained with an index,
"share-0.01-uniform". The index has the keys of the trained network and is asked by the episodes' start states.

What is found is measured on the trajectories that training retrieved from and, where the datasets are large enough, on
as many others ("new_recall@10", "new_mrr"): a query that knew its task's trajectories by heart would find none of them.

Then one relevant trajectory among n, of other tasks and made anew: "among-n", see `distractors`; and none among as
many, by the index: "among-n-none". A query may tell its task by which of the others it finds.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from functools import cached_property
from typing import Any, NamedTuple, cast

import numpy as np
import torch

from rarl.agents.index import KeyIndex, best_of, overlap
from rarl.agents.memory import RetrievalBatch
from rarl.agents.pools import PoolMemory, Pools, relevant
from rarl.config.scale import Scale
from rarl.pool_sizes import counts
from rarl.probes.distractors import Searched, with_distractors
from rarl.probes.plain import PlainProbe
from rarl.rollouts.evaluation import Evaluation
from rarl.runs.train import open_datasets

BLOCKS = 4  # retrieval batches per task; its episodes are spread over them
PLACES = (1, 10, 64)  # k of recall@k


class Found(NamedTuple):
    """What was retrieved for G groups of states.

    starts: (G, B, ...), the states that asked. batch: the retrieval batches. rankings: for each group the rows of its
    retrieval dataset that were found, best first.
    """

    starts: torch.Tensor
    batch: RetrievalBatch
    rankings: list[np.ndarray]


def never_retrieved(memory: PoolMemory, seed: int) -> PoolMemory | None:
    """Retrieval datasets of the same sizes and shares from trajectories that none of the memory's own holds.

    None where a dataset has too few of them. What the agent learned from may still hold their steps.
    """
    other, pools = copy(memory), copy(memory.pools)
    episodes = []
    for task, sampler in enumerate(memory.samplers):
        known = pools.episodes[pools.given == task]
        rest = np.setdiff1d(sampler.dataset.used, known)
        if len(rest) < len(known):
            return None
        episodes.append(np.random.default_rng([seed, 3, task]).permutation(rest)[: len(known)])
    pools.episodes = np.concatenate(episodes)
    other.pools, other.index = pools, None
    return other


def recall_at_k(hits: np.ndarray, k: int, relevant: int) -> float:
    """The share of what k places can hold of the relevant that is in the first k.

    Args:
      hits: (n,) bool, whether what is ranked is relevant, best first; what was not found is not in it.
      k: places.
      relevant: how many relevant ones there are, found or not; at least one.
    """
    return float(np.count_nonzero(hits[:k]) / min(k, relevant))


def reciprocal_rank(hits: np.ndarray) -> float:
    """1 / the place of the first relevant one, counted from 1; 0 if none was found. hits as in `recall_at_k`."""
    return float(1 / (1 + np.argmax(hits))) if hits.any() else 0.0


class PoolProbe(PlainProbe):
    """Measurements on one run of an agent with retrieval datasets of known relevance."""

    blocks = BLOCKS
    memory: PoolMemory

    def _memory(self, scale: Scale) -> PoolMemory:
        self._scale = scale
        retrieval = self.run.settings.agent.retrieval
        memory = cast(PoolMemory, PoolMemory.of(self.run, open_datasets(scale, self.run)))
        self.index = KeyIndex(memory.pools, retrieval.index)
        self.index.refresh(memory.keys(self.network), self.run.settings.updates)
        self.new = never_retrieved(memory, self.run.settings.seed)
        if self.new:
            self.new_index = KeyIndex(self.new.pools, self.index.settings)
            self.new_index.refresh(self.new.keys(self.network), self.run.settings.updates)
        self.shares = [*memory.pools.settings.relevant, 0.0]
        other = "uniform" if retrieval.propose == "index" else "index"
        self.ways = {retrieval.propose: "", other: f"-{other}"}
        self.shown = self.shares[(len(self.shares) - 1) // 2]
        return memory

    @property
    def rule(self) -> str:
        return f"{super().rule} Of what could be retrieved a share of {self.shown:g} is of the task."

    def batches(self, evaluation: Evaluation) -> RetrievalBatch:
        return self.find(evaluation, self.of_share(self.shown), next(iter(self.ways))).batch

    def of_share(self, share: float) -> Searched:
        """The retrieval datasets of training with a share of relevant trajectories."""
        return Searched(self.memory, self.index, share)

    def places(self, shares: Sequence[float]) -> dict[str, Searched]:
        """Name -> what is searched: datasets of training with these shares, and those with distractors."""
        found = {f"share-{share:g}": self.of_share(share) for share in shares}
        return found | {f"among-{n}": searched for n, searched in self.among.items()}

    @cached_property
    def among(self) -> dict[int, Searched]:
        """Number of trajectories, one of them relevant -> what is searched."""
        return with_distractors(self._scale, self.run, self.memory, self.network)

    def find(self, evaluation: Evaluation, searched: Searched, way: str) -> Found:
        """Retrieval batches for the groups of an evaluation, asked by the states in which its episodes start."""
        memory, index, share = searched
        tasks, x = evaluation.groups, evaluation.starts()
        starts = torch.from_numpy(x).view(len(tasks), -1, *x.shape[2:])
        queries = memory.queries(self.network, starts, tasks)
        shares, n_traj = np.full(len(tasks), share), memory.settings.n_traj
        if way == "index":
            datasets = [memory.pools.rows(task, share) for task in tasks.tolist()]
            scores = [index.scores(task, share, asked) for task, asked in zip(tasks.tolist(), queries, strict=True)]
            rankings = [rows[best_of(s, len(s))] for rows, s in zip(datasets, scores, strict=True)]
            chosen = memory.choose(tasks, self.rng, shares, [ranking[:n_traj] for ranking in rankings])
        else:
            chosen = memory.choose(tasks, self.rng, shares)
            scores = [index.scores_of(rows, asked) for rows, asked in zip(chosen, queries, strict=True)]
            rankings = [rows[best_of(s, len(s))] for rows, s in zip(chosen, scores, strict=True)]
        return Found(starts, memory.batch_of(tasks, chosen), rankings)

    def interventions(self) -> list[dict[str, Any]]:
        """Rows of interventions.csv."""
        evaluation, rows = self.evaluation, []
        for place, searched in self.places(self.shares).items():
            found = {f"{place}{suffix}": (searched, way) for way, suffix in self.ways.items()}
            if searched.memory is not self.memory:
                found[f"{place}-none"] = searched._replace(share=0.0), "index"
            for name, (of, way) in found.items():
                rows += self.rows(name, evaluation, self.play(evaluation, self.find(evaluation, of, way).batch))
        return rows + self.rows("removed", evaluation, self.play(evaluation, None))

    @torch.no_grad()
    def attention(self) -> list[dict[str, Any]]:
        """Rows of attention.csv: rankings of trajectories, and where attention goes."""
        evaluation, rows = self.evaluation, []
        for place, searched in self.places(self.shares[:-1]).items():
            for way, suffix in self.ways.items():
                found = self.find(evaluation, searched, way)
                for name, values in self._quantities(evaluation.groups, searched, way, found).items():
                    each = np.asarray(values).reshape(len(self.names), BLOCKS).mean(axis=1)
                    rows += [
                        {"task": task, "quantity": f"{place}{suffix}/{name}", "value": float(value)}
                        for task, value in zip(self.names, each, strict=True)
                    ]
        return rows

    def _quantities(self, groups: np.ndarray, searched: Searched, way: str, found: Found) -> dict[str, Any]:
        """Name -> one number for each group."""
        memory, index, share = searched
        given, batch = memory.pools.given, found.batch
        there = counts(memory.pools.settings, len(self.names), 0, share)[0]
        hits = [given[ranking] == task for task, ranking in zip(groups, found.rankings, strict=True)]
        quantities = {f"recall@{k}": [recall_at_k(hit, k, there) for hit in hits] for k in PLACES}
        quantities["mrr"] = [reciprocal_rank(hit) for hit in hits]
        of_task = relevant(groups, batch)
        quantities["relevant_in_batch"] = of_task.mean(axis=1)
        context = torch.from_numpy(groups)[:, None].expand(found.starts.shape[:2])
        alpha = self.network(found.starts, context, batch.summarise(self.network))[1].alpha
        mass = alpha.unflatten(-1, (of_task.shape[1], -1)).sum(-1) * torch.from_numpy(of_task)[:, None, None]
        quantities["attention_on_relevant"] = mass.sum(-1).mean((1, 2)).numpy()
        if way == "index" and memory is self.memory and self.new:
            new = self._hits_among_new(self.new.pools, groups, share, found.starts)
            quantities["new_recall@10"] = [recall_at_k(hit, 10, there) for hit in new]
            quantities["new_mrr"] = [reciprocal_rank(hit) for hit in new]
        if way == "index" and index.kind != "exact":
            queries = memory.queries(self.network, found.starts, groups)
            exact = [
                memory.pools.rows(task, share)[best_of(index.scores(task, share, asked, "exact"), 10)]
                for task, asked in zip(groups.tolist(), queries, strict=True)
            ]
            quantities["index_recall@10"] = [
                overlap([ranking[:10]], [best]) for ranking, best in zip(found.rankings, exact, strict=True)
            ]
        return quantities

    def _hits_among_new(self, new: Pools, groups: np.ndarray, share: float, starts: torch.Tensor) -> list[np.ndarray]:
        """For each group whether what is found among trajectories that were never retrieved is relevant, best first."""
        queries = self.memory.queries(self.network, starts, groups)
        hits = []
        for task, asked in zip(groups.tolist(), queries, strict=True):
            scores = self.new_index.scores(task, share, asked)
            rows = new.rows(task, share)[best_of(scores, len(scores))]
            hits.append(new.given[rows] == task)
        return hits
