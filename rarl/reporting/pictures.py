"""One step of a recorded episode as a picture: the state, and what was retrieved for it.

Which episode and which step is shown follows a rule; nothing is picked by eye.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from rarl.envs.common import PICTURES
from rarl.envs.pictures import Pictures, chosen_steps
from rarl.envs.spec import EnvSpec, load
from rarl.errors import RarlError
from rarl.files import read_json
from rarl.reporting import figures, tables
from rarl.reporting.figures import INK, PALETTE

SHOWN = 3  # retrieved states
PIXELS = 128  # of a state, about; cells have whole numbers of pixels
# Of an episode, and of a step of it.
RULE = "Seed of median score, episode of median return"


def read_gallery(path: Path) -> list[dict[str, Any]]:
    """The gallery's episodes that have steps, sorted by return; a file of another shape is an error."""
    gallery = read_json(path)
    try:
        episodes = [episode for episode in gallery["episodes"] if list(episode["steps"])]
        return sorted(episodes, key=lambda e: (_finite(e["return"]), str(e["task"])))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise RarlError(f"{path.name}: not a gallery ({type(error).__name__}: {error})") from None


def _finite(value: Any) -> float:
    if not math.isfinite(float(value)):
        raise ValueError(f"{value} is no number")
    return float(value)


def pictures_of(spec: EnvSpec) -> Pictures:
    """An environment's pictures."""
    found: Pictures = load(spec.picture or PICTURES)
    return found


@contextmanager
def naming_the_gallery() -> Iterator[None]:
    """Whatever comes up in an environment's code where something is odd is an error of the gallery."""
    try:
        yield
    except Exception as error:
        what = "" if isinstance(error, RarlError) else f"not a gallery, {type(error).__name__}: "
        raise RarlError(f"gallery.json: {what}{error}") from None


def step_rule(episode: Mapping[str, Any]) -> str:
    """Which step of an episode is shown, in words: where each is rewarded, as where none is, one by time alone."""
    first = next((i for i, step in enumerate(episode["steps"]) if step["reward"] > 0), 0)
    return f"step {'half-way to its first reward' if first else 'a third in'}: state, retrieved states"


def draw_step(spec: EnvSpec, episode: Mapping[str, Any]) -> tuple[Figure, pd.DataFrame] | None:
    """A chosen step of a recorded episode and what it shows as numbers; None where nothing is retrieved.

    Raises:
      RarlError: the episode lacks something that its pictures show, or holds something odd.
    """
    look = pictures_of(spec)
    with naming_the_gallery():
        steps = episode["steps"]
        by_reward, by_time = (chosen_steps(of)[1:] for of in ([step["reward"] for step in steps], [0.0] * len(steps)))
        chosen = next((i for i in by_reward or by_time if steps[i]["retrieved"]), None)
        if chosen is None:
            return None
        step, retrieved = steps[chosen], steps[chosen]["retrieved"][:SHOWN]
        action = step["action"] if isinstance(step["action"], str | None) else look.actions[int(step["action"])]
        now = {
            "task": episode["task"],
            look.about or "": episode.get(look.about or "", ""),
            "step": step.get("t", chosen),
        }
        text = "; ".join([*said(now, look.about), f"action: {action}"])
        rows = [{"picture": "state", "weight": math.nan, "rewarded": None, "text": text}]
        rows += [{"picture": "retrieved", "weight": _finite(state["weight"]), "rewarded": bool(state["rewarded"]),
                  "text": "; ".join(said(state, look.about))} for state in retrieved]  # fmt: skip
        images = [look.states(episode, PIXELS)[chosen], *(look.retrieved(state, PIXELS) for state in retrieved)]
        frame = pd.DataFrame(rows)
        return _strip(frame, images), frame


def said(state: Mapping[str, Any], about: str | None) -> list[str]:
    """What was recorded of a state: task, what it is about, episode, step, return, reward."""
    forms = {"task": tables.spaced, about or "": "“{}”".format, "episode": "episode {:,}".format,
             "step": "step {:,}".format, "return": "return {:.3g}".format, "reward": "reward {:+g}".format}  # fmt: skip
    return [form(state[name]) for name, form in forms.items() if state.get(name) not in ("", None)]


def _strip(frame: pd.DataFrame, images: Sequence[Any]) -> Figure:
    texts = ["\n".join(textwrap.fill(line, 13) for line in text.split("; ")) for text in frame["text"]]
    figure = figures.new_figure(1.5 + 0.15 * max(text.count("\n") + 1 for text in texts))
    for i, axes in enumerate(figure.subplots(1, 1 + SHOWN, squeeze=False)[0]):
        axes.set_axis_off()
        if i < len(images):
            axes.set_axis_on()
            axes.set(xticks=[], yticks=[])
            axes.grid(visible=False)
            axes.imshow(images[i], interpolation="nearest")
            rewarded = bool(frame["rewarded"][i])
            axes.spines[:].set(visible=True, color=PALETTE[2] if rewarded else INK, linewidth=2.6 if rewarded else 1.0)
            axes.set_title(f"weight {frame['weight'][i]:.2f}" if i else "state", fontsize=9, weight="bold", pad=3)
            axes.set_xlabel(texts[i], fontsize=9, labelpad=3)
    return figure


def median_episode(episodes: list[dict[str, Any]]) -> dict[str, Any]:
    """The (lower) median by return of episodes sorted by return."""
    return episodes[(len(episodes) - 1) // 2]
