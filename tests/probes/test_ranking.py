"""Measures of rankings, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from rarl.probes.ranking import recall_at_k, reciprocal_rank

HITS = np.array([False, True, False, True, True])


@pytest.mark.parametrize(
    ("k", "relevant", "recall"),
    [(1, 3, 0.0), (2, 3, 1 / 2), (4, 3, 2 / 3), (5, 3, 1.0), (4, 8, 2 / 4), (64, 8, 3 / 8), (64, 3, 1.0)],
)
def test_recall_counts_what_k_places_could_hold(k, relevant, recall):
    assert recall_at_k(HITS, k, relevant) == pytest.approx(recall)


def test_nothing_found_is_no_recall():
    assert recall_at_k(np.array([], dtype=bool), 10, 3) == 0
    assert reciprocal_rank(np.array([], dtype=bool)) == 0
    assert reciprocal_rank(np.zeros(4, dtype=bool)) == 0


def test_the_reciprocal_rank_is_that_of_the_first_hit():
    assert reciprocal_rank(HITS) == 1 / 2
    assert reciprocal_rank(HITS[1:]) == 1
    assert reciprocal_rank(HITS[2:]) == 1 / 2
    assert reciprocal_rank(np.array([False] * 9 + [True])) == pytest.approx(0.1)
