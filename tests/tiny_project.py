"""A project of the smallest sizes on Gridroboman: planner datasets of ten tasks."""

from __future__ import annotations

from typing import Any

from tests.tiny import EPISODIC, RETRIEVAL, SMALLEST, Tiny, variants

EPISODES = 16
SCALE: dict[str, Any] = SMALLEST | {
    "datasets": {"gridroboman": [{"source": "planner", "tasks": "all", "episodes": EPISODES, "seed": 0}]},
    "experiments": {
        "gridroboman": {
            "settings": {
                "updates": 12,
                "log_every": 5,
                "tensorboard": False,
                "learning": {"warm_up_updates": 4, "decay_from": 0.5, "decay_to": 0.1},
                "evaluation": {"every_updates": 6, "episodes_per_task": 4},
            },
            "task_sets": {
                10: {
                    "variants": ["dqn", "dqn-told", "ra-dqn", "ra-dqn-told", "oracle", "nothing", "random"],
                    "probes": ["ra-dqn"],
                }
            },
        }
    },
}
EXPERIMENT: dict[str, Any] = {
    "environment": "gridroboman",
    "title": "Gridroboman, tiny",
    "base": {
        "source": "planner",
        "updates": 1000,
        "agent": {
            "task": "hidden",
            "d_s": 16,
            "fusion": "film",
            "retrieval": RETRIEVAL | {"step_stride": 10, "bottleneck": 0.3, "auxiliary": 0.1},
        },
        "learning": {"batch_states": 40, "learning_rate": 0.003, "discount": 0.9, "target_period_updates": 5},
        "evaluation": {"every_updates": 500, "epsilon": 0.05},
    },
    "variants": variants(
        dqn={},
        dqn_told={"agent": {"task": "observed"}},
        ra_dqn={"agent": {"retrieval": {"process": "slots"}}},
        ra_dqn_told={"agent": {"task": "observed", "retrieval": {"process": "slots"}}},
        oracle={"agent": {"retrieval": {"process": "oracle"}}},
        nothing={"agent": {"retrieval": {"process": "slots", "source": "none"}}},
        **EPISODIC,
        random={"agent": {"retrieval": {"process": "slots", "source": "random"}}},
    ),
}

_TINY = Tiny(SCALE, EXPERIMENT, 10)
write_config, make_datasets = _TINY.write_config, _TINY.make_datasets
run_of, learner_of, datasets_of = _TINY.run_of, _TINY.learner_of, _TINY.datasets_of
