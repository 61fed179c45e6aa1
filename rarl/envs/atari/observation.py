"""x_t on Atari: the newest frames, the last action and the last reward, packed into one row of bytes.

A packed x is uint8, so that replay, retrieval batches and encoders handle it as they do any other observation. Its
layout, for a stack of n frames:

  n * 84 * 84 bytes   the frames, oldest first; before an episode's first frame, black
  1 byte              the last action; at an episode's start 0, no-op
  4 bytes             the last reward, unclipped, float32, little-endian; at an episode's start 0

`rarl.envs.atari.encoders.unpack` is the inverse, for tensors.
"""

from __future__ import annotations

from typing import Any

import numpy as np

SCREEN = 84
FRAME_BYTES = SCREEN * SCREEN
EXTRA_BYTES = 5


def packed_size(stack: int) -> int:
    """Bytes of an x with so many frames."""
    return stack * FRAME_BYTES + EXTRA_BYTES


def pack(frames: np.ndarray, last_actions: np.ndarray, last_rewards: np.ndarray) -> np.ndarray:
    """frames (..., stack, 84, 84) uint8, oldest first, last actions and rewards (...) -> x (..., bytes) uint8."""
    leading, stack = frames.shape[:-3], frames.shape[-3]
    x = np.empty((*leading, packed_size(stack)), dtype=np.uint8)
    x[..., :-EXTRA_BYTES] = frames.reshape(*leading, -1)
    _set_extra(x, last_actions, last_rewards)
    return x


def _set_extra(x: np.ndarray, last_actions: np.ndarray, last_rewards: np.ndarray) -> None:
    x[..., -EXTRA_BYTES] = last_actions
    rewards = np.ascontiguousarray(last_rewards, dtype="<f4")
    x[..., -EXTRA_BYTES + 1 :] = rewards[..., None].view(np.uint8)


def newest_frame(x: Any) -> Any:
    """x (..., bytes) uint8, an array or a tensor -> its newest frame (..., 84, 84), a view."""
    return x[..., -EXTRA_BYTES - FRAME_BYTES : -EXTRA_BYTES].reshape(*x.shape[:-1], SCREEN, SCREEN)


class Observer:
    """Keeps the x of n actors: give it what `VectorAtari` gives.

    Args:
      num_envs: n.
      stack: frames in an x.
    """

    def __init__(self, num_envs: int, stack: int = 1):
        self.stack = stack
        self._x = np.zeros((num_envs, packed_size(stack)), dtype=np.uint8)

    @property
    def x(self) -> np.ndarray:
        """(n, bytes) uint8, the caller's to keep."""
        return self._x.copy()

    @property
    def newest(self) -> np.ndarray:
        """(n, 84, 84) uint8, the newest frame of each x: a view."""
        return newest_frame(self._x)

    def begin(self, frames: np.ndarray, where: np.ndarray | None = None) -> None:
        """Episodes begin: frames (n, 84, 84) of all environments, `where` the indices of those that begin (all)."""
        where = np.arange(len(self._x)) if where is None else np.asarray(where, dtype=np.int64)
        self._x[where] = 0
        self._x[where, -EXTRA_BYTES - FRAME_BYTES : -EXTRA_BYTES] = frames[where].reshape(len(where), -1)

    def step(
        self, actions: np.ndarray, rewards: np.ndarray, frames: np.ndarray, where: np.ndarray | None = None
    ) -> None:
        """After a step: actions and rewards (n,), and the frames (n, 84, 84) that came of them.

        where: (n,) bool, which took it; None: all.
        """
        rows = slice(None) if where is None or where.all() else where
        x = self._x[rows]
        pixels = x[:, :-EXTRA_BYTES]
        pixels[:, :-FRAME_BYTES] = pixels[:, FRAME_BYTES:].copy()
        pixels[:, -FRAME_BYTES:] = frames[rows].reshape(len(x), -1)
        _set_extra(x, np.asarray(actions)[rows], rewards[rows])
        self._x[rows] = x

    def state_dict(self) -> dict[str, Any]:
        return {"x": self._x.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._x[:] = state["x"]
