"""A recorded episode to scrub through: the state, what was retrieved with its weight and Q of each action, by step.

A player is data, and one picture that holds all its pictures (a sprite sheet, lossless WebP).
`rarl.reporting.interactive` saves it and puts it in the place of a picture of a page.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from rarl.envs.spec import EnvSpec
from rarl.reporting import tables
from rarl.reporting.pictures import naming_the_gallery, pictures_of, said

SHOWN = 4  # retrieved states per step
STATE_PIXELS, RETRIEVED_PIXELS = 252, 126
ACROSS = 8  # pictures of states side by side
ALIKE = 0.005  # weights that differ less are the same


class Player(NamedTuple):
    """sheet: the WebP. data: JSON for assets/player.js."""

    sheet: bytes
    data: dict[str, Any]


@naming_the_gallery()
def player(spec: EnvSpec, episode: Mapping[str, Any], agent: str) -> Player:
    """The player of an episode of a gallery, by an agent of this name.

    A step that does not say what was retrieved shows what was retrieved before it.

    Raises:
      RarlError: the episode lacks something that its pictures show, or holds something odd.
    """
    sheet, look = _Sheet(), pictures_of(spec)
    boxes = [sheet.add(state) for state in look.states(episode, STATE_PIXELS)]
    described: dict[Any, int] = {}  # candidate -> its place in `retrieved`
    retrieved: list[dict[str, Any]] = []
    steps: list[dict[str, Any]] = []
    total = 0.0 if not episode["steps"][0].get("t") else None  # so far; not known where the beginning is not shown
    shown: list[tuple[int, float]] = []
    names = list(episode.get("actions", look.actions))
    for i, step in enumerate(episode["steps"]):
        for state in step["retrieved"]:
            key = _key(state)
            if key not in described:
                described[key] = len(retrieved)
                box = sheet.add(look.retrieved(state, RETRIEVED_PIXELS))
                retrieved.append(
                    {"box": box, "text": ", ".join(said(state, look.about)), "rewarded": bool(state["rewarded"])}
                )
        weights = step.get("attended") or [(_key(state), state["weight"]) for state in step["retrieved"]]
        shown = [(described[key], float(weight)) for key, weight in weights[:SHOWN]] or shown
        action, reward = step["action"], float(step["reward"])
        name = "not recorded" if action is None else action if isinstance(action, str) else names[int(action)]
        steps.append({"t": int(step.get("t", i)), "box": boxes[i], "action": name, "reward": reward, "total": total,
                      "q": step.get("q"), "retrieved": shown})  # fmt: skip
        total = None if total is None else total + reward
    if len(boxes) > len(steps):
        steps.append({"t": steps[-1]["t"] + 1, "box": boxes[-1], "total": total, "retrieved": []})
    values = [value for step in steps for value in step.get("q") or ()]
    ends = [] if "success" not in episode else ["success" if episode["success"] else "no success"]
    title = [agent, tables.spaced(episode["task"]), *ends, f"return {float(episode['return']):.4g}"]
    data = {
        "title": ", ".join(title), "about": str(episode.get(look.about or "", "")), "note": _note(steps),
        "milliseconds": look.milliseconds, "actions": names if values else [],
        "q": [min(values), max(values)] if values else None, "size": sheet.size, "boxes": sheet.boxes,
        "retrieved": retrieved, "steps": steps,
    }  # fmt: skip
    json.dumps(data, allow_nan=False)  # what is no number is an error here
    return Player(sheet.webp(), data)


def _key(state: Mapping[str, Any]) -> Any:
    """What tells a retrieved state from others."""
    return state.get("candidate", json.dumps({k: v for k, v in state.items() if k != "weight"}, sort_keys=True))


def _note(steps: Sequence[Mapping[str, Any]]) -> str:
    """Whether what is retrieved changes."""
    weights = [dict(step["retrieved"]) for step in steps if step["retrieved"]]
    if len(weights) < 2:
        return "" if weights else "Nothing is retrieved."
    states = set().union(*weights)
    if len(states) > len(weights[0]):
        return f"{len(states)} different states are among the {len(weights[0])} of most weight."
    spread = max(np.ptp([w.get(k, 0.0) for w in weights]) for k in states)
    return "The same states at every step" + ("." if spread < ALIKE else "; only their weights change.")


class _Sheet:
    """Pictures of any sizes in rows; equal ones once. boxes: [x, y, width, height] of each."""

    def __init__(self) -> None:
        self.boxes: list[list[int]] = []
        self._pictures: list[np.ndarray] = []
        self._known: dict[tuple[Any, bytes], int] = {}
        self._x = self._y = self._row = self._width = 0

    def add(self, picture: np.ndarray) -> int:
        """The number of a picture (height, width, 3) uint8."""
        key = picture.shape, picture.tobytes()
        if key not in self._known:
            height, width = picture.shape[:2]
            self._width = self._width or ACROSS * width
            if self._x + width > self._width:
                self._x, self._y, self._row = 0, self._y + self._row, 0
            self._known[key] = len(self.boxes)
            self.boxes.append([self._x, self._y, width, height])
            self._pictures.append(picture)
            self._x, self._row = self._x + width, max(self._row, height)
        return self._known[key]

    @property
    def size(self) -> list[int]:
        """[width, height]."""
        return [max(x + width for x, _, width, _ in self.boxes), self._y + self._row]

    def webp(self) -> bytes:
        """All of them, lossless."""
        width, height = self.size
        whole = np.full((height, width, 3), 255, np.uint8)
        for (x, y, w, h), picture in zip(self.boxes, self._pictures, strict=True):
            whole[y : y + h, x : x + w] = picture
        buffer = io.BytesIO()
        Image.fromarray(whole).save(buffer, format="WEBP", lossless=True, method=6)
        return buffer.getvalue()
