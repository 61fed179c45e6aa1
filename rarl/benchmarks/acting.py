"""What an agent does for one step of greedy play, as its evaluation does it; for measuring how long that takes.

A learner that acts or reads in its own way says so itself, by methods `acting_step(n)` and `reading_step()` that return
what `acting` and `reading` return.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from rarl.config.scale import Run
from rarl.envs.spec import load, spec_of
from rarl.nn.retrieval import Summaries
from rarl.trajectories.store import TrajectoryDataset

if TYPE_CHECKING:
    from rarl.learners.value_learner import ValueLearner

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
    if not (hasattr(learner, "network") or is_episodic(learner)):
        return None
    return load(spec_of(run.settings.environment).acting)(run, learner, datasets, n)


def on_states(run: Run, learner: Any, datasets: Sequence[TrajectoryDataset], n: int) -> Actions | None:
    """`acting` of agents that see a state by itself."""
    x = _states(datasets[0], n)
    return by_memory(learner, x) if is_episodic(learner) else _at_once(learner, x, retrieved_by(learner))


def with_missions(run: Run, learner: Any, datasets: Sequence[TrajectoryDataset], n: int) -> Actions | None:
    """`acting` of recurrent agents that are told a mission."""
    missions = datasets[0].extras["mission"][np.arange(n) % datasets[0].episodes].astype(np.int64)
    return _unrolled(learner, _states(datasets[0], n), missions, retrieved_by(learner))


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
