"""Replay of sequences against a slow reference that cuts a list of whole episodes."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rarl.agents.targets import sequence_targets
from rarl.errors import RarlError
from rarl.replay.frames import FrameStore
from rarl.replay.prioritised import LEAST_PRIORITY, Replay, ReplaySettings
from rarl.runs import checkpoints

SHAPE = (2, 3)
STATES = {"core": (2,), "slots": (2, 3)}
SMALL = ReplaySettings(capacity_sequences=50, trace_steps=4, period_steps=2, discount=0.5, block_frames=3)


# ------------------------------------------------------------------------------------------------------ slow reference


@dataclass
class Episode:
    """All that happened in it, in lists."""

    number: int
    frames: list = field(default_factory=list)
    states: list = field(default_factory=list)
    actions: list = field(default_factory=list)
    rewards: list = field(default_factory=list)
    values: list = field(default_factory=list)
    terminated: bool = False
    ended: bool = False

    @property
    def steps(self):
        return len(self.actions)

    def cut(self, s):
        """(first step to learn from, step after the last) of all its windows that are complete."""
        windows, start = [], 0
        while start == 0 or windows[-1][1] < self.steps:
            end = min(start + s.trace_steps, self.steps)
            if end == 0 or (end - start < s.trace_steps and not self.ended):
                break
            windows.append((start, end))
            start += s.period_steps
        return windows

    def observations(self, s):
        """The stack at every step, as an environment would keep it."""
        stack = deque([np.zeros(SHAPE, np.uint8)] * s.stack, maxlen=s.stack)
        out = []
        for frame in self.frames:
            stack.append(frame)
            out.append(np.stack(stack))
        return out


class Players:
    """Actors with random episodes; what they do is also written down."""

    def __init__(self, replay, actors, seed, mean_steps=9.0, least_steps=1, unknown=0.1):
        self.replay, self.rng = replay, np.random.default_rng(seed)
        self.mean_steps, self.least_steps = mean_steps, least_steps
        self.unknown = unknown  # share of the steps whose values are
        self.now = [None] * actors
        self.left = [0] * actors
        self.episodes = []
        self.ids = []

    def frame(self):
        return self.rng.integers(256, size=SHAPE, dtype=np.uint8)

    def play(self, calls):
        for _ in range(calls):
            busy = np.array([i for i, episode in enumerate(self.now) if episode is not None], dtype=np.int64)
            free = np.array([i for i, episode in enumerate(self.now) if episode is None], dtype=np.int64)
            if len(free) and (not len(busy) or self.rng.random() < 0.7):
                self._begin(free[self.rng.random(len(free)) < 0.8])
            elif len(busy):
                self._step(busy[self.rng.random(len(busy)) < 0.8])

    def _begin(self, actors):
        frames = [self.frame() for _ in actors]
        self.replay.begin(actors, np.array(frames, dtype=np.uint8).reshape(-1, *SHAPE))
        for actor, frame in zip(actors, frames, strict=True):
            self.now[actor] = Episode(len(self.episodes), [frame])
            self.left[actor] = self.least_steps + self.rng.geometric(1 / self.mean_steps)
            self.episodes.append(self.now[actor])

    def _step(self, actors):
        m = len(actors)
        states = {name: self.rng.random((m, *shape), dtype=np.float32) for name, shape in STATES.items()}
        actions, rewards = self.rng.integers(18, size=m), self.rng.normal(size=m).astype(np.float32)
        values = self.rng.normal(size=(m, 2)) * 3
        values[self.rng.random(m) < self.unknown] = np.nan
        frames = np.array([self.frame() for _ in actors], dtype=np.uint8).reshape(-1, *SHAPE)
        terminated, truncated = np.zeros((2, m), dtype=bool)
        for row, actor in enumerate(actors):
            self.left[actor] -= 1
            if self.left[actor] == 0:
                (terminated if self.rng.random() < 0.5 else truncated)[row] = True
        self.ids.append(self.replay.add(actors, states, actions, rewards, frames, terminated, truncated, values))
        for row, actor in enumerate(actors):
            episode = self.now[actor]
            episode.states.append({name: array[row].copy() for name, array in states.items()})
            episode.actions.append(actions[row])
            episode.rewards.append(rewards[row])
            episode.values.append(values[row])
            episode.frames.append(frames[row].copy())
            episode.terminated, episode.ended = terminated[row], terminated[row] or truncated[row]
            if episode.ended:
                self.now[actor] = None
        # The caller's arrays may be used again.
        frames[:] = 0
        for array in states.values():
            array[:] = -1


def check_all_windows(replay, players):
    """Every window that the replay holds is what the reference cuts."""
    s = replay.settings
    expected = {(e.number, start): (e, end) for e in players.episodes for start, end in e.cut(s)}
    ids = replay.ids
    assert len(replay) == len(ids) == min(len(expected), s.capacity_sequences)
    assert ids[-1:].tolist() in ([], [len(expected) - 1])
    batch = replay.at(ids)
    observations, stacks = batch.observations, {}
    assert observations.shape == (len(ids), s.steps + 1, s.stack, *SHAPE)
    assert (batch.actions.dtype, batch.last_actions.dtype) == (np.int64, np.int64)
    assert (batch.r_t.dtype, batch.discount_t.dtype, batch.last_rewards.dtype) == (np.float32,) * 3
    seen = set()
    for row in range(len(ids)):
        first = int(batch.starts[row])
        learned = np.flatnonzero(batch.learn[row])
        start = first + int(learned[0])
        episode, end = expected[batch.episodes[row], start]
        seen.add((episode.number, start))
        n = end - first
        assert start - first == min(s.burn_in_steps, start)
        assert learned.tolist() == list(range(start - first, n))
        assert np.flatnonzero(batch.mask[row]).tolist() == list(range(n))
        if episode.number not in stacks:
            stacks[episode.number] = np.stack(episode.observations(s))
        np.testing.assert_array_equal(observations[row, : n + 1], stacks[episode.number][first : end + 1])
        assert not batch.frames[row, s.stack + n :].any()
        for found, values in ((batch.actions, episode.actions), (batch.r_t, episode.rewards)):
            np.testing.assert_array_equal(found[row, :n], values[first:end])
            assert not found[row, n:].any()
        for found, values in ((batch.last_actions, episode.actions), (batch.last_rewards, episode.rewards)):
            np.testing.assert_array_equal(found[row, : n + 1], [0, *values][first : end + 1])
        discounts = np.full(s.steps, s.discount, np.float32)
        if end == episode.steps and episode.terminated:
            discounts[n - 1] = 0.0
        np.testing.assert_array_equal(batch.discount_t[row], discounts)
        for name, array in batch.state.items():
            np.testing.assert_array_equal(array[row], episode.states[first][name])
    assert len(seen) == len(ids)


def check_first_priorities(replay, players):
    """Of windows that have kept the priorities they came with; none may have been dropped."""
    s, kept = replay.settings, []
    assert replay.ids[:1].tolist() in ([], [0])
    batch, weights = replay.at(replay.ids), replay._tree.weights
    ends = {(e.number, start): end for e in players.episodes for start, end in e.cut(s)}
    for row in range(len(batch)):
        start = int(batch.starts[row] + batch.learn[row].argmax())
        episode = players.episodes[batch.episodes[row]]
        values = np.array(episode.values[start : ends[episode.number, start]])
        largest = max(kept, default=1.0)
        priority = largest if np.isnan(values).any() else np.abs(values[:, 0]).max() + np.abs(values[-1, 1])
        np.testing.assert_allclose(weights[row], max(priority, LEAST_PRIORITY) ** s.priority_exponent, rtol=1e-12)
        kept.append(priority)
    np.testing.assert_allclose(replay.max_priority, max(kept, default=1.0), rtol=1e-12)


def check_frames_held(replay):
    """Every block is held by the windows and episodes that need it, and by nobody else."""
    holders = Counter()
    for row in range(len(replay)):
        holders.update(replay._blocks(row))
    for cutter in replay._cutters:
        holders.update(cutter._blocks)
    assert replay._store._holders == dict(holders)
    assert replay._store._lengths.keys() == holders.keys()
    open_blocks = {cutter._blocks[-1] for cutter in replay._cutters if cutter.episode is not None}
    assert replay._store._open.keys() <= open_blocks


@st.composite
def replay_settings(draw):
    trace = draw(st.integers(1, 7))
    return ReplaySettings(
        capacity_sequences=draw(st.sampled_from([1, 3, 17, 1000])),
        trace_steps=trace,
        period_steps=draw(st.integers(1, trace)),
        burn_in_steps=draw(st.integers(0, 8)),
        stack=draw(st.integers(1, 4)),
        discount=0.5,
        block_frames=draw(st.integers(1, 9)),
        compression=draw(st.sampled_from([0, 1])),
    )


# ------------------------------------------------------------------------------------------------------------- windows


@given(replay_settings(), st.integers(1, 3), st.integers(0, 2**32), st.sampled_from([1.5, 9.0, 40.0]))
@settings(max_examples=60)
def test_windows_against_a_slow_reference(s, actors, seed, mean_steps):
    replay = Replay(s, actors, SHAPE, STATES, by_values)
    players = Players(replay, actors, seed, mean_steps, least_steps=0)
    for _ in range(4):
        players.play(40)
        check_frames_held(replay)
        check_all_windows(replay, players)
    cut = replay.cut()
    for episode in players.episodes:
        episode.ended = True
    check_frames_held(replay)
    check_all_windows(replay, players)
    assert np.concatenate([*players.ids, cut]).tolist() == list(range(replay._next_id))
    assert replay.steps_added == sum(episode.steps for episode in players.episodes)
    if replay._next_id == len(replay):
        check_first_priorities(replay, players)
    # No step of any episode is lost.
    for episode in players.episodes:
        covered = {t for start, end in episode.cut(s) for t in range(start, end)}
        assert covered == set(range(episode.steps))


def by_values(window):
    """Some function of what is known of a window past its burn-in."""
    values = window.values[window.burn_in :]
    return float(np.abs(values[:, 0]).max() + np.abs(values[-1, 1]))


def one_episode(replay, steps, actor=0, terminated=True, values=None, ends=True):
    """Frame t is all t + 1, action t, reward 10 t, state t."""
    replay.begin(np.array([actor]), np.ones((1, *SHAPE), np.uint8))
    for t in range(steps):
        last = ends and t == steps - 1
        replay.add(
            np.array([actor]),
            {name: np.full((1, *shape), t, np.float32) for name, shape in STATES.items()},
            np.array([t]),
            np.array([10.0 * t]),
            np.full((1, *SHAPE), t + 2, np.uint8),
            np.array([last and terminated]),
            np.array([last and not terminated]),
            None if values is None else np.array([[values[t], 0.0]]),
        )


def test_windows_by_hand():
    # Seven steps, trace 4, period 2, burn-in 1: steps 0-3, (1) 2-5, (3) 4-6; terminated with step 6.
    replay = Replay(replace(SMALL, burn_in_steps=1), 1, SHAPE, STATES)
    one_episode(replay, 7)
    batch = replay.at(np.arange(3))
    assert batch.starts.tolist() == [0, 1, 3]
    assert batch.mask.sum(1).tolist() == [4, 5, 4]
    assert batch.learn.tolist() == [[True] * 4 + [False], [False] + [True] * 4, [False] + [True] * 3 + [False]]
    assert batch.actions.tolist() == [[0, 1, 2, 3, 0], [1, 2, 3, 4, 5], [3, 4, 5, 6, 0]]
    assert batch.last_actions.tolist() == [[0, 0, 1, 2, 3, 0], [0, 1, 2, 3, 4, 5], [2, 3, 4, 5, 6, 0]]
    assert batch.last_rewards[2].tolist() == [20, 30, 40, 50, 60, 0]
    assert batch.frames[:, :, 0, 0].tolist() == [[1, 2, 3, 4, 5, 0], [2, 3, 4, 5, 6, 7], [4, 5, 6, 7, 8, 0]]
    assert batch.discount_t[2].tolist() == [0.5, 0.5, 0.5, 0.0, 0.5]
    assert batch.state["core"][:, 0].tolist() == [0, 1, 3]


def test_an_episode_shorter_than_a_trace_is_one_window():
    replay = Replay(SMALL, 1, SHAPE, STATES)
    one_episode(replay, 1)
    one_episode(replay, 3, terminated=False)
    batch = replay.at(np.arange(2))
    assert batch.mask.tolist() == [[True, False, False, False], [True, True, True, False]]
    assert batch.learn.tolist() == batch.mask.tolist()
    assert batch.discount_t.tolist() == [[0.0, 0.5, 0.5, 0.5], [0.5] * 4]


@pytest.mark.parametrize("method", ["n-step", "peng", "watkins"])
def test_the_terminal_step_counts_and_truncation_bootstraps(method):
    """Windows shorter than a trace, in targets: rewards 0, 10, 20, discount 1/2, every value 8."""
    replay = Replay(SMALL, 1, SHAPE, STATES)
    one_episode(replay, 3, terminated=True)
    one_episode(replay, 3, terminated=False)
    batch = replay.at(np.arange(2))
    tensors = [torch.from_numpy(array) for array in (batch.r_t, batch.discount_t, batch.actions, batch.mask)]
    values = torch.full((2, 5, 18), 8.0)
    found = sequence_targets(*tensors, values, method=method, lambda_=1.0, epsilon=None)
    # Terminated: 20, 10 + 20 / 2, 20 / 2. Truncated: 20 + 8 / 2, 10 + 24 / 2, 22 / 2.
    assert found[:, :3].tolist() == [[10, 20, 20], [11, 22, 24]]


def test_stacks_at_an_episodes_start_by_hand():
    replay = Replay(replace(SMALL, stack=3), 1, SHAPE, STATES)
    one_episode(replay, 6)
    found = replay.at(np.arange(2)).observations[:, :3, :, 0, 0]
    # Frame t is all t + 1; the second window begins at step 2, with what came before it.
    assert found.tolist() == [[[0, 0, 1], [0, 1, 2], [1, 2, 3]], [[1, 2, 3], [2, 3, 4], [3, 4, 5]]]


def test_stacks_are_those_of_the_vector_environment():
    vector_env = pytest.importorskip("ale_py.vector_env")
    env = vector_env.AtariVectorEnv(
        game="pong", num_envs=1, num_threads=1, use_fire_reset=False, max_num_frames_per_episode=80
    )
    replay = Replay(ReplaySettings(capacity_sequences=9, trace_steps=8, period_steps=4, stack=4), 1)
    actor, ended, seen = np.array([0]), True, []
    observation = env.reset(seed=0)[0]
    for t in range(30):
        if ended:  # what stands there now is an episode's first observation
            seen.append([observation[0].copy()])
            replay.begin(actor, observation[:, -1])
        observation, reward, terminated, truncated, _ = env.step(np.array([t % 6]))
        seen[-1].append(observation[0].copy())
        replay.add(actor, {}, np.array([t % 6]), reward.astype(float), observation[:, -1], terminated, truncated)
        ended = terminated[0] or truncated[0]
        if ended:
            observation = env.step(np.array([0]))[0]  # only resets
    env.close()
    assert len(seen) > 1
    assert len(replay) > 3
    batch = replay.at(replay.ids)
    for row in range(len(batch)):
        n, start = batch.mask[row].sum(), batch.starts[row]
        expected = np.stack(seen[batch.episodes[row]][start : start + n + 1])
        np.testing.assert_array_equal(batch.observations[row, : n + 1], expected)


def test_each_frame_is_stored_once():
    replay = Replay(replace(SMALL, period_steps=1, compression=0, block_frames=5), 1, SHAPE, STATES)
    one_episode(replay, 99)
    assert len(replay) == 50
    # The last 50 windows begin at steps 46 ... 95 of 99: 100 - 46 frames, in blocks of five from frame 45.
    assert replay.nbytes == 55 * 6


def test_compression_keeps_every_byte():
    rng = np.random.default_rng(0)
    frames = rng.integers(3, size=(7, 20, 20), dtype=np.uint8)
    sizes = {}
    for level in (0, 1, 9):
        store = FrameStore((20, 20), block=4, compression=level)
        blocks = [store.open(), store.open()]
        for i, frame in enumerate(frames):
            store.append(blocks[i // 4], frame)
        for sealed in (False, True):  # the second block is still open at first
            for first in range(7):
                for n in range(1, 8 - first):
                    out = np.full((n, 20, 20), 255, np.uint8)
                    store.read(blocks[first // 4 :], first % 4, out)
                    np.testing.assert_array_equal(out, frames[first : first + n])
            if not sealed:
                store.seal(blocks[1])
        sizes[level] = store.nbytes
    assert sizes[0] == 7 * 400
    assert sizes[9] <= sizes[1] < sizes[0] / 2


# ------------------------------------------------------------------------------------------------------------- drawing


def filled(s=SMALL, actors=2, calls=300, seed=0, **options):
    replay = Replay(s, actors, SHAPE, STATES, by_values)
    players = Players(replay, actors, seed, **options)
    players.play(calls)
    return replay, players


def test_draws_follow_priorities_and_weights_make_up_for_them():
    replay, _ = filled()
    ids = replay.ids
    priorities = np.linspace(0, 4, len(ids))
    replay.update_priorities(ids, priorities)
    p = np.maximum(priorities, LEAST_PRIORITY) ** 0.9
    rng = np.random.default_rng(0)
    drawn = np.concatenate([replay.draw(64, rng) for _ in range(1500)])
    np.testing.assert_allclose(np.bincount(drawn - ids[0]) / len(drawn), p / p.sum(), atol=0.002)
    some = ids[[3, 40, 20, 3]]
    n, chance = len(ids), (p / p.sum())[[3, 40, 20, 3]]
    weights = (n * chance) ** -0.6
    np.testing.assert_allclose(replay.weights(some), weights / weights.max(), rtol=1e-6)
    uniform = Replay(replace(SMALL, priority_exponent=0.0), 1, SHAPE, STATES)
    one_episode(uniform, 30)
    uniform.update_priorities(np.arange(3), np.array([0.0, 9.0, 1.0]))
    assert (uniform.weights(uniform.ids) == 1).all()


def test_new_windows_get_the_largest_priority_that_there_is_or_their_own():
    replay = Replay(replace(SMALL, priority_exponent=1.0, burn_in_steps=2), 1, SHAPE, STATES, by_values)
    one_episode(replay, 4)
    assert replay._tree.weights[0] == 1.0
    replay.update_priorities(np.array([0]), np.array([3.0]))
    replay.update_priorities(np.array([0]), np.array([0.25]))
    assert replay.max_priority == 0.25  # it falls
    one_episode(replay, 4)
    assert replay._tree.weights[:2].tolist() == [0.25, 0.25]
    # Windows of steps 0-3 and (0, 1) 2-5: what is known of the burn-in does not count.
    one_episode(replay, 6, values=[-8.0, 0.0, 1.0, -1.0, 2.0, 0.0])
    assert replay._tree.weights[2:4].tolist() == [8.0, 2.0]
    one_episode(replay, 3, values=[1.0, float("nan"), 1.0])
    assert replay._tree.weights[4] == replay.max_priority == 8.0
    replay.update_priorities(np.array([2, 4]), np.array([0.5, 1.0]))
    assert replay.max_priority == 2.0


def test_priorities_of_windows_that_are_gone_are_passed_over():
    s = replace(SMALL, capacity_sequences=3)
    replay = Replay(s, 1, SHAPE, STATES)
    one_episode(replay, 4 + 2 * 4)
    assert replay.ids.tolist() == [2, 3, 4]
    replay.update_priorities(np.array([0, 1, 3, 77]), np.array([50.0, 60.0, 2.0, 70.0]))
    np.testing.assert_allclose(replay._tree.weights ** (1 / 0.9), [2.0, 1.0, 1.0])  # rows of windows 3, 4, 2
    assert replay.max_priority == 2.0
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(RarlError, match=str(wrong)):
            replay.update_priorities(np.array([3]), np.array([wrong]))
    for gone in ([1], [2, 5]):
        with pytest.raises(RarlError, match="holds 2 to 4"):
            replay.at(np.array(gone))


@pytest.mark.parametrize("retrieval", ["priority", "uniform"])
def test_what_is_retrieved_from_never_overlaps_with_what_is_learned_from(retrieval):
    s = replace(SMALL, retrieval=retrieval, burn_in_steps=1, capacity_sequences=60)
    replay, _ = filled(s, actors=3, calls=600, mean_steps=30.0)
    assert len(replay) == 60
    rng = np.random.default_rng(1)
    shared = 0
    for _ in range(20):
        replay.update_priorities(replay.ids, rng.random(60))
        draw = replay.sample(6, 12, rng)
        assert (len(draw.learn), len(draw.retrieve), draw.weights.shape) == (6, 12, (6,))
        assert draw.weights.max() == 1
        assert len(set(draw.retrieve.ids.tolist())) == 12
        np.testing.assert_array_equal(draw.learn.frames, replay.at(draw.learn.ids).frames)
        np.testing.assert_array_equal(draw.retrieve.frames, replay.at(draw.retrieve.ids).frames)
        overlap = replay.overlap(draw.learn.ids, draw.retrieve.ids)
        for i in range(6):
            for j in range(12):
                a, b = ((w.episodes[k], w.starts[k], w.mask[k].sum()) for w, k in ((draw.learn, i), (draw.retrieve, j)))
                same = a[0] == b[0]
                observations = [{*range(start, start + n + 1)} for _, start, n in (a, b)]
                assert not (same and observations[0] & observations[1])
                assert not overlap[i, j]
                shared += same
    assert shared > 0  # the same episode is met
    everything = replay.overlap(replay.ids, replay.ids)
    assert everything.diagonal().all()
    assert (everything == everything.T).all()


@given(
    replay_settings(), st.sampled_from(["priority", "uniform"]), st.integers(1, 4), st.integers(0, 2**32),
)  # fmt: skip
@settings(max_examples=30)
def test_draws_against_a_slow_reference(s, retrieval, size, seed):
    s = replace(s, retrieval=retrieval)
    replay, _ = filled(s, calls=80, seed=seed, mean_steps=6.0)
    if not len(replay):
        return
    rng = np.random.default_rng(seed)
    priorities = rng.random(len(replay)) * 3
    replay.update_priorities(replay.ids, priorities)
    everything = replay.at(replay.ids)
    seen = {
        int(i): {(episode, t) for t in range(start, start + n + 1)}
        for i, episode, start, n in zip(
            replay.ids, everything.episodes, everything.starts, everything.mask.sum(1), strict=True
        )
    }
    learn = replay.draw(size, rng).tolist()
    apart = [i for i in seen if not any(seen[i] & seen[j] for j in learn)]
    # All that may be drawn, each once, and not one more.
    assert sorted(replay.draw_apart(len(apart), rng, np.array(learn)).tolist()) == apart
    with pytest.raises(RarlError, match=f"in the replay {len(apart)} share no"):
        replay.draw_apart(len(apart) + 1, rng, np.array(learn))
    chance = priorities**s.priority_exponent / (priorities**s.priority_exponent).sum()
    weights = np.array([(len(seen) * chance[i - replay.ids[0]]) ** -s.importance_exponent for i in learn])
    np.testing.assert_allclose(replay.weights(np.array(learn)), weights / weights.max(), rtol=1e-5)


def test_retrieval_is_by_priority_or_uniform_and_without_replacement():
    weights = np.array([1.0, 1.0, 2.0, 4.0])
    for retrieval, expected in (
        ("uniform", [0.25] * 4),
        ("priority", weights / 8),
    ):
        replay = Replay(replace(SMALL, retrieval=retrieval, priority_exponent=1.0), 1, SHAPE, STATES)
        for _ in range(4):
            one_episode(replay, 4)
        replay.update_priorities(np.arange(4), weights)
        rng = np.random.default_rng(0)
        draws = np.array([replay.draw_apart(2, rng) for _ in range(4000)])
        assert (draws[:, 0] != draws[:, 1]).all()
        np.testing.assert_allclose(np.bincount(draws[:, 0]) / 4000, expected, atol=0.03)
        # The second, given the first: the others in proportion.
        after_last = draws[draws[:, 0] == 3, 1]
        rest = np.array(expected[:3]) / sum(expected[:3])
        np.testing.assert_allclose(np.bincount(after_last) / len(after_last), rest, atol=0.05)
        assert sorted(replay.draw_apart(4, rng)) == [0, 1, 2, 3]
        assert sorted(replay.draw_apart(3, rng, np.array([1]))) == [0, 2, 3]
        assert len(replay.sample(3, 0, rng).retrieve) == 0


def test_too_few_windows_are_named():
    rng = np.random.default_rng(0)
    replay = Replay(SMALL, 1, SHAPE, STATES)
    with pytest.raises(RarlError, match="without a complete window"):
        replay.draw(1, rng)
    one_episode(replay, 9)
    with pytest.raises(RarlError, match="of 4 in the replay 0 share no observation"):
        replay.draw_apart(1, rng, np.array([1, 2]))


@pytest.mark.unchecked
def test_what_does_not_fit_is_refused():
    replay = Replay(SMALL, 2, SHAPE, STATES)
    frames, no = np.zeros((1, *SHAPE), np.uint8), np.array([False])
    states = {name: np.zeros((1, *shape), np.float32) for name, shape in STATES.items()}

    def add(actor=0, states=states, frames=frames, rewards=1, error=np.nan):
        replay.add(np.array([actor]), states, np.array([0]), np.zeros(rewards), frames, no, no, np.array([[error]]))

    with pytest.raises(RarlError, match="actor 0: a step outside of an episode"):
        add()
    replay.begin(np.array([0]), frames)
    with pytest.raises(RarlError, match="actor 0: begins an episode"):
        replay.begin(np.array([1, 0]), np.zeros((2, *SHAPE), np.uint8))
    assert replay._cutters[1].episode is None
    with pytest.raises(RarlError, match="actor 2: there are 2"):
        add(2)
    with pytest.raises(RarlError, match=r"frames of uint8 \(1, 3, 2\)"):
        add(frames=frames.transpose(0, 2, 1))
    with pytest.raises(RarlError, match="frames of float32"):
        add(frames=frames.astype(np.float32))
    with pytest.raises(RarlError, match="must be"):
        add(states={"core": states["core"]})
    with pytest.raises(RarlError, match="'slots' of shape"):
        add(states={**states, "slots": states["slots"][0]})
    with pytest.raises(RarlError, match="a step of 1 actors needs as many actions, rewards"):
        add(rewards=2)
    with pytest.raises(RarlError, match="infinite"):
        add(error=-np.inf)
    assert (replay.steps_added, replay._cutters[0].steps) == (0, 0)
    for name, value in {
        "period_steps": 5,
        "trace_steps": 0,
        "stack": 0,
        "burn_in_steps": -1,
        "discount": 0.0,
        "compression": 10,
        "retrieval": "best",
        "priority_exponent": -0.1,
    }.items():
        with pytest.raises(RarlError, match=f"{name}="):
            replace(SMALL, **{name: value})


# --------------------------------------------------------------------------------------------------------------- state


@pytest.mark.parametrize("compression", [0, 1])
@pytest.mark.parametrize("calls", [3, 60, 700], ids=["few", "some", "more-than-fit"])
def test_a_restored_replay_goes_on_as_the_one_that_was_saved(tmp_path, calls, compression):
    s = replace(SMALL, burn_in_steps=3, stack=2, compression=compression)
    replay, players = filled(s, actors=3, calls=calls)
    rng = np.random.default_rng(3)
    if len(replay):
        replay.update_priorities(replay.draw(16, rng), rng.random(16) * 5)
    state = replay.state_dict()
    bad = checkpoints.first_not_finite(state)
    assert bad is None
    checkpoints.save(tmp_path / "c.pt", state, checkpoints.Header("test"))
    restored = Replay(s, 3, SHAPE, STATES, by_values)
    restored.load_state_dict(checkpoints.load(tmp_path / "c.pt").state)
    for one, other in zip(replay._cutters, restored._cutters, strict=True):
        np.testing.assert_array_equal(other._values, one._values)  # unknown ones included
    others = Players(restored, 3, 0, unknown=players.unknown)
    others.rng.bit_generator.state = players.rng.bit_generator.state
    others.now = [e and Episode(e.number) for e in players.now]
    assert any(others.now)
    others.left, others.episodes = list(players.left), list(players.episodes)
    for _ in range(3):
        draws = []
        for one, who in ((replay, players), (restored, others)):
            check_frames_held(one)
            who.play(60)
            drawing = np.random.default_rng(4)
            drawn = one.sample(8, 2, drawing)
            one.update_priorities(drawn.learn.ids, drawing.random(8))
            draws.append(drawn)
        for mine, theirs in zip(*((d.learn, d.retrieve) for d in draws), strict=True):
            for name, array in vars(mine).items():
                np.testing.assert_equal(getattr(theirs, name), array)
        np.testing.assert_array_equal(draws[0].weights, draws[1].weights)
    saved = [tmp_path / name for name in ("one.pt", "two.pt")]
    for one, file in zip((replay, restored), saved, strict=True):
        checkpoints.save(file, one.state_dict(), checkpoints.Header("test"))
    assert saved[0].read_bytes() == saved[1].read_bytes()
    check_all_windows(replay, players)


def test_a_state_is_a_copy():
    replay, players = filled(calls=100)
    state = replay.state_dict()
    tensors = {**state["rows"], **state["states"], "frames": state["store"]["data"]}
    before, priorities = {name: tensor.clone() for name, tensor in tensors.items()}, state["priorities"].copy()
    players.play(300)
    replay.update_priorities(replay.ids, np.full(len(replay), 9.0))
    for name, tensor in before.items():
        assert torch.equal(tensors[name], tensor), name
    np.testing.assert_array_equal(state["priorities"], priorities)
    # And the only one: what is large goes into a checkpoint as it is.
    encoded = checkpoints.encode(state)
    assert encoded["store"]["data"].data_ptr() == tensors["frames"].data_ptr()
    assert encoded["rows"]["rewards"].data_ptr() == state["rows"]["rewards"].data_ptr()
    assert encoded["states"]["core"].data_ptr() == state["states"]["core"].data_ptr()


def test_a_state_of_other_settings_is_refused():
    replay, _ = filled(calls=100)
    state = replay.state_dict()
    for other, message in (
        (Replay(replace(SMALL, trace_steps=5), 2, SHAPE, STATES), "trace_steps: 4 then, 5 now"),
        (Replay(SMALL, 3, SHAPE, STATES), "actors: 2 then, 3 now"),
        (Replay(SMALL, 2, SHAPE, {"core": (2,)}), r"state slots: \[2, 3\] then, absent now"),
    ):
        with pytest.raises(RarlError, match=message):
            other.load_state_dict(state)
