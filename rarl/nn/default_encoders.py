"""An encoder for observations of any common kind, for environments that bring none of their own."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from rarl.errors import RarlError

_ONE_HOT = 64  # values of a whole number up to which it is one-hot
_PICTURE = 36  # pixels of a side from which an array of three axes is a picture


class DefaultEncoder(nn.Module):
    """Two layers on numbers, one-hot where they are whole and few; three convolutions on pictures; then layer norm.

    Args:
      d_s: width of s.
      n_tasks: number of tasks that may be told; 0 if the task is hidden.
      space: of one observation: Box, Discrete, MultiDiscrete or MultiBinary.

    Raises:
      RarlError: the space is of another kind.
    """

    def __init__(self, d_s: int, n_tasks: int = 0, *, space: gym.Space[Any]):
        super().__init__()
        self.read = _reader(space)
        self.first = nn.Linear(self.read.size, d_s)
        self.second = nn.Linear(d_s, d_s)
        self.task = nn.Embedding(n_tasks, d_s) if n_tasks else None
        self.norm = nn.LayerNorm(d_s)

    def forward(self, x: Shaped[Tensor, "*_"], context: Int[Tensor, "*_"] | None = None) -> Float[Tensor, "*_ d_s"]:
        """s of observations x (..., *shape of the space); context: task ids (...)."""
        leading = x.shape[: x.dim() - self.read.axes]
        s = self.first(self.read(x.reshape(-1, *x.shape[x.dim() - self.read.axes :])).view(*leading, -1))
        if self.task is not None:
            s = s + self.task(context)
        encoded: Tensor = self.norm(self.second(torch.relu(s)))
        return encoded


class _Reader(nn.Module):
    """Observations (n, *shape) as numbers (n, size); axes: of the shape."""

    axes: int
    size: int


def _reader(space: gym.Space[Any]) -> _Reader:
    if isinstance(space, gym.spaces.Discrete):
        return _OneHot(np.array([space.start]), np.array([space.n]), axes=0)
    if isinstance(space, gym.spaces.MultiDiscrete):
        return _OneHot(space.start.ravel(), space.nvec.ravel(), axes=space.nvec.ndim)
    if isinstance(space, gym.spaces.MultiBinary):
        return _Numbers(np.zeros(space.shape), np.ones(space.shape))
    if isinstance(space, gym.spaces.Box):
        if len(space.shape) == 3 and min(sorted(space.shape)[1:]) >= _PICTURE:
            return _Picture(space)
        whole = np.issubdtype(space.dtype, np.integer)
        if whole and (space.high.astype(np.int64) - space.low).max(initial=0) < _ONE_HOT:
            low = space.low.astype(np.int64)
            return _OneHot(low.ravel(), (space.high.astype(np.int64) - low + 1).ravel(), axes=len(space.shape))
        return _Numbers(space.low, space.high)
    raise RarlError(
        f"observation space {space}: needs an encoder of its own (Box, Discrete, MultiDiscrete, MultiBinary do not)"
    )


class _OneHot(_Reader):
    """Whole numbers (n, *shape), one-hot: (n, size)."""

    first: Tensor

    def __init__(self, low: np.ndarray, counts: np.ndarray, axes: int):
        super().__init__()
        self.axes, self.size = axes, int(counts.sum())
        first = np.concatenate([[0], np.cumsum(counts)[:-1]]) - low
        self.register_buffer("first", torch.from_numpy(first.astype(np.int64)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        ids = x.reshape(len(x), -1).long() + self.first
        hot = torch.zeros(len(ids), self.size, device=ids.device)
        return hot.scatter_(1, ids, 1.0)


class _Numbers(_Reader):
    """Numbers (n, *shape), brought to -1 .. 1 where they have bounds, squashed where not: (n, size) float32."""

    middle: Tensor
    spread: Tensor
    bounded: Tensor

    def __init__(self, low: np.ndarray, high: np.ndarray):
        super().__init__()
        low, high = (np.asarray(bound, dtype=np.float64) for bound in (low, high))
        bounded = np.isfinite(low) & np.isfinite(high)
        bounded &= np.subtract(high, low, where=bounded, out=np.full(low.shape, np.inf)) < 1e6
        low, high = np.where(bounded, low, -1.0), np.where(bounded, high, 1.0)
        middle, half = (low + high) / 2, (high - low) / 2
        self.axes, self.size = low.ndim, low.size
        for name, value in (("middle", middle), ("spread", np.maximum(half, 1e-6)), ("bounded", bounded)):
            self.register_buffer(name, torch.from_numpy(value.ravel()).to(torch.get_default_dtype()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = (x.reshape(len(x), -1).to(self.middle.dtype) - self.middle) / self.spread
        return torch.where(self.bounded > 0, x, x.sign() * x.abs().log1p())


class _Picture(_Reader):
    """A picture (n, height, width, channels), or with channels first, by DQN's three convolutions."""

    def __init__(self, space: gym.spaces.Box):
        super().__init__()
        self.axes, self.last = 3, space.shape[-1] <= 4
        height, width, channels = space.shape if self.last else (*space.shape[1:], space.shape[0])
        self.scale = float(np.max(space.high))
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 32, 8, stride=4),
            nn.ReLU(),
            nn.Conv2d(32, 64, 4, stride=2),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3),
            nn.ReLU(),
            nn.Flatten(),
        )
        with torch.no_grad():
            self.size = self.layers(torch.zeros(1, channels, height, width)).shape[1]

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(next(self.layers.parameters()).dtype) / self.scale
        features: Tensor = self.layers(x.permute(0, 3, 1, 2) if self.last else x)
        return features
