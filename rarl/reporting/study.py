"""One experiment as a study: what is compared with what, by which score, and the runs that there are of it.

Everything that the report shows of an experiment, whatever its environment, is drawn from a `Study`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from rarl.config.files import ExperimentSettings, VariantSettings
from rarl.config.settings import EpisodicSettings
from rarl.envs.content import content_of
from rarl.envs.spec import MEASURED_ON_DATA, EnvSpec, Score, spec_of
from rarl.reporting import tables
from rarl.reporting.claims import EVERY, LEVEL, ClaimTest
from rarl.reporting.configurations import differences, first_run, settings_of, value_of
from rarl.reporting.figures import Look, in_order, looks
from rarl.reporting.registry import USUAL_PARTS, page_of
from rarl.reporting.results import EVALUATED, Results, ends_of, normalised, spec_if_there, spelled
from rarl.reporting.statistics import (
    POSITIVE,
    UNBOUNDED,
    Bounds,
    Interval,
    Samples,
    independent,
    paired,
    score_table,
    seed_means,
    t_interval,
)


@dataclass(frozen=True, eq=False)
class Variant:
    """An agent of a study.

    runs: (experiment, variant) whose runs are its own; of another experiment where it is shown beside. settings: what
    the experiment's file says of it. look: how it is drawn. relative_to: names of the variants that it changes.
    """

    name: str
    runs: tuple[str, str]
    settings: VariantSettings
    look: Look
    relative_to: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """What it is called."""
        return self.look.label


class TaskSet(NamedTuple):
    """A task set. tasks: how many. episodes: of each task's dataset that are learned from. None: not known."""

    name: str
    tasks: int | None
    episodes: int | None


class Study:
    """What is compared with what in an experiment.

    settings: its file. spec, score: its environment, and by what its agents are compared. results: the runs of the
    scale. variants: name -> variant, in the order in which they are shown: those of the extended experiment that stand
    beside, then its own, then those that have runs and are not in the file. base, full: the agent without and the one
    with retrieval. parts: of its report.
    """

    def __init__(self, name: str, experiments: Mapping[str, ExperimentSettings], results: Results):
        self.name, self.results = name, results
        self._tables: dict[tuple, pd.DataFrame] = {}  # asked for thousands of times
        self.settings = experiments[name]
        self.title = self.settings.title
        self.spec: EnvSpec = spec_of(self.settings.environment)
        self.score: Score = self.spec.score
        extended = experiments.get(self.settings.extends or "")
        own = dict(self.settings.variants)
        base = self.settings.base_variant or next(iter(own))
        full = self.settings.full_variant
        beside = [n for n in dict.fromkeys([base, full, *self.settings.beside]) if n is not None and n not in own]
        found = {n: extended.variants[n] for n in beside if extended is not None and n in extended.variants}
        unknown = sorted(set(map(str, results.planned(name)["variant"])) - {*own, *found})
        found |= own | {n: VariantSettings() for n in unknown}
        kinds = {n: v.kind for n, v in found.items()} | {base: "base"} | ({full: "gain"} if full else {})
        first = [n for n in (base, full) if n in found]  # of equal claims to a look these have it
        drawn = looks({n: (found[n].label or n, found[n].group, kinds[n]) for n in dict.fromkeys([*first, *found])})
        self.variants: dict[str, Variant] = {}
        for n, settings in found.items():
            there = n not in own and n not in unknown
            runs = (self.settings.extends or "", settings.same_as or n) if there or settings.same_as else (name, n)
            default = () if kinds[n] == "base" else (base,) if kinds[n] == "gain" else (full or base,)
            relative = default if settings.relative_to is None else tuple(settings.relative_to)
            relative = tuple(other for other in relative if other in found and other != n)
            settings = settings.model_copy(update={"kind": kinds[n]})
            self.variants[n] = Variant(n, runs, settings, drawn[n], relative)
        self.parts = USUAL_PARTS if self.settings.report is None else tuple(self.settings.report)
        self.base: Variant = self.variants[base]
        self.full: Variant | None = self.variants[full] if full else None

    @cached_property
    def page(self) -> str:
        """The name of the page that tells of it: the appendix where the scale plans none of its runs."""
        return page_of(self.settings) if len(self.results.planned(self.name)) else "appendix"

    def variant(self, runs: tuple[str, str]) -> Variant:
        """The variant of these (experiment, variant); one that the study does not show has its name for a label."""
        plain = Variant(runs[1], runs, VariantSettings(), Look(runs[1], "black", "o"))
        return next((v for v in self.variants.values() if v.runs == runs), plain)

    def variants_like(self, runs: tuple[str, str]) -> list[Variant]:
        """Those of an (experiment, variant) of which the variant may be a pattern."""
        found = [v for v in self.variants.values() if v.runs[0] == runs[0] and fnmatchcase(v.runs[1], runs[1])]
        return found or [self.variant(runs)]

    def label(self, name: str) -> str:
        """What a variant of this name is called."""
        return self.variants[name].label if name in self.variants else name

    @cached_property
    def task_sets(self) -> list[TaskSet]:
        """The planned task sets, those with more tasks later, then those with more data."""
        planned = self.results.planned(self.name)
        sets = [self._task_set(str(name), group["run"]) for name, group in planned.groupby("task_set")]
        return sorted(sets, key=lambda s: (s.tasks or 0, s.episodes or 0, s.name))

    def _task_set(self, name: str, runs: Iterable[str]) -> TaskSet:
        """By the name, "6-levels-1000-episodes"; else by the evaluations, and the runs' datasets."""
        head, data = re.match(r"(\d+)-", name), re.search(r"(\d+)-episodes?$", name)
        tasks = int(head[1]) if head else self.rows(self.results.last, task_set=name)["task"].nunique()
        episodes = [int(data[1])] if data else [n for run in runs for n in self._dataset_sizes(run)]
        return TaskSet(name, tasks or None, min(episodes, default=None))

    def _dataset_sizes(self, run: str) -> list[int]:
        """Episodes that a run learns from, of each of its datasets."""
        if isinstance(first := value_of(self.results, run, "episodes"), int):
            return [first]
        paths = map(Path, self.results.records.get(run, {}).get("data", {}))
        found = [self.results.datasets.get("/".join(path.parts[2:5])) for path in paths]
        return [d.settings.episodes for d in found if d is not None and d.settings.episodes]

    @cached_property
    def used_sets(self) -> list[str]:
        """Names of the task sets on which variants of its own have usable runs, the largest last."""
        used = set(self.rows(self.results.last)["task_set"])
        return [chosen.name for chosen in self.task_sets if chosen.name in used]

    @cached_property
    def compared_sets(self) -> list[str]:
        """On what agents are compared: the used sets; all of them at once where every run learns one task alone."""
        return [EVERY] if self.used_sets and self.spec.one_task else self.used_sets

    def set_title(self, task_set: str) -> str:
        """A task set for people: "30 tasks"; "1,000 episodes per level" where sets differ in that alone."""
        if task_set == EVERY:
            sets = self.used_sets or [chosen.name for chosen in self.task_sets]
            return tables.spaced(sets[0]) if len(sets) == 1 else tables.plural(len(sets), self.spec.task_noun)
        known = {chosen.name: chosen for chosen in self.task_sets}
        chosen = known.get(task_set)
        if chosen and chosen.episodes and len(known) > 1 and len({c.tasks for c in known.values()}) == 1:
            return f"{chosen.episodes:,} episodes per {self.spec.task_noun}"
        return tables.spaced(task_set)

    def variants_on(self, task_set: str, *, sweeps: bool = True) -> list[Variant]:
        """Those with usable runs on a task set; with or without those that are there for a sweep alone."""
        found = [v for v in self.variants.values() if sweeps or not v.settings.sweep]
        return [v for v in found if self.table(v, task_set).shape[1]]

    def groups_on(self, task_set: str) -> dict[str, list[Variant]]:
        """Header -> the variants of a task set that are shown in one panel: a group, and what it changes of others."""
        shown = self.variants_on(task_set, sweeps=False)
        groups: dict[str, list[Variant]] = {}
        for variant in shown:
            groups.setdefault(variant.settings.group, []).append(variant)
        for variants in groups.values():
            changed = {name for v in variants for name in v.relative_to if v.settings.kind not in ("base", "gain")}
            variants[:0] = [v for v in shown if v.name in changed and v not in variants]
        return groups

    def panels_on(self, task_sets: Iterable[str]) -> list[tuple[str, str, list[Variant]]]:
        """(task set, header, variants) of each panel, see `groups_on`."""
        return [(chosen, *group) for chosen in task_sets for group in self.groups_on(chosen).items()]

    def task_order(self, tasks: Iterable[str]) -> dict[str, list[str]]:
        """Header -> tasks, as they are spelled in tables, in the order of the environment."""
        tasks = set(tasks)
        groups = {header: [t for t in map(spelled, members) if t in tasks]
                  for header, members in self.spec.task_groups.items()}  # fmt: skip
        rest = in_order(map(spelled, self.spec.tasks), sorted(tasks - {t for g in groups.values() for t in g}))
        groups["other" if self.spec.task_groups else ""] = rest
        return {header: members for header, members in groups.items() if members}

    def where(self, task_set: str, variant: Variant | None = None) -> str:
        """The experiment, and what of it, for lists over all experiments. variant: a full agent, named if there are
        several."""
        if self.settings.extends:
            return f"{self.title}, {self.set_title(task_set)}"
        several = sum(v.settings.kind == "gain" for v in self.variants.values()) > 1
        return f"{self.title}, {variant.label}" if variant is not None and several else self.title

    @property
    def heads(self) -> dict[str, str]:
        """Of tables with a row for each task set and variant: agent, set, seeds, score."""
        noun = f"{self.spec.task_noun.capitalize()}s"
        return {"agent": "Agent", "set": noun, "seeds": "Seeds", "score": self.score.label.capitalize()}

    @cached_property
    def bounds(self) -> Bounds:
        """Where scores can be: success and agreement are shares; a share of the expert's return has no sign where no
        reward has."""
        score = self.score
        if score.normaliser is None and score.column in ("success_rate", MEASURED_ON_DATA[0]):
            return (0.0, score.factor)
        if score.normaliser == "expert":
            return POSITIVE if self.spec.reward_range[0] >= 0 else UNBOUNDED
        if score.normaliser is None:
            return UNBOUNDED
        tasks = self.rows(self.results.last)["task"].drop_duplicates()
        lows = normalised(self.spec, tasks, ends_of(self.spec, tasks)[2])
        return (float(lows.min()), math.inf) if len(lows) and lows.notna().all() else UNBOUNDED

    def interval(self, scores: Mapping[int, float] | Sequence[float], level: float = LEVEL) -> Interval:
        """Of the mean of seeds' scores."""
        return t_interval(list(scores.values() if isinstance(scores, Mapping) else scores), level, self.bounds)

    def rows(self, frame: pd.DataFrame, variant: Variant | None = None, task_set: str | None = None) -> pd.DataFrame:
        """Those of a table of `results`. variant: None takes those of the experiment's own. task_set: `EVERY` and None
        take all."""
        experiment, name = variant.runs if variant else (self.name, None)
        return self.results.select(frame, experiment, None if task_set == EVERY else task_set, name)

    @cached_property
    def also_measured(self) -> list[str]:
        """What evaluations of this environment measure beside what all do: columns' names."""
        frame = self.results.select(self.results.evaluations, self.name)
        own = [name for name in frame if name not in EVALUATED]
        return [name for name in own if pd.api.types.is_numeric_dtype(frame[name]) and frame[name].notna().any()]

    def table(self, variant: Variant, task_set: str, value: str = "score", at: str = "last") -> pd.DataFrame:
        """(seeds, tasks): a column of the last evaluations, or of the first; may be empty. Where every run learns one
        task alone, the columns are task sets, those of `EVERY` all."""
        key = (variant.runs, task_set, value, at)
        if key not in self._tables:
            frame = self.rows(getattr(self.results, at), variant, task_set)
            frame = frame.assign(task=frame["task_set"]) if self.spec.one_task else frame
            self._tables[key] = score_table(frame, value).astype(float)
        return self._tables[key]

    def seed_scores(self, variant: Variant, task_set: str, at: str = "last") -> dict[int, float]:
        """seed -> mean over tasks of the last score (the first). A seed that lacks a task's score is left out."""
        return seed_means(self.table(variant, task_set, at=at))

    def mismatches(self, a: Variant, b: Variant, task_set: str) -> list[str]:
        """Why two variants may not be compared: what agents of different experiments should share and do not."""
        if a.runs[0] == b.runs[0] or self.settings.whole_recipes:
            return []
        found = []
        for name in self.used_sets if task_set == EVERY else [task_set]:
            runs = [first_run(self.results, experiment, name, variant) for experiment, variant in (a.runs, b.runs)]
            if runs[0] is not None and runs[1] is not None:
                differing = differences(self.results, runs[0], runs[1])
                found += [f"{key} {_short(x)} against {_short(y)}" for key, x, y in differing]
        return list(dict.fromkeys(found))

    def compare(self, a: Variant, b: Variant, task_set: str) -> Samples | None:
        """a against b, with independent seeds, over the tasks that both have; None where they may not be compared."""
        if self.mismatches(a, b, task_set):
            return None
        tables_of = common([self.table(variant, task_set) for variant in (a, b)])
        return independent(*map(seed_means, tables_of), bounds=self.bounds)

    def value(self, variant: Variant, task_set: str, key: str) -> Any:
        """A variant's configured value of a dotted key, or None."""
        runs = [first_run(self.results, variant.runs[0], name, variant.runs[1])
                for name in (self.used_sets if task_set == EVERY else [task_set])]  # fmt: skip
        return next((value_of(self.results, run, key) for run in runs if run is not None), None)

    def interventions(self, variant: Variant | None = None, task_set: str | None = None) -> pd.DataFrame:
        """Rows of interventions with a score. variant: None takes those of the experiment's own."""
        return self.rows(self.results.interventions, variant, task_set).dropna(subset=["score"])

    def under(
        self, variant: Variant, task_set: str, intervention: str, tasks: set[str] | None = None
    ) -> dict[int, float]:
        """seed -> mean score over tasks (these; None: all), each the mean over the datasets given, under one
        intervention."""
        frame = self.interventions(variant, task_set)
        frame = frame[frame["intervention"] == intervention]
        frame = frame if tasks is None else frame[frame["task"].isin(tasks)]
        means = frame.groupby(["seed", "task"])["score"].mean().groupby("seed").mean()
        return {int(seed): float(mean) for seed, mean in means.items()}

    def acted(self, variant: Variant, task_set: str, of: str, against: str) -> Samples | None:
        """The same networks under two interventions, on the tasks that both were measured on."""
        frame = self.interventions(variant, task_set)
        both = set.intersection(*(set(frame["task"][frame["intervention"] == name]) for name in (of, against)))
        return paired(*(self.under(variant, task_set, name, both) for name in (of, against)), bounds=self.bounds)

    def attention(self, variant: Variant, task_set: str, quantity: str) -> pd.DataFrame:
        """(seeds, tasks): a quantity of attention.csv. May be empty."""
        key = (variant.runs, task_set, quantity)
        if key not in self._tables:
            frame = self.rows(self.results.attention, variant, task_set)
            frame = frame[frame["quantity"] == quantity].astype({"value": float})
            self._tables[key] = frame.pivot_table(index="seed", columns="task", values="value", aggfunc="mean")
        return self._tables[key]

    def probed_sets(self) -> list[str]:
        """The used task sets on which interventions were measured, the largest last."""
        probed = set(self.interventions()["task_set"])
        return [name for name in self.used_sets if name in probed]

    def steps_per_update(self, run: str) -> float:
        """Environment steps (frames, where actions are repeated) that a run plays between two updates; NaN if none."""
        config = settings_of(self.results, run)
        online, episodic = config.get("online"), config.get("episodic")
        if isinstance(online, Mapping):
            return float(online["actors"] * online["steps_per_update"] * self._repeats(config))
        if isinstance(episodic, Mapping):
            each = episodic.get("episodes_per_update", EpisodicSettings().episodes_per_update)
            content = content_of(self.settings.environment)
            return float(each * len(config.get("tasks") or []) * (getattr(content, "steps", None) or math.nan))
        return math.nan

    def steps(self, frame: pd.DataFrame) -> pd.Series:
        """Steps that were played up to each row's update, by its run; see `steps_per_update`."""
        each = {run: self.steps_per_update(run) for run in frame["run"].unique()}
        return frame["update"] * frame["run"].map(each).astype(float)

    def x_axis(self, curves: pd.DataFrame) -> tuple[str, str]:
        """(column, what it counts) to draw curves against: steps if all of the study's own agents play themselves."""
        own = [name for name, variant in self.variants.items() if variant.runs[0] == self.name]
        plays = curves["steps"][curves["variant"].isin(own)].notna().all()
        return ("steps", self.step_unit) if plays else ("update", "updates")

    @cached_property
    def step_unit(self) -> str:
        """What `steps_per_update` counts."""
        repeats = [self._repeats(settings_of(self.results, run)) for run in self.results.planned(self.name)["run"]]
        return "frames" if any(n != 1 for n in repeats) else "environment steps"

    def _repeats(self, config: Mapping[str, Any]) -> int:
        """For how many frames an action is repeated."""
        return (config.get("environment_options") or {}).get(self.spec.repeats, 1) if self.spec.repeats else 1

    def curves(self, task_sets: Iterable[str]) -> pd.DataFrame:
        """Rows task_set, variant, seed, update, steps, raw (as it was measured), score: means over tasks at each
        evaluation."""
        keys, parts = ["task_set", "variant", "seed", "run", "update"], []
        for variant in self.variants.values():
            frame = self.rows(self.results.evaluations, variant)
            frame = frame[frame["task_set"].isin(list(task_sets))].assign(variant=variant.name)
            if len(frame):
                grouped_ = frame.assign(raw=frame[self.score.column].astype(float)).groupby(keys)
                curve = grouped_[["raw", "score"]].agg(lambda x: x.mean(skipna=False)).reset_index()
                parts.append(curve.assign(steps=self.steps(curve)))
        columns = ["task_set", "variant", "seed", "update", "steps", "raw", "score"]
        return pd.concat(parts)[columns] if parts else pd.DataFrame(columns=columns)

    def named_set(self, test: ClaimTest) -> str | None:
        """The task set that a claim means (see config/claims.yaml); None where this scale has none.

        "every" and, where every run learns one task alone, "shared" are all at once. With one amount of data there is
        no "larger" one; if no set was probed, "probed" is the one with the most data.
        """
        rule, planned = test.task_set, self.results.planned()
        if rule in (EVERY, "shared"):
            sets = [set(planned["task_set"][of_side(planned, side)]) for side in test.sides()]
            shared = set.intersection(*sets)
            if rule == EVERY or self.spec.one_task:
                return EVERY if (all(sets) if rule == EVERY else shared) else None
            return next((chosen.name for chosen in reversed(self.task_sets) if chosen.name in shared), None)
        if rule not in ("smaller", "larger", "probed"):
            return rule
        names = [chosen.name for chosen in self.task_sets if chosen.tasks == self.task_sets[-1].tasks]
        if rule == "smaller" or not names:
            return names[0] if names else None
        if rule == "probed":
            experiment, variant = test.sides()[0]
            probes = (self.results.attention, self.results.interventions)
            probed = {name for name in names for frame in probes
                      if len(self.results.select(frame, experiment, name, variant))}  # fmt: skip
            names = [name for name in names if name in probed] or names
        return None if rule == "larger" and len(names) == 1 else names[-1]

    def sizes(self, test: ClaimTest) -> dict[str, float]:
        """How large the runs of a claim are, in the words of claims.yaml, to be set beside the paper's."""
        noun = self.spec.task_noun
        if self.spec.one_task:
            last = self.results.last
            a, b = (of_side(last, side) for side in (test.sides()[0], test.sides()[-1]))
            last = last[a | b]
            found = {f"frames per {noun}": self.steps(last).min(), f"{noun}s": last["task"].nunique()}
        else:
            chosen = next((c for c in self.task_sets if c.name == test.task_set), TaskSet("", None, None))
            found = {f"episodes per {noun}": chosen.episodes, f"{noun}s": chosen.tasks}
        return {name: float(value) for name, value in found.items() if value and value > 0}


def load_studies(results: Results, scale_order: Sequence[str] = ()) -> dict[str, Study]:
    """Every experiment of the project as a study, in the order of the scale, each followed by those that extend it. One
    of which there are no runs, and whose environment is not there (not installed, for example), is left out."""
    experiments = results.experiments
    ordered = in_order(scale_order, experiments)
    mains = [name for name in ordered if experiments[name].extends not in experiments]
    names = [n for main in mains for n in (main, *(e for e in ordered if experiments[e].extends == main))]
    has_runs = set(results.runs["experiment"])
    shown = [n for n in names if n in has_runs or spec_if_there(experiments[n].environment) is not None]
    return {name: Study(name, experiments, results) for name in shown}


def common(frames: Sequence[pd.DataFrame]) -> list[pd.DataFrame]:
    """The same tables with only those columns that all have."""
    columns = [name for name in frames[0] if all(name in frame for frame in frames)]
    return [frame[columns] for frame in frames]


def of_side(runs: pd.DataFrame, side: tuple[str, str]) -> pd.Series:
    """Which rows are of an (experiment, variant), of which the variant may be a pattern."""
    experiment, pattern = side
    return (runs["experiment"] == experiment) & runs["variant"].map(lambda v: fnmatchcase(v, pattern)).astype(bool)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}…"
