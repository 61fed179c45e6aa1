"""MiniGrid's DoorKey, partially observed, connected in one file; its agents are recurrent."""

import gymnasium
import minigrid  # noqa: F401 (registers its environments with gymnasium)
import numpy as np

from rarl.envs.spec import EnvSpec, Score

VIEW = gymnasium.spaces.Box(0, 10, (7, 7, 3), np.uint8)  # type, colour and state of each cell in view


def make(task):
    return gymnasium.make(f"MiniGrid-{task}-v0")


def view(observation):
    return observation["image"]  # the direction is seen in it, and all missions are alike


SPEC = EnvSpec(
    name="doorkey",
    tasks=["DoorKey-5x5", "DoorKey-6x6", "DoorKey-8x8"],
    make=make,
    prepare=view,
    observation=VIEW,
    n_actions=7,
    reward_range=(0.0, 1.0),
    return_range=(0.0, 1.0),
    score=Score(column="success_rate", label="success", unit="of episodes", ends=(0.0, 1.0)),
    long_episode=250,
)
