"""Watches a trained agent play: what it attends to at every step, and the steps that a gallery may show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from rarl.agents.diagnosis import effective_states
from rarl.agents.memory import RetrievalBatch
from rarl.agents.policy import Policy
from rarl.envs.probing import Probing
from rarl.envs.vector import Step
from rarl.errors import required

SHOWN = 6  # retrieved states per step in a gallery


@dataclass
class Moment:
    """A step. x: what was observed. attended: the heaviest candidates -> their weights above 0, slots averaged. q: of
    each action, on the network's scale."""

    t: int
    x: np.ndarray
    action: int
    attended: Mapping[int, float]
    reward: float = 0.0
    q: np.ndarray = field(default_factory=lambda: np.zeros(0))


class Recorded:
    """An episode, as far as a gallery may show it (`Probing.rule`).

    Args:
      task: its number among those of the evaluation.
      group: whose retrieval batch it reads.
      related: (n_traj,) bool, which trajectories of that batch are about what it is about; None: not known.
    """

    def __init__(self, probing: Probing, task: int, group: int, related: np.ndarray | None):
        self.task, self.group, self.related = task, group, related
        self.length, self.last, self.shown = 0, np.zeros(0), list[Moment]()
        self._most, self._before, self._rewarded = probing.steps, probing.up_to_reward, False

    def begin(self, moment: Moment) -> None:
        """The next step begins."""
        self.length += 1
        self._now = moment
        if not self._rewarded and len(self.shown) == self._before:
            self.shown.pop(0)
        if len(self.shown) < self._most:
            self.shown.append(moment)

    def end(self, reward: float, after: np.ndarray) -> None:
        """The step that was begun has given this reward, and this was observed then."""
        self._now.reward, self.last = reward, after
        self._rewarded = self._rewarded or reward > 0


class AttentionRecorder:
    """A policy that is watched; its network leaves nobody out.

    Args:
      policy: what plays.
      tasks: (n,) which task each of the n environments plays, by number.
      batch: what it reads; None: nothing.
      related: (context of an episode, group) -> (n_traj,) bool of that group's batch; None: not known.

    Attributes:
      episodes: in the order in which they begin, which is that of their seeds.
      sums: quantity (see `rarl.probes.plain.PlainProbe.attention`) -> (tasks,) sum over the steps of each task.
      steps: (tasks,) how many there were.
    """

    def __init__(
        self,
        policy: Policy,
        probing: Probing,
        tasks: np.ndarray,
        batch: RetrievalBatch | None,
        related: Callable[[np.ndarray, int], np.ndarray] | None = None,
    ):
        self.policy, self.probing, self.tasks, self.batch, self._about = policy, probing, tasks, batch, related
        self.episodes: list[Recorded] = []
        self.sums: dict[str, np.ndarray] = {}
        self.steps = np.zeros(int(tasks.max()) + 1)
        self._playing: dict[int, Recorded] = {}  # by environment
        self._rows = np.argsort(policy.places, axis=None)  # of environments among those of all groups
        self._groups = self._rows // policy.places.shape[1]
        if batch is not None:
            mask = np.ones(batch.a.shape, bool) if batch.mask is None else batch.mask.numpy()
            parts = mask, batch.r.numpy() > 0, batch.steps
            self._real, self._rewarded, self._places = (part.reshape(len(mask), -1) for part in parts)  # (R, N)
            self._owners = np.repeat(batch.given, batch.a.shape[-1], axis=1)
            self._mixed = len(self.steps) > 1 and (self._owners[self._groups] != tasks[:, None]).any()

    def begin(self, first: np.ndarray, context: np.ndarray | None = None) -> None:
        """As of a policy."""
        for i in np.flatnonzero(first).tolist():
            group = int(self._groups[i])
            related = None if self._about is None else self._about(required(context, "context")[i], group)
            self._playing[i] = Recorded(self.probing, int(self.tasks[i]), group, related)
            self.episodes.append(self._playing[i])
        self.policy.begin(first, context)

    def __call__(self, x: np.ndarray, playing: np.ndarray) -> np.ndarray:
        """As of a policy."""
        actions, rows = self.policy(x, keep_attention=True), np.flatnonzero(playing)
        episodes, step = [self._playing[i] for i in rows.tolist()], self.policy.unrolled.step
        seen = np.zeros((len(rows), 0))
        if self.batch is not None and step is not None and step.alpha is not None:
            shape, at = self.policy.places.shape, self._rows[rows]
            alpha = step.alpha[:, :, 0].expand(*shape, -1, -1).flatten(0, 1)[at].double().cpu().numpy()
            kl = step.kl[:, :, 0].expand(shape).flatten()[at].cpu().numpy()
            seen = alpha.mean(1)
            self.count(self.tasks[rows], self._groups[rows], alpha, kl, episodes)
        for i, episode, weights in zip(rows, episodes, seen, strict=True):
            there = np.flatnonzero(weights)
            there = there[np.argsort(-weights[there], kind="stable")[:SHOWN]]
            attended = dict(zip(there.tolist(), weights[there].tolist(), strict=True))
            episode.begin(Moment(episode.length, x[i].copy(), int(actions[i]), attended, q=self.policy.q[i].copy()))
        return actions

    def after(self, playing: np.ndarray, step: Step) -> None:
        """A `rarl.rollouts.roll_out.Watch`."""
        for i in np.flatnonzero(playing).tolist():
            self._playing[i].end(float(step.rewards[i]), step.observations[i])

    def count(
        self, tasks: np.ndarray, groups: np.ndarray, alpha: np.ndarray, kl: np.ndarray, episodes: list[Recorded]
    ) -> None:
        """n steps more, of episodes of tasks (n,): groups (n,) whose batch is read, alpha (n, n_f, N), kl (n,)."""
        found = {"effective_states": effective_states(torch.from_numpy(alpha)).numpy().mean(1), "kl": kl}
        seen, real = alpha.mean(1), self._real[groups]

        def of(name: str, which: np.ndarray, by_chance: str) -> None:
            """What is attended to, and what attention on all candidates alike would give; which (n, N)."""
            found[name] = (seen * which).sum(1)
            found[by_chance] = (which * real).sum(1) / real.sum(1)

        times = np.array([episode.length for episode in episodes])
        of("rewarded_share", self._rewarded[groups], "rewarded_candidates")
        of("place_distance", np.abs(self._places[groups] - times[:, None]), "place_candidates")
        if self._mixed:
            of("other_share", self._owners[groups] != tasks[:, None], "other_candidates")
        if self._about is not None:
            related = np.array([episode.related for episode in episodes])
            of("related_share", np.repeat(related, seen.shape[1] // related.shape[1], axis=1), "related_candidates")
        np.add.at(self.steps, tasks, 1)
        for name, values in found.items():
            np.add.at(self.sums.setdefault(name, np.zeros(len(self.steps))), tasks, values)
