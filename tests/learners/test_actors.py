"""Actors: what they hand to the replay, against a slow and literal reading of what was played."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from rarl.agents.build import build_network
from rarl.agents.policy import Policy
from rarl.envs.atari.observation import EXTRA_BYTES, FRAME_BYTES
from rarl.envs.atari.packed import FrameCodec
from rarl.learners.actors import Actors, Stepped
from rarl.nn.value_network import State
from tests.fake_games import FakeGames, Watched
from tests.tiny import settings_of

N, DISCOUNT, EPSILON = 4, 0.9, 1e-3
RETRIEVAL = {"n_f": 2, "d_m": 8, "d_e": 8, "d_h": 8, "d_v": 8, "slot_heads": 2, "n_traj": 3, "k_traj": 2, "k_states": 3}
AGENTS = {
    "gru": {"core": "gru"},
    "slots": {"core": "gru", "retrieval": {"process": "slots"}},
    "stack": {"core": "none"},
}


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def actors_of(name, rescale=EPSILON, **options):
    """Actors of a fresh network; with slots there is something to retrieve."""
    torch.manual_seed(0)
    agent = {"encoder": "tiny", "d_s": 8, "dueling": True, "retrieval": RETRIEVAL, **AGENTS[name]}
    stack = 4 if name == "stack" else 1
    envs = FakeGames.packed(N, stack, **options)
    network = build_network(settings_of("atari", agent, {"stack": stack}), len(envs.actions)).requires_grad_(False)
    policy = Policy(network, np.full(N, 0.3), np.random.default_rng(5))
    if network.retriever is not None:
        steps = (1, 3, 5)
        policy.retrieved = network.process.summarise(
            torch.randn(*steps, 8), torch.zeros(steps, dtype=torch.int64), torch.zeros(steps)
        )
    return Actors(envs, Watched.watch(policy), FrameCodec(stack))


def h(x):
    return math.copysign(math.sqrt(abs(x) + 1) - 1, x) + EPSILON * x


def h_inverse(y):
    root = math.sqrt(1 + 4 * EPSILON * (abs(y) + 1 + EPSILON))
    return math.copysign(((root - 1) / (2 * EPSILON)) ** 2 - 1, y)


def test_values_are_those_before_and_after_each_step():
    actors = actors_of("gru", ends=0.1, cut=0.1)
    events = [event for _ in range(6) for event in actors.play(11).events if isinstance(event, Stepped)]
    calls, log = actors.policy.calls, actors.envs.games.log
    assert len(events) == len(calls) - 1 == len(log) - 1  # the last one waits for the value of what comes next
    cut_off = 0
    for t, event in enumerate(events):
        step = log[t][1]
        for i in range(N):
            if step.truncated[i]:
                cut_off += 1
                assert np.isnan(event.values[i]).all()
                continue
            np.testing.assert_array_equal(event.values[i], [*calls[t][3][i], *calls[t + 1][3][i]])
    assert cut_off > 10


@pytest.mark.parametrize("name", AGENTS)
def test_events_say_what_was_played(name):
    """Also that each frame is the one after its step, an episode's last included, and each first frame the first."""
    actors = actors_of(name, ends=0.1, cut=0.1)
    events = [event for _ in range(5) for event in actors.play(9).events]
    calls, log = actors.policy.calls, actors.envs.games.log
    steps = [event for event in events if isinstance(event, Stepped)]
    for t, event in enumerate(steps):
        actions, step = log[t]
        assert (event.actions == actions).all()
        assert (event.frames == step.observations).all()
        for part in ("rewards", "terminated", "truncated"):
            assert (getattr(event, part) == getattr(step, part)).all()
        assert event.states.keys() == {"gru": {"core"}, "slots": {"core", "slots"}, "stack": set()}[name]
        for part, array in event.states.items():
            assert (array == calls[t][2][part]).all()
    # Begun before the first step of an episode, after the last of the one before.
    t, began = 0, []
    for event in events:
        if isinstance(event, Stepped):
            t += 1
            continue
        first, x = calls[t][:2]
        assert (event.actors == np.flatnonzero(first)).all()
        newest = x[event.actors, -EXTRA_BYTES - FRAME_BYTES : -EXTRA_BYTES]
        assert (event.frames.reshape(len(event.actors), -1) == newest).all()
        assert (x[event.actors, : -EXTRA_BYTES - FRAME_BYTES] == 0).all()
        began.append(t)
        if t:
            ended = log[t - 1][1].terminated | log[t - 1][1].truncated
            assert (ended == first).all()
    assert began[0] == 0
    assert len(began) > 10


def test_what_was_done_before_is_part_of_the_observation():
    actors = actors_of("stack", ends=0.1, cut=0.1)
    actors.play(60)
    for t, (first, x, *_) in enumerate(actors.policy.calls):
        for i in range(N):
            action = 0 if first[i] else log_of(actors, t - 1)[0][i]
            reward = 0.0 if first[i] else log_of(actors, t - 1)[1].rewards[i]
            assert x[i, -EXTRA_BYTES] == action
            assert x[i, -EXTRA_BYTES + 1 :].copy().view("<f4")[0] == reward


def log_of(actors, t):
    assert t >= 0
    return actors.envs.games.log[t]


def episodes_of(actors):
    """[(actor, [call numbers])] of all episodes, unfinished ones too, in the order in which they began."""
    found, now = [], {}
    for t, (first, *_) in enumerate(actors.policy.calls):
        for i in range(N):
            if first[i]:
                now[i] = (i, [])
                found.append(now[i])
            now[i][1].append(t)
    return found


@pytest.mark.parametrize("name", ["gru", "slots"])
def test_recurrent_states_are_those_of_each_episode_unrolled_from_its_start(name):
    actors = actors_of(name, ends=0.06, cut=0.04)
    actors.play(60)
    policy, calls = actors.policy, actors.policy.calls
    network = policy.network
    assert network.core is not None
    lengths = []
    for actor, times in episodes_of(actors):
        x = torch.from_numpy(np.stack([calls[t][1][actor] for t in times]))[None, None]
        start = network.initial_state(1, 1)
        context = torch.zeros(1, 1, 1, dtype=torch.int64)
        with torch.no_grad():
            unrolled = network.unroll(x, context, start, policy.retrieved, keep_states=True)
        q = np.stack([calls[t][3][actor] for t in times])
        np.testing.assert_allclose(q, unrolled.q[0, 0].numpy(), atol=1e-5)
        for j, t in enumerate(times):
            state = start if j == 0 else State(*(p if p is None else p[:, :, j - 1] for p in unrolled.trail))
            for part, kept in calls[t][2].items():
                expected = getattr(state, part).expand(1, 1, *kept.shape[1:])[0, 0].numpy()
                np.testing.assert_allclose(kept[actor], expected, atol=1e-5)
        lengths.append(len(times))
    assert len(lengths) > 12
    assert max(lengths) > 12


def test_returns_are_those_of_the_episodes_that_ended():
    actors = actors_of("gru", ends=0.1, cut=0.05)
    gained = [actors.play(13) for _ in range(4)]
    expected, returns, lengths = [], np.zeros(N), np.zeros(N, dtype=int)
    for _, step in actors.envs.games.log:
        returns += step.rewards
        lengths += 1
        for i in np.flatnonzero(step.terminated | step.truncated):
            expected.append((returns[i], lengths[i]))
            returns[i], lengths[i] = 0, 0
    found = [pair for part in gained for pair in zip(part.returns, part.lengths, strict=True)]
    assert found == expected
    assert len(found) > 15


def test_values_that_are_not_finite_are_unknown():
    """The learner reports them; the replay takes no infinite error."""
    actors = actors_of("gru", ends=0.0, cut=0.0)
    actors.play(3)
    actors.policy.network.head.q.bias[0] = float("inf")
    events = [event for event in actors.play(2).events if isinstance(event, Stepped)]
    assert np.isnan(events[0].values).all()
