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
from rarl.nn.retrieval import RetrievalStep, Summaries
from rarl.probes.trained import Candidate, DatasetProbe, shuffled
from rarl.rollouts.evaluation import Evaluation, successes
from rarl.rollouts.roll_out import Episodes, Watching

EPISODES = 24  # per level and intervention
STREAM = 3  # of the start states
LONGEST_SHOWN = 80  # steps of an episode in the gallery
RULE = (
    "Of all episodes evaluated, those at the lower quartile, the median and the upper quartile of the return; ties in "
    "the order of the levels."
)


# What the retrieval process gave at a step, and which episodes are going on, (n,) bool.
Look = Callable[[RetrievalStep, np.ndarray], None]


class LevelProbe(DatasetProbe):
    """Measurements on one run, of an agent that retrieves or not."""

    def __init__(self, scale: Scale, run: Run):
        s = run.settings
        self.levels = [level_named(name) for name in run.tasks]
        super().__init__(scale, run, run.tasks, len(ACTIONS), stream=3)
        self.spread = Evaluation.of(s, episodes=EPISODES, stream=STREAM)
        self.at_once = Evaluation.of(s, episodes=EPISODES, stream=STREAM, blocks=1)
        self.by_level = Evaluation.of(s, episodes=EPISODES, stream=STREAM, blocks=1, pooled=False)

    def _batch(self, given: np.ndarray | None = None) -> RetrievalBatch | None:
        """One for each level, or for all levels where one serves all."""
        if self.memory is None:
            return None
        return self.memory.sample(np.arange(len(self.levels)), self.rng, given=given)

    def _play(self, evaluation: Evaluation, retrieved: Summaries | None, look: Look | None = None) -> Episodes:
        policy = evaluation.policy(self.network, retrieved)
        if look is None:
            return evaluation.play(policy)

        def looked(x: np.ndarray, first: np.ndarray, playing: np.ndarray) -> None:
            look(policy.unrolled.step, playing)

        return evaluation.play(Watching(policy, looked), keep=True)

    def _play_spread(self, change: Callable[[RetrievalBatch], RetrievalBatch] | None = None) -> Episodes:
        """As in the run's own evaluations: each level's episodes are spread over several retrieval batches."""
        if self.memory is None:
            return self._play(self.spread, None)
        groups, blocks = self.spread.groups, self.spread.blocks if self.spread.pooled else 1
        batch = RetrievalBatch.joined([self.memory.sample(groups, self.rng) for _ in range(blocks)])
        return self._play(self.spread, (batch if change is None else change(batch)).summarise(self.network))

    def interventions(self) -> list[dict[str, Any]]:
        """Rows of interventions.csv; the same start states for all."""
        rows = self._rows("own", self._play_spread())
        if self.memory is None:
            return rows
        rows += self._rows("removed", self._play(self.spread, None))
        rows += self._rows("shuffled", self._play_spread(lambda batch: shuffled(batch, self.rng)))
        if len(self.levels) > 1:
            rows += self._rows("others", self._play(self.by_level, self._of_others()))
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

    def _rows(self, intervention: str, episodes: Episodes) -> list[dict[str, Any]]:
        returns = episodes.returns.reshape(len(self.levels), -1)
        success = successes(self.spec, self.names, episodes)
        return [
            self.intervention_row(intervention, name, name, returns[i], success[i]) for i, name in enumerate(self.names)
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

        def look(step: RetrievalStep, active: np.ndarray) -> None:
            alpha = step.alpha[:, :, 0].mean(2).numpy()  # over slots: (groups, B, N)
            kl = step.kl.numpy().reshape(n, EPISODES)
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

        missions = self._play(self.at_once, batch.summarise(self.network), look).context.reshape(n, EPISODES, -1)
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

        def look(step: RetrievalStep, active: np.ndarray) -> None:
            alpha = step.alpha[:, :, 0].mean(2).numpy()
            seen.append(alpha.reshape(len(active), -1))

        if batch is None:
            episodes = self.at_once.play(self.at_once.policy(self.network, None), keep=True)
        else:
            episodes = self._play(self.at_once, batch.summarise(self.network), look)
        returns = episodes.returns
        order = np.argsort(returns, kind="stable")
        chosen = [int(order[(len(order) * q) // 4]) for q in (1, 2, 3)]
        return {
            "run": self.run.id,
            "rule": RULE,
            "episodes": [self._episode(index, episodes, batch, seen) for index in dict.fromkeys(chosen)],
        }

    def _episode(
        self, index: int, episodes: Episodes, batch: RetrievalBatch | None, seen: list[np.ndarray]
    ) -> dict[str, Any]:
        i = index // EPISODES
        length = int(episodes.lengths[index])
        group = 0 if self.memory is not None and self.memory.pooled else i
        steps = []
        for t in range(min(length, LONGEST_SHOWN)):
            steps.append(
                {
                    "t": t,
                    "action": int(episodes.actions[index, t]),
                    "reward": float(episodes.rewards[index, t]),
                    "retrieved": [] if batch is None else self.retrieved(group, seen[t][index], batch),
                }
            )
        return {
            "task": self.levels[i].name,
            "mission": words(episodes.context[index]),
            "seed": int(self.at_once.seeds.ravel()[index]),
            "return": float(episodes.returns[index]),
            "success": bool(successes(self.spec, self.names, episodes).ravel()[index]),
            "length": length,
            "steps": steps,
        }

    def _state(self, batch: RetrievalBatch, candidate: Candidate) -> dict[str, Any]:
        group, trajectory, look, source = candidate
        mission = self.memory.samplers[source].dataset.extras["mission"][batch.episodes[group, trajectory]]
        return {"mission": words(mission), "view": batch.x[group, trajectory, look, :CELLS].tolist()}
