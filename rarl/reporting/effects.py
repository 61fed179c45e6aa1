"""A change and what it does to the score: how its interval is read, the same for every section and for the story."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from rarl.reporting import tables
from rarl.reporting.claims import Samples, Settings
from rarl.reporting.statistics import Interval

READINGS: Mapping[str, str] = {
    "costs": "costs",
    "helps": "helps",
    "same": "no visible difference",
    "open": "cannot be told",
}


class Change(NamedTuple):
    """What is changed.

    kind: "gain": retrieval at all; "part": something of the agent or its training; "data": what it is given to retrieve
      from; "repair": something that could help where it is broken.
    what: in words, as the beginning of a sentence; the same change in another environment has the same words.
    short: for a figure; "" where it is not shown in one.
    """

    kind: str
    what: str
    short: str = ""


RETRIEVAL = Change("gain", "Retrieval at all", "retrieval at all")
# Changes that several experiments make.
NOTHING_RETRIEVED = Change("part", "Nothing retrieved, slots kept (A-2)", "A-2: nothing retrieved")
NO_BOTTLENECK = Change("part", "No bottleneck")
REMOVED = Change("data", "Nothing to retrieve from when a trained agent acts", "nothing to retrieve from")
SHUFFLED = Change("data", "States exchanged between trajectories when a trained agent acts", "states exchanged")
OTHERS = Change("data", "Only other tasks' trajectories when a trained agent acts", "other tasks' only")


@dataclass(frozen=True)
class Effect:
    """A change and what it did.

    where: the environment, and what of it. environment: its name. task_set: what was learned.
    interval: the score with the change less the score without. unit, digits: of the score.
    reading: key of `READINGS`.
    share: of what retrieval adds, that the change takes away; None where that says nothing.
    """

    change: Change
    where: str
    environment: str
    task_set: str
    interval: Interval
    unit: str
    digits: int
    reading: str
    share: float | None = None


def read(interval: Interval, margin: float, min_seeds: int) -> str:
    """How the difference "with the change less without" is read; the order of the rules is that of importance.

    Inside ±margin is no visible difference, even where the interval does not hold 0: the margin was fixed as what is
    too small to count. Otherwise a change costs or helps where the interval does not hold 0. Anything else, and
    anything with too few seeds, cannot be told.
    """
    if not interval.known or min(interval.n) < min_seeds:
        return "open"
    if -margin < interval.low and interval.high < margin:
        return "same"
    if interval.high < 0:
        return "costs"
    return "helps" if interval.low > 0 else "open"


def effect(
    change: Change,
    where: str,
    environment: str,
    task_set: str,
    samples: Samples | None,
    settings: Settings,
    *,
    unit: str,
    digits: int,
    gain: Samples | None = None,
) -> Effect | None:
    """The effect that samples (with the change, without it) show; None where there are none.

    Args:
      gain: samples of (with retrieval, without), of which the effect is a share. It is left out where retrieval does
        not visibly add anything: a share of nothing says nothing.
    """
    interval = samples.interval(settings.level) if samples is not None else None
    if interval is None or tables.interval(interval) == tables.NONE:
        return None
    margin = settings.margins.get(environment, 0.0)
    whole = gain.interval(settings.level) if gain is not None and change.kind != "gain" else None
    share = -interval.estimate / whole.estimate if whole is not None and whole.known and whole.low > 0 else None
    return Effect(
        change, where, environment, task_set, interval, unit, digits, read(interval, margin, settings.min_seeds), share
    )


def present(found: list[Effect | None]) -> list[Effect]:
    """Those that could be computed."""
    return [one for one in found if one is not None]
