"""One relevant trajectory among more and more of other tasks, in retrieval datasets larger than those of training.

Nothing in them was learned from: they are made as the run's own datasets were, with another seed.
"""

from __future__ import annotations

import tempfile
from copy import copy
from pathlib import Path
from typing import NamedTuple

from rarl.agents.index import KeyIndex
from rarl.agents.pools import PoolMemory, Pools
from rarl.collect.make import make_dataset
from rarl.config.scale import Dataset, Run, Scale
from rarl.nn.value_network import ValueNetwork
from rarl.pool_sizes import needed_of_each
from rarl.trajectories.sampling import RetrievalSampler
from rarl.trajectories.store import TrajectoryDataset

TIMES = (0.1, 1, 10, 100)  # as many trajectories as the retrieval datasets of training have
ANOTHER_SEED = 1  # is added to that of the run's own datasets


class Searched(NamedTuple):
    """Retrieval datasets, the index over their keys, and the share of each that is relevant."""

    memory: PoolMemory
    keys: KeyIndex
    share: float


def with_distractors(scale: Scale, run: Run, memory: PoolMemory, network: ValueNetwork) -> dict[int, Searched]:
    """Number of trajectories -> what is searched: one trajectory of each retrieval dataset is of the task.

    Empty where there is one task alone, or where datasets are not made by the episode.
    """
    settings = memory.pools.settings
    sizes = [n for n in (round(times * settings.trajectories) for times in TIMES) if n > memory.settings.n_traj]
    planned = [scale.find_dataset(name) for name in run.datasets]
    if not sizes or len(planned) < 2 or any(dataset.settings.episodes is None for dataset in planned):
        return {}
    layouts = {n: settings.model_copy(update={"trajectories": n, "relevant": [1 / n]}) for n in sizes}
    largest = layouts[max(sizes)]
    needed = needed_of_each(largest, len(planned))
    datasets = [_made_anew(scale, dataset, n) for dataset, n in zip(planned, needed, strict=True)]
    whole = copy(memory)
    whole.samplers, whole.index = [RetrievalSampler(dataset) for dataset in datasets], None
    whole.pools = Pools(largest, [d.used for d in datasets], run.settings.seed, [d.folder for d in datasets])
    keys, found = whole.keys(network), {}
    for n, layout in layouts.items():
        part = copy(whole)
        part.pools = copy(whole.pools)
        part.pools.settings = layout  # the first rows of each task
        index = KeyIndex(part.pools, memory.settings.index)
        index.refresh(keys, run.settings.updates)
        found[n] = Searched(part, index, 1 / n)
    return found


def _made_anew(scale: Scale, dataset: Dataset, episodes: int) -> TrajectoryDataset:
    """A dataset of so many other episodes. Its files are gone as soon as they are mapped."""
    other = dataset.changed(episodes=episodes, seed=dataset.settings.seed + ANOTHER_SEED)
    elsewhere = copy(scale)
    with tempfile.TemporaryDirectory() as folder:
        elsewhere.root = Path(folder)
        made = make_dataset(elsewhere, other)
        return TrajectoryDataset.open(made, verify=False)
