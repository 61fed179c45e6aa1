"""Recorded episodes: what is retrieved while an agent acts, as a strip of chosen steps and an animation."""

from __future__ import annotations

import math

from rarl.envs.pictures import STEP_RULE
from rarl.errors import RarlError
from rarl.reporting import pictures, tables
from rarl.reporting.sheet import Sheet
from rarl.reporting.study import Study, Variant

MOST_SHOWN = 6


def write(study: Study, sheet: Sheet) -> None:
    """Of each agent, on the largest task set (where a task set is one task, on each), the run of median score, and of
    the episodes recorded of it the one of median return."""
    shown: dict[tuple[str, str], str] = {}
    for task_set in study.used_sets:
        for variant in study.variants_on(task_set):
            run = median_run(study, variant, task_set)
            if run is not None:
                shown[task_set if study.spec.one_task else "", variant.name] = run
    if not shown:
        return
    sheet.heading("Gallery")
    ruled = False
    for (_, name), run in list(shown.items())[:MOST_SHOWN]:
        try:
            gallery = pictures.read_gallery(study.results.galleries[run])
            episode = pictures.median_episode(gallery["episodes"]) if gallery["episodes"] else None
            drawn = pictures.draw_episode(study.spec, episode) if episode else None
        except RarlError as error:
            study.results.problems.append((f"{run}/gallery.json", str(error)))
            continue
        if episode is None or drawn is None:
            continue
        if not ruled:
            ruled = True
            sheet.text(
                "Of each agent the run with the median score, and of its recorded episodes the one with the median "
                f"return. Recorded by this rule: {gallery['rule'] or 'not stated'}. {STEP_RULE}"
            )
        who = f"{study.label(name)}. {tables.spaced(episode['task'])}"
        what = f"{who}: {pictures.outcome(pictures.pictures_of(study.spec), episode)} (run {run})."
        stem = run.removeprefix(f"{study.name}/").rpartition("/")[0].replace("/", "-")
        if drawn.strip is not None:
            sheet.figure(
                f"{study.name}-strip-{stem}",
                drawn.strip,
                f"Chosen steps of an episode: {who}; then the retrieved states with the largest attention weights.",
                f"{what} Left: the state. Then the retrieved states with the most attention; thick frame: rewarded.",
            )
        sheet.image(
            f"{study.name}-episode-{stem}.webp",
            drawn.animation,
            f"Animation of the recorded part of an episode: {who}.",
            f"{who}: all recorded steps." if drawn.strip is not None else what,
        )
    if len(shown) > MOST_SHOWN:
        sheet.text(f"{len(shown) - MOST_SHOWN} more were recorded and are not shown.")


def median_run(study: Study, variant: Variant, task_set: str) -> str | None:
    """Among the runs with a gallery, the one of (lower) median score: neither the best nor the worst seed; or None."""
    runs = study.results.select(study.results.runs, variant.runs[0], task_set, variant.runs[1])
    scores = study.seed_scores(variant, task_set)
    known = sorted((scores.get(int(seed), -math.inf), run) for run, seed in zip(runs["run"], runs["seed"], strict=True)
                   if run in study.results.galleries)  # fmt: skip
    return known[(len(known) - 1) // 2][1] if known else None
