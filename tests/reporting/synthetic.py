"""A complete results tree of made-up runs, for tests only."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from rarl.envs.gridroboman.planner import planner_episodes
from rarl.envs.gridroboman.tasks import TASKS, Task
from rarl.files import digest, sha256_file, write_json, write_text

PROJECT = Path(__file__).resolve().parents[2]
FOUR = ("dqn-hidden", "dqn-observed", "ra-dqn-hidden", "ra-dqn-observed")
CONTROLS = ("oracle", "no-retrieval", "random-tasks")
# How far (share of the expert's return) each agent gets on 30 tasks; fewer tasks are easier.
SKILL = dict(zip((*FOUR, *CONTROLS), (0.12, 0.55, 0.4, 0.62, 0.7, 0.12, 0.16), strict=True))
EXPERT = 42.0
UPDATES = (0, 500, 1000, 1500, 2000)
EVALUATIONS = ["update", "task", "episodes", "return_mean", "return_std", "success_rate"]


def write_project(root: Path, scale: str = "laptop") -> Path:
    """The project's files that a report reads besides results."""
    (root / "config").mkdir(parents=True, exist_ok=True)
    shutil.copy(PROJECT / "config" / "claims.yaml", root / "config" / "claims.yaml")
    return root


def write_manifests(root: Path, scale: str, tasks: tuple[Task, ...]) -> dict[str, str]:
    """Manifests of data sets; returns path -> sha256."""
    hashes = {}
    for i, task in enumerate(tasks):
        name = f"data/{scale}/gridroboman/planner/{task.slug}/manifest.json"
        write_json(
            root / name,
            {
                "format": 1,
                "environment": "gridroboman",
                "task": task.name,
                "episodes": 4000,
                "expert_return": EXPERT + i % 3,
            },
        )
        hashes[name] = sha256_file(root / name)
    return hashes


def run_name(tasks: int, variant: str, seed: int) -> str:
    return f"gridroboman/{tasks}-tasks/{variant}/seed-{seed}"


def write_run(
    root: Path,
    scale: str,
    tasks: int,
    variant: str,
    seed: int,
    *,
    data: dict[str, str] | None = None,
    probes: bool = True,
    **record,
) -> str:
    """One finished run; `record` overrides entries of run.json."""
    run = run_name(tasks, variant, seed)
    rng = np.random.default_rng([tasks, seed, *map(ord, variant)])
    here = root / "results" / scale / "runs" / run
    config = {"learning": {"discount": 0.9}, "agent": {"encoder": "pairs"}, "variant": variant, "seed": seed}
    retrieving = variant.startswith("ra-")
    write_json(here / "run.json", run_record(scale, run, config, retrieving, data) | record)
    chosen = TASKS[:tasks]
    level = min(0.95, SKILL.get(variant, 0.3) + (30 - tasks) * 0.008) + rng.normal(0, 0.02)
    rows = []
    for update in UPDATES:
        grown = 1 - np.exp(-3 * update / UPDATES[-1])
        for i, task in enumerate(chosen):
            skill = np.clip(level * grown * (0.6 + 0.8 * ((i * 7) % 11) / 10) + rng.normal(0, 0.03), 0.01, 1)
            rows.append((update, task.name, 32, EXPERT * skill, 5.0, skill))
    write_frame(here / "evaluations.csv", pd.DataFrame(rows, columns=EVALUATIONS))
    write_training(here)
    if probes and retrieving and tasks == 30:
        write_probes(root, scale, run, rng, chosen)
    return run


def run_record(scale: str, run: str, config: dict, retrieving: bool, data: dict[str, str] | None) -> dict:
    """The content of run.json of a finished run."""
    experiment, task_set, variant, seed = run.split("/")
    seed = int(seed.removeprefix("seed-"))
    seconds = {"total": 400.0 + 900 * retrieving + seed, "training": 360.0 + 850 * retrieving, "evaluation": 30.0}
    return {
        "format": 1, "run": run, "status": "finished", "reason": None, "scale": scale, "experiment": experiment,
        "task_set": task_set, "variant": variant, "seed": seed, "config": config,
        "config_digest": digest(config),
        "code_digest": "0123456789ab", "command": f"rarl train {run} --scale {scale}",
        "git": {"commit": "f" * 40, "dirty": False}, "data": data or {},
        "versions": {"python": "3.11.7", "numpy": "2.4.6"},
        "hardware": {"cpu": "Some CPU", "cores": 8, "gpu": None, "threads": 1, "device": "cpu"},
        "parameters": {"total": 150_000 + 90_000 * retrieving, "encoder": 60_000}, "seconds": seconds,
        "peak_memory_mb": 900.0,
        "updates": UPDATES[-1], "resumed": 0, "started": "2026-01-01T10:00:00Z", "finished": "2026-01-01T10:10:00Z",
    }  # fmt: skip


def write_training(here: Path) -> None:
    """training.csv of a run."""
    training = pd.DataFrame(
        {"update": UPDATES, "seconds": np.linspace(0, 360, len(UPDATES)), "loss": 1.0, "td_loss": 0.9}
    )
    write_frame(here / "training.csv", training)


def write_frame(path: Path, frame: pd.DataFrame) -> None:
    write_text(path, frame.to_csv(index=False, lineterminator="\n"))


def write_probes(root: Path, scale: str, run: str, rng: np.random.Generator, tasks: tuple[Task, ...]) -> None:
    """Interventions, attention and gallery of one run."""
    here = root / "results" / scale / "probes" / run
    rows = []
    for i, task in enumerate(tasks):
        for name, level in (("own", 0.45), ("removed", 0.1), ("shuffled", 0.35)):
            rows.append((name, task.slug, task.slug, 32, EXPERT * np.clip(level + rng.normal(0, 0.05), 0, 1)))
        for j in range(1, 4):
            given = tasks[(i + 5 * j) % len(tasks)]
            rows.append(("swapped", task.slug, given.slug, 32, EXPERT * np.clip(0.1 + rng.normal(0, 0.03), 0, 1)))
            rows.append(
                ("swapped-given", task.slug, given.slug, 32, EXPERT * np.clip(0.42 + rng.normal(0, 0.05), 0, 1))
            )
    columns = ["intervention", "task", "given_task", "episodes", "return_mean"]
    write_frame(here / "interventions.csv", pd.DataFrame(rows, columns=columns))
    values = [
        (task.slug, quantity, max(0.0, mean + rng.normal(0, mean / 5)))
        for task in tasks
        for quantity, mean in (("goal_state_mass", 0.6), ("goal_state_share", 0.4), ("entropy", 2.0), ("kl", 1.4))
    ]
    write_frame(here / "attention.csv", pd.DataFrame(values, columns=["task", "quantity", "value"]))
    write_json(here / "gallery.json", gallery(run, rng, (tasks[3], tasks[6], tasks[-1])))


def gallery(run: str, rng: np.random.Generator, tasks: tuple[Task, ...]) -> dict:
    """Planner episodes dressed up as recorded ones."""
    episodes = []
    for k, task in enumerate(tasks):
        observations, actions, rewards = planner_episodes(task, 8, rng, np.array([10 + 20 * k]))
        steps = []
        for t in range(actions.shape[1]):
            weights = np.sort(rng.dirichlet(np.ones(8)))[::-1][:6]
            retrieved = []
            for weight, i in zip(weights, rng.integers(1, 8, size=6), strict=True):
                at = int(rng.integers(actions.shape[1]))
                retrieved.append(
                    {"weight": float(weight), "task": task.slug, "return": float(rewards[i].sum()), "step": at,
                     "observation": observations[i, at + 1].tolist(), "rewarded": bool(rewards[i, at])}
                )  # fmt: skip
            steps.append({"t": t, "observation": observations[0, t].tolist(), "action": int(actions[0, t]),
                          "reward": float(rewards[0, t]), "retrieved": retrieved})  # fmt: skip
        episodes.append({"task": task.slug, "return": float(rewards[0].sum()), "board_seed": k, "steps": steps,
                         "final_observation": observations[0, -1].tolist()})  # fmt: skip
    return {"run": run, "rule": "per task, the episode with the median return of 32", "episodes": episodes}


def write_results(
    root: Path,
    scale: str = "laptop",
    *,
    sets=(10, 20, 30),
    variants=(*FOUR, *CONTROLS),
    seeds: int = 5,
    probes: bool = True,
) -> list[str]:
    """All runs of a scale; controls on 30 tasks only. Returns the runs' names."""
    write_project(root, scale)
    data = write_manifests(root, scale, TASKS[: max(sets)])
    return [
        write_run(root, scale, tasks, variant, seed, data=data, probes=probes)
        for tasks in sets
        for variant in variants
        if tasks == 30 or variant in FOUR
        for seed in range(seeds)
    ]
