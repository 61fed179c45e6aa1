"""The expert of every level: minigrid's BabyAI bot made quicker and safe, and a written one for KeyInBox.

The bot sees no more than an agent would: it remembers which cells it has seen and explores for what it needs. It
follows the actions really taken, so any of its advice may be replaced by another action.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from minigrid.core.world_object import Key, WorldObj
from minigrid.envs.babyai.core.roomgrid_level import RoomGridLevel
from minigrid.envs.babyai.unlock import KeyInBox
from minigrid.utils.baby_ai_bot import BabyAIBot, DisappearedBoxError

from rarl.envs.babyai.generation import descriptions
from rarl.envs.babyai.view import mark_seen

# In 12,000 episodes no plan that came to an end had more than 17 subgoals, nor added more than 10 for one action. Some
# rules of the bot feed each other without end; the limits stop that within a fifth of a second.
MAX_SUBGOALS = 200
MAX_CHANGES = 1000  # subgoals added for one action

_LEFT, _RIGHT, _FORWARD, _PICKUP, _DROP, _TOGGLE = range(6)

Cell = tuple[int, int]


class ExpertFailed(Exception):
    """The expert cannot go on in this episode.

    Attributes:
      reason: one of few short texts, to be counted.
    """

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


class _Plan(list):
    """The bot's stack of subgoals, which refuses to grow without end."""

    added = 0  # since the last action

    def append(self, subgoal: Any) -> None:
        self.added += 1
        if len(self) >= MAX_SUBGOALS or self.added > MAX_CHANGES:
            raise ExpertFailed("endless plan")
        super().append(subgoal)


@functools.cache
def _turns(width: int) -> dict[int, tuple[int, ...]]:
    """Steps in a flat grid of that width, by the step before: straight on first, then the bot's order."""
    order = {}
    for dx, dy in ((1, 0), (0, 1), (-1, 0), (0, -1)):
        steps = ((dx, dy), (dy, dx), (-dy, -dx), (-dx, -dy))
        order[dy * width + dx] = tuple(y * width + x for x, y in steps)
    return order


class _Bot(BabyAIBot):
    """Minigrid's bot: the same advice, from quicker searches (a test holds the two together)."""

    def __init__(self, env: RoomGridLevel):
        super().__init__(env)
        width, height = env.width, env.height
        self._seen = bytearray(width * height)
        # The bot's own rules read this view of the same memory, indexed by x, y.
        self.vis_mask = np.frombuffer(self._seen, dtype=bool).reshape(height, width).T
        self._cells = [(x, y) for y in range(height) for x in range(width)]
        self._turns = _turns(width)
        self.stack = _Plan(self.stack)

    def replan(self, action_taken: int | None = None) -> int:
        self.stack.added = 0
        return super().replan(action_taken)

    def _process_obs(self) -> None:
        mark_seen(self.mission, self._seen)

    def _breadth_first_search(
        self,
        initial_states: list[tuple[int, int, int, int]],
        accept_fn: Callable[[Cell, WorldObj | None], bool],
        ignore_blockers: bool,
    ) -> tuple[list[Cell] | None, Cell | None, dict[Cell, Cell | None]]:
        """The same search as the bot's, on flat indices, where every cell enters the queue once.

        Which way leads to a cell is decided by who puts it there first; later entries have no effect in the bot
        either. Returns the path backwards and its end; without a path, all cells reached with the one before each.
        """
        contents, seen, cells, turns = self.mission.grid.grid, self._seen, self._cells, self._turns
        width = self.mission.grid.width
        before: list[int | None] = [None] * len(cells)
        queue = []
        for x, y, dx, dy in initial_states:
            here = int(y) * width + int(x)
            queue.append(here)
            before[here] = here - (int(dy) * width + int(dx))  # as if it came from where it looks away from
        starts = set(queue)
        for here in queue:  # grows on the way
            content = contents[here]
            if accept_fn(cells[here], content):
                path = [cells[here]]
                while here not in starts:
                    here = before[here]
                    path.append(cells[here])
                return path, path[0], {}
            if not seen[here]:
                continue
            if content is not None:
                kind = content.type
                if kind == "wall" or (not content.is_open if kind == "door" else not ignore_blockers):
                    continue
            for step in turns[here - before[here]]:
                there = here + step
                if before[there] is None:
                    before[there] = here
                    queue.append(there)
        return None, None, {cells[here]: None if here in starts else cells[before[here]] for here in queue}

    def _shortest_path(
        self, accept_fn: Callable[[Cell, WorldObj | None], bool], try_with_blockers: bool = False
    ) -> tuple[list[Cell] | None, Cell | None, bool]:
        """The bot's own, but for one rule: of several locked doors it opens the closest whose key it knows.

        The bot's ExploreSubgoal takes the closest. Without that door's key it explores, and takes the closest again:
        in UnlockToUnlock it never ends on a third of the seeds. No other level has keys for two locked doors.
        """
        if getattr(accept_fn, "__name__", None) == "unopened_door":
            openable = super()._shortest_path(
                lambda pos, cell: accept_fn(pos, cell) and self._knows_key(cell.color), try_with_blockers
            )
            if openable[0] is not None:
                return openable
        return super()._shortest_path(accept_fn, try_with_blockers)

    def _knows_key(self, color: str) -> bool:
        def is_key(cell: WorldObj | None) -> bool:
            return isinstance(cell, Key) and cell.color == color

        env = self.mission
        return is_key(env.carrying) or any(
            seen and is_key(cell) for seen, cell in zip(self._seen, env.grid.grid, strict=True)
        )

    def _check_erroneous_box_opening(self, action: int | None) -> None:
        """The bot gives up when any box is opened; only one that the mission is about is a reason to."""
        try:
            super()._check_erroneous_box_opening(action)
        except DisappearedBoxError:
            mentioned = (thing for about in descriptions(self.mission.instrs) for thing in about.obj_set)
            if any(thing is self.prev_fwd_cell for thing in mentioned):
                raise ExpertFailed("box opened") from None


class _KeyInBoxExpert(_Bot):
    """Open the box, take the key, open the door.

    The bot knows no boxes with something inside. This expert looks at nothing but the present state (and at which
    cells it has seen), so it recovers from whatever was done in its place.
    """

    def _process_instr(self, instr: object) -> None:
        """There is one mission only."""

    def replan(self, action_taken: int | None = None) -> int:
        self._process_obs()
        env = self.mission
        in_front = env.grid.get(*env.front_pos)
        if env.carrying is None:
            # The box is gone once it is open, and then there is the key.
            uses = [("key", _PICKUP), ("box", _TOGGLE)]
        elif isinstance(env.carrying, Key):
            uses = [("door", _TOGGLE)]
        else:  # the box
            return _DROP if in_front is None else _RIGHT
        for kind, action in uses:
            advice = self._use(kind, action)
            if advice is not None:
                return advice
        return self._explore()

    def _use(self, kind: str, action: int) -> int | None:
        """Go to what has been seen of this kind and do `action` with it; None if none has been seen."""
        return self._approach(lambda pos, cell: cell is not None and cell.type == kind and self.vis_mask[pos], action)

    def _explore(self) -> int:
        action = self._approach(lambda pos, _: not self.vis_mask[pos], _FORWARD)
        if action is None:
            raise ExpertFailed("nothing left to explore")
        return action

    def _approach(self, accept: Callable[[Cell, WorldObj | None], bool], action: int) -> int | None:
        path, _, _ = self._shortest_path(accept)
        if path is None:
            return None
        env = self.mission
        step = np.subtract(path[0], env.agent_pos)
        if np.array_equal(step, env.dir_vec):
            return action if len(path) == 1 else _FORWARD
        return _LEFT if np.array_equal(step, -env.right_vec) else _RIGHT


class Expert:
    """Advice for one episode.

    Args:
      env: an environment from `make_level`, just reset.
    """

    def __init__(self, env: RoomGridLevel):
        with _Failures():
            self._bot = (_KeyInBoxExpert if isinstance(env, KeyInBox) else _Bot)(env)

    def action(self, last_action: int | None = None) -> int:
        """What to do now (0..6).

        Args:
          last_action: what was done since the last call, None on the first.

        Raises:
          ExpertFailed: the bot has no plan, or would look for one without end.
        """
        with _Failures():
            return int(self._bot.replan(last_action))


class _Failures:
    """Turns the ways in which the bot gives up into ExpertFailed."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, AssertionError) and "nothing left to explore" in str(error):
            raise ExpertFailed("nothing left to explore") from error
        # The bot checks by assertions that the world is as its subgoals expect; some it forgets to check.
        if isinstance(error, (AssertionError, AttributeError, TypeError)):
            raise ExpertFailed("plan does not fit") from error
