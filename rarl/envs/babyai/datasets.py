"""BabyAI datasets from the expert mixed with graded random actions."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version

import numpy as np

from rarl.collect.arguments import NOISE_PERCENTAGES, check_noisy_episodes
from rarl.envs.babyai.expert import Expert, ExpertFailed
from rarl.envs.babyai.levels import Level, level_named
from rarl.envs.babyai.vector import ACTIONS, OBSERVATION_SIZE, VectorBabyAI
from rarl.envs.spec import spec_of
from rarl.errors import RarlError
from rarl.trajectories.store import DatasetWriter

LANES = 32  # episodes that run side by side
CHUNK_STEPS = 50_000  # written at once
MAX_REJECTED = 1000  # attempts in a row


def generate_bot(
    level: Level | str,
    episodes: int,
    seed: int,
    folder: str | os.PathLike,
    noise_percent: Sequence[int] = NOISE_PERCENTAGES,
    environment: str = "babyai",
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a dataset of the expert's episodes; it appears in `folder` once it is complete.

    Every attempt at an episode has a random generator of its own, seeded by seed, level and the attempt's number:
    it draws the level's seed, one of `noise_percent`, and on each step, with that probability, a random action in
    place of the expert's. If the expert fails, the attempt is rejected, and counted in the manifest's
    generator["rejected"] by its reason; the dataset is the first `episodes` attempts that are not. So the bytes
    depend on the arguments alone, and a smaller dataset is the beginning of a larger one. Episodes of nothing but
    random actions do not ask the expert and are never rejected. Memory: about 10 MB.

    Extra arrays: mission (N, MISSION_LENGTH) uint8, noise (N,) int8 percent, seed (N,) int64 of the level,
    terminated (N,) bool.

    Args:
      level: the level or its name.
      episodes: how many.
      seed: of the dataset, at least 0.
      folder: where it shall lie (an older dataset there is replaced).
      noise_percent: whole percentages from 0 to 100. The mean return of the episodes at 0 becomes the manifest's
        `expert_return`, null if there are none.
      environment: of which the level is a task, as configuration names it.
      progress: called with (episodes done, episodes) after every chunk.

    Raises:
      RarlError: an argument is out of its range, the folder holds something else, or the expert fails every time.
    """
    level = level_named(level) if isinstance(level, str) else level
    noise_percent = check_noisy_episodes(episodes, seed, noise_percent)
    rejected: dict[str, int] = {}  # filled on the way; the writer reads it at the end
    generator = {
        "policy": "bot",
        "noise_percent": list(noise_percent),
        "rejected": rejected,
        "minigrid": version("minigrid"),
    }
    expert_returns: list[np.float32] = []
    with DatasetWriter(
        folder,
        environment=spec_of(environment).name,
        task=level.name,
        source="bot",
        seed=seed,
        generator=generator,
        ends="per-episode",
    ) as writer:
        chunk = []
        for done, attempt in enumerate(_accepted(level, episodes, seed, noise_percent, rejected), start=1):
            chunk.append(attempt)
            if attempt.noise == 0:
                expert_returns.append(attempt.rewards[: attempt.steps].sum())
            if done == episodes or sum(episode.steps for episode in chunk) >= CHUNK_STEPS:
                _write(writer, chunk)
                chunk = []
                if progress:
                    progress(done, episodes)
        writer.expert_return = float(np.mean(expert_returns, dtype=np.float64)) if expert_returns else None


def expert_return(level: str, seed: int, episodes: int = 256) -> float | None:
    """Mean return of the expert without noise, the same episodes as in `generate_bot`; None on a level where it fails
    every time."""
    attempts = _accepted(level_named(level), episodes, seed, (0,), {})
    try:
        returns = [attempt.rewards[: attempt.steps].sum() for attempt in attempts]
    except RarlError:
        return None
    return float(np.mean(returns, dtype=np.float64))


def _accepted(
    level: Level, episodes: int, seed: int, noise_percent: tuple[int, ...], rejected: dict[str, int]
) -> Iterator[_Attempt]:
    """`episodes` attempts in which the expert did not fail; the others are counted in `rejected` by their reasons.

    Raises:
      RarlError: it fails every time.
    """
    in_a_row = 0
    for attempt in _attempts(level, episodes, seed, noise_percent):
        if not attempt.rejected:
            in_a_row = 0
            yield attempt
            continue
        rejected[attempt.rejected] = rejected.get(attempt.rejected, 0) + 1
        in_a_row += 1
        if in_a_row >= MAX_REJECTED:
            raise RarlError(f"level {level.name}: the expert failed {in_a_row} times in a row: {rejected}")


class _Attempt:
    """One episode on its way.

    Attributes:
      seed: of the level.
      noise: percent of random actions.
      steps: done so far, T.
      observations: its first T + 1 rows count; actions, rewards: their first T entries.
      rejected: why the expert failed, "" if it did not.
    """

    def __init__(self, level: Level, number: int, seed: int, noise_percent: tuple[int, ...]):
        self.number = number
        self._rng = np.random.default_rng([seed, level.id, number])
        self.seed = int(self._rng.integers(1 << 63, dtype=np.uint64))
        self.noise = noise_percent[self._rng.integers(len(noise_percent))]
        self.steps = 0
        self.terminated = False
        self.rejected = ""

    def start(self, envs: VectorBabyAI, lane: int, observation: np.ndarray) -> None:
        """After the environment's reset."""
        steps = int(envs.max_steps[lane])
        # One draw a step: its remainder is the random action, the rest decides whether to take it.
        draws = self._rng.integers(100 * len(ACTIONS), size=steps, dtype=np.int16)
        self._random = np.where(draws // len(ACTIONS) < self.noise, draws % len(ACTIONS), -1).tolist()
        self.mission = envs.missions[lane].copy()
        self.observations = np.empty((steps + 1, OBSERVATION_SIZE), dtype=np.uint8)
        self.observations[0] = observation
        self.actions = np.empty(steps, dtype=np.uint8)
        self.rewards = np.empty(steps, dtype=np.float32)
        self._env = envs.envs[lane]
        self._expert: Expert | None = None

    def act(self) -> int:
        """The next action; ExpertFailed if there is none."""
        random = self._random[self.steps]
        if self.noise == 100:
            return random
        # The expert is asked on random steps too, because it has to follow what happens.
        if self._expert is None:
            self._expert = Expert(self._env)
            advice = self._expert.action()
        else:
            advice = self._expert.action(int(self.actions[self.steps - 1]))
        return advice if random < 0 else random

    def record(self, action: int, reward: float, observation: np.ndarray) -> None:
        """After the environment's step."""
        self.actions[self.steps] = action
        self.rewards[self.steps] = reward
        self.steps += 1
        self.observations[self.steps] = observation


def _attempts(level: Level, episodes: int, seed: int, noise_percent: tuple[int, ...]) -> Iterator[_Attempt]:
    """Finished attempts in the order of their numbers, until as many as `episodes` of them are not rejected.

    They run in lanes side by side. No attempt is started that might turn out not to be needed, so that all that are
    started belong to the dataset or its count of rejected ones.
    """
    envs = VectorBabyAI([level] * min(LANES, episodes))
    running: dict[int, _Attempt] = {}
    finished: dict[int, _Attempt] = {}
    started = yielded = accepted = 0
    while True:
        free = [lane for lane in range(envs.num_envs) if lane not in running]
        free = free[: episodes - accepted - len(running)]
        for lane in free:
            running[lane] = _Attempt(level, started, seed, noise_percent)
            started += 1
        if not running:
            return
        if free:
            observations = envs.reset(np.array([running[lane].seed for lane in free]), np.array(free))
            for lane in free:
                running[lane].start(envs, lane, observations[lane])
        actions = np.zeros(envs.num_envs, dtype=np.int64)
        for lane, attempt in list(running.items()):
            try:
                actions[lane] = attempt.act()
            except ExpertFailed as failure:
                attempt.rejected = failure.reason
                envs.active[lane] = False
                finished[attempt.number] = running.pop(lane)
        observations, rewards, terminated, _ = envs.step(actions)
        for lane, attempt in list(running.items()):
            attempt.record(actions[lane], rewards[lane], observations[lane])
            if not envs.active[lane]:
                attempt.terminated = bool(terminated[lane])
                accepted += 1
                finished[attempt.number] = running.pop(lane)
        while yielded in finished:
            yield finished.pop(yielded)
            yielded += 1


def _write(writer: DatasetWriter, chunk: Sequence[_Attempt]) -> None:
    writer.add_flat(
        np.concatenate([episode.observations[: episode.steps + 1] for episode in chunk]),
        np.concatenate([episode.actions[: episode.steps] for episode in chunk]),
        np.concatenate([episode.rewards[: episode.steps] for episode in chunk]),
        np.array([episode.steps for episode in chunk]),
        mission=np.stack([episode.mission for episode in chunk]),
        noise=np.array([episode.noise for episode in chunk], dtype=np.int8),
        seed=np.array([episode.seed for episode in chunk], dtype=np.int64),
        terminated=np.array([episode.terminated for episode in chunk]),
    )
