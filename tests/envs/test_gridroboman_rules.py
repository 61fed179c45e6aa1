"""The rules by hand-written cases, and the vectorised boards against the single environment."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rarl.envs.gridroboman.env import Gridroboman
from rarl.envs.gridroboman.planner import expert_actions, planner_episodes
from rarl.envs.gridroboman.tasks import ACTIONS, BOARD, DOWN, EPISODE_STEPS, LEFT, LIFT, NOOP, PUT, RIGHT, TASKS, UP
from rarl.envs.gridroboman.vector import (
    CELLS,
    CODES,
    EMPTY_HANDED,
    HELD,
    HOLDING,
    ON_BOARD,
    ON_TOP,
    UNDER,
    VectorGridroboman,
    advance,
    boards_at,
    condition,
    random_boards,
)

RED, GREEN, BLUE = range(3)


def start(task, robot, red, green, blue):
    env = Gridroboman(task)
    env.reset(seed=0, options={"robot": robot, "objects": [red, green, blue]})
    return env


def rewards(env, *actions):
    return [env.step(action)[1] for action in actions]


def positions(env):
    return [env.position(i) for i in range(3)]


# --- moving, lifting, putting ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("robot", "action", "then"),
    [
        ((3, 3), UP, (3, 2)),
        ((3, 3), DOWN, (3, 4)),
        ((3, 3), LEFT, (2, 3)),
        ((3, 3), RIGHT, (4, 3)),
        ((3, 3), NOOP, (3, 3)),
        ((3, 0), UP, (3, 0)),
        ((3, 6), DOWN, (3, 6)),
        ((0, 3), LEFT, (0, 3)),
        ((6, 3), RIGHT, (6, 3)),
    ],
)
def test_moves_and_walls(robot, action, then):
    env = start("lift red", robot, (1, 1), (5, 1), (1, 5))
    observation = env.step(action)[0]
    assert tuple(observation[:2]) == then
    assert positions(env) == [(1, 1), (5, 1), (1, 5)]


def test_lift_carry_and_put_on_the_board():
    env = start("lift red", (1, 1), (1, 1), (5, 1), (1, 5))
    assert env.step(LIFT)[0].tolist() == [1, 1, 1, 1, 1, 5, 1, 0, 1, 5, 0]
    assert env.step(RIGHT)[0].tolist() == [2, 1, 2, 1, 1, 5, 1, 0, 1, 5, 0]
    assert env.step(PUT)[0].tolist() == [2, 1, 2, 1, 0, 5, 1, 0, 1, 5, 0]
    assert env.step(DOWN)[0].tolist() == [2, 2, 2, 1, 0, 5, 1, 0, 1, 5, 0]


def test_nothing_to_lift_and_nothing_to_put():
    env = start("lift red", (3, 3), (1, 1), (5, 1), (1, 5))
    before = env.step(NOOP)[0].tolist()
    assert env.step(LIFT)[0].tolist() == before
    assert env.step(PUT)[0].tolist() == before
    assert env.held is None


def test_put_on_a_single_object_makes_a_stack_and_lift_takes_its_top():
    env = start("red on green", (1, 1), (1, 1), (2, 1), (5, 5))
    env.step(LIFT)
    env.step(RIGHT)
    assert env.step(PUT)[0].tolist() == [2, 1, 2, 1, 1, 2, 1, -1, 5, 5, 0]
    assert env.piles[(2, 1)] == [GREEN, RED]
    assert env.step(LIFT)[0].tolist() == [2, 1, 2, 1, 1, 2, 1, 0, 5, 5, 0]
    assert env.held == RED
    env.step(DOWN)
    assert positions(env) == [(2, 2), (2, 1), (5, 5)]


def test_no_third_object_on_a_stack():
    env = start("lift red", (1, 1), (1, 1), (2, 1), (3, 1))
    for action in (LIFT, RIGHT, PUT, RIGHT, LIFT, LEFT):  # red on green, then blue above them
        env.step(action)
    assert env.held == BLUE
    assert env.step(PUT)[0].tolist() == [2, 1, 2, 1, 1, 2, 1, -1, 2, 1, 1]
    assert env.held == BLUE
    assert env.piles[(2, 1)] == [GREEN, RED]


def test_hands_full_lift_takes_nothing_more():
    env = start("lift red", (1, 1), (1, 1), (2, 1), (5, 5))
    env.step(LIFT)
    env.step(RIGHT)
    env.step(LIFT)
    assert env.held == RED
    assert env.piles[(2, 1)] == [GREEN]


# --- the condition of every family -------------------------------------------------------------------------------


def test_lift():
    env = start("lift red", (1, 1), (1, 1), (2, 1), (5, 5))
    assert rewards(env, NOOP, LIFT, RIGHT, DOWN, PUT, NOOP) == [0, 1, 1, 1, 0, 0]


def test_lift_another_object_is_not_rewarded():
    env = start("lift red", (2, 1), (1, 1), (2, 1), (5, 5))
    assert rewards(env, LIFT, LEFT) == [0, 0]


def test_touch():
    env = start("touch red", (1, 1), (3, 1), (2, 1), (5, 5))
    # Next to red with empty hands; not in its cell, not diagonal, not while holding green.
    assert rewards(env, RIGHT, RIGHT, DOWN, LEFT, UP, LIFT, PUT) == [1, 0, 1, 0, 1, 0, 1]


def test_touch_with():
    env = start("red touch green", (1, 1), (1, 1), (3, 1), (2, 2))
    assert rewards(env, NOOP, LIFT, RIGHT, RIGHT, DOWN, LEFT, UP, PUT) == [0, 0, 1, 0, 1, 0, 1, 0]


def test_touch_with_the_other_way_round_is_another_task():
    env = start("green touch red", (1, 1), (1, 1), (3, 1), (2, 2))
    assert rewards(env, LIFT, RIGHT) == [0, 0]
    env = start("green touch red", (3, 1), (1, 1), (3, 1), (2, 2))
    assert rewards(env, LIFT, LEFT) == [0, 1]


@pytest.mark.parametrize(
    ("cell", "holds"),
    [((2, 2), 1), ((4, 4), 1), ((3, 2), 1), ((1, 3), 0), ((5, 3), 0), ((3, 1), 0), ((3, 5), 0)],
)
def test_center(cell, holds):
    assert rewards(start("green to center", (6, 6), (0, 0), cell, (6, 0)), NOOP) == [holds]


def test_center_holds_for_a_carried_object():
    env = start("blue to center", (1, 3), (0, 0), (0, 6), (1, 3))
    assert rewards(env, LIFT, RIGHT, PUT, LEFT) == [0, 1, 1, 1]


@pytest.mark.parametrize(
    ("cell", "holds"),
    [
        ((0, 0), 1),
        ((1, 1), 1),
        ((5, 0), 1),
        ((6, 1), 1),
        ((0, 5), 1),
        ((1, 6), 1),
        ((5, 5), 1),
        ((2, 0), 0),
        ((4, 6), 0),
        ((0, 2), 0),
        ((6, 4), 0),
        ((3, 3), 0),
    ],
)
def test_corner(cell, holds):
    assert rewards(start("blue to corner", (3, 3), (2, 3), (4, 3), cell), NOOP) == [holds]


@pytest.mark.parametrize(
    ("blue", "holds"), [((3, 4), 1), ((4, 4), 1), ((2, 2), 1), ((5, 3), 0), ((3, 5), 0), ((5, 4), 0), ((1, 3), 0)]
)
def test_close(blue, holds):
    assert rewards(start("red close to blue", (6, 6), (3, 3), (0, 0), blue), NOOP) == [holds]


def test_close_holds_in_one_cell():
    env = start("red close to blue", (0, 3), (0, 3), (6, 6), (2, 3))
    assert rewards(env, LIFT, RIGHT, RIGHT, PUT) == [0, 1, 1, 1]


@pytest.mark.parametrize(
    ("red", "green", "holds"),
    [((0, 0), (6, 6), 1), ((0, 0), (6, 4), 1), ((0, 0), (5, 5), 1), ((0, 0), (6, 3), 0), ((6, 1), (0, 5), 1)],
)
def test_far(red, green, holds):
    assert rewards(start("red far from green", (3, 3), red, green, (3, 2)), NOOP) == [holds]


def test_stack():
    env = start("red on blue", (1, 1), (1, 1), (6, 6), (2, 1))
    # Holding red above blue is not yet a stack; away from it, it stays one; lifted, it is none.
    assert rewards(env, LIFT, RIGHT, PUT, RIGHT, LEFT, LIFT) == [0, 0, 1, 1, 1, 0]
    env = start("blue on red", (1, 1), (1, 1), (6, 6), (2, 1))
    assert rewards(env, LIFT, RIGHT, PUT) == [0, 0, 0]


# --- vectorised boards against the single environment ------------------------------------------------------------


def assert_same(env, boards, n):
    """The hidden state, which observations do not tell in full: what is held and what rests on what."""
    for i in range(3):
        pile = [] if env.held == i else env.piles[env.position(i)]
        place = HELD if env.held == i else ON_BOARD if len(pile) == 1 else (UNDER, ON_TOP)[pile.index(i)]
        x, y = env.position(i)
        assert boards.codes[1 + i, n] == x + BOARD * y + CELLS * place


cells = st.tuples(st.integers(0, BOARD - 1), st.integers(0, BOARD - 1))
# A third of the boards are crowded, so that stacks and full cells come up often.
crowded = st.tuples(st.integers(0, 1), st.integers(0, 1))
starts = st.one_of(
    st.tuples(cells, st.lists(cells, min_size=3, max_size=3, unique=True)),
    st.tuples(crowded, st.lists(crowded, min_size=3, max_size=3, unique=True)),
)


@settings(max_examples=200, derandomize=True)
@given(starts, st.lists(st.integers(0, len(ACTIONS) - 1), min_size=1, max_size=EPISODE_STEPS))
def test_every_reachable_state_agrees(state, actions):
    robot, objects = state
    cell = [x + BOARD * y for x, y in (robot, *objects)]
    boards = boards_at(np.array(cell[:1]), np.array(cell[1:])[:, None])
    env = Gridroboman(TASKS[0])
    observation, _ = env.reset(options={"robot": robot, "objects": objects})
    np.testing.assert_array_equal(observation, boards.observe()[0])
    for action in actions:
        advance(boards, np.array([action]))
        observation = env.step(action)[0]
        np.testing.assert_array_equal(observation, boards.observe()[0])
        assert_same(env, boards, 0)
        for env.task in TASKS:
            assert env.condition_holds() == condition(boards, env.task)[0], env.task.name


def test_whole_episodes_agree_for_all_tasks():
    """The expert with noise leads into the states that matter for each task: goals, stacks, full hands over stacks."""
    rng = np.random.default_rng(0)
    tasks = [task for task in TASKS for _ in range(8)]
    vector = VectorGridroboman(tasks)
    observations = vector.start(random_boards(len(tasks), np.random.default_rng(1)))
    singles = [Gridroboman(task) for task in tasks]
    for env, row in zip(singles, observations, strict=True):
        objects = row[2:].reshape(3, 3)[:, :2]
        np.testing.assert_array_equal(env.reset(options={"robot": row[:2], "objects": objects})[0], row)
    rewarded, over_a_stack = np.zeros(len(tasks), dtype=bool), 0
    for _ in range(EPISODE_STEPS):
        coin = rng.random(len(tasks)) < 0.5
        actions = np.concatenate(
            [expert_actions(vector.boards[k : k + 8], tasks[k], coin[k : k + 8]) for k in range(0, 240, 8)]
        )
        actions = np.where(rng.random(len(tasks)) < 0.4, rng.integers(7, size=len(tasks)), actions)
        observations, rewards, terminated, truncated = vector.step(actions)
        for n, env in enumerate(singles):
            observation, reward, *ends, _ = env.step(int(actions[n]))
            np.testing.assert_array_equal(observation, observations[n])
            assert (reward, ends) == (rewards[n], [terminated[n], truncated[n]])
            assert_same(env, vector.boards, n)
            over_a_stack += env.held is not None and len(env.piles.get(env.robot, ())) == 2
        rewarded |= rewards > 0
    assert truncated.all()
    assert over_a_stack > 10
    assert rewarded.mean() > 0.8  # otherwise the comparison says little about rewards


def test_invariants_after_every_step():
    rng = np.random.default_rng(3)
    boards = random_boards(10_000, rng)
    seen_stack = 0
    for _ in range(EPISODE_STEPS):
        # Lift and put more often than a uniform choice would.
        advance(boards, rng.choice(7, size=10_000, p=[0.02, 0.12, 0.12, 0.12, 0.12, 0.25, 0.25]))
        cell, place = boards.codes % CELLS, boards.codes // CELLS
        robot, cell, holding, place = cell[0], cell[1:], place[0] == HOLDING, place[1:]
        assert ((place == HELD).sum(axis=0) == holding).all()
        assert (cell[place == HELD] == np.broadcast_to(robot, cell.shape)[place == HELD]).all()
        for i in range(3):
            for j in range(i):
                # Two objects share a cell exactly if one rests on the other.
                lie_together = (cell[i] == cell[j]) & (place[i] != HELD) & (place[j] != HELD)
                seen_stack += lie_together.sum()
                places = np.sort(place[[i, j]][:, lie_together], axis=0)
                assert (places == [[UNDER], [ON_TOP]]).all()
        stacks = [(place == kind).sum(axis=0) for kind in (UNDER, ON_TOP)]
        assert (stacks[0] == stacks[1]).all()
        assert stacks[0].max() <= 1  # three objects make one stack at most
        assert boards.codes[0].min() >= CELLS * EMPTY_HANDED
        assert boards.codes[0].max() < CODES
        assert boards.codes[1:].min() >= 0
        assert boards.codes[1:].max() < CELLS * EMPTY_HANDED
    assert seen_stack > 1000


# --- start states and the expert ---------------------------------------------------------------------------------


def test_start_states_are_uniform():
    n = 49 * 2000
    boards = random_boards(n, np.random.default_rng(0))
    cells = boards.codes % CELLS
    for cell in cells:
        counts = np.bincount(cell, minlength=49)
        assert ((counts - 2000) ** 2 / 2000).sum() < 93.2  # chi square, 48 degrees of freedom, p = 0.0001
    for i, j in ((1, 2), (1, 3), (2, 3)):
        assert (cells[i] != cells[j]).all()
        pairs = np.bincount(cells[i].astype(int) * 49 + cells[j], minlength=49 * 49)
        expected = n / (49 * 48)
        chi_square = ((pairs[pairs > 0] - expected) ** 2 / expected).sum()
        assert (pairs > 0).sum() == 49 * 48
        assert abs(chi_square - (49 * 48 - 1)) < 4 * np.sqrt(2 * 49 * 48)


def test_single_environment_has_the_same_start_states():
    env = Gridroboman("lift red")
    n = 49 * 100
    observations = np.stack([env.reset(seed=0)[0], *(env.reset()[0] for _ in range(n - 1))]).astype(int)
    for x in (0, 2, 5, 8):
        counts = np.bincount(observations[:, x] + BOARD * observations[:, x + 1], minlength=49)
        assert ((counts - 100) ** 2 / 100).sum() < 93.2
    assert (observations[:, 4::3] == 0).all()


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.slug)
def test_the_expert_reaches_every_goal_from_every_start(task):
    _, _, rewards = planner_episodes(task, 300, np.random.default_rng(task.id), np.array([0]))
    assert rewards.sum(axis=1).min() > 0
    assert rewards[:, -1].all()  # and stays there


def test_the_expert_recovers_from_what_noise_leads_into():
    for task in TASKS:
        rng = np.random.default_rng([1, task.id])
        boards = random_boards(200, rng)
        for _ in range(60):
            advance(boards, rng.choice(7, size=200, p=[0.02, 0.12, 0.12, 0.12, 0.12, 0.25, 0.25]))
        for _ in range(EPISODE_STEPS):
            advance(boards, expert_actions(boards, task, rng.random(200) < 0.5))
        assert condition(boards, task).all(), task.name
