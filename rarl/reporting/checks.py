"""Validity checks: what must hold of runs, else what they measure means nothing.

Functions (study, test, rules) -> `Check`, or None where the runs recorded nothing to tell it by. Of a comparison one of
its agents must pass: if neither did, nothing was compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rarl.reporting import tables
from rarl.reporting.claims import ClaimTest, Rules
from rarl.reporting.sections.attention import last_records
from rarl.reporting.sections.relevance import chance, quantities, share_of
from rarl.reporting.statistics import SHARES, Interval, paired, seed_means, t_interval
from rarl.reporting.study import Study, Variant


class Check(NamedTuple):
    """passed: whether it holds. found: in words, with the number."""

    passed: bool
    found: str


def learned(study: Study, test: ClaimTest, rules: Rules) -> Check | None:
    """An agent scores more at its end than at its start, or than random play."""
    random, found = study.score.marks.get("random"), []
    for variant in _variants(study, test):
        last, first = (study.seed_scores(variant, test.task_set, at) for at in ("last", "first"))
        change = paired(last, first, bounds=study.bounds)
        if change is not None:
            found.append(_above(0, variant, change.interval(rules.level), "above its start"))
        if last and random is not None:
            what = f"(random play {random:.3g})"
            found.append(_above(random, variant, study.interval(last, rules.level), what))
    return _any(found)


def reads(study: Study, test: ClaimTest, rules: Rules) -> Check | None:
    """Greedy actions change with what is retrieved: when it is exchanged for that of another task, or drawn anew.

    That they change when nothing is read shows no more than that something is added, whatever it is.
    """
    found = []
    for variant in _variants(study, test):
        last = last_records(study, variant, test.task_set)
        if last["flips_other"].notna().any():
            interval = t_interval(last.groupby("seed")["flips_other"].mean(), rules.level, SHARES)
            what = f"of actions depend on what it is (needed {rules.reads:.3g})"
            found.append(_above(rules.reads, variant, interval, what))
    return _any(found)


def attends(study: Study, test: ClaimTest, rules: Rules) -> Check | None:
    """Attention asks: more of it goes to trajectories of the level that is played than that level's share of what could
    be attended to."""
    variant = study.variant(test.sides()[0])
    others, could = (study.attention(variant, test.task_set, f"other_{what}") for what in ("share", "candidates"))
    if others.empty or could.empty:
        return None
    more = paired(seed_means(could), seed_means(others), bounds=SHARES)
    what = "more attention to the own level than by chance"
    return _any([_above(0, variant, more.interval(rules.level), what)] if more is not None else [])


def control(study: Study, test: ClaimTest, rules: Rules) -> Check | None:
    """The same probe finds what is there: retrieving as trained is better than nothing retrieved."""
    variant = study.variant(test.sides()[0])
    samples = study.acted(variant, test.task_set, test.control, "removed")
    what = f"lost when nothing is retrieved ({test.control})"
    return _any([_above(0, variant, samples.interval(rules.level), what)] if samples is not None else [])


def finds(study: Study, test: ClaimTest, rules: Rules) -> Check | None:
    """Among the ten best that are found are more relevant trajectories than chance would give."""
    share, found = share_of(test.of), []
    n = study.value(study.base, test.task_set, "agent.retrieval.pool.trajectories")
    frame = quantities(study, test.task_set)
    for variant in _variants(study, test):
        rows = frame[(frame["variant"] == variant.name) & (frame["quantity"] == "recall@10") & (frame["way"] == "")]
        if share is not None and n and len(values := rows["value"][rows["share"] == share[0]]):
            interval = t_interval(values, rules.level, SHARES)
            by_chance = chance("recall@10", share[0], n)
            found.append(_above(by_chance, variant, interval, f"recall@10 (chance {by_chance:.3g})"))
    return _any(found)


def _variants(study: Study, test: ClaimTest) -> list[Variant]:
    return [v for side in test.sides() for v in study.variants_like(side)]


def _above(threshold: float, variant: Variant, interval: Interval, what: str) -> Check:
    """That what was measured of a variant lies above a threshold."""
    return Check(interval.known and interval.low > threshold, f"{variant.label} {tables.interval(interval)} {what}")


def _any(found: Sequence[Check]) -> Check | None:
    """Whether one passes; those that do are told, else all."""
    passed = [one for one in found if one.passed]
    return Check(bool(passed), "; ".join(one.found for one in passed or found)) if found else None
