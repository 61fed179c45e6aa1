"""An index over the keys of whole retrieval datasets: which of their trajectories score best for given queries.

It ranks trajectories as step 2 of Algorithm 1 does, over all that there are in place of a batch that was drawn: by the
sum of their states' softmax weights. Keys are those of the network at the last refresh; queries are of now.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from rarl.config.settings import IndexSettings

logging.getLogger("faiss").setLevel(logging.WARNING)  # it tells of every instruction set that it tries to load

_LOGITS_AT_ONCE = 2**24  # of exact search: 64 MB
# faiss warns about fewer training points per cluster than 39; more clusters than 1,024 cost more to assign than they
# save in search, up to ten million keys.
_CLUSTERS, _POINTS_PER_CLUSTER = 1024, 39
_PROBES = 16  # clusters that a query looks into
_NEIGHBOURS, _WIDTH = 16, 64  # HNSW's links per key, and how many keys it holds ready while it builds and searches


@runtime_checkable
class Approximate(Protocol):
    """What faiss's indices have in common."""

    def search(self, x: Float[np.ndarray, "Q d_e"], k: int) -> tuple[Float[np.ndarray, "Q k"], Int[np.ndarray, "Q k"]]:
        """Inner products and numbers of the keys found, best first; -1 where none was found."""


@runtime_checkable
class Layout(Protocol):
    """Where the trajectories of retrieval datasets are among all rows; see `rarl.agents.pools.Pools`."""

    n_tasks: int

    def parts(self, task: int, share: float) -> list[slice]: ...


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """faiss on one thread: with more, what it builds depends on their timing."""
    import faiss

    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)


def build_ivf(keys: Float[np.ndarray, "N d_e"]) -> Approximate:
    """An inverted file: keys in clusters, of which a query looks into the nearest."""
    import faiss

    n, d = keys.shape
    clusters = max(1, min(int(n**0.5), _CLUSTERS, n // _POINTS_PER_CLUSTER))
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(d), d, clusters, faiss.METRIC_INNER_PRODUCT)
    index.cp.niter, index.cp.max_points_per_centroid = 10, 2 * _POINTS_PER_CLUSTER
    index.nprobe = _PROBES
    with _one_thread():
        index.train(keys)
        index.add(keys)
    return index


def build_hnsw(keys: Float[np.ndarray, "N d_e"]) -> Approximate:
    """A navigable graph of keys, on which a query walks to its nearest (Malkov and Yashunin, 2016)."""
    import faiss

    index = faiss.IndexHNSWFlat(keys.shape[1], _NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = index.hnsw.efSearch = _WIDTH
    with _one_thread():
        index.add(keys)
    return index


BUILDERS: dict[str, Callable[[np.ndarray], Approximate]] = {"ivf": build_ivf, "hnsw": build_hnsw}


def exact_scores(queries: Float[Tensor, "Q d_e"], keys: Float[Tensor, "n l d_e"]) -> Float[np.ndarray, " n"]:
    """Each of n trajectories' share of all (scaled) queries' attention.

    The sum over queries and states of the softmax weights; sums to Q.
    """
    n, length, d_e = keys.shape
    flat, weights = keys.reshape(n * length, d_e), torch.zeros(n * length, dtype=torch.float64, device=keys.device)
    for part in queries.split(max(_LOGITS_AT_ONCE // (n * length), 1)):
        weights += torch.softmax(part @ flat.T, dim=-1).sum(0)
    return weights.view(n, length).sum(-1).cpu().numpy()


def approximate_scores(
    index: Approximate, queries: Float[np.ndarray, "Q d_e"], candidates: int, n: int, length: int
) -> Float[np.ndarray, " {n}"]:
    """The same from the candidates (states) that an index finds for each query, among which the softmax is.

    0 for trajectories of which no state was found.
    """
    with _one_thread():
        logits, found = index.search(queries, min(candidates, n * length))
    logits = np.where(found < 0, -np.inf, logits).astype(np.float64)
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    return np.bincount(found[found >= 0] // length, weights[found >= 0], minlength=n)


def best_of(scores: Float[np.ndarray, " trajectories"], n: int) -> Int[np.ndarray, " best"]:
    """Places of the n highest of the scores above 0, best first; fewer if there are fewer."""
    best = np.argsort(-scores, kind="stable")[:n]
    return best[scores[best] > 0]


def overlap(some: Sequence[Int[np.ndarray, " _"]], wanted: Sequence[Int[np.ndarray, " _"]]) -> float:
    """The share of what is wanted for each group that is among its `some`; 1 if nothing is wanted."""
    found = sum(np.isin(rows, had).sum() for had, rows in zip(some, wanted, strict=True))
    return float(found / max(sum(map(len, wanted)), 1)) if any(map(len, wanted)) else 1.0


class KeyIndex:
    """An index over each retrieval dataset's states.

    The keys of all rows are one array; exact search reads the parts that belong to a retrieval dataset, an approximate
    index over them is built on top. It is rebuilt from the keys alone, so the keys are all there is to save.

    Args:
      layout: which rows are in which retrieval dataset.
      settings: kind of search; None: exact.
      shares: of the retrieval datasets for which approximate indices are built at once; others when they are asked for.

    Attributes:
      keys: float32; none before the first refresh.
      made_at: learner steps before the last refresh; None before the first.
    """

    keys: Float[Tensor, "rows l d_e"]

    def __init__(self, layout: Layout, settings: IndexSettings | None, shares: Iterable[float] = ()):
        self.layout, self.settings, self.shares = layout, settings, tuple(shares)
        self.kind, self.candidates = ("exact", 0) if settings is None else (settings.kind, settings.candidates)
        self.keys = torch.zeros(0, 0, 0)
        self.made_at: int | None = None
        self._approximate: dict[tuple[int, float], Approximate] = {}

    def refresh(self, keys: Float[Tensor, "rows l d_e"], update: int) -> None:
        """Take over keys that were computed after `update` learner steps."""
        self.keys, self.made_at = keys.float(), update
        self._approximate.clear()
        if self.kind != "exact":
            for task in range(self.layout.n_tasks):
                for share in self.shares:
                    self._index_of(task, share)

    def scores(
        self, task: int, share: float, queries: Float[Tensor, "Q d_e"], kind: str | None = None
    ) -> Float[np.ndarray, " trajectories"]:
        """Scores of all trajectories of a retrieval dataset, in the order of its rows.

        Args:
          task, share: which retrieval dataset.
          queries: scaled.
          kind: of search; None: the setting's.
        """
        if (kind or self.kind) == "exact":
            return exact_scores(queries, self._keys_of(task, share, queries.device))
        n = sum(part.stop - part.start for part in self.layout.parts(task, share))
        index = self._index_of(task, share)
        return approximate_scores(index, queries.cpu().numpy(), self.candidates, n, self.keys.shape[1])

    def scores_of(self, rows: Int[np.ndarray, " n"], queries: Float[Tensor, "Q d_e"]) -> Float[np.ndarray, " n"]:
        """Exact scores of these rows alone, for scaled queries."""
        return exact_scores(queries, self.keys[torch.from_numpy(rows)])

    def propose(
        self,
        tasks: Int[np.ndarray, " G"],
        shares: Float[np.ndarray, " G"],
        queries: Float[Tensor, "G Q d_e"],
        n: int,
    ) -> list[Int[np.ndarray, " _"]]:
        """For each group the rows of the (at most) n trajectories that score best, best first.

        Args:
          tasks, shares: which retrieval dataset each group asks.
          queries: scaled.
          n: how many.
        """
        proposed = []
        for task, share, asked in zip(tasks.tolist(), shares.tolist(), queries, strict=True):
            best = best_of(self.scores(task, share, asked), n)
            rows = [np.arange(part.start, part.stop) for part in self.layout.parts(task, share)]
            proposed.append(np.concatenate(rows)[best])
        return proposed

    def _keys_of(self, task: int, share: float, device: torch.device) -> Tensor:
        self.keys = self.keys.to(device)  # where they are already, but for a first search after a resumption
        return torch.cat([self.keys[part] for part in self.layout.parts(task, share)])

    def _index_of(self, task: int, share: float) -> Approximate:
        if (task, share) not in self._approximate:
            keys = self._keys_of(task, share, self.keys.device).flatten(0, 1)
            self._approximate[task, share] = BUILDERS[self.kind](keys.cpu().numpy())
        return self._approximate[task, share]

    def state_dict(self) -> dict[str, Any]:
        return {"keys": None if self.made_at is None else self.keys.cpu().numpy(), "made_at": self.made_at}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        keys = np.zeros((0, 0, 0)) if state["keys"] is None else state["keys"]
        self.keys = torch.from_numpy(np.array(keys, dtype=np.float32))
        self.made_at = state["made_at"]
        self._approximate.clear()
