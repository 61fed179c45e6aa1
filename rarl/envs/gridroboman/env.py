"""Gridroboman as a single gymnasium environment: the rules, one board at a time, as plainly as they can be written.

The vectorised environment in `vector.py` is what training uses; a property test holds the two together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from rarl.envs.gridroboman.render import board_image, board_text
from rarl.envs.gridroboman.tasks import ACTIONS, BOARD, COLOURS, EPISODE_STEPS, LIFT, PUT, Task, task_named
from rarl.envs.gridroboman.vector import VectorGridroboman, observation_space, random_boards
from rarl.errors import RarlError

Cell = tuple[int, int]  # x to the right, y downwards, from 0
_STEP_OF = {"y-1": (0, -1), "y+1": (0, 1), "x-1": (-1, 0), "x+1": (1, 0)}


class Gridroboman(gym.Env):
    """One board, one task.

    Observation (11,) int8: robot x, y; then x, y, status of red, green, blue, where status is -1 under another object,
    0 on the board, 1 held or on top of another. The task is not in it. Actions: no-op, y-1, y+1, x-1, x+1, lift, put.
    Reward 1 on every step after which the task's condition holds, else 0. Truncated after 50 steps, never terminated.

    Args:
      task: name, slug or `Task`.
      render_mode: "rgb_array", "ansi" or None.
    """

    metadata = {"render_modes": ["rgb_array", "ansi"], "render_fps": 5}  # noqa: RUF012 (gymnasium's convention)

    def __init__(self, task: Task | str, render_mode: str | None = None):
        self.task = task_named(task) if isinstance(task, str) else task
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise RarlError(f"render_mode={render_mode!r}: must be one of {', '.join(self.metadata['render_modes'])}")
        self.render_mode = render_mode
        self.observation_space = observation_space()
        self.action_space = gym.spaces.Discrete(len(ACTIONS))
        self.robot: Cell = (0, 0)
        self.held: int | None = None
        self.piles: dict[Cell, list[int]] = {}  # objects on the board, bottom first; at most two in a cell
        self.elapsed_steps: int | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode at a random state, or where `options` says.

        Args:
          seed: restarts the environment's random numbers.
          options: "robot": (x, y) and "objects": three (x, y), of red, green and blue, in different cells; what is
            not given is random.

        Raises:
          RarlError: an option is unknown, off the board, or puts two objects in one cell.
        """
        super().reset(seed=seed)
        robot, objects = _start_options(options or {})
        if robot is None:
            robot = _cell(int(self.np_random.integers(BOARD * BOARD)))
        if objects is None:
            cells = self.np_random.choice(BOARD * BOARD, size=len(COLOURS), replace=False)
            objects = [_cell(int(cell)) for cell in cells]
        self.robot = robot
        self.held = None
        self.piles = {cell: [i] for i, cell in enumerate(objects)}
        self.elapsed_steps = 0
        return self._observe(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Do one action; an impossible one leaves the board as it is."""
        if self.elapsed_steps is None or self.elapsed_steps >= EPISODE_STEPS:
            raise gym.error.ResetNeeded("call reset() before the first step and after step 50")
        if not self.action_space.contains(action):
            raise RarlError(
                f"action {action!r}: must be an integer from 0 to {len(ACTIONS) - 1} ({', '.join(ACTIONS)})"
            )
        name = ACTIONS[action]
        if name in _STEP_OF:
            self._move(*_STEP_OF[name])
        elif action == LIFT:
            self._lift()
        elif action == PUT:
            self._put()
        self.elapsed_steps += 1
        reward = 1.0 if self.condition_holds() else 0.0
        return self._observe(), reward, False, self.elapsed_steps == EPISODE_STEPS, {}

    def render(self) -> np.ndarray | str | None:
        """The board as an image (224, 224, 3) uint8 or as text, by `render_mode`."""
        if self.render_mode == "rgb_array":
            return board_image(self._observe(), held=self.held)
        if self.render_mode == "ansi":
            return board_text(self._observe(), held=self.held)
        return None

    def _move(self, dx: int, dy: int) -> None:
        x, y = self.robot[0] + dx, self.robot[1] + dy
        if 0 <= x < BOARD and 0 <= y < BOARD:
            self.robot = (x, y)

    def _lift(self) -> None:
        pile = self.piles.get(self.robot, [])
        if self.held is None and pile:
            self.held = pile.pop()

    def _put(self) -> None:
        pile = self.piles.setdefault(self.robot, [])
        if self.held is not None and len(pile) < 2:
            pile.append(self.held)
            self.held = None

    def position(self, i: int) -> Cell:
        """Where object i (red, green, blue) is; the held one is where the robot is."""
        if i == self.held:
            return self.robot
        return next(cell for cell, pile in self.piles.items() if i in pile)

    def status(self, i: int) -> int:
        """-1 under another object, 0 on the board, 1 held or on top of another."""
        if i == self.held:
            return 1
        pile = self.piles[self.position(i)]
        if len(pile) == 1:
            return 0
        return 1 if pile[1] == i else -1

    def condition_holds(self) -> bool:
        """Whether the task's condition holds in the current state (appendix A.4.2)."""
        first, second = self.task.first, self.task.second
        x, y = self.position(first)
        match self.task.family:
            case "lift":
                return self.held == first
            case "touch":
                return self.held is None and self._next_to(first)
            case "touch with":
                return self.held == first and self._next_to(second)
            case "center":
                return x in (2, 3, 4) and y in (2, 3, 4)
            case "corner":
                return x in (0, 1, 5, 6) and y in (0, 1, 5, 6)
        other_x, other_y = self.position(second)
        match self.task.family:
            case "close":
                return max(abs(x - other_x), abs(y - other_y)) <= 1
            case "far":
                return abs(x - other_x) + abs(y - other_y) > 9
            case "stack":
                return [second, first] in self.piles.values()
        raise AssertionError(f"no condition for family {self.task.family!r}")

    def _next_to(self, i: int) -> bool:
        """The robot shares a side with object i's cell."""
        x, y = self.position(i)
        return (self.robot[0] - x, self.robot[1] - y) in ((0, 1), (0, -1), (1, 0), (-1, 0))

    def _observe(self) -> np.ndarray:
        numbers = list(self.robot)
        for i in range(len(COLOURS)):
            numbers += [*self.position(i), self.status(i)]
        return np.array(numbers, dtype=np.int8)


class GymVectorGridroboman(gym.vector.VectorEnv):
    """`VectorGridroboman` behind gymnasium's own interface, for `gymnasium.make_vec`: boards of one task.

    Args:
      num_envs: boards.
      task: of all.
      max_episode_steps: as registered; there is no other.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "autoreset_mode": AutoresetMode.DISABLED,
        "render_modes": [],
    }

    def __init__(self, num_envs: int, task: Task | str, max_episode_steps: int = EPISODE_STEPS):
        if max_episode_steps != EPISODE_STEPS:
            raise RarlError(
                f"max_episode_steps={max_episode_steps}: episodes of Gridroboman have {EPISODE_STEPS} steps"
            )
        self.num_envs = num_envs
        self.single_observation_space = observation_space()
        self.single_action_space = gym.spaces.Discrete(len(ACTIONS))
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._envs = VectorGridroboman([task_named(task) if isinstance(task, str) else task] * num_envs)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        """Start all episodes."""
        if seed is not None:
            self._np_random = np.random.default_rng(seed)
        return self._envs.start(random_boards(self.num_envs, self.np_random)), {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        """actions (N,) -> observations (N, 11), rewards (N,) float32, terminated (never), truncated, infos."""
        if not self._envs.active.all():
            raise gym.error.ResetNeeded("call reset() before the first step and after step 50")
        return *self._envs.step(np.asarray(actions)), {}


def singles(task: str, n: int) -> gym.vector.VectorEnv:
    """n single environments behind each other."""
    return gym.vector.SyncVectorEnv([lambda: Gridroboman(task)] * n)


def _cell(number: int) -> Cell:
    return number % BOARD, number // BOARD


def _start_options(options: dict[str, Any]) -> tuple[Cell | None, list[Cell] | None]:
    """The robot's and the objects' cells, each None if not given."""
    for key in options:
        if key not in ("robot", "objects"):
            raise RarlError(f"reset option {key!r}: known are 'robot' and 'objects'")
    robot = _on_board(options["robot"], "robot") if "robot" in options else None
    if "objects" not in options:
        return robot, None
    given = options["objects"]
    if not isinstance(given, (Sequence, np.ndarray)) or isinstance(given, str) or len(given) != len(COLOURS):
        raise RarlError(f"reset option 'objects'={given!r}: must be {len(COLOURS)} cells (x, y): {', '.join(COLOURS)}")
    objects = [_on_board(cell, f"objects ({colour})") for cell, colour in zip(given, COLOURS, strict=True)]
    for i, cell in enumerate(objects):
        if cell in objects[:i]:
            first = COLOURS[objects.index(cell)]
            raise RarlError(
                f"reset option 'objects': {first} and {COLOURS[i]} are both at {cell}, not in different cells"
            )
    return robot, objects


def _on_board(cell: Any, name: str) -> Cell:
    if not isinstance(cell, (Sequence, np.ndarray)) or isinstance(cell, str) or len(cell) != 2:
        raise RarlError(f"reset option {name!r}: {cell!r} is not a cell (x, y)")
    whole = all(isinstance(c, (int, np.integer)) and not isinstance(c, bool) for c in cell)
    if not whole or not all(0 <= c < BOARD for c in cell):
        raise RarlError(
            f"reset option {name!r}: {cell!r} is off the board: x and y are whole numbers from 0 to {BOARD - 1}"
        )
    return int(cell[0]), int(cell[1])
