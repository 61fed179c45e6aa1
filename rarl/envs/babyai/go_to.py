"""A control: BabyAI's GoToLocal with each mission as a task of its own, so that the mission can be hidden.

Where it is, only what is retrieved, episodes of the same mission, tells which of the things in the room is meant.
"""

from __future__ import annotations

from dataclasses import replace

from rarl.envs.babyai.levels import MISSIONS
from rarl.envs.babyai.spec import SPEC as BABYAI

SPEC = replace(
    BABYAI,
    name="babyai-go-to",
    title="BabyAI, mission hidden",
    tasks=tuple(level.name for level in MISSIONS),
    make_vector="rarl.envs.babyai.vector:make_untold",
    context=None,
    sources={"bot": BABYAI.sources["bot"]},
    encoders={"go-to": "rarl.envs.babyai.encoders:GoToEncoder"},
    encoder_options={"go-to": BABYAI.encoder_options["babyai"]},
    task_noun="mission",
    task_groups={},
    probing="rarl.envs.babyai.probe:OF_MISSIONS",
    picture="rarl.envs.babyai.pictures:OF_MISSIONS",
    library=None,
)
