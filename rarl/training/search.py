"""Trying settings on tuning seeds, with a record of everything tried.

Tuning seeds are 100 and above; runs that are reported have seeds below. The record, results/search/{experiment}.jsonl,
holds one line per try, good or bad, so that both agents' budgets of tuning can be compared.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from rarl.config import TUNING_SEEDS_FROM
from rarl.envs.spec import spec_of
from rarl.errors import RarlError, did_you_mean
from rarl.planning.scale import Scale
from rarl.training.device import choose_device
from rarl.training.runs import learner_of, open_datasets

log = logging.getLogger(__name__)


def parse_changes(assignments: Sequence[str]) -> dict[str, Any]:
    """["learning.discount=0.95"] -> {"learning": {"discount": 0.95}}; values are YAML."""
    changes: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key:
            raise RarlError(f"--set {assignment}: must read KEY=VALUE, for example learning.discount=0.95")
        *path, last = key.split(".")
        place = changes
        for part in path:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise RarlError(f"--set {assignment}: {part!r} was set to a value before")
        try:
            place[last] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise RarlError(f"--set {assignment}: {value!r} is not a YAML value") from None
    return changes


def record_path(experiment: str, root: Path) -> Path:
    """Where the tries of an experiment are recorded."""
    return root / "results" / "search" / f"{experiment}.jsonl"


def try_settings(
    scale: Scale, experiment: str, task_set: int | str | None, variant: str, seed: int, assignments: Sequence[str]
) -> float:
    """Train once with changed settings on a tuning seed; log the curve, record the try, return the last mean return."""
    if seed < TUNING_SEEDS_FROM:
        raise RarlError(
            f"--seed {seed}: settings are tried on seeds from {TUNING_SEEDS_FROM} on; those below are reported"
        )
    if experiment not in scale.experiments:
        raise RarlError(
            f"scale {scale.name!r} has no experiment {experiment!r}; {did_you_mean(experiment, scale.experiments)}"
        )
    if variant not in scale.experiments[experiment].variants:
        raise RarlError(f"unknown variant {variant!r}; {did_you_mean(variant, scale.experiments[experiment].variants)}")
    task_set = scale.largest_task_set(experiment) if task_set is None else task_set
    run = scale.run(experiment, task_set, variant, seed, parse_changes(assignments))
    s = run.settings
    torch.set_num_threads(s.threads)
    torch.manual_seed(s.seed)
    learner = learner_of(run, open_datasets(scale, run), choose_device("auto"))
    measure = spec_of(s.environment).measure
    curve, training_seconds = [], 0.0
    for update in range(1, s.updates + 1):
        started = time.process_time()
        scalars = learner.update()
        training_seconds += time.process_time() - started
        if update % s.evaluation.every_updates == 0 or update == s.updates:
            rows = learner.evaluate()
            mean = sum(row[measure] for row in rows) / len(rows)
            curve.append([update, round(mean, 3)])
            shown = "  ".join(f"{name} {float(value):.3f}" for name, value in scalars.items())
            log.info(
                "%s %s update %d: %s %.3g  (%.1f ms/update)  %s",
                variant,
                assignments,
                update,
                measure,
                mean,
                1e3 * training_seconds / update,
                shown,
            )
    row = {
        "scale": scale.name,
        "task_set": task_set,
        "variant": variant,
        "seed": seed,
        "changed": list(assignments),
        "digest": run.digest,
        "config": s.model_dump(mode="json"),
        "measure": measure,
        "return_by_update": curve,
        "core_seconds": round(training_seconds, 1),
    }
    path = record_path(experiment, scale.root)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(row, sort_keys=True) + "\n")
        file.flush()
        os.fsync(file.fileno())
    return curve[-1][1]
