"""Recorded episodes: what is retrieved for a step."""

from __future__ import annotations

import math

from markupsafe import Markup

from rarl.errors import RarlError
from rarl.reporting import pictures
from rarl.reporting.player import player
from rarl.reporting.sheet import Sheet
from rarl.reporting.study import Study, Variant


def write(study: Study, sheet: Sheet) -> bool:
    """A step of the full agent, or of the first that retrieves, on the largest task set; whether there is one."""
    for variant in sorted(study.variants.values(), key=lambda v: v != study.full):
        for task_set in reversed(study.used_sets):
            run = median_run(study, variant, task_set)
            try:
                episodes = pictures.read_gallery(study.results.galleries[run]) if run else []
                episode = pictures.median_episode(episodes) if episodes else None
                drawn = pictures.draw_step(study.spec, episode) if episode else None
                played = player(study.spec, episode, variant.label) if episode else None
            except RarlError as error:
                study.results.note(f"{run}/gallery.json", error)
                continue
            if episode is not None and drawn is not None:
                alt = f"A state of {study.spec.title} and the three retrieved states with the most attention weight."
                who = f"{variant.label}, {study.set_title(task_set)}"
                what = Markup('{}. {}<span class="still">, {}</span>. Thick frame: rewarded.').format(
                    who, pictures.RULE, pictures.step_rule(episode)
                )
                sheet.figure(f"{study.name}-step", *drawn, alt, what, played)
                return True
    return False


def median_run(study: Study, variant: Variant, task_set: str) -> str | None:
    """Among the runs with a gallery, the one of (lower) median score: neither the best nor the worst seed; or None."""
    runs = study.rows(study.results.runs, variant, task_set)
    scores = study.seed_scores(variant, task_set)
    known = sorted((scores.get(int(seed), -math.inf), run) for run, seed in zip(runs["run"], runs["seed"], strict=True)
                   if run in study.results.galleries)  # fmt: skip
    return known[(len(known) - 1) // 2][1] if known else None
