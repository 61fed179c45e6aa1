"""What is measured of a trained agent in any environment: what it retrieves, and what happens when that changes.

Interventions on the retrieval batches at evaluation, with everything else as trained: *own* (as trained), *removed*
(nothing is read), *shuffled* (states exchanged between the trajectories of a batch, at each step), *reordered* (each
trajectory's steps in random order), *exchanged-by-reward* (all states among those of the same reward), *z-mean* (what
is read is the same at every step: its mean over the episodes that read this batch) and, where the environment asks for
it, *truncated-n* (n trajectories), *cut-t* (the first t steps of each) and *given-n* (see `experience`). Of several
tasks: *swapped* (the dataset of another) and, where the environment can tell, *swapped-given* (the reward of the
dataset's task on those same episodes: an agent that takes its task from the dataset does that one); or, where one batch
serves all tasks, *others* (the task's own trajectories are masked out).

Beside them, a control that learns nothing, *retrieve-and-play*: the action of the nearest of the retrieved states, and
*retrieve-and-play-best*, of all states of the best quarter of the data.

Of a run with held-out tasks, which were not learned: *held-out* (the task's own dataset), *held-out-removed* (nothing
is read), *held-out-swapped* (the dataset of a learned task).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
import torch

from rarl.agents.memory import Memory, RetrievalBatch
from rarl.agents.value_rescaling import unrescale
from rarl.config.scale import Run, Scale
from rarl.envs.pictures import chosen_steps
from rarl.envs.probing import PLAIN, Probing
from rarl.envs.space import number_of_actions
from rarl.envs.spec import load, spec_of
from rarl.envs.vector import Step, VectorEnv
from rarl.errors import required
from rarl.nn.retrieval import Retriever, Summaries
from rarl.probes.copying import RetrieveAndPlay
from rarl.probes.experience import experiences
from rarl.probes.mean_z import Constant, MeanOfZ
from rarl.probes.recorder import AttentionRecorder, Moment, Recorded
from rarl.probes.trained import exchanged_by_reward, final_state, network_of, reordered, shuffled
from rarl.rollouts.evaluation import Evaluation, means_by_task, successes
from rarl.rollouts.roll_out import Episodes
from rarl.runs.device import choose_device
from rarl.runs.train import open_datasets

EXPERIENCES = 4  # per task and amount; its episodes are spread over them
BEST = 0.25  # of all episodes, by return, from which is copied
SWAP_EPISODES = 4  # per pair of tasks
PAIRS_AT_ONCE = 150
READINGS = 40  # retrieval batches per task, from which it is told whether z names the task


class PlayedAsTrained(NamedTuple):
    """The agent as trained: its episodes, what it retrieved from, and what was seen while it played."""

    episodes: Episodes
    batch: RetrievalBatch | None
    recorder: AttentionRecorder


class PlainProbe:
    """Measurements on one finished run, of an agent that retrieves or not.

    On a GPU, if there is one, of an agent that learned while it played: its episodes may be long.

    Attributes:
      names: of its tasks, in the order of their ids, held-out ones last.
      memory: what an agent retrieves from that learned from datasets; None: nothing, or a replay.
      evaluation: episodes of the learned tasks from starts that no evaluation of the run has; of an agent that learned
        while it played those of its last evaluation, with the retrieval batch of that.
    """

    blocks: int | None = None  # see `Evaluation`

    def __init__(self, scale: Scale, run: Run):
        s = run.settings
        torch.set_num_threads(s.threads)
        self.run, self.names, self.spec = run, [*run.tasks, *s.held_out], spec_of(s.environment)
        self.probing: Probing = PLAIN if self.spec.probing is None else load(self.spec.probing)
        self.device = choose_device() if s.online else "cpu"
        state = final_state(scale, run)
        self.network = network_of(run, state, number_of_actions(s)).to(self.device)
        self.memory: Memory | None = None
        self._replay: RetrievalBatch | None = None
        if s.online is None:
            self.memory = self._memory(scale)
        else:
            self._replay = RetrievalBatch.published(state["memory"])
        self.evaluation = self.evaluation_of(np.arange(len(run.tasks)))
        # No stream of start states ends like this (`Evaluation.of`); three numbers count as if task 0 came after them.
        self.rng = np.random.default_rng([s.seed, s.evaluation.board_seed, self.probing.stream, -1 % 2**32])

    def _memory(self, scale: Scale) -> Memory | None:
        return Memory.of(self.run, open_datasets(scale, self.run)) if self.run.retrieves else None

    def evaluation_of(
        self, tasks: np.ndarray, episodes: int | None = None, blocks: int | None = None, pooled: bool | None = None
    ) -> Evaluation:
        """Episodes of tasks (n,); options of `Evaluation.of` beside its defaults here."""
        s, probing = self.run.settings, self.probing
        if s.online is not None:
            return Evaluation.of(s)
        names, episodes, blocks = [self.names[i] for i in tasks], episodes or probing.episodes, blocks or self.blocks
        return Evaluation.of(
            s, tasks=names, task_ids=tasks, episodes=episodes, pooled=pooled, stream=probing.stream, blocks=blocks
        )

    def batches(self, evaluation: Evaluation) -> RetrievalBatch | None:
        """One for each of the evaluation's groups, as the agent retrieves; None: it retrieves nothing."""
        return self._replay if self.memory is None else self.drawn(evaluation)

    def drawn(self, evaluation: Evaluation, given: np.ndarray | None = None, **draw: int) -> RetrievalBatch:
        """The same from datasets, the groups' own or those that are `given`; draw: other arguments of `Memory.draw`."""
        memory, blocks = required(self.memory, "datasets"), evaluation.blocks if evaluation.pooled else 1
        drawn = [memory.draw(evaluation.groups, self.rng, given, **draw) for _ in range(blocks)]
        return drawn[0] if blocks == 1 else RetrievalBatch.joined(drawn)

    def play(
        self,
        evaluation: Evaluation,
        retrieved: RetrievalBatch | Summaries | None,
        watch: Callable[[VectorEnv], Callable[[np.ndarray, Step], None]] | None = None,
    ) -> Episodes:
        """The episodes of an evaluation with these retrieval batches; watch: as in `Evaluation.play`."""
        if isinstance(retrieved, RetrievalBatch):
            retrieved = retrieved.to(self.device).summarise(self.network)
        return evaluation.play(evaluation.policy(self.network, retrieved), watch=watch)

    @cached_property
    def played(self) -> PlayedAsTrained:
        """The agent as trained. Played once for all measurements, for episodes may be long."""
        evaluation, batch = self.evaluation, self.batches(self.evaluation)
        retrieved = None if batch is None else batch.to(self.device).summarise(self.network)
        tasks = np.repeat(np.arange(len(evaluation.tasks)), evaluation.each)
        knows = self.probing.related is not None and self.memory is not None
        related = partial(self._related, required(batch, "retrieval batch")) if knows else None
        recorder = AttentionRecorder(evaluation.policy(self.network, retrieved), self.probing, tasks, batch, related)
        return PlayedAsTrained(evaluation.play(recorder, watch=lambda envs: recorder.after), batch, recorder)

    def _related(self, batch: RetrievalBatch, context: np.ndarray, group: int) -> np.ndarray:
        """(n_traj,) bool: which trajectories of a group's batch are about something that an episode is about."""
        places, related = zip(batch.given[group], batch.episodes[group], strict=True), self.probing.related
        return required(related, "probing.related")(context, np.stack([self._context(*place) for place in places]))

    def _context(self, source: int, episode: int) -> np.ndarray:
        """What was told about an episode of a dataset."""
        extras = required(self.memory, "datasets").samplers[source].dataset.extras
        return extras[required(self.spec.context, "context")][episode]

    # --- interventions ------------------------------------------------------------------------------------------------

    def interventions(self) -> list[dict[str, Any]]:
        """Rows of interventions.csv; the same start states for all of a task."""
        evaluation, (episodes, batch, _) = self.evaluation, self.played
        rows = self.rows("own", evaluation, episodes)
        if batch is None:
            return rows
        return rows + self._changed() + self._understood() + self._experienced()

    def _changed(self) -> list[dict[str, Any]]:
        """What if it retrieved something else?"""
        evaluation = self.evaluation
        rows = self.rows("removed", evaluation, self.play(evaluation, None))
        batch = required(self.batches(evaluation), "retrieval batch")
        rows += self.rows("shuffled", evaluation, self.play(evaluation, shuffled(batch, self.rng)))
        if self.memory is None:
            return rows
        learned, held_out = np.split(np.arange(len(self.names)), [len(self.run.tasks)])
        if self.memory.pooled and len(learned) > 1:
            apart = self.evaluation_of(learned, blocks=1, pooled=False)
            rows += self.rows("others", apart, self.play(apart, self._of_others()))
        amounts = {f"truncated-{n}": {"n_traj": n} for n in self.probing.truncated if n < self.memory.settings.n_traj}
        amounts |= {f"cut-{t}": {"first_steps": t} for t in self.probing.cut}
        for name, draw in amounts.items():
            rows += self.rows(name, evaluation, self.play(evaluation, self.drawn(evaluation, None, **draw)))
        if self.memory.pooled:
            return rows
        rows += self._swapped(learned, learned, "swapped", "swapped-given")
        if len(held_out):
            evaluation = self.evaluation_of(held_out)
            rows += self.rows("held-out", evaluation, self.play(evaluation, self.batches(evaluation)))
            rows += self.rows("held-out-removed", evaluation, self.play(evaluation, None))
            rows += self._swapped(held_out, learned, "held-out-swapped")
        return rows

    def _understood(self) -> list[dict[str, Any]]:
        """What does retrieval tell, and is more done with it than copied?"""
        evaluation = self.evaluation
        batch = required(self.batches(evaluation), "retrieval batch")
        rows = self.rows("z-mean", evaluation, self._with_mean_z(batch))
        if self.memory is None:
            return rows
        for name, change in (("reordered", reordered), ("exchanged-by-reward", exchanged_by_reward)):
            rows += self.rows(name, evaluation, self.play(evaluation, change(batch, self.rng)))
        return rows + self._copied(batch)

    def _experienced(self) -> list[dict[str, Any]]:
        """What if it was given other experience? The same start states and seeds of draws for all; see `experience`."""
        memory, rows = self.memory, []
        if memory is None or memory.pooled or not self.probing.experience:
            return []
        evaluation = self.evaluation_of(np.arange(len(self.run.tasks)), blocks=EXPERIENCES)
        for name, given, n in experiences(memory, self.probing.experience):
            rng = np.random.default_rng([self.run.settings.seed, self.probing.stream, n])
            batch = given.draw(evaluation.groups, rng, None, n_traj=n)
            rows += self.rows(name, evaluation, self.play(evaluation, batch))
        return rows

    def _with_mean_z(self, batch: RetrievalBatch) -> Episodes:
        """z is at every step what it was on average over all steps of the episodes that read the same batch."""
        evaluation, process = self.evaluation, self.network.process
        retrieved = batch.to(self.device).summarise(self.network)

        def watched() -> MeanOfZ:
            return MeanOfZ(evaluation.policy(self.network, retrieved), evaluation.places)

        mean = watched()
        evaluation.play(mean)
        self._retriever.process = Constant(process, mean.z)
        try:
            return evaluation.play(watched())
        finally:
            self._retriever.process = process

    @property
    def _retriever(self) -> Retriever:
        return required(self.network.retriever, "retriever")

    def _copied(self, batch: RetrievalBatch) -> list[dict[str, Any]]:
        """The control that learns nothing, from what the agent retrieves and from the best of all data."""
        evaluation, memory = self.evaluation, required(self.memory, "datasets")
        features, told = self.probing.features, self.spec.context
        of_batch = RetrieveAndPlay.of_batch(batch, evaluation.places, features, told is not None)
        rows = self.rows("retrieve-and-play", evaluation, evaluation.play(of_batch))
        if evaluation.pooled:
            return rows
        datasets = [memory.samplers[task].dataset for task in evaluation.groups]
        of_best = RetrieveAndPlay.of_best(datasets, BEST, evaluation.places, features, told)
        return rows + self.rows("retrieve-and-play-best", evaluation, evaluation.play(of_best))

    def rows(
        self, intervention: str, evaluation: Evaluation, episodes: Episodes, given: Sequence[str] | None = None
    ) -> list[dict[str, Any]]:
        """A row for each task; given: whose dataset each had, None: its own."""
        n, more = len(evaluation.tasks), dict(episodes.measured)
        if self.spec.success is not None or self.spec.score.column == "success_rate":  # else it means nothing
            more = more | {"success_rate": successes(self.spec, evaluation.tasks, episodes)}
        means = means_by_task({"return_mean": episodes.returns, **more}, n)
        return [
            {"intervention": intervention, "task": task, "given_task": other, "episodes": len(episodes.returns) // n}
            | means[i]
            for i, (task, other) in enumerate(zip(evaluation.tasks, given or evaluation.tasks, strict=True))
        ]

    def _of_others(self) -> Summaries:
        """A batch that serves all tasks, for each task without its own trajectories."""
        batch = required(self.memory, "datasets").sample(self.evaluation.task_ids, self.rng)
        whole, n = batch.summarise(self.network), len(self.evaluation.tasks)
        own = np.repeat(batch.given, batch.a.shape[-1], axis=1) == np.arange(n)[:, None]  # (tasks, N)
        mask = torch.ones(own.shape, dtype=torch.bool) if whole.mask is None else whole.mask.expand(n, -1)
        each = whole.map(lambda part: part.expand(n, *part.shape[1:]))
        return each._replace(mask=mask & ~torch.from_numpy(own))

    def _swapped(self, tasks: np.ndarray, others: np.ndarray, *names: str) -> list[dict[str, Any]]:
        """Rows of all pairs of a task (n,) and another (m,) whose dataset is given.

        names: of the interventions, for the reward of the task and, on the same episodes, of the other.
        """
        done, given = (grid.ravel() for grid in np.meshgrid(tasks, others, indexing="ij"))
        done, given = done[done != given], given[done != given]
        rows = []
        for part in np.array_split(np.arange(len(done)), max(len(done) // PAIRS_AT_ONCE, 1)) if len(done) else ():
            of_others = [self.names[task] for task in given[part]]
            evaluation = self.evaluation_of(done[part], episodes=SWAP_EPISODES, blocks=1)
            watched = len(names) > 1 and self.probing.rewards_in is not None
            last, total = np.zeros((2, len(part) * SWAP_EPISODES))  # rewards in the others, and their sums

            def watch(envs: VectorEnv, tasks=of_others, last=last, total=total) -> Callable[[np.ndarray, Step], None]:
                rewards_in = required(self.probing.rewards_in, "probing.rewards_in")
                rewards = rewards_in(envs, np.repeat(tasks, SWAP_EPISODES).tolist())

                def add(playing: np.ndarray, step: Step) -> None:
                    last[playing] = rewards()[playing]
                    total[playing] += last[playing]

                return add

            played = [self.play(evaluation, self.drawn(evaluation, given[part]), watch if watched else None)]
            if watched:
                played.append(replace(played[0], returns=total, last_rewards=last))
            found = [self.rows(name, evaluation, e, of_others) for name, e in zip(names, played, strict=False)]
            rows += [row for pair in zip(*found, strict=True) for row in pair]
        return rows

    # --- attention ----------------------------------------------------------------------------------------------------

    def attention(self) -> list[dict[str, Any]]:
        """Rows of attention.csv, means over the steps of each task's episodes as trained.

        effective_states: exp of the entropy of a slot's attention; kl: of z's posterior from its prior, in nats. What
        follows is a share of attention or a mean weighted by it, slots averaged, with the same of all candidates alike:
        rewarded_share, rewarded_candidates: states that positive reward followed; place_distance, place_candidates: how
        far, in steps, places in their episodes are from the place of the step that asks; other_share,
        other_candidates: trajectories of other tasks; related_share, related_candidates: trajectories that are about
        something that the episode is about, and related_there: the share of episodes whose batch holds one.
        task_named: see `task_in_z`.
        """
        recorder, tasks = self.played.recorder, self.evaluation.tasks
        apart = self.memory is not None and not self.memory.pooled and self.spec.context is None and len(tasks) > 1
        named = self.task_in_z() if apart else None
        rows = []
        for i, task in enumerate(tasks):
            values = {name: float(sums[i] / max(recorder.steps[i], 1)) for name, sums in recorder.sums.items()}
            there = [e.related.any() for e in recorder.episodes if e.task == i and e.related is not None]
            values |= {"related_there": float(np.mean(there))} if there else {}
            values |= {} if named is None else {"task_named": float(named[i])}
            rows += [{"task": task, "quantity": name, "value": values[name]} for name in sorted(values)]
        return rows or [{"task": task, "quantity": "none", "value": 0.0} for task in tasks]

    def task_in_z(self) -> np.ndarray:
        """(tasks,): how often a linear rule tells the task from z alone, on retrieval batches not seen before.

        z is averaged over the same states for all tasks, so that nothing but the retrieval batch differs. The rule
        (linear discriminants: the nearest task mean, in units of the spread within tasks) is made from three quarters
        of the batches.
        """
        tasks = self.evaluation.task_ids
        n = len(tasks)
        states = torch.from_numpy(self.evaluation_of(tasks, episodes=1, blocks=1).starts()[:, 0])
        states, context = states.expand(n, *states.shape), torch.from_numpy(tasks)[:, None].expand(n, n)
        z = []
        for _ in range(READINGS):
            retrieved = required(self.memory, "datasets").sample(tasks, self.rng).summarise(self.network)
            z.append(self.network(states, context, retrieved)[1].z.mean(1).flatten(1).double().numpy())
        known, new = np.split(np.stack(z), [3 * READINGS // 4])  # (readings, tasks, n_f * d_m)
        means = known.mean(0)
        spread = (known - means).reshape(-1, means.shape[1])
        within = spread.T @ spread / len(spread)
        whiten = np.linalg.cholesky(np.linalg.inv(within + (1e-6 * np.trace(within) + 1e-12) * np.eye(len(within))))
        distance = ((new @ whiten)[:, :, None] - means @ whiten) ** 2
        return (distance.sum(-1).argmin(-1) == np.arange(n)).mean(0)

    # --- gallery ------------------------------------------------------------------------------------------------------

    def gallery(self) -> dict[str, Any]:
        """The content of gallery.json."""
        order = np.argsort(self.played.episodes.returns, kind="stable")
        chosen = dict.fromkeys(int(order[(len(order) * q) // 4]) for q in self.probing.quartiles)
        return {"run": self.run.id, "rule": self.rule, "episodes": [self._episode(index) for index in chosen]}

    @property
    def rule(self) -> str:
        """Which episodes are shown."""
        return self.probing.rule

    def _episode(self, index: int) -> dict[str, Any]:
        episodes, recorded = self.played.episodes, self.played.recorder.episodes[index]
        shown, probing = recorded.shown, self.probing
        looks = {*chosen_steps([moment.reward for moment in shown]), *range(0, len(shown), probing.every)}
        described: set[int] = set()
        steps = []
        for i, moment in enumerate(shown):
            attended = {k: rounded for k, weight in moment.attended.items() if (rounded := round(weight, 5))}
            look = i in looks or not described.issuperset(attended)
            described |= attended.keys() if look else set()
            steps.append(self._step(moment, recorded, attended, look=look))
        episode = {
            "task": self.evaluation.tasks[recorded.task],
            "seed": int(self.evaluation.seeds.ravel()[index]),
            "return": float(episodes.returns[index]),
            "length": recorded.length,
            "actions": list(self.actions),
            "steps": steps,
        }
        if self.spec.score.column == "success_rate":
            episode["success"] = bool(successes(self.spec, self.evaluation.tasks, episodes).ravel()[index])
        if probing.about is not None:
            episode |= probing.about(required(episodes.context, "context")[index])
        if shown[-1].t + 1 == recorded.length:
            episode |= {f"final_{name}": value for name, value in probing.state(recorded.last).items()}
        return episode

    def _step(self, moment: Moment, recorded: Recorded, attended: Mapping[int, float], look: bool) -> dict[str, Any]:
        """A step; where nothing is described again, its candidates and their weights alone. q: in units of reward."""
        action, names = moment.action, self.actions if self.probing.named_actions else None
        q = unrescale(torch.from_numpy(moment.q).double(), self.run.settings.learning.rescale_epsilon)
        return {
            "t": moment.t,
            **self.probing.state(moment.x),
            "action": action if names is None else names[action],
            "reward": moment.reward,
            "q": [float(f"{value:.4g}") for value in q.tolist()],
            "retrieved": self.retrieved(recorded.group, attended) if look else [],
            **({} if look or not attended else {"attended": list(attended.items())}),
        }

    @cached_property
    def actions(self) -> Sequence[str]:
        """Names of the actions."""
        return self.evaluation.environments().actions

    def retrieved(self, group: int, attended: Mapping[int, float]) -> list[dict[str, Any]]:
        """What a gallery says of candidates and their weights. candidate: its number in the retrieval batch."""
        found: list[dict[str, Any]] = []
        for index, weight in attended.items():
            batch = required(self.played.batch, "retrieval batch")
            trajectory, look = divmod(index, batch.a.shape[-1])
            place = group, trajectory, look
            found.append(
                {
                    "weight": weight,
                    "candidate": index,
                    **self._source(batch, group, trajectory),
                    "step": int(batch.steps[place]),
                    "rewarded": bool(batch.r[place] > 0),
                    **self.probing.state(batch.x[place].numpy()),
                }
            )
            if self._replay is not None:
                reward = unrescale(batch.r[place].double(), self.run.settings.learning.rescale_epsilon)
                found[-1]["reward"] = round(float(reward), 3)
        return found

    def _source(self, batch: RetrievalBatch, group: int, trajectory: int) -> dict[str, Any]:
        """From where a trajectory is, if it is from a dataset."""
        if self.memory is None:
            return {}
        source, episode = int(batch.given[group, trajectory]), int(batch.episodes[group, trajectory])
        about = {} if self.probing.about is None else self.probing.about(self._context(source, episode))
        dataset = self.memory.samplers[source].dataset
        return {"task": self.names[source], "episode": episode, "return": float(dataset.returns[episode]), **about}
