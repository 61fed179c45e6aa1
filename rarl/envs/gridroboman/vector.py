"""Thousands of Gridroboman boards stepped at once, by tables of the rules.

Equal, step by step, to the single environment in `env.py` (a property test holds them together).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

from rarl.envs.gridroboman.tasks import (
    ACTIONS,
    BOARD,
    EPISODE_STEPS,
    FAMILIES,
    LIFT,
    MOVES,
    NOOP,
    PUT,
    Task,
    task_named,
)
from rarl.envs.vector import Step, VectorEnv, where_of

N_OBJECTS = 3
OBSERVATION_SIZE = 2 + 3 * N_OBJECTS

# A board is four numbers, a code of the robot and of each object: its cell + CELLS * its place. What is held is in the
# robot's cell. There are three objects, so one stack at most.
CELLS = BOARD * BOARD
UNDER, ON_BOARD, ON_TOP, HELD, EMPTY_HANDED, HOLDING = range(6)  # places of objects; those of the robot
CODES = 6 * CELLS
_BITS = {family: 1 << i for i, family in enumerate(FAMILIES)}
_PUT_ON = len(ACTIONS)  # what happens is an action that is possible, or `PUT` onto an object


def observation_space() -> gym.spaces.Box:
    """Robot x, y; then x, y, status of red, green and blue (-1 under another, 0 on the board, 1 held or on top)."""
    low = np.array([0, 0] + [0, 0, -1] * N_OBJECTS, dtype=np.int8)
    high = np.array([BOARD - 1] * 2 + [BOARD - 1, BOARD - 1, 1] * N_OBJECTS, dtype=np.int8)
    return gym.spaces.Box(low, high, dtype=np.int8)


class _Tables(NamedTuple):
    """The rules, as flat tables; indices into one are numbers that others hold.

    A *situation* decides with an action what happens: the robot's code and how many objects lie in its cell.

    row (CODES): code of the robot -> where its cell begins in `seen`.
    seen (CELLS * CODES): that + code -> its part of the situation, which is the sum of all four.
    happens (actions * CODES): CODES * action + situation -> where what happens begins in `after`.
    after (8 * CELLS * CODES): that + code -> the code then.
    holds (CODES * CODES): CODES * a code + another -> a bit for each family whose condition holds (appendix A.4.2).
    pieces (CODES): code -> x, y, status, three bytes; of the robot, anything, x, y.
    x, y, place (CODES): of a code.
    """

    row: np.ndarray
    seen: np.ndarray
    happens: np.ndarray
    after: np.ndarray
    holds: np.ndarray
    pieces: np.ndarray
    x: np.ndarray
    y: np.ndarray
    place: np.ndarray


@cache
def tables() -> _Tables:
    """The rules."""
    code = np.arange(CODES)
    cell, place = code % CELLS, code // CELLS
    x, y = cell % BOARD, cell // BOARD

    robot = np.arange(CELLS)[:, None]
    here = (cell == robot) & (place < HELD)  # (CELLS, CODES)
    seen = np.where(place < EMPTY_HANDED, 2 * CELLS * here, code - EMPTY_HANDED * CELLS)

    after = np.tile(code, (len(ACTIONS) + 1, CELLS, 1))
    for move, (right, down) in enumerate(MOVES):
        there = np.clip(x + right, 0, BOARD - 1) + BOARD * np.clip(y + down, 0, BOARD - 1)
        after[move] = np.where(place >= HELD, there + CELLS * place, code)  # the robot and what it holds
    after[LIFT] = np.select(
        [here & (place == UNDER), here, place == EMPTY_HANDED],
        [code + CELLS * (ON_BOARD - UNDER), cell + CELLS * HELD, code + CELLS],
        code,
    )
    for put, onto in ((PUT, ON_BOARD), (_PUT_ON, ON_TOP)):
        after[put] = np.select(
            [here & (place == ON_BOARD), place == HELD, place == HOLDING],
            [cell + CELLS * UNDER, cell + CELLS * onto, code - CELLS],
            code,
        )

    action, lying, holding = np.ogrid[: len(ACTIONS), :3, :2]
    event = np.select(
        [
            (action < LIFT) | ((action == LIFT) & (holding == 0) & (lying > 0)),
            (action == PUT) & (holding == 1) & (lying == 0),
            (action == PUT) & (holding == 1) & (lying == 1),
        ],
        [action, action, _PUT_ON],
        NOOP,
    )
    happens = CODES * (CELLS * event[..., None] + np.arange(CELLS))

    first, second = code[:, None], code
    dx, dy = np.abs(x[first] - x[second]), np.abs(y[first] - y[second])
    next_to = dx + dy == 1
    off_centre = np.abs(x - BOARD // 2)[:, None], np.abs(y - BOARD // 2)[:, None]
    conditions = {
        "lift": place[first] == HELD,
        "touch": next_to & (place[second] == EMPTY_HANDED),
        "touch with": next_to & (place[first] == HELD),
        "center": np.maximum(*off_centre) <= 1,
        "corner": np.minimum(*off_centre) >= 2,
        "close": np.maximum(dx, dy) <= 1,
        "far": dx + dy > 9,
        "stack": (place[first] == ON_TOP) & (place[second] == UNDER) & (cell[first] == cell[second]),
    }
    holds = np.zeros((CODES, CODES), dtype=np.uint8)
    for family, bit in _BITS.items():
        holds |= conditions[family] * np.uint8(bit)

    status = np.array([-1, 0, 1, 1])[np.minimum(place, HELD)]
    pieces = np.where(place[:, None] < EMPTY_HANDED, np.stack([x, y, status], 1), np.stack([status, x, y], 1))
    flat = np.ravel
    return _Tables(
        CODES * cell,
        flat(seen),
        flat(happens),
        flat(after),
        flat(holds),
        flat(pieces.astype(np.int8)).view("V3"),
        x.astype(np.int8),
        y.astype(np.int8),
        place.astype(np.int8),
    )


@dataclass
class Boards:
    """The state of N boards: codes (4, N) int64, of the robot, red, green and blue."""

    codes: np.ndarray

    def __getitem__(self, n: slice | Sequence[int] | np.ndarray) -> Boards:
        """Those of the boards `n`."""
        return Boards(self.codes[:, n])

    def observe(self) -> np.ndarray:
        """(N, 11) int8, in the order of `observation_space`."""
        return tables().pieces.take(self.codes.T).view(np.int8)[:, 1:]


def random_boards(n: int, rng: np.random.Generator) -> Boards:
    """N start states: robot anywhere, objects in three different cells, all on the board, nothing held."""
    robot = rng.integers(CELLS, size=n, dtype=np.int8)
    # Three different cells by drawing from what is left and stepping over the cells taken (sorted order).
    first = rng.integers(CELLS, size=n, dtype=np.int8)
    second = rng.integers(CELLS - 1, size=n, dtype=np.int8)
    second += second >= first
    third = rng.integers(CELLS - 2, size=n, dtype=np.int8)
    low, high = np.minimum(first, second), np.maximum(first, second)
    third += third >= low
    third += third >= high
    return boards_at(robot, np.stack([first, second, third]))


def boards_at(robot: np.ndarray, objects: np.ndarray) -> Boards:
    """The robots in the cells (N,), the objects in the cells (3, N), different ones, on the board."""
    codes = np.concatenate([robot[None], objects]).astype(np.int64)
    codes += CELLS * np.array([EMPTY_HANDED] + [ON_BOARD] * N_OBJECTS)[:, None]
    return Boards(codes)


def seeded_boards(seeds: Sequence[int] | np.ndarray) -> Boards:
    """Start states, each fixed by a seed."""
    each = [random_boards(1, np.random.default_rng(int(seed))).codes for seed in seeds]
    return Boards(np.concatenate(each, axis=1))


def advance(boards: Boards, actions: np.ndarray) -> None:
    """Apply one action (N,) to every board. Impossible actions leave the board as it is."""
    t, codes = tables(), boards.codes
    situations = np.add.reduce(t.seen.take(t.row.take(codes[0]) + codes))
    situations += np.multiply(actions, CODES, dtype=np.int64)
    boards.codes = t.after.take(t.happens.take(situations) + codes)


def condition(boards: Boards, task: Task) -> np.ndarray:
    """Whether `task`'s condition holds: (N,) bool."""
    first, second, bit = _reading(task)
    return tables().holds.take(CODES * boards.codes[first] + boards.codes[second]) & bit > 0


def _reading(task: Task) -> tuple[int, int, int]:
    """Which two codes of a board a task's condition is about, and the family's bit."""
    return task.first + 1, task.second + 1, _BITS[task.family]


class _Conditions:
    """Whether the conditions hold of as many tasks as there are boards."""

    def __init__(self, tasks: Sequence[Task]):
        rows = np.array([_reading(task) for task in tasks])
        self.first, self.second = rows[:, :2].T * len(tasks) + np.arange(len(tasks))
        self.bits = rows[:, 2].astype(np.uint8)

    def __call__(self, boards: Boards) -> np.ndarray:
        """(N,) bool."""
        pairs = boards.codes.take(self.first)
        pairs *= CODES
        pairs += boards.codes.take(self.second)
        return tables().holds.take(pairs) & self.bits > 0


class VectorGridroboman(VectorEnv):
    """N boards, each with a task of its own.

    Args:
      tasks: one task per board.
      seed: of all start states that are not given a seed of their own.

    Attributes:
      boards: their state.
    """

    actions = ACTIONS

    def __init__(self, tasks: Sequence[Task], seed: int = 0):
        self.tasks = tuple(tasks)
        self.num_envs = len(self.tasks)
        self._conditions = _Conditions(self.tasks)
        self._views = [table.data for table in tables()[:5]]
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
        self.boards.codes[:, where] = boards.codes
        self.elapsed_steps[where] = 0
        self.active[where] = True
        return self.boards.observe()

    def step(self, actions: np.ndarray) -> Step:
        """actions (N,) -> observations (N, 11); episodes are truncated after 50 steps and never terminate."""
        active = self.active
        if self.num_envs == 1 and active[0]:
            return self._step_of_one(int(actions[0]))
        advance(self.boards, actions * active)  # the no-op is 0
        self.elapsed_steps += active
        rewards = (self._conditions(self.boards) & active).astype(np.float32)
        truncated = self.elapsed_steps == EPISODE_STEPS
        truncated &= active
        active ^= truncated
        return Step(self.boards.observe(), rewards, np.zeros(self.num_envs, dtype=bool), truncated)

    def _step_of_one(self, action: int) -> Step:
        """`step` with a single board: by the same tables, without the NumPy calls that would take most of the time."""
        row, seen, happens, after, holds = self._views
        first, second, bit = _reading(self.tasks[0])
        robot, red, green, blue = self.boards.codes[:, 0].tolist()
        cell = row[robot]
        situation = seen[cell + robot] + seen[cell + red] + seen[cell + green] + seen[cell + blue]
        event = happens[situation + CODES * action]
        codes = [after[event + robot], after[event + red], after[event + green], after[event + blue]]
        self.boards.codes = np.array(codes)[:, None]
        reward = holds[CODES * codes[first] + codes[second]] & bit > 0
        self.elapsed_steps += 1
        ends = self.elapsed_steps[0] == EPISODE_STEPS
        self.active[0] = not ends
        return Step(self.boards.observe(), np.array([reward], np.float32), np.zeros(1, dtype=bool), np.array([ends]))

    def rewards_of(self, tasks: Sequence[Task]) -> np.ndarray:
        """(N,) float32: what the last step would have given each board if these were the tasks."""
        return _Conditions(tasks)(self.boards).astype(np.float32)

    def state_dict(self) -> dict[str, Any]:
        return {
            "codes": self.boards.codes.copy(),
            "rng": self._rng.bit_generator.state,
            "active": self.active.copy(),
            "elapsed_steps": self.elapsed_steps.copy(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.boards = Boards(state["codes"].copy())
        self._rng.bit_generator.state = state["rng"]
        self.active, self.elapsed_steps = state["active"].copy(), state["elapsed_steps"].copy()


def make_vector(tasks: Sequence[str], seed: int = 0) -> VectorGridroboman:
    """Boards of these tasks, by name."""
    return VectorGridroboman([task_named(task) for task in tasks], seed)
