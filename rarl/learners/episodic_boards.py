"""Online learning of Gridroboman's tasks by episodic control."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rarl.config.scale import Run
from rarl.envs.gridroboman.tasks import ACTIONS, EPISODE_STEPS, task_named
from rarl.envs.gridroboman.vector import OBSERVATION_SIZE, VectorGridroboman, random_boards
from rarl.learners.episodic import EpisodicLearner
from rarl.replay.state_replay import Replayed, StateReplay
from rarl.rollouts.boards import evaluation_generators, play_boards
from rarl.rollouts.rows import evaluation_rows


class BoardEpisodicLearner(EpisodicLearner):
    """One update is `episodes_per_update` episodes of every task, all at once.

    Episodes only ever end by the time limit, so NEC's returns bootstrap from the state after the last step, as the
    targets of all other agents do; MFEC's count the rewards of the episode.

    Args:
      run: the settings.
      device: where NEC's network is.
    """

    def __init__(self, run: Run, device: str):
        super().__init__(run, device, len(ACTIONS), OBSERVATION_SIZE)
        self.tasks = [task_named(name) for name in run.tasks]
        if run.settings.agent.kind == "nec":
            self.replay = StateReplay(run.settings.episodic.replay, (OBSERVATION_SIZE,))

    def update(self) -> Mapping[str, float]:
        """Play, then store."""
        each = self.settings.episodic.episodes_per_update
        task_ids = np.repeat(np.arange(len(self.tasks)), each)
        n = len(task_ids)
        env = VectorGridroboman([self.tasks[task] for task in task_ids])
        x, _ = env.reset(options={"boards": random_boards(n, self.rng)})
        shape = (n, EPISODE_STEPS)
        observations = np.empty((*shape, OBSERVATION_SIZE), dtype=np.int8)
        keys = np.empty((*shape, self.agent.d_key), dtype=np.float32)
        actions, rewards = np.empty(shape, dtype=np.int64), np.empty(shape, dtype=np.float32)
        values = np.empty((n, EPISODE_STEPS + 1), dtype=np.float32)
        hashes: list[list[bytes]] = []
        for t in range(EPISODE_STEPS):
            actions[:, t], looked = self._act(x, task_ids)
            observations[:, t], keys[:, t], values[:, t] = x, looked.keys, looked.value
            hashes.append(looked.hashes)
            x, rewards[:, t], *_ = env.step(actions[:, t])
            self._stepped(n)
        values[:, -1] = self.agent.look(x, task_ids).value
        returns = self.agent.returns(rewards, values, self.settings.learning.discount).astype(np.float32)
        played = Replayed(
            observations.reshape(-1, OBSERVATION_SIZE),
            np.repeat(task_ids, EPISODE_STEPS),
            actions.ravel(),
            returns.ravel(),
        )
        by_episode = [name for episode in zip(*hashes, strict=True) for name in episode]
        matches = self.agent.write(
            played.tasks, played.actions, by_episode, keys.reshape(n * EPISODE_STEPS, -1), played.returns
        )
        if self.replay is not None:
            self.replay.add(played)
        return self._scalars(rewards.sum(1).tolist(), matches, n * EPISODE_STEPS)

    def evaluate(self) -> list[dict[str, Any]]:
        """Greedy episodes of every task on the boards on which all agents of this seed are evaluated."""
        s = self.settings.evaluation
        of_boards, of_exploration, of_ties = evaluation_generators(self.settings)
        boards = random_boards(len(self.tasks) * s.episodes_per_task, of_boards)
        task_ids = np.repeat(np.arange(len(self.tasks)), s.episodes_per_task)

        def greedy(x: np.ndarray) -> np.ndarray:
            return self.agent.look(x, task_ids, use=False).best(of_ties)

        episodes = play_boards(greedy, self.tasks, boards, of_exploration, s.epsilon)
        returns = episodes.returns.reshape(len(self.tasks), -1)
        at_end = episodes.rewards[:, -1].reshape(len(self.tasks), -1)
        return evaluation_rows([task.name for task in self.tasks], returns, at_end)
