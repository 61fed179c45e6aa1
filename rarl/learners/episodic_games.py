"""Online learning of one Atari game by episodic control."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rarl.agents.episodic_memory import HASH_BYTES
from rarl.agents.exploration import explore
from rarl.config.scale import Run
from rarl.envs.atari.episodes import Act
from rarl.envs.atari.observation import EXTRA_BYTES, newest_frame, packed_size
from rarl.envs.atari.scores import reaches_human
from rarl.learners.episodic import EpisodicLearner
from rarl.learners.playing import Playing
from rarl.replay.frame_replay import FrameReplay
from rarl.rollouts.games import environments, evaluation_episodes
from rarl.rollouts.rows import evaluation_rows

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


def frames_alone(x: np.ndarray) -> np.ndarray:
    """x (n, bytes) without last actions and rewards, which the papers' agents do not see; changed in place."""
    x[:, -EXTRA_BYTES:] = 0
    return x


class GameEpisodicLearner(EpisodicLearner):
    """One update is `steps_per_update` steps of every actor; episodes are stored when they end.

    Where an episode terminated, nothing comes after it; where it was cut off, NEC's returns bootstrap from the state
    after the last step. Rewards are not clipped.

    Args:
      run: the settings.
      device: where NEC's network is.
    """

    def __init__(self, run: Run, device: str):
        s, online = run.settings, run.settings.online
        self.game = run.tasks[0]
        envs = environments(self.game, online.actors, online, s.seed)
        super().__init__(run, device, envs.num_actions, packed_size(s.agent.stack))
        self.playing = Playing(envs, s.agent.stack)
        self._tasks = np.zeros(online.actors, dtype=np.int64)
        self._episodes = [_Episode() for _ in range(online.actors)]
        if s.agent.kind == "nec":
            self.replay = FrameReplay(s.episodic.replay, online.actors, s.agent.stack, online.compression)

    def facts(self) -> dict[str, Any]:
        """For the record of a run: the actions that the emulator accepts, in the order of their numbers."""
        return {"actions": list(self.playing.envs.actions)}

    def update(self) -> Mapping[str, float]:
        """Play, and store what has ended."""
        returns: list[float] = []
        lengths: list[int] = []
        matches = 0
        for _ in range(self.settings.online.steps_per_update):
            x = frames_alone(self.playing.x)
            actions, looked = self._act(x, self._tasks)
            if self.replay is not None:
                self.replay.see(newest_frame(x))
            played = self.playing.step(actions)
            values, rewards = looked.value, played.step.rewards
            for actor, episode in enumerate(self._episodes):
                episode.keys.append(looked.keys[actor])
                episode.hashes.append(looked.hashes[actor])
                episode.actions.append(int(actions[actor]))
                episode.rewards.append(float(rewards[actor]))
                episode.values.append(float(values[actor]))
            if len(played.ended):
                after = self.agent.look(frames_alone(played.last_x), self._tasks[played.ended]).value
                after = np.where(played.step.truncated[played.ended], after, 0.0)
                for actor, value in zip(played.ended.tolist(), after.tolist(), strict=True):
                    matches += self._store(actor, value)
            returns += played.returns
            lengths += played.lengths
            self._stepped(len(x))
        scalars = self._scalars(returns, matches, sum(lengths))
        return scalars | ({"actor_steps": float(np.mean(lengths))} if lengths else {})

    def _store(self, actor: int, value: float) -> int:
        """Store an actor's episode, after which `value` comes; how many state-action pairs were there already."""
        episode, self._episodes[actor] = self._episodes[actor], _Episode()
        rewards, values = np.array(episode.rewards), np.array([*episode.values, value])
        returns = self.agent.returns(rewards, values, self.settings.learning.discount).astype(np.float32)
        actions = np.array(episode.actions)
        tasks = np.zeros(len(actions), dtype=np.int64)
        matches = self.agent.write(tasks, actions, episode.hashes, np.stack(episode.keys), returns)
        if self.replay is not None:
            self.replay.end(actor, actions, returns)
        return matches

    def evaluate(self) -> list[dict[str, Any]]:
        """Whole episodes from the starts from which all agents of this seed are evaluated; see `GameLearner`."""

        s = self.settings.evaluation
        of_ties = np.random.default_rng([self.settings.seed, s.board_seed, _TIES])

        def agent(n: int, rng: np.random.Generator) -> Act:
            def act(x: np.ndarray, first: np.ndarray, playing: np.ndarray) -> np.ndarray:
                looked = self.agent.look(frames_alone(x), np.zeros(n, dtype=np.int64), use=False)
                return explore(looked.best(of_ties), self.agent.n_actions, s.epsilon, rng)

            return act

        episodes = evaluation_episodes(self.settings, agent)
        success = reaches_human(self.game, episodes.returns)
        return evaluation_rows([self.game], episodes.returns[None], success[None])

    # --- state --------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything, emulators and unfinished episodes too."""
        return super().state_dict() | {
            "playing": self.playing.state_dict(),
            "episodes": [episode.state_dict(self.agent.d_key) for episode in self._episodes],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.playing.load_state_dict(state["playing"])
        self._episodes = [_Episode.of(episode) for episode in state["episodes"]]
