"""What an agent does for one step of greedy play, as its evaluation does it; for measuring how long that takes.

A learner that acts or reads in its own way says so itself, by methods `acting_step(n)` and `reading_step()` that return
what `acting` and `reading` return.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from rarl.agents.policy import Policy
from rarl.config.scale import Run
from rarl.envs.spec import make_vector, plays, spec_of
from rarl.nn.retrieval import Summaries
from rarl.trajectories.store import TrajectoryDataset

if TYPE_CHECKING:
    pass

Actions = Callable[[], np.ndarray]
Reading = Callable[[], Summaries | None]


def reading(learner: Any) -> Reading | None:
    """Draws and summarises one retrieval batch, as at the start of an episode; None for an agent that reads none."""
    if hasattr(learner, "reading_step"):
        return learner.reading_step()
    rng = np.random.default_rng(0)
    memory = getattr(learner, "memory", None)
    if memory is not None:
        tasks = np.arange(learner.n_tasks if memory.pooled else 1)

        def draw():
            return memory.sample(tasks, rng)

    elif hasattr(learner, "sample_batch") and learner.settings.agent.retrieves:

        def draw():
            return learner.sample_batch(rng)

    else:
        return None

    def read() -> Summaries | None:
        with torch.no_grad():
            batch = draw()
            return None if batch is None else batch.to(learner.device).summarise(learner.network)

    return read


def acting(run: Run, learner: Any, datasets: Sequence[TrajectoryDataset], n: int) -> Actions | None:
    """Chooses actions in n states of one task with one retrieval batch, from observations to actions (n,).

    The environments themselves take no step. None for a learner of another kind that does not say how it acts, and
    where there is no simulator.
    """
    if hasattr(learner, "acting_step"):
        return learner.acting_step(n)
    if not (hasattr(learner, "network") or is_episodic(learner)) or not plays(spec_of(run.settings.environment)):
        return None
    envs = make_vector(run.settings, [run.tasks[0]] * n)
    x = envs.reset()
    if is_episodic(learner):
        return by_memory(learner, learner.codec.alone(x))
    policy = Policy(learner.network, np.zeros(n), np.random.default_rng(0))
    policy.retrieved = retrieved_by(learner)
    policy.begin(np.ones(n, dtype=bool), envs.context)
    return lambda: policy(x)


def is_episodic(learner: Any) -> bool:
    """Whether it acts by what it finds in an episodic memory."""
    return hasattr(getattr(learner, "agent", None), "look")


def by_memory(learner: Any, x: np.ndarray) -> Actions:
    """Episodic control: x (n, ...)."""
    tasks, rng = np.zeros(len(x), dtype=np.int64), np.random.default_rng(0)
    return lambda: learner.agent.look(x, tasks, use=False).best(rng)


def retrieved_by(learner: Any) -> Summaries | None:
    """One retrieval batch, summarised; None for an agent that reads none."""
    read = reading(learner)
    return None if read is None else read()
