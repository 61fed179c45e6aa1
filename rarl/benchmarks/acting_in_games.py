"""What an agent does for one step of a game, for measuring how long that takes (`rarl.benchmarks.acting`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rarl.agents.policy import Policy
from rarl.benchmarks.acting import Actions, by_memory, is_episodic, retrieved_by
from rarl.config.scale import Run
from rarl.envs.atari.observation import Observer
from rarl.rollouts.games import environments
from rarl.trajectories.store import TrajectoryDataset


def in_a_game(run: Run, learner: Any, datasets: Sequence[TrajectoryDataset], n: int) -> Actions:
    """`acting` at the start of an episode of a run's game, n times."""
    observer = Observer(1, run.settings.agent.stack)
    observer.begin(environments(run.tasks[0], 1, run.settings.online).reset())
    x = np.repeat(observer.x, n, axis=0)
    if is_episodic(learner):
        return by_memory(learner, x)
    policy = Policy(learner.network, np.zeros(n), np.random.default_rng(0))
    policy.retrieved = retrieved_by(learner)
    return lambda: policy(x)
