"""How settings were searched: the trials on record, and whether both sides of a comparison had the same number."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from rarl.config.files import ExperimentSettings
from rarl.reporting import tables
from rarl.reporting.results import Results, normalised, spec_if_there
from rarl.reporting.study import of_side

_COLUMNS = ["experiment", "variant", "task_set", "seed", "changed", "updates", "measure", "last", "core_seconds"]


def read_trials(results: Results) -> pd.DataFrame:
    """The trials at this scale in results/search/*.jsonl, in their order: trainings with changed settings on a tuning
    seed. `last` is the mean of the column `measure` at the end. A damaged record is noted as a problem."""
    trials: list[tuple] = []
    for path in sorted((results.root / "results" / "search").glob("*.jsonl")):
        experiment = results.experiments.get(path.stem)
        spec = spec_if_there(experiment.environment) if experiment else None
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            try:
                e: dict[str, Any] = json.loads(line)
                updates, last = e["return_by_update"][-1]
                measure = e.get("measure") or (spec.score.column if spec else "return_mean")  # older ones do not say
                found = (path.stem, e["variant"], str(e["task_set"]), int(e["seed"]), tuple(e["changed"]),
                         int(updates), measure, float(last), float(e["core_seconds"]))  # fmt: skip
                if e["scale"] == results.scale:
                    trials.append(found)
            except (ValueError, KeyError, IndexError, TypeError, AttributeError):
                results.note(f"results/search/{path.name}", f"line {number} is not a record of a trial")
    return pd.DataFrame(trials, columns=_COLUMNS)


def frame(trials: pd.DataFrame) -> pd.DataFrame:
    """All of them, with what they changed as text."""
    return trials.assign(changed=[", ".join(map(str, changed)) for changed in trials["changed"]])


def counts(trials: pd.DataFrame) -> pd.DataFrame:
    """A row for each variant: its trials, their tuning seeds, the settings that they changed."""
    rows = [{"experiment": experiment, "variant": variant, "trials": len(own), "seeds": own["seed"].nunique(),
             "changed": ", ".join(sorted(_keys(own)))}
            for (experiment, variant), own in trials.groupby(["experiment", "variant"])]  # fmt: skip
    return pd.DataFrame(rows)


def _keys(trials: pd.DataFrame) -> set[str]:
    """The settings that were changed, budget and evaluation aside."""
    keys = {change.partition("=")[0] for changed in trials["changed"] for change in changed}
    return {key for key in keys if key != "updates" and not key.startswith("evaluation.")}


def effort(
    trials: pd.DataFrame, sides: Sequence[tuple[str, str]], experiments: Mapping[str, ExperimentSettings]
) -> str:
    """How often settings were tried for the two sides of a comparison; "" where there is one side, or no trial at all.

    An experiment's base and full agent that have no trials of their own have the settings, and so the trials, of those
    of the experiment that it extends.
    """
    found = [_of(trials, side, experiments) for side in sides]
    if len(set(sides)) < 2 or not any(map(len, found)):
        return ""
    (a, b), seeds = map(len, found), [of_side["seed"].nunique() for of_side in found]
    keys = sorted(set.intersection(*map(_keys, found)))
    text = tables.plural(a, "trial") + (f" against {b}" if a != b else " each")
    text += f", on {seeds[0]} and {seeds[1]} tuning seeds" if seeds[0] != seeds[1] and a and b else ""
    text += f"; both tried {', '.join(keys)}" if keys else ""
    return ("equal search: " if a == b and seeds[0] == seeds[1] else "unequal search: ") + text


def _of(trials: pd.DataFrame, side: tuple[str, str], experiments: Mapping[str, ExperimentSettings]) -> pd.DataFrame:
    own, settings = trials[of_side(trials, side)], experiments.get(side[0])
    extended = experiments.get((settings and settings.extends) or "")
    if len(own) or settings is None or extended is None:
        return own
    for role in ("base_variant", "full_variant"):
        if side[1] == getattr(settings, role):
            name = getattr(extended, role) or next(iter(extended.variants))
            return trials[(trials["experiment"] == settings.extends) & (trials["variant"] == name)]
    return own


def spread(trials: pd.DataFrame, sides: Sequence[tuple[str, str]], results: Results) -> float:
    """Deviation of scores between tuning seeds of the same settings, of both sides together; NaN without such.

    Approximate where scores are shares of an expert's: the records have means over tasks, not tasks.
    """
    squares, freedom, same = 0.0, 0, ["variant", "task_set", "changed", "updates"]
    for side in sides:
        found = _of(trials, side, results.experiments).drop_duplicates([*same, "seed"], keep="last")
        scale = _per_unit(results, side[0])
        for _, last in found.groupby(same, sort=False)["last"]:
            squares += float(np.var(last)) * len(last) * scale**2
            freedom += len(last) - 1
    return (squares / freedom) ** 0.5 if freedom else math.nan


def _per_unit(results: Results, experiment: str) -> float:
    """How much score one of the measured column is, mean over the experiment's tasks."""
    last = results.select(results.last, experiment)
    spec = spec_if_there(results.experiments[experiment].environment) if experiment in results.experiments else None
    if spec is None or last.empty:
        return math.nan
    one, none = (normalised(spec, last["task"], pd.Series(x, last.index), last["expert"]) for x in (1.0, 0.0))
    return float((one - none).mean())
