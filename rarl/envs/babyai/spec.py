"""BabyAI, as the rest of the project knows it."""

from __future__ import annotations

from rarl.envs.babyai.levels import LEVELS
from rarl.envs.spec import EnvSpec

SPEC = EnvSpec(
    name="babyai",
    tasks=tuple(level.name for level in LEVELS),
    sources={
        "bot": "rarl.envs.babyai.datasets:generate_bot",
        "rdqn": "rarl.collect.online_rdqn:generate_rdqn",
    },
    learners={"value": "rarl.learners.offline:OfflineLearner"},
    encoders={"babyai": "rarl.envs.babyai.encoders:BabyAIEncoder"},
    encoder_options=("channels", "blocks", "d_mission"),
    tokens="rarl.envs.babyai.tokens:READING",
    make_vector="rarl.envs.babyai.vector:make_vector",
    n_actions=7,
    context="mission",
    content="rarl.envs.babyai.content:CONTENT",
    probes={"plain": "rarl.probes.level_probe:LevelProbe"},
    measure="success_rate",
)
