"""Recorded episodes as pictures: a strip of chosen steps with what was retrieved, and animations.

Which episode and which steps are shown follows rules that are printed beside the pictures; nothing is picked by eye.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from rarl.envs.common import PICTURES
from rarl.envs.pictures import Pictures, chosen_steps
from rarl.envs.spec import EnvSpec, load
from rarl.errors import RarlError
from rarl.files import read_json
from rarl.reporting import figures, tables
from rarl.reporting.figures import FAINT, INK, PALETTE

SHOWN = 3  # retrieved states per step
STATE_PIXELS, TILE_PIXELS = 256, 84  # about; cells have whole numbers of pixels
_REST = 1400  # milliseconds on the last frame
REWARD = PALETTE[2]


@dataclass(frozen=True)
class Tile:
    """One picture of a strip or of a frame.

    image: (height, width, 3) uint8. title: its first line, above it in a strip. lines: below or beside it.
    rewarded: gets a thick frame; None: it is the state itself.
    """

    image: np.ndarray
    title: str
    lines: Sequence[str]
    rewarded: bool | None = None


def read_gallery(path: Path) -> dict[str, Any]:
    """The gallery's rule and its episodes that have steps, sorted by return; a file of another shape is an error."""
    gallery = read_json(path)
    try:
        episodes = [episode for episode in gallery["episodes"] if list(episode["steps"])]
        episodes.sort(key=lambda e: (_finite(e["return"]), str(e["task"])))
        return {"rule": str(gallery.get("rule", "")).rstrip("."), "episodes": episodes}
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise RarlError(f"{path.name}: not a gallery ({type(error).__name__}: {error})") from None


def _finite(value: Any) -> float:
    if not math.isfinite(float(value)):
        raise ValueError(f"{value} is no number")
    return float(value)


class Drawn(NamedTuple):
    """An episode as pictures. strip: None where nothing is retrieved in it. animation: a WebP."""

    strip: Figure | None
    animation: bytes


def pictures_of(spec: EnvSpec) -> Pictures:
    """An environment's pictures."""
    found: Pictures = load(spec.picture or PICTURES)
    return found


def draw_episode(spec: EnvSpec, episode: Mapping[str, Any]) -> Drawn:
    """The strip and the animation of a recorded episode, by the environment's pictures.

    Raises:
      RarlError: the episode lacks something that its pictures show, or holds something odd.
    """
    look = pictures_of(spec)
    try:
        states = look.states(episode, STATE_PIXELS)
        retrieves = any(step["retrieved"] for step in episode["steps"])
        return Drawn(_strip(look, episode, states) if retrieves else None, _animation(look, episode, states))
    except Exception as error:  # whatever comes up in an environment's code where something is odd
        what = "" if isinstance(error, RarlError) else f"not a gallery, {type(error).__name__}: "
        raise RarlError(f"gallery.json: {what}{error}") from None


def outcome(look: Pictures, episode: Mapping[str, Any], *, tell_about: bool = True) -> str:
    """How an episode ended: "return 31, 50 steps recorded of 50"; and, before that, what it was about."""
    steps = len(episode["steps"])
    ends = [] if "success" not in episode else ["success" if episode["success"] else "no success"]
    about = [f"“{text}”"] if tell_about and (text := _about(look, episode)) else []
    return ", ".join([*about, *ends, f"return {float(episode['return']):.4g}",
                      f"{steps} steps recorded of {int(episode.get('length', steps)):,}"])  # fmt: skip


def _strip(look: Pictures, episode: Mapping[str, Any], states: Sequence[np.ndarray]) -> Figure:
    """One row per chosen step: the state, then those that were attended to most."""
    rows = []
    for i in chosen_steps([step["reward"] for step in episode["steps"]]):
        step = episode["steps"][i]
        does = [f"does: {_action(look, step)}", _reward(step["reward"])]
        now = Tile(states[i], f"step {int(step.get('t', i)):,}", does)
        rows.append([now, *_tiles(look, step["retrieved"], 2 * TILE_PIXELS, columns=22)])
    height = 1.6 + 0.14 * max(len(tile.lines) for row in rows for tile in row)
    figure = figures.new_figure(height * len(rows))
    for axes_row, tiles in zip(figure.subplots(len(rows), 1 + SHOWN, squeeze=False), rows, strict=True):
        for axes, tile in zip(axes_row, tiles, strict=False):
            _show(axes, tile)
        for axes in axes_row[len(tiles) :]:
            axes.set_axis_off()
    return figure


def _show(axes: Axes, tile: Tile) -> None:
    axes.imshow(tile.image, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    edge = INK if tile.rewarded is None else REWARD if tile.rewarded else FAINT
    for spine in axes.spines.values():
        spine.set(visible=True, color=edge, linewidth=2.6 if edge == REWARD else 1.0)
    axes.set_title(tile.title, fontsize=8.5, weight="bold", pad=3)
    axes.set_xlabel("\n".join(tile.lines), fontsize=8, labelpad=3)


def _animation(look: Pictures, episode: Mapping[str, Any], states: Sequence[np.ndarray]) -> bytes:
    """All recorded steps: the state on the left; on the right what was attended to most, as it was last looked up."""
    retrieves = any(step["retrieved"] for step in episode["steps"])
    side, least_height = (300, SHOWN * (TILE_PIXELS + 9)) if retrieves else (16, 0)
    width = int((states[0].shape[1] + side) / 6.6)
    about = textwrap.wrap(_about(look, episode), width, max_lines=2, placeholder=" …")
    title = tables.spaced(episode["task"])
    frames, total = [], 0.0
    tiles: list[Any] = []
    for i, (step, state) in enumerate(zip(episode["steps"], states, strict=False)):
        tiles = _tiles(look, step["retrieved"], TILE_PIXELS, columns=26) or tiles
        head = f"step {int(step.get('t', i)):,}   return so far {total:g}   does: {_action(look, step)}"
        frames.append(_frame(state, title, [*about, head], tiles, side=side, least_height=least_height))
        total += _finite(step["reward"])
    if len(states) > len(episode["steps"]):
        end = [*about, f"end   {outcome(look, episode, tell_about=False)}"]
        frames.append(_frame(states[-1], title, end, [], side=side, least_height=least_height))
    buffer = io.BytesIO()
    times = [look.milliseconds] * (len(frames) - 1) + [_REST]
    options = {"save_all": True, "append_images": frames[1:], "duration": times, "loop": 0}
    frames[0].save(buffer, format="WEBP", lossless=True, method=3, **options)
    return buffer.getvalue()


def _tiles(look: Pictures, retrieved: Sequence[Mapping[str, Any]], pixels: int, columns: int) -> list[Tile]:
    return [
        Tile(look.retrieved(state, pixels), f"weight {_finite(state['weight']):.2f}", _described(look, state, columns),
             bool(state["rewarded"]))
        for state in retrieved[:SHOWN]
    ]  # fmt: skip


def _about(look: Pictures, recorded: Mapping[str, Any]) -> str:
    """What an episode, or that of a state, is about; empty where nobody says."""
    return "" if look.about is None else str(recorded.get(look.about, ""))


def _described(look: Pictures, state: Mapping[str, Any], columns: int) -> list[str]:
    """Whose state it is, as far as that was recorded."""
    lines = [tables.spaced(state["task"])] if "task" in state else []
    lines += textwrap.wrap(_about(look, state), columns, max_lines=3, placeholder=" …")
    place = [f"its step {int(state['step']):,}"] if "step" in state else []
    place += [f"return {_finite(state['return']):.3g}"] if "return" in state else []
    lines += [", ".join(place)] if place else []
    return lines + ([_reward(state["reward"])] if "reward" in state else [])


def _action(look: Pictures, step: Mapping[str, Any]) -> str:
    action = step["action"]
    if action is None:
        return "not recorded"
    return action if isinstance(action, str) else look.actions[int(action)]


def _reward(reward: Any) -> str:
    return f"reward {tables.number(_finite(reward), 0 if _finite(reward).is_integer() else 2, signed=True)}"


def median_episode(episodes: list[dict[str, Any]]) -> dict[str, Any]:
    """The (lower) median by return of episodes sorted by return."""
    return episodes[(len(episodes) - 1) // 2]


@cache
def _font(size: int) -> Any:
    return ImageFont.load_default(size=size)


def _frame(
    state: np.ndarray, title: str, heads: Sequence[str], tiles: Sequence[Tile], *, side: int, least_height: int
) -> Image.Image:
    """One picture of an animation: text above, the state on the left, tiles with their text on the right.

    Args:
      title, heads: a larger and some smaller lines of text.
      side: width of the right part in pixels.
      least_height: of the part below the text; frames of one animation need equal sizes.
    """
    small = _font(12)
    picture = Image.fromarray(state)
    top = 29 + 17 * len(heads)
    image = Image.new("RGB", (picture.width + side, max(picture.height, least_height) + top + 22), "white")
    draw = ImageDraw.Draw(image)
    draw.text((8, 5), title, fill=INK, font=_font(14))
    for k, head in enumerate(heads):
        draw.text((8, 25 + 17 * k), head, fill=INK, font=small)
    draw.rectangle((7, top - 1, 8 + picture.width, top + picture.height), outline=FAINT)
    image.paste(picture, (8, top))
    x, y = picture.width + 20, top
    for tile in tiles:
        seen = Image.fromarray(tile.image)
        edge = REWARD if tile.rewarded else FAINT
        box = (x - 3, y - 3, x + seen.width + 2, y + seen.height + 2)
        draw.rectangle(box, outline=edge, width=3 if edge == REWARD else 1)
        image.paste(seen, (x, y))
        for k, line in enumerate((tile.title, *tile.lines)):
            draw.text((x + seen.width + 9, y + 4 + 17 * k), line, fill=INK, font=small)
        y += seen.height + 9
    return image
