"""What the agent retrieves while it acts, as pictures: a strip of chosen steps, and whole episodes as GIF."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from rarl.envs.gridroboman.render import board_image
from rarl.envs.gridroboman.tasks import ACTIONS
from rarl.reporting import pictures, tables
from rarl.reporting.pictures import Tile, chosen_steps
from rarl.reporting.results import Results
from rarl.reporting.scores import median_run
from rarl.reporting.sections.gridroboman_measures import ALL_TASKS, EXPERIMENT, aggregate


def representative_run(results: Results, variant: str) -> str | None:
    """The run whose gallery is shown, see `median_run`."""
    return median_run(results, EXPERIMENT, ALL_TASKS, variant, aggregate(results))


def read_gallery(path: Path) -> dict[str, Any]:
    """The gallery's episodes, sorted by return; a file of another shape is an error."""
    return pictures.read_gallery(path, _check)


def _check(episode: dict[str, Any]) -> None:
    for step in episode["steps"]:
        _observation(step["observation"])
        for state in step["retrieved"]:
            _observation(state["observation"])
            float(state["weight"]), str(state["task"]), float(state["return"]), bool(state["rewarded"])
        int(step["action"]), float(step["reward"])
    _observation(episode["final_observation"])


def _observation(values: Any) -> np.ndarray:
    observation = np.asarray(values, dtype=np.int8)
    if observation.shape != (11,):
        raise ValueError(f"an observation has 11 numbers, not shape {observation.shape}")
    return observation


def strip(episode: dict[str, Any]) -> Figure:
    """One row per chosen step: the board, then the boards attended to most, with weight, task, return and reward."""
    rows = []
    for i in chosen_steps(episode):
        step = episode["steps"][i]
        does = [f"does: {_action(step)}", f"reward {step['reward']:g}"]
        board = board_image(_observation(step["observation"]), cell=24)
        rows.append([Tile(board, f"step {i}", does), *_tiles(step["retrieved"], cell=24)])
    return pictures.strip(rows, 2.15)


def episode_gif(episode: dict[str, Any]) -> bytes:
    """The episode as an animated GIF: the board on the left, the states attended to most on the right."""
    frames, total = [], 0.0
    for i, step in enumerate(episode["steps"]):
        head = f"step {i}   return so far {total:g}   does: {_action(step)}"
        frames.append(_frame(episode, step["observation"], step["retrieved"], head))
        total += float(step["reward"])
    frames.append(_frame(episode, episode["final_observation"], [], f"end   return {total:g}"))
    return pictures.animation(frames)


def _frame(episode: dict[str, Any], observation: Any, retrieved: list[dict], head: str) -> Image.Image:
    board = board_image(_observation(observation), cell=32)
    return pictures.frame(board, tables.spaced(episode["task"]), [head], _tiles(retrieved, cell=10))


def _tiles(retrieved: list[dict], cell: int) -> list[Tile]:
    return [
        Tile(
            board_image(_observation(state["observation"]), cell=cell),
            f"weight {state['weight']:.2f}",
            [
                tables.spaced(state["task"]),
                f"return {state['return']:g}",
                "rewarded" if state["rewarded"] else "not rewarded",
            ],
            bool(state["rewarded"]),
        )
        for state in retrieved[: pictures.SHOWN]
    ]


def _action(step: dict[str, Any]) -> str:
    return ACTIONS[step["action"]] if 0 <= step["action"] < len(ACTIONS) else str(step["action"])
