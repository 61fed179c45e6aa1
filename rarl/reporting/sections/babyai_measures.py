"""Per-seed numbers of BabyAI runs, for claims, tables and figures. Success is in percent."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from rarl.envs.babyai.levels import LEVELS
from rarl.reporting.attention import quantity_table
from rarl.reporting.claims import Claim, Samples, Settings
from rarl.reporting.effects import (
    NO_BOTTLENECK,
    NOTHING_RETRIEVED,
    OTHERS,
    REMOVED,
    RETRIEVAL,
    SHUFFLED,
    Change,
    Effect,
    effect,
    present,
)
from rarl.reporting.results import Results
from rarl.reporting.scores import (
    intervention_scores,
    paired,
    run_means,
    seed_means,
    task_table,
    two_interventions,
    two_variants,
)
from rarl.reporting.statistics import Interval

EXPERIMENT = "babyai"
BASELINE = "rdqn"
PROBED = "ra-rdqn-all"
LABELS = {
    "rdqn": "RDQN",
    "ra-rdqn-own": "RA-RDQN, own level",
    "ra-rdqn-all-open": "RA-RDQN, all levels, no bottleneck",
    "ra-rdqn-all": "RA-RDQN, all levels",
    "no-retrieval": "RA-RDQN, nothing retrieved",
}
# Table 1 of the paper: success in percent, mean and standard error of 3 seeds, by trajectories per level.
PAPER_SIZES = (50_000, 200_000)
PAPER_SEEDS = 3
PAPER_SUCCESS = {
    "rdqn": ((32, 4), (45, 6)),
    "ra-rdqn-own": ((48, 4), (64, 5)),
    "ra-rdqn-all-open": ((47, 3), (59, 6)),
    "ra-rdqn-all": ((55, 5), (74, 3)),
}
PAPER_OTHERS = {"compositional": 54, "single": 21}  # percent of accesses that go to other tasks
KINDS = ("single", "compositional", "unknown")
REASONS = {
    "sequence": "its mission joins several instructions by “and”, “then” or “after you”",
    "unlock": "a door has to be unlocked on the way to something else",
    "skills": "its missions need several skills of other levels in one maze",
}
_LEVELS = {level.name: level for level in LEVELS}
_SIZES = re.compile(r"(\d+)-levels?-(\d+)-episodes?")


def kind(task: str) -> str:
    """ "compositional", "single", or "unknown" for a name that is not of a level."""
    level = _LEVELS.get(task)
    return "unknown" if level is None else "compositional" if level.compositional else "single"


def reason(task: str) -> str:
    """Why a level is compositional, in one word; "" if it is not."""
    return _LEVELS[task].composition if task in _LEVELS else ""


def level_order(tasks: Iterable[str]) -> list[str]:
    """Each once: by kind, then from simple to composed levels."""

    def place(task: str) -> tuple[int, int, str]:
        return (KINDS.index(kind(task)), _LEVELS[task].id if task in _LEVELS else 0, task)

    return sorted(set(tasks), key=place)


# --- task sets --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TaskSet:
    """Levels and how much data of each; the numbers are None where neither name nor runs tell.

    title: for panels. short: for columns.
    """

    name: str
    levels: int | None
    episodes: int | None
    title: str
    short: str


def task_sets(results: Results) -> list[TaskSet]:
    """The planned task sets, those with more levels later, then those with more data."""
    planned = results.planned(EXPERIMENT)
    sizes = {str(name): _size(results, str(name), group["run"]) for name, group in planned.groupby("task_set")}
    several = len({levels for levels, _ in sizes.values()}) > 1
    sets = []
    for name, (levels, episodes) in sizes.items():
        title = short = name
        if episodes is not None:
            head = f"{levels} levels, " if several else ""
            title, short = f"{head}{episodes:,} trajectories per level", f"{head}{episodes:,}"
        sets.append(TaskSet(name, levels, episodes, title, short))
    return sorted(sets, key=lambda s: (s.levels or 0, s.episodes or 0, s.name))


def _size(results: Results, name: str, runs: Iterable[str]) -> tuple[int | None, int | None]:
    """Levels and episodes of each. What the runs' configuration says counts; a set without runs yet has its name."""
    for run in runs:
        config = results.records.get(run, {}).get("config")
        if isinstance(config, dict) and isinstance(config.get("tasks"), list):
            episodes = config.get("episodes")
            if not isinstance(episodes, int):
                episodes = min(_dataset_sizes(results, run), default=None)
            return len(config["tasks"]), episodes
    found = _SIZES.fullmatch(name)
    return (int(found[1]), int(found[2])) if found else (None, None)


def _dataset_sizes(results: Results, run: str) -> list[int]:
    paths = results.records[run].get("data") or {}
    sizes = [results.manifests.get(path, {}).get("episodes") for path in paths]
    return [size for size in sizes if isinstance(size, int)]


def named_set(results: Results, claim: Claim) -> str | None:
    """The task set that a claim means.

    "smaller" and "larger" are those with the least and the most data, of the task sets with the most levels; a scale
    with one size only has no larger one. "probed" is the one with the most data on which the claim's agent was looked
    into (if none was, the one with the most data). Anything else is a task set's own name.
    """
    rule = claim.test["task_set"]
    if rule not in ("smaller", "larger", "probed"):
        return rule
    sets = task_sets(results)
    names = [s.name for s in sets if s.levels == sets[-1].levels]
    if not names or (rule == "larger" and len(names) == 1):
        return None
    if rule == "smaller":
        return names[0]
    if rule == "probed":
        names = [name for name in names if _probed(results, name, claim.test["a"])] or names
    return names[-1]


def _probed(results: Results, task_set: str, variant: str) -> bool:
    probes = (results.attention, results.interventions)
    return any(len(results.select(frame, EXPERIMENT, task_set, variant)) for frame in probes)


# --- success ----------------------------------------------------------------------------------------------------------


def success_table(results: Results, task_set: str, variant: str, experiment: str = EXPERIMENT) -> pd.DataFrame:
    """(seeds, levels): success in percent at the last evaluation. Empty where there are no usable runs."""
    return 100 * task_table(results, experiment, task_set, variant, "success_rate")


def seed_scores(results: Results, task_set: str, variant: str) -> dict[int, float]:
    """seed -> success in percent, mean over levels."""
    return seed_means(success_table(results, task_set, variant))


def success(results: Results, claim: Claim, settings: Settings) -> Samples | None:
    """Variant a against variant b, mean over levels of the success at the last evaluation."""
    return two_variants(seed_scores, results, claim)


def aggregate(results: Results) -> dict[str, float]:
    """run -> success in percent, mean over levels, at the last evaluation."""
    means = run_means(results.select(results.last, EXPERIMENT), "success_rate")
    return {run: 100 * value for run, value in means.items()}


# --- probes -----------------------------------------------------------------------------------------------------------


def intervention_table(results: Results, task_set: str, variant: str | None = None) -> pd.DataFrame:
    """Rows variant, intervention, seed, task, success (percent). Rows without a success rate are left out."""
    frame = results.select(results.interventions, EXPERIMENT, task_set, variant)
    rates = frame["success_rate"] if "success_rate" in frame else pd.Series(np.nan, index=frame.index)
    return frame.assign(success=100 * rates.astype(float)).dropna(subset=["success"])


def intervention(results: Results, claim: Claim, settings: Settings) -> Samples | None:
    """The same networks under the interventions `of` and `against`, on the levels that both were measured on."""
    return two_interventions(intervention_table(results, claim.test["task_set"], claim.test["a"]), claim, "success")


def attention_table(results: Results, task_set: str, variant: str, quantity: str) -> pd.DataFrame:
    """(seeds, levels): a quantity of attention.csv, as it stands there. May be empty."""
    return quantity_table(results.select(results.attention, EXPERIMENT, task_set, variant), quantity)


def attention_on_others(results: Results, task_set: str, variant: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(seeds, levels) each, in percent: attention on other levels' trajectories, and their share of the candidates."""
    share, candidates = (
        100 * attention_table(results, task_set, variant, name) for name in ("other_share", "other_candidates")
    )
    return share, candidates


def by_kind(table: pd.DataFrame, which: str) -> dict[int, float]:
    """(seeds, levels) -> seed -> mean over the levels of one kind."""
    return seed_means(table[[task for task in table if kind(task) == which]])


def retrieving_from_others(results: Results, task_set: str) -> list[str]:
    """The variants whose candidates include other levels' trajectories, by what was measured."""
    frame = results.select(results.attention, EXPERIMENT, task_set)
    frame = frame[(frame["quantity"] == "other_candidates") & (frame["value"].astype(float) > 0)]
    return sorted(set(frame["variant"]))


def other_share(results: Results, claim: Claim, settings: Settings) -> Samples | None:
    """Attention on other levels' trajectories, in percent: compositional levels minus single ones, seed by seed."""
    share, _ = attention_on_others(results, claim.test["task_set"], claim.test["a"])
    return _between_kinds(share)


def other_share_over_chance(results: Results, claim: Claim, settings: Settings) -> Samples | None:
    """As `other_share`, of the attention less the share that other levels' states have among the candidates."""
    share, chance = attention_on_others(results, claim.test["task_set"], claim.test["a"])
    return _between_kinds(share - chance)


def _between_kinds(table: pd.DataFrame) -> Samples | None:
    return paired(by_kind(table, "compositional"), by_kind(table, "single"))


# --- the chain from the batch to the gain -----------------------------------------------------------------------------

USED = "The head uses it"


class Link(NamedTuple):
    """One link: what was measured about it, variant -> interval over seeds."""

    link: str
    measured: str
    values: dict[str, Interval]
    digits: int = 3
    signed: bool = False


def missing_links(results: Results, task_set: str, variants: Sequence[str], settings: Settings) -> list[Link]:
    """What was measured about each link, for agents that retrieve; links without any measurement are left out."""

    def interval(samples: Samples | None) -> Interval | None:
        return samples and samples.interval(settings.level)

    def quantity(variant: str, name: str) -> dict[int, float]:
        return seed_means(attention_table(results, task_set, variant, name).dropna())

    def over_chance(variant: str) -> Interval | None:
        return interval(paired(quantity(variant, "related_share"), quantity(variant, "related_candidates")))

    def mean(variant: str, name: str) -> Interval | None:
        values = quantity(variant, name)
        return interval(Samples(values, design="single") if values else None)

    def lost(variant: str, name: str) -> Interval | None:
        frame = intervention_table(results, task_set, variant)
        return interval(paired(*(intervention_scores(frame, of, value="success") for of in ("own", name))))

    def against(variant: str, other: str) -> Interval | None:
        a, b = (seed_scores(results, task_set, v) for v in (variant, other))
        return interval(Samples(a, b) if a and b else None)

    def link(name: str, measured: str, of: Callable[[str], Interval | None], **form: Any) -> Link:
        found = {variant: of(variant) for variant in variants}
        return Link(name, measured, {v: value for v, value in found.items() if value is not None}, **form)

    points = {"digits": 1, "signed": True}
    links = [
        link(
            "It is in the batch",
            "share of episodes with a trajectory whose mission speaks of the same thing",
            lambda v: mean(v, "related_there"),
        ),
        link(
            "Attention finds it",
            "attention on such trajectories, less their share of the candidates",
            over_chance,
            signed=True,
        ),
        link(
            "The bottleneck lets it through",
            "KL of z's posterior from its prior, nats per step",
            lambda v: mean(v, "kl"),
        ),
        link(
            USED,
            "points of success lost when nothing is retrieved, same network",
            lambda v: lost(v, "removed"),
            **points,
        ),
        link(
            "As whole trajectories",
            "points of success lost when states are exchanged between trajectories",
            lambda v: lost(v, "shuffled"),
            **points,
        ),
        link(
            "Training with it gains",
            "points of success over the same network trained without retrieval and its auxiliary losses",
            lambda v: against(v, "no-retrieval"),
            **points,
        ),
    ]
    return [link for link in links if link.values]


def scale_facts(results: Results, claim: Claim) -> dict[str, float]:
    """Our numbers beside the paper's: the levels, and the trajectories of each that the agents learn from."""
    for chosen in task_sets(results):
        if chosen.name == claim.test["task_set"]:
            facts = {"trajectories per level": chosen.episodes, "levels": chosen.levels}
            return {name: float(value) for name, value in facts.items() if value}
    return {}


def effects(results: Results, settings: Settings) -> list[Effect]:
    """What retrieval adds with the most data, controls, and interventions where something was looked into."""
    sets = [chosen for chosen in task_sets(results) if len(results.select(results.last, EXPERIMENT, chosen.name))]
    if not sets:
        return []
    name = sets[-1].name
    found: list[Effect | None] = []
    for variant in ("ra-rdqn-own", PROBED):
        full, base, none = (seed_scores(results, name, v) for v in (variant, BASELINE, "no-retrieval"))
        opened = seed_scores(results, name, f"{variant}-open")
        gain = Samples(full, base) if full and base else None
        where = LABELS[variant].replace("RA-RDQN, ", "BabyAI, ")

        def made(
            change: Change, samples: Samples | None, where: str = where, gain: Samples | None = gain
        ) -> Effect | None:
            return effect(
                change, where, EXPERIMENT, name, samples, settings, unit="percentage points", digits=1, gain=gain
            )

        found.append(made(RETRIEVAL, gain))
        found.append(made(NOTHING_RETRIEVED, Samples(none, full) if none and full else None))
        found.append(made(NO_BOTTLENECK, Samples(opened, full) if opened and full else None))
        frame = intervention_table(results, name, variant)
        own = intervention_scores(frame, "own", value="success")
        for intervened, change in (("removed", REMOVED), ("shuffled", SHUFFLED), ("others", OTHERS)):
            found.append(made(change, paired(intervention_scores(frame, intervened, value="success"), own)))
    return present(found)


MEASURES = {
    "success": success,
    "intervention": intervention,
    "other_share": other_share,
    "other_share_over_chance": other_share_over_chance,
}
