"""What an agent does for one step of greedy play, as its evaluation does it; for measuring how long that takes.

A learner that acts or reads in its own way says so itself, by methods `acting_step(n)` and `reading_step()` that return
what `acting` and `reading` return.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from rarl.config import Run
from rarl.nn.retrieval import Summaries
from rarl.trajectories.store import TrajectoryDataset

if TYPE_CHECKING:
    from rarl.training.learner import ValueLearner

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

    The environments themselves take no step. None for a learner of another kind that does not say how it acts.
    """
    if hasattr(learner, "acting_step"):
        return learner.acting_step(n)
    s = run.settings
    x = _in_a_game(run, n) if s.online is not None else _states(datasets[0], n)
    if hasattr(getattr(learner, "agent", None), "look"):  # episodic control
        tasks, rng = np.zeros(n, dtype=np.int64), np.random.default_rng(0)
        return lambda: learner.agent.look(x, tasks, use=False).best(rng)
    if not hasattr(learner, "network"):
        return None
    read = reading(learner)
    retrieved = None if read is None else read()
    if s.online is not None:
        from rarl.agents.policy import Policy

        policy = Policy(learner.network, np.zeros(n), np.random.default_rng(0))
        policy.retrieved = retrieved
        return lambda: policy(x)
    if s.environment == "babyai":
        missions = datasets[0].extras["mission"][np.arange(n) % datasets[0].episodes].astype(np.int64)
        return _unrolled(learner, x, missions, retrieved)
    return _at_once(learner, x, retrieved)


def _at_once(learner: ValueLearner, observations: np.ndarray, retrieved: Summaries | None) -> Actions:
    """observations: (n, ...)."""
    told = torch.zeros(1, len(observations), dtype=torch.int64, device=learner.device)

    @torch.no_grad()
    def act() -> np.ndarray:
        x = torch.from_numpy(observations).to(learner.device)[None]
        return learner.network(x, told, retrieved)[0].argmax(-1).flatten().cpu().numpy()

    return act


def _unrolled(
    learner: ValueLearner, observations: np.ndarray, missions: np.ndarray, retrieved: Summaries | None
) -> Actions:
    """observations: (n, ...). missions: (n, words)."""
    told = torch.from_numpy(missions).to(learner.device)[None, :, None]
    with torch.no_grad():
        state = learner.network.initial_state(1, len(observations))

    @torch.no_grad()
    def act() -> np.ndarray:
        x = torch.from_numpy(observations).to(learner.device)[None, :, None]
        return learner.network.unroll(x, told, state, retrieved).q.argmax(-1).flatten().cpu().numpy()

    return act


def _states(dataset: TrajectoryDataset, n: int) -> np.ndarray:
    """n observations of a dataset."""
    return np.array(dataset.observations[np.arange(n) % len(dataset.observations)])


def _in_a_game(run: Run, n: int) -> np.ndarray:
    """(n, bytes): what is seen at the start of an episode of a run's game, n times."""
    from rarl.envs.atari.observation import Observer
    from rarl.evaluation.games import environments

    observer = Observer(1, run.settings.agent.stack)
    observer.begin(environments(run.tasks[0], 1, run.settings.online).reset())
    return np.repeat(observer.x, n, axis=0)
