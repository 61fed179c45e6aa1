"""Atari games stepped at once, exactly resumable.

Emulation and preprocessing are `ale_py.vector_env.AtariVectorEnv`'s: grey, the maximum of the last two of `frame_skip`
frames, area interpolation to 84 x 84. What is done here:

*Episodes begin when they are told to.* `step` returns an episode's last observation; the next one begins with `reset`,
which other environments do not notice. So no transition crosses episodes, and none is lost or invented. Each
environment has an emulator of its own, since one that holds several can neither leave some alone nor show their state.

*Restoring.* That class shows nothing of its state. The states that the plain `ALEInterface` saves lack the picture
buffers and, with sticky actions, the action that sticks (and it holds Python's lock while it emulates). But the
emulator is deterministic. So what is saved is the seed of each emulator and the actions since then, and restoring plays
them again: exact by construction, and checked against the saved screens. An emulator is seeded anew (0.12 CPU-seconds,
as much as 150 steps) at the start of an episode after `reseed_after` actions, which bounds the log and the time: at
most reseed_after + max_frames / frame_skip steps for each environment.

At the end of an episode the emulator does not draw: the last observation is that of the step before, or a mixture with
it. After a termination nobody needs it; after a truncation it is what a value is bootstrapped from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from rarl.envs.atari.games import check_game
from rarl.envs.atari.observation import SCREEN
from rarl.envs.vector import where_of
from rarl.errors import RarlError

MAX_FRAMES = 108_000  # half an hour, the field's cap
_RESTART = 255  # in the logs: here an episode began without a new seed
_SEEDS = 2**31  # an emulator's seeds are 31 bits


class GameStep(NamedTuple):
    """What a step gave, for each of n environments.

    observations (n, 84, 84) uint8; rewards (n,) float32, unclipped; terminated, truncated (n,) bool, never both: the
    game is over, or the cap is reached; lives (n,) int64, those that are left (0 in games that have none).
    """

    observations: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    lives: np.ndarray


class VectorAtari:
    """n environments in lockstep, without automatic reset.

    An environment whose episode has ended stands still: its observation stays, its rewards and flags are 0. A lost life
    ends nothing.

    Args:
      games: one per environment, e.g. ["pong"] * 8. Different games need to have the same actions.
      seed: of all episodes that are not given a seed of their own; each environment has its own stream.
      full_actions: all actions that the emulator accepts in the game: the 18 of `ACTIONS`, but on Skiing, which has no
        button, 9 of them. Else the game's minimal set.
      sticky: probability with which the emulator repeats the last action instead, drawn anew for every frame.
      noop_max: an episode begins with 0 to so many frames of no-op, uniformly.
      frame_skip: frames for which an action is repeated.
      max_frames: an episode is truncated after so many, the no-ops not counted.
      fire_on_start: begin episodes with FIRE, in games that have it.
      reseed_after: actions after which an emulator gets a new seed with its next episode.
      threads: environments that are emulated at the same time. What comes out does not depend on it.

    Attributes:
      games: the same.
      actions: names of the actions 0, 1, ...
      active: (n,) bool, which episodes go on. The caller may clear an entry to abandon an episode.
    """

    def __init__(
        self,
        games: Sequence[str],
        *,
        seed: int = 0,
        full_actions: bool = True,
        sticky: float = 0.0,
        noop_max: int = 30,
        frame_skip: int = 4,
        max_frames: int = MAX_FRAMES,
        fire_on_start: bool = False,
        reseed_after: int = 5_000,
        threads: int = 1,
    ):
        self.games = tuple(check_game(game) for game in games)
        self.num_envs = len(self.games)
        self._settings: dict[str, Any] = {
            "full_actions": full_actions,
            "sticky": sticky,
            "noop_max": noop_max,
            "frame_skip": frame_skip,
            "max_frames": max_frames,
            "fire_on_start": fire_on_start,
            "reseed_after": reseed_after,
        }
        self._emulators = [
            _Emulator(game, np.random.default_rng(stream), **self._settings)
            for game, stream in zip(self.games, np.random.SeedSequence(seed).spawn(self.num_envs), strict=True)
        ]
        if len({emulator.actions for emulator in self._emulators}) > 1:
            sets = {game: emulator.actions for game, emulator in zip(self.games, self._emulators, strict=True)}
            told = ", ".join(f"{game} has {len(actions)}" for game, actions in sets.items())
            hint = "" if full_actions else "; full_actions may help"
            raise RarlError(f"games that are played together need the same actions: {told}{hint}")
        self.actions = self._emulators[0].actions
        self.active = np.zeros(self.num_envs, dtype=bool)
        # The emulator lets go of Python's lock while it works.
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None

    @property
    def num_actions(self) -> int:
        return len(self.actions)

    @property
    def lives(self) -> np.ndarray:
        """(n,) int64."""
        return np.array([emulator.lives for emulator in self._emulators], dtype=np.int64)

    @property
    def observations(self) -> np.ndarray:
        """(n, 84, 84) uint8."""
        return np.stack([emulator.observation for emulator in self._emulators])

    def reset(self, seeds: Sequence[int] | np.ndarray | None = None, where: np.ndarray | None = None) -> np.ndarray:
        """Begin episodes, wherever the ones before are.

        Args:
          seeds: one per environment to begin, 0 to 2^31 - 1; a game, settings, a seed and the actions fix the episode.
            None: the environment's own stream goes on.
          where: indices of the environments to begin, each once; all by default. The others stay where they are.

        Returns:
          (n, 84, 84) uint8, the observations of all environments.
        """
        which = where_of(self.num_envs, seeds, where).tolist()
        for seed in () if seeds is None else seeds:
            if not 0 <= seed < _SEEDS:
                raise ValueError(f"seeds are 0 to {_SEEDS - 1}, got {seed}")
        self._each(
            lambda k: self._emulators[which[k]].reset(None if seeds is None else int(seeds[k])), range(len(which))
        )
        self.active[which] = True
        return self.observations

    def step(self, actions: np.ndarray) -> GameStep:
        """One action each, 0 to num_actions - 1; those of environments that stand still do not matter."""
        actions, rows = np.asarray(actions), np.flatnonzero(self.active)
        if ((actions[rows] < 0) | (actions[rows] >= self.num_actions)).any():  # ale-py would wait for ever
            raise ValueError(f"actions are 0 to {self.num_actions - 1}, got {actions[rows].tolist()}")
        rewards = np.zeros(self.num_envs, dtype=np.float32)
        terminated, truncated = np.zeros((2, self.num_envs), dtype=bool)
        results = self._each(lambda i: self._emulators[i].step(int(actions[i])), rows.tolist())
        for i, result in zip(rows.tolist(), results, strict=True):
            rewards[i], terminated[i], truncated[i] = result
        self.active &= ~(terminated | truncated)
        return GameStep(self.observations, rewards, terminated, truncated, self.lives)

    def _each(self, function: Callable[[int], Any], arguments: Iterable[int]) -> list[Any]:
        return list((self._pool.map if self._pool else map)(function, arguments))

    # --- state --------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """All that decides what comes, and the screens, to check that restoring has brought them back."""
        return {
            "games": self.games,
            "settings": dict(self._settings),
            "active": self.active.copy(),
            "emulators": [emulator.state_dict() for emulator in self._emulators],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on as the environments would have from which the state is. Takes as long as their logs are.

        Raises:
          RarlError: other games or settings; or the emulator does not play as it did then (another version of ale-py).
        """
        if (self.games, self._settings) != (tuple(state["games"]), state["settings"]):
            raise RarlError(
                f"the state is of other Atari environments: {state['games']} with {state['settings']}, "
                f"not {self.games} with {self._settings}"
            )
        self._each(lambda i: self._emulators[i].load_state_dict(state["emulators"][i]), range(self.num_envs))
        self.active[:] = state["active"]


class _Emulator:
    """One game, with what is needed to come back to where it is. The arguments are `VectorAtari`'s."""

    def __init__(
        self,
        game: str,
        rng: np.random.Generator,
        *,
        full_actions: bool,
        sticky: float,
        noop_max: int,
        frame_skip: int,
        max_frames: int,
        fire_on_start: bool,
        reseed_after: int,
    ):
        try:
            from ale_py.vector_env import AtariVectorEnv
        except ImportError:
            raise RarlError("Atari needs ale-py, which is GPL-2.0 and not part of rarl: pip install ale-py") from None
        self._env = AtariVectorEnv(
            game,
            1,
            num_threads=1,
            stack_num=1,
            img_height=SCREEN,
            img_width=SCREEN,
            frameskip=frame_skip,
            max_num_frames_per_episode=max_frames,
            repeat_action_probability=sticky,
            full_action_space=full_actions,
            noop_max=noop_max + 1,  # there the bound is exclusive
            use_fire_reset=fire_on_start,
            reward_clipping=False,
        )
        self.actions = tuple(action.name.lower() for action in self._env.ale.get_action_set())
        self._rng, self._reseed_after = rng, reseed_after
        self._seed: int | None = None  # None: no episode has begun
        self._log = bytearray()  # actions and restarts since the seed
        self.observation = np.zeros((SCREEN, SCREEN), dtype=np.uint8)
        self.lives = 0

    def reset(self, seed: int | None) -> None:
        """Begin an episode; without a seed, of the emulator's own stream."""
        if seed is None and self._seed is not None and len(self._log) < self._reseed_after:
            self._log.append(_RESTART)
            self._begin(None)
            return
        self._seed = int(self._rng.integers(_SEEDS)) if seed is None else seed
        self._log = bytearray()
        self._begin(self._seed)

    def step(self, action: int) -> tuple[float, bool, bool]:
        """The reward; whether the episode is terminated, or truncated."""
        self._log.append(action)
        return self._play(action)

    def _begin(self, seed: int | None) -> None:
        observation, info = self._env.reset(seed=seed)
        self.observation, self.lives = observation[0, 0], int(info["lives"][0])

    def _play(self, action: int) -> tuple[float, bool, bool]:
        observation, reward, terminated, truncated, info = self._env.step(np.array([action]))
        self.observation, self.lives = observation[0, 0], int(info["lives"][0])
        return float(reward[0]), bool(terminated[0]), bool(truncated[0])

    def state_dict(self) -> dict[str, Any]:
        return {
            "rng": self._rng.bit_generator.state,
            "seed": self._seed,
            "log": np.frombuffer(bytes(self._log), dtype=np.uint8),
            "observation": self.observation.copy(),
            "lives": self.lives,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._rng.bit_generator.state = state["rng"]
        self._seed, self._log = state["seed"], bytearray(state["log"].tobytes())
        self.observation, self.lives = state["observation"].copy(), state["lives"]
        if self._seed is None:
            return
        self._begin(self._seed)
        for entry in self._log:
            if entry == _RESTART:
                self._begin(None)
            else:
                self._play(entry)
        if self.lives != state["lives"] or (self.observation != state["observation"]).any():
            raise RarlError(
                "the Atari emulator does not play as it did when the state was saved: is it the same version of ale-py?"
            )
