"""What is drawn from datasets: transitions to learn from, and trajectories to retrieve from.

Both samplers read memory maps with fancy indexing and take all randomness from the generator that they are given,
so a saved generator state is all that a resumed run needs.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple, TypeVar

import numpy as np

from rarl.errors import RarlError
from rarl.trajectories.store import TrajectoryDataset

IntOrArray = TypeVar("IntOrArray", int, np.ndarray)


@dataclass(frozen=True)
class TransitionBatch:
    """B transitions of n steps or, at an episode's end, fewer.

    x_tm1, x_t: (B, ...) observations before the action and after the last of the n steps, in the dataset's dtype.
    a_tm1: (B, ...) the action taken at x_tm1. r_t: (B,) float32, sum of gamma^k r over the steps k = 0 ... n - 1.
    discount_t: (B,) float32, gamma^n, the weight of x_t's value; 0 where the episode terminated within the n steps.
    task_indices: (B,) which dataset each is from. episodes: (B,) int64, and which of its episodes.
    """

    x_tm1: np.ndarray
    a_tm1: np.ndarray
    r_t: np.ndarray
    discount_t: np.ndarray
    x_t: np.ndarray
    task_indices: np.ndarray
    episodes: np.ndarray


class TransitionSampler:
    """Draws transitions uniformly from all steps of the datasets asked for.

    Args:
      datasets: one per task; all must have observations and actions of the same shape and dtype.
      discount: gamma, in (0, 1].
      n_step: longest sum of rewards before the bootstrap, in steps. Windows that reach the end of their episode are
        shortened to it; whether the value there counts is the dataset's `ends`.
      limit: on resident memory; by default one of 512 MB that all samplers of the process share.
    """

    def __init__(
        self,
        datasets: Sequence[TrajectoryDataset],
        discount: float,
        n_step: int = 1,
        limit: ResidentLimit | None = None,
    ):
        if not 0 < discount <= 1:
            raise RarlError(f"discount={discount}: must be in (0, 1]")
        if n_step < 1:
            raise RarlError(f"n_step={n_step}: must be at least 1")
        self.datasets = _alike(datasets)
        self.discount = discount
        self.n_step = n_step
        self._steps = np.array([dataset.lengths[dataset.used].sum() for dataset in self.datasets])
        self._places = [_steps_used(dataset) for dataset in self.datasets]
        self._fixed_length = [_fixed_length(dataset) for dataset in self.datasets]
        self._terminated = [None if dataset.ends == "truncation" else dataset.terminated for dataset in self.datasets]
        self._powers = discount ** np.arange(n_step + 1)
        self._limit = _watching(self.datasets, limit)

    def sample(self, task_indices: np.ndarray, rng: np.random.Generator) -> TransitionBatch:
        """One transition for every entry of `task_indices`.

        Args:
          task_indices: (B,) int, which dataset each transition shall come from.
          rng: source of randomness; advanced by one draw of B integers.
        """
        task_indices = np.asarray(task_indices)
        steps = rng.integers(self._steps[task_indices])
        for index, places in enumerate(self._places):
            if places is not None:
                rows = task_indices == index
                steps[rows] = places[steps[rows]]
        return self.at(task_indices, steps)

    def at(self, task_indices: np.ndarray, steps: np.ndarray) -> TransitionBatch:
        """The transitions that start at the given steps.

        Args:
          task_indices: (B,) int, which dataset.
          steps: (B,) int, position among the dataset's steps.
        """
        size = len(task_indices)
        some = self.datasets[0]
        x_tm1 = np.empty((size, *some.observations.shape[1:]), dtype=some.observations.dtype)
        x_t = np.empty_like(x_tm1)
        a_tm1 = np.empty((size, *some.actions.shape[1:]), dtype=some.actions.dtype)
        r_t = np.empty(size, dtype=np.float32)
        discount_t = np.empty(size, dtype=np.float32)
        episodes = np.empty(size, dtype=np.int64)
        # Rows sorted by dataset: one slice of `order` per dataset instead of a comparison with all rows for each.
        order = np.argsort(task_indices, kind="stable")
        bounds = np.searchsorted(task_indices[order], np.arange(len(self.datasets) + 1))
        for index in np.flatnonzero(np.diff(bounds)):
            rows = order[bounds[index] : bounds[index + 1]]
            dataset, start = self.datasets[index], steps[rows]
            length = self._fixed_length[index]
            if length:
                episode = start // length
                left = length - start % length
            else:
                episode = np.searchsorted(dataset.offsets, start, side="right") - 1
                left = dataset.offsets[episode + 1] - start  # steps until the episode's end, this one included
            span = np.minimum(left, self.n_step)
            episodes[rows] = episode
            x_tm1[rows] = dataset.observations[start + episode]
            x_t[rows] = dataset.observations[start + span + episode]
            a_tm1[rows] = dataset.actions[start]
            r_t[rows] = self._n_step_rewards(dataset, start, span)
            discount = self._powers[span]
            terminated = self._terminated[index]
            if terminated is not None:
                discount = np.where((span == left) & terminated[episode], 0.0, discount)
            discount_t[rows] = discount
        self._limit.count(4 * size)
        return TransitionBatch(x_tm1, a_tm1, r_t, discount_t, x_t, task_indices, episodes)

    def _n_step_rewards(self, dataset: TrajectoryDataset, start: np.ndarray, span: np.ndarray) -> np.ndarray:
        if self.n_step == 1:
            return dataset.rewards[start]
        k = np.arange(self.n_step)
        inside = k < span[:, None]
        rewards = dataset.rewards[start[:, None] + np.where(inside, k, 0)]
        return (rewards * (self._powers[:-1] * inside)).sum(axis=1)


@dataclass(frozen=True)
class SampledSteps:
    """Of n trajectories the steps that are looked at, padded with zeros to the most looks (l).

    observations: (n, l, ...) in the dataset's dtype. actions: (n, l, ...). rewards: (n, l) float32. values: (n, l)
    float32, discounted rewards from the step to the trajectory's end, all its steps counted. mask: (n, l) bool, True on
    real steps. steps: (n, l) int64, which steps of the trajectory. last: (n, l) bool, its last ones.
    """

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    values: np.ndarray
    mask: np.ndarray
    steps: np.ndarray
    last: np.ndarray


class Span(NamedTuple):
    """Steps in a row of each of n trajectories: the first of them and the one behind the last, (n,) int64 each."""

    begin: np.ndarray
    end: np.ndarray


def random_span(lengths: np.ndarray, steps: int | None, rng: np.random.Generator) -> Span | None:
    """Steps in a row of trajectories of these lengths (n,), from uniformly random ones on; shorter ones as a whole.

    Without `steps` there is nothing to choose: None, and nothing is drawn.
    """
    if steps is None:
        return None
    begin = rng.integers(np.maximum(lengths - steps, 0) + 1)
    return Span(begin, np.minimum(begin + steps, lengths))


@cache
def powers_to_go(length: int, discount: float) -> np.ndarray:
    """(length, length) float32: rewards (n, length) @ this = discounted rewards to go (n, length)."""
    t = np.arange(length)
    age = t[:, None] - t
    return np.where(age >= 0, float(discount) ** np.maximum(age, 0), 0.0).astype(np.float32)


@cache
def _looks(length: int, stride: int, discount: float) -> tuple[np.ndarray, np.ndarray]:
    """Of trajectories of one length the steps that are looked at, and `powers_to_go` to these."""
    steps = np.minimum(np.arange(stride, length + stride, stride), length) - 1
    return steps, powers_to_go(length, discount)[:, steps]


def n_looked_at(lengths: IntOrArray, stride: int) -> IntOrArray:
    """How many steps of spans of these lengths are looked at."""
    return -(-lengths // stride)


def subsample(span: Span, stride: int, longest: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Which steps of n trajectories are looked at: the last of every `stride` steps of a span, and its own last one.

    Args:
      span: of each trajectory, at least one step.
      stride: in steps.
      longest: steps to which all are padded; None: those of the longest span.

    Returns:
      steps (n, l) int64, at padded places a span's last one again; mask (n, l) bool, False at padded places.
    """
    begin, lengths = span.begin[:, None], (span.end - span.begin)[:, None]
    longest = int(lengths.max()) if longest is None else longest
    looks = np.arange(n_looked_at(longest, stride))
    return begin + np.minimum((looks + 1) * stride, lengths) - 1, looks < n_looked_at(lengths, stride)


class RetrievalSampler:
    """Draws a retrieval batch of whole trajectories from one dataset.

    Args:
      dataset: what to retrieve from.
      limit: as in `TransitionSampler`.
    """

    def __init__(self, dataset: TrajectoryDataset, limit: ResidentLimit | None = None):
        self.dataset = dataset
        self._length = _fixed_length(dataset)
        self._limit = _watching([dataset], limit)
        self._whole: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
        if self._length:
            n, length = dataset.episodes, self._length
            observations, actions, rewards = dataset.observations, dataset.actions, dataset.rewards
            self._whole = (
                observations.reshape(n, length + 1, *observations.shape[1:]),
                actions.reshape(n, length, *actions.shape[1:]),
                rewards.reshape(n, length),
            )

    def draw(self, n_traj: int, k_best_by_return: int | None, rng: np.random.Generator) -> np.ndarray:
        """Draw `n_traj` different episodes uniformly; keep all, or the best.

        Args:
          n_traj: how many are drawn.
          k_best_by_return: if given, only that many of those drawn, the ones of highest return, best first (equal
            returns in the order drawn).
          rng: source of randomness.

        Returns:
          (n,) int64, episodes of the dataset.

        Raises:
          RarlError: the dataset is too small.
        """
        used = self.dataset.used
        if not 1 <= n_traj <= len(used):
            raise RarlError(
                f"{self.dataset.folder}: a retrieval batch of {n_traj} trajectories cannot be drawn from "
                f"{len(used)} episodes"
            )
        if k_best_by_return is not None and not 1 <= k_best_by_return <= n_traj:
            raise RarlError(f"k_best_by_return={k_best_by_return}: must be between 1 and the {n_traj} drawn")
        drawn = used[rng.choice(len(used), size=n_traj, replace=False)]
        if k_best_by_return is not None:
            drawn = drawn[np.argsort(-self.dataset.returns[drawn], kind="stable")[:k_best_by_return]]
        return drawn

    def span(self, episodes: np.ndarray, steps: int | None, rng: np.random.Generator) -> Span | None:
        """For `look`: so many steps in a row of each of the given episodes, (n,) int64; see `random_span`."""
        if steps is None:
            return None
        return random_span(self.dataset.offsets[episodes + 1] - self.dataset.offsets[episodes], steps, rng)

    def first_steps(self, episodes: np.ndarray, steps: int) -> Span:
        """For `look`: the first so many steps of each of the given episodes, (n,) int64; shorter ones as a whole."""
        lengths = self.dataset.offsets[episodes + 1] - self.dataset.offsets[episodes]
        return Span(np.zeros_like(lengths), np.minimum(lengths, steps))

    def look(self, episodes: np.ndarray, stride: int, discount: float, span: Span | None = None) -> SampledSteps:
        """The last step of every `stride` steps of the given episodes, (n,) int64, in that order.

        The last, since what an action led to shows at the end of it; of the last stride, the last step that there is.

        Args:
          episodes: which.
          stride: in steps.
          discount: of `values`, which count the rewards to the episode's end, whatever is looked at.
          span: the steps of each that are looked at; None: all.
        """
        self._limit.count(3 * len(episodes))
        if self._whole is not None and span is None:
            # Only the steps looked at are read, but for the rewards.
            steps, to_go = _looks(self._length, stride, discount)
            observations, actions, rewards = self._whole
            row, all_rewards = episodes[:, None], rewards[episodes].astype(np.float32)
            of_all = steps[None].repeat(len(episodes), 0)
            return SampledSteps(
                observations[row, steps],
                actions[row, steps],
                all_rewards[:, steps],
                all_rewards @ to_go,
                np.ones(of_all.shape, dtype=bool),
                of_all,
                of_all == self._length - 1,
            )
        positions, inside = self._positions(episodes)
        lengths, longest = inside.sum(axis=1), inside.shape[1]
        steps, mask = subsample(span or Span(np.zeros_like(lengths), lengths), stride)
        at = np.take_along_axis(positions, steps, axis=1)
        all_rewards = np.where(inside, self.dataset.rewards[positions], 0).astype(np.float32)
        looks = SampledSteps(
            self.dataset.observations[at + episodes[:, None]],
            self.dataset.actions[at],
            np.take_along_axis(all_rewards, steps, axis=1),
            np.take_along_axis(all_rewards @ powers_to_go(longest, discount), steps, axis=1),
            mask,
            steps,
            mask & (steps == lengths[:, None] - 1),
        )
        for array in (looks.observations, looks.actions, looks.rewards, looks.values):
            array[~mask] = 0
        return looks

    def _positions(self, episodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where in the dataset the steps of the given episodes are, (n, T) int64, and which are real, (n, T) bool.

        Behind the end of an episode its first step stands again.
        """
        start = self.dataset.offsets[episodes, None]
        lengths = self.dataset.offsets[episodes + 1, None] - start
        t = np.arange(lengths.max())
        mask = t < lengths
        return start + np.where(mask, t, 0), mask


@dataclass(frozen=True)
class SequenceBatch:
    """B windows of T steps of single episodes, padded with zeros at the end.

    observations: (B, T + 1, ...) in the dataset's dtype, the one after the last step included. actions: (B, T, ...).
    r_t: (B, T) float32. discount_t: (B, T) float32, gamma, or 0 after the step at which the episode terminated.
    mask: (B, T) bool, True on real steps. learn: (B, T) bool, the real steps that are past the burn-in.
    extras: per-episode arrays by name, (B, ...). task_indices: (B,) which dataset each is from.
    episodes, starts: (B,) int64, which episode and at which of its steps the window begins.
    """

    observations: np.ndarray
    actions: np.ndarray
    r_t: np.ndarray
    discount_t: np.ndarray
    mask: np.ndarray
    learn: np.ndarray
    extras: dict[str, np.ndarray]
    task_indices: np.ndarray
    episodes: np.ndarray
    starts: np.ndarray


class SequenceSampler:
    """Draws windows of episodes, so that every step of a dataset is learned from equally often.

    What is learned from in a window is its trace, `steps - burn_in` steps. Traces begin anywhere from one step less
    than their length before an episode to its last step, all equally likely, and are cut to the episode: so each step,
    the last one too, is in as many of them as any other. (Traces that must fit would hold the last step once, where an
    inner one is in all of them, and nearly all rewards are at the last.) A trace that does not begin at its episode's
    start is preceded by up to `burn_in` steps for the recurrent state alone.

    Args:
      datasets: one per task; observations and actions of the same shape and dtype.
      steps: T.
      discount: gamma.
      burn_in: in steps, less than T.
      extras: names of per-episode arrays to bring along.
    """

    def __init__(
        self,
        datasets: Sequence[TrajectoryDataset],
        steps: int,
        discount: float,
        burn_in: int = 0,
        extras: Sequence[str] = (),
    ):
        if not 0 <= burn_in < steps:
            raise RarlError(f"burn_in={burn_in}: must be at least 0 and less than the {steps} steps of a sequence")
        self.datasets, self.steps, self.discount, self.burn_in = _alike(datasets), steps, discount, burn_in
        self.trace = steps - burn_in
        for dataset in self.datasets:
            for name in extras:
                if name not in dataset.extras:
                    raise RarlError(f"{dataset.folder}: has no array {name!r}; generate the dataset again")
        self.extras = tuple(extras)
        # An episode of L steps has L + trace - 1 traces.
        of_each = [dataset.lengths[dataset.used] + self.trace - 1 for dataset in self.datasets]
        self._traces = [np.concatenate([[0], np.cumsum(traces)]) for traces in of_each]
        self._terminated = [dataset.terminated for dataset in self.datasets]
        self._limit = _watching(self.datasets)

    def sample(self, task_indices: np.ndarray, rng: np.random.Generator) -> SequenceBatch:
        """One window for each of `task_indices` (B,)."""
        task_indices = np.asarray(task_indices)
        drawn = rng.integers(np.array([traces[-1] for traces in self._traces])[task_indices])
        episodes, firsts = np.empty_like(drawn), np.empty_like(drawn)
        for row, (i, number) in enumerate(zip(task_indices, drawn, strict=True)):
            place = np.searchsorted(self._traces[i], number, side="right") - 1
            episodes[row] = self.datasets[i].used[place]
            firsts[row] = number - self._traces[i][place] - (self.trace - 1)
        return self.at(task_indices, episodes, firsts)

    def at(self, task_indices: np.ndarray, episodes: np.ndarray, firsts: np.ndarray) -> SequenceBatch:
        """The windows of the given episodes whose traces begin at the given steps, cut to the episode; all (B,)."""
        size, steps, first = len(task_indices), self.steps, self.datasets[0]
        observations = np.zeros((size, steps + 1, *first.observations.shape[1:]), first.observations.dtype)
        actions = np.zeros((size, steps, *first.actions.shape[1:]), first.actions.dtype)
        r_t = np.zeros((size, steps), np.float32)
        discount_t = np.full((size, steps), self.discount, np.float32)
        t = np.arange(steps)
        real, lead, starts = (np.empty(size, np.int64) for _ in range(3))
        extras: dict[str, list[np.ndarray]] = {name: [] for name in self.extras}
        for row, (i, episode, begins) in enumerate(zip(task_indices, episodes, firsts, strict=True)):
            dataset, ends = self.datasets[i], self.datasets[i].offsets
            start = starts[row] = max(begins - self.burn_in, 0)
            lead[row] = max(begins, 0) - start
            begin, end = int(ends[episode] + start), int(ends[episode + 1])
            n = real[row] = min(begins + self.trace - start, end - begin)
            observations[row, : n + 1] = dataset.observations[begin + episode : begin + episode + n + 1]
            actions[row, :n] = dataset.actions[begin : begin + n]
            r_t[row, :n] = dataset.rewards[begin : begin + n]
            if begin + n == end and self._terminated[i][episode]:
                discount_t[row, n - 1] = 0.0
            for name in self.extras:
                extras[name].append(dataset.extras[name][episode])
        mask = t < real[:, None]
        self._limit.count(3 * size)
        return SequenceBatch(
            observations,
            actions,
            r_t,
            discount_t,
            mask,
            mask & (t >= lead[:, None]),
            {name: np.stack(rows) for name, rows in extras.items()},
            task_indices,
            np.asarray(episodes),
            starts,
        )

    def rewarded(self) -> float:
        """The share of steps with a reward, of the steps that are drawn from: the mean over tasks."""
        shares = []
        for dataset in self.datasets:
            places = _steps_used(dataset)
            shares.append(np.mean((dataset.rewards if places is None else dataset.rewards[places]) != 0))
        return float(np.mean(shares))


def _alike(datasets: Sequence[TrajectoryDataset]) -> list[TrajectoryDataset]:
    """The datasets, of which there is one at least, all with observations and actions of the same shape and dtype."""
    if not datasets:
        raise RarlError("samplers need at least one dataset")
    first = datasets[0]
    for dataset in datasets[1:]:
        for name in ("observations", "actions"):
            a, b = getattr(first, name), getattr(dataset, name)
            if (a.dtype, a.shape[1:]) != (b.dtype, b.shape[1:]):
                raise RarlError(
                    f"{dataset.folder}: {name} of {b.dtype} {b.shape[1:]}, "
                    f"but {first.folder} has {a.dtype} {a.shape[1:]}"
                )
    return list(datasets)


def _steps_used(dataset: TrajectoryDataset) -> np.ndarray | None:
    """Where among all steps of a dataset those of the episodes are that are used; None: all are."""
    if len(dataset.used) == dataset.episodes:
        return None
    return np.flatnonzero(np.repeat(np.isin(np.arange(dataset.episodes), dataset.used), dataset.lengths))


def _fixed_length(dataset: TrajectoryDataset) -> int:
    """The length that all episodes have, or 0."""
    lengths = dataset.lengths
    return int(lengths[0]) if (lengths == lengths[0]).all() else 0


def _watching(datasets: Sequence[TrajectoryDataset], limit: ResidentLimit | None = None) -> ResidentLimit:
    """The limit, or the one that all samplers of the process share, told of these datasets."""
    limit = limit or _PROCESS_LIMIT
    limit.watch(datasets)
    return limit


class ResidentLimit:
    """Keeps the mapped pages of large datasets from filling the memory.

    Random reads soon touch every page of a dataset, and each page read brings its neighbours along. When the process's
    file-backed resident memory has grown by more than the budget, all watched datasets release theirs to the system's
    cache (see `TrajectoryDataset.release`). Datasets within the budget are never released.

    Measured by /proc/self/statm; where that does not exist, nothing is released.

    Args:
      budget_mb: megabytes that may be resident beyond what was when the first dataset was watched.
    """

    ACCESSES_PER_CHECK = 512  # about 100 MB at most on Linux; a check takes 10 microseconds
    _PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

    def __init__(self, budget_mb: int = 512):
        self.budget_mb = budget_mb
        self._datasets: weakref.WeakSet[TrajectoryDataset] = weakref.WeakSet()
        self._accesses = 0
        self._floor: int | None = None

    def watch(self, datasets: Sequence[TrajectoryDataset]) -> None:
        """Release these too, when it comes to that."""
        self._datasets.update(datasets)
        if self._floor is None:
            self._floor = _file_pages()

    def count(self, accesses: int) -> None:
        """Note that so many places have been read."""
        self._accesses += accesses
        if self._accesses < self.ACCESSES_PER_CHECK or self._floor is None:
            return
        self._accesses = 0
        pages = _file_pages()
        self._floor = min(self._floor, pages)
        if (pages - self._floor) * self._PAGE_BYTES > self.budget_mb * 2**20:
            for dataset in list(self._datasets):
                dataset.release()


def _file_pages() -> int:
    """Resident pages of mapped files; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[2])
    except OSError:
        return 0


_PROCESS_LIMIT = ResidentLimit()  # memory belongs to the process, so its samplers share one
