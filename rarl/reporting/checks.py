"""Validity checks: what must hold of runs, else what they measure means nothing.

Functions (study, test, rules) -> `Check`, or None where the runs recorded nothing to tell it by. Of a comparison one of
its agents must pass: if neither did, nothing was compared.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from rarl.reporting import tables
from rarl.reporting.claims import EVERY, ClaimTest, Rules
from rarl.reporting.sections.relevance import chance, quantities, share_of
from rarl.reporting.statistics import SHARES, Interval, paired, t_interval
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
        change = paired(last, first, study.bounds)
        if change is not None:
            found.append((variant, change.interval(rules.level), 0.0))
        if last and random is not None:
            found.append((variant, t_interval(list(last.values()), rules.level, study.bounds), random))
    return _above(found, "than at its start" if random is None else "than at its start, than random play")


def reads(study: Study, test: ClaimTest, rules: Rules) -> Check | None:
    """Greedy actions change when what is retrieved is exchanged for another task's, or taken away."""
    found, chosen = [], None if test.task_set == EVERY else test.task_set
    for variant in _variants(study, test):
        frame = study.results.select(study.results.retrieval, variant.runs[0], chosen, variant.runs[1])
        flips = [name for name in ("flips_exchanged", "flips_removed") if name in frame]
        if frame.empty or not flips:
            continue
        last = frame[frame["update"] == frame.groupby("run")["update"].transform("max")]
        shares = last[flips].astype(float).max(axis=1).groupby(last["seed"]).mean()
        found.append((variant, t_interval(shares, rules.level, SHARES), rules.reads))
    return _above(found, "of actions depend on what is retrieved")


def attends(study: Study, test: ClaimTest, rules: Rules) -> Check | None:
    """Attention is divided: not for every seed on own tasks alone, or on others' alone, whatever is played."""
    table = study.attention(study.variant(test.sides()[0]), test.task_set, "other_share")
    if table.empty:
        return None
    divided = ((table > 0.01) & (table < 0.99)).any(axis=1)
    n = int(divided.sum())
    return Check(2 * n > len(divided), f"attention is divided for {n} of {len(divided)} seeds")


def control(study: Study, test: ClaimTest, rules: Rules) -> Check | None:
    """The same probe finds what is there: retrieving as trained is better than nothing retrieved."""
    variant = study.variant(test.sides()[0])
    samples = study.acted(variant, test.task_set, test.control, "removed")
    found = [(variant, samples.interval(rules.level), 0.0)] if samples is not None else []
    return _above(found, f"with what is retrieved ({test.control}) than with nothing")


def finds(study: Study, test: ClaimTest, rules: Rules) -> Check | None:
    """Among the ten best that are found are more relevant trajectories than chance would give."""
    share, found = share_of(test.of), []
    n = study.value(study.base, test.task_set, "agent.retrieval.pool.trajectories")
    frame = quantities(study, test.task_set)
    for variant in _variants(study, test):
        rows = frame[(frame["variant"] == variant.name) & (frame["quantity"] == "recall@10") & (frame["way"] == "")]
        if share is not None and n and len(values := rows["value"][rows["share"] == share[0]]):
            found.append((variant, t_interval(values, rules.level, SHARES), chance("recall@10", share[0], n)))
    return _above(found, "in recall@10, by chance")


def _variants(study: Study, test: ClaimTest) -> list[Variant]:
    return [v for side in test.sides() for v in study.variants_like(side)]


def _above(found: Iterable[tuple[Variant, Interval, float]], what: str) -> Check | None:
    """Whether an interval lies above its threshold."""
    found = list(found)
    if not found:
        return None
    passed = [entry for entry in found if entry[1].known and entry[1].low > entry[2]]
    said = [f"{v.label} {tables.interval(interval)} against {limit:.3g}" for v, interval, limit in passed or found]
    return Check(bool(passed), f"{what}: {'; '.join(dict.fromkeys(said))}")
