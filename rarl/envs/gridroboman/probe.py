"""What probes measure in Gridroboman beside what they do everywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rarl.envs.gridroboman.tasks import task_named
from rarl.envs.gridroboman.vector import OBSERVATION_SIZE, VectorGridroboman
from rarl.envs.probing import Probing


def rewards_in(envs: VectorGridroboman, tasks: Sequence[str]) -> Callable[[], np.ndarray]:
    """All tasks share their boards."""
    others = [task_named(task) for task in tasks]
    return lambda: envs.rewards_of(others)


def features(x: np.ndarray, context: np.ndarray | None) -> np.ndarray:
    """Positions, their differences and statuses."""
    x = x.astype(np.float32)
    places = np.stack([x[:, i : i + 2] for i in range(0, OBSERVATION_SIZE, 3)], 1)  # of the robot and the objects
    one, other = np.triu_indices(places.shape[1], 1)
    return np.concatenate([x, (places[:, one] - places[:, other]).reshape(len(x), -1)], 1)


PROBING = Probing(
    stream=1,
    features=features,
    truncated=(32, 16, 8, 4, 2, 1),
    cut=(25, 10, 5, 1),
    experience=(1, 4, 16, 64, 256),
    rewards_in=rewards_in,
)
