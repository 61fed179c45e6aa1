"""Datasets of any environment that can be played: by chance, and by an agent while it learns."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rarl.collect.arguments import check_seed
from rarl.config.player import check_agent, run_of
from rarl.envs.content import content_of
from rarl.envs.spec import load, make_vector, spec_of
from rarl.envs.vector import Step, VectorEnv
from rarl.errors import RarlError, required
from rarl.rollouts.roll_out import Memoryless, roll_out
from rarl.trajectories.store import DatasetWriter

CHUNK_EPISODES = 64  # played and written at once


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
    plain = run_of(environment, task, seed).settings
    with _Writer(folder, environment, task, source, seed, generator) as writer:
        for done in range(0, episodes, CHUNK_EPISODES):
            n = min(CHUNK_EPISODES, episodes - done)
            rng = np.random.default_rng([seed, done])
            envs = make_vector(plain, [task] * n)
            recorder = Recorder(envs)
            roll_out(recorder, Memoryless(player(envs, rng)), rng.integers(2**31, size=n))
            recorder.write(writer)
            if progress:
                progress(done + n, episodes)


def generate_agent(
    task: str,
    environment_steps: int,
    seed: int,
    folder: str | os.PathLike,
    *,
    environment: str,
    source: str = "agent",
    settings: Mapping[str, Any] | None = None,
    random_share: float = 0.0,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Train an agent on a task and write all its finished episodes, until they hold so many steps.

    A function of its arguments on one machine type and torch version (CPU).

    Args:
      task, seed, folder, environment, progress: as in `generate_random`.
      environment_steps: at least so many are written.
      source: its name.
      settings: of the agent, over `AGENT`.
      random_share: over this share of the steps exploration falls, from random play to that of the settings.
    """
    import torch

    from rarl.learners.online import OnlineLearner

    check_seed(seed)
    check_agent(spec_of(environment), settings, random_share)
    run = run_of(environment, task, seed, settings)
    generator = {"policy": "agent", "environment_steps": environment_steps, "settings": dict(settings or {})}
    generator["random_share"] = random_share
    with _Writer(folder, environment, task, source, seed, generator) as writer:
        state = torch.random.get_rng_state()
        torch.manual_seed(seed)
        try:
            learner = OnlineLearner(run, "cpu")
            recorder, policy = Recorder(learner.actors.envs), learner.actors.policy
            learner.actors.play_in(recorder)
            at_last, falls, written = policy.epsilons, random_share * environment_steps, 0
            while written < environment_steps:
                policy.epsilons = 1 - (1 - at_last) * (min(recorder.steps / falls, 1) if falls else 1)
                learner.update()
                written += recorder.write(writer)
                if progress:
                    progress(min(written, environment_steps), environment_steps)
        finally:
            torch.random.set_rng_state(state)


@dataclass
class _PlayedEpisode:
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
        self.envs, self.num_envs, self.actions, self.active = envs, envs.num_envs, envs.actions, envs.active
        self._playing = [_PlayedEpisode() for _ in range(self.num_envs)]
        self._finished: list[tuple[int, _PlayedEpisode]] = []
        self.steps = 0  # of all environments

    def reset(self, seeds: Sequence[int] | np.ndarray | None = None, where: np.ndarray | None = None) -> np.ndarray:
        x = self.envs.reset(seeds, where)
        self.active, self.context = self.envs.active, self.envs.context
        for i in range(self.num_envs) if where is None else np.asarray(where).tolist():
            context = None if self.context is None else self.context[i].copy()
            self._playing[i] = _PlayedEpisode([x[i]], context=context)
        return x

    def step(self, actions: np.ndarray) -> Step:
        going = self.active.copy()
        step = self.envs.step(actions)
        self.active, self.context = self.envs.active, self.envs.context
        self.steps += int(going.sum())
        for i in np.flatnonzero(going).tolist():
            episode = self._playing[i]
            episode.observations.append(step.observations[i].copy())
            episode.actions.append(int(actions[i]))
            episode.rewards.append(float(step.rewards[i]))
            if step.terminated[i] or step.truncated[i]:
                episode.terminated = bool(step.terminated[i])
                self._finished.append((i, episode))
        return step

    def write(self, writer: _Writer) -> int:
        """Write what has ended since the last time, in the order of the environments, so that the first episodes of a
        dataset are not the shortest ones; how many steps."""
        episodes = [episode for _, episode in sorted(self._finished, key=lambda ended: ended[0])]
        self._finished = []
        if episodes:
            writer.add_episodes(episodes)
        return sum(len(episode.actions) for episode in episodes)


class _Writer(DatasetWriter):
    """Writes episodes as the environment's content has them.

    Args:
      folder, task, source, seed, generator: as in `DatasetWriter`.
      environment: its name, module:SPEC or file.py:SPEC.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        environment: str,
        task: str,
        source: str,
        seed: int,
        generator: Mapping[str, Any],
    ):
        spec, content = spec_of(environment), content_of(environment)
        if task not in spec.tasks:
            raise RarlError(f"{spec.name} has no task {task!r}")
        self._context = spec.context
        self._dtypes = ("int16", "float32") if content is None else (content.actions.dtype, content.rewards.dtype)
        ends = "per-episode" if content is None else content.ends
        super().__init__(
            folder, environment=spec.name, task=task, source=source, seed=seed, generator=generator, ends=ends
        )
        if spec.expert is not None:
            self.expert_return = load(spec.expert)(task, seed)

    def add_episodes(self, episodes: Sequence[_PlayedEpisode]) -> None:
        """In their order."""
        name = self._context
        more = {} if name is None else {name: np.stack([required(e.context, name) for e in episodes])}
        of_actions, of_rewards = self._dtypes
        self.add_flat(
            np.concatenate([np.stack(episode.observations) for episode in episodes]),
            np.concatenate([np.array(episode.actions, dtype=of_actions) for episode in episodes]),
            np.concatenate([np.array(episode.rewards, dtype=of_rewards) for episode in episodes]),
            np.array([len(episode.actions) for episode in episodes]),
            terminated=np.array([episode.terminated for episode in episodes]),
            **more,
        )
