"""How a quantity is judged: its tests, Holm's correction within its family, the verdicts in the order of their rules.

One quantity has one verdict everywhere in a report: `Judged` knows it by its numbers. What a report says of the rules
is made from the tables of this module.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from rarl.reporting.claims import WITH_MARGIN, Kind, Rules
from rarl.reporting.statistics import Samples, holm, smallest_effect

SUPPORTED, CONTRADICTED, EQUIVALENT = "supported", "contradicted", "equivalent within the margin"
EXCLUDED, INCONCLUSIVE, VOID = "the paper's size excluded", "inconclusive", "not interpretable"
MEASURED, NOT_TESTED = "measured", "not tested"
OUTCOMES = (SUPPORTED, CONTRADICTED, EXCLUDED, EQUIVALENT, INCONCLUSIVE, VOID, MEASURED, NOT_TESTED)

# The tests of a quantity d with margin m and the paper's size s, by name. Each name is corrected by itself.
TESTS = {
    "sign": "d is not 0",
    "margin": "d lies inside ±m (two one-sided tests), or outside",
    "gain": "d is below +m, or above",
    "size": "d is not s",
}
# Verdicts that come before those of a claim's kind, in their order.
FIRST = (
    (NOT_TESTED, "this scale cannot judge it, or there is no usable run"),
    (VOID, "a validity check that it names failed"),
    (INCONCLUSIVE, "fewer seeds than needed in a group"),
)
# kind -> (what it says, rows of (verdict, rule)), in their order; what no rule decides is inconclusive.
BY_KIND = {
    "superiority": ("better", (
        (EQUIVALENT, "margin: inside, even where the sign is certain: m was fixed as too small to count"),
        (SUPPORTED, "sign: above 0; “smaller (larger) than the paper's” where size excludes s on that side, “perhaps "
                    "inside ±m” where d is"),
        (CONTRADICTED, "sign: below 0"),
        (EXCLUDED, "size: d is not s"),
    )),
    "equivalence": ("no difference", ((SUPPORTED, "margin: inside"), (CONTRADICTED, "margin: outside"))),
    "no gain": ("no better", ((SUPPORTED, "gain: below +m, however far"), (CONTRADICTED, "gain: above +m"))),
    "estimate": ("a size, no direction", (
        (MEASURED, "always: the number with its interval; “smaller (larger) than the paper's” where size excludes s"),
    )),
    "count": ("a count, the same for every seed", ((MEASURED, "from one seed on, if identical across seeds"),)),
}  # fmt: skip
# What a verdict says of a difference "with a change minus without", key -> word.
READINGS: Mapping[str, str] = {
    "costs": "hurts", "helps": "helps", "same": EQUIVALENT, "open": INCONCLUSIVE, "void": VOID,
}  # fmt: skip
_SWAPPED = {"costs": "helps", "helps": "costs"}


@dataclass(frozen=True)
class Case:
    """What is judged. size: the paper's, with its sign. void: the validity check that failed, with its number."""

    samples: Samples | None
    kind: Kind = "superiority"
    margin: float = 0.0
    size: float | None = None
    void: str = ""


@dataclass(frozen=True)
class Verdict:
    """What the runs say of a quantity, and why, in words.

    outcome: one of `OUTCOMES`. reading: key of `READINGS`. tests: name -> (p, p after Holm's correction).
    size: "smaller" or "larger" than the paper's where that is excluded. smallest: the effect that such runs show with
    a chance of 80 % after correction, by their own variance. within: "±0.05" where the sign is certain, but the
    estimate lies inside the margin.
    """

    outcome: str
    reason: str = ""
    reading: str = "open"
    tests: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    size: str = ""
    smallest: float = math.nan
    within: str = ""

    @property
    def words(self) -> str:
        """ "supported, smaller than the paper's"; "supported, perhaps inside ±0.05" where the estimate is."""
        beside = f", {self.size} than the paper's" if self.size and self.outcome in (SUPPORTED, MEASURED) else ""
        return self.outcome + beside + (f", perhaps inside {self.within}" if self.within else "")


def p_columns(verdict: Verdict) -> dict[str, float]:
    """For tables: p_TEST, and p_TEST_holm after correction."""
    return {f"p_{name}{suffix}": verdict.tests.get(name, (math.nan, math.nan))[i]
            for name in TESTS for i, suffix in enumerate(("", "_holm"))}  # fmt: skip


def judge(family: Sequence[Case], rules: Rules) -> list[Verdict]:
    """The verdicts of one family. A member without numbers counts in it all the same."""
    tests = _corrected([_uncorrected(case) for case in family])
    return [_verdict(case, found, _size(family), rules) for case, found in zip(family, tests, strict=True)]


def _size(family: Sequence[Case]) -> int:
    return sum(_applies("sign", case) for case in family)


def _uncorrected(case: Case) -> dict[str, float]:
    return {name: _p(name, case) for name in TESTS if _applies(name, case)}


def _corrected(p: Sequence[Mapping[str, float]]) -> list[dict[str, tuple[float, float]]]:
    """Of each member name -> (p, p after Holm's correction)."""
    tests: list[dict[str, tuple[float, float]]] = [{} for _ in p]
    for name in TESTS:
        members = [i for i, one in enumerate(p) if name in one]
        for i, adjusted in zip(members, holm([p[i][name] for i in members]), strict=True):
            tests[i][name] = (p[i][name], float(adjusted))
    return tests


class Turn(NamedTuple):
    """The least change of an estimate, its seeds all alike, by which the verdict would be another one, and which."""

    by: float
    outcome: str


_STEPS, _HALVINGS = [0.25 * 2**k for k in range(8)], 10  # of its standard error


def turns(family: Sequence[Case], rules: Rules) -> list[Turn | None]:
    """Of each member, the others as they are; None where nothing is tested, or where no such change is near."""
    p = [_uncorrected(case) for case in family]
    return [_turn(case, [*p[:i], *p[i + 1 :]], _size(family), rules) for i, case in enumerate(family)]


def _turn(case: Case, others: Sequence[Mapping[str, float]], size: int, rules: Rules) -> Turn | None:
    """others: uncorrected p of the family's other members. size: of the family."""
    samples = case.samples
    error = samples.estimate.error if samples is not None else 0.0
    if samples is None or case.void or not any(_applies(name, case) for name in TESTS) or not error > 0:
        return None

    def outcome(by: float) -> str:
        moved = replace(case, samples=replace(samples, a={seed: x + by for seed, x in samples.a.items()}))
        return _verdict(moved, _corrected([_uncorrected(moved), *others])[0], size, rules).outcome

    now, near = outcome(0.0), 0.0
    for step in _STEPS:
        if sides := [sign for sign in (-1, 1) if outcome(sign * step * error) != now]:
            ends = []
            for sign in sides:
                low, high = near, step
                for _ in range(_HALVINGS):
                    middle = (low + high) / 2
                    low, high = (middle, high) if outcome(sign * middle * error) == now else (low, middle)
                ends.append(sign * high * error)
            by = min(ends, key=abs)
            return Turn(by, outcome(by))
        near = step
    return None


def _applies(name: str, case: Case) -> bool:
    if name == "size":
        return case.size is not None and case.kind in ("superiority", "estimate")
    tested = case.kind in ("superiority", *WITH_MARGIN)
    return tested and {"sign": True, "margin": case.margin > 0, "gain": case.kind == "no gain"}[name]


def _p(name: str, case: Case) -> float:
    """Two-sided, against the nearest boundary: where d is inside ±margin that is twice the p of two one-sided tests."""
    if case.samples is None or case.void:
        return math.nan
    found, m = case.samples.estimate, case.margin
    null = {"sign": 0.0, "margin": math.copysign(m, found.estimate), "gain": m, "size": case.size or 0.0}[name]
    return found.p(null)


def _verdict(case: Case, tests: Mapping[str, tuple[float, float]], family: int, rules: Rules) -> Verdict:
    kind, samples = case.kind, case.samples
    found = samples.estimate if samples is not None else None
    if found is None or not math.isfinite(found.estimate):
        return Verdict(NOT_TESTED, "no usable run yet", tests=tests)
    if case.void:
        return Verdict(VOID, case.void, "void", tests)
    d, n = found.estimate, min(found.n)
    if kind == "count":
        return Verdict(INCONCLUSIVE, "seeds differ") if found.error > 0 else Verdict(MEASURED)
    smallest = smallest_effect(found, family, rules.level) if "sign" in tests else math.nan
    enough = n >= rules.min_seeds and n > 1

    def certain(name: str) -> bool:
        return enough and name in tests and tests[name][1] < 1 - rules.level

    differs = bool(case.size) and certain("size")
    size = ("smaller" if (d - case.size) * case.size < 0 else "larger") if differs and case.size else ""
    if kind == "estimate":
        return Verdict(MEASURED, size=size, tests=tests)

    def said(outcome: str, reason: str = "", reading: str = "open") -> Verdict:
        return Verdict(outcome, reason, reading, tests, size, smallest)

    if not enough:
        return said(INCONCLUSIVE, f"{n} {'seed' if n == 1 else 'seeds'}, {rules.min_seeds} needed")
    m, sign = f"{case.margin:g}", "helps" if d > 0 else "costs"
    inside = certain("margin") and abs(d) < case.margin
    if kind == "superiority":
        if inside:
            return said(EQUIVALENT, f"inside ±{m}", "same")
        if certain("sign"):
            within = f"±{m}" if case.margin and abs(d) < case.margin else ""
            side = ("above 0" if d > 0 else "below 0") + (f", but perhaps inside {within}" if within else "")
            return replace(said(SUPPORTED if d > 0 else CONTRADICTED, side, sign), within=within)
        return said(EXCLUDED, f"{size} than {case.size:g}") if size else said(INCONCLUSIVE)
    if kind == "equivalence":
        if certain("margin"):
            return said(SUPPORTED, f"inside ±{m}", "same") if inside else said(CONTRADICTED, f"outside ±{m}", sign)
        beyond = f"{'above' if d > 0 else 'below'} 0, but perhaps inside ±{m}" if certain("sign") else ""
        return said(INCONCLUSIVE, beyond)
    if certain("gain"):
        if d > case.margin:
            return said(CONTRADICTED, f"above +{m}", sign)
        return said(SUPPORTED, f"below +{m}", "same" if inside else sign if certain("sign") else "open")
    return said(INCONCLUSIVE)


class Judged:
    """The verdicts of a report, each quantity's once: the same numbers have the same one, whoever asks."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._known: dict[tuple, Verdict] = {}

    def put(self, samples: Samples, verdict: Verdict) -> None:
        """A verdict that stands for these numbers from now on, if they have none."""
        self._known.setdefault(self._key(samples), verdict)

    def add(self, family: Sequence[Case]) -> None:
        """Judge together what has no verdict yet."""
        new = {self._key(q.samples): q for q in family if q.samples is not None and self.of(q.samples) is None}
        self._known |= zip(new, judge(list(new.values()), self.rules), strict=True)

    def of(self, samples: Samples | None) -> Verdict | None:
        """A quantity's verdict, read in the direction that is asked for; None where it is of no family."""
        if samples is None:
            return None
        found = self._known.get(self._key(samples))
        if found is None and (found := self._known.get(self._key(replace(samples, a=samples.b, b=samples.a)))):
            return replace(found, reading=_SWAPPED.get(found.reading, found.reading))
        return found

    @staticmethod
    def _key(samples: Samples) -> tuple:
        return samples.design, tuple(sorted(samples.a.items())), tuple(sorted(samples.b.items()))
