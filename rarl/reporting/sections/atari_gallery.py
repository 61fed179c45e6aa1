"""A part of a recorded Atari episode as pictures: what was on the screen, and the screens attended to most."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from rarl.envs.atari.games import ACTIONS, check_game
from rarl.envs.atari.observation import SCREEN
from rarl.reporting import pictures, tables
from rarl.reporting.pictures import Tile

BOARD_ZOOM = 3  # of the screen in the animation
MILLISECONDS = 150  # per step; in the game a step of four frames lasts 67


def read_gallery(path: Path) -> dict[str, Any]:
    """The gallery's episodes, sorted by return; a file of another shape is an error."""
    return pictures.read_gallery(path, _check)


def _check(episode: dict[str, Any]) -> None:
    check_game(episode["task"])
    if int(episode["length"]) < len(episode["steps"]):
        raise ValueError("length is less than the steps")
    pictures.finite(episode["return"])
    for step in episode["steps"]:
        if step["action"] is not None and step["action"] not in ACTIONS:
            raise ValueError(f"action {step['action']}")
        pictures.finite(step["reward"]), int(step["t"]), screen(step["frame"])
        for state in step["retrieved"]:
            (
                pictures.finite(state["weight"]),
                pictures.finite(state["reward"]),
                int(state["step"]),
                bool(state["rewarded"]),
            )
            screen(state["frame"])


def screen(text: Any) -> np.ndarray:
    """A PNG in base64 -> (84, 84, 3) uint8."""
    try:
        image = Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=["PNG"])
        if image.size != (SCREEN, SCREEN):
            raise ValueError(f"a screen has {SCREEN} x {SCREEN} pixels, not {image.size}")
        return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError) as error:  # what Pillow raises on damaged files
        raise ValueError(f"not a PNG ({error})") from None


def strip(episode: dict[str, Any]) -> Figure:
    """One row per chosen step: the screen, then the retrieved screens attended to most."""
    rows = []
    for i in pictures.chosen_steps(episode):
        step = episode["steps"][i]
        does = [f"does: {_action(step)}", _reward(step["reward"])]
        rows.append([Tile(screen(step["frame"]), f"step {step['t']:,}", does), *_tiles(step["retrieved"])])
    return pictures.strip(rows, 2.05)


def episode_gif(episode: dict[str, Any]) -> bytes:
    """The recorded steps as an animated GIF: the screen on the left, the screens attended to most on the right."""
    retrieves = any(step["retrieved"] for step in episode["steps"])
    side, least_height = (215, pictures.SHOWN * (SCREEN + 9)) if retrieves else (16, 0)
    title = str(episode["task"]).replace("_", " ")
    frames, seen, total = [], None, 0.0
    for step in episode["steps"]:
        seen = step if step["retrieved"] else seen
        heads = [f"step {step['t']:,}   {_action(step)}   points so far here {total:g}"]
        if retrieves:
            heads.append("" if seen is None else f"looked at in step {seen['t']:,}, on the right:")
        board = screen(step["frame"]).repeat(BOARD_ZOOM, 0).repeat(BOARD_ZOOM, 1)
        tiles = _tiles(seen["retrieved"]) if seen else []
        frames.append(pictures.frame(board, title, heads, tiles, side=side, least_height=least_height))
        total += float(step["reward"])
    return pictures.animation(frames, milliseconds=MILLISECONDS)


def _tiles(retrieved: list[dict]) -> list[Tile]:
    return [
        Tile(
            screen(state["frame"]),
            f"weight {float(state['weight']):.2f}",
            [f"its step {int(state['step']):,}", _reward(state["reward"])],
            bool(state["rewarded"]),
        )
        for state in retrieved[: pictures.SHOWN]
    ]


def _action(step: dict[str, Any]) -> str:
    return step["action"] or "not recorded"


def _reward(reward: Any) -> str:
    return f"reward {tables.number(float(reward), 0 if float(reward).is_integer() else 2, signed=True)}"
