"""Intervals, tests and power on per-seed numbers: arrays in, small immutable records out.

The seed is the unit of replication: one network plays all tasks, so its scores on them are not independent.
Every function therefore wants one aggregate per seed, or a table with one row per seed.

Quantities that cannot leave their bounds (success rates, shares, scores of at least 0) have intervals that do not
either: of a mean, also of paired differences, Student-t on the logit or log scale by the delta method; of a difference
of independent shares, from those of its two means by the method of variance estimates recovery (Newcombe 1998; Zou and
Donner 2008), with Welch's degrees of freedom. Without bounds, and far from them, they are Student-t and Welch-t; and
where a whole group lies on a bound, from which a bounded interval of the other one always keeps away.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import expit, logit, nctdtr, nctdtrinc, stdtr, stdtrit

from rarl.errors import RarlError
from rarl.reporting.claims import LEVEL

Bounds = tuple[float, float]
UNBOUNDED: Bounds = (-math.inf, math.inf)
SHARES: Bounds = (0.0, 1.0)
POSITIVE: Bounds = (0.0, math.inf)
POWER = 0.8
_FARTHEST = 1e3  # standard errors; where no bounded interval is looked for


@dataclass(frozen=True)
class Interval:
    """An estimate with a confidence interval; `low` and `high` are NaN where no interval can be given.

    n: how many seeds it rests on, one number per group. note: why there is no interval, or a warning about it.
    """

    estimate: float
    low: float
    high: float
    n: tuple[int, ...]
    note: str = ""

    @property
    def known(self) -> bool:
        """Whether there is an interval at all (at least two seeds in every group)."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def seeds(self) -> str:
        """How many, per group: "5 v 5"."""
        return " v ".join(map(str, self.n))


def finite(values: np.ndarray | pd.Series | list[float]) -> np.ndarray:
    """The finite entries of a one-dimensional array, as float64."""
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1:
        raise RarlError(f"per-seed values must be one-dimensional, one number a seed, not of shape {values.shape}")
    return values[np.isfinite(values)]


def _t(df: float, level: float) -> float:
    """The two-sided quantile; from the lower tail, which is exact where the level is close to 1."""
    return -float(stdtrit(df, (1 - level) / 2))


@dataclass(frozen=True)
class Estimate:
    """A mean, or a difference of two, with its standard error.

    parts: (mean, its standard error, bounds) of each group.
    """

    estimate: float
    error: float
    df: float
    n: tuple[int, ...]
    parts: Sequence[tuple[float, float, Bounds]]

    def interval(self, level: float = LEVEL) -> Interval:
        """The two-sided interval at a level."""
        if min(self.n) < 2:
            return Interval(self.estimate, math.nan, math.nan, self.n, f"n/a (n={min(self.n)})")
        note = "" if self.error > 0 else "identical across seeds"
        return Interval(self.estimate, *self._ends(_t(self.df, level)), self.n, note)

    def p(self, null: float) -> float:
        """Two-sided: 1 less the highest level at which the interval does not hold `null`; NaN without an interval."""
        if min(self.n) < 2:
            return math.nan
        there = math.isclose(self.estimate, null, rel_tol=1e-9, abs_tol=1e-12)
        if self.error == 0 or there:
            return float(there)
        side = 0 if self.estimate > null else 1

        def beyond(t: float) -> float:
            return self._ends(t)[side] - null

        # Else no interval within the bounds may hold it.
        if all(bounds == UNBOUNDED for _, _, bounds in self.parts) or beyond(0.0) * beyond(_FARTHEST) >= 0:
            t = abs(self.estimate - null) / self.error
        else:
            t = float(brentq(beyond, 0.0, _FARTHEST))
        return 2 * float(stdtr(self.df, -t))

    def _ends(self, t: float) -> tuple[float, float]:
        ends = [_within(mean, t * error, bounds) for mean, error, bounds in self.parts]
        if len(ends) == 1:
            return ends[0]
        (a, *_), (b, *_) = self.parts
        (a_low, a_high), (b_low, b_high) = ends
        return (self.estimate - math.hypot(a - a_low, b_high - b),
                self.estimate + math.hypot(a_high - a, b - b_low))  # fmt: skip


def _within(mean: float, half: float, bounds: Bounds) -> tuple[float, float]:
    """mean ± half, moved to where the quantity can be. At a bound seeds do not differ."""
    low, high = bounds
    if half == 0 or bounds == UNBOUNDED or not low < mean < high:
        return mean - half, mean + half
    if math.isinf(high):
        ratio = math.exp(min(half / (mean - low), 700.0))
        return low + (mean - low) / ratio, low + (mean - low) * ratio
    share = (mean - low) / (high - low)
    shift = half / ((high - low) * share * (1 - share))
    return tuple(low + (high - low) * float(expit(logit(share) + sign * shift)) for sign in (-1, 1))  # type: ignore


def mean_of(values: np.ndarray | pd.Series | list[float], bounds: Bounds = UNBOUNDED) -> Estimate:
    """The mean of per-seed values (n,). A value outside, by more than rounding, shows that `bounds` are none."""
    x = finite(values)
    if x.size and np.allclose(x, inside := np.clip(x, *bounds), rtol=0, atol=1e-6):
        x = inside
    elif x.size:
        bounds = UNBOUNDED
    mean = float(x.mean()) if x.size else math.nan
    error = float(x.std(ddof=1)) / math.sqrt(x.size) if x.size > 1 else math.nan
    if error < 1e-14 * np.abs(x).sum():  # differences that are the same but for rounding
        error = 0.0
    return Estimate(mean, error, x.size - 1, (x.size,), [(mean, error, bounds)])


def difference_of(a: np.ndarray | list[float], b: np.ndarray | list[float], bounds: Bounds = UNBOUNDED) -> Estimate:
    """mean(a) - mean(b) of independent seeds, a (n_a,) and b (n_b,), of unequal variance."""
    of_a, of_b = (mean_of(x, _of_difference(bounds)) for x in (a, b))
    if any(found.error == 0 and found.estimate in bounds for found in (of_a, of_b)):
        of_a, of_b = mean_of(a), mean_of(b)
    n, parts = of_a.n + of_b.n, [*of_a.parts, *of_b.parts]
    va, vb = of_a.error**2, of_b.error**2
    df = n[0] + n[1] - 2.0
    if min(n) > 1 and va + vb > 0:
        # Relative shares first: squares of tiny variances would underflow to 0 / 0.
        wa, wb = va / (va + vb), vb / (va + vb)
        df = 1 / (wa**2 / (n[0] - 1) + wb**2 / (n[1] - 1))
    return Estimate(of_a.estimate - of_b.estimate, math.sqrt(va + vb), df, n, parts)


def _of_difference(bounds: Bounds) -> Bounds:
    """A difference is bounded only where both ends of its parts are."""
    return bounds if all(map(math.isfinite, bounds)) else UNBOUNDED


def paired_difference_of(
    a: np.ndarray | list[float], b: np.ndarray | list[float], bounds: Bounds = UNBOUNDED
) -> Estimate:
    """The mean of a - b, (n,) each, of the same networks."""
    low, high = _of_difference(bounds)
    return mean_of(np.subtract(a, b), (low - high, high - low))


def t_interval(
    values: np.ndarray | pd.Series | list[float], level: float = LEVEL, bounds: Bounds = UNBOUNDED
) -> Interval:
    """Of the mean of per-seed values (n,). With one seed there is an estimate and no interval."""
    return mean_of(values, bounds).interval(level)


def power(design: str, sd: float, n: int, effect: float, family: int = 1, level: float = LEVEL) -> float:
    """The chance that the two-sided test of a difference is significant.

    Args:
      design: "independent" (two groups of n seeds) or "paired" (n seeds twice).
      sd: between seeds; of pairs that of their differences.
      family: tests in its family, all of which Holm's correction has still to reject.
    """
    pairs = {"independent": 2, "paired": 1}[design]
    df, error = pairs * (n - 1), sd * math.sqrt(pairs / n)
    t, shift = _t(df, 1 - (1 - level) / family), abs(effect) / error
    # The other side's tail is not computed where it is too small for its library.
    return float(1 - nctdtr(df, shift, t) + np.nan_to_num(nctdtr(df, shift, -t)))


def smallest_effect(estimate: Estimate, family: int = 1, level: float = LEVEL) -> float:
    """The difference that a test with this standard error shows with a chance of `POWER`; NaN without one."""
    if min(estimate.n) < 2 or not estimate.error > 0:
        return math.nan
    return estimate.error * float(nctdtrinc(estimate.df, 1 - POWER, _t(estimate.df, 1 - (1 - level) / family)))


def holm(p: Sequence[float]) -> np.ndarray:
    """Adjusted p of one family, (n,) -> (n,): Holm's step-down method. NaN (not tested yet) counts and stays."""
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(np.where(np.isnan(values), 1.0, values), kind="stable")
    steps = np.minimum(1.0, (len(values) - np.arange(len(values))) * np.nan_to_num(values[order], nan=1.0))
    adjusted = np.empty_like(values)
    adjusted[order] = np.maximum.accumulate(steps)
    return np.where(np.isnan(values), np.nan, adjusted)


@dataclass(frozen=True)
class Samples:
    """One number per seed of what is compared, seed -> value, within bounds.

    design: "independent" (Welch, a - b), "paired" (same seeds, a - b) or "single" (a alone; b, if given, is what
    defined the question). detail: one sentence for tables; must not hold anything that the numbers do not say.
    """

    a: Mapping[int, float]
    b: Mapping[int, float] = field(default_factory=dict)
    design: Literal["independent", "paired", "single"] = "independent"
    detail: str = ""
    bounds: Bounds = UNBOUNDED

    @property
    def estimate(self) -> Estimate:
        """By the design."""
        if self.design == "independent":
            return difference_of(list(self.a.values()), list(self.b.values()), self.bounds)
        if self.design == "paired":
            seeds = sorted(set(self.a) & set(self.b))
            return paired_difference_of([self.a[s] for s in seeds], [self.b[s] for s in seeds], self.bounds)
        # A second group that only defines the question (which tasks count) must have its seeds as well.
        found = mean_of(list(self.a.values()), self.bounds)
        return replace(found, n=(len(self.a), len(self.b))) if self.b else found

    def interval(self, level: float = LEVEL) -> Interval:
        """The interval that fits the design."""
        return self.estimate.interval(level)


def independent(a: Mapping[int, float], b: Mapping[int, float], *, bounds: Bounds = UNBOUNDED) -> Samples | None:
    """Two groups of seeds; None where one has none."""
    return Samples(a, b, bounds=bounds) if a and b else None


def paired(a: Mapping[int, float], b: Mapping[int, float], *, bounds: Bounds = UNBOUNDED) -> Samples | None:
    """The same seeds twice; None without a seed that has both."""
    return Samples(a, b, design="paired", bounds=bounds) if set(a) & set(b) else None


def seed_means(table: pd.DataFrame) -> dict[int, float]:
    """(seeds, tasks) -> seed -> mean over tasks. A seed that lacks a task's score is left out."""
    table = table.dropna()
    return {int(seed): float(value) for seed, value in table.mean(axis=1).items()} if table.shape[1] else {}


def score_table(frame: pd.DataFrame, value: str) -> pd.DataFrame:
    """Long form (columns seed, task, `value`) to one row per seed and one column per task; absent cells are NaN.

    Named columns cannot be transposed by accident, which a bare array can (and would give an interval of width 0).
    """
    missing = {"seed", "task", value} - set(frame.columns)
    if missing:
        raise RarlError(f"score table lacks the columns {sorted(missing)}")
    if frame.duplicated(["seed", "task"]).any():
        seed, task = frame.loc[frame.duplicated(["seed", "task"]), ["seed", "task"]].iloc[0]
        raise RarlError(f"score table has more than one row for seed {seed}, task {task!r}")
    return frame.pivot(index="seed", columns="task", values=value)


def probability_of_improvement(a: pd.DataFrame, b: pd.DataFrame) -> float:
    """P(a > b) over pairs of seeds, ties as one half, mean over tasks (Agarwal et al. 2021); NaN without any.

    Args:
      a, b: (seeds, tasks), the same tasks.
    """
    wins = [np.mean((np.sign(np.subtract.outer(finite(a[task]), finite(b[task]))) + 1) / 2)
            for task in a if a[task].notna().any() and b[task].notna().any()]  # fmt: skip
    return float(np.mean(wins)) if wins else math.nan


def left_out_best(scores: pd.DataFrame) -> dict[int, tuple[Any, float]]:
    """Cross-fitted "best of several": seed -> the setting that the other seeds choose, and its score at this one, so
    that nothing is gained by chance. scores: (seeds, settings); seeds that lack a setting are left out."""
    scores = scores.astype(float).dropna()
    if len(scores) < 2 or not scores.shape[1]:
        return {}
    found = {}
    for seed in scores.index:
        chosen = scores.drop(index=seed).mean().idxmax()
        found[int(seed)] = (chosen, float(scores.loc[seed, chosen]))
    return found
