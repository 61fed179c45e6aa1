"""Episodes for evaluation."""

from __future__ import annotations

import numpy as np

from rarl.envs.atari.observation import EXTRA_BYTES, FRAME_BYTES, packed_size
from rarl.envs.atari.packed import PackedAtari
from rarl.envs.atari.vector import VectorAtari
from rarl.rollouts.roll_out import Memoryless, roll_out


class Brightness:
    """Plays what the screen's brightness says; keeps what it was given."""

    def __init__(self, n, stack):
        self.n, self.stack, self.calls = n, stack, []

    def begin(self, first, context=None):
        assert context is None
        self.first = first.copy()

    def __call__(self, x, playing):
        assert x.shape == (self.n, packed_size(self.stack))
        self.calls.append((x, self.first, playing.copy()))
        newest = x[:, -EXTRA_BYTES - FRAME_BYTES : -EXTRA_BYTES]
        return newest.astype(np.int64).sum(1) % 18


def test_every_seed_once_whatever_the_number_of_environments():
    """Breakout by seeds; episodes differ in length, and a cap cuts some."""
    seeds = np.array([3, 1, 4])
    settings = {"max_frames": 4 * 200}
    results, watched = [], []
    for n in (2, 1):
        act = Brightness(n, stack=2)
        results.append(roll_out(PackedAtari(VectorAtari(["breakout"] * n, **settings), 2), act, seeds))
        watched.append(act)
    two, one = results
    np.testing.assert_array_equal(two.returns, one.returns)
    np.testing.assert_array_equal(two.lengths, one.lengths)
    np.testing.assert_array_equal(two.terminated, one.terminated)
    np.testing.assert_array_equal(two.last_rewards, one.last_rewards)
    assert two.lengths.max() <= 200
    np.testing.assert_array_equal(~two.terminated, two.lengths == 200)
    assert len(set(two.lengths.tolist())) > 1
    act = watched[1]
    firsts = [t for t, (_, first, _) in enumerate(act.calls) if first[0]]
    assert np.diff([*firsts, len(act.calls)]).tolist() == one.lengths.tolist()
    for t, (x, first, playing) in enumerate(act.calls):
        assert playing[0]
        assert (x[0, :FRAME_BYTES] == 0).all() == first[0]  # no frame before the first
        if first[0]:
            assert (x[0, -EXTRA_BYTES:] == 0).all()
        else:
            last = int(act.calls[t - 1][0][0, -EXTRA_BYTES - FRAME_BYTES : -EXTRA_BYTES].astype(np.int64).sum() % 18)
            assert x[0, -EXTRA_BYTES] == last


def test_returns_and_lengths_by_hand():
    """Freeway, always up: every crossing is a point."""
    games = VectorAtari(["freeway"] * 2, noop_max=0, max_frames=4 * 160)
    games.reset()
    up = games.actions.index("up")
    episodes = roll_out(PackedAtari(games, 1), Memoryless(lambda x: np.full(2, up)), [5, 6, 7])
    assert episodes.lengths.tolist() == [160] * 3
    assert not episodes.terminated.any()
    games.reset([5, 6])
    earned = sum(games.step(np.full(2, up)).rewards for _ in range(160))
    assert episodes.returns.tolist() == [earned[0], earned[1], earned[0]]
    assert earned[0] == earned[1] > 0
    assert (episodes.returns.dtype, episodes.lengths.dtype) == (np.float64, np.int64)


def test_fewer_episodes_than_environments():
    envs = PackedAtari(VectorAtari(["pong"] * 3, max_frames=40), 1)
    seen = []

    class Still:
        def begin(self, first, context=None):
            pass

        def __call__(self, x, playing):
            seen.append(playing.tolist())
            return np.array([0, 0, 99])  # the last one does not matter

    episodes = roll_out(envs, Still(), [1, 2])
    assert len(episodes.returns) == 2
    assert seen == [[True, True, False]] * 10
    assert len(roll_out(envs, Still(), []).returns) == 0
