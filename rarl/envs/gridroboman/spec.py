"""Gridroboman, as the rest of the project knows it."""

from __future__ import annotations

from rarl.collect.arguments import NOISE_PERCENTAGES
from rarl.envs.common import AGENT
from rarl.envs.gridroboman.tasks import ACTIONS, EPISODE_STEPS, FAMILIES, TASK_SETS, TASKS
from rarl.envs.spec import EnvSpec, Score, Source

SPEC = EnvSpec(
    name="gridroboman",
    tasks=tuple(task.name for task in TASKS),
    make_vector="rarl.envs.gridroboman.vector:make_vector",
    n_actions=len(ACTIONS),
    task_sets={size: tuple(task.name for task in tasks) for size, tasks in TASK_SETS.items()},
    sources={
        "planner": Source(
            "rarl.envs.gridroboman.datasets:generate_planner",
            options={"noise_percent": NOISE_PERCENTAGES},
            arrays=("noise",),
            check="rarl.collect.arguments:check_noise",
        ),
        # The paper's (appendix A.4.2), which does not print the settings of this agent: all the way from random play.
        "dqn": Source(
            AGENT,
            unit="environment_steps",
            options={
                "random_share": 0.3,
                "settings": {
                    "agent": {"d_s": 256},
                    "learning": {"batch_sequences": 256, "learning_rate": 3e-4, "target_period_updates": 500},
                    "online": {
                        "actors": 32,
                        "steps_per_update": 1,
                        "capacity_sequences": 250_000,
                        "start_sequences": 5_000,
                        "epsilon_base": 0.02,
                        "epsilon_alpha": 0.0,
                    },
                },
            },
            arrays=("terminated",),
        ),
    },
    expert="rarl.envs.gridroboman.datasets:expert_return",
    encoders={
        "relational": "rarl.envs.gridroboman.encoders:RelationalEncoder",
        "mlp": "rarl.envs.gridroboman.encoders:MLPEncoder",
    },
    content="rarl.envs.gridroboman.content:CONTENT",
    return_range=(0.0, float(EPISODE_STEPS)),
    tokens="rarl.envs.gridroboman.tokens:READING",
    probing="rarl.envs.gridroboman.probe:PROBING",
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
    long_episode=EPISODE_STEPS,
    library="rarl.envs.gridroboman.env:singles",
    gymnasium=(
        {
            "id": "rarl/Gridroboman-v0",
            "entry_point": "rarl.envs.gridroboman.env:Gridroboman",
            "vector_entry_point": "rarl.envs.gridroboman.env:GymVectorGridroboman",
            "max_episode_steps": EPISODE_STEPS,
        },
    ),
)
