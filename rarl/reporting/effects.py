"""A change of agents or of their training, and what it does to the score."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from rarl.reporting.rules import INCONCLUSIVE, Case, Judged, Verdict
from rarl.reporting.statistics import Interval, Samples
from rarl.reporting.study import Study, Variant
from rarl.reporting.sweeps import cells_of, paper_cell, tuned


class Change(NamedTuple):
    """What is changed. kind: of `VariantSettings`; "grid" where a grid's best is set against its fixed cell. what: in
    words, the same for the same change in another environment. short: for a figure. sweep: the title of the sweep that
    it is a part of.
    """

    kind: str
    what: str
    short: str = ""
    sweep: str = ""


@dataclass(frozen=True)
class Effect:
    """A change and what it did.

    where: the environment, and what of it. task_set: what was learned. samples: of the score with the change and
    without. verdict: on their difference. gain: what retrieval adds; None where that is not visibly above 0.
    """

    study: Study
    change: Change
    where: str
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


def judge(study: Study, judged: Judged) -> list[Effect]:
    """What retrieval and every change of agents and of their training do, by a study's runs, with verdicts. Those that
    no claim is about are one family.

    Of several task sets the largest one on which a change was tried counts. Agents of another experiment are shown with
    that one.
    """
    level, found = judged.rules.level, {}
    for task_set in study.compared_sets:
        for key, change, samples, full in _changes(study, task_set):
            if samples is not None:
                gain = _gain(study, full, task_set, level) if full is not None and change.kind != "gain" else None
                where, interval = study.where(task_set, full), samples.interval(level)
                found[key] = Effect(study, change, where, task_set, samples, interval, gain)
    effects = list(found.values())
    judged.add([Case(e.samples, margin=study.score.margin) for e in effects])
    return [replace(e, verdict=judged.of(e.samples) or e.verdict) for e in effects]


def _gain(study: Study, full: Variant, task_set: str, level: float) -> float | None:
    """What a full agent has over its base; None where that is not visibly above 0."""
    samples = study.compare(full, study.variants[full.relative_to[0]], task_set) if full.relative_to else None
    whole = samples.interval(level) if samples is not None else None
    return whole.estimate if whole is not None and whole.low > 0 else None


def _changes(study: Study, task_set: str) -> Iterator[tuple[tuple[str, ...], Change, Samples | None, Variant | None]]:
    """(name, what is changed, scores with it and without, the full agent whose gain it changes)."""
    for variant in study.variants_on(task_set, sweeps=False):
        s = variant.settings
        if s.change and variant.runs[0] == study.name:
            change = Change(s.kind, s.change, variant.label)
            for other in (study.variants[name] for name in variant.relative_to):
                full = variant if s.kind == "gain" else other if other.settings.kind == "gain" else None
                yield (variant.name, other.name), change, study.compare(variant, other, task_set), full
    own = study.full
    for name, sweep in study.settings.sweeps.items():
        cells = cells_of(study, name, task_set)
        of_full = next((cell for cell, variant in cells.items() if variant == own), None)
        if len(sweep.keys) == 1 and own is not None and of_full is not None:
            for cell, variant in cells.items():
                if variant != own:
                    what = f"{sweep.title}: {cell[0]:g}"
                    change = Change("part", f"{what} instead of {of_full[0]:g}", what, sweep.title)
                    yield (name, str(cell)), change, study.compare(variant, own, task_set), own
        fixed = paper_cell(study, name, task_set)
        if fixed is not None and sweep.change:
            # Against the paper's amounts, not against the full agent, unless that has them.
            full = own if fixed == own else None
            change = Change("part" if full else "grid", sweep.change, sweep.label)
            yield (name, "tuned"), change, tuned(study, name, fixed, task_set), full
