"""BabyAI datasets of agents in training: one recurrent DQN per level learns online, and all its episodes are recorded.

A dataset holds the whole way from random play to what the agent learned, in the order in which the episodes began: on
BabyAI what `online_dqn` makes on Gridroboman. The agent is the recurrent network that also learns offline, smaller,
as a double DQN with targets of n steps on windows of its own episodes.
"""

from __future__ import annotations

import copy
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import nn

from rarl.agents.losses import greedy_value, n_step_targets, td_loss, weighted_mean
from rarl.collect.arguments import check_seed
from rarl.collect.online import STREAM, OnlineSettings, one_thread
from rarl.envs.babyai.datasets import measure_expert
from rarl.envs.babyai.encoders import BabyAIEncoder
from rarl.envs.babyai.levels import Level, level_named
from rarl.envs.babyai.vector import ACTIONS, OBSERVATION_SIZE, VectorBabyAI
from rarl.errors import RarlError
from rarl.nn.value_network import State, ValueNetwork
from rarl.trajectories.store import DatasetWriter

CHUNK_STEPS = 10_000  # written at once
EXPERT_EPISODES = 256


@dataclass(frozen=True)
class OnlineRDQNSettings(OnlineSettings):
    """Settings of the agent that plays while it learns, beside those of `OnlineSettings`.

    Attributes:
      d_s: width of the encoder's output, of the GRU and of the head.
      channels, blocks, d_mission: of the encoder, as in `BabyAIEncoder`.
      n_step: longest sum of rewards before the bootstrap, in steps.
      huber_delta: where the loss turns from square to linear.
      max_gradient_norm: larger gradients are scaled down to it.
      batch_sequences: windows in a learner batch.
      sequence_steps: length of a window; the recurrent state is zero at its start.
      lanes: episodes that are played at once.
      replay_steps: capacity; whole episodes are forgotten, the oldest first.
    """

    learning_rate: float = 5e-4
    discount: float = 0.9
    target_update_period_updates: int = 100
    first_update_environment_steps: int = 2000
    epsilon_last: float = 0.05
    epsilon_decay_share: float = 0.5
    d_s: int = 64
    channels: int = 16
    blocks: int = 1
    d_mission: int = 16
    n_step: int = 5
    huber_delta: float = 1.0
    max_gradient_norm: float = 10.0
    batch_sequences: int = 32
    sequence_steps: int = 16
    lanes: int = 16
    replay_steps: int = 100_000

    AT_LEAST_0: ClassVar[tuple[str, ...]] = (*OnlineSettings.AT_LEAST_0, "blocks")
    AT_LEAST_1: ClassVar[tuple[str, ...]] = (
        *OnlineSettings.AT_LEAST_1,
        "d_s",
        "channels",
        "d_mission",
        "n_step",
        "batch_sequences",
        "sequence_steps",
        "lanes",
        "replay_steps",
    )
    POSITIVE: ClassVar[tuple[str, ...]] = (*OnlineSettings.POSITIVE, "huber_delta", "max_gradient_norm")


def generate_rdqn(
    level: Level | str,
    environment_steps: int,
    seed: int,
    folder: str | os.PathLike,
    settings: OnlineRDQNSettings | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Train a recurrent DQN on `level` and write its episodes; the dataset appears in `folder` once it is complete.

    Episodes stand in the order in which they began, the lower lane first, so that short ones do not crowd the
    beginning. The last is the first with which the dataset holds `environment_steps` steps; it and those before it are
    played to their ends, and what began later is dropped. A function of its arguments on one machine type and torch
    version (one thread, CPU). Memory: 55 bytes for each step in the replay, in a chunk, or of an episode that waits for
    one that began earlier.

    Extra arrays: mission (N, MISSION_LENGTH) uint8, epsilon (N,) float32 at the episode's start, seed (N,) int64 of the
    level, terminated (N,) bool. `expert_return` is the mean of 256 episodes of the bot without noise, null if it fails
    on this level every time; how often it failed, by reason, is the manifest's generator["expert_rejected"].

    Args:
      level: the level or its name.
      environment_steps: of all lanes together, at least 1.
      seed: at least 0.
      folder: where the dataset shall lie (an older one there is replaced).
      settings: of the agent.
      progress: called with (steps written, environment_steps) after every chunk.

    Raises:
      RarlError: an argument is out of its range, or the folder holds something else.
    """
    level = level_named(level) if isinstance(level, str) else level
    settings = settings or OnlineRDQNSettings()
    if environment_steps < 1:
        raise RarlError(f"environment_steps={environment_steps}: must be at least 1")
    check_seed(seed)
    rng = np.random.default_rng([seed, level.id, STREAM])
    rejected: dict[str, int] = {}  # filled at the end, when the writer reads it
    generator = {
        "policy": "online recurrent double DQN",
        "environment_steps": environment_steps,
        **asdict(settings),
        "expert_rejected": rejected,
        "minigrid": version("minigrid"),
    }
    with (
        DatasetWriter(
            folder,
            environment="babyai",
            task=level.name,
            source="rdqn",
            seed=seed,
            generator=generator,
            ends="per-episode",
        ) as writer,
        one_thread(),
    ):
        agent = _Agent(settings, torch_seed=int(rng.integers(2**62)))
        chunk: list[_Episode] = []
        written = waiting = 0
        for episode in _play(agent, level, environment_steps, settings, rng):
            chunk.append(episode)
            waiting += episode.steps
            complete = written + waiting >= environment_steps
            if complete or waiting >= CHUNK_STEPS:
                _write(writer, chunk)
                written, waiting, chunk = written + waiting, 0, []
                if progress:
                    progress(min(written, environment_steps), environment_steps)
            if complete:
                break
        writer.expert_return = measure_expert(level, EXPERT_EPISODES, seed, rejected)


class _Episode(NamedTuple):
    """An episode of T steps that has ended.

    observations (T + 1, 50) uint8, actions (T,) uint8, rewards (T,) float32; mission (MISSION_LENGTH,) uint8; seed: of
    the level; epsilon: at its start.
    """

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    terminated: bool
    mission: np.ndarray
    seed: int
    epsilon: float

    @property
    def steps(self) -> int:
        return len(self.actions)


class _Lane:
    """An episode on its way, the `number`-th that began."""

    def __init__(self, number: int, seed: int, epsilon: float):
        self.number, self.seed, self.epsilon = number, seed, epsilon
        self.observations: list[np.ndarray] = []
        self.actions: list[int] = []
        self.rewards: list[float] = []

    def ended(self, terminated: bool, mission: np.ndarray) -> _Episode:
        """All of it, once its last observation is there."""
        return _Episode(
            np.stack(self.observations),
            np.array(self.actions, dtype=np.uint8),
            np.array(self.rewards, dtype=np.float32),
            terminated,
            mission.copy(),
            self.seed,
            self.epsilon,
        )


def _play(
    agent: _Agent, level: Level, environment_steps: int, settings: OnlineRDQNSettings, rng: np.random.Generator
) -> Iterator[_Episode]:
    """Episodes in the order in which they began, without end; the agent learns on the way, from each once it ended."""
    n = settings.lanes
    envs = VectorBabyAI([level] * n)
    lanes: list[_Lane | None] = [None] * n
    finished: dict[int, _Episode] = {}
    state = agent.network.initial_state(1, n)
    played = started = yielded = 0
    while True:
        epsilon = settings.epsilon(played / environment_steps)
        free = [i for i in range(n) if lanes[i] is None]
        if free:
            for i in free:
                lanes[i] = _Lane(started, int(rng.integers(1 << 63, dtype=np.uint64)), epsilon)
                started += 1
            observations = envs.reset(np.array([lanes[i].seed for i in free]), np.array(free))
            for i in free:
                lanes[i].observations.append(observations[i])
            state.core[:, free] = 0.0
        explores = rng.random(n) < epsilon
        random_actions = rng.integers(len(ACTIONS), size=n)
        greedy_actions, state = agent.act(observations, envs.context, state)
        actions = np.where(explores, random_actions, greedy_actions)
        observations, rewards, terminated, _ = envs.step(actions)
        played += n
        for i, lane in enumerate(lanes):
            lane.observations.append(observations[i])
            lane.actions.append(actions[i])
            lane.rewards.append(rewards[i])
            if not envs.active[i]:
                finished[lane.number] = lane.ended(bool(terminated[i]), envs.context[i])
                agent.replay.add(finished[lane.number])
                lanes[i] = None
        agent.learn(n, rng)
        while yielded in finished:
            yield finished.pop(yielded)
            yielded += 1


class _Windows(NamedTuple):
    """B windows of T steps of single episodes, padded with zeros at the end.

    x (B, T + 1, 50) uint8, the observation after the last step included; a (B, T) int64; r_t (B, T) float32; discount_t
    (B, T) float32, 0 after the step at which the episode terminated; mask (B, T) bool, True on real steps; mission
    (B, MISSION_LENGTH) int64.
    """

    x: np.ndarray
    a: np.ndarray
    r_t: np.ndarray
    discount_t: np.ndarray
    mask: np.ndarray
    mission: np.ndarray


class _Replay:
    """The episodes that ended last.

    Args:
      capacity: steps that are kept at most, but for the newest episode, which is always kept.
    """

    def __init__(self, capacity: int):
        self.capacity = capacity
        self.episodes: deque[_Episode] = deque()
        self.steps = 0

    def add(self, episode: _Episode) -> None:
        """Keep it, and forget the oldest that are too much."""
        self.episodes.append(episode)
        self.steps += episode.steps
        while self.steps > self.capacity and len(self.episodes) > 1:
            self.steps -= self.episodes.popleft().steps

    def sample(self, windows: int, steps: int, discount: float, rng: np.random.Generator) -> _Windows:
        """Windows of T = `steps` steps: an episode by its length, then one of the windows that fit it."""
        ends = np.cumsum([episode.steps for episode in self.episodes])
        drawn = np.searchsorted(ends, rng.integers(self.steps, size=windows), side="right")
        chosen = [self.episodes[i] for i in drawn.tolist()]
        last = np.maximum([episode.steps - steps for episode in chosen], 0)
        return self.windows(chosen, rng.integers(last + 1), steps, discount)

    @staticmethod
    def windows(episodes: Sequence[_Episode], starts: np.ndarray, steps: int, discount: float) -> _Windows:
        """The windows of B episodes that begin at the steps `starts` (B,)."""
        size = len(episodes)
        x = np.zeros((size, steps + 1, OBSERVATION_SIZE), np.uint8)
        a = np.zeros((size, steps), np.int64)
        r_t = np.zeros((size, steps), np.float32)
        discount_t = np.full((size, steps), discount, np.float32)
        real = np.empty(size, np.int64)
        for row, (episode, start) in enumerate(zip(episodes, np.asarray(starts).tolist(), strict=True)):
            n = real[row] = min(steps, episode.steps - start)
            x[row, : n + 1] = episode.observations[start : start + n + 1]
            a[row, :n] = episode.actions[start : start + n]
            r_t[row, :n] = episode.rewards[start : start + n]
            if episode.terminated and start + n == episode.steps:
                discount_t[row, n - 1] = 0.0
        mission = np.stack([episode.mission for episode in episodes]).astype(np.int64)
        return _Windows(x, a, r_t, discount_t, np.arange(steps) < real[:, None], mission)


class _Agent:
    """Networks, replay and optimiser."""

    def __init__(self, settings: OnlineRDQNSettings, torch_seed: int):
        s = self.settings = settings
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch_seed)
            encoder = BabyAIEncoder(s.d_s, channels=s.channels, blocks=s.blocks, d_mission=s.d_mission)
            self.network = ValueNetwork(encoder, s.d_s, len(ACTIONS), recurrent=True)
        self.target = copy.deepcopy(self.network).requires_grad_(False)
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=s.learning_rate, fused=True)
        self.replay = _Replay(s.replay_steps)
        self.updates = 0
        self._steps_since_update = 0

    @torch.no_grad()
    def act(self, x: np.ndarray, missions: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        """x (N, 50), missions (N, MISSION_LENGTH) -> greedy actions (N,), the state after this step."""
        told = torch.from_numpy(missions.astype(np.int64))[None, :, None]
        step = self.network.unroll(torch.from_numpy(x)[None, :, None], told, state)
        return step.q[0, :, 0].argmax(-1).numpy(), step.state

    def learn(self, environment_steps: int, rng: np.random.Generator) -> None:
        """After so many more steps, update as often as they make due.

        Until the replay holds enough nothing is due, and nothing is made up for later.
        """
        s = self.settings
        if self.replay.steps < max(s.first_update_environment_steps, 1):
            return
        self._steps_since_update += environment_steps
        while self._steps_since_update >= s.environment_steps_per_update:
            self._steps_since_update -= s.environment_steps_per_update
            self.update(self.replay.sample(s.batch_sequences, s.sequence_steps, s.discount, rng))

    def update(self, windows: _Windows) -> float:
        """One step of Adam on replayed windows; returns the loss."""
        s = self.settings
        x, a, r_t, discount_t, mask, mission = (torch.from_numpy(array)[None] for array in windows)
        told, start = mission[:, :, None], self.network.initial_state(1, len(windows.a))
        online = self.network.unroll(x, told, start)
        with torch.no_grad():
            target = self.target.unroll(x, told, start)
            value_t = greedy_value(target.q[:, :, 1:], online.q[:, :, 1:])
            targets = n_step_targets(r_t, discount_t, value_t, mask, s.n_step)
        loss = weighted_mean(td_loss(online.q[:, :, :-1], a, targets, s.huber_delta), mask)
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), s.max_gradient_norm)
        self.optimiser.step()
        self.updates += 1
        if self.updates % s.target_update_period_updates == 0:
            self.target.load_state_dict(self.network.state_dict())
        return loss.item()


def _write(writer: DatasetWriter, chunk: Sequence[_Episode]) -> None:
    writer.add_flat(
        np.concatenate([episode.observations for episode in chunk]),
        np.concatenate([episode.actions for episode in chunk]),
        np.concatenate([episode.rewards for episode in chunk]),
        np.array([episode.steps for episode in chunk]),
        mission=np.stack([episode.mission for episode in chunk]),
        terminated=np.array([episode.terminated for episode in chunk]),
        epsilon=np.array([episode.epsilon for episode in chunk], dtype=np.float32),
        seed=np.array([episode.seed for episode in chunk], dtype=np.int64),
    )
