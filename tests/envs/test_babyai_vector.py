"""Environments in lockstep against minigrid's, one by one."""

from __future__ import annotations

import numpy as np
import pytest

from rarl.envs.babyai.expert import Expert, ExpertFailed
from rarl.envs.babyai.levels import LEVELS, level_named
from rarl.envs.babyai.missions import words
from rarl.envs.babyai.vector import VectorBabyAI, make_vector
from rarl.envs.babyai.view import MARGIN, WALL, cell_code, decode
from tests.envs.plain_babyai import ACTIONS, busy_action, plain_level, plain_reset


def check_observation(observation, theirs):
    np.testing.assert_array_equal(decode(observation[:49]), theirs["image"])
    assert observation[49] == theirs["direction"]


def walk_beside_minigrid(levels, seed, steps, policy):
    """All levels at once (grids of different sizes), each beside an untouched environment."""
    envs, plain = VectorBabyAI(levels), [plain_level(level) for level in levels]
    seeds = np.random.default_rng(seed).integers(2**40, size=len(levels))
    observations = envs.reset(seeds)
    for i, env in enumerate(plain):
        theirs = plain_reset(env, int(seeds[i]))
        check_observation(observations[i], theirs)
        assert words(envs.context[i]) == theirs["mission"]
        assert envs.max_steps[i] == env.max_steps
    act = policy(envs)
    events = {"terminated": 0, "truncated": 0, "carrying": 0, "grid": 0}
    for _ in range(steps):
        was_active = envs.active.copy()
        actions = np.array([act(i) if was_active[i] else 0 for i in range(len(levels))])
        observations, rewards, terminated, truncated = envs.step(actions)
        assert (observations.dtype, rewards.dtype) == (np.uint8, np.float32)
        for i in np.flatnonzero(was_active):
            before = [cell_code(cell) for cell in plain[i].grid.grid]
            theirs, reward, end, timeout, _ = plain[i].step(int(actions[i]))
            check_observation(observations[i], theirs)
            assert (rewards[i], terminated[i], truncated[i]) == (np.float32(reward), end, timeout)
            assert envs.active[i] == (not (end or timeout))
            assert envs.success[i] == (end and reward > 0)
            events["terminated"] += end
            events["truncated"] += timeout
            events["carrying"] += plain[i].carrying is not None
            events["grid"] += before != [cell_code(cell) for cell in plain[i].grid.grid]
        if not envs.active.any():
            break
    for i, env in enumerate(plain):  # the grids of codes, with what is not in view
        padded = envs._codes[i].reshape(envs._stride, -1).copy()
        inside = padded[MARGIN : MARGIN + env.height, MARGIN : MARGIN + env.width]
        expected = [cell_code(env.grid.get(x, y)) for y in range(env.height) for x in range(env.width)]
        np.testing.assert_array_equal(inside.ravel(), expected)
        inside[:] = WALL
        assert (padded == WALL).all()
    return events


def random_policy(rng):
    return lambda envs: lambda i: busy_action(rng)


def expert_policy(rng, noise):
    def policy(envs):
        experts = [Expert(env) for env in envs.envs]
        last = [None] * len(experts)

        def act(i):
            try:
                last[i] = experts[i].action(last[i])
            except ExpertFailed:
                last[i] = busy_action(rng)
            if rng.random() < noise:
                last[i] = busy_action(rng)
            return last[i]

        return act

    return policy


@pytest.mark.parametrize("seed", range(2))
def test_random_walks_on_all_levels(seed):
    events = walk_beside_minigrid(LEVELS, seed, 250, random_policy(np.random.default_rng(seed)))
    assert events["carrying"] > 100
    assert events["grid"] > 60
    assert events["terminated"] > 3
    assert events["truncated"] > 3


@pytest.mark.parametrize("noise", [0, 0.2])
def test_expert_walks_on_all_levels(noise):
    events = walk_beside_minigrid(LEVELS, 7, 120, expert_policy(np.random.default_rng(0), noise))
    assert events["terminated"] > 25
    assert events["carrying"] > 200
    assert events["grid"] > 60


def test_ended_environments_stand_still():
    envs = VectorBabyAI([level_named("GoToObj"), level_named("OneRoomS8"), level_named("PickupDist")])
    rng = np.random.default_rng(0)
    observations = envs.reset(np.arange(3))
    final, ends = {}, np.zeros(3, dtype=int)
    for _ in range(80):
        before = observations
        observations, rewards, terminated, truncated = envs.step(rng.integers(ACTIONS, size=3))
        for i in range(3):
            if i in final:
                np.testing.assert_array_equal(observations[i], before[i])
                assert not rewards[i]
                assert not terminated[i]
                assert not truncated[i]
            elif terminated[i] or truncated[i]:
                final[i] = observations[i]
        ends += terminated | truncated
    assert ends.tolist() == [1, 1, 1]
    assert not envs.active.any()


def test_some_start_again_while_others_go_on():
    level = level_named("GoToLocal")
    envs, alone = VectorBabyAI([level] * 3), VectorBabyAI([level])
    first = envs.reset(np.array([5, 6, 7]))
    envs.step(np.array([2, 2, 2]))
    observations = envs.reset(np.array([9]), where=np.array([1]))
    np.testing.assert_array_equal(observations[1], alone.reset(np.array([9]))[0])
    assert words(envs.context[1]) == words(alone.context[0])
    assert [env.step_count for env in envs.envs] == [1, 0, 1]
    assert (first[0] != observations[0]).any()
    with pytest.raises(ValueError, match="2 environments to start need as many seeds, not 1"):
        envs.reset(np.array([9]), where=np.array([0, 1]))


def test_without_seeds_an_environments_own_random_numbers_go_on():
    levels = [level_named(name) for name in ("GoToLocal", "PickupDist", "GoToLocal")]
    one, same, other = VectorBabyAI(levels, seed=3), VectorBabyAI(levels, seed=3), VectorBabyAI(levels, seed=4)
    starts = [one.reset(), one.reset(), one.reset(where=np.array([1, 2]))]
    assert (starts[0] != starts[1]).any()
    assert (starts[1][0] == starts[2][0]).all()
    assert (starts[1][1:] != starts[2][1:]).any(1).all()
    np.testing.assert_array_equal(same.reset(), starts[0])
    same.reset(np.arange(3))  # a seed does not move them
    np.testing.assert_array_equal(same.reset(), starts[1])
    assert (other.reset() != starts[0]).any()


def test_what_is_told_goes_with_the_episode():
    levels = [level_named("GoToLocal"), level_named("PickupDist")]
    envs = make_vector(["GoToLocal", "PickupDist"])
    assert envs.levels == tuple(levels)
    envs.reset(np.array([1, 2]))
    before = envs.context.copy()
    envs.step(np.array([0, 0]))
    np.testing.assert_array_equal(envs.context, before)
    envs.reset(np.array([5]), np.array([1]))
    np.testing.assert_array_equal(envs.context[0], before[0])
    theirs = plain_reset(plain_level(levels[1]), 5)
    assert words(envs.context[1]) == theirs["mission"]


def test_it_goes_on_where_it_was_saved():
    """In the middle of episodes, with one that has ended, and one that never began."""
    names = ["UnlockPickup", "GoToRedBallGrey", "PickupLoc", "GoToObj"]
    envs, other = make_vector(names, 7), make_vector(names, 8)
    rng = np.random.default_rng(0)
    envs.reset(where=np.arange(3))
    for _ in range(20):
        envs.step(rng.integers(6, size=4))
    envs.active[1] = False
    other.reset()
    other.load_state_dict(envs.state_dict())
    assert other.active.tolist() == envs.active.tolist()
    assert (other.context[:3] == envs.context[:3]).all()
    for t in range(60):
        actions = rng.integers(6, size=4)
        one, two = envs.step(actions), other.step(actions)
        assert all((a[:3] == b[:3]).all() for a, b in zip(one, two, strict=True))
        if t % 20 == 19:
            assert (envs.reset(where=np.array([1])) == other.reset(where=np.array([1])))[:3].all()
            assert (other.context[:3] == envs.context[:3]).all()


def test_what_is_returned_is_the_callers():
    envs = VectorBabyAI([level_named("GoToObj")])
    first = envs.reset(np.array([0]))
    kept = first.copy()
    envs.step(np.array([0]))
    np.testing.assert_array_equal(first, kept)


def test_abandoned_episodes_stand_still():
    envs = VectorBabyAI([level_named("GoToObj")] * 2)
    envs.reset(np.array([0, 1]))
    envs.active[0] = False
    envs.step(np.array([2, 2]))
    assert [env.step_count for env in envs.envs] == [0, 1]


def test_picture():
    envs = VectorBabyAI([level_named("OpenRedDoor"), level_named("GoToObj")])
    envs.reset(np.array([0, 0]))
    picture = envs.render(0)
    assert (picture.shape, picture.dtype) == ((5 * 32, 9 * 32, 3), np.uint8)
    np.testing.assert_array_equal(picture, plain_picture("OpenRedDoor"))
    envs.step(np.array([0, 0]))
    assert (envs.render(0) != picture).any()


def plain_picture(name):
    env = plain_level(level_named(name))
    plain_reset(env, 0)
    return env.get_frame()
