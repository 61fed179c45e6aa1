"""Learning by episodic control: plays, stores what it played when an episode ends, and as NEC learns its keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import faiss
import numpy as np

from rarl.agents.episodic import MFEC, NEC, EpisodicAgent, Looked
from rarl.agents.episodic_memory import HASH_BYTES
from rarl.agents.exploration import explore, falling_epsilon
from rarl.config.scale import Run
from rarl.envs.spec import make_vector
from rarl.errors import RunFailedError, required
from rarl.learners.playing import Playing
from rarl.replay.codec import codec_of
from rarl.replay.frame_replay import FrameReplay
from rarl.rollouts.evaluation import Evaluation
from rarl.rollouts.roll_out import Memoryless

_TIES = 4  # stream of the random numbers that choose, in evaluations, between actions of equal value


@dataclass
class _Episode:
    """What is kept of an episode on its way, step by step."""

    keys: list[np.ndarray] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=list)
    actions: list[int] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def state_dict(self, d_key: int) -> dict[str, np.ndarray]:
        return {
            "keys": np.array(self.keys, dtype=np.float32).reshape(-1, d_key),
            "hashes": np.frombuffer(b"".join(self.hashes), dtype=np.uint8).reshape(-1, HASH_BYTES),
            "actions": np.array(self.actions, dtype=np.int64),
            "rewards": np.array(self.rewards, dtype=np.float64),
            "values": np.array(self.values, dtype=np.float64),
        }

    @classmethod
    def of(cls, state: Mapping[str, np.ndarray]) -> _Episode:
        """The inverse of `state_dict`."""
        hashes = [row.tobytes() for row in state["hashes"]]
        return cls(list(state["keys"]), hashes, *(state[name].tolist() for name in ("actions", "rewards", "values")))


class EpisodicLearner:
    """One update is `steps_per_update` steps of every actor of the run's one task or, where a run says nothing of
    actors, `episodes_per_update` episodes of every task, all at once.

    Where an episode terminated, nothing comes after it; where it was cut off, NEC's returns bootstrap from the state
    after the last step. MFEC's count the rewards of the episode. Rewards are not clipped.

    Of the settings `learning` it heeds discount and, as NEC, learning_rate and batch_states.

    Args:
      run: the settings.
      device: where NEC's network is; memories are on the CPU.
    """

    def __init__(self, run: Run, device: str):
        s = self.settings = run.settings
        self.episodic = required(s.episodic, "episodic")
        faiss.omp_set_num_threads(s.threads)
        self.rng = np.random.default_rng([s.seed, 1])
        each = s.online.actors if s.online else self.episodic.episodes_per_update
        self._tasks = np.repeat(np.arange(len(run.tasks)), each)
        envs = make_vector(s, [run.tasks[task] for task in self._tasks], s.seed)
        self.codec = codec_of(s, envs)
        self.playing = Playing(envs)
        x, n_actions = self.playing.x, len(envs.actions)
        shape = (s, n_actions, len(run.tasks))
        self.agent: EpisodicAgent = NEC(*shape, device) if s.agent.base == "nec" else MFEC(*shape, x[0].size)
        self.replay: FrameReplay | None = None
        if s.agent.base == "nec":
            compression = s.online.compression if s.online else 0
            self.replay = FrameReplay(self.episodic.replay, self._tasks, self.codec, compression)
        self._episodes = [_Episode() for _ in self._tasks]
        self.steps = 0  # in the environments
        self.learned = 0  # steps of RMSprop
        self._losses: list[float] = []  # of this update

    def facts(self) -> dict[str, Any]:
        """For the record of a run: the actions that the environment accepts, in the order of their numbers."""
        return {"actions": list(self.playing.envs.actions)}

    # --- playing and learning -----------------------------------------------------------------------------------------

    def update(self) -> Mapping[str, float]:
        """Play, and store what has ended."""
        returns: list[float] = []
        lengths: list[int] = []
        matches, steps = 0, 0
        online = self.settings.online
        while (len(returns) < len(self._tasks)) if online is None else (steps < online.steps_per_update):
            matches += self._play(returns, lengths)
            steps += 1
        scalars = self._scalars(returns, matches, sum(lengths))
        return scalars | ({"actor_steps": float(np.mean(lengths))} if lengths else {})

    def _play(self, returns: list[float], lengths: list[int]) -> int:
        """One step of every actor; how many state-action pairs of the episodes that ended were there already.

        returns, lengths: those of the episodes that end are added.
        """
        x = self.codec.alone(self.playing.x)
        actions, looked = self._act(x)
        if self.replay is not None:
            self.replay.see(self.codec.newest(x))
        played = self.playing.step(actions)
        values, rewards = looked.value, played.step.rewards
        for actor, episode in enumerate(self._episodes):
            episode.keys.append(looked.keys[actor])
            episode.hashes.append(looked.hashes[actor])
            episode.actions.append(int(actions[actor]))
            episode.rewards.append(float(rewards[actor]))
            episode.values.append(float(values[actor]))
        matches = 0
        if len(played.ended):
            ended = played.ended
            after = self.agent.look(self.codec.alone(played.step.observations[ended]), self._tasks[ended]).value
            after = np.where(played.step.terminated[ended], 0.0, after)
            for actor, value in zip(ended.tolist(), after.tolist(), strict=True):
                matches += self._store(actor, value)
        returns += played.returns
        lengths += played.lengths
        self._stepped(len(x))
        return matches

    def _store(self, actor: int, value: float) -> int:
        """Store an actor's episode, after which `value` comes; how many state-action pairs were there already."""
        episode, self._episodes[actor] = self._episodes[actor], _Episode()
        rewards, values = np.array(episode.rewards), np.array([*episode.values, value])
        returns = self.agent.returns(rewards, values, self.settings.learning.discount).astype(np.float32)
        actions = np.array(episode.actions)
        tasks = np.full(len(actions), self._tasks[actor])
        matches = self.agent.write(tasks, actions, episode.hashes, np.stack(episode.keys), returns)
        if self.replay is not None:
            self.replay.end(actor, actions, returns)
        return matches

    @property
    def epsilon(self) -> float:
        """Of exploration, now."""
        s = self.episodic
        return falling_epsilon(self.steps, s.epsilon_from_steps, s.epsilon_to_steps, s.epsilon)

    def _act(self, x: np.ndarray) -> tuple[np.ndarray, Looked]:
        """Actions (n,) in the actors' states x (n, ...), and what was found about them."""
        looked = self.agent.look(x, self._tasks)
        return explore(looked.best(self.rng), self.agent.n_actions, self.epsilon, self.rng), looked

    def _stepped(self, n: int) -> None:
        """n steps were played: NEC learns as often as is due. It waits for the first episodes to end."""
        s, learning = self.episodic, self.settings.learning
        before, self.steps = self.steps, self.steps + n
        if self.replay is None or not isinstance(self.agent, NEC) or not len(self.replay):
            return
        due, were_due = (max(steps - s.learn_from_steps, 0) // s.learn_every_steps for steps in (self.steps, before))
        for _ in range(due - were_due):
            batch = self.replay.sample(learning.batch_states, self.rng)
            loss = self.agent.learn(*batch, learning.learning_rate)
            self.learned += 1
            if not np.isfinite(loss):
                raise RunFailedError(f"learner step {self.learned}: the loss is {loss}")
            self._losses.append(loss)

    def _scalars(self, returns: list[float], matches: int, written: int) -> dict[str, float]:
        """What to log of an update.

        returns: of the episodes that ended in it. written: state-action pairs. matches: those that were there already.
        """
        scalars = {"epsilon": self.epsilon, "memory_entries": float(len(self.agent))}
        if returns:
            scalars |= {"actor_return": float(np.mean(returns)), "exact_matches": matches / written}
        if self._losses:
            scalars["loss"] = float(np.mean(self._losses))
            self._losses = []
        return scalars

    # --- evaluation ---------------------------------------------------------------------------------------------------

    def evaluate(self) -> list[dict[str, Any]]:
        """As of the agents with Q-networks, from the same starts; see `ValueLearner.evaluate`."""
        evaluation, s = Evaluation.of(self.settings), self.settings.evaluation
        of_ties = np.random.default_rng([self.settings.seed, s.board_seed, _TIES])
        tasks, of_exploration = np.repeat(evaluation.task_ids, evaluation.each), evaluation.of_exploration

        def act(x: np.ndarray) -> np.ndarray:
            looked = self.agent.look(self.codec.alone(x), tasks, use=False)
            return explore(looked.best(of_ties), self.agent.n_actions, s.epsilon, of_exploration)

        return evaluation.rows(evaluation.play(Memoryless(act)))

    # --- state --------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything, environments and unfinished episodes too; torch's global generator is the loop's."""
        return {
            "agent": self.agent.state_dict(),
            "replay": None if self.replay is None else self.replay.state_dict(),
            "rng": self.rng.bit_generator.state,
            "steps": self.steps,
            "learned": self.learned,
            "playing": self.playing.state_dict(),
            "episodes": [episode.state_dict(self.agent.d_key) for episode in self._episodes],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.agent.load_state_dict(state["agent"])
        if self.replay is not None:
            self.replay.load_state_dict(state["replay"])
        self.rng.bit_generator.state = state["rng"]
        self.steps, self.learned = state["steps"], state["learned"]
        self.playing.load_state_dict(state["playing"])
        self._episodes = [_Episode.of(episode) for episode in state["episodes"]]

    def final_state_dict(self) -> dict[str, Any]:
        """What the published checkpoint holds: all that is needed to play."""
        return {"agent": self.agent.final_state_dict()}

    def parameter_counts(self) -> dict[str, int]:
        return self.agent.parameter_counts()
