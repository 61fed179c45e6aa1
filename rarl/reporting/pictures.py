"""Recorded episodes as pictures: a strip of chosen steps with what was retrieved, and animations.

Which episode and which steps are shown follows rules that are printed beside the pictures; nothing is picked by eye.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from rarl.errors import RarlError
from rarl.files import read_json
from rarl.probes import moments
from rarl.probes.moments import STEP_RULE as STEP_RULE  # sections print it
from rarl.reporting import figures
from rarl.reporting.figures import FAINT, INK, PALETTE

SHOWN = 3  # retrieved states per step
MILLISECONDS = 350  # per frame
REWARD = PALETTE[2]


@dataclass(frozen=True)
class Tile:
    """One picture of a strip or of a frame.

    image: (height, width, 3) uint8. title: its first line, above it in a strip. lines: below or beside it.
    rewarded: gets a thick frame; None: it is the board itself.
    """

    image: np.ndarray
    title: str
    lines: Sequence[str]
    rewarded: bool | None = None


def read_gallery(path: Path, check: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """The gallery's rule and its episodes that have steps, sorted by return; a file of another shape is an error.

    Args:
      check: raises whatever comes up where an episode lacks what its pictures show.
    """
    gallery = read_json(path)
    try:
        for episode in gallery["episodes"]:
            check(episode)
        episodes = [episode for episode in gallery["episodes"] if episode["steps"]]
        episodes.sort(key=lambda e: (float(e["return"]), str(e["task"])))
        return {"rule": str(gallery.get("rule", "")), "episodes": episodes}
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise RarlError(f"{path.name}: not a gallery ({type(error).__name__}: {error})") from None
    except RarlError as error:
        raise RarlError(f"{path.name}: {error}") from None


def finite(value: Any) -> float:
    """A number of a gallery; what is none is an error, for `check` of `read_gallery`."""
    if not math.isfinite(float(value)):
        raise ValueError(f"{value} in place of a number")
    return float(value)


def median_episode(episodes: list[dict[str, Any]]) -> dict[str, Any]:
    """The (lower) median by return of episodes sorted by return."""
    return episodes[(len(episodes) - 1) // 2]


def chosen_steps(episode: dict[str, Any]) -> list[int]:
    """Indices of the steps that the strip shows; see STEP_RULE."""
    return moments.chosen_steps([step["reward"] for step in episode["steps"]])


def strip(rows: Sequence[Sequence[Tile]], row_height: float) -> Figure:
    """One row per step: the board, then what was attended to most; at most 1 + SHOWN tiles a row.

    Args:
      row_height: inches.
    """
    figure = figures.new_figure(row_height * len(rows))
    grid = figure.subplots(len(rows), 1 + SHOWN, squeeze=False)
    for axes_row, tiles in zip(grid, rows, strict=True):
        for axes, tile in zip(axes_row, tiles, strict=False):
            _show(axes, tile)
        for axes in axes_row[len(tiles) :]:
            axes.set_axis_off()
    return figure


def _show(axes: Axes, tile: Tile) -> None:
    axes.imshow(tile.image, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    edge = INK if tile.rewarded is None else REWARD if tile.rewarded else FAINT
    for spine in axes.spines.values():
        spine.set(visible=True, color=edge, linewidth=2.6 if edge == REWARD else 1.0)
    axes.set_title(tile.title, fontsize=8.5, weight="bold", pad=3)
    axes.set_xlabel("\n".join(tile.lines), fontsize=8, labelpad=3)


@cache
def _font(size: int) -> Any:
    return ImageFont.load_default(size=size)


def frame(
    board: np.ndarray,
    title: str,
    heads: Sequence[str],
    tiles: Sequence[Tile],
    *,
    side: int = 240,
    least_height: int = 0,
) -> Image.Image:
    """One picture of an animation: text above, the board on the left, tiles with their text on the right.

    Args:
      board: (height, width, 3) uint8.
      title, heads: a larger and some smaller lines of text.
      tiles: at most SHOWN are drawn.
      side: width of the right part in pixels.
      least_height: of the part below the text; frames of one animation need equal sizes.
    """
    small = _font(12)
    picture = Image.fromarray(board)
    top = 29 + 17 * len(heads)
    image = Image.new("RGB", (picture.width + side, max(picture.height, least_height) + top + 22), "white")
    draw = ImageDraw.Draw(image)
    draw.text((8, 5), title, fill=INK, font=_font(14))
    for k, head in enumerate(heads):
        draw.text((8, 25 + 17 * k), head, fill=INK, font=small)
    draw.rectangle((7, top - 1, 8 + picture.width, top + picture.height), outline=FAINT)
    image.paste(picture, (8, top))
    x, y = picture.width + 20, top
    for tile in tiles[:SHOWN]:
        seen = Image.fromarray(tile.image)
        edge = REWARD if tile.rewarded else FAINT
        box = (x - 3, y - 3, x + seen.width + 2, y + seen.height + 2)
        draw.rectangle(box, outline=edge, width=3 if edge == REWARD else 1)
        image.paste(seen, (x, y))
        for k, line in enumerate((tile.title, *tile.lines)):
            draw.text((x + seen.width + 9, y + 4 + 17 * k), line, fill=INK, font=small)
        y += seen.height + 9
    return image


def animation(frames: Sequence[Image.Image], colours: int = 64, milliseconds: int = MILLISECONDS) -> bytes:
    """Frames of equal size as a GIF that repeats and rests on its last frame; equal frames give equal bytes."""
    # One palette for all frames: a palette per frame costs bytes and flickers.
    palette = _palette(frames, colours)
    indexed = [_indexed(frame, palette) for frame in frames]
    times = [milliseconds] * (len(indexed) - 1) + [4 * MILLISECONDS]
    buffer = io.BytesIO()
    indexed[0].save(
        buffer, format="GIF", save_all=True, append_images=indexed[1:], duration=times, loop=0, optimize=True
    )
    return buffer.getvalue()


def _palette(frames: Sequence[Image.Image], colours: int, sampled: int = 8) -> np.ndarray:
    """(colours, 3): the most frequent colours of frames spread over the episode."""
    packed = np.concatenate([_packed(frame).ravel() for frame in frames[:: max(1, len(frames) // sampled)]])
    known, counts = np.unique(packed, return_counts=True)
    # The flat colours of boards and text are frequent. The soft edges between them are many and close to each other: of
    # colours that the eye cannot tell apart only the first is taken.
    chosen: list[np.ndarray] = []
    for colour in _unpacked(known[np.lexsort((known, -counts))]):
        if len(chosen) < colours and all(np.abs(colour - other).max() > 5 for other in chosen):
            chosen.append(colour)
    return np.array(chosen)


def _packed(frame: Image.Image) -> np.ndarray:
    """(height, width): each pixel's colour as one number."""
    pixels = np.asarray(frame).astype(np.int64)
    return pixels[..., 0] << 16 | pixels[..., 1] << 8 | pixels[..., 2]


def _unpacked(colours: np.ndarray) -> np.ndarray:
    """(n,) -> (n, 3)."""
    return np.stack([colours >> 16, colours >> 8 & 255, colours & 255], axis=1)


def _indexed(frame: Image.Image, palette: np.ndarray) -> Image.Image:
    """The frame in the nearest colours of the palette (Pillow's own mapping is coarse and shifts flat colours)."""
    packed = _packed(frame)
    known, inverse = np.unique(packed, return_inverse=True)
    colours = _unpacked(known)
    nearest = ((colours[:, None] - palette[None]) ** 2).sum(axis=-1).argmin(axis=1).astype(np.uint8)
    image = Image.fromarray(nearest[inverse.reshape(packed.shape)])
    image.putpalette(palette.astype(np.uint8).tobytes())
    return image
