"""An environment that the project does not know, as a user would bring it, for tests only."""

from __future__ import annotations

import gymnasium as gym
import numpy as np

from rarl.envs.pictures import Pictures
from rarl.envs.spec import EnvSpec, Score


def boards(episode, pixels):
    return [np.full((pixels, pixels, 3), 10 * step["t"], dtype=np.uint8) for step in episode["steps"]]


def retrieved(state, pixels):
    return np.full((pixels, pixels, 3), state["shade"], dtype=np.uint8)


SPEC = EnvSpec(
    name="made-up",
    title="Made Up",
    tasks=("fly high", "fly low", "land"),
    make="gymnasium:make",  # nobody plays here
    observation=gym.spaces.Discrete(2),
    n_actions=2,
    task_noun="flight",
    task_groups={"air": ("fly high", "fly low"), "ground": ("land",)},
    score=Score(column="success_rate", label="landed, %", unit="points", margin=4, digits=1, factor=100, ends=(0, 100)),
    picture="tests.reporting.made_up:PICTURES",
)  # fmt: skip
PICTURES = Pictures(boards, retrieved, ("wait", "pull"))
EXPERIMENT = {
    "environment": "gridroboman",  # in the place of it, see `patch`
    "title": "Made up",
    "base_variant": "plain",
    "full_variant": "with-retrieval",
    "sweeps": {"slots": {"title": "Number of slots", "keys": ["agent.retrieval.n_f"]}},
    "base": {},
    "variants": {
        "plain": {"label": "Plain"},
        "with-retrieval": {"label": "Retrieving", "change": "Retrieval at all",
                           "settings": {"agent": {"retrieval": {"process": "slots"}}}},
        "no-slots": {"label": "without slots", "group": "ablations", "change": "No slots",
                     "settings": {"agent": {"retrieval": {"process": "direct"}}}},
        "slots-4": {"sweep": "slots", "settings": {"agent": {"retrieval": {"process": "slots", "n_f": 4}}}},
    },
}  # fmt: skip
LEVELS = {"plain": 0.30, "with-retrieval": 0.60, "no-slots": 0.40, "slots-4": 0.62}


def gallery():
    steps = [{"t": t, "action": t % 2, "reward": float(t == 3), "retrieved": [
        {"weight": 0.5, "task": "land", "step": t, "shade": 200, "rewarded": True}]} for t in range(5)]  # fmt: skip
    return {"rule": "All of them", "episodes": [{"task": "fly high", "return": 1.0, "success": True, "steps": steps}]}
