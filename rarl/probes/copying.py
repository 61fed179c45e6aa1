"""Retrieve and play: a control that learns nothing and does what was done in the retrieved state that is most alike."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from rarl.agents.memory import RetrievalBatch
from rarl.envs.probing import Features
from rarl.probes.trained import by_return
from rarl.trajectories.store import TrajectoryDataset


class RetrieveAndPlay:
    """Acts as in the nearest of the states that its group has, the first of equally near ones.

    Args:
      keys: R x (N, d), features of the states of each group.
      actions: R x (N,), what was done in them.
      places: (R, m), which environments read which group's.
      features: of observations; near is what has a small Euclidean distance.
    """

    def __init__(
        self,
        keys: list[Float[Tensor, "_ d"]],
        actions: list[Int[np.ndarray, " _"]],
        places: Int[np.ndarray, "R m"],
        features: Features,
    ):
        self._keys, self._actions, self._places, self._features = keys, actions, places, features
        self._sizes = [of_group.square().sum(1) for of_group in keys]
        self._context: np.ndarray | None = None

    @classmethod
    def of_batch(cls, batch: RetrievalBatch, places: np.ndarray, features: Features, tells: bool) -> RetrieveAndPlay:
        """From the states that a retrieval batch looks at; tells: whether features are told what episodes are about."""
        keys, actions = [], []
        for g in range(len(batch.a)):
            real = slice(None) if batch.mask is None else batch.mask[g].flatten().numpy()
            context = None
            if tells:
                context = (
                    batch.context[g].expand(-1, batch.a.shape[2], *batch.context.shape[3:]).flatten(0, 1).numpy()[real]
                )
            x = batch.x[g].flatten(0, 1).numpy()[real]
            keys.append(torch.from_numpy(features(x, context)))
            actions.append(batch.a[g].flatten().numpy()[real])
        return cls(keys, actions, places, features)

    @classmethod
    def of_best(
        cls, datasets: list[TrajectoryDataset], share: float, places: np.ndarray, features: Features, told: str | None
    ) -> RetrieveAndPlay:
        """From all states of the share of each dataset's episodes that has the highest returns; one for each group."""
        known: dict[int, tuple[Tensor, np.ndarray]] = {}
        for dataset in datasets:
            if id(dataset) in known:
                continue
            order = by_return(dataset, 1)
            best = np.sort(order[: max(int(share * len(order)), 1)])
            episodes = [dataset.episode(int(i)) for i in best]
            x = np.concatenate([episode.observations[:-1] for episode in episodes])
            context = None
            if told is not None:
                context = np.repeat(dataset.extras[told][best], [len(episode) for episode in episodes], axis=0)
            done = np.concatenate([episode.actions for episode in episodes]).astype(np.int64)
            known[id(dataset)] = torch.from_numpy(features(x, context)), done
        each = [known[id(dataset)] for dataset in datasets]
        return cls([keys for keys, _ in each], [actions for _, actions in each], places, features)

    def begin(self, first: np.ndarray, context: np.ndarray | None = None) -> None:
        """See `rarl.rollouts.roll_out.Acting`."""
        self._context = context

    def __call__(self, x: np.ndarray, playing: np.ndarray) -> np.ndarray:
        """Actions (n,)."""
        actions = np.zeros(len(x), dtype=np.int64)
        groups = zip(self._keys, self._sizes, self._actions, self._places, strict=True)
        for keys, sizes, known, members in groups:
            rows = members[playing[members]]
            if len(rows):
                asked = torch.from_numpy(
                    self._features(x[rows], None if self._context is None else self._context[rows])
                )
                # |q - k|^2 without |q|^2, which is the same for all k.
                apart = torch.addmm(sizes, asked, keys.T, alpha=-2)
                actions[rows] = known[apart.argmin(1).numpy()]
        return actions
