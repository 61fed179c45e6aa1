"""How settings were searched: the trials on record, and whether both sides of a comparison had the same number."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from rarl.reporting import tables
from rarl.reporting.results import Results, normalised, spec_if_there
from rarl.reporting.study import of_side


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


def effort(sides: Sequence[tuple[str, str]], results: Results) -> str:
    """How often settings were tried for the two sides of a comparison; "" where there is one side, or no trial at all.

    An experiment's base and full agent that have no trials of their own have the settings, and so the trials, of those
    of the experiment that it extends.
    """
    found = [_of(side, results) for side in sides]
    if len(set(sides)) < 2 or not any(map(len, found)):
        return ""
    (a, b), seeds = map(len, found), [trials["seed"].nunique() for trials in found]
    keys = sorted(set.intersection(*map(_keys, found)))
    text = tables.plural(a, "trial") + (f" against {b}" if a != b else " each")
    text += f", on {seeds[0]} and {seeds[1]} tuning seeds" if seeds[0] != seeds[1] and a and b else ""
    text += f"; both tried {', '.join(keys)}" if keys else ""
    return ("equal search: " if a == b and seeds[0] == seeds[1] else "unequal search: ") + text


def _of(side: tuple[str, str], results: Results) -> pd.DataFrame:
    trials, settings = results.trials, results.experiments.get(side[0])
    own, extended = trials[of_side(trials, side)], results.experiments.get((settings and settings.extends) or "")
    if len(own) or settings is None or extended is None:
        return own
    for role in ("base_variant", "full_variant"):
        if side[1] == getattr(settings, role):
            name = getattr(extended, role) or next(iter(extended.variants))
            return trials[(trials["experiment"] == settings.extends) & (trials["variant"] == name)]
    return own


def spread(sides: Sequence[tuple[str, str]], results: Results) -> float:
    """Deviation of scores between tuning seeds of the same settings, of both sides together; NaN without such.

    Approximate where scores are shares of an expert's: the records have means over tasks, not tasks.
    """
    squares, freedom, same = 0.0, 0, ["variant", "task_set", "changed", "updates", "scale"]
    for side in sides:
        found = _of(side, results).drop_duplicates([*same, "seed"], keep="last")
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
