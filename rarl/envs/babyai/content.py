"""What trajectories of BabyAI may hold."""

from __future__ import annotations

from rarl.envs.babyai.missions import MISSION_LENGTH, VOCABULARY
from rarl.envs.babyai.vector import ACTIONS, OBSERVATION_SIZE
from rarl.envs.babyai.view import CELLS, CODES
from rarl.envs.content import EPSILON, NOISE, Content, Values

CONTENT = Content(
    # The codes of the cells in view, then the direction.
    observations=Values("uint8", (OBSERVATION_SIZE,), low=(0,) * OBSERVATION_SIZE, high=(CODES - 1,) * CELLS + (3,)),
    actions=Values("uint8", low=0, high=len(ACTIONS) - 1),
    rewards=Values("float32", low=0, high=1),
    ends="per-episode",
    extras={
        "mission": Values("uint8", (MISSION_LENGTH,), low=0, high=len(VOCABULARY) - 1),
        "terminated": Values("bool"),
        "seed": Values("int64", low=0, high=2**63 - 1),
        "noise": NOISE,
        "epsilon": EPSILON,
    },
    required=("mission", "terminated"),
    words={"mission": "rarl.envs.babyai.missions:words"},
)
