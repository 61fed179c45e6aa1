"""BabyAI, as the rest of the project knows it."""

from __future__ import annotations

from rarl.envs.babyai.levels import LEVELS
from rarl.envs.spec import EnvSpec, Score

SPEC = EnvSpec(
    name="babyai",
    tasks=tuple(level.name for level in LEVELS),
    sources={
        "bot": "rarl.envs.babyai.datasets:generate_bot",
        "rdqn": "rarl.collect.online_rdqn:generate_rdqn",
    },
    learners={"value": "rarl.learners.sequences:SequenceLearner"},
    encoders={"babyai": "rarl.envs.babyai.encoders:BabyAIEncoder"},
    encoder_options=("channels", "blocks", "d_mission"),
    tokens="rarl.envs.babyai.tokens:READING",
    content="rarl.envs.babyai.content:CONTENT",
    probes={"plain": "rarl.probes.level_probe:LevelProbe"},
    acting="rarl.benchmarks.acting:with_missions",
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
)
