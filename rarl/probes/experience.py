"""Experience at run time: what a trained agent is given to retrieve from, more of it or less, better or worse, known or
new. No weight is changed, and how it chooses among what it is given is as trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy

import numpy as np

from rarl.agents.memory import Memory
from rarl.probes.trained import by_return
from rarl.trajectories.sampling import RetrievalSampler
from rarl.trajectories.store import TrajectoryDataset

QUARTER = 0.25  # of the episodes, by return, that count as better or worse ones


def experiences(memory: Memory, amounts: Sequence[int]) -> Iterator[tuple[str, Memory, int]]:
    """(name, what is retrieved from, how many trajectories are drawn), where each dataset has that many.

    *given-n*: of the episodes that the agent learned from; *given-best-n*, *given-worst-n*: of their quarter with the
    highest and the lowest returns; *given-new-n*: of the dataset's episodes that the agent did not learn from.
    """
    kinds: dict[str, Callable[[TrajectoryDataset], np.ndarray]] = {
        "": lambda dataset: dataset.used,
        "best-": lambda dataset: _quarter(dataset, 1),
        "worst-": lambda dataset: _quarter(dataset, -1),
        "new-": lambda dataset: np.setdiff1d(np.arange(dataset.episodes), dataset.used),
    }
    for kind, chosen in kinds.items():
        other = copy(memory)
        other.samplers = [_of(sampler.dataset, chosen(sampler.dataset)) for sampler in memory.samplers]
        fewest = min(len(sampler.dataset.used) for sampler in other.samplers)
        yield from ((f"given-{kind}{n}", other, n) for n in amounts if n <= fewest)


def _of(dataset: TrajectoryDataset, episodes: np.ndarray) -> RetrievalSampler:
    part = copy(dataset)
    part.used = np.sort(episodes)
    return RetrievalSampler(part)


def _quarter(dataset: TrajectoryDataset, sign: int) -> np.ndarray:
    order = by_return(dataset, sign)
    return order[: int(QUARTER * len(order))]
