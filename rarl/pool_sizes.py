"""How many trajectories of each task retrieval datasets take (`rarl.agents.pools`); imports no torch.

So a dataset that is too small is told before anything runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rarl.errors import RarlError

if TYPE_CHECKING:
    from rarl.config.settings import PoolSettings


def counts(pool: PoolSettings, n_tasks: int, task: int, share: float) -> list[int]:
    """How many trajectories of each task are in the retrieval dataset of `task` with this share of own ones.

    At least one is its own, unless the share is 0; the others' are spread evenly over the other tasks.
    """
    own = max(round(share * pool.trajectories), 1) if share > 0 else 0
    found = [0] * n_tasks
    found[task] = own
    others = [(task + i) % n_tasks for i in range(1, n_tasks)]
    if not others and own < pool.trajectories:
        raise RarlError(f"a share of {share:g} relevant trajectories needs other tasks; there is one task only")
    for i, other in enumerate(others):
        found[other] = (pool.trajectories - own + len(others) - 1 - i) // len(others)
    return found


def needed_of_each(pool: PoolSettings, n_tasks: int) -> list[int]:
    """How many trajectories of each task are in any of the retrieval datasets.

    Those without a relevant one, which probes look into, are among them: they hold more of the others'.
    """
    shares = [*pool.relevant, 0.0] if n_tasks > 1 else pool.relevant
    of = [counts(pool, n_tasks, task, share) for task in range(n_tasks) for share in shares]
    return [max(column) for column in zip(*of, strict=True)]
