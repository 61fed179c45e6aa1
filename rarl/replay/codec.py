"""How observations are kept in a replay of frames, and made whole again."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Num, Shaped, UInt8

from rarl.config.settings import RunSettings
from rarl.envs.spec import load, spec_of
from rarl.envs.vector import VectorEnv


@runtime_checkable
class Codec(Protocol):
    """From what an agent sees to frames of bytes, and back.

    Attributes:
      frame_shape: of a frame, uint8.
      stack: frames that an observation consists of; those before an episode's first are 0.
    """

    frame_shape: tuple[int, ...]
    stack: int

    def newest(self, x: Shaped[np.ndarray, "n ..."]) -> UInt8[np.ndarray, "n ..."]:
        """What has to be kept of observations, (n, *frame_shape)."""
        ...

    def restore(
        self,
        frames: UInt8[np.ndarray, "*frame"],
        last_actions: Num[np.ndarray, "*b"],
        last_rewards: Num[np.ndarray, "*b"],
    ) -> Shaped[np.ndarray, "*b ..."]:
        """The observations of frames (..., stack, *frame_shape), oldest first, and of the step before each."""
        ...

    def alone(self, x: Shaped[np.ndarray, "n ..."]) -> Shaped[np.ndarray, "n ..."]:
        """Observations without what they say of the step before, which episodic control does not see: a copy."""
        ...


class Bytes:
    """Keeps an observation as it is, as its bytes.

    Args:
      shape, dtype: of one observation.
    """

    stack = 1

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype):
        self._shape, self._dtype = shape, np.dtype(dtype)
        self.frame_shape: tuple[int, ...] = (int(np.prod(shape)) * self._dtype.itemsize,)

    def newest(self, x: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(x).view(np.uint8).reshape(len(x), *self.frame_shape)

    def alone(self, x: np.ndarray) -> np.ndarray:
        return x.copy()

    def restore(self, frames: np.ndarray, last_actions: np.ndarray, last_rewards: np.ndarray) -> np.ndarray:
        alone = np.ascontiguousarray(frames[..., 0, :])
        return alone.view(self._dtype).reshape((*alone.shape[:-1], *self._shape))


def codec_of(settings: RunSettings, envs: VectorEnv) -> Codec:
    """That of a run's environments."""
    spec = spec_of(settings.environment)
    if spec.codec is not None:
        return load(spec.codec)(**settings.environment_options)
    x = envs.reset()
    envs.active[:] = False
    return Bytes(x.shape[1:], x.dtype)
