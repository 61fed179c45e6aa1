"""What is measured of a trained agent in any environment: what it retrieves, and what happens when that changes.

Interventions on the retrieval batches at evaluation, with everything else as trained: *own* (as trained), *removed*
(nothing is read), *shuffled* (states exchanged between the trajectories of a batch, at each step), and, where there are
several tasks with batches of their own, *swapped* (another task's trajectories).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from rarl.agents.memory import Memory, RetrievalBatch
from rarl.config.scale import Run, Scale
from rarl.envs.space import number_of_actions
from rarl.nn.retrieval import RetrievalStep
from rarl.probes.trained import Candidate, Probe, shuffled
from rarl.rollouts.evaluation import Evaluation, successes
from rarl.rollouts.roll_out import Episodes, Watching
from rarl.runs.train import open_datasets

EPISODES = 20  # per task and intervention, of agents that learned from datasets
STREAM = 5  # of the start states
LONGEST_SHOWN = 80  # steps of an episode in the gallery
RULE = "Of all episodes evaluated, those at the lower quartile, the median and the upper quartile of the return."


class PlainProbe(Probe):
    """Measurements on one run, of an agent that retrieves or not."""

    def __init__(self, scale: Scale, run: Run):
        self.memory: Memory | None = None
        self.batch: RetrievalBatch | None = None  # of an agent that learned while it played, from its replay
        super().__init__(scale, run, run.tasks, number_of_actions(run.settings), stream=STREAM)
        s = run.settings
        # Those of a replay are of the run's last evaluation, and so are the episodes.
        self.evaluation = Evaluation.of(s) if s.online else Evaluation.of(s, episodes=EPISODES, stream=STREAM)

    def _recall(self, scale: Scale, state: Mapping[str, Any]) -> None:
        s = self.run.settings
        if s.online is not None:
            self.batch = RetrievalBatch(**state["memory"]) if state["memory"] else None
        elif self.run.retrieves:
            self.memory = Memory.of(self.run, open_datasets(scale, self.run))

    def _batches(self, given: np.ndarray | None = None) -> RetrievalBatch | None:
        """One for each group of the evaluation, of the datasets `given` to its groups, or of their own."""
        if self.memory is None:
            return self.batch
        groups, blocks = self.evaluation.groups, self.evaluation.blocks if self.evaluation.pooled else 1
        return RetrievalBatch.joined([self.memory.sample(groups, self.rng, given=given) for _ in range(blocks)])

    def _play(self, batch: RetrievalBatch | None) -> Episodes:
        retrieved = None if batch is None else batch.summarise(self.network)
        return self.evaluation.play(self.evaluation.policy(self.network, retrieved))

    def interventions(self) -> list[dict[str, Any]]:
        """Rows of interventions.csv; the same start states for all."""
        batch = self._batches()
        rows = self._rows("own", self._play(batch))
        if batch is None:
            return rows
        rows += self._rows("removed", self._play(None))
        rows += self._rows("shuffled", self._play(shuffled(batch, self.rng)))
        n = len(self.names)
        if n > 1 and not self.evaluation.pooled:
            others = (np.arange(n) + 1 + self.rng.integers(n - 1, size=n)) % n
            given = np.repeat(others, self.evaluation.blocks)
            rows += self._rows("swapped", self._play(self._batches(given)), [self.names[i] for i in others])
        return rows

    def _rows(self, intervention: str, episodes: Episodes, given: list[str] | None = None) -> list[dict[str, Any]]:
        returns = episodes.returns.reshape(len(self.names), -1)
        success = successes(self.spec, self.names, episodes)
        return [
            self.intervention_row(intervention, name, other, returns[i], success[i])
            for i, (name, other) in enumerate(zip(self.names, given or self.names, strict=True))
        ]

    def attention(self) -> list[dict[str, Any]]:
        """Rows of attention.csv, means over the steps of each task's episodes.

        effective_states: exp of the entropy of the attention, slots averaged; rewarded_share: attention on states that
        positive reward followed, and rewarded_candidates: their share among the candidates; kl: of z's posterior from
        its prior, in nats.
        """
        batch = self._batches()
        if batch is None:
            return [{"task": name, "quantity": "none", "value": 0.0} for name in self.names]
        n, real = len(self.names), np.ones(batch.a.shape, bool) if batch.mask is None else batch.mask.numpy()
        rewarded = (batch.r.numpy() > 0) & real
        of_group = rewarded.reshape(len(rewarded), 1, 1, -1)
        tasks = np.repeat(np.arange(n), self.evaluation.each)[self.evaluation.places]  # (R, environments)
        sums: dict[str, np.ndarray] = {}
        steps = np.zeros(n)

        def look(step: RetrievalStep, playing: np.ndarray) -> None:
            going = playing[self.evaluation.places]
            alpha = step.alpha[:, :, 0].double().numpy()  # (R, environments, n_f, N)
            entropy = -(alpha * np.log(np.where(alpha > 0, alpha, 1))).sum(-1).mean(-1)
            found = {
                "effective_states": np.exp(entropy),
                "rewarded_share": (alpha * of_group).sum(-1).mean(-1),
                "kl": step.kl[:, :, 0].numpy(),
            }
            np.add.at(steps, tasks[going], 1)
            for name, values in found.items():
                np.add.at(sums.setdefault(name, np.zeros(n)), tasks[going], values[going])

        self._watch(batch, look)
        shares = rewarded.reshape(len(rewarded), -1).sum(1) / real.reshape(len(real), -1).sum(1)
        rows = []
        for i, name in enumerate(self.names):
            groups = np.unique(np.nonzero(tasks == i)[0])
            values = {key: total[i] / max(steps[i], 1) for key, total in sums.items()}
            values["rewarded_candidates"] = shares[groups].mean()
            rows += [{"task": name, "quantity": key, "value": float(v)} for key, v in sorted(values.items())]
        return rows

    def _watch(self, batch: RetrievalBatch, look: Any) -> Episodes:
        """The episodes with this batch; `look` is given what the retriever gave at a step, and who plays."""
        policy = self.evaluation.policy(self.network, batch.summarise(self.network))
        watching = Watching(policy, lambda x, first, playing: look(policy.unrolled.step, playing))
        return self.evaluation.play(watching, keep=True)

    def gallery(self) -> dict[str, Any]:
        """The content of gallery.json."""
        batch = self._batches()
        seen: list[torch.Tensor] = []
        if batch is None or self.evaluation.each < self.evaluation.seeds.shape[1]:
            # Without attention; of episodes that were played one after another it is not known which step was whose.
            batch, policy = None, self.evaluation.policy(self.network, None)
            episodes = self.evaluation.play(policy, keep=True)
        else:
            episodes = self._watch(batch, lambda step, playing: seen.append(step.alpha[:, :, 0].mean(2)))
        order = np.argsort(episodes.returns, kind="stable")
        chosen = [int(order[(len(order) * q) // 4]) for q in (1, 2, 3)]
        shown = [self._episode(index, episodes, batch, seen) for index in dict.fromkeys(chosen)]
        return {"run": self.run.id, "rule": RULE, "episodes": shown}

    def _episode(
        self, index: int, episodes: Episodes, batch: RetrievalBatch | None, seen: list[torch.Tensor]
    ) -> dict[str, Any]:
        each = self.evaluation.seeds.shape[1]
        length = int(episodes.lengths[index])
        steps = []
        for t in range(min(length, LONGEST_SHOWN)):
            step = {
                "t": t,
                "observation": episodes.observations[index, t].tolist(),
                "action": int(episodes.actions[index, t]),
                "reward": float(episodes.rewards[index, t]),
                "retrieved": [],
            }
            if batch is not None:
                group, place = (int(axis[0]) for axis in np.nonzero(self.evaluation.places == index))
                step["retrieved"] = self.retrieved(group, seen[t][group, place].numpy(), batch)
            steps.append(step)
        return {
            "task": self.names[index // each],
            "seed": int(self.evaluation.seeds.ravel()[index]),
            "return": float(episodes.returns[index]),
            "length": length,
            "steps": steps,
        }

    def _trajectory(self, batch: RetrievalBatch, candidate: Candidate) -> dict[str, Any]:
        if self.memory is None:
            return {}
        episode = batch.episodes[candidate.group, candidate.trajectory]
        dataset = self.memory.samplers[candidate.source].dataset
        return {"task": self.names[candidate.source], "return": float(dataset.returns[episode])}

    def _state(self, batch: RetrievalBatch, candidate: Candidate) -> dict[str, Any]:
        return {"observation": batch.x[candidate.group, candidate.trajectory, candidate.look].tolist()}
