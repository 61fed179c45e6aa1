"""Looking into a trained agent on BabyAI: from which levels it retrieves, what happens without, and its episodes.

Interventions on the retrieval batch at evaluation, with everything else as trained: *own* (as trained), *removed*
(slots read nothing), *shuffled* (states exchanged between the trajectories of a batch, at each step), *others* (only
trajectories of other levels; for an agent that retrieves from all levels, its own level's are masked out).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from rarl.agents.memory import RetrievalBatch
from rarl.config.scale import Run, Scale
from rarl.envs.babyai.levels import level_named
from rarl.envs.babyai.missions import share_a_thing, things, words
from rarl.envs.babyai.vector import ACTIONS
from rarl.envs.babyai.view import CELLS
from rarl.nn.retrieval import Summaries
from rarl.nn.value_network import Unrolled
from rarl.probes.trained import Candidate, DatasetProbe, shuffled
from rarl.rollouts.levels import LevelEpisodes, Watch, evaluation_seeds, play_levels, roll_out_levels
from rarl.rollouts.rows import retrieval_blocks

EPISODES = 24  # per level and intervention
LONGEST_SHOWN = 80  # steps of an episode in the gallery
RULE = (
    "Of all episodes evaluated, those at the lower quartile, the median and the upper quartile of the return; ties in "
    "the order of the levels."
)


class LevelProbe(DatasetProbe):
    """Measurements on one run, of an agent that retrieves or not."""

    def __init__(self, scale: Scale, run: Run):
        s = run.settings
        self.levels = [level_named(name) for name in run.tasks]
        super().__init__(scale, run, run.tasks, len(ACTIONS), stream=3)
        self.seeds = evaluation_seeds(self.levels, EPISODES, s.seed, s.evaluation.board_seed + 1)

    def _batch(self, given: np.ndarray | None = None) -> RetrievalBatch | None:
        if self.memory is None:
            return None
        return self.memory.sample(np.arange(len(self.levels)), self.rng, given=given)

    def _play(self, batch: RetrievalBatch | None, watch: Watch | None = None) -> LevelEpisodes:
        retrieved = None if batch is None else batch.summarise(self.network)
        return self._play_with(retrieved, watch)

    def _play_spread(self, change: Callable[[RetrievalBatch], RetrievalBatch] | None = None) -> LevelEpisodes:
        """As in the run's own evaluations: each level's episodes are spread over several retrieval batches."""
        s = self.run.settings.evaluation
        blocks = retrieval_blocks(EPISODES, s.retrieval_batches)
        return play_levels(
            self.network, self.levels, self.seeds, self.memory, self.rng, blocks, self.rng, s.epsilon, change
        )

    def _play_with(self, retrieved: Summaries | None, watch: Watch | None = None) -> LevelEpisodes:
        epsilon = self.run.settings.evaluation.epsilon
        return roll_out_levels(self.network, self.levels, self.seeds, retrieved, self.rng, epsilon, watch)

    def interventions(self) -> list[dict[str, Any]]:
        """Rows of interventions.csv; the same start states for all."""
        rows = self._rows("own", self._play_spread())
        if self.memory is None:
            return rows
        rows += self._rows("removed", self._play_with(None))
        rows += self._rows("shuffled", self._play_spread(lambda batch: shuffled(batch, self.rng)))
        if len(self.levels) > 1:
            rows += self._rows("others", self._play_with(self._of_others()))
        return rows

    def _of_others(self) -> Summaries:
        """Retrieval batches of each level without that level's trajectories."""
        n = len(self.levels)
        if not self.memory.pooled:
            shift = 1 + self.rng.integers(n - 1, size=n)
            return self._batch(given=(np.arange(n) + shift) % n).summarise(self.network)
        batch = self._batch()
        summaries = batch.summarise(self.network)
        own = self._owner(batch)[None] == np.arange(n)[:, None]  # (levels, N)
        mask = torch.ones(own.shape, dtype=torch.bool) if summaries.mask is None else summaries.mask.expand(n, -1)

        def each(part: torch.Tensor) -> torch.Tensor:
            return part.expand(n, *part.shape[1:])

        return Summaries(
            each(summaries.keys),
            each(summaries.values),
            mask & ~torch.from_numpy(own),
            each(summaries.h),
            each(summaries.b),
        )

    @staticmethod
    def _owner(batch: RetrievalBatch) -> np.ndarray:
        """(N,): the level that each candidate state of a pooled batch is from."""
        return np.repeat(batch.given[0], batch.a.shape[-1])

    def _rows(self, intervention: str, episodes: LevelEpisodes) -> list[dict[str, Any]]:
        return [
            self.intervention_row(intervention, name, name, episodes.returns[i], episodes.success[i])
            for i, name in enumerate(self.names)
        ]

    def attention(self) -> list[dict[str, Any]]:
        """Rows of attention.csv, per level over the steps of its greedy episodes.

        other_share: attention on trajectories of other levels; other_candidates: their share among the candidates;
        rewarded_share, rewarded_candidates: the same of rewarded states; related_share, related_candidates: the same of
        trajectories whose mission speaks of a thing of the mission in play; related_there: share of episodes whose
        retrieval batch holds such a trajectory; effective_states: exp of the entropy; kl: in nats.
        """
        if self.memory is None:
            return [{"task": level.name, "quantity": "none", "value": 0.0} for level in self.levels]
        batch = self._batch()
        n, groups = len(self.levels), batch.a.shape[0]
        owner = np.repeat(batch.given, batch.a.shape[-1], axis=1)  # (groups, N)
        real = np.ones(owner.shape, bool) if batch.mask is None else batch.mask.flatten(1).numpy()
        rewarded = batch.r.flatten(1).numpy() > 0
        sums: dict[str, np.ndarray] = {}
        steps = np.zeros((n, EPISODES))
        of_trajectories = np.zeros((n, EPISODES, batch.a.shape[1]))  # attention, summed over steps

        def watch(step: Unrolled, active: np.ndarray) -> None:
            alpha = step.step.alpha[:, :, 0].mean(2).numpy()  # over slots: (groups, B, N)
            kl = step.step.kl.numpy().reshape(n, EPISODES)
            entropy = -(alpha * np.log(np.where(alpha > 0, alpha, 1))).sum(-1).reshape(n, EPISODES)
            alpha = alpha.reshape(n, EPISODES, -1)
            going = active.reshape(n, EPISODES)
            steps[:] += going
            of_trajectories[going] += alpha[going].reshape(going.sum(), batch.a.shape[1], -1).sum(-1)
            for i in range(n):
                g = 0 if groups == 1 else i
                of = alpha[i][going[i]]
                found = {
                    "other_share": of[:, owner[g] != i].sum(),
                    "rewarded_share": of[:, rewarded[g]].sum(),
                    "effective_states": np.exp(entropy[i][going[i]]).sum(),
                    "kl": kl[i][going[i]].sum(),
                }
                for name, value in found.items():
                    sums.setdefault(name, np.zeros(n))[i] += value

        missions = self._play(batch, watch).missions
        rows = []
        for i, level in enumerate(self.levels):
            g = 0 if groups == 1 else i
            values = {name: total[i] / steps[i].sum() for name, total in sums.items()}
            related = self._related(batch, g, missions[i])  # (EPISODES, n_traj)
            looks = real[g].reshape(related.shape[1], -1).sum(-1)
            values["related_share"] = (of_trajectories[i] * related).sum() / steps[i].sum()
            values["related_candidates"] = ((related @ looks) * steps[i]).sum() / (looks.sum() * steps[i].sum())
            values["related_there"] = related.any(1).mean()
            values["other_candidates"] = ((owner[g] != i) & real[g]).sum() / real[g].sum()
            values["rewarded_candidates"] = (rewarded[g] & real[g]).sum() / real[g].sum()
            rows += [{"task": level.name, "quantity": name, "value": float(v)} for name, v in sorted(values.items())]
        return rows

    def _related(self, batch: RetrievalBatch, group: int, missions: np.ndarray) -> np.ndarray:
        """(episodes, n_traj) bool: which trajectories of a group's batch share a thing with each of the missions."""
        retrieved = [
            things(words(self.memory.samplers[source].dataset.extras["mission"][episode]))
            for source, episode in zip(batch.given[group], batch.episodes[group], strict=True)
        ]
        return np.array([[share_a_thing(things(words(m)), other) for other in retrieved] for m in missions])

    def gallery(self) -> dict[str, Any]:
        """The content of gallery.json: episodes to be replayed from level, seed and actions, with what was read."""
        batch = self._batch()
        seen: list[np.ndarray] = []

        def watch(step: Unrolled, active: np.ndarray) -> None:
            alpha = step.step.alpha[:, :, 0].mean(2).numpy()
            seen.append(alpha.reshape(len(active), -1))

        episodes = self._play(batch, watch if batch is not None else None)
        returns = episodes.returns.ravel()
        order = np.argsort(returns, kind="stable")
        chosen = [int(order[(len(order) * q) // 4]) for q in (1, 2, 3)]
        return {
            "run": self.run.id,
            "rule": RULE,
            "episodes": [self._episode(index, episodes, batch, seen) for index in dict.fromkeys(chosen)],
        }

    def _episode(
        self, index: int, episodes: LevelEpisodes, batch: RetrievalBatch | None, seen: list[np.ndarray]
    ) -> dict[str, Any]:
        i, episode = divmod(index, EPISODES)
        length = min(int(episodes.lengths[i, episode]), LONGEST_SHOWN)
        group = 0 if self.memory is not None and self.memory.pooled else i
        steps = []
        for t in range(length):
            steps.append(
                {
                    "t": t,
                    "action": int(episodes.actions[i, episode, t]),
                    "reward": float(episodes.rewards[i, episode, t]),
                    "retrieved": [] if batch is None else self.retrieved(group, seen[t][index], batch),
                }
            )
        return {
            "task": self.levels[i].name,
            "mission": words(episodes.missions[i, episode]),
            "seed": int(self.seeds[i, episode]),
            "return": float(episodes.returns[i, episode]),
            "success": bool(episodes.success[i, episode]),
            "length": int(episodes.lengths[i, episode]),
            "steps": steps,
        }

    def _state(self, batch: RetrievalBatch, candidate: Candidate) -> dict[str, Any]:
        group, trajectory, look, source = candidate
        mission = self.memory.samplers[source].dataset.extras["mission"][batch.episodes[group, trajectory]]
        return {"mission": words(mission), "view": batch.x[group, trajectory, look, :CELLS].tolist()}
