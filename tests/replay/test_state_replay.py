"""Replay of single states, against lists of everything that came in."""

from __future__ import annotations

import numpy as np
import pytest

from rarl.envs.atari.observation import EXTRA_BYTES
from rarl.errors import RarlError
from rarl.replay.frame_replay import FrameReplay
from rarl.replay.state_replay import Replayed, Ring, StateReplay
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
    replay = StateReplay(50, (3,))
    numbers = np.arange(80)
    replay.add(Replayed(np.stack([numbers] * 3, 1).astype(np.int8), numbers, -numbers, numbers / 2))
    drawn = replay.sample(500, np.random.default_rng(0))
    assert set(drawn.tasks.tolist()) == set(range(30, 80))
    assert (drawn.x == drawn.tasks[:, None]).all()
    assert (drawn.actions == -drawn.tasks).all()
    assert (drawn.returns == drawn.tasks / 2).all()


class Played:
    """Two actors whose episodes go into a replay, and into lists."""

    def __init__(self, capacity, stack):
        self.replay = FrameReplay(capacity, 2, stack, 1)
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
    other = FrameReplay(60, 2, stack, 1)
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
