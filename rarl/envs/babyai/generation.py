"""Minigrid's level classes, made silent and quicker, and the one that minigrid lacks.

Nothing here changes which levels a seed gives: a test holds every class together with minigrid's own.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import minigrid  # noqa: F401 (registers its levels)
import numpy as np
from gymnasium.envs.registration import load_env_creator
from minigrid.core.constants import DIR_TO_VEC
from minigrid.envs.babyai.core.roomgrid_level import RejectSampling, RoomGridLevel
from minigrid.envs.babyai.core.verifier import GoToInstr, Instr, ObjDesc, PutNextInstr
from minigrid.envs.babyai.goto import GoToLocal

from rarl.envs.babyai.levels import level_named

_AHEAD_OF = [(int(dx), int(dy)) for dx, dy in DIR_TO_VEC]
_RIGHT_OF = [np.array((-dy, dx)) for dx, dy in DIR_TO_VEC]


class PutNextMaze(RoomGridLevel):
    """Level PutNext of the ICLR 2019 list: put one of 18 objects next to another, each in any of the nine rooms.

    All objects can be reached without moving another one. Minigrid's class `PutNext` is another level: the bonus
    level of two joined rooms.
    """

    def gen_mission(self) -> None:
        self.place_agent()
        self.connect_all()
        objects = self.add_distractors(num_distractors=18, all_unique=False)
        self.check_objs_reachable()
        moved, fixed = self._rand_subset(objects, 2)
        self.instrs = PutNextInstr(ObjDesc(moved.type, moved.color), ObjDesc(fixed.type, fixed.color))


class GoToGiven(GoToLocal):
    """GoToLocal with a mission that is always the same: rooms without the thing are drawn again.

    Args:
      target: colour and kind of the thing.
    """

    def __init__(self, target: tuple[str, str], **options: Any):
        self.target = target
        super().__init__(**options)

    def gen_mission(self) -> None:
        colour, kind = self.target
        self.place_agent()
        objects = self.add_distractors(num_distractors=self.num_dists, all_unique=False)
        self.check_objs_reachable()
        if not any((thing.color, thing.type) == self.target for thing in objects):
            raise RejectSampling("the thing to go to is not there")
        self.instrs = GoToInstr(ObjDesc(kind, colour))


class _Quick(RoomGridLevel):
    """What every level class is mixed with: the same behaviour with less work and without output."""

    instrs: Instr

    def _gen_grid(self, width: int, height: int) -> None:
        with contextlib.redirect_stdout(None):  # it prints every rejected sample
            super()._gen_grid(width, height)

    def place_obj(self, obj: Any, top: Any = None, size: Any = None, reject_fn: Any = None, max_tries: Any = math.inf):
        grid, agent, draw = self.grid, (int(self.agent_pos[0]), int(self.agent_pos[1])), self.np_random.integers
        x, y = (0, 0) if top is None else (max(top[0], 0), max(top[1], 0))
        width, height = (grid.width, grid.height) if size is None else size
        x_end, y_end, tries = min(x + width, grid.width), min(y + height, grid.height), 0
        while tries <= max_tries:
            tries += 1
            drawn = draw(x, x_end), draw(y, y_end)
            place = int(drawn[0]), int(drawn[1])  # NumPy's own integers are slow in all that follows
            free = grid.grid[place[1] * grid.width + place[0]] is None and place != agent
            if free and not (reject_fn and reject_fn(self, place)):
                grid.set(*place, obj)
                if obj is None:
                    return drawn  # the agent's own place, which minigrid prints
                obj.init_pos = obj.cur_pos = place
                return place
        raise RecursionError("rejection sampling failed in place_obj")

    @property
    def dir_vec(self) -> np.ndarray:
        return DIR_TO_VEC[self.agent_dir]

    @property
    def right_vec(self) -> np.ndarray:
        return _RIGHT_OF[self.agent_dir]

    @property
    def front_pos(self) -> tuple[int, int]:
        (x, y), (dx, dy) = self.agent_pos, _AHEAD_OF[self.agent_dir]
        return int(x) + dx, int(y) + dy

    def check_objs_reachable(self, raise_exc: bool = True) -> bool:
        cells, width = self.grid.grid, self.grid.width
        left = sum(cell is not None and cell.type != "wall" for cell in cells)
        x, y = self.agent_pos
        # The outer wall bounds the search, so neighbours never leave the grid.
        stack = [int(y) * width + int(x)]
        reached = set(stack)
        while stack and left:
            here = stack.pop()
            cell = cells[here]
            if cell is not None:
                left -= cell.type != "wall"
                if cell.type != "door":
                    continue
            for there in (here + 1, here - 1, here + width, here - width):
                if there not in reached:
                    reached.add(there)
                    stack.append(there)
        if left and raise_exc:
            raise RejectSampling("unreachable object")
        return not left

    def update_objs_poss(self, instr: Instr | None = None) -> None:
        """Minigrid calls it on every drop, and looks for the objects of each description in turn."""
        places = {id(cell): n for n, cell in enumerate(self.grid.grid) if cell is not None}
        for description in descriptions(instr or self.instrs):
            found = (places[id(thing)] for thing in description.obj_set if id(thing) in places)
            description.obj_poss = sorted((n % self.width, n // self.width) for n in found)


def descriptions(instr: Instr) -> Iterator[ObjDesc]:
    """The descriptions of objects in an instruction, in sub-instructions too."""
    for part in ("instr_a", "instr_b"):
        if hasattr(instr, part):
            yield from descriptions(getattr(instr, part))
    for part in ("desc", "desc_move", "desc_fixed"):
        if hasattr(instr, part):
            yield getattr(instr, part)


@functools.cache
def _quick(level_class: Any) -> Any:
    return type(level_class.__name__, (_Quick, level_class), {"__module__": level_class.__module__})


def make(gym_id: str | None) -> RoomGridLevel:
    """A level by its id in minigrid's registry, without wrappers; None makes the maze of put-next."""
    if gym_id is None:
        return _quick(PutNextMaze)()
    spec = gym.spec(gym_id)
    level: Any = load_env_creator(str(spec.entry_point))
    return _quick(level)(**spec.kwargs)


def make_go_to(colour: str, kind: str) -> RoomGridLevel:
    """GoToLocal, always with the mission to go to this thing."""
    level: RoomGridLevel = _quick(GoToGiven)((colour, kind))
    return level


def library_vector(level: str, n: int) -> gym.vector.VectorEnv:
    """n of a level as minigrid plays it, one behind the other."""
    gym_id = level_named(level).gym_id
    return gym.vector.SyncVectorEnv([PutNextMaze if gym_id is None else lambda: gym.make(gym_id)] * n)
