"""Trying settings on tuning seeds, with a record of everything tried.

Tuning seeds are 100 to 999; runs that are reported have others. The record, results/search/{experiment}.jsonl,
holds one line per try, good or bad, so that both agents' budgets of tuning can be compared.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from rarl.config.scale import Run, Scale
from rarl.config.settings import EPISODIC, EXECUTION_ONLY, TUNING_SEEDS, RunSettings
from rarl.envs.spec import plays, spec_of
from rarl.errors import RarlError, did_you_mean
from rarl.files import check_writable, parse_yaml
from rarl.mappings import leaves
from rarl.rollouts.evaluation import Evaluation
from rarl.runs.device import choose_device
from rarl.runs.train import learner_of, open_datasets

log = logging.getLogger(__name__)


def parse_changes(assignments: Sequence[str]) -> dict[str, Any]:
    """["learning.discount=0.95"] -> {"learning": {"discount": 0.95}}; values are YAML.

    Raises:
      RarlError: an assignment is none, its value is not YAML, or a key is given twice.
    """
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
        if last in place:
            raise RarlError(f"--set {assignment}: {key!r} was set before")
        place[last] = parse_yaml(value, f"--set {assignment}")
    return changes


def changed_run(
    scale: Scale, experiment: str, task_set: int | str, variant: str, seed: int, assignments: Sequence[str]
) -> Run:
    """The run of these coordinates with the changes of `--set`, each of which has an effect on what it learns.

    Raises:
      RarlError: a key is no setting of a run, or decides which run it is, or has no effect on this agent, or has that
        value already.
    """
    changes = parse_changes(assignments)
    for key in changes:
        if key in _COORDINATES:
            raise RarlError(f"--set {key}=...: {key} says which run it is, not how it learns; use {_COORDINATES[key]}")
    before = scale.run(experiment, task_set, variant, seed)
    try:
        run = scale.run(experiment, task_set, variant, seed, changes)
    except RarlError as error:
        raise RarlError(f"--set {' '.join(assignments)}: {error}") from None
    old, new = before.settings.model_dump(mode="json"), run.settings.model_dump(mode="json")
    inert = _without_effect(run.settings)
    for key, _ in leaves(changes):
        for prefix, reason in inert.items():
            if key == prefix or key.startswith(prefix + "."):
                raise RarlError(f"--set {key}=...: has no effect: {reason}")
        if _at(old, key) == _at(new, key):
            raise RarlError(f"--set {key}=...: {_at(new, key)!r} is what it is without; leave it out")
    return run


_COORDINATES = {
    "experiment": "the argument EXPERIMENT",
    "environment": "an experiment of that environment",
    "variant": "the argument VARIANT",
    "task_set": "--task-set",
    "tasks": "--task-set, with a task set of the scale's file",
    "seed": "--seed",
}


def _at(value: Any, key: str) -> Any:
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _without_effect(s: RunSettings) -> dict[str, str]:
    """Dotted key (of a setting, or of all below it) -> why it changes nothing that a try of these settings finds."""
    agent = s.agent
    found = {key: "it changes how a run is carried out, nothing else" for key, _ in leaves(EXECUTION_ONLY)}
    found["log_every"] = "a try writes no training log"
    if not agent.with_retrieval:
        process = agent.retrieval.process
        found["agent.retrieval"] = f"agent.retrieval.process = {process!r} retrieves nothing"
        if process == "none":
            found["agent.fusion"] = "agent.retrieval.process = 'none' leaves nothing to fuse"
    spec = spec_of(s.environment)
    for key in spec.options_without_effect:
        found[f"environment_options.{key}"] = "it changes how a run is carried out, nothing else"
    if agent.base in EPISODIC:
        heeded = ("discount", "learning_rate", "batch_states") if agent.base == "nec" else ("discount",)
        others = [f"learning.{key}" for key in type(s.learning).model_fields if key not in heeded]
        reason = f"of these, agent.base = {agent.base!r} heeds {' and '.join(heeded)} alone"
        return found | dict.fromkeys(others, reason)
    if s.online is None and agent.core == "none":
        sequences = ("learning.batch_sequences", "learning.sequence_steps", "learning.burn_in")
        found |= dict.fromkeys(sequences, "agents without a core learn from single states of datasets")
    else:
        found["learning.batch_states"] = "agents with a core, and those that play, learn from sequences"
    if s.learning.targets == "n-step":
        found["learning.trace_lambda"] = "learning.targets = 'n-step' has no lambda"
    else:
        found["learning.n_step"] = f"learning.targets = {s.learning.targets!r} has no n"
    if not s.learning.masking.weight:
        masking = [f"learning.masking.{key}" for key in type(s.learning.masking).model_fields if key != "weight"]
        found |= dict.fromkeys(masking, "learning.masking.weight is 0")
    return found


def record_path(experiment: str, root: Path) -> Path:
    """Where the tries of an experiment are recorded."""
    return root / "results" / "search" / f"{experiment}.jsonl"


def try_settings(
    scale: Scale, experiment: str, task_set: int | str | None, variant: str, seed: int, assignments: Sequence[str]
) -> float:
    """Train once with changed settings on a tuning seed; log the curve, record the try, return the last mean return.

    Of an agent that retrieves the record has whether what is retrieved is used, and what it scores without.
    """
    if seed not in TUNING_SEEDS:
        raise RarlError(
            f"--seed {seed}: settings are tried on seeds {TUNING_SEEDS[0]} to {TUNING_SEEDS[-1]}; others are reported"
        )
    if experiment not in scale.experiments:
        raise RarlError(
            f"scale {scale.name!r} has no experiment {experiment!r}; {did_you_mean(experiment, scale.experiments)}"
        )
    if variant not in scale.experiments[experiment].variants:
        hint = did_you_mean(variant, scale.experiments[experiment].variants)
        raise RarlError(f"config/experiments/{experiment}.yaml: unknown variant {variant!r}; {hint}")
    known = scale.settings.experiments[experiment].task_sets
    if task_set is None:
        task_set = scale.largest_task_set(experiment)
        if task_set is None:
            raise RarlError(f"scale {scale.name!r} has no task set of {experiment!r}; name one by --task-set")
    elif isinstance(task_set, str) and task_set not in known:
        raise RarlError(f"--task-set {task_set}: no such task set; {did_you_mean(task_set, map(str, known))}")
    run = changed_run(scale, experiment, task_set, variant, seed, assignments)
    s, path = run.settings, record_path(experiment, scale.root)
    check_writable(path)
    torch.set_num_threads(s.threads)
    torch.manual_seed(s.seed)
    learner = learner_of(run, open_datasets(scale, run), choose_device("auto"))
    measure = spec_of(s.environment).score.column
    curve, training_seconds = [], 0.0
    for update in range(1, s.updates + 1):
        started = time.process_time()
        scalars = learner.update()
        training_seconds += time.process_time() - started
        if update % s.evaluation.every_updates == 0 or update == s.updates:
            mean = _mean(learner.evaluate(), measure)
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
    diagnosed = {name: round(value, 4) for name, value in getattr(learner, "diagnose", dict)().items()}
    if diagnosed and plays(spec_of(s.environment)):
        diagnosed["score_removed"] = round(_without_retrieval(learner, measure), 4)
    if diagnosed:
        log.info("%s", "  ".join(f"{name} {value:.3g}" for name, value in diagnosed.items()))
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
    } | ({"retrieval": diagnosed} if diagnosed else {})
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(row, sort_keys=True) + "\n")
        file.flush()
        os.fsync(file.fileno())
    return curve[-1][1]


def _without_retrieval(learner: Any, measure: str) -> float:
    """The last evaluation once more, with nothing retrieved."""
    evaluation = Evaluation.of(learner.settings)
    return _mean(evaluation.rows(evaluation.play(evaluation.policy(learner.network, None))), measure)


def _mean(rows: Sequence[Mapping[str, Any]], measure: str) -> float:
    """Over the tasks of an evaluation."""
    return sum(row[measure] for row in rows) / len(rows)
