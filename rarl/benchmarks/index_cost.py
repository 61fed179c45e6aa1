"""`rarl index-cost`: what an index over all keys costs, against their number: results/{scale}/index-cost.csv.

One row per kind of search and number of states:

  kind, states, d_e     what was measured
  build_seconds         to build the index from the keys
  query_ms              of one query among QUERIES that are asked together
  single_query_ms       of a query asked alone
  memory_mb             of the index with its copy of the keys (10^6 bytes), by the formulas in `MEMORY`
  recall_at_10          share of the ten best states by exact search that are among the ten best found
  refresh_seconds       to encode all states anew, without reading them from disk; measured on refresh_measured_states
                        of them and scaled in proportion
  threads               of all measurements

Keys are drawn, not learned: a mixture of CLUSTERS, and of every trajectory its own shift, since states of a trajectory
resemble one another. Queries lie beside keys. Neither changes what exact search costs; approximate search finds less
among keys without clusters.
"""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from rarl.config.files import IndexCostSettings
from rarl.config.scale import Run, Scale, index_cost_plan
from rarl.files import check_writable, csv_text, write_text
from rarl.jobs import LoadedCode, index_cost_job

log = logging.getLogger(__name__)

COLUMNS = (
    "kind",
    "states",
    "d_e",
    "build_seconds",
    "query_ms",
    "single_query_ms",
    "memory_mb",
    "recall_at_10",
    "refresh_seconds",
    "refresh_measured_states",
    "threads",
)
QUERIES, SINGLE = 256, 20
CLUSTERS, STATES_PER_TRAJECTORY = 300, 5
PART = 1_000_000  # keys drawn at a time
SECONDS = 0.5  # a measurement is repeated for so long

# Bytes of an index over n keys of width d, after faiss's "Guidelines to choose an index": HNSW holds 2 M links per key.
MEMORY: dict[str, Callable[[int, int], float]] = {
    "exact": lambda n, d: 4.0 * n * d,
    "ivf": lambda n, d: n * (4.0 * d + 8),
    "hnsw": lambda n, d: n * (4.0 * d + 4 * 2 * 16),
}


def draw_keys(n: int, d_e: int, rng: np.random.Generator) -> np.ndarray:
    """(n, d_e) float32, clustered as the module says."""
    centres = rng.standard_normal((CLUSTERS, d_e), dtype=np.float32)
    keys = np.empty((n, d_e), dtype=np.float32)
    for first in range(0, n, PART):
        part = keys[first : first + PART]
        rng.standard_normal(out=part, dtype=np.float32)
        part *= 0.3
        part += centres[rng.integers(CLUSTERS, size=len(part))]
        shift = 0.3 * rng.standard_normal((-(-len(part) // STATES_PER_TRAJECTORY), d_e), dtype=np.float32)
        part += np.repeat(shift, STATES_PER_TRAJECTORY, axis=0)[: len(part)]
    return keys


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """The median of the seconds of as many repetitions as fit, one at least; and what came out."""
    taken: list[float] = []
    while not taken or sum(taken) < SECONDS:
        started = time.perf_counter()
        result = work()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken), result


def searcher(kind: str, keys: np.ndarray) -> tuple[Callable[[np.ndarray, int], np.ndarray], float]:
    """How to find the numbers (Q, k) of the k best keys for queries (Q, d_e), and the seconds it took to build that."""
    import faiss

    from rarl.agents.index import BUILDERS

    if kind == "exact":
        return lambda queries, k: faiss.knn(queries, keys, k, metric=faiss.METRIC_INNER_PRODUCT)[1], 0.0
    started = time.perf_counter()
    index = BUILDERS[kind](keys)
    return lambda queries, k: index.search(queries, k)[1], time.perf_counter() - started


def measure(kind: str, keys: np.ndarray, queries: np.ndarray, best: np.ndarray, candidates: int) -> dict[str, Any]:
    """The columns of one kind of search.

    Args:
      kind: of search.
      keys: (n, d_e).
      queries: (Q, d_e).
      best: (Q, 10), the best keys by exact search.
      candidates: keys that a query asks for.
    """
    n, d_e = keys.shape
    find, build_seconds = searcher(kind, keys)
    together, found = _timed(lambda: find(queries, min(candidates, n)))
    alone, _ = _timed(lambda: [find(queries[i : i + 1], min(candidates, n)) for i in range(SINGLE)])
    hits = [np.isin(wanted, had).mean() for wanted, had in zip(best, found[:, : best.shape[1]], strict=True)]
    return {
        "kind": kind,
        "states": n,
        "d_e": d_e,
        "build_seconds": round(build_seconds, 4),
        "query_ms": round(1e3 * together / len(queries), 5),
        "single_query_ms": round(1e3 * alone / SINGLE, 5),
        "memory_mb": round(MEMORY[kind](n, d_e) / 1e6, 3),
        "recall_at_10": round(float(np.mean(hits)), 4),
    }


def encoding_seconds(run: Run) -> tuple[float, int]:
    """Seconds to compute the keys of as many states as a refresh encodes at once, by a run's network; how many."""
    import torch

    from rarl.agents.build import build_network
    from rarl.agents.memory import RetrievalBatch
    from rarl.agents.pools import ENCODED_AT_ONCE
    from rarl.envs.space import number_of_actions
    from rarl.envs.spec import make_vector, spec_of

    spec = spec_of(run.settings.environment)
    looks = -(-spec.long_episode // run.settings.agent.retrieval.step_stride)
    shape = (1, ENCODED_AT_ONCE, looks)
    torch.manual_seed(0)
    network = build_network(run.settings, number_of_actions(run.settings))
    # What is in the states does not matter: those in which episodes start, over and over.
    starts = torch.from_numpy(make_vector(run.settings, [spec.tasks[0]] * looks).reset())
    x = starts.expand(1, ENCODED_AT_ONCE, *starts.shape)
    zeros = torch.zeros(shape)
    where = np.zeros(shape[:2], dtype=np.int64)
    context = torch.zeros(*shape[:2], 1, dtype=torch.int64)
    batch = RetrievalBatch(
        x,
        zeros.long(),
        zeros,
        zeros,
        None,
        context,
        where,
        where,
        np.zeros(shape, dtype=np.int64),
        np.zeros(shape, dtype=bool),
    )
    with torch.no_grad():
        return _timed(lambda: batch.summarise(network))[0], int(np.prod(shape))


def index_cost(settings: IndexCostSettings, run: Run) -> list[dict[str, Any]]:
    """The rows, smallest number of states first.

    Args:
      settings: kinds of search and numbers of states.
      run: whose network's keys the index would hold.
    """
    import faiss
    import torch

    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    retrieval, rows = run.settings.agent.retrieval, []
    encoding, encoded = encoding_seconds(run)
    for n in sorted(settings.states):
        rng = np.random.default_rng(0)
        keys = draw_keys(n, retrieval.d_e, rng)
        queries = keys[rng.integers(n, size=QUERIES)]
        queries += 0.3 * rng.standard_normal(queries.shape, dtype=np.float32)
        best = searcher("exact", keys)[0](queries, min(10, n))
        for kind in settings.kinds:
            if n > settings.most_states.get(kind, n):
                continue
            log.info("index cost: %s over %s states", kind, f"{n:,}")
            row = measure(kind, keys, queries, best, settings.candidates)
            refresh = {"refresh_seconds": round(encoding / encoded * n, 4), "refresh_measured_states": encoded}
            rows.append(row | refresh | {"threads": 1})
    return rows


def write_index_cost(scale: Scale, code: LoadedCode | None = None) -> Path:
    """Measure what the scale asks for, on the keys of its first run with an index, and write the table.

    A scale that asks for nothing gets a table without rows. code: what this process computes with, where the caller has
    looked already.
    """
    path = scale.root / "results" / scale.name / "index-cost.csv"
    check_writable(path)
    plan = index_cost_plan(scale)
    code = code or LoadedCode(index_cost_job(plan and plan[1]))
    rows = [] if plan is None else index_cost(*plan)
    code.check()
    write_text(path, csv_text([COLUMNS, *([row[name] for name in COLUMNS] for row in rows)]))
    return path
