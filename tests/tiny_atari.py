"""A project of the smallest sizes on Atari: one game, no datasets."""

from __future__ import annotations

from typing import Any

from rarl.mappings import merge
from tests.tiny import EPISODIC, RETRIEVAL, SMALLEST, Tiny, variants

SCALE: dict[str, Any] = SMALLEST | {
    "datasets": {},
    "experiments": {
        "atari": {
            "settings": {
                "updates": 12,
                "log_every": 5,
                "tensorboard": False,
                "evaluation": {"every_updates": 6, "episodes_per_task": 2},
            },
            "task_sets": {
                "pong": {
                    "tasks": ["pong"],
                    "variants": ["r2d2", "ra-r2d2", "dqn", "ra-dqn", "no-retrieval"],
                    "probes": ["r2d2", "ra-r2d2"],
                }
            },
        }
    },
}
EXPERIMENT: dict[str, Any] = {
    "environment": "atari",
    "title": "Atari, tiny",
    "base": {
        "source": "replay",
        "updates": 100,
        "agent": {
            "task": "hidden",
            "core": "gru",
            "encoder": "tiny",
            "d_s": 8,
            "dueling": True,
            "retrieval": RETRIEVAL
            | {"n_traj": 4, "select_by": "attention", "step_stride": 3, "bottleneck": 0.1, "target_reads": "online"},
        },
        "learning": {
            "batch_sequences": 3,
            "sequence_steps": 8,
            "burn_in": 3,
            "learning_rate": 0.003,
            "discount": 0.9,
            "targets": "peng",
            "rescale_epsilon": 0.001,
            "huber_delta": None,
            "double": False,
            "target_period_updates": 4,
        },
        "evaluation": {"every_updates": 50, "epsilon": 0.05},
        "online": {
            "actors": 3,
            "steps_per_update": 7,
            "refresh_updates": 3,
            "overlap": False,
            "capacity_sequences": 60,
            "start_sequences": 6,
            "period_steps": 3,
        },
        "environment_options": {"max_frames": 120},
    },
    "variants": variants(
        r2d2={},
        ra_r2d2={"agent": {"retrieval": {"process": "slots"}}},
        dqn={
            "agent": {"core": "none"},
            "environment_options": {"stack": 4},
            "learning": {"burn_in": 0},
            "online": {"period_steps": 8},
        },
        ra_dqn={
            "agent": {"core": "none", "retrieval": {"process": "slots"}},
            "environment_options": {"stack": 4},
            "learning": {"burn_in": 0},
            "online": {"period_steps": 8},
        },
        **{name: merge({"agent": {"core": "none"}}, changes) for name, changes in EPISODIC.items()},
        no_retrieval={"agent": {"retrieval": {"process": "slots", "source": "none"}}},
    ),
}

_TINY = Tiny(SCALE, EXPERIMENT, "pong")
write_config, make_datasets = _TINY.write_config, _TINY.make_datasets
run_of, learner_of, datasets_of = _TINY.run_of, _TINY.learner_of, _TINY.datasets_of
