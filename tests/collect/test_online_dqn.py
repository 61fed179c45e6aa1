"""The agent that makes the paper's kind of dataset: it learns, and it is a function of its seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rarl.collect.online_dqn import OnlineDQNSettings, _Agent, generate_dqn
from rarl.config.scale import Dataset
from rarl.config.settings import DatasetSettings
from rarl.envs.gridroboman.env import Gridroboman
from rarl.envs.gridroboman.vector import random_boards
from rarl.errors import RarlError
from rarl.trajectories.plan import unlike_plan
from rarl.trajectories.store import TrajectoryDataset
from rarl.trajectories.verify import check_content

SMALL = OnlineDQNSettings(
    hidden_units=16,
    batch_transitions=16,
    boards=8,
    environment_steps_per_update=20,
    target_update_period_updates=10,
    replay_transitions=1000,
    first_update_environment_steps=100,
)


def content(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_it_learns(tmp_path):
    settings = OnlineDQNSettings(
        hidden_units=64,
        learning_rate=2e-3,
        batch_transitions=64,
        target_update_period_updates=100,
        first_update_environment_steps=3000,
    )
    generate_dqn("touch red", 40_000, 0, tmp_path / "a", settings)
    dataset = TrajectoryDataset.open(tmp_path / "a")
    check_content(dataset)
    assert dataset.episodes == 800
    assert dataset.returns[:100].mean() < 10  # random play
    assert dataset.returns[-50:].mean() > 30  # of 47 that the expert gets
    planned = Dataset("gridroboman", "touch red", DatasetSettings(source="dqn", environment_steps=40_000))
    assert unlike_plan(dataset.manifest, planned) == []
    planned = Dataset("gridroboman", "touch red", DatasetSettings(source="dqn", environment_steps=50_000, seed=1))
    assert unlike_plan(dataset.manifest, planned) == [
        "seed 0 (planned: 1)", "generator.environment_steps 40000 (planned: 50000)"
    ]  # fmt: skip
    assert 45 < dataset.manifest["expert_return"] < 50


def test_same_seed_same_bytes_and_nothing_global_changes(tmp_path):
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    generate_dqn("lift red", 2500, 0, tmp_path / "a", SMALL)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(123)
    torch.set_num_threads(2)
    used = set()
    try:
        generate_dqn("lift red", 2500, 0, tmp_path / "b", SMALL, lambda *_: used.add(torch.get_num_threads()))
    finally:
        torch.set_num_threads(threads)
    assert used == {1}
    assert content(tmp_path / "a") == content(tmp_path / "b")
    generate_dqn("lift red", 2500, 1, tmp_path / "b", SMALL)
    assert content(tmp_path / "a")["actions.npy"] != content(tmp_path / "b")["actions.npy"]


def test_every_episode_is_recorded_as_it_was_played(tmp_path):
    done = []
    generate_dqn("touch blue", 1000, 0, tmp_path / "a", SMALL, progress=lambda *numbers: done.append(numbers))
    assert done == [(8, 20), (16, 20), (20, 20)]  # the last set has fewer boards
    dataset = TrajectoryDataset.open(tmp_path / "a")
    assert (dataset.episodes, dataset.steps, dataset.ends) == (20, 1000, "truncation")
    assert dataset.manifest["source"] == "dqn"
    assert dataset.manifest["generator"]["environment_steps"] == 1000
    assert dataset.manifest["generator"]["boards"] == 8
    expected = [SMALL.epsilon(share) for share in (0, 0.4, 0.8)]
    np.testing.assert_allclose(dataset.extras["epsilon"], np.repeat(expected, [8, 8, 4]), rtol=1e-6)
    env = Gridroboman("touch blue")
    for episode in dataset:
        first = episode.observations[0]
        env.reset(options={"robot": first[:2], "objects": first[2:].reshape(3, 3)[:, :2]})
        for t, action in enumerate(episode.actions):
            observation, reward, *_ = env.step(int(action))
            np.testing.assert_array_equal(observation, episode.observations[t + 1])
            assert reward == episode.rewards[t]


def test_the_loss_by_hand():
    """Double Q-learning: the online network chooses, the target network values."""
    agent = _Agent(SMALL, torch_seed=0)
    for parameter in agent.target.parameters():
        parameter.data.mul_(-1.5)
    boards = random_boards(4, np.random.default_rng(0)).observe()
    agent.x_tm1[:2], agent.x_t[:2] = boards[:2], boards[2:]
    agent.a_tm1[:2], agent.r_t[:2] = [3, 5], [0, 1]
    with torch.no_grad():
        x_tm1, x_t = torch.from_numpy(agent.x_tm1[:2]), torch.from_numpy(agent.x_t[:2])
        q_tm1, q_t, q_t_target = agent.network(x_tm1), agent.network(x_t), agent.target(x_t)
    assert (q_t.argmax(1) != q_t_target.argmax(1)).all()  # else it would not matter who chooses
    losses = []
    for row, (action, reward) in enumerate(((3, 0), (5, 1))):
        target = reward + SMALL.discount * q_t_target[row, q_t[row].argmax()]
        error = abs(float(target - q_tm1[row, action]))
        losses.append(0.5 * error**2 if error < 1 else error - 0.5)
    assert agent.update(np.arange(2)) == pytest.approx(np.mean(losses), rel=1e-5)


def test_epsilon_schedule():
    settings = OnlineDQNSettings(epsilon_first=1.0, epsilon_last=0.2, epsilon_decay_share=0.5)
    assert [settings.epsilon(share) for share in (0, 0.25, 0.5, 1)] == pytest.approx([1, 0.6, 0.2, 0.2])
    assert OnlineDQNSettings(epsilon_decay_share=0).epsilon(0) == 0.02


def test_replay_overwrites_the_oldest_and_updates_come_when_due():
    agent, rng = _Agent(SMALL, torch_seed=0), np.random.default_rng(0)
    for t in range(130):
        x = np.full((8, 11), t % 2, dtype=np.int8)
        agent.observe(x, np.zeros(8, dtype=np.int8), np.full(8, t, dtype=np.uint8), x, rng)
        assert agent.updates == max(0, (8 * (t + 1) - 100) // 20)
    oldest = 130 - 1000 // 8
    assert sorted(set(agent.r_t.tolist())) == list(range(oldest, 130))


def test_target_network_lags():
    agent, rng = _Agent(SMALL, torch_seed=0), np.random.default_rng(0)
    agent.x_tm1[:] = rng.integers(0, 2, agent.x_tm1.shape)
    agent.x_t[:] = agent.x_tm1
    agent.a_tm1[:], agent.r_t[:] = 1, 1

    def equal():
        pairs = zip(agent.network.parameters(), agent.target.parameters(), strict=True)
        return all(torch.equal(ours, theirs) for ours, theirs in pairs)

    losses, same = [], [equal()]
    for _ in range(20):
        losses.append(agent.update(np.arange(16)))
        same.append(equal())
    assert same == [True] + [False] * 9 + [True] + [False] * 9 + [True]
    assert losses[9] < losses[0]


def test_wrong_arguments(tmp_path):
    for arguments, says in (
        (("lift reed", 1000, 0), "did you mean 'lift red'"),
        (("lift red", 1010, 0), "environment_steps=1010: must be a positive multiple of 50"),
        (("lift red", 0, 0), "positive multiple of 50"),
        (("lift red", 1000, -1), "seed=-1"),
    ):
        with pytest.raises(RarlError, match=says):
            generate_dqn(*arguments, tmp_path / "a")
    assert list(tmp_path.iterdir()) == []
    for name, value in (
        ("boards", 0),
        ("discount", 1.5),
        ("learning_rate", 0.0),
        ("epsilon_last", -0.1),
        ("first_update_environment_steps", -1),
    ):
        with pytest.raises(RarlError, match=f"{name}={value}: must be"):
            OnlineDQNSettings(**{name: value})
