"""Claims answered by the runs, never by hand: each measure's numbers, their interval and the verdict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from rarl.envs.spec import load
from rarl.provenance import claim_digests
from rarl.reporting.checks import Check, failed
from rarl.reporting.claims import EVERY, Claim, ClaimTest
from rarl.reporting.registry import CHECKS, MEASURES
from rarl.reporting.results import Results
from rarl.reporting.rules import MEASURED, NOT_TESTED, OUTCOMES, Case, Judged, Turn, Verdict, judge, turns
from rarl.reporting.searches import effort
from rarl.reporting.statistics import Interval, Samples
from rarl.reporting.study import Study, of_side


@dataclass(frozen=True)
class Outcome:
    """A claim with what the runs say.

    study: its experiment; None without a test, or where nobody describes it. due: this scale has runs that can judge
    it. preliminary: some of its planned runs are not there (yet). checks: of its validity, None where nothing was
    recorded. later: checks that were written once its runs had been seen, and that its verdict does not rest on. turn:
    what would change the verdict. specified: the claim, as it is now, was there before all its runs were first made.
    family: how many were judged together. search: how the settings of both sides were searched. in_pairs: the outcome
    if agents that drew the same episodes with the same seed were compared seed by seed; "" where there are none such.
    """

    claim: Claim
    verdict: Verdict
    study: Study | None = None
    interval: Interval | None = None
    samples: Samples | None = None
    ours_scale: Mapping[str, float] = field(default_factory=dict)
    due: bool = False
    preliminary: bool = False
    checks: Mapping[str, Check | None] = field(default_factory=dict)
    later: Mapping[str, Check | None] = field(default_factory=dict)
    turn: Turn | None = None
    specified: bool = False
    family: int = 0
    search: str = ""
    in_pairs: str = ""

    @property
    def page(self) -> str:
        """The name of the page that answers it."""
        return self.study.page if self.study is not None else "appendix"


def evaluate_claims(
    claims: Sequence[Claim], results: Results, studies: Mapping[str, Study], judged: Judged
) -> list[Outcome]:
    """Answer every claim from the runs; `judged` learns their verdicts. One without a test, of an experiment that
    nobody describes, or at a scale that is not in its list, is not tested, and is of no family."""
    now, rules = claim_digests(results.root, results.scale), judged.rules

    def measured(claim: Claim) -> Outcome:
        """A claim with all but its verdict."""
        study = studies.get(claim.test.experiment) if claim.test else None
        if claim.test is None or study is None:
            return Outcome(claim, Verdict(NOT_TESTED, "no runs that could judge it"))
        test = claim.test.model_copy(update={"task_set": study.named_set(claim.test) or ""})
        claim = claim.model_copy(update={"test": test})
        planned = _involved(test, results.planned())
        if results.scale not in claim.scales or not results.about.allows_verdicts or not test.task_set:
            why = "no runs that could judge it" if planned.empty else "too small a scale to judge it"
            sizes = {} if planned.empty else study.sizes(test)
            return Outcome(claim, Verdict(NOT_TESTED, why), study, ours_scale=sizes)
        samples = load(MEASURES[test.measure][0])(study, test, rules)

        def check(name: str) -> Check | None:
            return load(CHECKS[name])(study, test, rules)

        former = {name: r.before for name, r in claim.revised.items() if results.scale in r.scales}
        records = [results.records[run]["claims"] for run in planned["run"][planned["usable"]]]
        return Outcome(
            claim,
            Verdict(NOT_TESTED),
            study,
            samples.interval(rules.level) if samples else None,
            samples,
            study.sizes(test),
            due=True,
            preliminary=len(planned) > 0 and not bool(planned["usable"].all()),
            checks={name: check(former.get(name, name)) for name in claim.validity} if samples else {},
            later={name: check(name) for name in former} if samples else {},
            specified=bool(records)
            and not claim.exploratory
            and all(r.get(key) == now.get(key) is not None for r in records for key in (claim.id, "settings")),
            search=effort(test.sides(), results),
        )

    found = [measured(claim) for claim in claims]
    for name in dict.fromkeys(o.claim.family for o in found if o.due):
        members = [i for i, o in enumerate(found) if o.due and o.claim.family == name]
        cases = [_quantity(found[i]) for i in members]
        verdicts = judge(cases, rules)
        pairs = [_in_pairs(found[i], case) for i, case in zip(members, cases, strict=True)]
        by_pairs = judge([pair or case for pair, case in zip(pairs, cases, strict=True)], rules)
        size = sum("sign" in verdict.tests for verdict in verdicts)
        for n, (i, verdict, turn) in enumerate(zip(members, verdicts, turns(cases, rules), strict=True)):
            other = by_pairs[n].outcome if pairs[n] else ""
            found[i] = replace(found[i], verdict=verdict, turn=turn, family=size, in_pairs=other)
            samples = found[i].samples
            if samples is not None and verdict.outcome not in (MEASURED, NOT_TESTED):
                judged.put(samples, verdict)
    return found


def _quantity(outcome: Outcome) -> Case:
    claim = outcome.claim
    void = "; ".join(f"{name}: {check.found}" for name, check in failed(outcome.checks).items())
    return Case(outcome.samples, claim.kind, claim.margin, claim.paper.size, void)


def _in_pairs(outcome: Outcome, case: Case) -> Case | None:
    """The same, compared seed by seed; None unless both sides have the same seeds, with a draw of episodes for each."""
    samples, study, test = outcome.samples, outcome.study, outcome.claim.test
    if samples is None or study is None or test is None or samples.design != "independent":
        return None
    drawn = (study.value(v, test.task_set, "episodes") for side in test.sides() for v in study.variants_like(side))
    if set(samples.a) != set(samples.b) or not all(isinstance(number, int) for number in drawn):
        return None
    return replace(case, samples=replace(samples, design="paired"))


def _involved(test: ClaimTest, runs: pd.DataFrame) -> pd.DataFrame:
    """The runs of both sides."""
    concerned = pd.concat([of_side(runs, side) for side in test.sides()], axis=1).any(axis=1)
    return runs[concerned & ((runs["task_set"] == test.task_set) | (test.task_set == EVERY))]


def counts(outcomes: Iterable[Outcome]) -> dict[str, int]:
    """Verdict -> how many claims of the paper have it, of verdicts that there are; without those that the paper made of
    another environment, and less likely readings of others."""
    said = [o.verdict.outcome for o in outcomes if not (o.claim.own or o.claim.elsewhere or o.claim.reading_of)]
    return {v: said.count(v) for v in OUTCOMES if v in said}
