"""Held-out tasks: never learned, handed over at evaluation by their datasets alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from rarl.reporting import figures, tables
from rarl.reporting.claims import Rules
from rarl.reporting.effects import Change, Effect, effect
from rarl.reporting.figures import PALETTE, Look, StripRow
from rarl.reporting.results import spelled
from rarl.reporting.sheet import Sheet
from rarl.reporting.study import Study

OWN, REMOVED, SWAPPED = "held-out", "held-out-removed", "held-out-swapped"
GIVEN: Mapping[str, Look] = {  # intervention -> what is given to retrieve from
    OWN: Look("the task's own dataset", PALETTE[1], "s"),
    SWAPPED: Look("a training task's dataset", PALETTE[3], "D"),
    REMOVED: Look("nothing", PALETTE[5], "v"),
}
_CHANGES = {
    REMOVED: Change("data", "Held-out tasks: nothing retrieved instead of their own datasets",
                    "held-out tasks: nothing", True),
    SWAPPED: Change("data", "Held-out tasks: a training task's dataset instead of their own",
                    "held-out tasks: another's", True),
}  # fmt: skip


def write(study: Study, sheet: Sheet) -> None:
    """Learned tasks beside held-out ones with each dataset, over all and task by task."""
    task_set = probed_set(study)
    if task_set is None or study.full is None:
        return
    level, full = sheet.rules.level, study.full
    frame = study.interventions(full, task_set)
    tasks = list(map(spelled, study.value(full, task_set, "held_out") or ()))
    noun = study.spec.task_noun
    sheet.heading("Does retrieval generalise zero-shot?")
    sheet.text(f"{tables.plural(len(tasks), f'held-out {noun}')}: {', '.join(map(tables.spaced, tasks))}.")
    learned = [StripRow(v.look, list(study.seed_scores(v, task_set).values())) for v in study.variants_on(task_set)]
    given = [StripRow(look, list(study.under(full, task_set, name).values())) for name, look in GIVEN.items()]
    strip, _ = figures.strip(
        {f"training {noun}s": learned, f"held-out {noun}s, {full.label} retrieves from": given},
        study.score.label,
        bounds=study.bounds,
    )
    data = frame[["intervention", "task", "given_task", "seed", "episodes", "score"]]
    sheet.figure(
        study.name,
        strip,
        data,
        f"Score of every seed on training {noun}s, and on held-out {noun}s with each dataset to retrieve from.",
        f"Mean over {noun}s. Training {noun}s: last evaluation. Dots: seeds. Tick and bar: mean with 95 % CI.",
    )
    rows: list[dict[str, Any]]
    rows = [{"variant": v.name, "intervention": "last evaluation", "on": f"training {noun}s", "agent": v.label,
             "score": study.interval(study.seed_scores(v, task_set), level), "delta": None, "won": None}
            for v in study.variants_on(task_set)]  # fmt: skip
    for name, look in GIVEN.items():
        change = study.acted(full, task_set, OWN, name) if name != OWN else None
        rows.append({
            "variant": full.name, "intervention": name, "on": f"held-out {noun}s, {look.label}", "agent": full.label,
            "score": study.interval(study.under(full, task_set, name), level),
            "delta": change and change.interval(level), "won": won(study, task_set, name) if name != OWN else None,
        })  # fmt: skip
    heads = {"on": "On", **study.heads, "delta": "Own dataset − this",
             "won": f"{noun.capitalize()}s on which the own dataset scores higher"}  # fmt: skip
    summary = pd.DataFrame(rows)
    summary = summary.assign(seeds=[mean.n[0] for mean in summary["score"]])
    sheet.table(f"{study.name}-means", summary, heads, f"training and held-out {noun}s, with 95 % CI.")


def probed_set(study: Study) -> str | None:
    """The largest task set on whose held-out tasks something was measured."""
    frame = study.interventions()
    probed = set(frame["task_set"][frame["intervention"].isin(list(GIVEN))])
    return next((name for name in reversed(study.used_sets) if name in probed), None)


def won(study: Study, task_set: str, against: str) -> str | None:
    """On how many held-out tasks, of how many, the own dataset gives more than another intervention: "5 of 8"."""
    frame = study.interventions(study.full, task_set)
    means = frame.groupby(["intervention", "task", "seed"])["score"].mean().groupby(["intervention", "task"]).mean()
    table = means.unstack("intervention").reindex(columns=[OWN, against]).dropna()
    return tables.unbroken(f"{int((table[OWN] > table[against]).sum())} of {len(table)}") if len(table) else None


def effects(study: Study, rules: Rules) -> list[Effect]:
    """What a held-out task loses when its dataset is taken away or exchanged."""
    task_set = probed_set(study)
    if task_set is None or study.full is None:
        return []
    found = (effect(change, study, task_set, study.acted(study.full, task_set, name, OWN), rules)
             for name, change in _CHANGES.items())  # fmt: skip
    return [one for one in found if one is not None]
