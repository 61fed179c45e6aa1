"""Atari as agents see it: each observation an x with its newest frames, last action and last reward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rarl.envs.atari.observation import EXTRA_BYTES, SCREEN, Observer, newest_frame, pack
from rarl.envs.atari.vector import VectorAtari
from rarl.envs.vector import Step, VectorEnv, where_of


class PackedAtari(VectorEnv):
    """`VectorAtari` with packed observations (`rarl.envs.atari.observation`).

    Args:
      games: the environments.
      stack: frames in an x.
    """

    def __init__(self, games: VectorAtari, stack: int):
        self.games, self.num_envs, self.actions = games, games.num_envs, games.actions
        self.active = games.active  # one array
        self._observer = Observer(games.num_envs, stack)

    @property
    def num_actions(self) -> int:
        return len(self.actions)

    def reset(self, seeds: Sequence[int] | np.ndarray | None = None, where: np.ndarray | None = None) -> np.ndarray:
        where = where_of(self.num_envs, seeds, where)
        self._observer.begin(self.games.reset(seeds, where), where)
        return self._observer.x

    def step(self, actions: np.ndarray) -> Step:
        going = self.active.copy()
        step = self.games.step(actions)
        self._observer.step(actions, step.rewards, step.observations, going)
        return Step(self._observer.x, step.rewards, step.terminated, step.truncated)

    def state_dict(self) -> dict[str, Any]:
        return {"games": self.games.state_dict(), "observer": self._observer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.games.load_state_dict(state["games"])
        self._observer.load_state_dict(state["observer"])


def make_vector(tasks: Sequence[str], seed: int, *, stack: int, emulator_threads: int, **options: Any) -> PackedAtari:
    """Environments of these games; the arguments are those of `rarl.envs.atari.options`."""
    return PackedAtari(VectorAtari(tasks, seed=seed, threads=emulator_threads, **options), stack)


def library_vector(game: str, n: int, *, stack: int, emulator_threads: int, **options: Any) -> Any:
    """ale-py's own vector with the frames, actions and threads of ours."""
    from ale_py.vector_env import AtariVectorEnv

    return AtariVectorEnv(
        game,
        n,
        num_threads=emulator_threads,
        max_num_frames_per_episode=options["max_frames"],
        repeat_action_probability=options["sticky"],
        full_action_space=options["full_actions"],
        frameskip=options["frame_skip"],
        stack_num=stack,
        noop_max=options["noop_max"],
        reward_clipping=False,
    )


class FrameCodec:
    """How x is kept in a replay: its newest frame alone, since all else is known from the steps before.

    Args:
      stack: frames in an x.
    """

    frame_shape = (SCREEN, SCREEN)

    def __init__(self, stack: int):
        self.stack = stack

    def newest(self, x: np.ndarray) -> np.ndarray:
        """x (..., bytes) -> its newest frame (..., 84, 84), a view."""
        return newest_frame(x)

    def restore(self, frames: np.ndarray, last_actions: np.ndarray, last_rewards: np.ndarray) -> np.ndarray:
        """frames (..., stack, 84, 84), oldest first; last actions and rewards (...) -> x (..., bytes)."""
        return pack(frames, last_actions, last_rewards)

    def alone(self, x: np.ndarray) -> np.ndarray:
        """x (n, bytes) without last actions and rewards."""
        x = x.copy()
        x[:, -EXTRA_BYTES:] = 0
        return x


def codec(*, stack: int, **options: Any) -> FrameCodec:
    """That of environments with these options."""
    return FrameCodec(stack)
