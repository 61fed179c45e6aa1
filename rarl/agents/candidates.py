"""Whether attention has something to choose from: told before a run, with the numbers.

With as many states read as there are candidates, reading is a mean over all of them. With one step of each trajectory
looked at, a summary of its past and one of its future are of the same moment. Both are legitimate, and then said in the
settings (`k_states: null`); both are easily set by accident, since they depend on the lengths of the episodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rarl.config.settings import RetrievalSettings
from rarl.trajectories.sampling import n_looked_at

_BATCHES = 200  # drawn for the mean
FEW_STEPS = 1.5  # per trajectory


class Candidates(NamedTuple):
    """Means over retrieval batches: trajectories and states of a batch, and states of a trajectory."""

    trajectories: float
    states: float
    steps_per_trajectory: float


def candidates_of(
    settings: RetrievalSettings, lengths: Sequence[np.ndarray], returns: Sequence[np.ndarray] = ()
) -> Candidates:
    """What a retrieval batch holds.

    Args:
      settings: how it is drawn.
      lengths: of the episodes of each task, in steps.
      returns: of the same; needed where trajectories are chosen by return.
    """
    rng = np.random.default_rng(0)
    by_return = settings.select_by == "return" and settings.k_traj < settings.n_traj
    n_traj = settings.k_traj if by_return else settings.n_traj
    steps = []
    for task, of_task in enumerate(lengths):
        if by_return and not (of_task == of_task[0]).all():
            drawn = [rng.choice(len(of_task), settings.n_traj, replace=False) for _ in range(_BATCHES)]
            best = [d[np.argsort(-returns[task][d], kind="stable")[: settings.k_traj]] for d in drawn]
            of_task = of_task[np.concatenate(best)]
        if settings.trajectory_steps is not None:
            of_task = np.minimum(of_task, settings.trajectory_steps)
        steps.append(n_looked_at(of_task, settings.step_stride).mean())
    per_trajectory = float(np.mean(steps))
    trajectories = n_traj * (len(lengths) if settings.source == "all" else 1)
    return Candidates(float(trajectories), trajectories * per_trajectory, per_trajectory)


def cannot_select(settings: RetrievalSettings, candidates: Candidates) -> list[str]:
    """Why attention has nothing to choose from, one sentence for each reason; none where it has."""
    told = []
    if settings.k_states is not None and settings.k_states >= candidates.states:
        told.append(
            f"agent.retrieval.k_states = {settings.k_states}, but a retrieval batch holds {candidates.states:.1f} "
            f"states ({candidates.trajectories:.0f} trajectories with {candidates.steps_per_trajectory:.1f} each): "
            "attention selects nothing. Set fewer, or null to read all"
        )
    if candidates.steps_per_trajectory < FEW_STEPS:
        told.append(
            f"agent.retrieval.step_stride = {settings.step_stride} leaves {candidates.steps_per_trajectory:.2f} steps "
            "of a retrieved trajectory: its past and its future are told by the same moment. Set fewer"
        )
    return told
