"""Recorded BabyAI episodes as pictures: replayed from level, seed and actions, which must give the same episode."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rarl.envs.babyai.levels import level_named
from rarl.envs.babyai.missions import words
from rarl.envs.babyai.vector import ACTIONS, VectorBabyAI
from rarl.envs.babyai.view import AGENT_CELL, CODES, VIEW, decode
from rarl.envs.pictures import Pictures
from rarl.errors import RarlError

_UP = 3  # the agent's direction in its own view


def states(episode: Mapping[str, Any], pixels: int) -> list[np.ndarray]:
    """The board before every recorded step and after the last, as minigrid draws it.

    Raises:
      RarlError: the replay has another mission, other rewards or another end, so it would show another episode.
    """
    env = VectorBabyAI([level_named(episode["task"])])
    env.reset(np.array([int(episode["seed"])]))
    what = f"the episode of {episode['task']} with seed {episode['seed']} does not replay"
    mission = words(env.missions[0])
    if mission != episode.get("mission", mission):  # where it is hidden, the level has no other
        raise RarlError(f"{what}: the mission is {mission!r}, not {episode['mission']!r}")
    board = env.envs[0]
    tile = max(8, pixels // max(board.width, board.height))
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


def retrieved(state: Mapping[str, Any], pixels: int) -> np.ndarray:
    """What the agent of a retrieved step saw, as minigrid draws it: (49,) codes, the agent looking up."""
    from minigrid.core.grid import Grid  # takes half a second to import

    view = np.asarray(state["view"], dtype=np.int64)
    if view.shape != (VIEW * VIEW,) or view.min() < 0 or view.max() >= CODES:
        raise ValueError(f"a view has {VIEW * VIEW} codes below {CODES}")
    grid, seen = Grid.decode(decode(view))
    return grid.render(pixels // VIEW, divmod(AGENT_CELL, VIEW), _UP, highlight_mask=seen)


PICTURES = Pictures(states, retrieved, ACTIONS, about="mission")
OF_MISSIONS = Pictures(states, retrieved, ACTIONS)
