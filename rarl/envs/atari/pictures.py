"""A part of a recorded Atari episode as pictures: the screens as the agent saw them."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from rarl.envs.atari.observation import SCREEN
from rarl.envs.pictures import Pictures


def states(episode: Mapping[str, Any], pixels: int) -> list[np.ndarray]:
    """The screen before each step."""
    return [_screen(step["frame"], pixels) for step in episode["steps"]]


def retrieved(state: Mapping[str, Any], pixels: int) -> np.ndarray:
    """The screen of a retrieved step."""
    return _screen(state["frame"], pixels)


def _screen(text: Any, pixels: int) -> np.ndarray:
    """A PNG in base64 -> (n, n, 3) uint8, n the largest multiple of 84 up to `pixels`."""
    try:
        image = Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=["PNG"])
        if image.size != (SCREEN, SCREEN):
            raise ValueError(f"a screen has {SCREEN} x {SCREEN} pixels, not {image.size}")
        zoom = max(1, pixels // SCREEN)
        return np.asarray(image.convert("RGB")).repeat(zoom, 0).repeat(zoom, 1)
    except (OSError, SyntaxError) as error:  # what Pillow raises on damaged files
        raise ValueError(f"not a PNG ({error})") from None


PICTURES = Pictures(states, retrieved, milliseconds=150)  # in the game a step of four frames lasts 67
