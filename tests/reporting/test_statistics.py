"""Intervals against closed forms and hand-computed numbers, coverage by simulation, and the rule of verdicts."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rarl.errors import RarlError
from rarl.reporting.statistics import (
    Interval,
    bootstrap_interval,
    interquartile_mean,
    left_out_best,
    paired_interval,
    probability_of_improvement,
    score_table,
    t_interval,
    verdict,
    welch_interval,
)

values = st.lists(st.floats(-1e3, 1e3, allow_nan=False), min_size=2, max_size=12)


def test_t_interval_by_hand():
    # mean 3, sd 1.5811, standard error 0.7071, t(0.975, 4) = 2.7764
    interval = t_interval([1, 2, 3, 4, 5])
    assert interval.estimate == 3
    assert interval.low == pytest.approx(3 - 2.7764451 * math.sqrt(0.5), abs=1e-6)
    assert interval.high == pytest.approx(3 + 2.7764451 * math.sqrt(0.5), abs=1e-6)
    assert interval.n == (5,)


def test_welch_interval_by_hand():
    # The paper's Table 1, 50k: 55 ± 5 against 32 ± 4 (s.e., n=3). Standard error sqrt(25 + 16) = 6.403; degrees of
    # freedom 41² / (25² / 2 + 16² / 2) = 3.816, so t = 2.830 and the half-width is 18.12.
    a = 55 + 5 * math.sqrt(3) * np.array([-1, 0, 1])
    b = 32 + 4 * math.sqrt(3) * np.array([-1, 0, 1])
    interval = welch_interval(a, b)
    assert interval.estimate == pytest.approx(23)
    assert interval.high - interval.estimate == pytest.approx(18.12, abs=0.01)


@given(values, values)
@settings(max_examples=60, deadline=None)
def test_intervals_equal_scipy(a, b):
    a, b = np.array(a), np.array(b)
    if a.std() < 1e-6 or b.std() < 1e-6:
        return
    ours, theirs = t_interval(a), stats.t.interval(0.95, len(a) - 1, a.mean(), stats.sem(a))
    np.testing.assert_allclose([ours.low, ours.high], theirs, rtol=1e-7, atol=1e-7)
    ours = welch_interval(a, b)
    theirs = stats.ttest_ind(a, b, equal_var=False).confidence_interval()
    np.testing.assert_allclose([ours.low, ours.high], theirs, rtol=1e-6, atol=1e-6)


def test_paired_interval_uses_the_differences():
    a, b = np.array([1.0, 2.0, 30.0]), np.array([0.0, 1.5, 29.0])
    assert paired_interval(a, b) == t_interval(a - b)
    assert paired_interval(a, b).low > 0 > welch_interval(a, b).low
    with pytest.raises(RarlError, match="equal shapes"):
        paired_interval(a, b[:2])


@pytest.mark.parametrize("one", [[0.4], [0.4, math.nan], [math.inf, 0.4]])
def test_one_seed_has_no_interval(one):
    table = np.array([[x, x] for x in one])
    differences = [welch_interval(one, [0.0, 0.1]), welch_interval([0.0, 0.1], one)]
    for interval in (t_interval(one), *differences, bootstrap_interval(table)):
        assert math.isfinite(interval.estimate)
        assert not interval.known
        assert math.isnan(interval.low)
        assert interval.note == "n/a (n=1)"


def test_nothing_is_nan_and_says_so():
    nothing = [t_interval([]), t_interval([math.nan]), welch_interval([], [1.0])]
    for interval in (*nothing, bootstrap_interval(np.empty((0, 3)))):
        assert math.isnan(interval.estimate)
        assert interval.note == "n/a (n=0)"


def test_equal_seeds_are_marked():
    assert t_interval([0.5, 0.5, 0.5]).note == "seeds do not differ"
    assert welch_interval([1, 1], [0, 0]) == Interval(1.0, 1.0, 1.0, (2, 2), note="seeds do not differ")


def test_a_table_of_seeds_is_refused_where_seeds_are_wanted():
    with pytest.raises(RarlError, match="one-dimensional"):
        t_interval(np.zeros((5, 30)))


@given(st.permutations(range(5)))
@settings(max_examples=25, deadline=None)
def test_order_of_seeds_does_not_matter(order):
    table = np.random.default_rng(0).normal(size=(5, 6))
    other = table[list(order)]
    for function in (
        lambda x: t_interval(x.mean(axis=1)),
        lambda x: bootstrap_interval(x, repetitions=200),
        lambda x: probability_of_improvement(x, table + 0.1, repetitions=200),
    ):
        ours, theirs = function(table), function(other)
        np.testing.assert_allclose([ours.estimate, ours.low, ours.high], [theirs.estimate, theirs.low, theirs.high])


def test_coverage_of_the_t_interval_and_shortfall_of_the_bootstrap():
    """Five seeds, 30 tasks, half of the variance common to the seed: t holds its level, the bootstrap does not."""
    rng = np.random.default_rng(1)
    hits_t = hits_welch = 0
    for _ in range(2000):
        a, b = rng.normal(0, 1, 5), rng.normal(0, 2, 5)
        interval, difference = t_interval(a), welch_interval(a, b)
        hits_t += interval.low <= 0 <= interval.high
        hits_welch += difference.low <= 0 <= difference.high
    assert 0.93 < hits_t / 2000 < 0.97
    assert 0.93 < hits_welch / 2000 < 0.98
    hits_b = 0
    for i in range(300):
        table = rng.normal(0, math.sqrt(0.5), (5, 1)) + rng.normal(0, math.sqrt(0.5), (5, 30))
        interval = bootstrap_interval(table, lambda x: x.mean(axis=-1), repetitions=400, seed=i)
        hits_b += interval.low <= 0 <= interval.high
    assert 0.70 < hits_b / 300 < 0.92


def test_interquartile_mean():
    assert interquartile_mean(np.arange(8.0)) == 3.5  # 2 cut on each side: mean of 2, 3, 4, 5
    assert interquartile_mean(np.array([0.0, 1.0, 100.0])) == pytest.approx(101 / 3)  # three: nothing is cut
    assert interquartile_mean(np.array([0.0, 1.0, 2.0, 100.0])) == 1.5
    scores = np.random.default_rng(0).normal(size=(4, 37))
    np.testing.assert_allclose(interquartile_mean(scores), stats.trim_mean(scores, 0.25, axis=1))


def test_bootstrap_is_seeded_and_drops_incomplete_seeds():
    table = np.random.default_rng(0).normal(size=(5, 10))
    assert bootstrap_interval(table, seed=3) == bootstrap_interval(table, seed=3)
    assert bootstrap_interval(table, repetitions=50, seed=3) != bootstrap_interval(table, repetitions=50, seed=4)
    holed = np.vstack([table, table[0]])
    holed[5, 2] = math.nan
    assert bootstrap_interval(holed, seed=3) == bootstrap_interval(table, seed=3)
    assert bootstrap_interval(holed).n == (5,)


def test_probability_of_improvement_by_hand():
    a = np.array([[1.0, 1.0], [3.0, 1.0]])
    b = np.array([[2.0, 1.0], [2.0, 0.0]])
    # Task 1: 1<2, 1<2, 3>2, 3>2 -> 1/2. Task 2: tie, win, tie, win -> 3/4.
    assert probability_of_improvement(a, b, repetitions=50).estimate == pytest.approx(0.625)
    assert probability_of_improvement(a, a, repetitions=50).estimate == pytest.approx(0.5)
    one = pd.DataFrame([[1.0, 2.0]], columns=["x", "y"])
    with pytest.raises(RarlError, match="same tasks"):
        probability_of_improvement(one, one[["y", "x"]])


def test_score_table_names_its_axes():
    frame = pd.DataFrame({"seed": [0, 0, 1], "task": ["a", "b", "a"], "score": [1.0, 2.0, 3.0]})
    table = score_table(frame, "score")
    assert table.shape == (2, 2)
    assert math.isnan(table.loc[1, "b"])
    with pytest.raises(RarlError, match="more than one row for seed 0"):
        score_table(pd.concat([frame, frame]), "score")
    with pytest.raises(RarlError, match="lacks the columns"):
        score_table(frame.rename(columns={"seed": "run"}), "score")


def between(low: float, high: float, n: int = 5) -> Interval:
    return Interval((low + high) / 2, low, high, (n, n))


ALONE = Interval(0.3, math.nan, math.nan, (1, 1), note="n/a (n=1)")


@pytest.mark.parametrize(
    ("kind", "interval", "outcome"),
    [
        ("superiority", between(0.01, 0.2), "supported"), ("superiority", between(-0.2, -0.01), "contradicted"),
        ("superiority", between(-0.01, 0.2), "inconclusive"), ("superiority", between(0.01, 0.2, n=4), "inconclusive"),
        ("equivalence", between(-0.04, 0.04), "supported"), ("equivalence", between(0.01, 0.04), "supported"),
        ("equivalence", between(0.06, 0.09), "contradicted"), ("equivalence", between(-0.09, -0.06), "contradicted"),
        ("equivalence", between(-0.01, 0.06), "inconclusive"),
        ("equivalence", between(-0.04, 0.04, n=4), "inconclusive"),
        ("no gain", between(-0.02, 0.03), "supported"),
        ("no gain", between(-0.60, -0.40), "supported"),  # "no better" leaves room for worse
        ("no gain", between(0.01, 0.04), "supported"), ("no gain", between(0.02, 0.06), "inconclusive"),
        ("no gain", between(0.06, 0.20), "contradicted"), ("no gain", between(0.01, 0.04, n=4), "inconclusive"),
        ("estimate", between(-1, 1), "estimated"), ("estimate", between(-1, 1, n=2), "inconclusive"),
        ("count", between(1.4, 1.4, n=3), "estimated"), ("count", between(1.3, 1.5), "inconclusive"),
        ("count", ALONE, "estimated"), ("superiority", ALONE, "inconclusive"), ("superiority", None, "not tested"),
        ("superiority", Interval(math.nan, math.nan, math.nan, (0, 5)), "not tested"),
    ],
)  # fmt: skip
def test_verdicts(kind, interval, outcome):
    assert verdict(kind, interval, margin=0.05).outcome == outcome


def test_verdicts_name_what_is_missing():
    assert verdict("superiority", between(0.1, 0.2, n=1)).reason == "1 seed, 5 needed"
    assert verdict("superiority", between(0.1, 0.2, n=3), min_seeds=3).outcome == "supported"
    with pytest.raises(RarlError, match="did you mean 'superiority'"):
        verdict("superior", None)
    for kind in ("equivalence", "no gain"):
        with pytest.raises(RarlError, match="needs a margin above 0"):
            verdict(kind, between(0, 1))


def test_the_left_out_best_by_hand():
    scores = pd.DataFrame({"a": [1.0, 2.0, 9.0], "b": [4.0, 4.0, 3.0], "c": [0.0, 0.0, 0.0]}, index=[0, 1, 7])
    # Without seed 0: a 5.5, b 3.5. Without seed 1: a 5, b 3.5. Without seed 7: a 1.5, b 4.
    assert left_out_best(scores) == {0: ("a", 1.0), 1: ("a", 2.0), 7: ("b", 3.0)}
    assert left_out_best(scores.iloc[:1]) == {}
    scores.loc[1, "c"] = math.nan
    assert set(left_out_best(scores)) == {0, 7}  # a seed that lacks a setting
    assert left_out_best(pd.DataFrame({"x": [1.0, 1.0], "y": [1.0, 1.0]})) == {0: ("x", 1.0), 1: ("x", 1.0)}


def test_the_left_out_best_of_equal_settings_gains_nothing():
    """Of nine equal settings, the best of its own seeds is 0.6 standard errors of a seed too good; this one is not."""
    rng = np.random.default_rng(0)
    crossed, own = [], []
    for _ in range(400):
        scores = pd.DataFrame(rng.normal(size=(5, 9)))
        crossed.append(np.mean([score for _, score in left_out_best(scores).values()]))
        own.append(scores.mean().max())
    assert abs(np.mean(crossed)) < 0.06
    assert np.mean(own) > 0.5
