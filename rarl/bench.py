"""`rarl bench`: speed of the environment, of sampling and of learner steps, as ratios measured in one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from rarl.config import Scale
from rarl.envs.gridroboman.tasks import ACTIONS, EPISODE_STEPS, TASKS
from rarl.envs.gridroboman.vector import VectorGridroboman
from rarl.files import write_json
from rarl.provenance import run_record
from rarl.training.device import choose_device
from rarl.training.transitions import TransitionLearner
from rarl.trajectories.generate import generate_planner
from rarl.trajectories.sampling import RetrievalSampler
from rarl.trajectories.store import TrajectoryDataset

ROUNDS = 7
VARIANTS = ("dqn-hidden", "oracle", "no-retrieval", "ra-dqn-hidden")


def _median_seconds(work: Callable[[], Any], rounds: int = ROUNDS) -> float:
    work()
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def environment_steps_per_second(boards: int = 4096) -> float:
    """Vectorised Gridroboman with random actions, all 30 tasks, one thread."""
    env = VectorGridroboman([TASKS[i * len(TASKS) // boards] for i in range(boards)])
    actions = np.random.default_rng(0).integers(len(ACTIONS), size=(EPISODE_STEPS, boards))

    def episode() -> None:
        env.reset()
        for action in actions:
            env.step(action)

    env.reset(seed=0)
    return boards * EPISODE_STEPS / _median_seconds(episode)


def retrieval_batch_seconds(dataset: TrajectoryDataset) -> float:
    """Draw 64 trajectories of a task, keep the 10 of highest return."""
    sampler, rng = RetrievalSampler(dataset), np.random.default_rng(0)

    def draw() -> None:
        for _ in range(100):
            sampler.sample(64, k_best_by_return=10, rng=rng)

    return _median_seconds(draw) / 100


def learner_step_seconds(
    scale: Scale, datasets: list[TrajectoryDataset], device: str, steps: int = 5
) -> dict[str, float]:
    """Seconds of a learner step of each variant at the scale's settings; the variants take turns."""
    experiment = next(iter(scale.settings.experiments))
    learners = {name: TransitionLearner(scale.run(experiment, 30, name, 0), datasets, device) for name in VARIANTS}
    for learner in learners.values():
        learner.update()
    seconds: dict[str, list[float]] = {name: [] for name in learners}
    for _ in range(ROUNDS):
        for name, learner in learners.items():
            started = time.perf_counter()
            for _ in range(steps):
                learner.update()
            if device != "cpu":
                torch.cuda.synchronize()
            seconds[name].append((time.perf_counter() - started) / steps)
    return {name: statistics.median(values) for name, values in seconds.items()}


def run_benchmarks(output: Path | None = None, device: str = "auto") -> dict[str, Any]:
    """Print the figures; also write them as JSON if asked."""
    torch.set_num_threads(1)
    device = choose_device(device)
    scale = Scale("laptop")
    with TemporaryDirectory() as folder:
        datasets = []
        for task in TASKS:
            generate_planner(task, 1000, 0, Path(folder) / task.slug)
            datasets.append(TrajectoryDataset.open(Path(folder) / task.slug))
        started = time.perf_counter()
        generate_planner(TASKS[0], 20_000, 0, Path(folder) / "speed")
        generation = 20_000 * EPISODE_STEPS / (time.perf_counter() - started)
        environment = environment_steps_per_second()
        batch = retrieval_batch_seconds(datasets[0])
        steps = learner_step_seconds(scale, datasets, device)
    base = steps["dqn-hidden"]
    figures = {
        "environment_steps_per_second": environment,
        "planner_transitions_per_second": generation,
        "retrieval_batch_ms": 1e3 * batch,
        "learner_step_ms": {name: 1e3 * value for name, value in steps.items()},
        "learner_step_ratio_to_dqn": {name: value / base for name, value in steps.items()},
        "machine": run_record(threads=1, device=device)["hardware"],
    }
    print(f"Gridroboman, 4096 boards at once      {environment / 1e6:8.2f} million steps/s")
    print(f"planner dataset                       {generation / 1e6:8.2f} million transitions/s")
    print(f"retrieval batch (64, best 10)         {1e3 * batch:8.3f} ms")
    print(f"learner step, laptop scale, 30 tasks, {device}:")
    for name, value in steps.items():
        print(f"  {name:<36}{1e3 * value:8.2f} ms   {value / base:5.2f} x dqn-hidden")
    if output:
        write_json(output, figures)
    return figures
