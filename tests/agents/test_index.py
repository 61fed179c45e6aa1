"""Search over the keys of whole retrieval datasets, exact and approximate."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rarl.agents.index import KeyIndex, approximate_scores, best_of, build_hnsw, build_ivf, exact_scores, overlap
from rarl.agents.pools import Pools
from rarl.config.settings import IndexSettings, PoolSettings

N, LENGTH, D = 400, 4, 8


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def clustered(n=N, seed=0, spread=0.5):
    """Keys (n, LENGTH, D) around 20 centres."""
    rng = np.random.default_rng(seed)
    centres = 3 * rng.standard_normal((20, D))
    keys = centres[rng.integers(20, size=n)][:, None] + spread * rng.standard_normal((n, LENGTH, D))
    return torch.from_numpy(keys).float()


def asking(n=6, seed=1):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, D))).float()


def slow_scores(queries, keys):
    """Trajectory by trajectory, as step 2 has it."""
    scores = np.zeros(len(keys))
    for query in queries.double().numpy():
        weights = np.exp([[query @ state for state in trajectory] for trajectory in keys.double().numpy()])
        scores += weights.sum(1) / weights.sum()
    return scores


def index_of(kind, keys=None, shares=(), trajectories=60, **more):
    settings = PoolSettings(trajectories=trajectories, relevant=[1.0, 0.1])
    pools = Pools(settings, [np.arange(trajectories)] * 4, 0, range(4))
    index = KeyIndex(pools, IndexSettings(kind=kind, **more), shares)
    if keys is not None:
        index.refresh(keys[: len(pools)], 7)
    return index


def test_exact_scores_are_the_attention_that_trajectories_get(monkeypatch):
    keys, queries = clustered(30), asking()
    expected = slow_scores(queries, keys)
    np.testing.assert_allclose(exact_scores(queries, keys), expected, rtol=1e-5)
    assert exact_scores(queries, keys).sum() == pytest.approx(len(queries))
    monkeypatch.setattr("rarl.agents.index._LOGITS_AT_ONCE", 2 * 30 * LENGTH)  # in three parts
    np.testing.assert_allclose(exact_scores(queries, keys), expected, rtol=1e-5)


class Known:
    """An index that finds what it is told."""

    def __init__(self, logits, found):
        self.answer = np.array(logits, dtype=np.float32), np.array(found)

    def search(self, x, k):
        self.asked = k
        return self.answer


def test_approximate_scores_are_softmax_weights_of_what_was_found():
    """Two queries; states 0 to 3 are of trajectory 0, 4 to 7 of 1, 8 to 11 of 2; the second query finds one only."""
    index = Known([[np.log(3), np.log(2), 0.0], [5.0, -1.0, -1.0]], [[4, 1, 6], [9, -1, -1]])
    scores = approximate_scores(index, asking(2).numpy(), 3, 3, LENGTH)
    np.testing.assert_allclose(scores, [2 / 6, 4 / 6, 1.0], rtol=1e-6)
    approximate_scores(index, asking(2).numpy(), 100, 3, LENGTH)
    assert index.asked == 12  # no more than there are


@pytest.mark.parametrize(("build", "least"), [(build_ivf, 0.9), (build_hnsw, 0.9)])
def test_approximate_search_finds_most_of_what_exact_search_finds(build, least):
    keys = clustered(2000).flatten(0, 1).numpy()
    queries = keys[::160] + 0.1 * asking(50).numpy()
    exact = np.argsort(-(queries @ keys.T), axis=1)[:, :10]
    found = build(keys).search(queries, 10)[1]
    recall = np.mean([np.isin(best, had).mean() for best, had in zip(exact, found, strict=True)])
    assert recall >= least
    again = build(keys).search(queries, 10)[1]
    assert (found == again).all()  # rebuilt from the keys alone


def test_few_keys_are_enough_for_an_inverted_file():
    keys = clustered(2).flatten(0, 1).numpy()
    found = build_ivf(keys).search(keys, 8)[1]
    assert sorted(found[0]) == list(range(8))


def test_best_of_leaves_out_what_was_not_found():
    assert best_of(np.array([0.1, 0.0, 0.7, 0.2]), 2).tolist() == [2, 3]
    assert best_of(np.array([0.1, 0.0, 0.7, 0.0]), 3).tolist() == [2, 0]
    assert best_of(np.array([0.5, 0.7, 0.5]), 3).tolist() == [1, 0, 2]  # equal ones in their order
    assert best_of(np.zeros(3), 2).tolist() == []


def test_overlap_counts_what_is_wanted():
    some = [np.array([1, 2, 3]), np.array([4])]
    assert overlap(some, [np.array([3, 9]), np.array([4, 5])]) == 0.5
    assert overlap(some, some) == 1
    assert overlap(some, [np.array([], dtype=int)] * 2) == 1


def test_proposals_are_the_best_of_the_retrieval_dataset_asked():
    keys = clustered()
    index = index_of("exact", keys)
    tasks, shares = np.array([0, 3, 3]), np.array([0.1, 0.1, 1.0])
    queries = torch.stack([asking(seed=seed) for seed in range(3)])
    proposed = index.propose(tasks, shares, queries, 5)
    for g, (task, share) in enumerate(zip(tasks.tolist(), shares.tolist(), strict=True)):
        rows = index.layout.rows(task, share)
        scores = slow_scores(queries[g], keys[rows])
        assert proposed[g].tolist() == rows[np.argsort(-scores)[:5]].tolist()
        np.testing.assert_allclose(index.scores(task, share, queries[g]), scores, rtol=1e-4)
    some = np.array([4, 77, 9])
    np.testing.assert_allclose(index.scores_of(some, queries[0]), slow_scores(queries[0], keys[some]), rtol=1e-4)


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_an_approximate_index_proposes_much_the_same(kind):
    keys = clustered()
    exact, approximate = index_of("exact", keys), index_of(kind, keys, candidates=60)
    tasks, shares = np.arange(4), np.full(4, 1.0)
    queries = torch.stack([asking(seed=seed) for seed in range(4)])
    found, best = (index.propose(tasks, shares, queries, 10) for index in (approximate, exact))
    assert overlap(found, best) > 0.8
    scores = approximate.scores(0, 1.0, queries[0])
    assert scores.shape == (60,)
    assert scores.sum() == pytest.approx(len(queries[0]))
    np.testing.assert_allclose(approximate.scores(0, 1.0, queries[0], "exact"), exact.scores(0, 1.0, queries[0]))


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_there_may_be_fewer_states_than_candidates(kind):
    keys, queries = clustered(), asking()
    exact, approximate = index_of("exact", keys), index_of(kind, keys, candidates=10_000)
    found = approximate.scores(2, 0.1, queries)
    np.testing.assert_allclose(found, exact.scores(2, 0.1, queries), atol=0.05 * len(queries))


@pytest.mark.parametrize("kind", ["exact", "ivf", "hnsw"])
def test_a_saved_index_proposes_the_same(kind):
    keys, queries = clustered(), torch.stack([asking(seed=seed) for seed in range(4)])
    question = np.arange(4), np.array([1.0, 0.1, 1.0, 0.1]), queries, 8
    one, other = index_of(kind, keys, shares=[1.0, 0.1]), index_of(kind, clustered(seed=3))
    before = [rows.tolist() for rows in one.propose(*question)]
    assert before != [rows.tolist() for rows in other.propose(*question)]
    other.load_state_dict(one.state_dict())
    assert other.made_at == 7
    assert [rows.tolist() for rows in other.propose(*question)] == before
    assert one.state_dict()["keys"].dtype == np.float32


def test_an_index_that_was_never_refreshed_is_saved_too():
    index = index_of("ivf")
    assert index.state_dict() == {"keys": None, "made_at": None}
    other = index_of("ivf", clustered())
    other.load_state_dict(index.state_dict())
    assert not len(other.keys)
    assert other.made_at is None


def test_a_refresh_takes_the_place_of_old_indices():
    index, queries = index_of("hnsw", clustered(), shares=[0.1]), asking()[None]
    before = index.propose(np.array([0]), np.array([0.1]), queries, 5)[0].tolist()
    index.refresh(clustered(seed=9)[: len(index.layout)], 8)
    fresh = index_of("hnsw", clustered(seed=9))
    assert (
        index.propose(np.array([0]), np.array([0.1]), queries, 5)[0].tolist()
        == fresh.propose(np.array([0]), np.array([0.1]), queries, 5)[0].tolist()
    )
    assert index.propose(np.array([0]), np.array([0.1]), queries, 5)[0].tolist() != before


def test_the_number_of_threads_is_given_back():
    import faiss

    before = faiss.omp_get_max_threads()
    build_hnsw(clustered(3).flatten(0, 1).numpy())
    assert faiss.omp_get_max_threads() == before
