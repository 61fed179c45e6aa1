"""The 30 tasks of Gridroboman: names, families, reward conditions and the paper's task sets.

Source: appendix A.4.2 of Goyal et al. (2022). The paper lists nine of the first ten tasks by name;
"red touch blue" completes the family (see "Deviations and choices").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rarl.envs.names import slug
from rarl.errors import RarlError, did_you_mean

BOARD = 7  # cells per side
EPISODE_STEPS = 50
COLOURS = ("red", "green", "blue")
ACTIONS = ("no-op", "y-1", "y+1", "x-1", "x+1", "lift", "put")
NOOP, UP, DOWN, LEFT, RIGHT, LIFT, PUT = range(len(ACTIONS))
# (dx, dy) of each action; only the four moves are not (0, 0).
MOVES = np.array([(0, 0), (0, -1), (0, 1), (-1, 0), (1, 0), (0, 0), (0, 0)], dtype=np.int8)


@dataclass(frozen=True)
class Task:
    """One task: its condition is a function of the state; the reward is 1 on every step at which it holds.

    Attributes:
      name: as in the paper's text, for example "red touch green".
      family: one of `FAMILIES`.
      first: index into `COLOURS` of the object named first.
      second: index of the object named second, or -1 where the family needs one object only.
    """

    name: str
    family: str
    first: int
    second: int = -1

    @property
    def slug(self) -> str:
        """The name as it appears in paths: "lift red" is "lift-red"."""
        return slug(self.name)

    @property
    def id(self) -> int:
        """Position in `TASKS`, the order of the paper's sets of 10, 20 and 30."""
        return _ID[self.name]


# "{0}" and "{1}" are the two colours. "red touch green": the robot holds red and is adjacent to green (our reading).
FAMILIES = {
    "lift": "lift {0}",
    "touch": "touch {0}",
    "center": "{0} to center",
    "corner": "{0} to corner",
    "touch with": "{0} touch {1}",
    "close": "{0} close to {1}",
    "far": "{0} far from {1}",
    "stack": "{0} on {1}",
}


def _task(family: str, first: str, second: str | None = None) -> Task:
    return Task(
        FAMILIES[family].format(first, second),
        family,
        COLOURS.index(first),
        COLOURS.index(second) if second else -1,
    )


_TEN = [
    *(_task("touch", c) for c in COLOURS),
    *(_task("lift", c) for c in COLOURS),
    _task("touch with", "red", "green"),
    _task("touch with", "green", "red"),
    _task("touch with", "green", "blue"),
    _task("touch with", "red", "blue"),
]
_TWENTY = [
    _task("touch with", "blue", "red"),
    _task("touch with", "blue", "green"),
    *(_task("corner", c) for c in COLOURS),
    *(_task("center", c) for c in COLOURS),
    _task("close", "red", "blue"),
    _task("close", "red", "green"),
]
_THIRTY = [
    _task("close", "blue", "green"),
    _task("far", "red", "blue"),
    _task("far", "red", "green"),
    _task("far", "blue", "green"),
    _task("stack", "red", "blue"),
    _task("stack", "red", "green"),
    _task("stack", "green", "red"),
    _task("stack", "green", "blue"),
    _task("stack", "blue", "red"),
    _task("stack", "blue", "green"),
]
TASKS: tuple[Task, ...] = (*_TEN, *_TWENTY, *_THIRTY)
TASK_SETS = {10: TASKS[:10], 20: TASKS[:20], 30: TASKS}
_ID = {task.name: i for i, task in enumerate(TASKS)}
_BY_NAME = {task.name: task for task in TASKS} | {task.slug: task for task in TASKS}


def task_named(name: str) -> Task:
    """The task of this name or slug; an unknown name raises an error that lists the close ones."""
    try:
        return _BY_NAME[name]
    except KeyError:
        raise RarlError(
            f"unknown Gridroboman task {name!r}: {did_you_mean(name, [task.name for task in TASKS])}"
        ) from None


def task_set(size: int) -> tuple[Task, ...]:
    """The paper's set of the first 10, 20 or 30 tasks."""
    try:
        return TASK_SETS[size]
    except KeyError:
        raise RarlError(f"Gridroboman has task sets of 10, 20 and 30 tasks, not of {size!r}") from None
