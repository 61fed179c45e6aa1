"""Validity checks: what must hold of runs, else what they measure means nothing.

Functions (study, test, rules) -> `Check`, or None where the runs recorded nothing to tell it by. Of a comparison one of
its agents must pass: if neither did, nothing was compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rarl.reporting import tables
from rarl.reporting.claims import ClaimTest, Rules
from rarl.reporting.sections.attention import OTHER, changed_by, last_records
from rarl.reporting.sections.relevance import chance, quantities, share_of
from rarl.reporting.statistics import SHARES, Interval, paired, seed_means, t_interval
from rarl.reporting.study import Study, Variant


class Check(NamedTuple):
    """passed: whether it holds. found: in words, with the number. number: that alone, with its interval. fails: whether
    that it does not hold is certain, too.
    """

    passed: bool
    found: str
    number: str = ""
    fails: bool = False


def failed(checks: Mapping[str, Check | None]) -> dict[str, Check]:
    """Those that do not hold; what was not recorded is not held against a claim."""
    return {name: check for name, check in checks.items() if check is not None and not check.passed}


def learned(study: Study, test: ClaimTest, rules: Rules) -> Check | None:
    """An agent scores more at its end than at its start, or than random play."""
    return _any([check for variant in _variants(study, test) for check in _learned(study, variant, test, rules)])


def both_learned(study: Study, test: ClaimTest, rules: Rules) -> Check | None:
    """Each agent scores more at its end than at its start, or than random play."""
    each = [_any(_learned(study, variant, test, rules)) for variant in _variants(study, test)]
    return _all([check for check in each if check is not None])


def each_learned(study: Study, test: ClaimTest, rules: Rules) -> Check | None:
    """Each agent scores more at its end than at its start, and than random play where that is known."""
    return _all([check for variant in _variants(study, test) for check in _learned(study, variant, test, rules)])


def _learned(study: Study, variant: Variant, test: ClaimTest, rules: Rules) -> list[Check]:
    random, found = study.score.marks.get("random"), []
    last, first = (study.seed_scores(variant, test.task_set, at) for at in ("last", "first"))
    change = paired(last, first, bounds=study.bounds)
    if change is not None:
        found.append(_above(0, variant, change.interval(rules.level), "above its start"))
    if last and random is not None:
        # Without bounds: an interval that cannot go below the least score is always above random play.
        interval = t_interval(list(last.values()), rules.level)
        found.append(_above(random, variant, interval, f"(random play {random:.3g})"))
    return found


def reads(study: Study, test: ClaimTest, rules: Rules) -> Check | None:
    """Greedy actions change with what is retrieved: when it is exchanged for that of another task, or drawn anew.

    That they change when nothing is read shows no more than that something is added, whatever it is.
    """
    return _changed(study, test, rules, OTHER)


def reads_or_needs(study: Study, test: ClaimTest, rules: Rules) -> Check | None:
    """Greedy actions change when what is retrieved is exchanged for that of another task, or taken away."""
    return _changed(study, test, rules, ("flips_exchanged", "flips_removed"))


_BY = {"flips_exchanged": "another task's batch", "flips_redrawn": "another draw", "flips_removed": "none"}


def _changed(study: Study, test: ClaimTest, rules: Rules, names: Sequence[str]) -> Check | None:
    found = []
    for variant in _variants(study, test):
        last = last_records(study, variant, test.task_set)
        measured = [name for name in names if name in last and last[name].notna().any()]
        if measured:
            percent = 100 * changed_by(last, measured).groupby(last["seed"]).mean()
            interval, needed = t_interval(percent, rules.level, (0.0, 100.0)), 100 * rules.reads
            by = " or ".join(_BY[name] for name in measured)
            what = f"% of greedy actions change with {by} (needed {needed:.3g})"
            found.append(_above(needed, variant, interval, what))
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


def divides(study: Study, test: ClaimTest, rules: Rules) -> Check | None:
    """Attention is divided: not for every seed on own tasks alone, or on others' alone, whatever is played."""
    shares = study.attention(study.variant(test.sides()[0]), test.task_set, "other_share")
    if shares.empty:
        return None
    divided = int(((shares > 0.01) & (shares < 0.99)).any(axis=1).sum())
    return Check(2 * divided > len(shares), f"attention is divided for {divided} of {len(shares)} seeds")


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
    number, known = tables.interval(interval), interval.known
    passed, fails = known and interval.low > threshold, known and interval.high < threshold
    return Check(passed, f"{variant.label} {number} {what}", number, fails)


def _any(found: Sequence[Check]) -> Check | None:
    """Whether one passes; those that do are told, else all."""
    passed = [one for one in found if one.passed]
    told = passed or found
    words, numbers = ("; ".join(parts) for parts in ([one.found for one in told], [one.number for one in told]))
    return Check(bool(passed), words, numbers, all(one.fails for one in found)) if found else None


def _all(found: Sequence[Check]) -> Check | None:
    """Whether all pass; those that do not are told, else all."""
    without = [one for one in found if not one.passed]
    words = "; ".join(one.found for one in without or found)
    return Check(not without, words, fails=any(one.fails for one in without)) if found else None
