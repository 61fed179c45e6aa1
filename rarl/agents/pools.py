"""Retrieval datasets in which few trajectories are relevant, and the retrieval batches that are taken from them.

For each task and share p there is a dataset of a fixed size: a share p of it are trajectories of the task's own, the
rest those of the other tasks. Of each task's trajectories one order is drawn, and every retrieval dataset takes a first
part of each order. So p decides how many of a task's trajectories are there and nothing else: those at a high share
contain those at a low one, and all retrieval datasets together hold few different trajectories.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from rarl.agents.index import KeyIndex, overlap
from rarl.agents.memory import Memory, RetrievalBatch
from rarl.config.settings import PoolSettings, RetrievalSettings
from rarl.errors import RarlError, required
from rarl.nn.value_network import ValueNetwork
from rarl.pool_sizes import counts, needed_of_each
from rarl.trajectories.store import TrajectoryDataset

ENCODED_AT_ONCE = 256  # trajectories: what is computed for them stays in the processor's cache


class Pools:
    """Which trajectories each retrieval dataset holds. All that any of them holds are numbered: rows.

    Args:
      settings: size and shares.
      episodes: of each task, which there are, (n,) each.
      seed: of the orders.
      names: (tasks,) of the datasets, for errors.

    Attributes:
      given, episodes: from which dataset and which of its episodes each is.
    """

    given: Int[np.ndarray, " rows"]
    episodes: Int[np.ndarray, " rows"]

    def __init__(self, settings: PoolSettings, episodes: Sequence[np.ndarray], seed: int, names: Sequence[Any]):
        self.settings, self.n_tasks = settings, len(episodes)
        needs = needed_of_each(settings, self.n_tasks)
        for there, needed, name in zip(episodes, needs, names, strict=True):
            if needed > len(there):
                raise RarlError(
                    f"{name}: {len(there)} episodes are used, but agent.retrieval.pool of {settings.trajectories} "
                    f"trajectories with shares up to {max(settings.relevant):g} takes {needed}"
                )
        orders = [np.random.default_rng([seed, 2, task]).permutation(of) for task, of in enumerate(episodes)]
        self.given = np.repeat(np.arange(self.n_tasks), needs)
        self.episodes = np.concatenate([order[:needed] for order, needed in zip(orders, needs, strict=True)])
        self._first: list[int] = (np.cumsum(needs) - needs).tolist()

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.given)

    def parts(self, task: int, share: float) -> list[slice]:
        """Where among all rows those of a retrieval dataset are: the first ones of each task."""
        sizes = counts(self.settings, self.n_tasks, task, share)
        return [slice(first, first + n) for first, n in zip(self._first, sizes, strict=True) if n]

    def rows(self, task: int, share: float) -> Int[np.ndarray, " trajectories"]:
        """The rows of a retrieval dataset, increasing."""
        return np.concatenate([np.arange(part.start, part.stop) for part in self.parts(task, share)])


class PoolMemory(Memory):
    """Retrieval batches from retrieval datasets of known relevance: drawn, or proposed by an index.

    Args: those of `Memory`.

    Attributes:
      index: over the keys of all rows; None if batches are drawn.
    """

    def __init__(
        self,
        datasets: Sequence[TrajectoryDataset],
        settings: RetrievalSettings,
        discount: float = 1.0,
        seed: int = 0,
        context: str | None = None,
    ):
        super().__init__(datasets, settings, discount, seed, context)
        folders = [dataset.folder for dataset in datasets]
        pool = required(settings.pool, "agent.retrieval.pool")
        self.pools = Pools(pool, [dataset.used for dataset in datasets], seed, folders)
        self.shares = np.array(pool.relevant)
        self.index = KeyIndex(self.pools, settings.index, self.shares) if settings.index else None

    def sample(
        self,
        tasks: Int[np.ndarray, " G"],
        rng: np.random.Generator,
        given: Int[np.ndarray, " G"] | None = None,
        *,
        shares: Float[np.ndarray, " G"] | None = None,
        proposed: Sequence[Int[np.ndarray, " _"]] | None = None,
    ) -> RetrievalBatch:
        """A retrieval batch for each group.

        Args:
          tasks: task ids of the groups.
          rng: source of randomness.
          given: tasks whose retrieval datasets are taken; None: the groups' own.
          shares: of relevant trajectories in each group's retrieval dataset; None: drawn.
          proposed: for each group rows of its retrieval dataset that its batch holds in any case; the rest is drawn.
        """
        shares = self.draw_shares(len(tasks), rng) if shares is None else shares
        return self.batch_of(tasks, self.choose(tasks if given is None else given, rng, shares, proposed))

    def choose(
        self,
        tasks: Int[np.ndarray, " G"],
        rng: np.random.Generator,
        shares: Float[np.ndarray, " G"],
        proposed: Sequence[Int[np.ndarray, " _"]] | None = None,
    ) -> Int[np.ndarray, "G n_traj"]:
        """Rows of the retrieval datasets of these tasks and shares; arguments as in `sample`."""
        s, chosen = self.settings, []
        for g, (task, share) in enumerate(zip(tasks.tolist(), shares.tolist(), strict=True)):
            rows, first = self.pools.rows(task, share), np.empty(0, dtype=np.int64)
            if proposed is not None:
                first = proposed[g]
                rows = np.setdiff1d(rows, first, assume_unique=True)
            drawn = np.concatenate([first, rng.choice(rows, size=s.n_traj - len(first), replace=False)])
            if s.select_by == "return":
                drawn = drawn[np.argsort(-self._returns(drawn), kind="stable")[: s.k_traj]]
            chosen.append(drawn)
        return np.stack(chosen)

    def batch_of(self, tasks: Int[np.ndarray, " G"], rows: Int[np.ndarray, "G n_traj"]) -> RetrievalBatch:
        """The retrieval batch of these rows for groups of these tasks."""
        return self.read(tasks, self.pools.given[rows], self.pools.episodes[rows])

    def _returns(self, rows: np.ndarray) -> np.ndarray:
        sources = zip(self.pools.given[rows], self.pools.episodes[rows], strict=True)
        return np.array([self.samplers[task].dataset.returns[episode] for task, episode in sources])

    def draw_shares(self, groups: int, rng: np.random.Generator) -> Float[np.ndarray, " {groups}"]:
        """One of the shares for each."""
        return self.shares.take(rng.integers(len(self.shares), size=groups))

    def shares_in_turn(self, blocks: int) -> Float[np.ndarray, " {blocks}"]:
        """The shares in turn: evaluations spread the retrieval batches of a task over them."""
        return np.resize(self.shares, blocks)

    # --- proposals ----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def queries(
        self, network: ValueNetwork, x: Shaped[Tensor, "G B ..."], tasks: Int[np.ndarray, " G"]
    ) -> Float[Tensor, "G Q d_e"]:
        """What all slots of the states x of these tasks ask for, scaled."""
        context = torch.as_tensor(tasks, device=x.device)[:, None].expand(x.shape[:2])
        return network.queries(x, context).flatten(1, 2)

    def propose_to_learn(
        self,
        network: ValueNetwork,
        x: Shaped[Tensor, "G B ..."],
        tasks: Int[np.ndarray, " G"],
        shares: Float[np.ndarray, " G"],
        update: int,
    ) -> tuple[list[Int[np.ndarray, " _"]] | None, dict[str, float]]:
        """What the index proposes for a learner step, and what is to be logged about it; None without an index.

        It proposes a part of each retrieval batch, asked by some of the group's states. The rest is drawn, by which
        trajectories come in that it overlooks. Its keys are those of the network at the last refresh.

        Args:
          network: the online network as it is now.
          x: the states to learn from, in random order.
          tasks, shares: which retrieval dataset each group asks.
          update: how many learner steps there were.
        """
        index, scalars = self.index, {}
        if index is None:
            return None, {}
        s, made_at, stale = required(index.settings, "agent.retrieval.index"), index.made_at, None
        question = tasks, shares, self.queries(network, x[:, : s.queries], tasks), round(s.share * self.settings.n_traj)
        if made_at is None or update - made_at >= s.refresh_updates:
            stale = None if made_at is None else index.propose(*question)
            started, made_at = time.perf_counter(), update
            index.refresh(self.keys(network), update)
            scalars["index_refresh_seconds"] = time.perf_counter() - started
        proposed = index.propose(*question)
        if stale is not None:
            scalars["index_stale_recall"] = overlap(stale, proposed)
        return proposed, scalars | {"index_age": float(update - made_at)}

    @torch.no_grad()
    def keys(self, network: ValueNetwork) -> Float[Tensor, "rows l d_e"]:
        """κ of all looked-at states of all rows, as the network has them now."""
        device, keys = next(network.parameters()).device, []
        for first in range(0, len(self.pools), ENCODED_AT_ONCE):
            rows = np.arange(first, min(first + ENCODED_AT_ONCE, len(self.pools)))[None]
            summaries = self.batch_of(np.zeros(1, dtype=np.int64), rows).to(device).summarise(network)
            keys.append(summaries.keys.view(summaries.n_traj, -1, network.reading.d_e))
        return torch.cat(keys)


def relevant(tasks: Int[np.ndarray, " G"], batch: RetrievalBatch) -> Bool[np.ndarray, "G n_traj"]:
    """Which trajectories of a batch are of their group's task."""
    of_task: np.ndarray = batch.given == tasks[:, None]
    return of_task
