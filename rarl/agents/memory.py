"""What an agent retrieves from: retrieval batches for groups of states, drawn afresh for every learner step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from rarl.config import RetrievalSettings
from rarl.errors import RarlError
from rarl.nn.retrieval import Summaries
from rarl.nn.value_network import ValueNetwork
from rarl.trajectories.sampling import Looks, RetrievalSampler
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
      seed: of the batches that are kept where the setting `fresh` is off.
    """

    def __init__(
        self, datasets: Sequence[TrajectoryDataset], settings: RetrievalSettings, discount: float = 1.0, seed: int = 0
    ):
        self.settings, self.discount, self.seed = settings, discount, seed
        self.samplers = [RetrievalSampler(dataset) for dataset in datasets]
        for dataset in datasets:
            if dataset.episodes < settings.n_traj:
                raise RarlError(
                    f"{dataset.folder}: holds {dataset.episodes} episodes, "
                    f"but a retrieval batch takes n_traj = {settings.n_traj}"
                )

    def sample(self, tasks: np.ndarray, rng: np.random.Generator, given: np.ndarray | None = None) -> RetrievalBatch:
        """A retrieval batch for each group.

        Args:
          tasks: (G,) task ids of the groups.
          rng: source of randomness.
          given: (G,) whose datasets are drawn from; None follows the setting `source`.
        """
        s = self.settings
        if given is None:
            given = rng.integers(len(self.samplers), size=len(tasks)) if s.source == "random" else np.asarray(tasks)
        best = s.k_traj if s.select_by == "return" else None
        # A batch that is kept depends on the seed and its dataset alone, not on what was drawn before.
        drawn = [
            self.samplers[g].draw(s.n_traj, best, rng if s.fresh else np.random.default_rng([self.seed, int(g), 1]))
            for g in given
        ]
        looks = [
            self.samplers[g].look(episodes, s.step_stride, self.discount)
            for g, episodes in zip(given, drawn, strict=True)
        ]
        mask = _stack(looks, "mask")
        return RetrievalBatch(
            torch.from_numpy(_stack(looks, "observations")),
            torch.from_numpy(_stack(looks, "actions")).long(),
            torch.from_numpy(_stack(looks, "rewards")),
            torch.from_numpy(_stack(looks, "values")),
            None if mask.all() else torch.from_numpy(mask),
            torch.from_numpy(np.asarray(tasks, dtype=np.int64)),
            np.asarray(given),
            np.stack(drawn),
            _stack(looks, "steps"),
        )


def _stack(looks: Sequence[Looks], name: str) -> np.ndarray:
    """One array of all groups, (G, n, l, ...), padded with zeros to the most looks."""
    arrays = [getattr(look, name) for look in looks]
    most = max(array.shape[1] for array in arrays)
    if any(array.shape[1] < most for array in arrays):
        arrays = [np.pad(array, [(0, 0), (0, most - array.shape[1]), *[(0, 0)] * (array.ndim - 2)]) for array in arrays]
    return np.stack(arrays)
