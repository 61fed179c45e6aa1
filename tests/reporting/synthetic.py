"""Made-up results of any experiment, for tests only: what a report says of them can be computed by hand.

A run's score is its variant's level plus its seed's `BY_SEED`, which sums to 0, on every task.
"""

from __future__ import annotations

import base64
import io
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from PIL import Image

from rarl.config.files import SCALES
from rarl.config.scale import Dataset
from rarl.config.settings import DatasetSettings
from rarl.envs.atari.scores import random_and_human
from rarl.envs.gridroboman.planner import planner_episodes
from rarl.envs.gridroboman.tasks import TASKS
from rarl.files import digest, write_json, write_text
from rarl.mappings import merge

PROJECT = Path(__file__).resolve().parents[2]
BY_SEED = (-0.02, -0.01, 0.0, 0.01, 0.02)
HALF = 0.0230600  # t(0.975, 8) * 0.0158114 * sqrt(2 / 5): of a Welch interval of two variants with five seeds
ALONE = 0.0196324  # t(0.975, 4) * 0.0158114 / sqrt(5): of the interval of one
EXPERT = 40.0
UPDATES = (0, 1000, 2000)
BOARDS = tuple(task.name for task in TASKS)
LEVELS = ("GoToRedBallGrey", "GoToLocal", "OpenTwoDoors", "UnlockPickup")  # the last two are compositional
PLAYED = {
    "online": {"actors": 8, "steps_per_update": 5},
    "environment_options": {"frame_skip": 4, "full_actions": False},
}
RETRIEVAL = {"n_f": 1, "select_by": "return", "k_traj": 32, "k_states": 64, "n_traj": 64, "bottleneck": 0.0}
SETTINGS: dict[str, Any] = {
    "source": "planner", "updates": UPDATES[-1],
    "agent": {"task": "hidden", "encoder": "relational", "retrieval": RETRIEVAL},
    "learning": {"discount": 0.9}, "evaluation": {"every_updates": 1000},
}  # fmt: skip
# What is measured where an agent has a score of `share`: (return, success rate).
RAW: dict[str, Callable[[str, float], tuple[float, float]]] = {
    "gridroboman": lambda task, share: (EXPERT * share, 0.0),
    "babyai": lambda task, share: (0.9 * share, share),
    "atari": lambda task, share: (at(task, share), 0.0),
}


def at(game: str, share: float) -> float:
    """The score of a human-normalised one."""
    random, human = random_and_human(game)
    return random + share * (human - random)


def write_project(root: Path) -> Path:
    """The project's files that a report reads besides results."""
    (root / "config").mkdir(parents=True, exist_ok=True)
    for name in ("claims", *SCALES):
        shutil.copy(PROJECT / "config" / f"{name}.yaml", root / "config" / f"{name}.yaml")
    shutil.copytree(PROJECT / "config" / "experiments", root / "config" / "experiments", dirs_exist_ok=True)
    return root


def experiment_of(root: Path, name: str) -> dict[str, Any]:
    return yaml.safe_load((root / "config" / "experiments" / f"{name}.yaml").read_text(encoding="utf-8"))


DATASETS = {
    dataset.id: dataset
    for dataset in (Dataset("gridroboman", task, DatasetSettings(source="planner", episodes=4000)) for task in BOARDS)
}
DATA = {f"data/laptop/{name}/manifest.json": "0" * 64 for name in DATASETS}  # of the records of runs on all of them


def write_run(
    root: Path,
    run: str,
    level: float,
    tasks: Sequence[str],
    *,
    scale: str = "laptop",
    raw: Callable[[str, float], tuple[float, float]] | None = None,
    data: Mapping[str, str] | None = None,
    changes: Mapping[str, Any] | None = None,
    **record: Any,
) -> str:
    """One finished run; `changes` go over its configuration, `record` over entries of run.json."""
    name, _, variant, last = run.split("/")
    experiment, seed = experiment_of(root, name), int(last.removeprefix("seed-"))
    extended = experiment_of(root, experiment["extends"])["base"] if "extends" in experiment else {}
    change = experiment["variants"].get(variant, {}).get("settings", {})
    named = {"environment": experiment["environment"], "tasks": list(tasks), "seed": seed}
    config = merge(merge(merge(extended, experiment["base"]), SETTINGS), merge(change, changes or {})) | named
    retrieves = config["agent"]["retrieval"].get("process", "none") != "none"
    seconds = {"total": 400.0, "training": 360.0 + 850 * retrieves, "evaluation": 30.0}
    content = {
        "run": run, "status": "finished", "reason": None, "config": config, "config_digest": digest(config),
        "code_digest": "0123456789ab", "command": f"rarl train {run} --scale {scale}", "data": dict(data or {}),
        "git": {"commit": "f" * 40, "dirty": False}, "versions": {"numpy": "2.4.6"},
        "hardware": {"cpu": "Some CPU", "cores": 8}, "parameters": {"total": 150_000 + 90_000 * retrieves},
        "seconds": seconds, "peak_memory_mb": 900.0, "updates": UPDATES[-1], "resumed": 0,
        "expert_returns": dict.fromkeys(BOARDS, EXPERT) if experiment["environment"] == "gridroboman" else {},
        "started": "2026-01-01T10:00:00Z", "finished": "2026-01-01T10:10:00Z",
    }  # fmt: skip
    here = root / "results" / scale / "runs" / run
    write_json(here / "run.json", content | record)
    raw = raw or RAW[experiment["environment"]]
    rows = [(update, task, 32, *raw(task, (level + BY_SEED[seed % 5]) * update / UPDATES[-1]))
            for update in UPDATES for task in tasks]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["update", "task", "episodes", "return_mean", "success_rate"])
    write_frame(here / "evaluations.csv", frame.assign(return_std=5.0))
    write_frame(here / "training.csv", pd.DataFrame({"update": UPDATES, "loss": 1.0}))
    return run


def write_runs(
    root: Path, experiment: str, task_set: str, levels: Mapping[str, float], tasks: Sequence[str], *, seeds: int = 5,
    **options: Any,
) -> list[str]:  # fmt: skip
    """Runs of several variants; returns their names."""
    write_project(root)
    return [
        write_run(root, f"{experiment}/{task_set}/{variant}/seed-{seed}", level, tasks, **options)
        for variant, level in levels.items()
        for seed in range(seeds)
    ]


def write_frame(path: Path, frame: pd.DataFrame) -> None:
    write_text(path, frame.to_csv(index=False, lineterminator="\n"))


def write_interventions(
    root: Path, runs: Iterable[str], rows: Mapping[tuple[str, str, str], float], environment: str = "gridroboman"
) -> None:
    """interventions.csv of runs: (intervention, task, given task) -> score, to which the seed's is added."""
    for run in runs:
        seed = int(run.rpartition("-")[2])
        values = []
        for (name, task, given), level in rows.items():
            measured_on = given if name.endswith("-given") else task
            values.append((name, task, given, 20, *RAW[environment](measured_on, level + BY_SEED[seed % 5])))
        columns = ["intervention", "task", "given_task", "episodes", "return_mean", "success_rate"]
        write_frame(root / f"results/laptop/probes/{run}/interventions.csv", pd.DataFrame(values, columns=columns))


def same(levels: Mapping[str, float], tasks: Iterable[str]) -> dict[tuple[str, str, str], float]:
    """Rows of `write_interventions`: the same score on every task, given its own dataset."""
    return {(name, task, task): level for task in tasks for name, level in levels.items()}


def write_attention(root: Path, runs: Iterable[str], rows: Iterable[tuple[str, str, float]]) -> None:
    """attention.csv of runs: (task, quantity, value), the same for every seed."""
    frame = pd.DataFrame(rows, columns=["task", "quantity", "value"])
    for run in runs:
        write_frame(root / f"results/laptop/probes/{run}/attention.csv", frame)


def write_gallery(root: Path, run: str, gallery: Mapping[str, Any]) -> Path:
    path = root / f"results/laptop/probes/{run}/gallery.json"
    write_json(path, gallery)
    return path


def board_gallery(tasks: Sequence[int] = (0, 3, 29)) -> dict[str, Any]:
    """Planner episodes on Gridroboman dressed up as recorded ones."""
    rng, episodes = np.random.default_rng(0), []
    for k, task in enumerate(TASKS[i] for i in tasks):
        observations, actions, rewards = planner_episodes(task, 4, rng, np.array([10 + 20 * k]))
        steps = [
            {"t": t, "observation": observations[0, t].tolist(), "action": int(actions[0, t]),
             "reward": float(rewards[0, t]), "retrieved": [
                 {"weight": 0.3, "task": task.slug, "return": float(rewards[i].sum()), "step": t,
                  "observation": observations[i, t + 1].tolist(), "rewarded": bool(rewards[i, t])} for i in (1, 2)]}
            for t in range(actions.shape[1])
        ]  # fmt: skip
        episodes.append({"task": task.slug, "return": float(rewards[0].sum()), "steps": steps,
                         "final_observation": observations[0, -1].tolist()})  # fmt: skip
    return {"rule": "the median episode", "episodes": episodes}


def screen(t: int) -> str:
    """A screen with a ball that moves with t, as a PNG in base64."""
    frame = np.full((84, 84), 87, dtype=np.uint8)
    frame[10 + (7 * t) % 66 :][:2, 10 + (5 * t) % 62 :][:, :2] = 236
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def screen_gallery(steps: int = 6) -> dict[str, Any]:
    """Steps 40 on of an episode of 500 on Pong, with a reward in the fifth of them."""
    retrieved = {"weight": 0.4, "step": 117, "rewarded": True, "reward": 1.0, "frame": screen(0)}
    shown = [
        {"t": 40 + i, "frame": screen(40 + i), "action": "upfire" if i else None, "reward": float(i == 4),
         "retrieved": [retrieved] * (i % 4 == 0)}
        for i in range(steps)
    ]  # fmt: skip
    return {"rule": "The median.", "episodes": [{"task": "pong", "return": 7.0, "length": 500, "steps": shown}]}
