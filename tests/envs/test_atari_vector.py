"""Atari environments in lockstep: what is seen, where episodes begin and end, and that they can be resumed exactly."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from rarl.envs.atari.games import ACTIONS
from rarl.envs.atari.vector import VectorAtari
from rarl.errors import RarlError
from rarl.runs.checkpoints import decode, encode
from tests.envs.plain_atari import PlainAtari, is_rounded, shrink

SHORT = {"noop_max": 0, "max_frames": 80}  # episodes of 20 steps


def play(envs, steps, seed, trace=None):
    """Random play; ended episodes begin anew. What came of it, one tuple a step."""
    rng, out = np.random.default_rng(seed), [] if trace is None else trace
    for _ in range(steps):
        step = envs.step(rng.integers(envs.num_actions, size=envs.num_envs))
        ended = np.flatnonzero(step.terminated | step.truncated)
        begun = envs.reset(where=ended) if len(ended) else None
        out.append((*step, begun))
    return out


def assert_same(one, other):
    assert len(one) == len(other)
    for t, (a, b) in enumerate(zip(one, other, strict=True)):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y, err_msg=f"step {t}")


@pytest.mark.parametrize(("game", "full_actions"), [("breakout", True), ("freeway", False)])
def test_frames_rewards_and_lives_are_a_plain_players(game, full_actions):
    envs = VectorAtari([game], noop_max=0, full_actions=full_actions)
    plain, rng = PlainAtari(game, full_actions), np.random.default_rng(0)
    assert envs.num_actions == len(plain.actions) == (18 if full_actions else 3)
    assert is_rounded(envs.reset()[0], shrink(plain.look()))
    earned = 0.0
    for _ in range(150):
        action = rng.integers(envs.num_actions)
        step = envs.step(np.array([action]))
        exact, reward, over = plain.step(action)
        assert (step.rewards[0], step.terminated[0], step.lives[0]) == (reward, over, plain.ale.lives())
        earned += reward
        if over:
            break
        assert is_rounded(step.observations[0], exact)
    assert earned > 0 or game == "freeway"
    for name, kind in zip(step._fields, (np.uint8, np.float32, bool, bool, np.int64), strict=True):
        assert getattr(step, name).dtype == kind


def test_episodes_begin_with_up_to_30_no_ops():
    """Freeway's cars move on every frame, so that a first observation tells how many there were."""
    plain, after = PlainAtari("freeway"), []
    for _ in range(40):
        after.append(shrink(plain.look()))
        plain.ale.act(0)

    def number_of(observation):
        (number,) = (k for k, exact in enumerate(after) if is_rounded(observation, exact))
        return number

    envs = VectorAtari(["freeway"], seed=3)
    noops = [number_of(envs.reset()[0]) for _ in range(70)]
    assert (min(noops), max(noops)) == (0, 30)
    assert len(set(noops)) > 20
    none = VectorAtari(["freeway"], noop_max=0)
    assert {number_of(none.reset()[0]) for _ in range(3)} == {0}


def test_lost_lives_end_nothing_and_lost_games_terminate():
    envs, rng = VectorAtari(["breakout"], noop_max=0), np.random.default_rng(1)
    envs.reset()
    lives = [5]
    for _ in range(1000):
        step = envs.step(rng.integers(18, size=1))
        lives.append(int(step.lives[0]))
        assert not step.truncated[0]
        if step.terminated[0]:
            break
        assert envs.active[0]
        assert lives[-1] > 0
    assert sorted(set(lives), reverse=True) == [5, 4, 3, 2, 1, 0]
    assert lives == sorted(lives, reverse=True)
    assert not envs.active[0]
    # Capped in any frame of the step in which the game is lost: one of the two, and never both.
    n, ends = len(lives) - 1, set()
    for max_frames in range(4 * n - 3, 4 * n + 1):
        capped, rng = VectorAtari(["breakout"], noop_max=0, max_frames=max_frames), np.random.default_rng(1)
        capped.reset()
        for _ in range(n):
            assert capped.active[0]
            step = capped.step(rng.integers(18, size=1))
        ends.add((bool(step.terminated[0]), bool(step.truncated[0])))
        assert not capped.active[0]
    assert (True, False) in ends
    assert ends <= {(True, False), (False, True)}


def test_capped_episodes_are_truncated_and_stand_still():
    envs = VectorAtari(["pong"] * 2, **SHORT)
    envs.reset()
    for _ in range(5):
        envs.step(np.array([2, 2]))
    envs.reset(where=np.array([1]))  # one begins anew, the other one goes on
    ends = []
    for t in range(5, 30):
        step = envs.step(np.array([3, 4]))
        assert not step.terminated.any()
        ends.append(step.truncated.tolist())
        if t == 19:
            last = step.observations[0]
        if t > 19:
            np.testing.assert_array_equal(step.observations[0], last)
            assert (step.rewards[0], step.lives[0]) == (0, 0)
    assert np.argwhere(ends).tolist() == [[19 - 5, 0], [24 - 5, 1]]
    assert not envs.active.any()


def test_the_emulators_own_automatic_reset_gives_the_same_episodes():
    """Nothing is lost or added between episodes: the same emulator, resetting itself, goes through the same screens."""
    from ale_py.vector_env import AtariVectorEnv

    theirs = AtariVectorEnv(
        "freeway", 1, num_threads=1, stack_num=1, noop_max=31, use_fire_reset=False, reward_clipping=False,
        full_action_space=True, max_num_frames_per_episode=80,
    )  # fmt: skip
    ours = VectorAtari(["freeway"], max_frames=80)
    rng = np.random.default_rng(0)
    expected, _ = theirs.reset(seed=np.array([11]))
    np.testing.assert_array_equal(ours.reset([11])[0], expected[0, 0])
    for _ in range(70):
        action = rng.integers(18, size=1)
        step = ours.step(action)
        expected, reward, terminated, truncated, _ = theirs.step(action)
        np.testing.assert_array_equal(step.observations[0], expected[0, 0])
        assert (step.rewards[0], step.terminated[0], step.truncated[0]) == (reward[0], terminated[0], truncated[0])
        if truncated[0]:
            expected, *_ = theirs.step(np.array([5]))  # this action is ignored
            np.testing.assert_array_equal(ours.reset()[0], expected[0, 0])


def test_seeds_fix_episodes_whatever_else_is_played():
    """The same game, seed and actions: the same episode, in any place, beside any other, with any number of threads."""

    def episode(envs, row, seed):
        rng, out = np.random.default_rng(0), []
        out.append(envs.reset([seed], np.array([row]))[row])
        for _ in range(20):
            actions = np.full(envs.num_envs, rng.integers(18))
            actions[np.arange(envs.num_envs) != row] = 2
            out.append(envs.step(actions).observations[row])
        return np.stack(out)

    alone = VectorAtari(["freeway"], seed=1, sticky=0.25)
    beside = VectorAtari(["pong", "freeway", "freeway"], seed=2, sticky=0.25, threads=2)
    beside.reset()
    one = episode(alone, 0, 7)
    np.testing.assert_array_equal(one, episode(beside, 2, 7))
    np.testing.assert_array_equal(one, episode(beside, 1, 7))
    assert (one != episode(alone, 0, 8)).any()
    with pytest.raises(ValueError, match="1 environments to start need as many seeds, not 2"):
        alone.reset([1, 2])
    for seed in (-1, 2**31):
        with pytest.raises(ValueError, match=f"seeds are 0 to 2147483647, got {seed}"):
            alone.reset([seed])


def test_a_reset_of_one_is_not_noticed_by_the_others():
    """Neither in the episode nor in the next one of its stream."""
    envs = VectorAtari(["freeway"] * 2, sticky=0.25, threads=2)

    def episode(resets):
        out = [envs.reset([3, 7])[1]]
        for t in range(12):
            for _ in range(resets if t in (4, 5) else 0):
                before = envs.observations[1]
                np.testing.assert_array_equal(envs.reset(where=np.array([0]))[1], before)
            out.append(envs.step(np.array([2, t])).observations[1])
        return np.stack([*out, envs.reset(where=np.array([1]))[1]])

    np.testing.assert_array_equal(episode(resets=0), episode(resets=2))


def test_each_environment_has_a_stream_of_its_own():
    one, other = (VectorAtari(["freeway"] * 2, seed=5) for _ in range(2))
    first = one.reset()
    assert (first[0] != first[1]).any()
    other.reset(where=np.array([1]))
    np.testing.assert_array_equal(other.reset(where=np.array([0]))[0], first[0])


def test_resumed_equals_undisturbed(tmp_path):
    """Killed in the middle of episodes, after some have ended and with sticky actions: in a new process, or going back
    in time in the same one; with one environment on its way, at its end, and standing still."""

    def fresh(seed, threads=1):
        games = ["freeway", "breakout"]
        return VectorAtari(games, seed=seed, max_frames=100, reseed_after=60, threads=threads, sticky=0.25)

    envs = fresh(4)
    envs.reset()
    play(envs, 40, seed=0)
    envs.reset(where=np.array([0]))  # out of turn
    play(envs, 13, seed=1)
    for way in ("playing", "just ended", "stands still"):
        if way != "playing":
            while envs.active[1]:
                envs.step(np.array([1, 1]))
            if way == "stands still":
                envs.step(np.array([1, 1]))
        state = envs.state_dict()
        assert state["active"][1] == (way == "playing")
        torch.save(encode(state), tmp_path / "state.pt")
        resumed = fresh(9, threads=2) if way == "playing" else envs
        after = play(envs, 3, seed=2)
        begun = envs.reset(where=np.array([1]))
        play(envs, 50, seed=3, trace=after)
        resumed.load_state_dict(decode(torch.load(tmp_path / "state.pt", weights_only=True)))
        again = play(resumed, 3, seed=2)
        np.testing.assert_array_equal(resumed.reset(where=np.array([1])), begun)
        assert_same(play(resumed, 50, seed=3, trace=again), after)


def test_logs_are_bounded_by_new_seeds():
    envs = VectorAtari(["pong"], reseed_after=30, **SHORT)
    envs.reset()
    lengths = []
    for _ in range(7):
        play(envs, 20, seed=0)
        lengths.append(len(envs.state_dict()["emulators"][0]["log"]))
    # 20 actions; the restart and 20 more; then, more than 30 being there, a new seed.
    assert lengths == [21, 0, 21, 0, 21, 0, 21]


def test_states_that_do_not_fit_are_refused():
    envs = VectorAtari(["freeway"], **SHORT)
    envs.reset()
    play(envs, 5, seed=0)
    state = envs.state_dict()
    with pytest.raises(RarlError, match="other Atari environments"):
        VectorAtari(["pong"], **SHORT).load_state_dict(state)
    with pytest.raises(RarlError, match=r"other Atari environments.*'noop_max': 0.*'noop_max': 1"):
        VectorAtari(["freeway"], **(SHORT | {"noop_max": 1})).load_state_dict(state)
    state["emulators"][0]["log"] = np.full_like(state["emulators"][0]["log"], 2)
    with pytest.raises(RarlError, match="does not play as it did"):
        envs.load_state_dict(state)


def test_wrong_games_and_actions():
    with pytest.raises(RarlError, match="unknown Atari game 'Pong'; did you mean 'pong'"):
        VectorAtari(["Pong"])
    told = "need the same actions: pong has 6, freeway has 3; full_actions may help"
    with pytest.raises(RarlError, match=told):
        VectorAtari(["pong", "freeway"], full_actions=False)
    with pytest.raises(RarlError, match=r"pong has 18, skiing has 9$"):
        VectorAtari(["pong", "skiing"])
    envs = VectorAtari(["pong"], full_actions=False)
    assert envs.actions == ("noop", "fire", "right", "left", "rightfire", "leftfire")
    envs.reset()
    for action in (-1, 6):
        with pytest.raises(ValueError, match=rf"actions are 0 to 5, got \[{action}\]"):
            envs.step(np.array([action]))


def test_what_is_returned_is_the_callers():
    envs = VectorAtari(["freeway"])
    assert envs.actions == ACTIONS
    defaults = {"sticky": 0.0, "noop_max": 30, "frame_skip": 4, "max_frames": 108_000, "fire_on_start": False}
    assert defaults.items() <= envs.state_dict()["settings"].items()
    first = envs.reset()
    kept = first.copy()
    second = envs.step(np.array([0]))
    copies = [part.copy() for part in second]
    envs.step(np.array([0]))
    np.testing.assert_array_equal(first, kept)
    for part, copy in zip(second, copies, strict=True):
        np.testing.assert_array_equal(part, copy)


def test_the_emulator_is_imported_only_when_an_environment_is_made():
    code = (
        "import sys, rarl.envs, rarl.envs.catalogue, rarl.envs.atari.packed, rarl.envs.atari.scores; "
        "assert 'ale_py' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
