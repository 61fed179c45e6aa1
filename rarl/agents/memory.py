"""What an agent retrieves from: retrieval batches for groups of states, drawn afresh for every learner step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from rarl.config.scale import Run
from rarl.config.settings import RetrievalSettings
from rarl.envs.spec import spec_of
from rarl.errors import RarlError
from rarl.nn.retrieval import Summaries
from rarl.nn.value_network import ValueNetwork
from rarl.trajectories.sampling import RetrievalSampler, SampledSteps, Span
from rarl.trajectories.store import TrajectoryDataset


@dataclass(frozen=True)
class RetrievalBatch:
    """One retrieval batch for each of G groups.

    x, a, r: the steps looked at.
    value: discounted rewards from the step to the trajectory's end, all its steps counted.
    mask: True on real steps; None if all are.
    context: of each trajectory: the id of the asking group's task, or what the trajectory's own episode is about, where
    the environment says that.
    given, episodes, steps: from which dataset, which of its episodes, and which steps.
    last: the trajectories' last steps.
    """

    x: Shaped[Tensor, "G n_traj l ..."]
    a: Int[Tensor, "G n_traj l"]
    r: Float[Tensor, "G n_traj l"]
    value: Float[Tensor, "G n_traj l"]
    mask: Bool[Tensor, "G n_traj l"] | None
    context: Shaped[Tensor, "G n_traj 1 ..."]
    given: Int[np.ndarray, "G n_traj"]
    episodes: Int[np.ndarray, "G n_traj"]
    steps: Int[np.ndarray, "G n_traj l"]
    last: Bool[np.ndarray, "G n_traj l"]

    def to(self, device: torch.device | str) -> RetrievalBatch:
        mask = None if self.mask is None else self.mask.to(device)
        return replace(
            self,
            x=self.x.to(device),
            a=self.a.to(device),
            r=self.r.to(device),
            value=self.value.to(device),
            mask=mask,
            context=self.context.to(device),
        )

    @classmethod
    def published(cls, parts: Mapping[str, Any]) -> RetrievalBatch | None:
        """That of a checkpoint, from its fields; None where nothing was retrieved."""
        renamed = {"told": "context"}  # in checkpoints from before it was called so
        return cls(**{renamed.get(name, name): part for name, part in parts.items()}) if parts else None

    def as_one_group(self) -> RetrievalBatch:
        """The trajectories of all groups as those of a single one."""

        def join(part: Any) -> Any:
            return None if part is None else part.reshape(1, -1, *part.shape[2:])

        return RetrievalBatch(*(join(getattr(self, field.name)) for field in fields(self)))

    @classmethod
    def joined(cls, batches: Sequence[RetrievalBatch]) -> RetrievalBatch:
        """The groups of several batches, one after the other; shorter trajectories are padded."""
        longest = max(batch.a.shape[2] for batch in batches)
        masked = len({batch.a.shape[2] for batch in batches}) > 1 or any(batch.mask is not None for batch in batches)

        def whole(name: str) -> Any:
            parts = [getattr(batch, name) for batch in batches]
            if name == "mask":
                if not masked:
                    return None
                parts = [torch.ones(b.a.shape, dtype=torch.bool) if b.mask is None else b.mask for b in batches]
            if name in ("x", "a", "r", "value", "mask", "steps", "last"):
                parts = [_padded(part, longest) for part in parts]
            return np.concatenate(parts) if isinstance(parts[0], np.ndarray) else torch.cat(parts)

        return cls(*(whole(field.name) for field in fields(cls)))

    def of_own_episode(
        self, given: Int[np.ndarray, "G B"], episodes: Int[np.ndarray, "G B"]
    ) -> Bool[Tensor, "G B n_traj"]:
        """Which trajectories are the asking states' own episodes.

        given, episodes: from which dataset and which of its episodes each state is.
        """
        same = (self.given[:, None] == given[..., None]) & (self.episodes[:, None] == episodes[..., None])
        return torch.from_numpy(same).to(self.x.device)

    def summarise(self, network: ValueNetwork, gradients: int | None = None) -> Summaries:
        """Encode the batch with the network's own encoder (the paper re-encodes on every step) and summarise it.

        Args:
          network: whose encoder and summariser.
          gradients: so many trajectories of each group, the first, train the encoder, 0: none; None: all.
        """
        encoder, n_traj = network.encoder_of_retrieved, self.x.shape[1]
        learned = n_traj if gradients is None else min(gradients, n_traj)
        parts = [encoder(self.x[:, :learned], self.context[:, :learned])] if learned else []
        if learned < n_traj:
            with torch.no_grad():
                parts.append(encoder(self.x[:, learned:], self.context[:, learned:]))
        s = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        return network.reading.summarise(s, self.a, self.r, self.mask)


class Memory:
    """Retrieval batches from one dataset per task.

    Args:
      datasets: one per task, in the order of the task ids.
      settings: how many trajectories, and how they are chosen.
      discount: of the trajectories' values.
      seed: of the batches that are kept where the setting `fresh` is off.
      context: name of the datasets' array that says what an episode is about; None: its task.
    """

    def __init__(
        self,
        datasets: Sequence[TrajectoryDataset],
        settings: RetrievalSettings,
        discount: float = 1.0,
        seed: int = 0,
        context: str | None = None,
    ):
        self.settings, self.discount, self.seed, self.context = settings, discount, seed, context
        self.samplers = [RetrievalSampler(dataset) for dataset in datasets]
        for sampler in self.samplers:
            if len(sampler.dataset.used) < settings.n_traj:
                raise RarlError(
                    f"{sampler.dataset.folder}: {len(sampler.dataset.used)} episodes are used, "
                    f"but a retrieval batch takes n_traj = {settings.n_traj}"
                )

    @classmethod
    def of(cls, run: Run, datasets: Sequence[TrajectoryDataset]) -> Memory | None:
        """What a run retrieves from; None if its agent retrieves nothing."""
        s = run.settings
        if not run.retrieves:
            return None
        context = spec_of(s.environment).context
        return cls(datasets, s.agent.retrieval, s.learning.discount, s.seed, context)

    @property
    def pooled(self) -> bool:
        """Whether one retrieval batch from all tasks serves the states of all tasks: then there is one group."""
        return self.settings.source == "all"

    def sample(
        self, tasks: Int[np.ndarray, " G"], rng: np.random.Generator, given: Int[np.ndarray, " G"] | None = None
    ) -> RetrievalBatch:
        """A retrieval batch for each group, as the settings have it; see `draw`."""
        return self.draw(tasks, rng, given)

    def draw(
        self,
        tasks: Int[np.ndarray, " G"],
        rng: np.random.Generator,
        given: Int[np.ndarray, " G"] | None = None,
        n_traj: int | None = None,
        first_steps: int | None = None,
    ) -> RetrievalBatch:
        """A retrieval batch for each group.

        Args:
          tasks: task ids of the groups; with `pooled` the one group's are those that are drawn from.
          rng: source of randomness.
          given: whose datasets are drawn from; None follows the setting `source`.
          n_traj: how many are drawn; None follows the setting.
          first_steps: of each only so many, the first; None follows the setting `trajectory_steps`.
        """
        s = self.settings
        n_traj = s.n_traj if n_traj is None else n_traj
        if given is None:
            given = rng.integers(len(self.samplers), size=len(tasks)) if s.source == "random" else tasks
        best = min(s.k_traj, n_traj) if s.select_by == "return" else None
        # A batch that is kept depends on the seed and its dataset alone, not on what was drawn before.
        rngs = [rng if s.fresh else np.random.default_rng([self.seed, int(g), 1]) for g in given]
        drawn = [self.samplers[g].draw(n_traj, best, its) for g, its in zip(given, rngs, strict=True)]
        of_each = [
            self.samplers[g].span(episodes, s.trajectory_steps, its)
            if first_steps is None
            else self.samplers[g].first_steps(episodes, first_steps)
            for g, episodes, its in zip(given, drawn, rngs, strict=True)
        ]
        cut = [span for span in of_each if span is not None]
        spans = Span(np.stack([span.begin for span in cut]), np.stack([span.end for span in cut])) if cut else None
        batch = self.read(tasks, np.repeat(given[:, None], len(drawn[0]), axis=1), np.stack(drawn), spans)
        return batch.as_one_group() if self.pooled else batch

    def read(
        self,
        tasks: Int[np.ndarray, " G"],
        given: Int[np.ndarray, "G n_traj"],
        episodes: Int[np.ndarray, "G n_traj"],
        spans: Span | None = None,
    ) -> RetrievalBatch:
        """The retrieval batch of these trajectories.

        Args:
          tasks: task ids of the groups.
          given, episodes: from which dataset and which of its episodes; a group's may be of several.
          spans: (G, n_traj), the steps of each that are looked at; None: all.
        """
        places = [np.nonzero(given == dataset) for dataset in np.unique(given)]
        looks = [
            self.samplers[given[place][0]].look(
                episodes[place],
                self.settings.step_stride,
                self.discount,
                None if spans is None else Span(spans.begin[place], spans.end[place]),
            )
            for place in places
        ]
        joined = {
            field.name: _joined([getattr(look, field.name) for look in looks], places, given.shape)
            for field in fields(SampledSteps)
        }
        mask = joined["mask"]
        if self.context is None:
            context = torch.from_numpy(tasks)[:, None, None].expand(*given.shape, 1)
        else:
            own = [self.samplers[given[place][0]].dataset.extras[self.context][episodes[place]] for place in places]
            context = torch.from_numpy(_joined(own, places, given.shape)).long()[:, :, None]
        return RetrievalBatch(
            torch.from_numpy(joined["observations"]),
            torch.from_numpy(joined["actions"]).long(),
            torch.from_numpy(joined["rewards"]),
            torch.from_numpy(joined["values"]),
            None if mask.all() else torch.from_numpy(mask),
            context,
            given,
            episodes,
            joined["steps"],
            joined["last"],
        )


def _padded(part: Tensor | np.ndarray, length: int) -> Tensor | np.ndarray:
    """(G, n_traj, l, ...) with zeros up to a longer l."""
    missing = length - part.shape[2]
    if not missing:
        return part
    if isinstance(part, np.ndarray):
        return np.concatenate([part, np.zeros((*part.shape[:2], missing, *part.shape[3:]), part.dtype)], axis=2)
    return torch.cat([part, part.new_zeros(*part.shape[:2], missing, *part.shape[3:])], dim=2)


def _joined(parts: Sequence[np.ndarray], places: Sequence[tuple[Any, ...]], shape: tuple[int, ...]) -> np.ndarray:
    """Trajectories of several datasets, each (n, l, ...), as one array (*shape, l, ...).

    Shorter ones are padded with zeros. places: where in `shape` those of each part belong, as indices.
    """
    longest = max(part.shape[1] for part in parts)
    whole = np.zeros((*shape, longest, *parts[0].shape[2:]), dtype=parts[0].dtype)
    for part, place in zip(parts, places, strict=True):
        whole[(*place, slice(part.shape[1]))] = part
    return whole
