"""Replay of single states, against lists of everything that came in."""

from __future__ import annotations

import numpy as np
import pytest

from rarl.envs.atari.observation import EXTRA_BYTES
from rarl.envs.atari.packed import FrameCodec
from rarl.errors import RarlError
from rarl.replay.codec import Bytes
from rarl.replay.frame_replay import FrameReplay
from rarl.replay.ring import Ring
from rarl.runs import checkpoints


@pytest.mark.parametrize("capacity", [1, 5, 7])
def test_a_ring_holds_the_last_rows_and_names_those_that_went(capacity):
    ring, everything, gone = Ring(capacity, {"a": ((), np.int64), "b": ((2,), np.int8)}), [], []
    rng = np.random.default_rng(0)
    for _ in range(20):
        n = int(rng.integers(1, 12))
        a = len(everything) + np.arange(n)
        everything += a.tolist()
        gone += ring.add(a=a, b=np.stack([a, -a], 1).astype(np.int8))["a"].tolist()
        drawn = ring.sample(200, rng)
        assert set(drawn["a"].tolist()) == set(everything[-capacity:])
        assert (drawn["b"][:, 0] == drawn["a"].astype(np.int8)).all()
        kept = [a for a in everything if a not in set(gone)]
        assert kept[-capacity:] == everything[-capacity:]
        assert len(ring) == min(len(everything), capacity)
    assert len(set(gone)) == len(gone)
    with pytest.raises(RarlError, match="capacity=0"):
        Ring(0, {})


def test_states_come_with_what_was_done_in_them():
    replay = FrameReplay(50, np.array([3]), Bytes((3,), np.dtype(np.int8)), 0)
    numbers = np.arange(80)
    for number in numbers:
        replay.see(replay.codec.newest(np.full((1, 3), number, dtype=np.int8)))
    replay.end(0, -numbers, numbers / 2)
    drawn = replay.sample(500, np.random.default_rng(0))
    assert (drawn.x.shape, drawn.x.dtype) == ((500, 3), np.int8)
    assert set(drawn.x[:, 0].tolist()) == set(range(30, 80))
    assert (drawn.x == drawn.x[:, :1]).all()
    assert (drawn.actions == -drawn.x[:, 0].astype(int)).all()
    assert (drawn.returns == drawn.x[:, 0] / 2).all()
    assert (drawn.tasks == 3).all()


@pytest.mark.parametrize("compression", [0, 1])
def test_states_of_several_tasks_come_with_their_own(compression, tmp_path):
    """A state says which actor saw it, in which of its episodes and at which step; so one checks the other."""
    tasks, rng = np.array([5, 0, 2, 2, 9]), np.random.default_rng(0)
    codec = Bytes((3,), np.dtype(np.int16))
    replay = FrameReplay(200, tasks, codec, compression)
    steps, episodes, ended = np.zeros(5, dtype=int), np.zeros(5, dtype=int), []

    def play(replay, steps, episodes, ended, rng):
        x = np.stack([np.arange(5), episodes, steps], 1).astype(np.int16)
        replay.see(codec.newest(x))
        steps += 1
        for actor in np.flatnonzero(rng.random(5) < [0.1, 0.15, 0.1, 0.2, 0.05]).tolist():
            states = [(actor, episodes[actor], step) for step in range(steps[actor])]
            actions, returns = zip(*map(done_and_earned, states), strict=True)
            replay.end(actor, np.array(actions), np.array(returns, dtype=np.float32))
            ended += states
            steps[actor], episodes[actor] = 0, episodes[actor] + 1

    def done_and_earned(state):
        actor, episode, step = map(int, state)
        return (actor + 2 * episode + 3 * step) % 7, actor + 10.0 * episode + step / 8

    def check(replay, ended, rng):
        drawn = replay.sample(3000, rng)
        states = list(map(tuple, drawn.x.tolist()))
        assert set(states) == {tuple(map(int, state)) for state in ended[-200:]}
        assert (drawn.tasks == tasks[drawn.x[:, 0]]).all()
        found = list(zip(drawn.actions.tolist(), drawn.returns.tolist(), strict=True))
        assert found == list(map(done_and_earned, states))
        return drawn

    for _ in range(120):
        play(replay, steps, episodes, ended, rng)
    assert len(replay) == 200 < len(ended)
    assert {int(actor) for actor, *_ in ended[-200:]} == set(range(5))
    assert max(step for *_, step in ended[-200:]) > 20  # frames lie in blocks of 20
    check(replay, ended, rng)

    checkpoints.save(tmp_path / "c.pt", replay.state_dict(), checkpoints.Header("test"))
    other = FrameReplay(200, tasks, codec, compression)
    other.load_state_dict(checkpoints.load(tmp_path / "c.pt").state)
    ends = []
    for each in (replay, other):  # in the middle of episodes
        now, rng = (steps.copy(), episodes.copy(), list(ended)), np.random.default_rng(8)
        for _ in range(30):
            play(each, *now, rng)
        assert len(now[2]) > len(ended)
        ends.append(check(each, now[2], np.random.default_rng(9)))
    assert all((mine == its).all() for mine, its in zip(*ends, strict=True))


class Played:
    """Two actors whose episodes go into a replay, and into lists."""

    def __init__(self, capacity, stack):
        self.replay = FrameReplay(capacity, np.zeros(2, dtype=np.int64), FrameCodec(stack), 1)
        self.rng, self.states, self.stack = np.random.default_rng(0), [], stack
        self.now = [[], []]

    def step(self):
        frames = self.rng.integers(256, size=(2, 84, 84), dtype=np.uint8)
        self.replay.see(frames)
        for actor in range(2):
            self.now[actor].append(frames[actor])
            if self.rng.random() < 0.08:
                self.end(actor)

    def end(self, actor):
        frames, self.now[actor] = self.now[actor], []
        returns = len(self.states) + np.arange(len(frames))
        self.replay.end(actor, returns % 5, returns.astype(np.float32))
        black = [np.zeros((84, 84), dtype=np.uint8)] * (self.stack - 1)
        padded = black + frames
        self.states += [np.stack(padded[t : t + self.stack]) for t in range(len(frames))]


@pytest.mark.parametrize("stack", [1, 4])
def test_frames_of_episodes_come_back_stacked(stack, tmp_path):
    played = Played(60, stack)
    for _ in range(150):
        played.step()
    replay = played.replay
    assert len(replay) == 60 < len(played.states)
    drawn = replay.sample(300, np.random.default_rng(1))
    places = drawn.returns.astype(int)
    assert set(places.tolist()) == set(range(len(played.states) - 60, len(played.states)))
    assert (drawn.actions == places % 5).all()
    assert (drawn.tasks == 0).all()
    assert (drawn.x[:, -EXTRA_BYTES:] == 0).all()
    for x, place in zip(drawn.x, places, strict=True):
        assert (x[:-EXTRA_BYTES].reshape(stack, 84, 84) == played.states[place]).all()

    checkpoints.save(tmp_path / "c.pt", replay.state_dict(), checkpoints.Header("test"))
    other = FrameReplay(60, np.zeros(2, dtype=np.int64), FrameCodec(stack), 1)
    other.load_state_dict(checkpoints.load(tmp_path / "c.pt").state)
    one, again = (r.sample(50, np.random.default_rng(2)) for r in (replay, other))
    assert all((mine == its).all() for mine, its in zip(one, again, strict=True))
    for actor in range(2):
        steps = len(played.now[actor])
        if steps:
            for r in (replay, other):
                r.end(actor, np.zeros(steps, dtype=int), np.full(steps, -1.0, dtype=np.float32))
    one, again = (r.sample(50, np.random.default_rng(2)) for r in (replay, other))
    assert (one.returns < 0).any()
    assert all((mine == its).all() for mine, its in zip(one, again, strict=True))


def test_frames_that_nobody_needs_are_freed():
    played = Played(40, 4)
    sizes = []
    for step in range(400):
        played.step()
        if step % 50 == 49:
            sizes.append(len(played.replay._store))
    assert max(sizes) < 40  # blocks; 800 frames in 40 blocks and more came in
    alive = set(played.replay._blocks)
    assert alive == {int(e) for e in played.replay._ring._columns["episode"]}


def test_an_episode_longer_than_the_replay():
    played = Played(10, 4)
    for frame in np.random.default_rng(0).integers(256, size=(30, 2, 84, 84), dtype=np.uint8):
        played.replay.see(frame)
        played.now[0].append(frame[0])
    played.end(0)
    drawn = played.replay.sample(100, np.random.default_rng(0))
    assert set(drawn.returns.tolist()) == set(range(20, 30))
    for x, place in zip(drawn.x, drawn.returns.astype(int), strict=True):
        assert (x[:-EXTRA_BYTES].reshape(4, 84, 84) == played.states[place]).all()
