"""The paper's claims and our own questions: read from config/claims.yaml, answered by the runs, never by hand.

A claim names a `measure`; the section of its experiment (see `sections`) knows how to compute it. Everything
else here is the same for all environments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import yaml

from rarl.errors import RarlError, did_you_mean
from rarl.reporting.results import Results
from rarl.reporting.statistics import (
    KINDS,
    LEVEL,
    WITH_MARGIN,
    Interval,
    Verdict,
    paired_interval,
    t_interval,
    verdict,
    welch_interval,
)

if TYPE_CHECKING:
    from rarl.reporting.sections import Section

DESIGNS = ("independent", "paired", "single")
EVERY = "every"  # in place of a task set's name: the claim is about all of an experiment's


@dataclass(frozen=True)
class Scale:
    """One scale: what its report says in the first line, and whether its numbers may be read as results."""

    name: str
    banner: str
    results: bool = True


@dataclass(frozen=True)
class Settings:
    """Rules of judgement, fixed before the runs.

    solved: share of the expert's return from which on a task counts as solved by a run.
    margins: environment -> half-width of what counts as no difference there, in the unit of its scores.
    """

    level: float = LEVEL
    min_seeds: int = 5
    solved: float = 0.5
    repetitions: int = 10_000
    bootstrap_seed: int = 0
    margins: Mapping[str, float] = field(default_factory=dict)
    scales: Mapping[str, Scale] = field(default_factory=dict)

    def scale(self, name: str) -> Scale:
        """The scale of this name; an unknown one is not taken for results."""
        return self.scales.get(name, Scale(name, "a scale that config/claims.yaml does not describe", results=False))


@dataclass(frozen=True)
class Claim:
    """One claim of the paper, or a question of our own (`own`).

    scales: where it can be judged. test: {"measure", "experiment", "task_set", "a", "b", ...}, or empty where no
    run of ours can answer it; its task_set is a name or a rule of the section, such as "larger"; its a and b are
    variants of its experiment, or "experiment/variant" of another one. paper_scale: quantity -> the paper's number, to
    set ours against. digits: decimals of our number. elsewhere: the paper made it of another environment.
    """

    id: str
    text: str
    place: str = ""
    number: str = ""
    n: str = ""
    kind: str = "superiority"
    margin: float = 0.0
    unit: str = ""
    scales: tuple[str, ...] = ()
    test: Mapping[str, Any] = field(default_factory=dict)
    paper_scale: Mapping[str, float] = field(default_factory=dict)
    own: bool = False
    elsewhere: bool = False
    headline: bool = False
    digits: int = 3

    @property
    def experiment(self) -> str:
        return str(self.test.get("experiment", ""))

    def side(self, which: str) -> tuple[str, str] | None:
        """(experiment, variant) of side "a" or "b", None without one; the variant may be a pattern, such as "a6-*"."""
        named = self.test.get(which)
        if named is None:
            return None
        experiment, _, variant = str(named).rpartition("/")
        return experiment or self.experiment, variant


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


_CLAIM_KEYS = {
    "id",
    "text",
    "place",
    "paper",
    "kind",
    "margin",
    "unit",
    "scales",
    "test",
    "elsewhere",
    "headline",
    "digits",
}


def load_claims(path: str | Path) -> tuple[Settings, list[Claim]]:
    """Read and check claims.yaml; every mistake is named with the claim's id."""
    path = Path(path)
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RarlError(f"{path}: no such file") from None
    except yaml.YAMLError as error:
        raise RarlError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None
    if not isinstance(raw, dict) or not isinstance(raw.get("claims"), list):
        raise RarlError(f"{path}: needs the keys settings, claims and questions")
    settings = _settings(raw.get("settings") or {}, path)
    claims = [_claim(entry, path, own=False) for entry in raw["claims"]]
    claims += [_claim(entry, path, own=True) for entry in raw.get("questions") or []]
    for claim in claims:
        if sum(other.id == claim.id for other in claims) > 1:
            raise RarlError(f"{path}: the id {claim.id!r} is there twice")
        for name in claim.scales:
            if name not in settings.scales:
                raise RarlError(f"{path}: claim {claim.id}: scale {name!r}: {did_you_mean(name, settings.scales)}")
    return settings, claims


def _settings(raw: dict[str, Any], path: Path) -> Settings:
    raw = dict(raw)
    scales = {name: Scale(name, **entry) for name, entry in (raw.pop("scales", None) or {}).items()}
    known = {"level", "min_seeds", "solved", "repetitions", "bootstrap_seed", "margins"}
    for key in raw:
        if key not in known:
            raise RarlError(f"{path}: settings: unknown key {key!r}: {did_you_mean(key, known)}")
    return Settings(**raw, scales=scales)


def _claim(entry: dict[str, Any], path: Path, *, own: bool) -> Claim:
    name = entry.get("id") if isinstance(entry, dict) else None
    if not name or not entry.get("text"):
        raise RarlError(f"{path}: a claim needs an id and a text: {entry!r}")
    for key in entry:
        if key not in _CLAIM_KEYS:
            raise RarlError(f"{path}: claim {name}: unknown key {key!r}: {did_you_mean(key, _CLAIM_KEYS)}")
    kind = entry.get("kind", "superiority")
    if kind not in KINDS:
        raise RarlError(f"{path}: claim {name}: kind {kind!r}: {did_you_mean(kind, KINDS)}")
    margin = float(entry.get("margin", 0.0))
    if kind in WITH_MARGIN and not margin > 0:
        raise RarlError(f"{path}: claim {name}: {kind} needs a margin above 0")
    test = entry.get("test") or {}
    if test and not {"measure", "experiment", "task_set", "a"} <= set(test):
        raise RarlError(f"{path}: claim {name}: test needs measure, experiment, task_set and a")
    paper = entry.get("paper") or {}
    return Claim(
        id=str(name),
        text=" ".join(str(entry["text"]).split()),
        place=str(entry.get("place", "")),
        number=str(paper.get("number", "")),
        n=str(paper.get("n", "")),
        kind=kind,
        margin=margin,
        unit=str(entry.get("unit", "")),
        scales=tuple(entry.get("scales") or ()),
        test=test,
        paper_scale=paper.get("scale") or {},
        own=own,
        elsewhere=bool(entry.get("elsewhere", False)),
        headline=bool(entry.get("headline", False)),
        digits=int(entry.get("digits", 3)),
    )


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
