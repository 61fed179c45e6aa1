"""How settings were searched: the trials on record, and whether both sides of a comparison had the same number."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from rarl.reporting import tables
from rarl.reporting.configurations import value_of
from rarl.reporting.results import Results, normalised, spec_if_there
from rarl.reporting.study import of_side


def frame(trials: pd.DataFrame) -> pd.DataFrame:
    """All of them, with what they changed as text; without their whole settings."""
    changed = [", ".join(map(str, changed)) for changed in trials["changed"]]
    return trials.drop(columns="settings").assign(changed=changed)


def counts(trials: pd.DataFrame) -> pd.DataFrame:
    """A row for each variant: its trials, their tuning seeds, the settings that they changed."""
    rows = [{"experiment": experiment, "variant": variant, "trials": len(own), "seeds": own["seed"].nunique(),
             "changed": ", ".join(sorted(_keys(own)))}
            for (experiment, variant), own in trials.groupby(["experiment", "variant"])]  # fmt: skip
    return pd.DataFrame(rows)


def _keys(trials: pd.DataFrame) -> set[str]:
    """The settings that were changed, budget and evaluation aside: in a trial's command, or in the files between two of
    a variant's trials, where both have the setting."""
    keys = {change.partition("=")[0] for changed in trials["changed"] for change in changed}
    for _, settings in trials.groupby("variant")["settings"]:
        shared = {key for key in set.intersection(*map(set, settings)) if key.startswith(("agent.", "learning."))}
        if not any(map(_retrieves, settings)):
            shared = {key for key in shared if not key.startswith("agent.retrieval.")}
        keys |= {key for key in shared if len({str(each[key]) for each in settings}) > 1}
    return {key for key in keys if key != "updates" and not key.startswith("evaluation.")}


def _retrieves(settings: Mapping[str, Any]) -> bool:
    """Whether a trial's agent did; what others have of the settings of retrieval means nothing. Older records say it by
    the agent's name."""
    older = settings.get("agent.kind")
    if older is not None:
        return str(older).startswith("ra-")
    return settings.get("agent.retrieval.process", "none") != "none"


def effort(sides: Sequence[tuple[str, str]], results: Results) -> str:
    """How often settings were tried for the two sides of a comparison; "" where there is one side, or no trial at all.

    An experiment's base and full agent that have no trials of their own have the settings, and so the trials, of those
    of the experiment that it extends.
    """
    found, unrecorded = [_of(side, results) for side in sides], [_unrecorded(side, results) for side in sides]
    if len(set(sides)) < 2 or not any(map(len, found)):
        return ""
    (a, b), seeds = map(len, found), [trials["seed"].nunique() for trials in found]
    keys = sorted(set.intersection(*map(_keys, found)))
    of_a, of_b = (_lent(side, len(trials), results) for side, trials in zip(sides, found, strict=True))
    of_a, of_b = (
        f"{of}, and about {n} not recorded" if n else of for of, n in zip((of_a, of_b), unrecorded, strict=True)
    )
    equal = a == b and unrecorded[0] == unrecorded[1]
    text = tables.plural(a, "trial") + of_a + (" each" if equal else f" against {b}{of_b}")
    text += f", on {seeds[0]} and {seeds[1]} tuning seeds" if seeds[0] != seeds[1] and a and b else ""
    text += f"; both tried {', '.join(keys)}" if keys else ""
    return ("equal search: " if equal and seeds[0] == seeds[1] else "unequal search: ") + text


def _unrecorded(side: tuple[str, str], results: Results) -> int:
    settings = results.experiments.get(side[0])
    return settings.unrecorded_trials.get(side[1], 0) if settings is not None else 0


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


def _lent(side: tuple[str, str], trials: int, results: Results) -> str:
    """Whose trials found the settings of a variant that has none of its own: those of its experiment's full agent, or
    of the base agent where it does not retrieve, if that is an agent of the same kind."""
    settings = results.experiments.get(side[0])
    if trials or settings is None:
        return ""

    def of(side: tuple[str, str], key: str) -> object:
        runs = results.runs[of_side(results.runs, side) & results.runs["usable"]]["run"]
        return value_of(results, runs.iloc[0], f"agent.{key}") if len(runs) else None

    retrieves = of(side, "retrieval.process") in ("slots", "direct")
    lender = (side[0], (settings.full_variant if retrieves else None) or settings.base_variant or "")
    n = len(_of(lender, results)) if lender != side and of(lender, "base") == of(side, "base") is not None else 0
    return f" (settings from {tables.plural(n, 'trial')} of {results.label(*lender)})" if n else ""


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
