"""What probes measure in Gridroboman beside what they do everywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rarl.envs.gridroboman.tasks import task_named
from rarl.envs.gridroboman.vector import VectorGridroboman
from rarl.envs.probing import Probing


def rewards_in(envs: VectorGridroboman, tasks: Sequence[str]) -> Callable[[], np.ndarray]:
    """All tasks share their boards."""
    others = [task_named(task) for task in tasks]
    return lambda: envs.rewards_of(others)


PROBING = Probing(stream=1, truncated=(32, 16, 8, 4, 2, 1), cut=(25, 10, 5, 1), rewards_in=rewards_in)
