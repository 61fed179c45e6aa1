"""A change and what it does to the score: the effects that a study's runs show."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

from rarl.envs.spec import EnvSpec, Score, load
from rarl.reporting import tables
from rarl.reporting.claims import Rules
from rarl.reporting.interventions import AMOUNTS, OWN, amounts
from rarl.reporting.registry import EFFECTS
from rarl.reporting.rules import INCONCLUSIVE, Case, Judged, Verdict
from rarl.reporting.statistics import Interval, Samples, paired
from rarl.reporting.study import Study, Variant
from rarl.reporting.sweeps import cells_of, paper_cell, tuned


class Change(NamedTuple):
    """What is changed.

    kind: "gain": retrieval at all; "part": something of the agent or its training; "data": what it is given to retrieve
      from; "repair": something that could help where it is broken.
    what: in words, as the beginning of a sentence; the same change in another environment has the same words.
    short: for a figure; "" where it is not shown in one.
    at_test: whether a trained agent is evaluated with it, and not trained with it.
    """

    kind: str
    what: str
    short: str = ""
    at_test: bool = False


_ACTING = {  # interventions on trained agents
    "removed": Change("data", "Test time: nothing retrieved", "nothing retrieved", True),
    "shuffled": Change("data", "Test time: states shuffled across trajectories", "states shuffled", True),
    "others": Change("data", "Test time: other tasks' trajectories only", "other tasks' only", True),
}
_ACTING["swapped"] = _ACTING["others"]


@dataclass(frozen=True)
class Effect:
    """A change and what it did.

    where: the environment, and what of it. task_set: what was learned. samples: of the score with the change and
    without. verdict: on their difference. gain: what retrieval adds; None where that is not visibly above 0.
    """

    change: Change
    where: str
    spec: EnvSpec
    task_set: str
    samples: Samples
    interval: Interval
    gain: float | None = None
    verdict: Verdict = field(default_factory=lambda: Verdict(INCONCLUSIVE))

    @property
    def reading(self) -> str:
        """Key of `rarl.reporting.rules.READINGS`."""
        return self.verdict.reading

    @property
    def share(self) -> float | None:
        """Of what retrieval adds, that the change takes away."""
        return -self.interval.estimate / self.gain if self.gain else None

    @property
    def score(self) -> Score:
        """Of its environment."""
        return self.spec.score


def effect(
    change: Change,
    study: Study,
    task_set: str,
    samples: Samples | None,
    rules: Rules,
    where: str = "",
    gain: Samples | None = None,
) -> Effect | None:
    """The effect that samples (with the change, without it) show, not judged yet; None where there are none.

    Args:
      where: in words; "": the environment's name.
      gain: samples of (with retrieval, without), of which the effect is a share. It is left out where retrieval does
        not visibly add anything: a share of nothing says nothing.
    """
    interval = samples.interval(rules.level) if samples is not None else None
    if samples is None or interval is None or tables.interval(interval) == tables.NONE:
        return None
    whole = gain.interval(rules.level) if gain is not None and change.kind != "gain" else None
    added = whole.estimate if whole is not None and whole.known and whole.low > 0 else None
    return Effect(change, where or study.spec.title, study.spec, task_set, samples, interval, added)


def judge(study: Study, judged: Judged) -> list[Effect]:
    """The effects that a study's runs show, with their verdicts. Those that no claim is about are one family."""
    found = of_study(study, judged.rules)
    judged.add([Case(e.samples, margin=study.score.margin) for e in found])
    return [replace(e, verdict=judged.of(e.samples) or e.verdict) for e in found]


def of_study(study: Study, rules: Rules) -> list[Effect]:
    """What the study's runs show of retrieval, of every change of it, of sweeps and of interventions.

    Of several task sets the largest one on which a change was tried counts. Agents of another experiment are shown
    with that one.
    """
    found: dict[tuple[str, ...], Effect] = {}
    for task_set in study.compared_sets:
        for key, one in _on_set(study, rules, task_set).items():
            if one is not None:
                found[key] = one
    extra = [load(EFFECTS[part])(study, rules) for part in study.parts if part in EFFECTS]
    return [*found.values(), *(one for effects in extra for one in effects)]


def _on_set(study: Study, rules: Rules, task_set: str) -> dict[tuple[str, ...], Effect | None]:
    def made(change: Change, samples: Samples | None, full: Variant | None) -> Effect | None:
        gain = _gain(study, full, task_set) if full is not None else None
        return effect(change, study, task_set, samples, rules, study.where(task_set, full), gain)

    found: dict[tuple[str, ...], Effect | None] = {}
    variants = [v for v in study.variants_on(task_set) if v.runs[0] == study.name]
    for variant in variants:
        s = variant.settings
        if s.change and not s.sweep:
            change = Change(s.kind, s.change, s.change if s.kind == "gain" else variant.label)
            for name in variant.relative_to:
                other = study.variants[name]
                full = variant if s.kind == "gain" else other
                found[variant.name, name] = made(change, study.compare(variant, other, task_set), full)
        if s.kind == "gain" and "interventions" in study.parts:
            for name, change in _ACTING.items():
                found[variant.name, name] = made(change, study.acted(variant, task_set, name, OWN), variant)
            for of in AMOUNTS.values():
                found |= _amounts(study, variant, task_set, of, made)
    for name, sweep in study.settings.sweeps.items():
        cells = cells_of(study, name, task_set)
        own = study.full
        own_cell = next((cell for cell, variant in cells.items() if variant == own), None)
        if len(sweep.keys) == 1 and own is not None and own_cell is not None:
            for cell, variant in cells.items():
                if variant != own:
                    change = Change("part", f"{sweep.title}: {cell[0]:g} instead of {own_cell[0]:g}",
                                    f"{sweep.title}: {cell[0]:g}")
                    found[name, str(cell)] = made(change, study.compare(variant, own, task_set), own)
        fixed = paper_cell(study, name, task_set)
        if fixed is not None and sweep.change:
            change = Change("part", sweep.change, sweep.label)
            found[name, "tuned"] = made(change, tuned(study, name, fixed, task_set), study.full)
    return found


def _gain(study: Study, full: Variant, task_set: str) -> Samples | None:
    """What retrieval adds to the agent that a full one is relative to."""
    if full.settings.kind != "gain" or not full.relative_to:
        return None
    return study.compare(full, study.variants[full.relative_to[0]], task_set)


def _amounts(study: Study, variant: Variant, task_set: str, of: str, made) -> dict[tuple[str, ...], Effect | None]:
    """Of every smaller amount of data."""
    table = amounts(study, variant, task_set, of)
    scores = {n: {int(seed): float(v) for seed, v in table.loc[n].dropna().items()} for n in table.index}
    words = {"trajectories": "Test time: {} of {} trajectories",
             "steps": "Test time: first {} of {} steps of each trajectory"}  # fmt: skip
    whole = table.index[-1] if len(table) else 0
    return {(variant.name, of, str(n)): made(Change("data", words[of].format(n, whole), at_test=True),
                                             paired(scores[n], scores[whole], bounds=study.bounds), variant)
            for n in table.index[:-1]}  # fmt: skip
