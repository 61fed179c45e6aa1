"""A scripted expert for every Gridroboman task, and episodes of it mixed with graded random actions.

The expert looks at the current state only, so it recovers from any state that noise leads into. It computes
with integers alone; together with NumPy's PCG64 stream this makes a dataset a function of its seed, to the bit.
"""

from __future__ import annotations

import numpy as np

from rarl.envs.gridroboman.tasks import (
    ACTIONS,
    BOARD,
    DOWN,
    EPISODE_STEPS,
    LEFT,
    LIFT,
    NOOP,
    PUT,
    RIGHT,
    UP,
    Task,
)
from rarl.envs.gridroboman.vector import (
    HELD,
    N_OBJECTS,
    OBSERVATION_SIZE,
    ON_BOARD,
    Boards,
    advance,
    condition,
    random_boards,
    tables,
)

CENTRE = BOARD // 2


class _BoardPlan:
    """One decision on N boards: rules are tried in order, the first that applies to a board decides there."""

    def __init__(self, boards: Boards, coin: np.ndarray):
        self.coin = coin  # (N,) bool: which axis to walk first when both are open
        self.actions = np.full(coin.size, NOOP, dtype=np.int8)
        self.open = np.ones(coin.size, dtype=bool)
        t = tables()
        x, y = t.x.take(boards.codes), t.y.take(boards.codes)
        self.robot_x, self.x, self.robot_y, self.y = x[0], x[1:], y[0], y[1:]
        self.place = t.place.take(boards.codes[1:])  # (3, N)
        self.has = self.place == HELD  # (3, N)
        self.holding = self.has.any(axis=0)
        self.here = (self.x == self.robot_x) & (self.y == self.robot_y)
        self.free_cell = self.here.sum(axis=0) - self.holding == 0  # nothing in the robot's cell but what it holds

    def decide(self, where: np.ndarray, actions: int | np.ndarray) -> None:
        where = where & self.open
        self.actions[where] = actions[where] if isinstance(actions, np.ndarray) else actions
        self.open &= ~where

    def towards(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The move that brings the robot closer to (x, y); the coin breaks ties; no-op on arrival."""
        dx, dy = x - self.robot_x, y - self.robot_y
        along_x = np.where(dx > 0, RIGHT, LEFT)
        along_y = np.where(dy > 0, DOWN, UP)
        first_x = (dx != 0) & ((dy == 0) | self.coin)
        return np.where(first_x, along_x, np.where(dy != 0, along_y, NOOP)).astype(np.int8)

    def aside(self) -> np.ndarray:
        """A move that the wall does not stop."""
        x_move = np.where(self.robot_x > 0, LEFT, RIGHT)
        y_move = np.where(self.robot_y > 0, UP, DOWN)
        return np.where(self.coin, x_move, y_move).astype(np.int8)

    def drop(self, where: np.ndarray) -> None:
        """Get rid of what is held, on a free cell."""
        where = where & self.holding
        self.decide(where & self.free_cell, PUT)
        self.decide(where, self.aside())

    def fetch(self, i: int, where: np.ndarray) -> None:
        """Take object i in hand; whatever lies on it is put elsewhere first."""
        self.drop(where & ~self.has[i])
        empty = where & ~self.holding
        self.decide(empty & self.here[i], LIFT)  # lifts the top one, which may be the one that covers i
        self.decide(empty, self.towards(self.x[i], self.y[i]))

    def approach(self, i: int, where: np.ndarray) -> None:
        """Stand in a cell next to object i."""
        self.decide(where & self.here[i], self.aside())
        self.decide(where, self.towards(self.x[i], self.y[i]))

    def carry(self, x: np.ndarray, y: np.ndarray, where: np.ndarray) -> None:
        self.decide(where, self.towards(x, y))


def expert_actions(boards: Boards, task: Task, coin: np.ndarray) -> np.ndarray:
    """The expert's action on every board.

    Args:
      boards: N states.
      task: the task to do.
      coin: (N,) bool, breaks ties between equally short ways.

    Returns:
      (N,) int8 actions.
    """
    plan, i, j = _BoardPlan(boards, coin), task.first, task.second
    held_i = plan.has[i]
    everywhere = plan.open.copy()
    plan.decide(condition(boards, task), NOOP)
    match task.family:
        case "lift":
            plan.fetch(i, everywhere)
        case "touch":
            plan.drop(everywhere)
            plan.approach(i, everywhere)
        case "touch with":
            plan.fetch(i, ~held_i)
            plan.approach(j, held_i)
        case "center":
            plan.fetch(i, ~held_i)
            plan.carry(np.clip(plan.x[i], CENTRE - 1, CENTRE + 1), np.clip(plan.y[i], CENTRE - 1, CENTRE + 1), held_i)
        case "corner":
            plan.fetch(i, ~held_i)
            plan.carry(_nearest_corner(plan.x[i]), _nearest_corner(plan.y[i]), held_i)
        case "close":
            plan.fetch(i, ~held_i)
            plan.carry(plan.x[j], plan.y[j], held_i)
        case "far":
            _far(plan, i, j)
        case "stack":
            # The lower object must be single: nothing but i may be on it or under it.
            in_stack = (plan.place[j] != ON_BOARD) & ~plan.has[j]
            plan.drop(in_stack & plan.holding)
            plan.fetch(j, in_stack)
            plan.fetch(i, ~held_i)
            plan.decide(held_i & plan.here[j], PUT)
            plan.carry(plan.x[j], plan.y[j], held_i)
    return plan.actions


def _nearest_corner(c: np.ndarray) -> np.ndarray:
    """Per coordinate, the closest value inside a corner block (0, 1, 5 or 6)."""
    return np.where(np.abs(c - CENTRE) >= 2, c, np.where(c < CENTRE, 1, BOARD - 2))


def _far(plan: _BoardPlan, i: int, j: int) -> None:
    """Bring the two objects to opposite corners, one after the other."""
    opposite = [tuple(np.where(c[o] < CENTRE, BOARD - 1, 0) for c in (plan.x, plan.y)) for o in range(N_OBJECTS)]
    for mine, other in ((i, j), (j, i)):
        holding = plan.has[mine]
        x, y = opposite[other]
        arrived = holding & (plan.robot_x == x) & (plan.robot_y == y)
        plan.decide(arrived, PUT)  # in its corner (on a third object, if need be) and still not far: now the other one
        plan.carry(x, y, holding)
    in_corner = [(np.abs(plan.x[o] - CENTRE) == CENTRE) & (np.abs(plan.y[o] - CENTRE) == CENTRE) for o in (i, j)]
    distance = [np.abs(plan.x[o] - plan.robot_x) + np.abs(plan.y[o] - plan.robot_y) for o in (i, j)]
    take_j = (in_corner[0] & ~in_corner[1]) | ((in_corner[0] == in_corner[1]) & (distance[1] < distance[0]))
    plan.fetch(j, take_j)
    plan.fetch(i, ~take_j)


def planner_episodes(
    task: Task, n: int, rng: np.random.Generator, noise_levels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """n episodes of the expert with graded noise.

    Every episode draws one of `noise_levels`; on each step a random action replaces the expert's with that probability.

    Args:
      task: the task.
      n: number of episodes.
      rng: source of start states, noise and ties.
      noise_levels: probabilities of a random action, as whole percentages (so that the comparison is between integers).

    Returns:
      observations (n, 51, 11) int8, actions (n, 50) int8, rewards (n, 50) uint8.
    """
    boards = random_boards(n, rng)
    noise = np.asarray(noise_levels, dtype=np.int8)[rng.integers(len(noise_levels), size=n)]
    observations = np.empty((n, EPISODE_STEPS + 1, OBSERVATION_SIZE), dtype=np.int8)
    actions = np.empty((n, EPISODE_STEPS), dtype=np.int8)
    rewards = np.empty((n, EPISODE_STEPS), dtype=np.uint8)
    observations[:, 0] = boards.observe()
    for t in range(EPISODE_STEPS):
        # One draw a board and step: its remainder decides whether the action is random, which one, and the coin.
        draw = rng.integers(100 * len(ACTIONS) * 2, size=n, dtype=np.int16)
        coin = draw % 2 == 0
        draw //= 2
        random_action = (draw % len(ACTIONS)).astype(np.int8)
        draw //= len(ACTIONS)
        action = np.where(draw < noise, random_action, expert_actions(boards, task, coin))
        advance(boards, action)
        observations[:, t + 1] = boards.observe()
        actions[:, t] = action
        rewards[:, t] = condition(boards, task)
    return observations, actions, rewards
