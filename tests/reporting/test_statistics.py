"""Intervals and tests against closed forms, libraries and hand-computed numbers; coverage and power by simulation."""

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
    difference_of,
    holm,
    left_out_best,
    mean_of,
    paired_difference_of,
    power,
    probability_of_improvement,
    score_table,
    smallest_effect,
    t_interval,
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
    interval = difference_of(a, b).interval()
    assert interval.estimate == pytest.approx(23)
    assert interval.high - interval.estimate == pytest.approx(18.12, abs=0.01)


@given(values, values)
@settings(max_examples=60)
def test_intervals_equal_scipy(a, b):
    a, b = np.array(a), np.array(b)
    if a.std() < 1e-6 or b.std() < 1e-6:
        return
    ours, theirs = t_interval(a), stats.t.interval(0.95, len(a) - 1, a.mean(), stats.sem(a))
    np.testing.assert_allclose([ours.low, ours.high], theirs, rtol=1e-7, atol=1e-7)
    ours = difference_of(a, b).interval()
    theirs = stats.ttest_ind(a, b, equal_var=False).confidence_interval()
    np.testing.assert_allclose([ours.low, ours.high], theirs, rtol=1e-6, atol=1e-6)


def test_paired_interval_uses_the_differences():
    a, b = np.array([1.0, 2.0, 30.0]), np.array([0.0, 1.5, 29.0])
    ours, theirs = paired_difference_of(a, b).interval(), t_interval(a - b)
    assert [ours.low, ours.high] == pytest.approx([theirs.low, theirs.high])
    assert paired_difference_of(a, b).interval().low > 0 > difference_of(a, b).interval().low


@pytest.mark.parametrize("one", [[0.4], [0.4, math.nan], [math.inf, 0.4]])
def test_one_seed_has_no_interval(one):
    differences = [difference_of(one, [0.0, 0.1]).interval(), difference_of([0.0, 0.1], one).interval()]
    for interval in (t_interval(one), *differences):
        assert math.isfinite(interval.estimate)
        assert not interval.known
        assert math.isnan(interval.low)
        assert interval.note == "n/a (n=1)"


def test_nothing_is_nan_and_says_so():
    nothing = [t_interval([]), t_interval([math.nan]), difference_of([], [1.0]).interval()]
    for interval in nothing:
        assert math.isnan(interval.estimate)
        assert interval.note == "n/a (n=0)"


def test_equal_seeds_are_marked():
    assert t_interval([0.5, 0.5, 0.5]).note == "identical across seeds"
    assert difference_of([1, 1], [0, 0]).interval() == Interval(1.0, 1.0, 1.0, (2, 2), note="identical across seeds")


def test_a_table_of_seeds_is_refused_where_seeds_are_wanted():
    with pytest.raises(RarlError, match="one-dimensional"):
        t_interval(np.zeros((5, 30)))


def test_score_table_names_its_axes():
    frame = pd.DataFrame({"seed": [0, 0, 1], "task": ["a", "b", "a"], "score": [1.0, 2.0, 3.0]})
    table = score_table(frame, "score")
    assert table.shape == (2, 2)
    assert math.isnan(table.loc[1, "b"])
    with pytest.raises(RarlError, match="more than one row for seed 0"):
        score_table(pd.concat([frame, frame]), "score")
    with pytest.raises(RarlError, match="lacks the columns"):
        score_table(frame.rename(columns={"seed": "run"}), "score")


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


def test_holm_by_hand():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.5, 0.6]), [1.0, 1.0])
    np.testing.assert_allclose(holm([math.nan, 0.02, 0.01]), [math.nan, 0.04, 0.03])
    assert holm([]).size == 0


def test_p_is_scipys_and_that_of_the_interval():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.4, 0.1, 5), rng.normal(0.3, 0.2, 7)
    assert difference_of(a, b).p(0) == pytest.approx(stats.ttest_ind(a, b, equal_var=False).pvalue)
    assert paired_difference_of(a, b[:5]).p(0.05) == pytest.approx(stats.ttest_1samp(a - b[:5], 0.05).pvalue)
    for estimate in (difference_of(a, b, (0, 2)), paired_difference_of(a, b[:5], (0, 2)), mean_of(a, (0, math.inf))):
        for null in (0.02, 0.2, 0.45):
            interval = estimate.interval(1 - estimate.p(null))  # its end is the null
            assert min(abs(interval.low - null), abs(interval.high - null)) < 1e-6
    assert difference_of([1, 1], [0, 0]).p(0) == 0
    assert difference_of([1, 1], [0, 0]).p(1) == 1
    same = [0.3 - 0.25, 0.45 - 0.4, 0.55 - 0.5]  # 0.05 but for rounding
    assert mean_of(same).interval().note == "identical across seeds"
    assert mean_of(same).p(0.05) == 1
    assert math.isnan(difference_of([1.0], [0.0, 0.1]).p(0))


@pytest.mark.parametrize("design", ["independent", "paired"])
def test_power_is_what_is_found(design):
    """Against the library's distribution, and by simulation."""
    rng, n, effect, family = np.random.default_rng(3), 5, 2.5, 4
    drawn = rng.normal(size=(4000, 2, n)) / (1 if design == "independent" else math.sqrt(2))
    a, b = drawn[:, 0] + effect, drawn[:, 1]
    p = (stats.ttest_ind if design == "independent" else stats.ttest_rel)(a, b, axis=1).pvalue
    expected = power(design, 1.0, n, effect, family)
    assert abs((p < 0.05 / family).mean() - expected) < 0.03
    df, error = (8, math.sqrt(2 / n)) if design == "independent" else (4, math.sqrt(1 / n))
    t = stats.t.isf(0.05 / family / 2, df)
    theirs = stats.nct.sf(t, df, effect / error) + stats.nct.cdf(-t, df, effect / error)
    assert expected == pytest.approx(theirs, abs=1e-6)
    assert power(design, 0.01, n, 5.0) == pytest.approx(1)
    assert power(design, 1.0, 10, effect, family) > expected > power(design, 1.0, n, effect / 2, family)


def test_the_smallest_effect_has_a_power_of_four_fifths():
    """By the library's noncentral t."""
    estimate = difference_of([0.0, 1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 2.0, 3.0, 4.0])
    smallest, t = smallest_effect(estimate, family=3), stats.t.isf(0.05 / 3 / 2, 8)
    assert stats.nct.sf(t, 8, smallest / estimate.error) == pytest.approx(0.8, abs=1e-6)


def test_probability_of_improvement_by_hand():
    a, b = pd.DataFrame({"x": [1.0, 2.0], "y": [3.0, 3.0]}), pd.DataFrame({"x": [1.0, 1.5], "y": [4.0, math.nan]})
    assert probability_of_improvement(a, b) == pytest.approx((2.5 / 4 + 0) / 2)  # a tie is one half
    assert math.isnan(probability_of_improvement(a * math.nan, b))


REPETITIONS = 2000
LEAST = 0.93 - 2 * math.sqrt(0.93 * 0.07 / REPETITIONS)  # of a coverage of at least 93 %, by chance


def covered(estimates, truth: float) -> float:
    """The share of intervals that hold the truth; none may hold what cannot be."""
    hits = 0
    for estimate in estimates:
        interval = estimate.interval()
        low, high = estimate.parts[0][2]
        span = (low, high) if len(estimate.parts) == 1 else (low - high, high - low)
        assert span[0] <= interval.low <= interval.estimate <= interval.high <= span[1]
        hits += interval.low <= truth <= interval.high
    return hits / len(estimates)


@pytest.mark.parametrize("n", [5, 10])
@pytest.mark.parametrize(
    ("p", "episodes", "concentration"),
    [(0.5, 64, 50), (0.95, 64, math.inf), (0.95, 64, 50), (0.98, 384, 100), (0.05, 24, 100)],
)
def test_coverage_of_shares(n, p, episodes, concentration):
    """Success of n seeds, each of so many episodes, whose own rates vary by a beta distribution: alone, against others
    that succeed less often, and against the same networks under another condition."""
    rng = np.random.default_rng(0)

    def success(rate: np.ndarray) -> np.ndarray:
        return rng.binomial(episodes, rate) / episodes

    def rates(mean: float) -> np.ndarray:
        shape = (REPETITIONS, n)
        c = concentration
        return np.full(shape, mean) if math.isinf(c) else rng.beta(mean * c, (1 - mean) * c, shape)

    own = rates(p)
    a, b, c = success(own), success(rates(0.8 * p)), success(0.9 * own)
    assert covered([mean_of(x, (0, 1)) for x in a], p) > LEAST
    assert covered([difference_of(x, y, (0, 1)) for x, y in zip(a, b, strict=True)], 0.2 * p) > LEAST
    assert covered([paired_difference_of(x, y, (0, 1)) for x, y in zip(a, c, strict=True)], 0.1 * p) > LEAST


@pytest.mark.parametrize("n", [5, 10])
@pytest.mark.parametrize("variation", [0.05, 0.4])
def test_coverage_of_scores_above_zero(n, variation):
    """Returns as a share of an expert's: gamma-distributed, with much and with little between seeds."""
    rng, shape = np.random.default_rng(0), variation**-2
    a, b = (rng.gamma(shape, mean / shape, (REPETITIONS, n)) for mean in (0.5, 0.1))
    bounds = (0.0, math.inf)
    assert covered([mean_of(x, bounds) for x in a], 0.5) > LEAST
    assert covered([difference_of(x, y, bounds) for x, y in zip(a, b, strict=True)], 0.4) > LEAST


@pytest.mark.filterwarnings("ignore:Precision loss")  # theirs, of a group whose seeds are all the same
@pytest.mark.parametrize("seeds", [[0.0, 0.1, 0.0, 0.0, 0.1], [0.0, 0.0, 0.0, 0.0, 0.025]])
def test_a_group_on_a_bound_is_not_far_from_all_others(seeds):
    """A bounded interval never holds its bound: by it, anything above nothing would be sure."""
    for x in (np.array(seeds), 1 - np.array(seeds)):
        found = difference_of(x, np.full(5, x[0]), (0, 1))
        welch = stats.ttest_ind(x, np.full(5, x[0]), equal_var=False)
        assert found.p(0) == pytest.approx(welch.pvalue)
        assert found.interval().low < 0 < found.interval().high
    assert mean_of(seeds, (0, 1)).p(0) == pytest.approx(stats.ttest_1samp(seeds, 0).pvalue)


def test_far_from_bounds_they_do_not_matter():
    a, b = [0.50, 0.51, 0.49, 0.50, 0.52], [0.40, 0.41, 0.42, 0.40, 0.39]
    for function in (difference_of, paired_difference_of):
        bounded, plain = function(a, b, (0, 1)).interval(), function(a, b).interval()
        assert [bounded.low, bounded.high] == pytest.approx([plain.low, plain.high], abs=3e-4)
    assert difference_of([1.0, 1.0, 1.0], [0.0, 0.0, 0.0], (0, 1)).interval().note == "identical across seeds"
    outside = [0.9, 1.0, 1.1]  # so these are no bounds
    assert mean_of(outside, (0, 1)).interval() == mean_of(outside).interval()
