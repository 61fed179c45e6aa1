"""How settings were searched: the tries on record, and whether both sides of a comparison had the same number."""

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
from rarl.reporting.results import MEASURED, Results, normalised, spec_if_there

_WORDS = {**MEASURED, "td_error": "TD error"}
_COLUMNS = [
    tables.words("variant", "Variant"),
    tables.words("changed", "Changed", lambda changed: ", ".join(map(str, changed)) or "none"),
    tables.words("task_set", "Tasks"),
    tables.words("seed", "Seed"),
    tables.numbers("updates", "Updates"),
    tables.words("measure", "Measure", lambda name: _WORDS.get(name, name)),
    tables.words("last", "At the end", "{:.3g}".format),
    tables.numbers("core_seconds", "Core seconds"),
]


@dataclass(frozen=True)
class Try:
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


def read_tries(results: Results) -> list[Try]:
    """The tries at this scale in results/search/*.jsonl, in their order; a damaged record is noted as a problem."""
    tries: list[Try] = []
    for path in sorted((results.root / "results" / "search").glob("*.jsonl")):
        experiment = results.experiments.get(path.stem)
        spec = spec_if_there(experiment.environment) if experiment else None
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            try:
                e: dict[str, Any] = json.loads(line)
                updates, last = e["return_by_update"][-1]
                measure = e.get("measure") or (spec.score.column if spec else "return_mean")  # older ones do not say
                found = Try(path.stem, e["variant"], str(e["task_set"]), int(e["seed"]), tuple(e["changed"]),
                            int(updates), measure, float(last), float(e["core_seconds"]))  # fmt: skip
                if e["scale"] == results.scale:
                    tries.append(found)
            except (ValueError, KeyError, IndexError, TypeError, AttributeError):
                results.problems.append((f"results/search/{path.name}", f"line {number} is not a record of a try"))
    return tries


def table(tries: Sequence[Try]) -> str:
    """All of them."""
    return tables.to_markdown(pd.DataFrame([vars(entry) for entry in tries]), _COLUMNS)


def effort(
    tries: Sequence[Try], sides: Sequence[tuple[str, str]], experiments: Mapping[str, ExperimentSettings]
) -> str:
    """How often settings were tried for the two sides of a comparison; "" where there is one side, or no try at all.

    An experiment's base and full agent that have no tries of their own have the settings, and so the tries, of those of
    the experiment that it extends.
    """
    found = [_of(tries, *side, experiments) for side in sides]
    if len(set(sides)) < 2 or not any(found):
        return ""
    a, b = (len(of_side) for of_side in found)
    seeds = [len({entry.seed for entry in of_side}) for of_side in found]
    text = tables.plural(a, "trial") + (f" against {b}" if a != b else " each")
    if seeds[0] != seeds[1] and a and b:
        text += f", on {seeds[0]} and {seeds[1]} tuning seeds"
    shared = [set().union(*(entry.keys for entry in of_side)) for of_side in found]
    keys = sorted(shared[0] & shared[1])
    text += f"; both tried {', '.join(keys)}" if keys else ""
    return ("equal search: " if a == b and seeds[0] == seeds[1] else "unequal search: ") + text


def _of(
    tries: Sequence[Try], experiment: str, variant: str, experiments: Mapping[str, ExperimentSettings]
) -> list[Try]:
    own = [t for t in tries if t.experiment == experiment and fnmatchcase(t.variant, variant)]
    settings = experiments.get(experiment)
    extended = experiments.get((settings and settings.extends) or "")
    if own or settings is None or extended is None:
        return own
    for role in ("base_variant", "full_variant"):
        if variant == getattr(settings, role):
            name = getattr(extended, role) or next(iter(extended.variants))
            return [t for t in tries if t.experiment == settings.extends and t.variant == name]
    return []


def spread(tries: Sequence[Try], sides: Sequence[tuple[str, str]], results: Results) -> float:
    """Deviation of scores between tuning seeds of the same settings, of both sides together; NaN without such.

    Approximate where scores are shares of an expert's: the records have means over tasks, not tasks.
    """
    squares, freedom = 0.0, 0
    for experiment, variant in sides:
        groups: dict[tuple, dict[int, float]] = {}
        for t in _of(tries, experiment, variant, results.experiments):
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
