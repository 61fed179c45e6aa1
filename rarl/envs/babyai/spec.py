"""BabyAI, as the rest of the project knows it."""

from __future__ import annotations

from rarl.envs.babyai.levels import LEVELS
from rarl.envs.spec import EnvSpec, Source

SPEC = EnvSpec(
    name="babyai",
    tasks=tuple(level.name for level in LEVELS),
    make_vector="rarl.envs.babyai.vector:make_vector",
    n_actions=7,
    context="mission",
    sources={
        "bot": Source(
            "rarl.envs.babyai.datasets:generate_bot",
            options={"noise_percent": (0, 10, 25, 50, 100)},
            arrays=("mission", "terminated", "noise", "seed"),
            check="rarl.collect.arguments:check_noise",
        ),
        "rdqn": Source(
            "rarl.collect.online_rdqn:generate_rdqn",
            unit="environment_steps",
            arrays=("mission", "terminated", "epsilon", "seed"),
        ),
    },
    encoders={"babyai": "rarl.envs.babyai.encoders:BabyAIEncoder"},
    encoder_options={"babyai": "rarl.envs.babyai.options:EncoderOptions"},
    content="rarl.envs.babyai.content:CONTENT",
    tokens="rarl.envs.babyai.tokens:READING",
    probes={"plain": "rarl.probes.level_probe:LevelProbe"},
    measure="success_rate",
    long_episode=64,  # their lengths differ
    memory="rarl.envs.babyai.options:MEMORY",
)
