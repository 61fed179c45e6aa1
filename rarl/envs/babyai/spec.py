"""BabyAI, as the rest of the project knows it."""

from __future__ import annotations

from rarl.collect.arguments import NOISE_PERCENTAGES
from rarl.envs.babyai.levels import LEVELS
from rarl.envs.common import AGENT
from rarl.envs.spec import EnvSpec, Score, Source

SPEC = EnvSpec(
    name="babyai",
    tasks=tuple(level.name for level in LEVELS),
    make_vector="rarl.envs.babyai.vector:make_vector",
    n_actions=7,
    context="mission",
    sources={
        "bot": Source(
            "rarl.envs.babyai.datasets:generate_bot",
            options={"noise_percent": NOISE_PERCENTAGES},
            arrays=("mission", "terminated", "noise", "seed"),
            check="rarl.collect.arguments:check_noise",
        ),
        "rdqn": Source(
            AGENT,
            unit="environment_steps",
            options={
                "random_share": 0.5,
                "settings": {
                    "agent": {
                        "core": "gru",
                        "d_s": 64,
                        "encoder_options": {"channels": 16, "blocks": 1, "d_mission": 16},
                    },
                    "learning": {
                        "batch_sequences": 32,
                        "sequence_steps": 16,
                        "learning_rate": 5e-4,
                        "discount": 0.9,
                        "n_step": 5,
                    },
                    "online": {
                        "actors": 16,
                        "steps_per_update": 2,
                        "period_steps": 16,
                        "capacity_sequences": 6_250,
                        "start_sequences": 125,
                        "epsilon_base": 0.05,
                        "epsilon_alpha": 0.0,
                    },
                },
            },
            arrays=("mission", "terminated"),
        ),
    },
    expert="rarl.envs.babyai.datasets:expert_return",
    encoders={"babyai": "rarl.envs.babyai.encoders:BabyAIEncoder"},
    encoder_options={"babyai": "rarl.envs.babyai.options:BabyAIEncoderOptions"},
    content="rarl.envs.babyai.content:CONTENT",
    tokens="rarl.envs.babyai.tokens:READING",
    probing="rarl.envs.babyai.probe:PROBING",
    title="BabyAI",
    score=Score(
        column="success_rate",
        label="success, %",
        unit="percentage points",
        margin=5,
        digits=1,
        factor=100,
        ends=(0.0, 100.0),
        suffix="points",
        meaning="Success is the share of evaluation episodes whose mission is accomplished before time runs out, in "
        "percent, averaged over levels. It is not divided by an expert's.",
    ),
    task_noun="level",
    task_groups={
        "single": tuple(level.name for level in LEVELS if not level.compositional),
        "compositional": tuple(level.name for level in LEVELS if level.compositional),
    },
    picture="rarl.envs.babyai.pictures:PICTURES",
    long_episode=64,  # their lengths differ
    memory="rarl.envs.babyai.options:MEMORY",
    requires=("minigrid",),
    library="rarl.envs.babyai.generation:library_vector",
)
