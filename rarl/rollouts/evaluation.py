"""What an evaluation consists of: which episodes, from which starts, over how many retrieval batches; and its rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rarl.agents.policy import Policy
from rarl.config.settings import RunSettings
from rarl.envs.spec import EnvSpec, load, make_vector, spec_of
from rarl.envs.vector import VectorEnv
from rarl.nn.retrieval import Summaries
from rarl.nn.value_network import ValueNetwork
from rarl.rollouts.roll_out import Episodes, Watch, roll_out


@dataclass(frozen=True)
class Evaluation:
    """Greedy episodes of G tasks, E of each, from starts that are the same for every agent.

    Random numbers come in three streams, so that agents with and without retrieval meet the same starts and the same
    exploration.

    Attributes:
      settings: of the run.
      tasks: names of the tasks.
      task_ids: (G,), what an agent is told where the task is observed.
      seeds: (G, E), of the episodes.
      blocks: retrieval batches of each task, over which its environments are spread; of all tasks together where one
        batch serves all.
      pooled: whether it does.
      each: environments of a task; fewer than E where they are played one after another.
    """

    settings: RunSettings
    tasks: tuple[str, ...]
    task_ids: np.ndarray
    seeds: np.ndarray
    blocks: int
    pooled: bool
    each: int

    @classmethod
    def of(
        cls,
        settings: RunSettings,
        *,
        tasks: Sequence[str] | None = None,
        task_ids: Sequence[int] | np.ndarray | None = None,
        episodes: int | None = None,
        pooled: bool | None = None,
        stream: int = 0,
        blocks: int | None = None,
    ) -> Evaluation:
        """That of a run's own evaluations, or with other tasks, episodes, starts (another stream) and blocks."""
        s, spec = settings.evaluation, spec_of(settings.environment)
        tasks = tuple(settings.tasks if tasks is None else tasks)
        ids = np.arange(len(tasks)) if task_ids is None else np.asarray(task_ids)
        episodes = s.episodes_per_task if episodes is None else episodes
        each = episodes if settings.online is None else min(settings.online.actors, episodes)
        pooled = settings.agent.retrieval.source == "all" if pooled is None else pooled
        seeds = np.stack(
            [
                np.random.default_rng([settings.seed, s.board_seed, stream, list(spec.tasks).index(task)]).integers(
                    2**31, size=episodes
                )
                for task in tasks
            ]
        )
        blocks = retrieval_blocks(each, s.retrieval_batches) if blocks is None else blocks
        return cls(settings, tasks, ids, seeds, blocks, pooled, each)

    @property
    def of_exploration(self) -> np.random.Generator:
        """Which actions are random, and other than the best."""
        return np.random.default_rng([self.settings.seed, self.settings.evaluation.board_seed, -1 % 2**32])

    @property
    def of_memory(self) -> np.random.Generator:
        """Chooses what is retrieved."""
        return np.random.default_rng([self.settings.seed, self.settings.evaluation.board_seed, -2 % 2**32])

    @property
    def groups(self) -> np.ndarray:
        """(R,), the task id of each retrieval batch, all tasks' where one serves all."""
        return self.task_ids if self.pooled else np.repeat(self.task_ids, self.blocks)

    @property
    def places(self) -> np.ndarray:
        """(R, environments): which read each retrieval batch."""
        rows = np.arange(len(self.tasks) * self.each)
        if not self.pooled:
            return rows.reshape(len(self.tasks) * self.blocks, -1)
        return rows.reshape(len(self.tasks), self.blocks, -1).swapaxes(0, 1).reshape(self.blocks, -1)

    def environments(self) -> VectorEnv:
        """Those that are played, those of one task in a row."""
        return make_vector(self.settings, [task for task in self.tasks for _ in range(self.each)])

    def starts(self) -> np.ndarray:
        """(G, environments of a task, ...), the observations with which episodes start."""
        x = self.environments().reset(self.seeds[:, : self.each].ravel())
        return x.reshape(len(self.tasks), self.each, *x.shape[1:])

    def policy(self, network: ValueNetwork, retrieved: Summaries | None) -> Policy:
        """A network at play, with its retrieval batches in the order of `groups`."""
        ids = np.repeat(self.task_ids, self.each)
        epsilons = np.full(len(ids), self.settings.evaluation.epsilon)
        policy = Policy(network, epsilons, self.of_exploration, ids, None if retrieved is None else self.places)
        policy.retrieved = retrieved
        return policy

    def play(self, act: Any, *, watch: Callable[[VectorEnv], Watch] | None = None) -> Episodes:
        """The episodes (G * E), those of one task in a row.

        Args:
          act: what plays, for example `policy(...)`.
          watch: given the environments, what looks at every step.
        """
        envs = self.environments()
        if self.each < self.seeds.shape[1] and len(self.tasks) > 1:
            raise ValueError("episodes of several tasks are played all at once")
        return roll_out(envs, act, self.seeds.ravel(), watch=None if watch is None else watch(envs))

    def rows(self, episodes: Episodes) -> list[dict[str, Any]]:
        """Rows of evaluations.csv, one for each task."""
        returns = episodes.returns.reshape(len(self.tasks), -1)
        success = successes(spec_of(self.settings.environment), self.tasks, episodes)
        more = means_by_task(episodes.measured, len(self.tasks))
        return [evaluation_row(task, returns[g], success[g]) | more[g] for g, task in enumerate(self.tasks)]


def successes(spec: EnvSpec, tasks: Sequence[str], episodes: Episodes) -> np.ndarray:
    """(G, E) bool, which of the episodes of tasks in a row count as a success."""
    each = len(episodes.returns) // len(tasks)
    parts = [slice(g * each, (g + 1) * each) for g in range(len(tasks))]
    function = rewarded_at_the_end if spec.success is None else load(spec.success)
    return np.stack(
        [
            function(task, episodes.returns[part], episodes.last_rewards[part])
            for task, part in zip(tasks, parts, strict=True)
        ]
    )


def means_by_task(measured: Mapping[str, np.ndarray], tasks: int) -> list[dict[str, float]]:
    """What was measured of episodes (E,), those of one task in a row: its mean for each task, by name."""
    return [
        {name: float(values.reshape(tasks, -1)[g].mean()) for name, values in measured.items()} for g in range(tasks)
    ]


def rewarded_at_the_end(task: str, returns: np.ndarray, last_rewards: np.ndarray) -> np.ndarray:
    """A success is an episode whose last step was rewarded."""
    return last_rewards > 0


def evaluation_row(task: str, returns: np.ndarray, success: np.ndarray) -> dict[str, Any]:
    """A row of evaluations.csv, from returns and successes (E,)."""
    return {
        "task": task,
        "episodes": len(returns),
        "return_mean": float(returns.mean()),
        "return_std": float(returns.std(ddof=1)) if len(returns) > 1 else 0.0,
        "success_rate": float(success.mean()),
    }


def retrieval_blocks(episodes: int, most: int) -> int:
    """Over how many retrieval batches so many episodes are spread evenly: at most the setting `retrieval_batches`."""
    return max(n for n in range(1, most + 1) if episodes % n == 0)
