"""Recorded BabyAI episodes as pictures: replayed from level, seed and actions, which must give the same episode."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from rarl.envs.babyai.levels import level_named
from rarl.envs.babyai.missions import tokenise, words
from rarl.envs.babyai.vector import ACTIONS, VectorBabyAI
from rarl.envs.babyai.view import AGENT_CELL, CODES, VIEW, decode
from rarl.errors import RarlError
from rarl.reporting import pictures
from rarl.reporting.pictures import Tile

BOARD_PIXELS = 288  # about; cells have whole numbers of pixels
STRIP_TILE, GIF_TILE = 16, 12  # pixels per cell of a view
_UP = 3  # the agent's direction in its own view


def read_gallery(path: Path) -> dict[str, Any]:
    """The gallery's episodes, sorted by return; a file of another shape is an error."""
    return pictures.read_gallery(path, _check)


def _check(episode: dict[str, Any]) -> None:
    level_named(episode["task"])
    tokenise(episode["mission"])
    if int(episode["seed"]) < 0 or int(episode["length"]) < len(episode["steps"]):
        raise ValueError("seed is negative or length less than the steps")
    bool(episode["success"])
    for step in episode["steps"]:
        if not 0 <= int(step["action"]) < len(ACTIONS):
            raise ValueError(f"action {step['action']}")
        pictures.finite(step["reward"])
        for state in step["retrieved"]:
            _view(state["view"])
            level_named(state["task"])
            tokenise(state["mission"])
            (
                pictures.finite(state["weight"]),
                pictures.finite(state["return"]),
                int(state["step"]),
                bool(state["rewarded"]),
            )
    pictures.finite(episode["return"])


def _view(codes: Any) -> np.ndarray:
    view = np.asarray(codes, dtype=np.int64)
    if view.shape != (VIEW * VIEW,) or view.min() < 0 or view.max() >= CODES:
        raise ValueError(f"a view has {VIEW * VIEW} codes below {CODES}")
    return view


def view_image(codes: Any, tile: int) -> np.ndarray:
    """What the agent saw, as minigrid draws it: (49,) codes -> (7 * tile, 7 * tile, 3) uint8, the agent looking up."""
    from minigrid.core.grid import Grid  # takes half a second to import

    grid, seen = Grid.decode(decode(_view(codes)))
    return grid.render(tile, divmod(AGENT_CELL, VIEW), _UP, highlight_mask=seen)


def boards(episode: dict[str, Any]) -> list[np.ndarray]:
    """The board before every recorded step and after the last, as minigrid draws it.

    Raises:
      RarlError: the replay has another mission, other rewards or another end, so it would show another episode.
    """
    env = VectorBabyAI([level_named(episode["task"])])
    env.reset(np.array([int(episode["seed"])]))
    what = f"gallery.json: the episode of {episode['task']} with seed {episode['seed']} does not replay"
    mission = words(env.context[0])
    if mission != episode["mission"]:
        raise RarlError(f"{what}: the mission is {mission!r}, not {episode['mission']!r}")
    board = env.envs[0]
    tile = max(8, BOARD_PIXELS // max(board.width, board.height))
    found = [board.get_frame(tile_size=tile)]
    for t, step in enumerate(episode["steps"]):
        if not env.active[0]:
            raise RarlError(f"{what}: it ends after {t} of {len(episode['steps'])} steps")
        _, reward, _, _ = env.step(np.array([int(step["action"])]))
        if abs(float(reward[0]) - float(step["reward"])) > 1e-4:
            raise RarlError(f"{what}: the reward of step {t} is {reward[0]:g}, not {step['reward']:g}")
        found.append(board.get_frame(tile_size=tile))
    if bool(env.active[0]) != (len(episode["steps"]) < int(episode["length"])):
        raise RarlError(f"{what}: it does not end after {episode['length']} steps")
    return found


def strip(episode: dict[str, Any], shown: list[np.ndarray]) -> Figure:
    """One row per chosen step: the board, then the views attended to most.

    Args:
      shown: the episode's `boards`.
    """
    rows = []
    for i in pictures.chosen_steps(episode):
        step = episode["steps"][i]
        does = [f"does: {ACTIONS[int(step['action'])]}", f"reward {float(step['reward']):.2g}"]
        rows.append([Tile(shown[i], f"step {i}", does), *_tiles(step["retrieved"], STRIP_TILE, columns=22)])
    return pictures.strip(rows, 1.75 + 0.14 * max(len(tile.lines) for row in rows for tile in row))


def episode_gif(episode: dict[str, Any], shown: list[np.ndarray]) -> bytes:
    """The recorded steps as an animated GIF: the board on the left, the views attended to most on the right."""
    retrieves = any(step["retrieved"] for step in episode["steps"])
    side, least_height = (290, pictures.SHOWN * (VIEW * GIF_TILE + 9)) if retrieves else (16, 0)
    mission = textwrap.wrap(episode["mission"], int((shown[0].shape[1] + side) / 6.6), max_lines=2, placeholder=" …")

    def frame(board: np.ndarray, head: str, tiles: list[Tile]) -> Image.Image:
        heads = [*mission, head]
        return pictures.frame(board, episode["task"], heads, tiles, side=side, least_height=least_height)

    frames = []
    for i, step in enumerate(episode["steps"]):
        does = f"step {i}   does: {ACTIONS[int(step['action'])]}"
        frames.append(frame(shown[i], does, _tiles(step["retrieved"], GIF_TILE, columns=26)))
    recorded, length = len(episode["steps"]), int(episode["length"])
    end = f"after {recorded} of {length} steps" + (f": {outcome(episode)}" if recorded == length else "")
    frames.append(frame(shown[-1], end, []))
    return pictures.animation(frames, colours=96)


def outcome(episode: dict[str, Any]) -> str:
    """How the episode ended, in words."""
    return f"success, return {float(episode['return']):.2f}" if episode["success"] else "no success"


def _tiles(retrieved: list[dict], tile: int, columns: int) -> list[Tile]:
    return [
        Tile(
            view_image(state["view"], tile),
            f"weight {float(state['weight']):.2f}",
            [
                str(state["task"]),
                *textwrap.wrap(state["mission"], columns, max_lines=3, placeholder=" …"),
                f"step {int(state['step'])}, return {float(state['return']):.2f}",
            ],
            bool(state["rewarded"]),
        )
        for state in retrieved[: pictures.SHOWN]
    ]
