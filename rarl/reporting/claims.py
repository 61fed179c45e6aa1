"""The paper's claims and our own questions: read from config/claims.yaml, answered by the runs, never by hand.

A claim names a `measure`; the section of its experiment (see `sections`) knows how to compute it. Everything
else here is the same for all environments. What a claim is, and how the file is read, is in `texts`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import pandas as pd

from rarl.errors import RarlError, did_you_mean
from rarl.reporting.results import Results
from rarl.reporting.statistics import (
    Interval,
    Verdict,
    paired_interval,
    t_interval,
    verdict,
    welch_interval,
)
from rarl.reporting.texts import EVERY, Claim, Settings, load_claims

if TYPE_CHECKING:
    from rarl.reporting.sections import Section

__all__ = [
    "DESIGNS",
    "EVERY",
    "Claim",
    "Outcome",
    "Samples",
    "Settings",
    "counts",
    "evaluate_claims",
    "load_claims",
    "shared_task_set",
]

DESIGNS = ("independent", "paired", "single")


@dataclass(frozen=True)
class Samples:
    """What a measure returns: one number per seed.

    a, b: seed -> value. design: "independent" (Welch, a - b), "paired" (same seeds, a - b) or "single" (a alone;
    b, if given, is what defined the question).
    detail: one sentence for the table; must not hold anything that the numbers do not say.
    """

    a: Mapping[int, float]
    b: Mapping[int, float] = field(default_factory=dict)
    design: str = "independent"
    detail: str = ""

    def interval(self, level: float) -> Interval:
        """The interval that fits the design."""
        if self.design == "independent":
            return welch_interval(list(self.a.values()), list(self.b.values()), level)
        if self.design == "paired":
            seeds = sorted(set(self.a) & set(self.b))
            return paired_interval([self.a[s] for s in seeds], [self.b[s] for s in seeds], level)
        if self.design == "single":
            # A second group that only defines the question (which tasks count) must have its seeds as well.
            n = (len(self.a), len(self.b)) if self.b else (len(self.a),)
            return replace(t_interval(list(self.a.values()), level), n=n)
        raise RarlError(f"unknown design of samples {self.design!r}: {did_you_mean(self.design, DESIGNS)}")


@dataclass(frozen=True)
class Outcome:
    """A claim with what the runs say. preliminary: some of its planned runs are not there (yet)."""

    claim: Claim
    verdict: Verdict
    interval: Interval | None = None
    samples: Samples | None = None
    ours_scale: Mapping[str, float] = field(default_factory=dict)
    preliminary: bool = False


def evaluate_claims(
    claims: list[Claim], settings: Settings, results: Results, sections: Mapping[str, Section]
) -> list[Outcome]:
    """Answer every claim from the runs.

    A claim without a test, of an experiment without a section, or at a scale that is not in its list, is "not tested at
    this scale".
    """
    return [_evaluate(claim, settings, results, sections.get(claim.experiment)) for claim in claims]


def _evaluate(claim: Claim, settings: Settings, results: Results, section: Section | None) -> Outcome:
    able = bool(claim.test) and section is not None and results.scale in claim.scales
    able = able and settings.scale(results.scale).results
    if claim.test and section is not None:
        claim = replace(claim, test={**claim.test, "task_set": section.task_set(results, claim)})
        able = able and claim.test["task_set"] is not None
    planned = _involved(claim, results.planned())
    if not able or section is None:
        if not (claim.test and section and len(planned)):
            return Outcome(claim, Verdict("not tested at this scale", "no runs that could judge it"))
        small = Verdict("not tested at this scale", "too small to judge it")
        return Outcome(claim, small, ours_scale=section.scale_facts(results, claim))
    measure = section.measures.get(claim.test["measure"])
    if measure is None:
        known = did_you_mean(claim.test["measure"], section.measures)
        raise RarlError(f"claims.yaml: claim {claim.id}: unknown measure {claim.test['measure']!r}: {known}")
    samples = measure(results, claim, settings)
    interval = samples.interval(settings.level) if samples else None
    result = verdict(claim.kind, interval, margin=claim.margin, min_seeds=settings.min_seeds, able=able)
    preliminary = bool(len(planned)) and not bool(planned["usable"].all())
    return Outcome(claim, result, interval, samples, section.scale_facts(results, claim), preliminary)


def _involved(claim: Claim, runs: pd.DataFrame) -> pd.DataFrame:
    """The runs of both sides."""
    task_set = claim.test.get("task_set")
    concerned = pd.Series(False, index=runs.index)
    for experiment, variant in filter(None, map(claim.side, ("a", "b"))):
        concerned |= (runs["experiment"] == experiment) & runs["variant"].map(
            lambda v, p=variant: fnmatchcase(v, p)
        ).astype(bool)
    return runs[concerned & ((runs["task_set"] == task_set) | (task_set == EVERY))]


def shared_task_set(results: Results, claim: Claim) -> str | None:
    """The task set that a claim means by "shared": of those for which all of its agents are planned, the largest one.

    None where there is none. Any other name is a task set's own.
    """
    if claim.test["task_set"] != "shared":
        return claim.test["task_set"]
    planned, found = results.planned(), None
    for experiment, variant in filter(None, map(claim.side, ("a", "b"))):
        runs = planned[planned["experiment"] == experiment]
        names = set(runs["task_set"][runs["variant"].map(lambda v, p=variant: fnmatchcase(v, p)).astype(bool)])
        found = names if found is None else found & names
    return max(found, key=lambda name: (_tasks_of(results, claim.experiment, name), name)) if found else None


def _tasks_of(results: Results, experiment: str, task_set: str) -> int:
    """How many tasks a task set has, by its runs; where there are none yet, by its name ("30-tasks")."""
    head = task_set.split("-")[0]
    return results.select(results.last, experiment, task_set)["task"].nunique() or (int(head) if head.isdigit() else 0)


def counts(outcomes: list[Outcome]) -> dict[str, int]:
    """How many claims have which verdict, in a fixed order, zeros left out."""
    order = ("supported", "contradicted", "inconclusive", "estimated", "not tested", "not tested at this scale")
    numbers = {name: sum(o.verdict.outcome == name for o in outcomes) for name in order}
    return {name: number for name, number in numbers.items() if number}
