"""Gridroboman, as the rest of the project knows it."""

from __future__ import annotations

from rarl.envs.gridroboman.tasks import ACTIONS, EPISODE_STEPS, TASK_SETS, TASKS
from rarl.envs.spec import EnvSpec

SPEC = EnvSpec(
    name="gridroboman",
    tasks=tuple(task.name for task in TASKS),
    task_sets={size: tuple(task.name for task in tasks) for size, tasks in TASK_SETS.items()},
    sources={
        "planner": "rarl.envs.gridroboman.datasets:generate_planner",
        "dqn": "rarl.collect.online_dqn:generate_dqn",
    },
    learners={
        "value": "rarl.learners.offline:OfflineLearner",
        "episodic": "rarl.learners.episodic:EpisodicLearner",
    },
    encoders={
        "relational": "rarl.envs.gridroboman.encoders:RelationalEncoder",
        "mlp": "rarl.envs.gridroboman.encoders:MLPEncoder",
    },
    tokens="rarl.envs.gridroboman.tokens:READING",
    make_vector="rarl.envs.gridroboman.vector:make_vector",
    n_actions=len(ACTIONS),
    return_range=(0.0, float(EPISODE_STEPS)),
    content="rarl.envs.gridroboman.content:CONTENT",
    probes={
        "plain": "rarl.probes.board_probe:BoardProbe",
        "pool": "rarl.probes.relevance_probe:RelevanceProbe",
    },
    gymnasium=(
        {
            "id": "rarl/Gridroboman-v0",
            "entry_point": "rarl.envs.gridroboman.env:Gridroboman",
            "vector_entry_point": "rarl.envs.gridroboman.env:GymVectorGridroboman",
            "max_episode_steps": EPISODE_STEPS,
        },
    ),
)
