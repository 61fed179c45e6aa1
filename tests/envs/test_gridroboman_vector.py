"""Boards in lockstep, each begun when it is told to, against the single environment."""

from __future__ import annotations

import numpy as np
import pytest

from rarl.envs.gridroboman.env import Gridroboman
from rarl.envs.gridroboman.planner import expert_actions
from rarl.envs.gridroboman.tasks import ACTIONS, EPISODE_STEPS, TASKS
from rarl.envs.gridroboman.vector import CELLS, HOLDING, VectorGridroboman, make_vector, random_boards, seeded_boards

# Of one kind in a row, and not.
SOME = [*TASKS[:3], TASKS[2], TASKS[2], *TASKS[-3:], TASKS[0]]
N = len(SOME)


def random_actions(rng, n=N):
    return rng.choice(len(ACTIONS), size=n, p=[0.02, 0.12, 0.12, 0.12, 0.12, 0.25, 0.25])


def begin(env, row):
    """A single environment where an observation says."""
    return env.reset(options={"robot": row[:2], "objects": row[2:].reshape(3, 3)[:, :2]})[0]


def test_each_board_is_a_single_environment_whenever_it_begins():
    rng = np.random.default_rng(0)
    envs, singles = VectorGridroboman(SOME, seed=5), [Gridroboman(task) for task in SOME]
    observations, seed = envs.reset(), 0
    going = np.ones(N, dtype=bool)
    for env, row in zip(singles, observations, strict=True):
        np.testing.assert_array_equal(begin(env, row), row)
    rewarded, ended, begun_early = 0, 0, 0
    for _ in range(400):
        where = np.flatnonzero(rng.random(N) < np.where(going, 0.01, 0.2))
        if len(where):
            begun_early += going[where].sum()
            how = rng.integers(3)
            if how == 0:
                after = envs.reset(where=where)
            elif how == 1:
                after = envs.reset(seed + np.arange(len(where)), where)
                np.testing.assert_array_equal(after[where], seeded_boards(seed + np.arange(len(where))).observe())
                seed += len(where)
            else:
                boards = random_boards(len(where), rng)
                after = envs.start(boards, where)
                np.testing.assert_array_equal(after[where], boards.observe())
            others = np.setdiff1d(np.arange(N), where)
            np.testing.assert_array_equal(after[others], observations[others])
            going[where] = True
            for i in where:
                np.testing.assert_array_equal(begin(singles[i], after[i]), after[i])
            observations = after
        assert (envs.active == going).all()
        actions = random_actions(rng)
        step = envs.step(actions)
        assert (step.observations.dtype, step.rewards.dtype) == (np.int8, np.float32)
        assert step.terminated.dtype == step.truncated.dtype == bool
        for i, env in enumerate(singles):
            if not going[i]:
                np.testing.assert_array_equal(step.observations[i], observations[i])
                assert (step.rewards[i], step.terminated[i], step.truncated[i]) == (0, False, False)
                continue
            theirs, reward, terminated, truncated, _ = env.step(int(actions[i]))
            np.testing.assert_array_equal(step.observations[i], theirs)
            assert (step.rewards[i], step.terminated[i], step.truncated[i]) == (reward, terminated, truncated)
            assert (env.held is not None) == (envs.boards.codes[0, i] // CELLS == HOLDING)
            rewarded += reward
            ended += truncated
            going[i] = not truncated
        observations = step.observations
    assert rewarded > 100
    assert ended > 20
    assert begun_early > 10


def test_a_seed_fixes_a_start_and_nothing_else():
    seeds = [4, 9, 4, 2**31 - 1]
    boards = seeded_boards(seeds)
    for n, seed in enumerate(seeds):
        one = random_boards(1, np.random.default_rng(seed))
        np.testing.assert_array_equal(boards.codes[:, n], one.codes[:, 0])
    observations = boards.observe()
    np.testing.assert_array_equal(observations[0], observations[2])
    assert len({tuple(row) for row in seeded_boards(np.arange(100)).observe().tolist()}) > 95


def test_without_seeds_an_environments_own_random_numbers_go_on():
    one, same, other = (VectorGridroboman(SOME, seed) for seed in (3, 3, 4))
    starts = [one.reset(), one.reset(), one.reset()]
    assert (starts[0] != starts[1]).any(1).all()
    np.testing.assert_array_equal(same.reset(), starts[0])
    same.reset(np.arange(N))  # a seed does not move them
    np.testing.assert_array_equal(same.reset(), starts[1])
    assert (other.reset() != starts[0]).any(1).all()


def test_nobody_plays_before_an_episode_begins():
    envs = VectorGridroboman(SOME)
    assert not envs.active.any()
    step = envs.step(np.full(N, 4))
    assert not step.rewards.any()
    assert not step.truncated.any()
    assert not envs.active.any()


def test_abandoned_boards_stand_still_until_they_begin_again():
    envs = VectorGridroboman(SOME)
    before = envs.reset()
    envs.active[2] = False
    for _ in range(EPISODE_STEPS + 10):
        step = envs.step(np.full(N, 3))
        np.testing.assert_array_equal(step.observations[2], before[2])
        assert (step.rewards[2], step.truncated[2]) == (0, False)
    assert not envs.active.any()
    envs.reset(where=np.array([2]))
    assert envs.active.tolist() == [i == 2 for i in range(N)]
    ends = [envs.step(np.full(N, 3)).truncated[2] for _ in range(EPISODE_STEPS)]
    assert ends == [False] * (EPISODE_STEPS - 1) + [True]


def test_as_many_seeds_as_boards_begin():
    envs = VectorGridroboman(SOME)
    with pytest.raises(ValueError, match=f"{N} environments to start need as many seeds, not 2"):
        envs.reset([1, 2])
    with pytest.raises(ValueError, match="2 environments to start need as many seeds, not 1"):
        envs.reset([1], np.array([0, 3]))


def test_what_is_given_and_returned_stays_as_it_is():
    envs, given = VectorGridroboman(SOME), random_boards(N, np.random.default_rng(0))
    kept = given.codes.copy()
    first = envs.start(given)
    copy, rng = first.copy(), np.random.default_rng(1)
    steps = [envs.step(random_actions(rng)) for _ in range(20)]
    copies = [[part.copy() for part in step] for step in steps]
    envs.reset()
    for _ in range(20):
        envs.step(random_actions(rng))
    np.testing.assert_array_equal(first, copy)
    for step, parts in zip(steps, copies, strict=True):
        for part, before in zip(step, parts, strict=True):
            np.testing.assert_array_equal(part, before)
    np.testing.assert_array_equal(given.codes, kept)


def test_a_saved_state_goes_on_the_same():
    rng = np.random.default_rng(0)
    envs = VectorGridroboman(SOME, seed=1)
    envs.reset()
    for t in range(30):
        envs.step(random_actions(rng))
        if t == 12:
            envs.reset(where=np.array([1, 4]))
    envs.active[6] = False
    state = envs.state_dict()

    def future(envs):
        rng, found = np.random.default_rng(2), []
        for t in range(60):
            if t == 25:  # some have ended by then
                found.append(envs.reset(where=np.flatnonzero(~envs.active)))
            found += [*envs.step(random_actions(rng)), envs.active.copy(), envs.elapsed_steps.copy()]
        return found

    expected = future(envs)
    for other in (envs, VectorGridroboman(SOME, seed=9)):  # saved before, and whatever was played since
        other.load_state_dict(state)
        for part, theirs in zip(future(other), expected, strict=True):
            np.testing.assert_array_equal(part, theirs)


def test_other_tasks_rewards_of_the_last_step():
    rng = np.random.default_rng(0)
    own = [task for task in TASKS for _ in range(4)]
    others = [own[i] for i in rng.permutation(len(own))]
    envs, theirs = VectorGridroboman(own), VectorGridroboman(others)
    start = random_boards(len(own), rng)
    envs.start(start)
    theirs.start(start)
    seen, differ = 0.0, False
    for _ in range(EPISODE_STEPS):
        actions = random_actions(rng, len(own))
        step, expected = envs.step(actions), theirs.step(actions)
        rewards = envs.rewards_of(others)
        assert rewards.dtype == np.float32
        np.testing.assert_array_equal(rewards, expected.rewards)
        np.testing.assert_array_equal(envs.rewards_of(own), step.rewards)
        seen += rewards.sum()
        differ |= (rewards != step.rewards).any()
    assert seen > 100
    assert differ


def test_boards_by_the_names_of_their_tasks():
    envs = make_vector([task.name for task in SOME], 3)
    assert envs.tasks == tuple(SOME)
    assert tuple(envs.actions) == ACTIONS
    np.testing.assert_array_equal(envs.reset(), VectorGridroboman(SOME, 3).reset())


def test_the_order_of_tasks_does_not_matter():
    order = np.random.default_rng(0).permutation(N)
    envs, mixed = VectorGridroboman(SOME), VectorGridroboman([SOME[i] for i in order])
    boards, rng = random_boards(N, np.random.default_rng(1)), np.random.default_rng(2)
    envs.start(boards)
    mixed.start(boards[order])
    for _ in range(EPISODE_STEPS):
        actions = random_actions(rng)
        for part, theirs in zip(envs.step(actions), mixed.step(actions[order]), strict=True):
            np.testing.assert_array_equal(part[order], theirs)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.slug)
def test_one_board_alone_plays_as_among_others(task):
    """A single board has a way of its own through the tables."""
    one, two, rng = VectorGridroboman([task]), VectorGridroboman([task, task]), np.random.default_rng(task.id)
    rewarded = 0
    for _ in range(20):
        boards = random_boards(2, rng)
        np.testing.assert_array_equal(one.start(boards[:1]), two.start(boards)[:1])
        for _ in range(EPISODE_STEPS + 2):
            expert = expert_actions(two.boards, task, rng.random(2) < 0.5)
            actions = np.where(rng.random(2) < 0.4, random_actions(rng, 2), expert)
            step = one.step(actions[:1])
            for part, theirs in zip(step, two.step(actions), strict=True):
                assert part.dtype == theirs.dtype
                np.testing.assert_array_equal(part, theirs[:1])
            np.testing.assert_array_equal(one.boards.codes, two.boards.codes[:, :1])
            rewarded += step.rewards.sum()
        assert not one.active.any()
    assert rewarded
