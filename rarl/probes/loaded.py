"""A trained agent for anybody's states: its policy, its values, and what it retrieves."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from rarl.agents.memory import Memory, RetrievalBatch
from rarl.agents.policy import Policy
from rarl.config.scale import Run, Scale, default_scale
from rarl.config.settings import EPISODIC
from rarl.envs.content import content_of
from rarl.envs.space import number_of_actions
from rarl.envs.spec import spec_of
from rarl.errors import RarlError
from rarl.nn.value_network import ValueNetwork
from rarl.probes.trained import final_state, network_of
from rarl.runs.train import open_datasets


class Seen(NamedTuple):
    """What an agent thinks of n states, or of the steps of n sequences.

    q: (n, n_actions), or (n, T, n_actions). actions: the best of them. weights: attention over the candidates of the
    retrieval batch, slots averaged, (n, N) or (n, T, N); None where nothing is retrieved.
    """

    q: np.ndarray
    actions: np.ndarray
    weights: np.ndarray | None


class LoadedAgent:
    """An agent as a run published it.

    Args:
      scale, run: which.

    Attributes:
      network: on the CPU, without gradients.
      memory: what it retrieves from, where that are datasets; None: nothing, or a replay.
      tasks: names of its tasks, in the order of their ids.
    """

    def __init__(self, scale: Scale, run: Run):
        if run.settings.agent.base in EPISODIC:
            raise RarlError(f"{run.id}: an agent of episodic control has no network")
        self.run, self.spec, self.tasks = run, spec_of(run.settings.environment), list(run.tasks)
        state = final_state(scale, run)
        self.network: ValueNetwork = network_of(run, state, number_of_actions(run.settings))
        self.memory: Memory | None = None
        self._replay: RetrievalBatch | None = None
        if run.settings.online is not None:
            self._replay = RetrievalBatch.published(state["memory"])
        elif run.retrieves:
            self.memory = Memory.of(run, open_datasets(scale, run))

    def retrieve(self, task: str | None = None, seed: int = 0) -> RetrievalBatch | None:
        """A retrieval batch, for a task of the run (its first); None for an agent that retrieves nothing.

        seed: which one; of a replay the one of its last evaluation.
        """
        if self.memory is None:
            return self._replay
        number = self.task_id(task)
        tasks = np.arange(len(self.tasks)) if self.memory.pooled else np.array([number])
        return self.memory.sample(tasks, np.random.default_rng(seed))

    def task_id(self, task: str | None = None) -> int:
        """The number of a task of the run, by default its first."""
        if task is None:
            return 0
        if task not in self.tasks:
            raise RarlError(f"{self.run.id}: has no task {task!r}; it has {', '.join(self.tasks)}")
        return self.tasks.index(task)

    @torch.no_grad()
    def look(
        self,
        x: np.ndarray,
        retrieved: RetrievalBatch | None = None,
        *,
        task: str | None = None,
        context: np.ndarray | None = None,
        sequences: bool = False,
    ) -> Seen:
        """What the agent thinks of states.

        Args:
          x: (n, ...), observations as datasets hold them; each as at an episode's start. With `sequences`, (n, T, ...).
          retrieved: one group, from `retrieve`; None: nothing is read.
          task: of the run, for an agent that is told it.
          context: (n, ...), what it is told about each episode otherwise.

        Raises:
          RarlError: states or context are of another shape or dtype, or there is no such task.
        """
        x, leading, content = np.asarray(x), ("n", "T")[: 1 + sequences], content_of(self.run.settings.environment)
        if content is not None:
            values = content.observations
            if x.shape[len(leading) :] != values.shape or str(x.dtype) != values.dtype:
                shape = ", ".join((*leading, *map(str, values.shape)))
                raise RarlError(f"x: must be ({shape}) {values.dtype}, is {x.shape} {x.dtype}")
        if (context is None) != (self.spec.context is None):
            needs = f"is needed, {self.spec.context!r}" if context is None else "there is none"
            raise RarlError(f"context: {self.spec.name}: {needs}")
        inputs = torch.from_numpy(x)[None]
        told = np.full(len(x), self.task_id(task)) if context is None else np.asarray(context).astype(np.int64)
        out = self.network.unroll(
            inputs if sequences else inputs[:, :, None],
            torch.from_numpy(told)[None, :, None],
            None,
            None if retrieved is None else retrieved.summarise(self.network),
            keep_attention=True,
        )
        q = out.q[0].numpy()
        weights = None if out.step is None or out.step.alpha is None else out.step.alpha[0].mean(-2).numpy()
        if not sequences:
            q, weights = q[:, 0], None if weights is None else weights[:, 0]
        return Seen(q, q.argmax(-1), weights)

    def policy(
        self, n: int, retrieved: RetrievalBatch | None = None, *, task: str | None = None, seed: int = 0
    ) -> Policy:
        """Greedy play of n actors, for `rarl.rollouts.roll_out`: `policy.begin(first)`, then `policy(x)`."""
        ids = np.full(n, self.task_id(task))
        policy = Policy(self.network, np.zeros(n), np.random.default_rng(seed), ids)
        policy.retrieved = None if retrieved is None else retrieved.summarise(self.network)
        return policy


def load(run: str, scale: str | None = None, root: str | Path = ".") -> LoadedAgent:
    """The agent of a finished run.

    Args:
      run: "experiment/task-set/variant/seed-0".
      scale: its scale; None: the default one.
      root: the project's folder.

    Raises:
      RarlError: there is no such run, or it has not published a checkpoint.
    """
    planned = Scale(scale or default_scale(root), root)
    return LoadedAgent(planned, planned.find_run(run))
