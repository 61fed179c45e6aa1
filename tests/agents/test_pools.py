"""Retrieval datasets of known relevance, and the batches that are taken from them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rarl.agents.memory import Memory
from rarl.agents.pools import PoolMemory, Pools, relevant
from rarl.config.settings import IndexSettings, PoolSettings, RetrievalSettings
from rarl.errors import RarlError
from rarl.pool_sizes import needed_of_each
from tests import tiny_project, tiny_relevance

SHARES = st.lists(st.floats(0.001, 1.0), min_size=1, max_size=5, unique=True)


@pytest.fixture(scope="module")
def datasets(tiny_root):
    torch.set_num_threads(1)
    return tiny_project.datasets_of(tiny_root)


def memory_of(datasets, index=None, seed=0, shares=tiny_relevance.SHARES, **retrieval):
    pool = PoolSettings(trajectories=tiny_relevance.POOL, relevant=shares)
    some = {"n_traj": 6, "k_traj": 3, "select_by": "attention", "step_stride": 10, "pool": pool, "index": index}
    return PoolMemory(datasets, RetrievalSettings(**(some | retrieval)), seed=seed)


def pools_of(trajectories, shares, n_tasks, seed=0, episodes=None):
    chosen = PoolSettings(trajectories=trajectories, relevant=shares)
    episodes = episodes or [n + 3 for n in needed_of_each(chosen, n_tasks)]
    return Pools(chosen, [np.arange(n) for n in episodes], seed, [f"dataset {i}" for i in range(n_tasks)]), episodes


# ------------------------------------------------------------------------------------------------------ what they hold


@settings(max_examples=60)
@given(st.integers(1, 60), SHARES, st.integers(2, 6), st.integers(0, 3))
def test_a_retrieval_dataset_holds_its_share_and_others_evenly(trajectories, shares, n_tasks, seed):
    pools, episodes = pools_of(trajectories, shares, n_tasks, seed)
    assert len(pools) == len(set(zip(pools.given.tolist(), pools.episodes.tolist(), strict=True)))
    assert all(0 <= e < episodes[t] for t, e in zip(pools.given, pools.episodes, strict=True))
    for task in range(n_tasks):
        for share in shares:
            rows = pools.rows(task, share)
            assert len(rows) == len(set(rows)) == trajectories
            counts = np.bincount(pools.given[rows], minlength=n_tasks)
            assert counts[task] == max(1, round(share * trajectories))
            others = np.delete(counts, task)
            assert others.max() - others.min() <= 1
            assert rows.tolist() == [i for part in pools.parts(task, share) for i in range(part.start, part.stop)]


def test_where_nothing_is_relevant_each_task_gives_its_own_trajectories():
    """Also where no share that is trained needs as many of them."""
    pools, _ = pools_of(60, [0.1], 4)
    for task in range(4):
        rows = pools.rows(task, 0.0)
        assert len(rows) == len(set(rows)) == 60
        assert np.bincount(pools.given[rows], minlength=4).tolist() == [20 * (other != task) for other in range(4)]


@settings(max_examples=40)
@given(st.integers(1, 60), SHARES, st.integers(2, 6))
def test_a_higher_share_adds_own_trajectories_and_takes_others_away(trajectories, shares, n_tasks):
    pools, _ = pools_of(trajectories, shares, n_tasks)
    for task in range(n_tasks):
        for low, high in zip(sorted(shares), sorted(shares)[1:], strict=False):
            fewer, more = set(pools.rows(task, low)), set(pools.rows(task, high))
            own = {row for row in fewer | more if pools.given[row] == task}
            assert fewer & own <= more & own
            assert more - own <= fewer - own


def test_shares_do_not_decide_which_trajectories_there_are():
    """The same trajectories of each task, in the same order, whatever the list of shares."""
    one, episodes = pools_of(20, [1.0, 0.1], 3)
    other, _ = pools_of(20, [0.1, 0.4], 3, episodes=episodes)
    for task in range(3):
        assert (
            one.episodes[one.rows(task, 0.1)].tolist() == other.episodes[other.rows(task, 0.1)].tolist()
        )  # given has the same counts


def test_pools_follow_from_the_seed():
    same = [pools_of(20, [0.5], 3, seed)[0].episodes.tolist() for seed in (4, 4, 5)]
    assert same[0] == same[1]
    assert same[0] != same[2]


def test_no_relevant_trajectory_at_all_can_be_asked_for():
    pools, _ = pools_of(20, [1.0, 0.05], 3)
    assert np.bincount(pools.given[pools.rows(1, 0.0)], minlength=3).tolist() == [10, 0, 10]


def test_too_few_trajectories_are_one_error():
    with pytest.raises(RarlError, match=r"dataset 1: 9 episodes are used, but agent.retrieval.pool of 20 .* takes 10"):
        pools_of(20, [0.5], 3, episodes=[10, 9, 10])
    with pytest.raises(RarlError, match=r"a share of 0\.5 relevant trajectories needs other tasks"):
        pools_of(20, [0.5], 1)
    assert len(pools_of(20, [1.0], 1)[0]) == 20


# -------------------------------------------------------------------------------------------------------------- batches


def test_a_batch_is_drawn_uniformly_from_its_retrieval_dataset(datasets):
    memory, rng = memory_of(datasets), np.random.default_rng(0)
    tasks, shares = np.repeat([2, 7], 300), np.tile([0.5, 0.1], 300)
    rows = memory.choose(tasks, rng, shares)
    assert rows.shape == (600, 6)
    for share in (0.5, 0.1):
        for task in (2, 7):
            drawn = rows[(tasks == task) & (shares == share)]
            assert all(len(set(row)) == 6 for row in drawn.tolist())
            counts = np.bincount(drawn.ravel(), minlength=len(memory.pools))
            there = memory.pools.rows(task, share)
            assert set(np.flatnonzero(counts)) == set(there)
            assert counts[there].min() > 40  # of 75 expected
            assert counts[there].max() < 115


def test_a_batch_of_mixed_origin_holds_what_it_says(datasets):
    memory = memory_of(datasets)
    tasks = np.array([0, 3, 3, 9])
    batch = memory.sample(tasks, np.random.default_rng(1), shares=np.array([0.1, 0.5, 1.0, 0.1]))
    assert batch.x.shape == (4, 6, 5, 11)
    assert (batch.given[2] == 3).all()
    assert len(set(batch.given[0])) > 1
    assert batch.context[:, :, 0].tolist() == [[task] * 6 for task in tasks]
    assert (relevant(tasks, batch) == (batch.given == tasks[:, None])).all()
    steps = [9, 19, 29, 39, 49]
    for g in range(4):
        for i in range(6):
            episode = datasets[batch.given[g, i]].episode(int(batch.episodes[g, i]))
            assert (batch.x[g, i].numpy() == episode.observations[steps]).all()
            assert (batch.a[g, i].numpy() == episode.actions[steps]).all()
            assert (batch.r[g, i].numpy() == episode.rewards[steps]).all()


def test_with_all_relevant_it_is_the_plain_memory_on_the_same_trajectories(datasets):
    """As many trajectories as the datasets hold, all of them relevant: the same batches, but for the order of rows."""
    settings = {"n_traj": 16, "k_traj": 3, "select_by": "none", "step_stride": 10}
    pool = PoolSettings(trajectories=16, relevant=[1.0])
    one = PoolMemory(datasets, RetrievalSettings(**settings, pool=pool)).sample(np.arange(10), np.random.default_rng(0))
    other = Memory(datasets, RetrievalSettings(**settings)).sample(np.arange(10), np.random.default_rng(0))
    assert (one.given == other.given).all()
    for g in range(10):
        order, plain = np.argsort(one.episodes[g]), np.argsort(other.episodes[g])
        assert (one.episodes[g][order] == other.episodes[g][plain]).all()
        assert torch.equal(one.x[g][order], other.x[g][plain])


def test_proposed_trajectories_are_in_the_batch_and_come_first(datasets):
    memory = memory_of(datasets)
    tasks, shares = np.array([1, 4]), np.array([0.5, 0.1])
    proposed = [memory.pools.rows(1, 0.5)[[3, 0]], memory.pools.rows(4, 0.1)[:0]]
    rows = memory.choose(tasks, np.random.default_rng(0), shares, proposed)
    assert rows[0, :2].tolist() == proposed[0].tolist()
    for g, task in enumerate(tasks.tolist()):
        assert len(set(rows[g])) == 6
        assert set(rows[g]) <= set(memory.pools.rows(task, shares[g]))


def test_the_best_by_return_are_kept_of_a_mixed_batch(datasets):
    memory = memory_of(datasets, select_by="return")
    everything = memory_of(datasets, select_by="none")
    tasks, shares = np.arange(10), np.full(10, 0.5)
    kept, drawn = (m.choose(tasks, np.random.default_rng(2), shares) for m in (memory, everything))
    assert kept.shape == (10, 3)
    for g in range(10):
        returns = {row: datasets[memory.pools.given[row]].returns[memory.pools.episodes[row]] for row in drawn[g]}
        assert set(kept[g]) <= set(drawn[g])
        assert sorted(returns[row] for row in kept[g]) == sorted(returns.values())[-3:]


def test_shares_are_drawn_evenly_or_taken_in_turn(datasets):
    memory = memory_of(datasets)
    drawn = memory.draw_shares(3000, np.random.default_rng(0))
    for share in tiny_relevance.SHARES:
        assert 900 < (drawn == share).sum() < 1100
    assert memory.shares_in_turn(5).tolist() == [1.0, 0.5, 0.1, 1.0, 0.5]
    assert (memory.sample(np.arange(4), np.random.default_rng(3)).given >= 0).all()  # drawn if none are given


# ---------------------------------------------------------------------------------------------------------------- index


@pytest.fixture
def network(tiny_root):
    return tiny_project.learner_of(tiny_root, "ra-dqn", tiny_relevance.changes("exact")).network


def test_keys_are_those_of_every_row(datasets, network):
    memory = memory_of(datasets, IndexSettings(), propose="index")
    keys = memory.keys(network)
    assert keys.shape == (len(memory.pools), 5, 8)
    assert not keys.requires_grad
    for row in (0, 57, len(memory.pools) - 1):
        batch = memory.batch_of(np.array([0]), np.array([[row]]))
        torch.testing.assert_close(keys[row], batch.summarise(network).keys[0], rtol=1e-5, atol=1e-6)


def test_queries_are_what_attention_asks_with(datasets, network):
    """Their products with keys, through a softmax, are alpha where nothing is left out."""
    memory = memory_of(datasets, IndexSettings(), propose="index")
    tasks = np.array([2, 5])
    batch = memory.sample(tasks, np.random.default_rng(0))
    x, told = batch.x[:, 0], torch.from_numpy(tasks)[:, None].expand(2, 5)
    network.process.k_traj, network.process.k_states = None, 30
    with torch.no_grad():
        summaries = batch.summarise(network)
        alpha = network(x, told, summaries)[1].alpha
    queries = memory.queries(network, x, tasks)
    assert queries.shape == (2, 5 * 2, 8)
    expected = torch.softmax(queries @ summaries.keys.transpose(1, 2), -1).view(2, 5, 2, -1)
    torch.testing.assert_close(alpha, expected)


def test_the_index_proposes_a_part_and_reports_how_stale_it_was(datasets, network):
    index = IndexSettings(refresh_updates=5, queries=3, share=0.5)
    memory, tasks = memory_of(datasets, index, propose="index"), np.arange(10)
    shares, x = np.full(10, 0.5), memory.sample(tasks, np.random.default_rng(0)).x[:, 0]
    seen = []
    for update in range(12):
        proposed, scalars = memory.propose_to_learn(network, x, tasks, shares, update)
        assert [len(rows) for rows in proposed] == [3] * 10
        assert scalars["index_age"] == update % 5
        assert ("index_refresh_seconds" in scalars) == (update % 5 == 0)
        assert ("index_stale_recall" in scalars) == (update in (5, 10))
        if update == 5:
            assert scalars["index_stale_recall"] == 1  # the network is still the same
            with torch.no_grad():
                for parameter in network.parameters():
                    parameter.mul_(-1.5)
        if update == 10:
            assert scalars["index_stale_recall"] < 1
        seen.append([rows.tolist() for rows in proposed])
    assert seen[0] == seen[5]
    assert seen[9] != seen[10]


def test_only_the_first_states_ask(datasets, network):
    index = IndexSettings(queries=2)
    memory, tasks = memory_of(datasets, index, propose="index"), np.arange(3)
    shares, x = np.full(3, 0.5), memory.sample(tasks, np.random.default_rng(0)).x[:, 0].clone()
    first = memory.propose_to_learn(network, x, tasks, shares, 0)[0]
    x[:, 2:] = 0
    again = memory.propose_to_learn(network, x, tasks, shares, 1)[0]
    assert [rows.tolist() for rows in first] == [rows.tolist() for rows in again]


def test_without_an_index_nothing_is_proposed(datasets, network):
    memory = memory_of(datasets)
    assert memory.propose_to_learn(network, torch.zeros(1, 1, 11), np.array([0]), np.array([0.5]), 0) == (None, {})
