"""`rarl bench`: speed of the environment, of sampling and of learner steps, as ratios measured in one run."""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from rarl.benchmarks.timing import Work, take_turns
from rarl.config.scale import Run, Scale
from rarl.config.settings import RunSettings
from rarl.envs.gridroboman.datasets import generate_planner
from rarl.envs.gridroboman.tasks import ACTIONS, EPISODE_STEPS, TASKS
from rarl.envs.gridroboman.vector import VectorGridroboman
from rarl.files import check_writable, write_json
from rarl.learners.transitions import TransitionLearner
from rarl.mappings import merge
from rarl.provenance import run_record
from rarl.runs.device import choose_device
from rarl.trajectories.sampling import RetrievalSampler
from rarl.trajectories.store import TrajectoryDataset

ROUNDS = 7
VARIANTS = ("dqn-hidden", "oracle", "no-retrieval", "ra-dqn-hidden")
# Atari on a CPU: the paper's proportions (of 512 sequences 64 are learned from) at sizes that take seconds.
ATARI_SMALL = {
    "agent": {"d_s": 128, "retrieval": {"n_f": 4, "d_m": 32, "d_e": 32, "d_h": 64, "d_v": 32, "n_traj": 28}},
    "learning": {"batch_sequences": 4, "sequence_steps": 20},
    "online": {"actors": 4, "period_steps": 10, "emulator_threads": 1, "overlap": False},
}
ATARI_PAPER = {"online": {"overlap": False}}
ATARI_AGENTS = {  # name -> variant and what it changes
    "r2d2": ("r2d2", {}),
    "ra-r2d2": ("ra-r2d2", {}),
    "ra-r2d2, looking at every 4th step": ("ra-r2d2", {"agent": {"retrieval": {"step_stride": 4}}}),
    "ra-r2d2, 4 trajectories with gradients": ("ra-r2d2", {"agent": {"retrieval": {"gradient_trajectories": 4}}}),
}


def _median_seconds(
    work: Callable[[], Any], rounds: int = ROUNDS, clock: Callable[[], float] = time.perf_counter
) -> float:
    work()
    seconds = []
    for _ in range(rounds):
        started = clock()
        work()
        seconds.append(clock() - started)
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


def learner_step_seconds(scale: Scale, datasets: list[TrajectoryDataset], device: str) -> dict[str, float]:
    """Seconds of a learner step of each variant at the scale's settings; the variants take turns."""
    experiment = next(iter(scale.settings.experiments))
    learners = {name: TransitionLearner(scale.run(experiment, 30, name, 0), datasets, device) for name in VARIANTS}
    for learner in learners.values():
        learner.update()
    works = {name: Work(learner.update, seconds=1.0, device=device) for name, learner in learners.items()}
    take_turns(works.values(), ROUNDS)
    return {name: work.milliseconds() / 1e3 for name, work in works.items()}


def atari_steps_per_second(envs: int = 8, steps: int = 60) -> float:
    """Pong with random actions, one emulator after the other: one core."""
    from rarl.envs.atari.vector import VectorAtari

    games = VectorAtari(["pong"] * envs)
    actions = np.random.default_rng(0).integers(games.num_actions, size=(steps, envs))
    games.reset()

    def play() -> None:
        for action in actions:
            if games.step(action).terminated.any():
                games.reset(where=np.flatnonzero(~games.active))

    return envs * steps / _median_seconds(play, clock=time.process_time)


def atari_run(variant: str, changes: dict[str, Any]) -> Run:
    """A run of the Atari experiment at the paper's sizes, changed."""
    experiment = Scale("smoke").experiments["atari"]
    value = merge(merge(experiment.base, experiment.variants[variant]), changes)
    value["online"] = {**value["online"], "start_sequences": 1}
    place = {"experiment": "atari", "environment": "atari", "task_set": "bench", "tasks": ["pong"], "seed": 0}
    return Run("bench", RunSettings.model_validate(value | place | {"variant": variant}))


def atari_learner_steps(changes: dict[str, Any], device: str, rounds: int) -> dict[str, dict[str, float]]:
    """Of each agent: seconds of a learner step, parameters, bytes of a sequence in the replay; they take turns."""
    from rarl.learners.games import GameLearner
    from rarl.learners.value_learner import ValueLearner

    runs = {name: atari_run(variant, merge(changes, more)) for name, (variant, more) in ATARI_AGENTS.items()}
    enough = max(run.settings.least_sequences for run in runs.values())
    learners = {name: GameLearner(run, device) for name, run in runs.items()}
    for learner in learners.values():
        while len(learner.replay) < enough:
            learner.actors.play(20).add_to(learner.replay)
        ValueLearner.update(learner)
    # With one thread the time that others take from it on a busy machine does not count.
    clock = time.process_time if device == "cpu" else time.perf_counter
    works = {
        name: Work(partial(ValueLearner.update, learner), device=device, clock=clock)
        for name, learner in learners.items()
    }
    take_turns(works.values(), rounds)
    figures = {}
    for name, learner in learners.items():
        state = sum(part[0].nbytes for part in learner.actors.policy.state.values())
        figures[name] = {
            "seconds": works[name].milliseconds() / 1e3,
            "parameters": sum(learner.parameter_counts().values()),
            "replay_bytes_per_sequence": learner.replay.nbytes / len(learner.replay) + state,
        }
    return figures


def atari_benchmarks(device: str) -> dict[str, Any]:
    """Print and return the figures of Atari."""
    speed = atari_steps_per_second()
    print(f"Atari (pong), 8 games on one core     {speed:8.0f} steps/s of 4 frames")
    if device == "cpu":
        settings = {
            f"{encoder}, 4 x 20, 28 retrieved": merge(ATARI_SMALL, {"agent": {"encoder": encoder}})
            for encoder in ("tiny", "nature")
        }
    else:
        settings = {"resnet47, 64 x 80, 448 retrieved": ATARI_PAPER}
    learner_steps = {}
    for title, changes in settings.items():
        learner_steps[title] = agents = atari_learner_steps(changes, device, 3 if device == "cpu" else ROUNDS)
        print(f"learner step, Atari, {title}, {device}:")
        for name, figures in agents.items():
            ratio = figures["seconds"] / agents["r2d2"]["seconds"]
            figures["ratio_to_r2d2"] = ratio
            print(
                f"  {name:<40}{1e3 * figures['seconds']:8.2f} ms   {ratio:5.2f} x r2d2   "
                f"{figures['parameters'] / 1e6:6.2f} million parameters   "
                f"{figures['replay_bytes_per_sequence'] / 1e3:6.1f} kB a sequence"
            )
    return {"steps_per_second": speed, "learner_steps": learner_steps}


def run_benchmarks(output: Path | None = None, device: str = "auto") -> dict[str, Any]:
    """Print the figures; also write them as JSON if asked."""
    if output:
        check_writable(output)
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
    if importlib.util.find_spec("ale_py") is not None:
        figures["atari"] = atari_benchmarks(device)
    if output:
        write_json(output, figures)
    return figures
