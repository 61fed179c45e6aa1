"""Gridroboman, as the rest of the project knows it."""

from __future__ import annotations

from rarl.envs.gridroboman.tasks import EPISODE_STEPS, FAMILIES, TASK_SETS, TASKS
from rarl.envs.spec import EnvSpec, Score

SPEC = EnvSpec(
    name="gridroboman",
    tasks=tuple(task.name for task in TASKS),
    task_sets={size: tuple(task.name for task in tasks) for size, tasks in TASK_SETS.items()},
    sources={
        "planner": "rarl.envs.gridroboman.datasets:generate_planner",
        "dqn": "rarl.collect.online_dqn:generate_dqn",
    },
    learners={
        "value": "rarl.learners.transitions:TransitionLearner",
        "episodic": "rarl.learners.episodic_boards:BoardEpisodicLearner",
    },
    encoders={
        "relational": "rarl.envs.gridroboman.encoders:RelationalEncoder",
        "mlp": "rarl.envs.gridroboman.encoders:MLPEncoder",
    },
    tokens="rarl.envs.gridroboman.tokens:READING",
    content="rarl.envs.gridroboman.content:CONTENT",
    probes={
        "plain": "rarl.probes.board_probe:BoardProbe",
        "pool": "rarl.probes.relevance_probe:RelevanceProbe",
    },
    acting="rarl.benchmarks.acting:on_states",
    title="Gridroboman",
    score=Score(
        label="share of the expert's return",
        unit="of the expert's return",
        margin=0.05,
        normaliser="expert",
        marks={"expert": 1.0},
        ends=(0.0, 1.0),
        meaning="The return is the number of rewarded steps of an episode. It is divided by the mean return of the "
        "scripted expert without noise, task by task, and averaged over tasks.",
    ),
    task_groups={family: tuple(task.name for task in TASKS if task.family == family) for family in FAMILIES},
    picture="rarl.envs.gridroboman.pictures:PICTURES",
    gymnasium=(
        {
            "id": "rarl/Gridroboman-v0",
            "entry_point": "rarl.envs.gridroboman.env:Gridroboman",
            "vector_entry_point": "rarl.envs.gridroboman.env:make_vector",
            "max_episode_steps": EPISODE_STEPS,
        },
    ),
)
