"""Verdicts by their rules, on simulated seeds: each that there is, their order, and how often they are wrong."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rarl.reporting.answers import rules_table
from rarl.reporting.claims import Rules
from rarl.reporting.rules import (
    BY_KIND,
    CONTRADICTED,
    EQUIVALENT,
    EXCLUDED,
    FIRST,
    INCONCLUSIVE,
    MEASURED,
    NOT_TESTED,
    OUTCOMES,
    SUPPORTED,
    VOID,
    Case,
    Judged,
    judge,
    turns,
)
from rarl.reporting.statistics import Samples

RULES = Rules()
SPREAD = np.array([-0.02, -0.01, 0.0, 0.01, 0.02])  # sd 0.0158: a Welch interval is ±0.0231, of 5 v 5


def samples(mean: float, times: float = 1.0, n: int = 5) -> Samples:
    return Samples(dict(enumerate(mean + times * SPREAD[:n])), dict(enumerate(times * SPREAD[:n])))


def alone(case: Case):
    return judge([case], RULES)[0]


@pytest.mark.parametrize(
    ("kind", "mean", "times", "outcome", "reading"),
    [
        ("superiority", 0.2, 1, SUPPORTED, "helps"), ("superiority", -0.2, 1, CONTRADICTED, "costs"),
        ("superiority", 0.02, 1, EQUIVALENT, "same"),
        ("superiority", 0.025, 1, EQUIVALENT, "same"),  # above 0 too: what is too small to count comes first
        ("superiority", 0.04, 1, SUPPORTED, "helps"), ("superiority", 0.05, 4, INCONCLUSIVE, "open"),
        ("equivalence", 0.0, 1, SUPPORTED, "same"), ("equivalence", 0.2, 1, CONTRADICTED, "helps"),
        ("equivalence", -0.2, 1, CONTRADICTED, "costs"), ("equivalence", 0.06, 1, INCONCLUSIVE, "open"),
        ("no gain", 0.0, 1, SUPPORTED, "same"), ("no gain", -0.6, 1, SUPPORTED, "costs"),
        ("no gain", 0.2, 1, CONTRADICTED, "helps"), ("no gain", 0.04, 1, INCONCLUSIVE, "open"),
        ("estimate", 0.2, 1, MEASURED, "open"),
    ],
)  # fmt: skip
def test_verdicts_of_one(kind, mean, times, outcome, reading):
    said = alone(Case(samples(mean, times), kind, 0.05))
    assert (said.outcome, said.reading) == (outcome, reading)


def test_an_effect_that_may_be_too_small_to_count_is_called_that():
    assert alone(Case(samples(0.04), margin=0.05)).words == f"{SUPPORTED}, perhaps inside ±0.05"
    assert alone(Case(samples(-0.04), margin=0.05)).words == f"{CONTRADICTED}, perhaps inside ±0.05"
    assert alone(Case(samples(0.06), margin=0.05)).words == SUPPORTED
    assert alone(Case(samples(0.04))).words == SUPPORTED


def test_what_would_change_a_verdict():
    """By hand: the interval of five against five is ±0.0231, and what lies inside ±0.05 with it is equivalent."""
    half = 0.0230600
    one, other, none = (
        turns([Case(samples(0.2), margin=0.05)], RULES)[0],
        turns([Case(samples(0.0))], RULES)[0],
        Case(None),
    )
    assert (one.outcome, one.by) == (EQUIVALENT, pytest.approx(-0.2 + 0.05 - half, abs=1e-3))
    assert other.outcome in (SUPPORTED, CONTRADICTED)
    assert abs(other.by) == pytest.approx(half, abs=1e-3)
    # Beside others the interval is that of Holm's correction.
    beside, missing = turns([Case(samples(0.2)), none], RULES)
    assert (beside.outcome, missing) == (INCONCLUSIVE, None)
    assert beside.by == pytest.approx(-0.2 + samples(0.2).interval(0.975).high - 0.2, abs=1e-3)
    assert (
        turns([Case(samples(0.2), void="learned")], RULES) == turns([Case(samples(0.2), "estimate")], RULES) == [None]
    )
    assert turns([Case(samples(9.0))], RULES) == [None]  # far from any other


def test_the_papers_size():
    """Beside "supported"; alone where the sign is open; larger too; with its own sign."""
    supported = alone(Case(samples(0.2), margin=0.05, size=0.4))
    assert (supported.outcome, supported.size, supported.words) == (
        SUPPORTED, "smaller", "supported, smaller than the paper's"
    )  # fmt: skip
    assert alone(Case(samples(0.2), margin=0.05, size=0.1)).size == "larger"
    assert alone(Case(samples(0.2), margin=0.05, size=0.21)).words == SUPPORTED
    wide = alone(Case(samples(0.05, 4), margin=0.05, size=0.4))
    assert (wide.outcome, wide.size) == (EXCLUDED, "smaller")
    assert alone(Case(samples(0.05, 4), margin=0.05, size=-0.4)).size == "smaller"  # nearer to 0 than -0.4
    assert alone(Case(samples(0.2), "estimate", size=0.4)).size == "smaller"
    assert alone(Case(samples(-0.2), margin=0.05, size=0.4)).size == "smaller"


def test_what_comes_before_the_rules_of_a_kind():
    void = alone(Case(samples(0.2), margin=0.05, void="learned: 0.01 [-0.02, 0.04]"))
    assert (void.outcome, void.reason, void.reading) == (VOID, "learned: 0.01 [-0.02, 0.04]", "void")
    assert alone(Case(None, margin=0.05)).outcome == NOT_TESTED
    few = alone(Case(samples(0.2, n=3), margin=0.05))
    assert (few.outcome, few.reason) == (INCONCLUSIVE, "3 seeds, 5 needed")
    assert math.isfinite(few.tests["sign"][0])


def test_counts_need_one_seed_and_no_two_that_differ():
    assert alone(Case(Samples({0: 1.4}, design="single"), "count")).outcome == MEASURED
    assert alone(Case(Samples({0: 1.4, 1: 1.4}, design="single"), "count")).outcome == MEASURED
    assert alone(Case(Samples({0: 1.4, 1: 1.5}, design="single"), "count")).outcome == INCONCLUSIVE


def test_a_family_is_corrected_by_holm():
    """One p of 0.04 alone is enough, among four it is not; members that are not there yet count."""
    edge = samples(0.0231, 1)  # p just below 0.05
    assert 0.045 < alone(Case(edge)).tests["sign"][0] < 0.05
    assert alone(Case(edge)).outcome == SUPPORTED
    with_others = judge([Case(edge), Case(samples(0.3)), Case(samples(0.01)), Case(None)], RULES)
    assert [v.outcome for v in with_others] == [INCONCLUSIVE, SUPPORTED, INCONCLUSIVE, NOT_TESTED]
    p, adjusted = with_others[0].tests["sign"]
    assert adjusted == pytest.approx(3 * p)  # the smallest of the three that are left of four
    assert with_others[0].smallest > alone(Case(edge)).smallest


def test_families_without_effects_are_seldom_wrong():
    """400 families of eight true nulls, five seeds each: a false verdict in at most about one in twenty."""
    rng, wrong = np.random.default_rng(0), 0
    for _ in range(400):
        drawn = rng.normal(size=(8, 2, 5))
        family = [Case(Samples(dict(enumerate(a)), dict(enumerate(b))), margin=0.01) for a, b in drawn]
        wrong += any(v.outcome in (SUPPORTED, CONTRADICTED) for v in judge(family, RULES))
    assert wrong / 400 < 0.05 + 2 * math.sqrt(0.05 * 0.95 / 400)


def test_the_smallest_effect_is_found_in_four_of_five():
    """In a family of four, by the deviation of the runs themselves; what it promises is about what is found."""
    rng, found, promised = np.random.default_rng(1), 0, []
    for _ in range(400):
        a, b = rng.normal(0.0, 1.0, 10), rng.normal(0.0, 1.0, 10)
        family = [Case(Samples(dict(enumerate(a)), dict(enumerate(b)))), *[Case(None)] * 3]
        promised.append(judge(family, RULES)[0].smallest)
    for _ in range(400):
        a, b = rng.normal(np.mean(promised), 1.0, 10), rng.normal(0.0, 1.0, 10)
        family = [Case(Samples(dict(enumerate(a)), dict(enumerate(b)))), *[Case(None)] * 3]
        found += judge(family, RULES)[0].outcome == SUPPORTED
    assert abs(found / 400 - 0.8) < 0.06


def test_one_quantity_has_one_verdict():
    judged, of = Judged(RULES), samples(0.2)
    judged.add([Case(of, margin=0.05), Case(samples(0.01), margin=0.05)])
    first = judged.of(of)
    judged.add([Case(of, margin=0.5)] + [Case(samples(0.02 * i)) for i in range(9)])  # another family, another margin
    assert judged.of(of) == first
    assert judged.of(Samples(dict(of.a), dict(of.b))) == first
    assert judged.of(Samples(of.b, of.a)).reading == "costs"
    assert judged.of(samples(0.7)) is None
    assert judged.of(None) is None


def test_the_page_states_these_rules():
    """Every verdict that there is has a rule on the page, in the order in which they are asked."""
    text = str(rules_table()).replace("&#8203;", "")
    rows = [line.split(" | ") for line in text.splitlines()[2:]]
    assert len(rows) == len(FIRST) + sum(len(rules) for _, rules in BY_KIND.values()) + 1
    assert {row[1].replace("&#39;", "'") for row in rows} == set(OUTCOMES)
