"""How settings were searched: the trials on record, and whether both sides of a comparison had the same number."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pandas as pd

from rarl.config.files import ExperimentSettings
from rarl.reporting import tables
from rarl.reporting.results import Results, normalised, spec_if_there


@dataclass(frozen=True)
class Trial:
    """One training with changed settings on a tuning seed. measure: the column that `last` is the mean of."""

    experiment: str
    variant: str
    task_set: str
    seed: int
    changed: tuple[str, ...]
    updates: int
    measure: str
    last: float
    core_seconds: float

    @property
    def keys(self) -> set[str]:
        """The settings that it changed, budget and evaluation aside."""
        keys = {change.partition("=")[0] for change in self.changed}
        return {key for key in keys if key != "updates" and not key.startswith("evaluation.")}


def read_trials(results: Results) -> list[Trial]:
    """The trials at this scale in results/search/*.jsonl, in their order; a damaged record is noted as a problem."""
    trials: list[Trial] = []
    for path in sorted((results.root / "results" / "search").glob("*.jsonl")):
        experiment = results.experiments.get(path.stem)
        spec = spec_if_there(experiment.environment) if experiment else None
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            try:
                e: dict[str, Any] = json.loads(line)
                updates, last = e["return_by_update"][-1]
                measure = e.get("measure") or (spec.score.column if spec else "return_mean")  # older ones do not say
                found = Trial(path.stem, e["variant"], str(e["task_set"]), int(e["seed"]), tuple(e["changed"]),
                            int(updates), measure, float(last), float(e["core_seconds"]))  # fmt: skip
                if e["scale"] == results.scale:
                    trials.append(found)
            except (ValueError, KeyError, IndexError, TypeError, AttributeError):
                results.note(f"results/search/{path.name}", f"line {number} is not a record of a trial")
    return trials


def frame(trials: Sequence[Trial]) -> pd.DataFrame:
    """All of them, a row each."""
    return pd.DataFrame([vars(trial) | {"changed": ", ".join(map(str, trial.changed))} for trial in trials])


def counts(trials: Sequence[Trial]) -> pd.DataFrame:
    """A row for each variant: its trials, their tuning seeds, the settings that they changed."""
    rows = pd.DataFrame([vars(trial) | {"keys": tuple(trial.keys)} for trial in trials])
    if rows.empty:
        return rows
    return rows.groupby(["experiment", "variant"]).agg(
        trials=("seed", "size"), seeds=("seed", "nunique"),
        changed=("keys", lambda keys: ", ".join(sorted(set().union(*keys)))),
    ).reset_index()  # fmt: skip


def effort(
    trials: Sequence[Trial], sides: Sequence[tuple[str, str]], experiments: Mapping[str, ExperimentSettings]
) -> str:
    """How often settings were tried for the two sides of a comparison; "" where there is one side, or no trial at all.

    An experiment's base and full agent that have no trials of their own have the settings, and so the trials, of those
    of the experiment that it extends.
    """
    found = [_of(trials, *side, experiments) for side in sides]
    if len(set(sides)) < 2 or not any(found):
        return ""
    (a, b), seeds = map(len, found), [len({trial.seed for trial in of_side}) for of_side in found]
    keys = sorted(set.intersection(*(set().union(*(trial.keys for trial in of_side)) for of_side in found)))
    text = tables.plural(a, "trial") + (f" against {b}" if a != b else " each")
    text += f", on {seeds[0]} and {seeds[1]} tuning seeds" if seeds[0] != seeds[1] and a and b else ""
    text += f"; both tried {', '.join(keys)}" if keys else ""
    return ("equal search: " if a == b and seeds[0] == seeds[1] else "unequal search: ") + text


def _of(
    trials: Sequence[Trial], experiment: str, variant: str, experiments: Mapping[str, ExperimentSettings]
) -> list[Trial]:
    own = [t for t in trials if t.experiment == experiment and fnmatchcase(t.variant, variant)]
    settings = experiments.get(experiment)
    extended = experiments.get((settings and settings.extends) or "")
    if own or settings is None or extended is None:
        return own
    for role in ("base_variant", "full_variant"):
        if variant == getattr(settings, role):
            name = getattr(extended, role) or next(iter(extended.variants))
            return [t for t in trials if t.experiment == settings.extends and t.variant == name]
    return []


def spread(trials: Sequence[Trial], sides: Sequence[tuple[str, str]], results: Results) -> float:
    """Deviation of scores between tuning seeds of the same settings, of both sides together; NaN without such.

    Approximate where scores are shares of an expert's: the records have means over tasks, not tasks.
    """
    squares, freedom = 0.0, 0
    for experiment, variant in sides:
        groups: dict[tuple, dict[int, float]] = {}
        for t in _of(trials, experiment, variant, results.experiments):
            groups.setdefault((t.variant, t.task_set, t.changed, t.updates), {})[t.seed] = t.last
        scale = _per_unit(results, experiment)
        for values in groups.values():
            squares += float(np.var(list(values.values()))) * len(values) * scale**2
            freedom += len(values) - 1
    return (squares / freedom) ** 0.5 if freedom else math.nan


def _per_unit(results: Results, experiment: str) -> float:
    """How much score one of the measured column is, mean over the experiment's tasks."""
    last = results.select(results.last, experiment)
    spec = spec_if_there(results.experiments[experiment].environment) if experiment in results.experiments else None
    if spec is None or last.empty:
        return math.nan
    one, none = (normalised(spec, last["task"], pd.Series(x, last.index), last["expert"]) for x in (1.0, 0.0))
    return float((one - none).mean())
