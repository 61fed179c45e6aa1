"""Looking into a trained agent on an Atari game: what it attends to, what happens without, and one of its episodes.

Interventions on the retrieval batch at evaluation, with everything else as trained: *own* (the batch of the run's last
evaluation), *removed* (slots read nothing), *shuffled* (states exchanged between the windows of the batch, at each
step). The episodes are those of the run's evaluations, so *own* is the run's last evaluation over again.
"""

from __future__ import annotations

import base64
import io
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from rarl.agents.memory import RetrievalBatch
from rarl.agents.value_rescaling import unrescale
from rarl.config.scale import Run, Scale
from rarl.envs.atari.encoders import unpack
from rarl.envs.atari.observation import EXTRA_BYTES, FRAME_BYTES, newest_frame
from rarl.envs.atari.scores import reaches_human
from rarl.envs.spec import make_vector
from rarl.nn.retrieval import RetrievalStep
from rarl.probes.moments import chosen_steps
from rarl.probes.trained import Candidate, Probe, shuffled
from rarl.rollouts.evaluation import Evaluation
from rarl.rollouts.roll_out import Episodes, Watching
from rarl.runs.device import choose_device

WINDOW = 60  # steps of an episode in the gallery
BEFORE = 40  # most of them up to the first reward, that step included
EVERY = 6  # of every so many steps shown, what was retrieved
RULE = (
    "Of the evaluation episodes the one of (lower) median score, and of it "
    f"{WINDOW} steps in a row, at most {BEFORE} of them up to its first positive reward; without one, its first "
    f"{WINDOW}."
)


@dataclass
class Moment:
    """A step on its way into the gallery.

    group: whose retrieval batch was read. frame: (84, 84) uint8. candidates, weights: what was attended to, by index in
    the batch. action: None where it was the episode's last and is not known.
    """

    group: int
    t: int
    frame: np.ndarray
    candidates: np.ndarray
    weights: np.ndarray
    action: int | None = None
    reward: float = 0.0


class _Window:
    """Keeps the steps of one episode that the gallery would show (see RULE), while it is played."""

    def __init__(self) -> None:
        self.steps, self.total = 0, 0.0
        self._opening: list[Moment] = []
        self._recent: deque[Moment] = deque(maxlen=BEFORE)
        self._after: list[Moment] = []
        self._rewarded = False
        self._last: Moment | None = None

    def begin(self, moment: Moment) -> None:
        """The next step begins."""
        self.steps += 1
        self._last = moment
        if self._rewarded:
            if len(self._recent) + len(self._after) < WINDOW:
                self._after.append(moment)
            return
        self._recent.append(moment)
        if len(self._opening) < WINDOW:
            self._opening.append(moment)

    def end(self, reward: float, action: int | None = None) -> None:
        """The step that was begun has given this reward."""
        self.total += reward
        self._last.reward, self._last.action = reward, action
        self._rewarded = self._rewarded or reward > 0

    @property
    def shown(self) -> list[Moment]:
        return [*self._recent, *self._after] if self._rewarded else self._opening


class Played(NamedTuple):
    """The run's evaluation, played again: the episodes, what the gallery may show of each, quantities of attention."""

    episodes: Episodes
    windows: list[_Window]
    quantities: dict[str, float]


class GameProbe(Probe):
    """Measurements on one run, of an agent that retrieves or not; on a GPU if there is one.

    Attributes:
      batch: what the agent retrieved from in its last evaluation, on the CPU, one group for every so many environments
        in a row; None: nothing.
    """

    def __init__(self, scale: Scale, run: Run):
        self.game, self.batch = run.tasks[0], None
        self.actions = make_vector(run.settings, [self.game]).actions
        super().__init__(scale, run, run.tasks, len(self.actions), stream=5)
        self.device = choose_device()
        self.network.to(self.device)

    def _recall(self, scale: Scale, state: Mapping[str, Any]) -> None:
        if state["memory"]:
            self.batch = RetrievalBatch(**state["memory"])

    def _play(self, batch: RetrievalBatch | None, looking: _Looking | None = None) -> Episodes:
        """The episodes of the run's evaluations, with this retrieval batch."""
        with torch.no_grad():
            retrieved = None if batch is None else batch.to(self.device).summarise(self.network)
        evaluation = Evaluation.of(self.run.settings)
        policy = evaluation.policy(self.network, retrieved)
        if looking is None:
            return evaluation.play(policy)

        def look(x: np.ndarray, first: np.ndarray, playing: np.ndarray) -> None:
            looking.look(policy.unrolled.step, x, first, playing)

        return evaluation.play(Watching(policy, look))

    @cached_property
    def played(self) -> Played:
        """The agent as trained. One play serves all measurements: games are long."""
        looking = _Looking(self.batch)
        episodes = self._play(self.batch, looking)
        for window, score in zip(looking.windows, episodes.returns, strict=True):
            # What a step gave is seen in the next observation; an episode's last step has none.
            window.end(float(score) - window.total)
        return Played(episodes, looking.windows, looking.quantities())

    def interventions(self) -> list[dict[str, Any]]:
        """Rows of interventions.csv; a success is an episode that reaches the human's score."""
        rows = [self._row("own", self.played.episodes)]
        if self.batch is not None:
            rows += [
                self._row("removed", self._play(None)),
                self._row("shuffled", self._play(shuffled(self.batch, self.rng))),
            ]
        return rows

    def _row(self, intervention: str, episodes: Episodes) -> dict[str, Any]:
        success = reaches_human(self.game, episodes.returns)
        return self.intervention_row(intervention, self.game, self.game, episodes.returns, success)

    def attention(self) -> list[dict[str, Any]]:
        """Rows of attention.csv, means over the steps of the evaluation's episodes.

        effective_states: exp of the entropy of the attention, slots averaged; rewarded_share: attention on states that
        positive reward followed; rewarded_candidates: their share among the candidates; place_distance: how far, in
        steps, the attended states' places in their episodes are from the place of the step that asks;
        place_candidates: the same of all candidates; kl: of z's posterior from its prior, in nats.
        """
        quantities = self.played.quantities or {"none": 0.0}
        return [{"task": self.game, "quantity": name, "value": value} for name, value in sorted(quantities.items())]

    def gallery(self) -> dict[str, Any]:
        """The content of gallery.json."""
        episodes, windows, _ = self.played
        chosen = int(np.argsort(episodes.returns, kind="stable")[(len(windows) - 1) // 2])
        shown = windows[chosen].shown
        looks = {*chosen_steps([moment.reward for moment in shown]), *range(0, len(shown), EVERY)}
        episode = {
            "task": self.game,
            "return": float(episodes.returns[chosen]),
            "length": int(episodes.lengths[chosen]),
            "steps": [self._moment(moment, retrieved=i in looks) for i, moment in enumerate(shown)],
        }
        return {"run": self.run.id, "rule": RULE, "episodes": [episode]}

    def _moment(self, moment: Moment, *, retrieved: bool) -> dict[str, Any]:
        found: list[dict[str, Any]] = []
        if retrieved and self.batch is not None:
            alpha = np.zeros(self.batch.a.shape[1] * self.batch.a.shape[2])
            alpha[moment.candidates] = moment.weights
            found = self.retrieved(moment.group, alpha, self.batch)
        return {
            "t": moment.t,
            "frame": picture(moment.frame),
            "action": None if moment.action is None else self.actions[moment.action],
            "reward": moment.reward,
            "retrieved": found,
        }

    def _state(self, batch: RetrievalBatch, candidate: Candidate) -> dict[str, Any]:
        place = candidate.group, candidate.trajectory, candidate.look
        reward = unrescale(batch.r[place].double(), self.run.settings.learning.rescale_epsilon)
        return {"reward": round(float(reward), 3), "frame": picture(newest_frame(batch.x[place].numpy()))}


class _Looking:
    """Watches an evaluation: what is attended to at every step, and what the gallery may show."""

    def __init__(self, batch: RetrievalBatch | None):
        self.windows: list[_Window] = []  # in the order in which the episodes begin, which is that of their seeds
        self._playing: dict[int, _Window] = {}  # by environment
        self._sums: dict[str, float] = {}
        self._n = 0
        self.batch = batch
        if batch is not None:
            # By group: (R, N).
            mask = np.ones(batch.a.shape, dtype=bool) if batch.mask is None else batch.mask.numpy()
            self._real, self._rewarded = (part.reshape(len(mask), -1) for part in (mask, batch.r.numpy() > 0))
            self._places = batch.steps.reshape(len(mask), -1)

    def look(self, step: RetrievalStep | None, x: np.ndarray, first: np.ndarray, playing: np.ndarray) -> None:
        """After the network has seen x (n, bytes); step: what its retrieval process gave, (R, n / R, 1, ...)."""
        rows = np.flatnonzero(playing)
        _, actions, rewards = unpack(torch.from_numpy(x), (x.shape[1] - EXTRA_BYTES) // FRAME_BYTES)
        for i in rows:
            if not first[i]:
                self._playing[i].end(float(rewards[i]), int(actions[i]))
                continue
            self._playing[i] = _Window()
            self.windows.append(self._playing[i])
        alpha, group = None, np.zeros(len(playing), dtype=np.int64)
        if self.batch is not None:
            group = np.arange(len(playing)) * len(self.batch.a) // len(playing)
            alpha = step.alpha.flatten(0, 2).mean(1).double().cpu().numpy()[rows]
            kl = step.kl.flatten().cpu().numpy()[rows]
            self._count(group[rows], alpha, np.array([self._playing[i].steps for i in rows]), kl)
        for row, i in enumerate(rows):
            weights = np.zeros(0) if alpha is None else alpha[row]
            at = np.flatnonzero(weights)
            frame = newest_frame(x[i]).copy()
            self._playing[i].begin(Moment(int(group[i]), self._playing[i].steps, frame, at, weights[at]))

    def _count(self, group: np.ndarray, alpha: np.ndarray, places: np.ndarray, kl: np.ndarray) -> None:
        """group (n,), whose batch is read; alpha (n, N), slots averaged; places (n,) of the steps; kl (n,)."""
        entropy = -(alpha * np.log(np.where(alpha > 0, alpha, 1))).sum(-1)
        distance, real = np.abs(self._places[group] - places[:, None]), self._real[group]
        found = {
            "effective_states": np.exp(entropy),
            "rewarded_share": (alpha * self._rewarded[group]).sum(-1),
            "place_distance": (alpha * distance).sum(-1),
            "place_candidates": (distance * real).sum(-1) / real.sum(-1),
            "kl": kl,
        }
        for name, values in found.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(values.sum())
        self._n += len(places)

    def quantities(self) -> dict[str, float]:
        """Means over all steps; empty if nothing was retrieved."""
        if self.batch is None:
            return {}
        share = float((self._rewarded & self._real).sum() / self._real.sum())
        return {name: total / self._n for name, total in self._sums.items()} | {"rewarded_candidates": share}


def picture(frame: np.ndarray) -> str:
    """(84, 84) uint8 as a PNG in base64."""
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, format="PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
