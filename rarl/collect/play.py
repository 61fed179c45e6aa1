"""Datasets of any environment that can be played: by chance, and by an agent while it learns."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rarl.collect.arguments import check_seed
from rarl.config.fit import check_run, with_options
from rarl.config.scale import Run
from rarl.config.settings import RunSettings
from rarl.config.validate import validate
from rarl.envs.spec import EnvSpec, make_vector, spec_of
from rarl.envs.vector import Step, VectorEnv
from rarl.errors import RarlError
from rarl.mappings import merge
from rarl.rollouts.roll_out import Memoryless, roll_out
from rarl.trajectories.store import DatasetWriter

CHUNK_EPISODES = 64  # played and written at once
# DQN with a uniform replay of single steps; what a source's options change goes over it.
AGENT: Mapping[str, Any] = {
    "agent": {"task": "hidden", "d_s": 128},
    "learning": {
        "batch_sequences": 128,
        "sequence_steps": 2,
        "learning_rate": 0.00025,
        "discount": 0.99,
        "target_period_updates": 100,
    },
    "evaluation": {"every_updates": 1_000_000, "episodes_per_task": 1},
    "online": {
        "actors": 4,
        "steps_per_update": 2,
        "period_steps": 2,
        "capacity_sequences": 25_000,
        "start_sequences": 500,
        "priority_exponent": 0.0,
        "importance_exponent": 0.0,
        "refresh_updates": 1,
        "compression": 0,
        "overlap": False,
    },
}


def generate_random(
    task: str,
    episodes: int,
    seed: int,
    folder: str | os.PathLike,
    *,
    environment: str,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write episodes of uniformly random actions.

    Args:
      task: its name.
      episodes: how many.
      seed: of the dataset, at least 0.
      folder: where it shall lie (an older dataset there is replaced).
      environment: its name, module:SPEC or file.py:SPEC.
      progress: called with (episodes done, episodes) now and then.
    """

    def chance(envs: VectorEnv, rng: np.random.Generator) -> Callable[[np.ndarray], np.ndarray]:
        return lambda x: rng.integers(len(envs.actions), size=len(x))

    write_episodes(task, episodes, seed, folder, chance, environment, "random", {"policy": "random"}, progress)


def write_episodes(
    task: str,
    episodes: int,
    seed: int,
    folder: str | os.PathLike,
    player: Callable[[VectorEnv, np.random.Generator], Callable[[np.ndarray], np.ndarray]],
    environment: str,
    source: str,
    generator: Mapping[str, Any],
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the episodes of a player of one's own; most of a source of an `EnvSpec`.

    Args:
      task, episodes, seed, folder, environment, progress: as in `generate_random`.
      player: (n environments, a source of randomness) -> function of observations (n, ...) to actions (n,). Of an
        environment by `EnvSpec.make` gymnasium's are in the attribute `envs`.
      source: its name in the specification.
      generator: how it was made, for the manifest: the source's options by name.
    """
    check_seed(seed)
    spec, plain = spec_of(environment), run_of(environment, task, seed).settings
    with _writer(folder, spec, task, source, seed, generator) as writer:
        for done in range(0, episodes, CHUNK_EPISODES):
            n = min(CHUNK_EPISODES, episodes - done)
            rng = np.random.default_rng([seed, done])
            envs = make_vector(plain, [task] * n)
            recorder = Recorder(envs)
            roll_out(recorder, Memoryless(player(envs, rng)), rng.integers(2**31, size=n))
            recorder.write(writer, spec)
            if progress:
                progress(done + n, episodes)


def generate_agent(
    task: str,
    environment_steps: int,
    seed: int,
    folder: str | os.PathLike,
    *,
    environment: str,
    settings: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Train an agent on a task and write all its finished episodes, until they hold so many steps.

    Args:
      task, seed, folder, environment, progress: as in `generate_random`.
      environment_steps: at least so many are written.
      settings: of the agent, over `AGENT`.
    """
    import torch

    from rarl.learners.online import OnlineLearner

    check_seed(seed)
    spec = spec_of(environment)
    run = run_of(environment, task, seed, settings)
    check_run(spec, run.settings, f"a dataset of {spec.name}")
    generator = {"policy": "agent", "environment_steps": environment_steps, "settings": dict(settings or {})}
    with _writer(folder, spec, task, "agent", seed, generator) as writer:
        state = torch.random.get_rng_state()
        torch.manual_seed(seed)
        try:
            learner = OnlineLearner(run, "cpu")
            recorder = Recorder.in_place_of(learner.actors)
            written = 0
            while written < environment_steps:
                learner.update()
                written += recorder.write(writer, spec)
                if progress:
                    progress(min(written, environment_steps), environment_steps)
        finally:
            torch.random.set_rng_state(state)


@dataclass
class _Episode:
    observations: list[np.ndarray] = field(default_factory=list)
    actions: list[int] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    context: np.ndarray | None = None
    terminated: bool = False


class Recorder(VectorEnv):
    """Environments whose episodes are kept, from their beginning to their end, whoever plays them.

    Args:
      envs: the environments.
    """

    def __init__(self, envs: VectorEnv):
        self.envs, self.num_envs, self.actions = envs, envs.num_envs, envs.actions
        self._playing = [_Episode() for _ in range(self.num_envs)]
        self._finished: list[tuple[int, _Episode]] = []

    @classmethod
    def in_place_of(cls, actors: Any) -> Recorder:
        """Records what actors play from their next episodes on."""
        playing = actors._playing
        recorder = playing.envs = actors.envs = cls(playing.envs)
        playing.x = recorder.reset()
        return recorder

    @property
    def active(self) -> np.ndarray:
        return self.envs.active

    @property
    def context(self) -> np.ndarray | None:
        return self.envs.context

    def reset(self, seeds: Sequence[int] | np.ndarray | None = None, where: np.ndarray | None = None) -> np.ndarray:
        x = self.envs.reset(seeds, where)
        for i in range(self.num_envs) if where is None else np.asarray(where).tolist():
            context = None if self.envs.context is None else self.envs.context[i].copy()
            self._playing[i] = _Episode([x[i]], context=context)
        return x

    def step(self, actions: np.ndarray) -> Step:
        going = self.active.copy()
        step = self.envs.step(actions)
        for i in np.flatnonzero(going).tolist():
            episode = self._playing[i]
            episode.observations.append(step.observations[i].copy())
            episode.actions.append(int(actions[i]))
            episode.rewards.append(float(step.rewards[i]))
            if step.terminated[i] or step.truncated[i]:
                episode.terminated = bool(step.terminated[i])
                self._finished.append((i, episode))
        return step

    def write(self, writer: DatasetWriter, spec: EnvSpec) -> int:
        """Write what has ended since the last time, in the order of the environments, so that the first episodes of a
        dataset are not the shortest ones; how many steps."""
        episodes = [episode for _, episode in sorted(self._finished, key=lambda ended: ended[0])]
        self._finished = []
        if not episodes:
            return 0
        more = {} if spec.context is None else {spec.context: np.stack([e.context for e in episodes])}
        lengths = np.array([len(episode.actions) for episode in episodes])
        writer.add_flat(
            np.concatenate([np.stack(episode.observations) for episode in episodes]),
            np.concatenate([np.array(episode.actions, dtype=np.int16) for episode in episodes]),
            np.concatenate([np.array(episode.rewards, dtype=np.float32) for episode in episodes]),
            lengths,
            terminated=np.array([episode.terminated for episode in episodes]),
            **more,
        )
        return int(lengths.sum())


def _writer(
    folder: str | os.PathLike, spec: EnvSpec, task: str, source: str, seed: int, generator: Mapping[str, Any]
) -> DatasetWriter:
    if task not in spec.tasks:
        raise RarlError(f"{spec.name} has no task {task!r}")
    return DatasetWriter(
        folder, environment=spec.name, task=task, source=source, seed=seed, generator=generator, ends="per-episode"
    )


def run_of(environment: str, task: str, seed: int, settings: Mapping[str, Any] | None = None) -> Run:
    """What an agent that makes a dataset does, and how its environments are played; settings: over `AGENT`."""
    place = {
        "experiment": "datasets",
        "environment": environment,
        "task_set": "datasets",
        "tasks": [task],
        "variant": "agent",
        "seed": seed,
        "source": "replay",
        "updates": 1_000_000_000,
        "tensorboard": False,
    }
    where = f"a dataset of {spec_of(environment).name}"
    return Run(
        "datasets",
        validate(
            RunSettings, with_options(spec_of(environment), {**merge(AGENT, settings or {}), **place}, where), where
        ),
    )
