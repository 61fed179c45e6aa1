"""The sum tree against a plain array."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rarl.replay.sum_tree import SumTree


def test_by_hand():
    tree = SumTree(5)
    tree.set(np.array([0, 2, 4]), np.array([1.0, 2.0, 0.5]))
    assert tree.total == 3.5
    assert tree.weights.tolist() == [1.0, 0.0, 2.0, 0.0, 0.5]
    assert tree.find(np.array([0.0, 0.99, 1.0, 2.99, 3.0, 3.49])).tolist() == [0, 0, 2, 2, 4, 4]
    tree.set(np.array([2, 2]), np.array([7.0, 0.0]))
    assert tree.find(np.array([0.99, 1.0])).tolist() == [0, 4]


@given(
    st.integers(1, 40).flatmap(
        lambda capacity: st.tuples(
            st.just(capacity),
            st.lists(
                st.lists(
                    st.tuples(st.integers(0, capacity - 1), st.integers(0, 2**20).map(lambda k: k / 1024)), max_size=8
                ),
                max_size=8,
            ),
        )
    )
)
@settings(max_examples=150)
def test_against_a_plain_array(case):
    capacity, updates = case
    tree, plain = SumTree(capacity), np.zeros(capacity)
    for update in updates:
        indices = np.array([i for i, _ in update], dtype=np.int64)
        weights = np.array([w for _, w in update])
        tree.set(indices, weights)
        for i, w in update:
            plain[i] = w
        np.testing.assert_array_equal(tree.weights, plain)
        assert tree.total == plain.sum()  # sums of these weights are exact
        if plain.sum() > 0:
            mass = np.linspace(0, plain.sum(), 64, endpoint=False)
            np.testing.assert_array_equal(tree.find(mass), np.searchsorted(plain.cumsum(), mass, side="right"))


@given(st.lists(st.sampled_from([0.0, 1e-12, 1e-6, 0.1, 1.0, 1e6, 1e12]), min_size=2, max_size=70))
@settings(max_examples=150)
def test_a_weight_of_zero_is_never_drawn(weights):
    tree = SumTree(len(weights))
    tree.set(np.arange(len(weights)), np.array(weights))
    if tree.total == 0:
        return
    mass = np.nextafter(np.linspace(0, tree.total, 200), -np.inf).clip(0)
    drawn = tree.find(np.concatenate([mass, [np.nextafter(tree.total, 0), tree.total]]))
    assert (drawn < len(weights)).all()
    assert (np.array(weights)[drawn] > 0).all()


def test_draws_are_in_proportion_and_one_from_each_part():
    weights = np.array([1.0, 0.0, 3.0, 2.0, 2.0])
    tree = SumTree(5)
    tree.set(np.arange(5), weights)
    rng = np.random.default_rng(0)
    # Eight equal parts of a total of 8: always exactly these.
    assert tree.sample(8, rng).tolist() == [0, 2, 2, 2, 3, 3, 4, 4]
    drawn = np.concatenate([tree.sample(3, rng) for _ in range(4000)])
    np.testing.assert_allclose(np.bincount(drawn) / len(drawn), weights / 8, atol=0.01)


def test_the_tree_is_a_function_of_its_weights():
    rng = np.random.default_rng(1)
    weights = rng.random(1000)
    once, often = SumTree(1000), SumTree(1000)
    once.set(np.arange(1000), weights)
    for _ in range(50):
        often.set(rng.integers(1000, size=64), rng.random(64) * 1e6)
    for part in np.array_split(rng.permutation(1000), 7):
        often.set(part, weights[part])
    assert often.total == once.total
    mass = rng.random(500) * once.total
    np.testing.assert_array_equal(often.find(mass), once.find(mass))


def test_weights_cannot_be_written_to_by_mistake():
    tree = SumTree(3)
    with pytest.raises(ValueError, match="read-only"):
        tree.weights[0] = 1.0
