"""Held-out tasks: never trained on, handed over at evaluation by their datasets alone."""

from __future__ import annotations

from rarl.reporting import figures, tables
from rarl.reporting.figures import PALETTE, Look, StripRow
from rarl.reporting.registry import HELD_OUT
from rarl.reporting.results import spelled
from rarl.reporting.sheet import Sheet
from rarl.reporting.study import Study

_DRAWN = ((PALETTE[1], "s"), (PALETTE[3], "D"), (PALETTE[5], "v"))
LOOKS = {name: Look(given, *drawn) for (name, given), drawn in zip(HELD_OUT.items(), _DRAWN, strict=True)}


def write(study: Study, sheet: Sheet) -> None:
    """Training tasks beside held-out ones with each dataset, on the largest task set that was probed."""
    frame = study.interventions(study.full) if study.full is not None else study.interventions()
    frame = frame[frame["intervention"].isin(list(LOOKS))]
    if study.full is None or frame.empty:
        return
    full, task_set = study.full, next(s for s in reversed(study.used_sets) if s in set(frame["task_set"]))
    tasks = list(map(spelled, study.value(full, task_set, "held_out") or ()))
    noun = study.spec.task_noun
    sheet.heading("Does retrieval generalise zero-shot?")
    sheet.text(f"{tables.plural(len(tasks), f'held-out {noun}')}: {', '.join(map(tables.spaced, tasks))}.")
    learned = [StripRow(v.look, list(study.seed_scores(v, task_set).values())) for v in study.variants_on(task_set)]
    given = [StripRow(look, list(study.under(full, task_set, name).values())) for name, look in LOOKS.items()]
    groups = {f"training {noun}s": learned, f"held-out {noun}s, {full.label} retrieves from": given}
    strip, _ = figures.strip(groups, study.score.label, bounds=study.bounds)
    sheet.figure(
        f"{study.name}-zero-shot",
        strip,
        frame[["task_set", "intervention", "task", "given_task", "seed", "episodes", "score"]],
        f"Score of every seed on training {noun}s, and on held-out {noun}s with each dataset to retrieve from.",
        f"Mean over {noun}s. Training {noun}s: last evaluation. Dots: seeds. Tick and bar: mean with 95 % CI.",
    )
