"""Interventions on retrieval without a simulator: what an agent says of the data, not what it does."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from rarl.agents.diagnosis import effective_states
from rarl.agents.memory import RetrievalBatch
from rarl.config.scale import Run, Scale
from rarl.errors import required
from rarl.learners.offline import LearnerBatch, OfflineLearner
from rarl.nn.value_network import Unrolled
from rarl.probes.trained import final_state, shuffled
from rarl.runs import checkpoints
from rarl.runs.train import open_datasets

BATCHES = 4  # retrieval batches, over which everything is a mean
STREAM = 7  # of what is retrieved


class DataProbe:
    """Measurements on one run, on the steps of data on which it was evaluated."""

    def __init__(self, scale: Scale, run: Run):
        torch.set_num_threads(run.settings.threads)
        self.names = list(run.tasks)
        self.learner = OfflineLearner(run, open_datasets(scale, run), "cpu")
        state = final_state(scale, run)
        checkpoints.restore(self.learner.network, state["network"], f"the checkpoint of {run.id}")
        rng = np.random.default_rng([run.settings.seed, run.settings.evaluation.board_seed, STREAM])
        retrieve, own = self.learner.retrieval_to_measure, np.arange(len(self.names))
        self.batches = [batch for _ in range(BATCHES) if (batch := retrieve(rng)) is not None]
        self.read: dict[str, list[RetrievalBatch | None]] = {"own": [*self.batches] or [None]}
        if self.batches:
            self.read |= {"removed": [None], "shuffled": [shuffled(batch, rng) for batch in self.batches]}
            if len(own) > 1 and not required(self.learner.memory, "datasets").pooled:
                self.read["swapped"] = [retrieve(rng, np.roll(own, 1)) for _ in range(BATCHES)]

    def interventions(self) -> list[dict[str, Any]]:
        """Rows of interventions.csv, with what `OfflineLearner.measure` gives."""
        rows = []
        for name, batches in self.read.items():
            measured = [self.learner.measure(batch) for batch in batches]
            for i, task in enumerate(self.names):
                of_task = [of_batch[i] for of_batch in measured]
                means = {key: float(np.mean([row[key] for row in of_task])) for key in ("agreement", "td_error")}
                given = self.names[i - 1] if name == "swapped" else task
                what = {"intervention": name, "task": task, "given_task": given, "episodes": of_task[0]["episodes"]}
                rows.append(what | means)
        return rows

    def attention(self) -> list[dict[str, Any]]:
        """Rows of attention.csv: effective_states, as in `rarl.probes.plain`."""
        if not self.batches:
            return [{"task": name, "quantity": "none", "value": 0.0} for name in self.names]
        found: dict[str, list[float]] = {name: [] for name in self.names}

        def look(steps: LearnerBatch, out: Unrolled) -> None:
            step = required(out.step, "retriever")
            alpha = required(step.alpha, "attention").double()  # (G, B, T + 1, n_f, N)
            states = effective_states(alpha).mean(-1).numpy()
            real = np.ones(states.shape, bool) if steps.seen is None else steps.seen.numpy()
            for i, name in enumerate(self.names):
                found[name].append(states[(steps.tasks == i)[..., None] & real].mean())

        for batch in self.batches:
            self.learner.measure(batch, look)
        return [{"task": task, "quantity": "effective_states", "value": float(np.mean(v))} for task, v in found.items()]

    def gallery(self) -> dict[str, Any]:
        """The content of gallery.json: nothing was played."""
        return {"rule": "Nothing was played.", "episodes": []}
