"""Episodes of a network, against the single environment played step by step."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rarl.envs.gridroboman.env import Gridroboman
from rarl.envs.gridroboman.tasks import task_named
from rarl.envs.gridroboman.vector import random_boards
from rarl.nn.retrieval import Mode
from rarl.rollouts.boards import roll_out
from tests import tiny_project

TASKS = [task_named(name) for name in ("touch red", "lift green", "red to corner")]


class Scripted(torch.nn.Module):
    """Prefers an action that depends on the observation and on the task it is told; remembers what it was asked."""

    def __init__(self):
        super().__init__()
        self.nothing = torch.nn.Parameter(torch.zeros(1))
        self.calls = []

    def forward(self, x, task, retrieved=None, *, mode=Mode.ACT):
        assert mode is Mode.ACT
        assert not torch.is_grad_enabled()
        self.calls.append(SimpleNamespace(x=x.clone(), task=task.clone(), retrieved=retrieved))
        best = (x.long().sum(-1) + task) % 7
        return torch.nn.functional.one_hot(best, 7).float(), None


def test_every_step_is_the_single_environments():
    network = Scripted()
    marker = object()
    boards = random_boards(6, np.random.default_rng(0))
    episodes = roll_out(network, TASKS, np.array([4, 5, 6]), 2, marker, np.random.default_rng(1), 0.0, boards=boards)
    assert episodes.observations.shape == (6, 51, 11)
    assert episodes.actions.shape == episodes.rewards.shape == (6, 50)
    assert len(network.calls) == 50
    for t, call in enumerate(network.calls):
        assert call.retrieved is marker
        assert call.task.tolist() == [[4, 4], [5, 5], [6, 6]]
        assert (call.x.flatten(0, 1).numpy() == episodes.observations[:, t]).all()
    rewarded = 0
    for n in range(6):
        env = Gridroboman(task=TASKS[n // 2].name)
        start = episodes.observations[n, 0]
        cells = [tuple(map(int, start[i : i + 2])) for i in (0, 2, 5, 8)]
        observation, _ = env.reset(options={"robot": cells[0], "objects": cells[1:]})
        assert (observation == start).all()
        for t in range(50):
            expected = (int(observation.astype(int).sum()) + [4, 5, 6][n // 2]) % 7
            assert episodes.actions[n, t] == expected
            observation, reward, *_ = env.step(expected)
            assert (observation == episodes.observations[n, t + 1]).all()
            assert reward == episodes.rewards[n, t]
            rewarded += reward
    assert rewarded > 0
    assert (episodes.returns == episodes.rewards.sum(1)).all()


def test_other_tasks_rewards_are_measured_on_the_same_episodes():
    also = [task_named(name) for name in ("touch green", "lift green", "red to center")]
    plain, more = (
        roll_out(Scripted(), TASKS, np.arange(3), 4, None, np.random.default_rng(5), 0.3, also=other)
        for other in (None, also)
    )
    assert plain.also is None
    assert (plain.observations == more.observations).all()
    assert (more.also[4:8] == more.rewards[4:8]).all()  # the same task
    direct = roll_out(Scripted(), also, np.arange(3), 4, None, np.random.default_rng(5), 0.3)
    assert (direct.observations == more.observations).all()  # what is told is the same, so is what is done
    assert (more.also == direct.rewards).all()
    assert (more.also != more.rewards).any()


def test_epsilon_is_the_share_of_random_actions():
    def actions(epsilon, seed=0):
        network = Scripted()
        episodes = roll_out(network, TASKS, np.arange(3), 40, None, np.random.default_rng(seed), epsilon)
        greedy = np.stack([((c.x.long().sum(-1) + c.task) % 7).flatten().numpy() for c in network.calls], axis=1)
        return episodes.actions, greedy

    for epsilon in (0.0, 0.2, 1.0):
        done, greedy = actions(epsilon)
        assert (done != greedy).mean() == pytest.approx(epsilon * 6 / 7, abs=0.02)
    done, _ = actions(1.0)
    assert np.bincount(done.ravel(), minlength=7) / done.size == pytest.approx(np.full(7, 1 / 7), abs=0.02)


def test_all_randomness_comes_from_the_generator():
    def play(seed):
        return roll_out(Scripted(), TASKS, np.arange(3), 3, None, np.random.default_rng(seed), 0.2)

    one, same, other = play(1), play(1), play(2)
    assert (one.observations == same.observations).all()
    assert (one.actions == same.actions).all()
    assert not (one.observations[:, 0] == other.observations[:, 0]).all()
    assert len({tuple(row) for row in one.observations[:, 0].tolist()}) == 9  # boards of an evaluation differ


def test_each_group_plays_with_its_own_retrieval_batch(tiny_root):
    """Exchanging two groups' batches exchanges what is read, and nothing else."""
    learner = tiny_project.learner_of(tiny_root, "ra-dqn")
    batch = learner.memory.sample(np.array([0, 1]), np.random.default_rng(0))
    boards = random_boards(4, np.random.default_rng(0))
    network, retrieved, alphas = learner.network, batch.summarise(learner.network), []
    forward = network.forward

    def spy(*arguments, **more):
        q, step = forward(*arguments, **more)
        alphas.append(step.alpha)
        return q, step

    network.forward = spy
    tasks = TASKS[:2]
    roll_out(network, tasks, np.arange(2), 2, retrieved, np.random.default_rng(1), 0.0, boards=boards)
    assert alphas[0].shape[:2] == (2, 2)
    order = torch.tensor([1, 0])
    swapped = type(retrieved)(*(None if part is None else part[order] for part in retrieved))
    with torch.no_grad():
        q, q_swapped = (
            forward(torch.zeros(2, 1, 11, dtype=torch.int8), torch.arange(2)[:, None], r)[0]
            for r in (retrieved, swapped)
        )
    torch.testing.assert_close(q_swapped, q[order])
    assert not torch.allclose(q_swapped, q)
