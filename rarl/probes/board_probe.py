"""Looking into a trained retrieval agent on Gridroboman: what it attends to, and what happens when that changes.

Interventions on the retrieval dataset at evaluation, with everything else as trained: *own* (as trained), *removed*
(slots read nothing), *shuffled* (states exchanged between the trajectories of a batch, at each step), *truncated-n* (a
dataset of n trajectories), *cut-t* (the first t steps of each trajectory), *swapped* (another task's dataset), and the
reward of the given task on those same episodes (*swapped-given*): an agent that takes its task from the dataset does
the given one.

Of a run with held-out tasks, which were not learned: *held-out* (the task's own dataset), *held-out-removed* (nothing
is read), *held-out-swapped* (the dataset of a learned task).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from rarl.agents.memory import RetrievalBatch
from rarl.config.scale import Run, Scale
from rarl.envs.gridroboman.tasks import ACTIONS, Task, task_named
from rarl.envs.gridroboman.vector import VectorGridroboman
from rarl.envs.vector import Step
from rarl.errors import RarlError
from rarl.probes.trained import Candidate, DatasetProbe, shuffled
from rarl.rollouts.evaluation import Evaluation
from rarl.rollouts.roll_out import Episodes, Watch

EPISODES = 20  # per task and intervention
STREAM = 1  # of the start states
SWAP_EPISODES = 4  # per pair of tasks
TRUNCATED = (32, 16, 8, 4, 2, 1)  # trajectories
CUT = (25, 10, 5, 1)  # steps
READINGS = 40  # retrieval batches per task, from which it is told whether z names the task
GALLERY_RULE = (
    "The tasks at the lower quartile, the median and the upper quartile of this run's mean returns; "
    "of each, the episode of median return among those evaluated."
)


class BoardProbe(DatasetProbe):
    """Measurements on one run of an agent that retrieves."""

    gallery_rule = GALLERY_RULE

    def __init__(self, scale: Scale, run: Run):
        if not run.retrieves:
            raise RarlError(f"{run.id}: agent {run.settings.agent.kind!r} retrieves nothing; there is nothing to probe")
        names = [*run.tasks, *run.settings.held_out]
        self.tasks = [task_named(name) for name in names]
        self.learned = len(run.tasks)  # the tasks that come first
        super().__init__(scale, run, names, len(ACTIONS), stream=1)

    def evaluation(self, episodes: int, tasks: np.ndarray | None = None, blocks: int | None = None) -> Evaluation:
        """Episodes of tasks (n,), those that are learned by default, from starts that no evaluation of a run has."""
        tasks = np.arange(self.learned) if tasks is None else tasks
        names = [self.names[task] for task in tasks]
        return Evaluation.of(
            self.run.settings, tasks=names, task_ids=tasks, episodes=episodes, stream=STREAM, blocks=blocks
        )

    def play(
        self,
        evaluation: Evaluation,
        batch: RetrievalBatch | None,
        *,
        keep: bool = False,
        watch: Callable[[VectorGridroboman], Watch] | None = None,
    ) -> Episodes:
        """The episodes of an evaluation with the given retrieval batches."""
        retrieved = None if batch is None else batch.summarise(self.network)
        return evaluation.play(evaluation.policy(self.network, retrieved), keep=keep, watch=watch)

    def interventions(self) -> list[dict[str, Any]]:
        """Rows of interventions.csv."""
        learned, held_out = np.split(np.arange(len(self.tasks)), [self.learned])
        draws = {"own": {}, "removed": None, "shuffled": {}}
        draws |= {f"truncated-{n}": {"n_traj": n} for n in TRUNCATED if n < self.memory.settings.n_traj}
        draws |= {f"cut-{t}": {"first_steps": t} for t in CUT}
        rows = self._on_own_data(learned, draws)
        rows += self._on_others_data(learned, learned, "swapped", "swapped-given")
        if len(held_out):
            rows += self._on_own_data(held_out, {"held-out": {}, "held-out-removed": None})
            rows += self._on_others_data(held_out, learned, "held-out-swapped")
        return rows

    def _on_own_data(
        self, tasks: np.ndarray, interventions: Mapping[str, Mapping[str, int] | None]
    ) -> list[dict[str, Any]]:
        """Rows of the tasks (n,), all on the same boards; by intervention: how batches are drawn, None: no batch."""
        evaluation, rows = self.evaluation(EPISODES, tasks), []
        for intervention, draw in interventions.items():
            batch = None if draw is None else self.memory.draw(evaluation.groups, self.rng, **draw)
            if intervention == "shuffled":
                batch = shuffled(batch, self.rng)
            returns = self.play(evaluation, batch).returns.reshape(len(tasks), -1)
            names = [self.names[task] for task in tasks]
            rows += [self.intervention_row(intervention, name, name, r) for name, r in zip(names, returns, strict=True)]
        return rows

    def _on_others_data(
        self, tasks: np.ndarray, others: np.ndarray, asked: str, given_too: str | None = None
    ) -> list[dict[str, Any]]:
        """Rows of all pairs of a task (n,) and another (m,) whose dataset is given.

        asked, given_too: the interventions' names, for the reward of the task and, on the same episodes, of the other.
        """
        done, given = (grid.ravel() for grid in np.meshgrid(tasks, others, indexing="ij"))
        done, given = done[done != given], given[done != given]
        rows = []
        for part in np.array_split(np.arange(len(done)), max(len(done) // 150, 1)):
            batch = self.memory.sample(done[part], self.rng, given=given[part])
            others_tasks = [self.tasks[i] for i in given[part] for _ in range(SWAP_EPISODES)]
            of_given = np.zeros(len(others_tasks))

            def watch(envs: VectorGridroboman, tasks: list[Task] = others_tasks, total: np.ndarray = of_given) -> Watch:
                def add(playing: np.ndarray, step: Step) -> None:
                    total[playing] += envs.rewards_of(tasks)[playing]

                return add

            evaluation = self.evaluation(SWAP_EPISODES, done[part], blocks=1)
            returns = self.play(evaluation, batch, watch=watch).returns.reshape(len(part), -1)
            of_given = of_given.reshape(len(part), -1)
            for row, pair in enumerate(part):
                names = self.names[done[pair]], self.names[given[pair]]
                rows.append(self.intervention_row(asked, *names, returns[row]))
                if given_too:
                    rows.append(self.intervention_row(given_too, *names, of_given[row]))
        return rows

    @torch.no_grad()
    def attention(self) -> list[dict[str, Any]]:
        """Rows of attention.csv: where attention goes, from the states of the task's own greedy episodes."""
        n = self.learned
        batch = self.memory.sample(np.arange(n), self.rng)
        episodes = self.play(self.evaluation(8, blocks=1), batch, keep=True)
        # Every fifth step of the episodes asks; told tasks are the groups' own.
        asking = episodes.observations[:, 0:50:5].reshape(n, -1, episodes.observations.shape[-1])
        told = torch.arange(n)[:, None].expand(n, asking.shape[1])
        _, step = self.network(torch.from_numpy(np.ascontiguousarray(asking)), told, batch.summarise(self.network))
        named = self.task_in_z()
        rows = []
        for i, task in enumerate(self.tasks[:n]):
            alpha = step.alpha[i].numpy()  # (B, n_f, N)
            goal = batch.r[i].flatten().numpy() > 0
            entropy = -(alpha * np.log(np.where(alpha > 0, alpha, 1))).sum(-1)
            quantities = {
                "goal_state_mass": alpha[..., goal].sum(-1).mean(),
                "goal_state_share": goal.mean(),
                "entropy": entropy.mean(),
                "effective_states": np.exp(entropy).mean(),
                "kl": step.kl[i].mean().item(),
                "task_named": named[i],
            }
            rows += [{"task": task.name, "quantity": name, "value": float(v)} for name, v in quantities.items()]
        return rows

    @torch.no_grad()
    def task_in_z(self) -> np.ndarray:
        """(tasks,): how often a linear rule tells the task from z alone, on retrieval batches not seen before.

        z is averaged over the same states for all tasks, so that nothing but the retrieval batch differs. The rule
        (linear discriminants: the nearest task mean, in units of the spread within tasks) is made from three quarters
        of the batches.
        """
        n = self.learned
        starts = self.evaluation(1, blocks=1).starts()[:, 0]
        states = torch.from_numpy(starts)[None].expand(n, n, -1)
        told = torch.arange(n)[:, None].expand(n, n)
        z = []
        for _ in range(READINGS):
            retrieved = self.memory.sample(np.arange(n), self.rng).summarise(self.network)
            z.append(self.network(states, told, retrieved)[1].z.mean(1).flatten(1).double().numpy())
        known, new = np.split(np.stack(z), [3 * READINGS // 4])  # (readings, tasks, n_f * d_m)
        means = known.mean(0)
        spread = (known - means).reshape(-1, means.shape[1])
        within = spread.T @ spread / len(spread)
        whiten = np.linalg.cholesky(np.linalg.inv(within + (1e-6 * np.trace(within) + 1e-12) * np.eye(len(within))))
        distance = ((new @ whiten)[:, :, None] - means @ whiten) ** 2
        return (distance.sum(-1).argmin(-1) == np.arange(n)).mean(0)

    @torch.no_grad()
    def gallery(self) -> dict[str, Any]:
        """The content of gallery.json."""
        n, each = self.learned, 9
        batch, evaluation = self.batch_to_show(each)
        summaries = batch.summarise(self.network)
        episodes = self.play(evaluation, batch, keep=True)
        returns = episodes.returns.reshape(n, each)
        order = np.argsort(returns.mean(axis=1), kind="stable")
        shown = []
        for position in (n // 4, n // 2, (3 * n) // 4):
            i = int(order[position])
            chosen = i * each + int(np.argsort(returns[i], kind="stable")[each // 2])
            x = torch.from_numpy(episodes.observations[chosen, :-1])[None]
            one = type(summaries)(*(None if part is None else part[i : i + 1] for part in summaries))
            _, step = self.network(x, torch.full(x.shape[:2], i), one)
            weights = step.alpha[0].mean(1).numpy()  # over slots: (50, N)
            shown.append(self._episode(i, chosen, episodes, batch, weights))
        return {"run": self.run.id, "rule": self.gallery_rule, "episodes": shown}

    def batch_to_show(self, each: int) -> tuple[RetrievalBatch, Evaluation]:
        """Retrieval batches of all tasks for the gallery, and its episodes, `each` of a task."""
        return self.memory.sample(np.arange(self.learned), self.rng), self.evaluation(each, blocks=1)

    def _state(self, batch: RetrievalBatch, candidate: Candidate) -> dict[str, Any]:
        return {"observation": batch.x[candidate.group, candidate.trajectory, candidate.look].tolist()}

    def _episode(
        self, i: int, chosen: int, episodes: Episodes, batch: RetrievalBatch, weights: np.ndarray
    ) -> dict[str, Any]:
        steps = [
            {
                "t": t,
                "observation": episodes.observations[chosen, t].tolist(),
                "action": int(episodes.actions[chosen, t]),
                "reward": float(episodes.rewards[chosen, t]),
                "retrieved": self.retrieved(i, alpha, batch),
            }
            for t, alpha in enumerate(weights)
        ]
        return {
            "task": self.tasks[i].name,
            "return": float(episodes.returns[chosen]),
            "board_seed": self.run.settings.evaluation.board_seed,
            "steps": steps,
            "final_observation": episodes.observations[chosen, -1].tolist(),
        }
