"""What trajectories of each environment may hold: dtypes, shapes and ranges of values, in one place per environment.

Checked before anything learns from a dataset (`rarl.trajectories.verify`), and told to those to whom one is exported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np

from rarl.envs.spec import ENVIRONMENTS, EnvSpec, load, spec_of


@dataclass(frozen=True)
class Values:
    """Values of an array.

    Attributes:
      dtype: NumPy's name.
      shape: of one row.
      low, high: least and greatest, for all alike or a tuple with one for each place of a row; None: anything finite.
    """

    dtype: str
    shape: tuple[int, ...] = ()
    low: float | tuple[float, ...] | None = None
    high: float | tuple[float, ...] | None = None

    def range_text(self, place: tuple[int, ...] = ()) -> str:
        """What is allowed, for people: "0 to 6", "finite"; at a place of a row if that matters."""
        low, high = (
            bound[place[0]] if isinstance(bound, tuple) and place else bound for bound in (self.low, self.high)
        )
        if low is None:
            return "finite"
        return f"{low} to {high}" if isinstance(low, tuple) else f"{low:g} to {high:g}"

    def first_bad(self, rows: np.ndarray) -> tuple[int, ...] | None:
        """The index of the first of the values rows (n, *shape) that is not allowed; None if all are."""
        bad = np.zeros(rows.shape, dtype=bool)
        if rows.dtype.kind in "fc":
            bad |= ~np.isfinite(rows)
        if self.low is not None:
            bad |= (rows < np.asarray(self.low)) | (rows > np.asarray(self.high))
        return None if not bad.any() else tuple(int(i) for i in np.argwhere(bad)[0])


def _as_stored(observations: np.ndarray, extras: Mapping[str, np.ndarray]) -> np.ndarray:
    return observations


def _attributes_as_stored(extras: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return dict(extras)


@dataclass(frozen=True)
class Public:
    """How trajectories are handed to others, in gymnasium's terms, without our codes and vocabularies.

    Attributes:
      observation_space, action_space: of the exported episodes.
      environment: task -> gymnasium's specification of the environment; None where it has none.
      observations: one episode's observations (T + 1, ...) and its extras -> the same as observation_space has them.
      attributes: one episode's extras -> what is told about the episode.
    """

    observation_space: gym.Space
    action_space: gym.Space
    environment: Callable[[str], gym.envs.registration.EnvSpec | None]
    observations: Callable[[np.ndarray, Mapping[str, np.ndarray]], Any] = _as_stored
    attributes: Callable[[Mapping[str, np.ndarray]], dict[str, Any]] = _attributes_as_stored


@dataclass(frozen=True)
class Content:
    """The trajectories of an environment.

    Attributes:
      observations, actions, rewards: their values.
      ends: what the end of an episode means, as in `rarl.trajectories.store`.
      steps: of every episode; None: they differ.
      extras: the optional arrays that there may be, with one row per episode.
      required: those of them that an agent needs.
      public: how they are exported.
    """

    observations: Values
    actions: Values
    rewards: Values
    ends: str
    public: Public = field(repr=False)
    steps: int | None = None
    extras: Mapping[str, Values] = field(default_factory=dict)
    required: tuple[str, ...] = ()

    def arrays(self) -> dict[str, Values]:
        """The values of every array by its name."""
        return {"observations": self.observations, "actions": self.actions, "rewards": self.rewards, **self.extras}


def content_of(environment: str) -> Content | None:
    """What trajectories of an environment may hold; None for one that is not known here.

    environment: its name, module:SPEC or file.py:SPEC.
    """
    if environment not in ENVIRONMENTS and ":" not in environment:
        return None
    spec = spec_of(environment)
    if spec.content is not None:
        return load(spec.content)
    return _by_spaces(spec)


def _by_spaces(spec: EnvSpec) -> Content | None:
    """By the spaces that a specification names, or one of its environments has."""
    space, n_actions = spec.observation, spec.n_actions
    if (space is None or n_actions is None) and spec.make is not None:
        env = load(spec.make)(spec.tasks[0])
        given = None if spec.prepare is not None else env.observation_space
        space, n_actions = space or given, n_actions or int(env.action_space.n)
        env.close()
    if space is None or n_actions is None:
        return None
    low, high = _bounds(space)
    return Content(
        observations=Values(str(space.dtype), tuple(space.shape or ()), low, high),
        actions=Values("int16", low=0, high=n_actions - 1),
        rewards=Values("float32"),
        ends="per-episode",
        public=Public(space, gym.spaces.Discrete(n_actions), lambda task: None),
        extras={
            "terminated": Values("bool"),
            "seed": Values("int64", low=0, high=2**63 - 1),
            "noise": NOISE,
        },
        required=("terminated",),
    )


def bounds_of(space: gym.Space) -> tuple[np.ndarray, np.ndarray] | None:
    """Least and greatest value in each place of a space's arrays; None for a space of another kind."""
    if isinstance(space, gym.spaces.Box):
        return space.low, space.high
    if isinstance(space, gym.spaces.Discrete):
        return np.asarray(space.start), np.asarray(space.start + space.n - 1)
    if isinstance(space, gym.spaces.MultiDiscrete):
        return space.start, space.start + space.nvec - 1
    if isinstance(space, gym.spaces.MultiBinary):
        return np.zeros(space.shape, space.dtype), np.ones(space.shape, space.dtype)
    return None


def _bounds(space: gym.Space) -> tuple[float, float] | tuple[tuple[float, ...], tuple[float, ...]] | tuple[None, None]:
    """As `Values` have them: one for each place of a vector, else for all together."""
    bounds = bounds_of(space)
    if bounds is None or not np.isfinite(bounds).any():
        return None, None
    low, high = bounds
    if low.ndim == 1 and ((low != low[0]) | (high != high[0])).any():
        return tuple(low.tolist()), tuple(high.tolist())
    return float(low.min()), float(high.max())


# How episodes were played, whatever the environment.
NOISE = Values("int8", low=0, high=100)  # percent
