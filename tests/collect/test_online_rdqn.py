"""The recurrent agent that plays BabyAI while it learns: its episodes happened, in this order, and it does learn."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import fields

import numpy as np
import pytest
import torch

from rarl.agents.losses import greedy_value
from rarl.collect import online_rdqn
from rarl.collect.online import STREAM
from rarl.collect.online_rdqn import OnlineRDQNSettings, _Agent, _Episode, _Replay, generate_rdqn
from rarl.config.scale import Dataset
from rarl.config.settings import DatasetSettings
from rarl.envs.babyai.datasets import generate_bot
from rarl.envs.babyai.levels import level_named
from rarl.envs.babyai.vector import ACTIONS, VectorBabyAI
from rarl.errors import RarlError
from rarl.trajectories.plan import unlike_plan
from rarl.trajectories.store import TrajectoryDataset
from rarl.trajectories.verify import check_content

LEVEL = "GoToRedBallGrey"
TINY = {
    "d_s": 8,
    "channels": 4,
    "d_mission": 4,
    "batch_sequences": 4,
    "sequence_steps": 5,
    "lanes": 6,
    "target_update_period_updates": 10,
    "first_update_environment_steps": 200,
    "replay_steps": 500,
}
SMALL = OnlineRDQNSettings(**TINY)


@pytest.fixture(autouse=True)
def _few_expert_episodes(monkeypatch):
    monkeypatch.setattr(online_rdqn, "EXPERT_EPISODES", 8)


def content(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def made(folder, steps, settings=SMALL, level=LEVEL, seed=0):
    generate_rdqn(level, steps, seed, folder, settings)
    return TrajectoryDataset.open(folder)


def fresh_agent(settings, seed=0, level=LEVEL):
    """The agent as `generate_rdqn` begins with it."""
    rng = np.random.default_rng([seed, level_named(level).id, STREAM])
    return _Agent(settings, torch_seed=int(rng.integers(2**62)))


# ------------------------------------------------------------------------------------------------------------- datasets


def test_same_arguments_same_bytes_and_nothing_global_changes(tmp_path, monkeypatch):
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    generate_rdqn(LEVEL, 1500, 0, tmp_path / "a", SMALL)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(123)
    torch.set_num_threads(2)
    monkeypatch.setattr(online_rdqn, "CHUNK_STEPS", 100)  # how much is written at once does not matter
    used = set()
    try:
        generate_rdqn(level_named(LEVEL), 1500, 0, tmp_path / "b", SMALL, lambda *_: used.add(torch.get_num_threads()))
    finally:
        torch.set_num_threads(threads)
    assert used == {1}
    assert content(tmp_path / "a") == content(tmp_path / "b")
    generate_rdqn(LEVEL, 1500, 1, tmp_path / "b", SMALL)
    assert content(tmp_path / "a")["actions.npy"] != content(tmp_path / "b")["actions.npy"]


def test_episodes_happened_and_say_what_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(online_rdqn, "CHUNK_STEPS", 300)
    done = []
    generate_rdqn(LEVEL, 1000, 3, tmp_path / "a", SMALL, progress=lambda *numbers: done.append(numbers))
    assert [of for _, of in done] == [1000] * len(done)
    assert [at for at, _ in done] == sorted({at for at, _ in done})
    assert len(done) > 2
    assert done[-1] == (1000, 1000)
    dataset = TrajectoryDataset.open(tmp_path / "a")
    check_content(dataset)
    planned = Dataset("babyai", LEVEL, DatasetSettings(source="rdqn", environment_steps=1000, seed=3))
    assert unlike_plan(dataset.manifest, planned) == []
    manifest, extras = dataset.manifest, dataset.extras
    assert (manifest["environment"], manifest["task"], manifest["source"]) == ("babyai", LEVEL, "rdqn")
    assert (manifest["seed"], manifest["ends"]) == (3, "per-episode")
    assert (manifest["generator"]["environment_steps"], manifest["generator"]["lanes"]) == (1000, 6)
    assert {name: str(array.dtype) for name, array in extras.items()} == {
        "mission": "uint8", "epsilon": "float32", "seed": "int64", "terminated": "bool"
    }  # fmt: skip
    assert (dataset.observations.dtype, dataset.actions.dtype, dataset.rewards.dtype) == (
        np.uint8,
        np.uint8,
        np.float32,
    )
    assert len(set(extras["seed"].tolist())) == dataset.episodes
    env = VectorBabyAI([level_named(LEVEL)])
    for episode in dataset:
        seen = env.reset(np.array([episode.extras["seed"]]))
        np.testing.assert_array_equal(env.context[0], episode.extras["mission"])
        for t, action in enumerate(episode.actions):
            assert env.active[0]
            np.testing.assert_array_equal(seen[0], episode.observations[t])
            seen, reward, terminated, _ = env.step(np.array([action]))
            assert reward[0] == episode.rewards[t]
        np.testing.assert_array_equal(seen[0], episode.observations[-1])
        assert not env.active[0]
        assert terminated[0] == episode.extras["terminated"]
    assert len(set(dataset.terminated.tolist())) == 2  # both ends were met


def test_the_expert_is_the_bot(tmp_path):
    expert = made(tmp_path / "a", 100, level="GoToImpUnlock", seed=1).manifest
    generate_bot("GoToImpUnlock", 8, 1, tmp_path / "b", [0])
    bot = TrajectoryDataset.open(tmp_path / "b").manifest
    assert expert["expert_return"] == bot["expert_return"] > 0.5
    assert expert["generator"]["expert_rejected"] == bot["generator"]["rejected"]


def test_a_level_without_an_expert(tmp_path, monkeypatch):
    def failing(level, episodes, seed, rejected):
        rejected["endless plan"] = 7

    monkeypatch.setattr(online_rdqn, "measure_expert", failing)
    manifest = made(tmp_path / "a", 100).manifest
    assert manifest["expert_return"] is None
    assert manifest["generator"]["expert_rejected"] == {"endless plan": 7}


@pytest.mark.parametrize("steps", [1, 64, 700])
def test_it_ends_with_the_first_episode_that_makes_the_steps_full(tmp_path, steps):
    dataset = made(tmp_path / "a", steps)
    assert dataset.steps >= steps > dataset.steps - dataset.lengths[-1]


def test_order_and_exploration(tmp_path):
    """Epsilon tells when an episode began: in this order they are written, and each lane plays one after the other."""
    settings = OnlineRDQNSettings(**TINY, epsilon_first=0.9, epsilon_last=0.1, epsilon_decay_share=1.0)
    dataset = made(tmp_path / "a", 1200, settings)
    epsilon = dataset.extras["epsilon"].astype(float)
    starts = (0.9 - epsilon) / 0.8 * 1200 / settings.lanes  # steps of one lane
    np.testing.assert_allclose(starts, starts.round(), atol=1e-3)
    starts = starts.round().astype(int)
    ends = starts + dataset.lengths
    assert (np.diff(starts) >= 0).all()
    assert (np.diff(ends) < 0).any()  # not the order in which they ended
    assert (starts == 0).sum() == settings.lanes
    assert not Counter(starts[starts > 0].tolist()) - Counter(ends.tolist())  # a lane is never idle
    assert epsilon.min() < 0.3


def test_without_exploration_it_does_what_the_network_says(tmp_path):
    """Also across the episodes of a lane: the recurrent state starts at zero each time, and is carried within."""
    settings = OnlineRDQNSettings(
        **TINY | {"first_update_environment_steps": 10**6}, epsilon_first=0.0, epsilon_last=0.0
    )
    dataset = made(tmp_path / "a", 900, settings, "PutNextLocal")
    assert dataset.episodes > 6 == settings.lanes
    network = fresh_agent(settings, level="PutNextLocal").network
    forgetful = 0
    for episode in dataset:
        x = torch.from_numpy(np.array(episode.observations[:-1]))
        told = torch.from_numpy(episode.extras["mission"].astype(np.int64))
        with torch.no_grad():
            q = network.unroll(x[None, None], told[None, None, None], network.initial_state(1, 1)).q[0, 0]
            state = network.initial_state(1, len(x))
            alone = network.unroll(x[None, :, None], told.expand(1, len(x), 1, -1), state).q[0, :, 0]
        actions = torch.from_numpy(episode.actions.astype(np.int64))[:, None]
        assert (q.gather(1, actions)[:, 0] >= q.max(1).values - 1e-5).all()
        forgetful += int((alone.argmax(1) != actions[:, 0]).sum())
    assert forgetful > 0  # else the state would not matter


def test_with_epsilon_1_actions_are_uniform(tmp_path):
    settings = OnlineRDQNSettings(**TINY | {"first_update_environment_steps": 10**6}, epsilon_last=1.0)
    counts = np.bincount(made(tmp_path / "a", 3000, settings).actions, minlength=len(ACTIONS))
    assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < 27.9  # chi square, 6 degrees of freedom, p = 0.0001


def test_killed_and_run_again(tmp_path):
    """Killed after a chunk: nothing to see; run again: the bytes of an undisturbed run, no leftovers."""
    target, reference = tmp_path / "killed" / "red-ball", tmp_path / "reference"
    code = (
        "import os, signal, sys\n"
        "from rarl.collect import online_rdqn\n"
        "online_rdqn.CHUNK_STEPS = 300\n"
        "die = lambda done, all: os.kill(os.getpid(), signal.SIGKILL) if done > 500 else None\n"
        f"settings = online_rdqn.OnlineRDQNSettings(**{TINY})\n"
        f"online_rdqn.generate_rdqn({LEVEL!r}, 1500, 0, sys.argv[1], settings, die)\n"
    )
    process = subprocess.run([sys.executable, "-c", code, str(target)], check=False)
    assert process.returncode == -signal.SIGKILL
    assert any(target.parent.glob(".red-ball.*.tmp/*.npy"))  # it had begun to write
    assert not target.exists()
    for folder in (target, reference):
        generate_rdqn(LEVEL, 1500, 0, folder, SMALL)
    assert os.listdir(target.parent) == ["red-ball"]
    assert content(target) == content(reference)


class Recall:
    """In the place of the environments: the first observation says which of two actions the third step rewards."""

    def __init__(self, levels):
        n = self.num_envs = len(levels)
        self.context = np.ones((n, 4), np.uint8)
        self.active = np.zeros(n, bool)
        self.cue, self.t = np.zeros((2, n), np.int64)

    def _observations(self):
        return np.repeat(np.where(self.t == 0, 1 + self.cue, 5)[:, None], 50, axis=1).astype(np.uint8)

    def reset(self, seeds, where):
        self.cue[where], self.t[where], self.active[where] = seeds % 2, 0, True
        return self._observations()

    def step(self, actions):
        self.t += 1
        end = self.t == 3
        self.active = ~end
        return self._observations(), (end & (actions == self.cue)).astype(np.float32), end, np.zeros_like(end)


@pytest.mark.parametrize("seed", [0, 1])
def test_it_learns_what_only_a_memory_can(tmp_path, monkeypatch, seed):
    monkeypatch.setattr(online_rdqn, "VectorBabyAI", Recall)
    settings = OnlineRDQNSettings(
        **TINY | {"lanes": 32, "d_s": 16, "batch_sequences": 32, "replay_steps": 3000},
        learning_rate=5e-3,
        epsilon_decay_share=0.6,
        n_step=2,
    )
    returns = made(tmp_path / "a", 12_000, settings, seed=seed).returns
    assert len(returns) == 4000
    assert returns[:200].mean() < 0.3  # random play: 1 of 7
    assert returns[-500:].mean() > 0.8  # who forgets the first step gets half of it; 5 % are random


# --------------------------------------------------------------------------------------------------- replay and updates


def episode(steps, first=0, terminated=True):
    """Observations first, first + 1, ...; actions and rewards likewise."""
    t = np.arange(first, first + steps + 1)
    return _Episode(
        np.repeat(t[:, None], 50, axis=1).astype(np.uint8),
        (t[:-1] % 7).astype(np.uint8),
        t[:-1].astype(np.float32),
        terminated,
        np.full(4, first + 1, np.uint8),
        seed=first,
        epsilon=0.5,
    )


def test_windows_by_hand():
    episodes = [episode(6, 10), episode(3, 20), episode(3, 30, terminated=False), episode(6, 40)]
    w = _Replay.windows(episodes, np.array([2, 0, 1, 1]), 4, 0.5)
    assert w.x[:, :, 0].tolist() == [
        [12, 13, 14, 15, 16],
        [20, 21, 22, 23, 0],
        [31, 32, 33, 0, 0],
        [41, 42, 43, 44, 45],
    ]
    assert w.a.tolist() == [[5, 6, 0, 1], [6, 0, 1, 0], [3, 4, 0, 0], [6, 0, 1, 2]]
    assert w.r_t.tolist() == [[12, 13, 14, 15], [20, 21, 22, 0], [31, 32, 0, 0], [41, 42, 43, 44]]
    assert w.mask.astype(int).tolist() == [[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1]]
    # Where an episode terminated nothing follows; where time ran out, or only the window ends, the value counts.
    assert (w.discount_t * w.mask).tolist() == [[0.5, 0.5, 0.5, 0], [0.5, 0.5, 0, 0], [0.5, 0.5, 0, 0], [0.5] * 4]
    assert w.mission.tolist() == [[11] * 4, [21] * 4, [31] * 4, [41] * 4]


def test_replay_forgets_whole_episodes_the_oldest_first():
    replay = _Replay(10)
    for first, steps in enumerate((4, 5, 3, 7)):
        replay.add(episode(steps, first))
    assert [(e.seed, e.steps) for e in replay.episodes] == [(2, 3), (3, 7)]
    assert replay.steps == 10
    replay.add(episode(30, 9))  # longer than all there is room for
    assert ([e.seed for e in replay.episodes], replay.steps) == ([9], 30)


def test_steps_are_replayed_equally_often():
    """Long episodes are drawn more often; their windows lie anywhere within."""
    replay = _Replay(1000)
    for first, steps in ((0, 12), (100, 2), (120, 6)):
        replay.add(episode(steps, first))
    w = replay.sample(4000, 3, 0.9, np.random.default_rng(0))
    assert w.mask.sum(1).min() == 2
    first = w.x[:, 0, 0]
    counts = np.array([(first // 100 == 0).sum(), ((first >= 100) & (first < 120)).sum(), (first >= 120).sum()])
    expected = 4000 * np.array([12, 2, 6]) / 20
    assert ((counts - expected) ** 2 / expected).sum() < 18.4  # 2 degrees of freedom, p = 0.0001
    starts = np.bincount(first[first < 100])
    assert len(starts) == 10  # all that fit
    assert ((starts - starts.mean()) ** 2 / starts.mean()).sum() < 33.7  # 9 degrees of freedom


def random_windows(rng, settings=SMALL):
    replay = _Replay(10_000)
    for steps, terminated in ((9, True), (2, True), (4, False), (12, False)):
        replay.add(
            _Episode(
                rng.integers(0, 5, (steps + 1, 50)).astype(np.uint8),
                rng.integers(0, 7, steps).astype(np.uint8),
                rng.random(steps).astype(np.float32),
                terminated,
                rng.integers(1, 5, 4).astype(np.uint8),
                seed=0,
                epsilon=0.0,
            )
        )
    return replay.windows(list(replay.episodes), np.array([5, 0, 0, 3]), settings.sequence_steps, settings.discount)


def distinct_agent(settings=SMALL):
    """With a target network of its own."""
    agent = _Agent(settings, torch_seed=0)
    agent.target.load_state_dict(_Agent(settings, torch_seed=1).network.state_dict())
    return agent


def test_the_loss_is_that_of_a_slow_reference():
    settings = OnlineRDQNSettings(**TINY, discount=0.8, n_step=3, huber_delta=0.4)
    agent = distinct_agent(settings)
    w = random_windows(np.random.default_rng(0), settings)
    errors = []
    for b in range(4):
        x, told = torch.from_numpy(w.x[b])[None, None], torch.from_numpy(w.mission[b])[None, None, None]
        with torch.no_grad():
            start = agent.network.initial_state(1, 1)
            q = agent.network.unroll(x, told, start).q[0, 0]
            value = greedy_value(agent.target.unroll(x, told, start).q[0, 0], q)
        real = int(w.mask[b].sum())
        for t in range(real):
            last = min(t + 3, real)
            target, weight = 0.0, 1.0
            for k in range(t, last):
                target += weight * w.r_t[b, k]
                weight *= w.discount_t[b, k]
            target += weight * float(value[last])
            error = abs(target - float(q[t, w.a[b, t]]))
            errors.append(0.5 * error**2 if error < 0.4 else 0.4 * (error - 0.2))
    assert len(errors) == 4 + 2 + 4 + 5
    assert agent.update(w) == pytest.approx(np.mean(errors), rel=1e-4)


def test_padding_and_what_follows_a_terminal_step_change_nothing():
    rng = np.random.default_rng(1)
    plain, disturbed = random_windows(rng), None
    disturbed = plain._replace(
        x=plain.x.copy(), a=plain.a.copy(), r_t=plain.r_t.copy(), discount_t=plain.discount_t.copy()
    )
    for b, real in enumerate(plain.mask.sum(1)):
        ended = plain.discount_t[b, real - 1] == 0
        disturbed.x[b, real + 1 - ended :] = 3
        disturbed.a[b, real:], disturbed.r_t[b, real:], disturbed.discount_t[b, real:] = 2, 50.0, 1.0
    assert (disturbed.x != plain.x).any()
    agents = [distinct_agent(), distinct_agent()]
    losses = [agent.update(w) for agent, w in zip(agents, (plain, disturbed), strict=True)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    for one, other in zip(*(agent.network.parameters() for agent in agents), strict=True):
        torch.testing.assert_close(one, other)
    real_step = plain._replace(r_t=plain.r_t + plain.mask)  # and the test sees what does count
    assert distinct_agent().update(real_step) != pytest.approx(losses[0], rel=1e-3)


def test_target_network_lags():
    agent, w = _Agent(SMALL, torch_seed=0), random_windows(np.random.default_rng(2))

    def equal():
        pairs = zip(agent.network.parameters(), agent.target.parameters(), strict=True)
        return all(torch.equal(ours, theirs) for ours, theirs in pairs)

    losses, same = [], [equal()]
    for _ in range(20):
        losses.append(agent.update(w))
        same.append(equal())
    assert same == [True] + [False] * 9 + [True] + [False] * 9 + [True]
    assert losses[9] < losses[0]


def test_updates_come_when_due():
    settings = OnlineRDQNSettings(**TINY | {"first_update_environment_steps": 20}, environment_steps_per_update=8)
    agent, rng = _Agent(settings, torch_seed=0), np.random.default_rng(0)
    for _ in range(5):
        agent.learn(6, rng)  # nothing to replay yet, and nothing is made up for
    agent.replay.add(episode(19))
    agent.learn(6, rng)
    assert agent.updates == 0
    agent.replay.add(episode(1))
    for k in range(1, 13):
        agent.learn(6, rng)
        assert agent.updates == 6 * k // 8
    none = _Agent(OnlineRDQNSettings(**TINY | {"first_update_environment_steps": 0}), torch_seed=0)
    none.learn(100, rng)  # an empty replay
    assert none.updates == 0


# ------------------------------------------------------------------------------------------------------------ arguments


def test_wrong_arguments(tmp_path):
    for arguments, says in (
        (("GoToRedBall Gray", 100, 0), "did you mean"),
        ((LEVEL, 0, 0), "environment_steps=0: must be at least 1"),
        ((LEVEL, 100, -1), "seed=-1: must be at least 0"),
    ):
        with pytest.raises(RarlError, match=says):
            generate_rdqn(*arguments, tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        *((name, 0, "at least 1") for name in OnlineRDQNSettings.AT_LEAST_1),
        *((name, -1, "at least 0") for name in OnlineRDQNSettings.AT_LEAST_0),
        *((name, 0.0, "above 0") for name in OnlineRDQNSettings.POSITIVE),
        ("learning_rate", float("nan"), "above 0"),
        *((name, value, "between 0 and 1") for name in OnlineRDQNSettings.SHARES for value in (-0.1, 1.1)),
    ],
)
def test_wrong_settings_are_named(name, value, what):
    with pytest.raises(RarlError, match=f"^{name}={value}: must be {what}$"):
        OnlineRDQNSettings(**{name: value})


def test_every_setting_is_checked():
    s = OnlineRDQNSettings
    assert sorted((*s.AT_LEAST_0, *s.AT_LEAST_1, *s.POSITIVE, *s.SHARES)) == sorted(field.name for field in fields(s))
