"""What an agent retrieves from: retrieval batches for groups of states, drawn afresh for every learner step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from rarl.config import RetrievalSettings
from rarl.errors import RarlError
from rarl.nn.auxiliary import discounted_returns
from rarl.nn.retrieval import Summaries
from rarl.nn.value_network import ValueNetwork
from rarl.trajectories.sampling import RetrievalSampler
from rarl.trajectories.store import TrajectoryDataset


@dataclass(frozen=True)
class RetrievalBatch:
    """One retrieval batch for each of G groups.

    x (G, n_traj, l, ...), a (G, n_traj, l) int64, r (G, n_traj, l) float32: the steps looked at.
    value (G, n_traj, l) float32: discounted rewards from the step to the trajectory's end, all its steps counted.
    mask (G, n_traj, l) bool, True on real steps; None if all are.
    task (G,) int64: whose task the group's states are from (told to the encoder where tasks are observed).
    given (G,) and episodes (G, n_traj) int: which dataset and which of its episodes; steps (G, n_traj, l): which steps.
    """

    x: Tensor
    a: Tensor
    r: Tensor
    value: Tensor
    mask: Tensor | None
    task: Tensor
    given: np.ndarray
    episodes: np.ndarray
    steps: np.ndarray

    def to(self, device: torch.device | str) -> RetrievalBatch:
        mask = None if self.mask is None else self.mask.to(device)
        return replace(
            self,
            x=self.x.to(device),
            a=self.a.to(device),
            r=self.r.to(device),
            value=self.value.to(device),
            mask=mask,
            task=self.task.to(device),
        )

    def summarise(self, network: ValueNetwork) -> Summaries:
        """Encode the batch with the network's own encoder (the paper re-encodes on every step) and summarise it."""
        told = self.task[:, None, None].expand(self.a.shape)
        return network.retrieval.summarise(network.encoder(self.x, told), self.a, self.r, self.mask)


class Memory:
    """Retrieval batches from one dataset per task.

    Args:
      datasets: one per task, in the order of the task ids.
      settings: how many trajectories, and how they are chosen.
      discount: of the trajectories' values.
    """

    def __init__(self, datasets: Sequence[TrajectoryDataset], settings: RetrievalSettings, discount: float = 1.0):
        self.settings, self.discount = settings, discount
        self.samplers = [RetrievalSampler(dataset) for dataset in datasets]
        for dataset in datasets:
            if dataset.episodes < settings.n_traj:
                raise RarlError(
                    f"{dataset.folder}: holds {dataset.episodes} episodes, "
                    f"but a retrieval batch takes n_traj = {settings.n_traj}"
                )

    def sample(self, tasks: np.ndarray, rng: np.random.Generator, given: np.ndarray | None = None) -> RetrievalBatch:
        """A fresh retrieval batch for each group.

        Args:
          tasks: (G,) task ids of the groups.
          rng: source of randomness.
          given: (G,) whose datasets are drawn from; None follows the setting `source`.
        """
        s = self.settings
        if given is None:
            given = rng.integers(len(self.samplers), size=len(tasks)) if s.source == "random" else np.asarray(tasks)
        best = s.k_traj if s.select_by == "return" else None
        batches = [self.samplers[g].sample(s.n_traj, k_best_by_return=best, rng=rng) for g in given]
        # The last step of every stride, since what an action led to shows at the end of it; of the last stride, the
        # trajectory's own last step.
        lengths = [batch.mask.sum(axis=1, keepdims=True) for batch in batches]
        looks = -(-max(length.max() for length in lengths) // s.step_stride)
        ends = np.arange(1, looks + 1) * s.step_stride
        steps = np.stack([np.minimum(ends, length) - 1 for length in lengths])
        mask = np.stack([ends - s.step_stride < length for length in lengths])
        x, a, r = (
            np.stack([_look(getattr(batch, name), at) for batch, at in zip(batches, steps, strict=True)])
            for name in ("observations", "actions", "rewards")
        )
        longest = max(batch.rewards.shape[1] for batch in batches)
        rewards = np.stack([np.pad(b.rewards, [(0, 0), (0, longest - b.rewards.shape[1])]) for b in batches])
        value = discounted_returns(torch.from_numpy(rewards), self.discount).numpy()
        value = np.take_along_axis(value, steps, axis=2)
        for array in (x, a, r, value):
            array[~mask] = 0
        return RetrievalBatch(
            torch.from_numpy(x),
            torch.from_numpy(a).long(),
            torch.from_numpy(r),
            torch.from_numpy(value),
            None if mask.all() else torch.from_numpy(mask),
            torch.from_numpy(np.asarray(tasks, dtype=np.int64)),
            np.asarray(given),
            np.stack([batch.episodes for batch in batches]),
            steps,
        )


def _look(array: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """array (n, T, ...), steps (n, l) -> (n, l, ...)."""
    return array[np.arange(len(array))[:, None], steps]
