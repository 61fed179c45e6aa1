"""MiniGrid's DoorKey, partially observed, connected in one file; its agents are recurrent, its data are an expert's."""

from collections import deque

import gymnasium
import minigrid  # noqa: F401 (registers its environments with gymnasium)
import numpy as np
from minigrid.core.constants import DIR_TO_VEC

from rarl.collect.play import write_episodes
from rarl.envs.spec import EnvSpec, Score, Source

VIEW = gymnasium.spaces.Box(0, 10, (7, 7, 3), np.uint8)  # type, colour and state of each cell in view
LEFT, RIGHT, FORWARD, PICKUP, TOGGLE = 0, 1, 2, 3, 5


def make(task):
    return gymnasium.make(f"MiniGrid-{task}-v0")


def view(observation):
    return observation["image"]  # the direction is seen in it, and all missions are alike


def best_action(env):
    """The first action of a shortest way to the goal, which sees the whole grid."""
    grid = {(i, j): env.grid.get(i, j) for i in range(env.width) for j in range(env.height)}
    kinds = {at: cell.type for at, cell in grid.items() if cell is not None}
    is_open = any(cell is not None and cell.type == "door" and cell.is_open for cell in grid.values())
    start = (*map(int, env.agent_pos), int(env.agent_dir), env.carrying is not None, is_open)
    first, waiting = {start: None}, deque([start])
    while waiting:
        x, y, direction, has_key, unlocked = state = waiting.popleft()
        ahead = tuple(int(i) for i in (x, y) + DIR_TO_VEC[direction])
        kind = kinds.get(ahead)
        moves = {
            LEFT: (x, y, (direction - 1) % 4, has_key, unlocked),
            RIGHT: (x, y, (direction + 1) % 4, has_key, unlocked),
        }
        if kind in (None, "goal") or (kind == "door" and unlocked) or (kind == "key" and has_key):
            moves[FORWARD] = (*ahead, direction, has_key, unlocked)
        if kind == "key" and not has_key:
            moves[PICKUP] = (x, y, direction, True, unlocked)
        if kind == "door" and has_key and not unlocked:
            moves[TOGGLE] = (x, y, direction, has_key, True)
        for action, after in moves.items():
            if after not in first:
                first[after] = action if state == start else first[state]
                waiting.append(after)
                if kinds.get(after[:2]) == "goal":
                    return first[after]
    return FORWARD  # the key was dropped where nobody can reach it


def expert(task, episodes, seed, folder, *, environment, noise_percent, progress=None):
    """Write episodes of an expert whose actions are random ones that often, the percentages taken in turn."""

    def player(envs, rng):
        noise = np.resize(noise_percent, envs.num_envs) / 100

        def act(x):
            actions = rng.integers(len(envs.actions), size=len(x))
            for i in np.flatnonzero(envs.active & (rng.random(len(x)) >= noise)):
                actions[i] = best_action(envs.envs[i].unwrapped)
            return actions

        return act

    options = {"noise_percent": list(noise_percent)}
    write_episodes(task, episodes, seed, folder, player, environment, "expert", options, progress)


SPEC = EnvSpec(
    name="doorkey",
    tasks=["DoorKey-5x5", "DoorKey-6x6", "DoorKey-8x8"],
    make=make,
    prepare=view,
    observation=VIEW,
    n_actions=7,
    sources={"expert": Source(expert, options={"noise_percent": [25, 75]})},
    reward_range=(0.0, 1.0),
    return_range=(0.0, 1.0),
    score=Score(column="success_rate", label="success", unit="of episodes", ends=(0.0, 1.0)),
    long_episode=250,
)
