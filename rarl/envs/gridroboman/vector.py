"""Thousands of Gridroboman boards stepped at once with NumPy.

Equal, step by step, to the single environment in `env.py` (a property test holds them together).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from rarl.envs.gridroboman.tasks import ACTIONS, BOARD, EPISODE_STEPS, LIFT, MOVES, NOOP, PUT, Task, task_named
from rarl.envs.vector import Step, VectorEnv, where_of

N_OBJECTS = 3
OBSERVATION_SIZE = 2 + 3 * N_OBJECTS


def observation_space() -> gym.spaces.Box:
    """Robot x, y; then x, y, status of red, green and blue (-1 under another, 0 on the board, 1 held or on top)."""
    low = np.array([0, 0] + [0, 0, -1] * N_OBJECTS, dtype=np.int8)
    high = np.array([BOARD - 1] * 2 + [BOARD - 1, BOARD - 1, 1] * N_OBJECTS, dtype=np.int8)
    return gym.spaces.Box(low, high, dtype=np.int8)


@dataclass
class Boards:
    """The state of N boards; objects are red, green, blue along the first axis. All arrays are int8.

    robot_x, robot_y: (N,); x, y: (3, N); held: (N,), index of the held object or -1;
    below: (3, N), index of the object that this one rests on, or -1 (on the board or held).
    """

    robot_x: np.ndarray
    robot_y: np.ndarray
    x: np.ndarray
    y: np.ndarray
    held: np.ndarray
    below: np.ndarray

    def covered(self) -> np.ndarray:
        """(3, N) bool: another object rests on this one."""
        return np.stack([((self.below == i).any(axis=0)) for i in range(N_OBJECTS)])

    def observe(self) -> np.ndarray:
        """(N, 11) int8, in the order of `observation_space`."""
        observation = np.empty((OBSERVATION_SIZE, self.held.size), dtype=np.int8)
        observation[0], observation[1] = self.robot_x, self.robot_y
        observation[2::3], observation[3::3] = self.x, self.y
        status = observation[4::3]
        np.greater_equal(self.below, 0, out=status, casting="unsafe")
        for i in range(N_OBJECTS):
            status[i] += self.held == i
            for j in range(N_OBJECTS):
                if i != j:
                    status[i] -= self.below[j] == i
        return np.ascontiguousarray(observation.T)


def random_boards(n: int, rng: np.random.Generator) -> Boards:
    """N start states: robot anywhere, objects in three different cells, all on the board, nothing held."""
    cells = BOARD * BOARD
    robot = rng.integers(cells, size=n, dtype=np.int8)
    # Three different cells by drawing from what is left and stepping over the cells taken (sorted order).
    first = rng.integers(cells, size=n, dtype=np.int8)
    second = rng.integers(cells - 1, size=n, dtype=np.int8)
    second += second >= first
    third = rng.integers(cells - 2, size=n, dtype=np.int8)
    low, high = np.minimum(first, second), np.maximum(first, second)
    third += third >= low
    third += third >= high
    objects = np.stack([first, second, third])
    return Boards(
        robot % BOARD,
        robot // BOARD,
        objects % BOARD,
        objects // BOARD,
        np.full(n, -1, dtype=np.int8),
        np.full((N_OBJECTS, n), -1, dtype=np.int8),
    )


def seeded_boards(seeds: Sequence[int] | np.ndarray) -> Boards:
    """Start states, each fixed by a seed."""
    each = [random_boards(1, np.random.default_rng(int(seed))) for seed in seeds]
    return Boards(*(np.concatenate(parts, axis=-1) for parts in zip(*(vars(b).values() for b in each), strict=True)))


def advance(boards: Boards, actions: np.ndarray) -> None:
    """Apply one action (N,) to every board, in place. Impossible actions leave the board as it is."""
    b = boards
    # Moves: skipped into a wall, which clipping does.
    np.clip(b.robot_x + MOVES[actions, 0], 0, BOARD - 1, out=b.robot_x)
    np.clip(b.robot_y + MOVES[actions, 1], 0, BOARD - 1, out=b.robot_y)
    holding = b.held >= 0
    for i in range(N_OBJECTS):
        mine = b.held == i
        np.copyto(b.x[i], b.robot_x, where=mine)
        np.copyto(b.y[i], b.robot_y, where=mine)

    lift, put = actions == LIFT, actions == PUT
    if not (lift.any() or put.any()):
        return
    here = (b.x == b.robot_x) & (b.y == b.robot_y)  # (3, N); includes the held object
    covered = b.covered()
    # Lift: with empty hands, the object in the robot's cell on which nothing rests (there is at most one).
    lift &= ~holding
    for i in range(N_OBJECTS):
        take = lift & here[i] & ~covered[i]
        b.held[take] = i
        b.below[i, take] = -1
    # Put: onto the board if the cell is free, onto a single object if there is just one, else nothing.
    others = here.sum(axis=0, dtype=np.int8) - holding
    put &= holding & (others <= 1)
    for i in range(N_OBJECTS):
        drop = put & (b.held == i)
        for j in range(N_OBJECTS):
            if i != j:
                b.below[i, drop & here[j]] = j
    b.held[put] = -1


def _adjacent(b: Boards, i: int, n: slice | np.ndarray) -> np.ndarray:
    return np.abs(b.robot_x[n] - b.x[i, n]) + np.abs(b.robot_y[n] - b.y[i, n]) == 1


def condition(b: Boards, task: Task, n: slice | np.ndarray = slice(None)) -> np.ndarray:
    """Whether `task`'s condition holds on the boards selected by `n`: bool array."""
    i, j = task.first, task.second
    match task.family:
        case "lift":
            return b.held[n] == i
        case "touch":
            return _adjacent(b, i, n) & (b.held[n] < 0)
        case "touch with":
            return _adjacent(b, j, n) & (b.held[n] == i)
        case "center":
            return (np.abs(b.x[i, n] - BOARD // 2) <= 1) & (np.abs(b.y[i, n] - BOARD // 2) <= 1)
        case "corner":
            return (np.abs(b.x[i, n] - BOARD // 2) >= 2) & (np.abs(b.y[i, n] - BOARD // 2) >= 2)
        case "close":
            return (np.abs(b.x[i, n] - b.x[j, n]) <= 1) & (np.abs(b.y[i, n] - b.y[j, n]) <= 1)
        case "far":
            return np.abs(b.x[i, n] - b.x[j, n]) + np.abs(b.y[i, n] - b.y[j, n]) > 9
        case "stack":
            return b.below[i, n] == j
    raise AssertionError(f"no condition for family {task.family!r}")


class VectorGridroboman(VectorEnv):
    """N boards, each with a task of its own.

    Args:
      tasks: one task per board. Boards of one task next to each other are fastest.
      seed: of all start states that are not given a seed of their own.

    Attributes:
      boards: their state.
    """

    actions = ACTIONS

    def __init__(self, tasks: Sequence[Task], seed: int = 0):
        self.tasks = tuple(tasks)
        self.num_envs = len(self.tasks)
        self._groups = _runs_of_equal(self.tasks)
        self._rng = np.random.default_rng(seed)
        self.boards = random_boards(self.num_envs, np.random.default_rng(0))  # of which nobody plays any
        self.active = np.zeros(self.num_envs, dtype=bool)
        self.elapsed_steps = np.zeros(self.num_envs, dtype=np.int64)

    def reset(self, seeds: Sequence[int] | np.ndarray | None = None, where: np.ndarray | None = None) -> np.ndarray:
        where = where_of(self.num_envs, seeds, where)
        return self.start(random_boards(len(where), self._rng) if seeds is None else seeded_boards(seeds), where)

    def start(self, boards: Boards, where: np.ndarray | None = None) -> np.ndarray:
        """`reset` to given states of as many boards; they are copied."""
        where = where_of(self.num_envs, None, where)
        for name, part in vars(boards).items():
            getattr(self.boards, name)[..., where] = part
        self.elapsed_steps[where] = 0
        self.active[where] = True
        return self.boards.observe()

    def step(self, actions: np.ndarray) -> Step:
        """actions (N,) -> observations (N, 11); episodes are truncated after 50 steps and never terminate."""
        actions = np.where(self.active, actions, NOOP)
        advance(self.boards, actions)
        self.elapsed_steps += self.active
        rewards = np.empty(self.num_envs, dtype=np.float32)
        for task, n in self._groups:
            rewards[n] = condition(self.boards, task, n)
        rewards *= self.active
        truncated = self.active & (self.elapsed_steps == EPISODE_STEPS)
        self.active &= ~truncated
        return Step(self.boards.observe(), rewards, np.zeros(self.num_envs, dtype=bool), truncated)

    def rewards_of(self, tasks: Sequence[Task]) -> np.ndarray:
        """(N,) float32: what the last step would have given each board if these were the tasks."""
        rewards = np.empty(self.num_envs, dtype=np.float32)
        for task, n in _runs_of_equal(tuple(tasks)):
            rewards[n] = condition(self.boards, task, n)
        return rewards

    def state_dict(self) -> dict[str, Any]:
        return {
            "boards": {name: part.copy() for name, part in vars(self.boards).items()},
            "rng": self._rng.bit_generator.state,
            "active": self.active.copy(),
            "elapsed_steps": self.elapsed_steps.copy(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.boards = Boards(**{name: part.copy() for name, part in state["boards"].items()})
        self._rng.bit_generator.state = state["rng"]
        self.active, self.elapsed_steps = state["active"].copy(), state["elapsed_steps"].copy()


def make_vector(tasks: Sequence[str], seed: int = 0) -> VectorGridroboman:
    """Boards of these tasks, by name."""
    return VectorGridroboman([task_named(task) for task in tasks], seed)


def _runs_of_equal(tasks: Sequence[Task]) -> list[tuple[Task, slice]]:
    """Consecutive boards of one task, as slices."""
    groups, start = [], 0
    for end in range(1, len(tasks) + 1):
        if end == len(tasks) or tasks[end] != tasks[start]:
            groups.append((tasks[start], slice(start, end)))
            start = end
    return groups
