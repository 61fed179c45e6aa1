"""Views from tables against minigrid's own code."""

from __future__ import annotations

import numpy as np
import pytest
from minigrid.core.constants import COLOR_TO_IDX, IDX_TO_COLOR, IDX_TO_OBJECT, OBJECT_TO_IDX
from minigrid.core.grid import Grid
from minigrid.core.world_object import Ball, Box, Door, Floor, Goal, Key, Lava, Wall

from rarl.envs.babyai import view
from rarl.envs.babyai.levels import LEVELS, make_level
from rarl.envs.babyai.missions import COLOURS
from rarl.envs.babyai.view import AGENT_CELL, CODES, EMPTY, TRANSPARENT, WALL, cell_code, decode, mark_seen, see
from tests.envs.plain_babyai import busy_action


def things():
    doors = [Door(c, is_open, is_locked) for c in COLOR_TO_IDX for is_open, is_locked in ((1, 0), (0, 0), (0, 1))]
    plain = [kind(c) for kind in (Wall, Floor, Key, Ball, Box, Goal) for c in COLOR_TO_IDX]
    return [*doors, *plain, Lava()]


def test_codes_are_minigrids_triples():
    assert dict(enumerate(view._TYPES)) == IDX_TO_OBJECT
    assert dict(enumerate(COLOURS)) == IDX_TO_COLOR
    for thing in things():
        kind, color, state = thing.encode()
        code = cell_code(thing)
        assert code == kind * 18 + color * 3 + state < CODES
        assert decode(np.full(49, code, dtype=np.uint8))[0, 0].tolist() == [kind, color, state]
        assert TRANSPARENT[code] == thing.see_behind()
    assert cell_code(None) == EMPTY
    assert decode(np.full(49, EMPTY))[3, 3].tolist() == [OBJECT_TO_IDX["empty"], 0, 0]
    assert cell_code(Wall()) == WALL
    assert len({cell_code(thing) for thing in things()}) == len(things())


def test_decode_keeps_leading_axes_and_refuses_others():
    codes = np.random.default_rng(0).integers(CODES, size=(2, 3, 49), dtype=np.uint8)
    images = decode(codes)
    assert (images.shape, images.dtype) == ((2, 3, 7, 7, 3), np.uint8)
    assert (images @ np.array([18, 3, 1]) == codes.reshape(2, 3, 7, 7)).all()
    with pytest.raises(ValueError, match=r"\(\.\.\., 49\)"):
        decode(np.zeros(50, dtype=np.uint8))


def test_visibility_is_minigrids():
    """Random views, from open to crowded, with carried things."""
    rng = np.random.default_rng(0)
    pool = things()
    codes = np.array([cell_code(thing) for thing in pool], dtype=np.uint8)
    opaque = np.flatnonzero(~TRANSPARENT[codes])
    hidden = []
    for density in (0.1, 0.2, 0.4, 0.6):
        n = 150
        chosen = np.where(rng.random((n, 49)) < 0.3, rng.integers(len(pool), size=(n, 49)), -1)
        chosen = np.where(rng.random((n, 49)) < density, rng.choice(opaque, size=(n, 49)), chosen)
        chosen[:, AGENT_CELL] = -1
        cells = np.where(chosen < 0, EMPTY, codes[chosen]).astype(np.uint8)
        carried = np.where(rng.random(n) < 0.5, codes[rng.integers(len(pool), size=n)], EMPTY).astype(np.uint8)
        views = decode(see(cells, carried))
        for k in range(n):
            grid = Grid(7, 7)
            for i in range(7):
                for j in range(7):
                    grid.set(i, j, None if chosen[k, i * 7 + j] < 0 else pool[chosen[k, i * 7 + j]])
            seen = grid.process_vis((3, 6))
            expected = grid.encode(seen)
            expected[3, 6] = decode(np.full(49, carried[k]))[0, 0]
            np.testing.assert_array_equal(views[k], expected)
        hidden.append((views[..., 0] == 0).mean())
    assert 0.02 < hidden[0] < hidden[1] < hidden[2] < hidden[3] < 0.95


def bots_memory(env, seen):
    """What minigrid's bot does in `_process_obs`, in plain words: (width, height) bool, in place."""
    _, visible = env.gen_obs_grid()
    corner = env.agent_pos + env.dir_vec * 6 - env.right_vec * 3
    for i in range(7):
        for j in range(7):
            x, y = corner - env.dir_vec * j + env.right_vec * i
            if visible[i, j] and 0 <= x < env.width and 0 <= y < env.height:
                seen[x, y] = True


@pytest.mark.parametrize("part", range(2))
def test_memory_of_seen_cells(part):
    """Along random walks on every level: `mark_seen` against minigrid's view."""
    rng = np.random.default_rng(part)
    for level in LEVELS[part::2]:
        env = make_level(level)
        env.reset(seed=int(rng.integers(1000)))
        ours, theirs = bytearray(env.width * env.height), np.zeros((env.width, env.height), dtype=bool)
        for _ in range(60):
            mark_seen(env, ours)
            bots_memory(env, theirs)
            np.testing.assert_array_equal(np.frombuffer(ours, dtype=bool).reshape(env.height, env.width).T, theirs)
            env.step(busy_action(rng))
