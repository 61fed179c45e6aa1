"""What the agent retrieves while it acts, as pictures: a strip of chosen steps, and whole episodes as GIF.

Which episode and which steps are shown follows rules that are printed beside the pictures; nothing is picked by eye.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from rarl.envs.gridroboman.render import board_image
from rarl.envs.gridroboman.tasks import ACTIONS
from rarl.errors import RarlError
from rarl.files import read_json
from rarl.reporting import figures
from rarl.reporting.figures import FAINT, INK, PALETTE
from rarl.reporting.results import Results
from rarl.reporting.sections.gridroboman_measures import ALL_TASKS, EXPERIMENT, aggregate

SHOWN = 3  # retrieved states per step in the strip
SHOWN_GIF = 3
MILLISECONDS = 350  # per frame
REWARD = PALETTE[2]
STEP_RULE = (
    "Steps: the first one, the one half-way to the first reward, and the one that brings it (or, without reward, "
    "those at 0, 1/3 and 2/3)."
)


def representative_run(results: Results, variant: str) -> str | None:
    """Among the runs with a gallery, the one whose score is the (lower) median: neither the best nor the worst seed."""
    runs = results.select(results.runs, EXPERIMENT, ALL_TASKS, variant)
    scores = aggregate(results)
    known = sorted((scores.get(run, -np.inf), run) for run in runs["run"] if run in results.galleries)
    return known[(len(known) - 1) // 2][1] if known else None


def read_gallery(path: Path) -> dict[str, Any]:
    """The gallery's episodes, sorted by return; a file of another shape is an error."""
    gallery = read_json(path)
    try:
        episodes = []
        for episode in gallery["episodes"]:
            for step in episode["steps"]:
                _observation(step["observation"])
                for state in step["retrieved"]:
                    _observation(state["observation"])
                    float(state["weight"]), str(state["task"]), float(state["return"]), bool(state["rewarded"])
                int(step["action"]), float(step["reward"])
            _observation(episode["final_observation"])
            if episode["steps"]:
                episodes.append(episode)
        episodes.sort(key=lambda e: (float(e["return"]), str(e["task"])))
        return {"rule": str(gallery.get("rule", "")), "episodes": episodes}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RarlError(f"{path.name}: not a gallery ({type(error).__name__}: {error})") from None


def _observation(values: Any) -> np.ndarray:
    observation = np.asarray(values, dtype=np.int8)
    if observation.shape != (11,):
        raise ValueError(f"an observation has 11 numbers, not shape {observation.shape}")
    return observation


def median_episode(episodes: list[dict[str, Any]]) -> dict[str, Any]:
    """The (lower) median by return of episodes sorted by return."""
    return episodes[(len(episodes) - 1) // 2]


def chosen_steps(episode: dict[str, Any]) -> list[int]:
    """Indices of the steps that the strip shows; see STEP_RULE."""
    steps = episode["steps"]
    rewarded = [i for i, step in enumerate(steps) if step["reward"] > 0]
    chosen = (0, rewarded[0] // 2, rewarded[0]) if rewarded else (0, len(steps) // 3, 2 * len(steps) // 3)
    return sorted(set(chosen))


def strip(episode: dict[str, Any]) -> Figure:
    """One row per chosen step: the board, then the boards attended to most, with weight, task, return and reward."""
    rows = chosen_steps(episode)
    figure = figures.new_figure(2.15 * len(rows))
    grid = figure.subplots(len(rows), 1 + SHOWN, squeeze=False)
    for axes_row, i in zip(grid, rows, strict=True):
        step = episode["steps"][i]
        action = ACTIONS[step["action"]] if 0 <= step["action"] < len(ACTIONS) else str(step["action"])
        _board(axes_row[0], step["observation"], f"step {i}", f"does: {action}\nreward {step['reward']:g}", INK)
        for axes, state in zip(axes_row[1:], step["retrieved"], strict=False):
            lines = f"{str(state['task']).replace('-', ' ')}\nreturn {state['return']:g}"
            lines += "\nrewarded" if state["rewarded"] else "\nnot rewarded"
            edge = REWARD if state["rewarded"] else FAINT
            _board(axes, state["observation"], f"weight {state['weight']:.2f}", lines, edge)
        for axes in axes_row[1 + len(step["retrieved"]) :]:
            axes.set_axis_off()
    return figure


def _board(axes: Axes, observation: Any, title: str, text: str, edge: str) -> None:
    axes.imshow(board_image(_observation(observation), cell=24), interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set(visible=True, color=edge, linewidth=2.6 if edge == REWARD else 1.0)
    axes.set_title(title, fontsize=8.5, weight="bold", pad=3)
    axes.set_xlabel(text, fontsize=8, labelpad=3)


def episode_gif(episode: dict[str, Any]) -> bytes:
    """The episode as an animated GIF: the board on the left, the states attended to most on the right."""
    font, small = ImageFont.load_default(size=14), ImageFont.load_default(size=12)
    frames, total = [], 0.0
    for i, step in enumerate(episode["steps"]):
        action = ACTIONS[step["action"]] if 0 <= step["action"] < len(ACTIONS) else str(step["action"])
        head = f"step {i}   return so far {total:g}   does: {action}"
        frames.append(_frame(step["observation"], step["retrieved"], head, str(episode["task"]), font, small))
        total += float(step["reward"])
    frames.append(
        _frame(episode["final_observation"], [], f"end   return {total:g}", str(episode["task"]), font, small)
    )
    # One palette for all frames: a palette per frame costs bytes and flickers.
    palette = _palette(frames)
    indexed = [_indexed(frame, palette) for frame in frames]
    times = [MILLISECONDS] * (len(indexed) - 1) + [4 * MILLISECONDS]
    buffer = io.BytesIO()
    indexed[0].save(
        buffer, format="GIF", save_all=True, append_images=indexed[1:], duration=times, loop=0, optimize=False
    )
    return buffer.getvalue()


def _palette(frames: list[Image.Image], colours: int = 64, sampled: int = 8) -> np.ndarray:
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


def _frame(observation: Any, retrieved: list[dict], head: str, task: str, font: Any, small: Any) -> Image.Image:
    board = Image.fromarray(board_image(_observation(observation), cell=32))
    tile = 10
    image = Image.new("RGB", (board.width + 240, board.height + 68), "white")
    draw = ImageDraw.Draw(image)
    draw.text((8, 5), task.replace("-", " "), fill=INK, font=font)
    draw.text((8, 25), head, fill=INK, font=small)
    draw.rectangle((7, 45, 8 + board.width, 46 + board.height), outline=FAINT)
    image.paste(board, (8, 46))
    x, y = board.width + 20, 46
    for state in retrieved[:SHOWN_GIF]:
        picture = Image.fromarray(board_image(_observation(state["observation"]), cell=tile))
        edge = REWARD if state["rewarded"] else FAINT
        draw.rectangle(
            (x - 3, y - 3, x + picture.width + 2, y + picture.height + 2),
            outline=edge,
            width=3 if edge == REWARD else 1,
        )
        image.paste(picture, (x, y))
        lines = (
            f"weight {state['weight']:.2f}",
            str(state["task"]).replace("-", " "),
            f"return {state['return']:g}",
            "rewarded" if state["rewarded"] else "not rewarded",
        )
        for k, line in enumerate(lines):
            draw.text((x + picture.width + 9, y + 4 + 17 * k), line, fill=INK, font=small)
        y += picture.height + 9
    return image
