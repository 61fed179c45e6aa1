"""What an agent does for one step of greedy play, as its evaluation does it; for measuring how long that takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from rarl.agents.policy import Policy
from rarl.envs.spec import make_vector, plays, spec_of
from rarl.nn.retrieval import Summaries

Actions = Callable[[], np.ndarray]
Reading = Callable[[], Summaries | None]


def reading(learner: Any) -> Reading | None:
    """Draws and summarises one retrieval batch, as at the start of an episode; None for an agent that reads none."""
    if not learner.settings.agent.retrieves:
        return None
    rng = np.random.default_rng(0)

    def read() -> Summaries | None:
        with torch.no_grad():
            if learner.settings.online is not None:
                batch = learner.sample_batch(rng)
            else:
                tasks = learner.n_tasks if learner.memory.pooled else 1
                batch = learner.memory.sample(np.arange(tasks), rng)
            return None if batch is None else batch.to(learner.device).summarise(learner.network)

    return read


def acting(learner: Any, n: int) -> Actions | None:
    """Chooses actions in n states of one task with one retrieval batch, from observations to actions (n,).

    The environments themselves take no step. None where there is no simulator.
    """
    settings = learner.settings
    if not plays(spec_of(settings.environment)):
        return None
    envs = make_vector(settings, [settings.tasks[0]] * n)
    x, rng = envs.reset(), np.random.default_rng(0)
    if settings.episodic is not None:
        x, tasks = learner.codec.alone(x), np.zeros(n, dtype=np.int64)
        return lambda: learner.agent.look(x, tasks, use=False).best(rng)
    policy, read = Policy(learner.network, np.zeros(n), rng), reading(learner)
    policy.retrieved = None if read is None else read()
    policy.begin(np.ones(n, dtype=bool), envs.context)
    return lambda: policy(x)
