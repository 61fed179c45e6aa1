"""Scores against a setting, such as the width of the network, with retrieval and without."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd

from rarl.reporting import figures
from rarl.reporting.figures import Look
from rarl.reporting.sheet import Sheet
from rarl.reporting.study import Study

LINES = {"base": "without retrieval", "gain": "with retrieval"}


def write(study: Study, sheet: Sheet) -> None:
    """A figure for each task set: groups as panels."""
    key = study.settings.across
    if key is None:
        return
    name = key.rpartition(".")[2]
    for task_set in study.used_sets:
        frame, looks = across(study, task_set, key)
        if not len(frame) or frame["amount"].nunique() < 2:
            continue
        panels = {str(group): rows for group, rows in frame.groupby("group", sort=False)}
        figure, _ = figures.by_amount(panels, looks, name, study.score.label, dict.fromkeys(panels, study.bounds))
        sheet.figure(
            f"{study.name}-{task_set}-across",
            figure,
            frame,
            f"{study.score.label} against {name}, with and without retrieval, with confidence intervals.",
            f"{study.set_title(task_set)}: score against {name}. Thin: seeds. Bold: mean with 95 % CI.",
        )


def across(study: Study, task_set: str, key: str) -> tuple[pd.DataFrame, dict[str, Look]]:
    """(rows group, agent, variant, amount, seed, value; look of each agent); the amount is the value of the key."""
    rows: list[dict[str, Any]] = []
    looks: dict[str, Look] = {}
    for variant in study.variants_on(task_set):
        amount, kind = study.value(variant, task_set, key), variant.settings.kind
        if kind in LINES and isinstance(amount, int | float):
            looks.setdefault(LINES[kind], replace(variant.look, label=LINES[kind]))
            place = {"group": variant.settings.group, "agent": LINES[kind], "variant": variant.name, "amount": amount}
            scores = study.seed_scores(variant, task_set)
            rows += [place | {"seed": seed, "value": score} for seed, score in scores.items()]
    return pd.DataFrame(rows, columns=["group", "agent", "variant", "amount", "seed", "value"]), looks
