"""Claims answered by the runs, never by hand: each measure's numbers, their interval and the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import pandas as pd

from rarl.envs.spec import load
from rarl.reporting.claims import EVERY, Claim, ClaimTest, Rules
from rarl.reporting.registry import MEASURES
from rarl.reporting.results import Results
from rarl.reporting.statistics import Interval, Samples, Verdict, verdict
from rarl.reporting.study import Study

NOT_HERE = "not tested at this scale"


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
    claims: Sequence[Claim], rules: Rules, results: Results, studies: Mapping[str, Study]
) -> list[Outcome]:
    """Answer every claim from the runs.

    One without a test, of an experiment that nobody describes, or at a scale that is not in its list, is "not tested at
    this scale".
    """
    return [_evaluate(claim, rules, results, studies) for claim in claims]


def _evaluate(claim: Claim, rules: Rules, results: Results, studies: Mapping[str, Study]) -> Outcome:
    study = studies.get(claim.test.experiment) if claim.test else None
    if claim.test is None or study is None:
        return Outcome(claim, Verdict(NOT_HERE, "no runs that could judge it"))
    test = claim.test.model_copy(update={"task_set": study.named_set(claim.test) or ""})
    claim = claim.model_copy(update={"test": test})
    planned = _involved(test, results.planned())
    if results.scale not in claim.scales or not rules.scale(results.scale).results or not test.task_set:
        if planned.empty:
            return Outcome(claim, Verdict(NOT_HERE, "no runs that could judge it"))
        return Outcome(claim, Verdict(NOT_HERE, "too small to judge it"), ours_scale=study.sizes(test))
    samples = load(MEASURES[test.measure])(study, test, rules)
    interval = samples.interval(rules.level) if samples else None
    result = verdict(claim.kind, interval, margin=claim.margin, min_seeds=rules.min_seeds)
    preliminary = len(planned) > 0 and not bool(planned["usable"].all())
    return Outcome(claim, result, interval, samples, study.sizes(test), preliminary)


def _involved(test: ClaimTest, runs: pd.DataFrame) -> pd.DataFrame:
    """The runs of both sides."""
    concerned = pd.Series(False, index=runs.index)
    for experiment, pattern in test.sides():
        named = runs["variant"].map(lambda variant, p=pattern: fnmatchcase(variant, p)).astype(bool)
        concerned |= (runs["experiment"] == experiment) & named
    return runs[concerned & ((runs["task_set"] == test.task_set) | (test.task_set == EVERY))]
