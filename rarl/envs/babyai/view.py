"""What the agent sees, from tables.

A cell is one number, its code: type * 18 + colour * 3 + state, with minigrid's indices (type 0..10, colour 0..5,
state 0..2). The agent sees 7x7 cells: itself in the middle of the last row, looking up. Cell image[i, j] of
minigrid's observation is view cell i * 7 + j; j = 6 is the agent's own row, i = 3 its own column. What it carries
appears on its own cell.

Minigrid computes visibility row by row, from the agent's row outwards: light spreads along a row to the right, then
to the left, through transparent cells, and from each lit transparent cell to the next row (ahead, and ahead to the
side it spreads to). A row thus depends on two sets of 7 cells only, those lit from below and those transparent: a
table of 128 x 128 entries says which cells of the row are seen and which of the next are lit.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from rarl.envs.babyai.missions import COLOURS

if TYPE_CHECKING:
    from minigrid.minigrid_env import MiniGridEnv

VIEW = 7
CELLS = VIEW * VIEW
AGENT_CELL = (VIEW // 2) * VIEW + VIEW - 1
MARGIN = VIEW - 1  # how far the view can reach beyond the grid
CODES = 11 * 18

_TYPES = ("unseen", "empty", "wall", "floor", "door", "key", "ball", "box", "goal", "lava", "agent")
_BASE = {(t, c): 18 * i + 3 * j for i, t in enumerate(_TYPES) for j, c in enumerate(COLOURS)}
_DOOR = 18 * _TYPES.index("door")

EMPTY = 18 * _TYPES.index("empty")
WALL = _BASE["wall", "grey"]  # also what lies beyond the grid

# (198,) bool: walls, and doors that are not open, hide what is behind.
TRANSPARENT = np.array([c // 18 != WALL // 18 and (c // 18 != _DOOR // 18 or c % 3 == 0) for c in range(CODES)])
# (198, 3) uint8: code -> minigrid's type, colour, state.
_DECODED = np.stack([np.arange(CODES) // 18, np.arange(CODES) % 18 // 3, np.arange(CODES) % 3], axis=1).astype(np.uint8)


def thing_code(colour: str, kind: str) -> int:
    """The code of a thing that has no state."""
    return _BASE[kind, colour]


def cell_code(cell: Any) -> int:
    """The code of what is in a cell of minigrid's grid, a WorldObj; None: nothing."""
    if cell is None:
        return EMPTY
    code = _BASE[cell.type, cell.color]
    if cell.type == "door" and not cell.is_open:
        code += 2 if cell.is_locked else 1
    return code


def decode(codes: np.ndarray) -> np.ndarray:
    """Views as minigrid's images: (..., 49) codes -> (..., 7, 7, 3) uint8."""
    codes = np.asarray(codes)
    if codes.shape[-1:] != (CELLS,):
        raise ValueError(f"codes of a view have shape (..., {CELLS}), not {codes.shape}")
    return _DECODED[codes].reshape(*codes.shape[:-1], VIEW, VIEW, 3)


def _light(lit: int, transparent: int) -> tuple[int, int]:
    """One row: sets of cells as bits -> (seen in this row, lit in the next)."""
    seen, ahead = lit, 0
    for step, columns in ((1, range(VIEW - 1)), (-1, range(VIEW - 1, 0, -1))):
        for i in columns:
            if seen >> i & 1 and transparent >> i & 1:
                seen |= 1 << i + step
                ahead |= 1 << i | 1 << i + step
    return seen, ahead


# index: lit * 128 + transparent
_ROWS = [_light(lit, transparent) for lit in range(1 << VIEW) for transparent in range(1 << VIEW)]
_SEEN = np.array([seen for seen, _ in _ROWS], dtype=np.uint8)
_AHEAD = np.array([ahead for _, ahead in _ROWS], dtype=np.uint8)
_AGENT_LIT = 1 << VIEW // 2

# Ahead of and right of the agent, as (x, y), for directions right, down, left, up.
_AHEAD_OF = ((1, 0), (0, 1), (-1, 0), (0, -1))
_RIGHT_OF = ((0, 1), (-1, 0), (0, -1), (1, 0))


@functools.cache
def view_offsets(stride: int) -> np.ndarray:
    """(4, 49) int64: per direction, where the view's cells lie from the agent's, in a flat grid of that row length."""
    offsets = np.empty((4, VIEW, VIEW), dtype=np.int64)
    for direction in range(4):
        (ax, ay), (rx, ry) = _AHEAD_OF[direction], _RIGHT_OF[direction]
        for i in range(VIEW):
            for j in range(VIEW):
                ahead, right = VIEW - 1 - j, i - VIEW // 2
                offsets[direction, i, j] = (ay * ahead + ry * right) * stride + ax * ahead + rx * right
    return offsets.reshape(4, CELLS)


def see(cells: np.ndarray, carried: np.ndarray) -> np.ndarray:
    """Blank what is hidden.

    Args:
      cells: (n, 49) uint8, the codes of the cells in view.
      carried: (n,) uint8, code of what the agent carries, `EMPTY` if nothing.

    Returns:
      (n, 49) uint8: minigrid's observation as codes; cells not seen are 0.
    """
    n = len(cells)
    transparent = np.packbits(TRANSPARENT[cells].reshape(n, VIEW, VIEW), axis=1, bitorder="little")[:, 0]  # (n, j)
    seen = np.empty((n, 1, VIEW), dtype=np.uint8)
    lit = np.full(n, _AGENT_LIT, dtype=np.intp)
    for j in range(VIEW - 1, -1, -1):
        lit <<= VIEW
        lit |= transparent[:, j]
        seen[:, 0, j] = _SEEN[lit]
        lit = _AHEAD[lit].astype(np.intp)
    view = cells * np.unpackbits(seen, axis=1, count=VIEW, bitorder="little").reshape(n, CELLS)
    view[:, AGENT_CELL] = carried
    return view


_SEEN_LIST, _AHEAD_LIST = _SEEN.tolist(), _AHEAD.tolist()
_COLUMNS = [tuple(i - VIEW // 2 for i in range(VIEW) if bits >> i & 1) for bits in range(1 << VIEW)]


def mark_seen(env: MiniGridEnv, seen: bytearray) -> None:
    """Set to 1 what the agent sees now, for a single environment: no arrays, so that one view takes microseconds.

    Args:
      env: the environment.
      seen: (height * width), index y * width + x.
    """
    grid = env.grid
    cells, width, height = grid.grid, grid.width, grid.height
    (ax, ay), (rx, ry) = _AHEAD_OF[env.agent_dir], _RIGHT_OF[env.agent_dir]
    x, y = map(int, env.agent_pos)
    # How many rows of the view lie in the grid, and which of its columns do; what lies beyond hides everything.
    rows = min(VIEW, 1 + (width - 1 - x if ax > 0 else x if ax else height - 1 - y if ay > 0 else y))
    to_left, to_right = (x, width - 1 - x) if rx else (y, height - 1 - y)
    if rx + ry < 0:
        to_left, to_right = to_right, to_left
    first, last = VIEW // 2 - min(VIEW // 2, to_left), VIEW // 2 + min(VIEW // 2, to_right)
    inside = (2 << last) - (1 << first)
    ahead, right = ay * width + ax, ry * width + rx
    here = y * width + x
    lit = _AGENT_LIT
    for _ in range(rows):
        transparent, bit, there = 0, 1 << first, here + (first - VIEW // 2) * right
        while bit <= inside:
            cell = cells[there]
            if cell is None or cell.see_behind():
                transparent |= bit
            bit <<= 1
            there += right
        row = lit << VIEW | transparent
        for column in _COLUMNS[_SEEN_LIST[row] & inside]:
            seen[here + column * right] = 1
        lit = _AHEAD_LIST[row]
        if not lit:
            break
        here += ahead
