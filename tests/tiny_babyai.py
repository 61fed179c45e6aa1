"""A project of the smallest sizes on BabyAI: three levels, a few episodes."""

from __future__ import annotations

from typing import Any

from tests.tiny import RETRIEVAL, SMALLEST, Tiny, variants

LEVELS = ["GoToRedBallGrey", "PutNextLocal", "PickupLoc"]
TASK_SET = "3-levels-12-episodes"
SCALE: dict[str, Any] = SMALLEST | {
    "datasets": {
        "babyai": [
            {"source": "bot", "tasks": LEVELS, "episodes": 16, "seed": 0, "options": {"noise_percent": [0, 30]}}
        ],
    },
    "experiments": {
        "babyai": {
            "settings": {
                "updates": 6,
                "log_every": 3,
                "tensorboard": False,
                "evaluation": {"every_updates": 3, "episodes_per_task": 2},
            },
            "task_sets": {
                TASK_SET: {
                    "tasks": LEVELS,
                    "variants": ["rdqn", "own", "all", "open", "nothing"],
                    "probes": ["rdqn", "own", "all"],
                    "settings": {"episodes": 12},
                }
            },
        }
    },
}
EXPERIMENT: dict[str, Any] = {
    "environment": "babyai",
    "title": "BabyAI, tiny",
    "base": {
        "source": "bot",
        "updates": 100,
        "agent": {
            "task": "hidden",
            "core": "gru",
            "encoder": "babyai",
            "d_s": 12,
            "encoder_options": {"channels": 4, "blocks": 1, "d_mission": 8},
            "retrieval": RETRIEVAL | {"step_stride": 3},
        },
        "learning": {
            "batch_sequences": 9,
            "sequence_steps": 6,
            "burn_in": 2,
            "n_step": 3,
            "learning_rate": 0.003,
            "discount": 0.95,
            "target_period_updates": 5,
        },
        "evaluation": {"every_updates": 50, "epsilon": 0.05},
    },
    "variants": variants(
        rdqn={},
        own={"agent": {"retrieval": {"process": "slots"}}},
        all={"agent": {"retrieval": {"process": "slots", "source": "all"}}},
        open={"agent": {"retrieval": {"process": "slots", "source": "all", "bottleneck": 0.0}}},
        nothing={"agent": {"retrieval": {"process": "slots", "source": "none"}}},
    ),
}

_TINY = Tiny(SCALE, EXPERIMENT, TASK_SET)
write_config, make_datasets = _TINY.write_config, _TINY.make_datasets
run_of, learner_of, datasets_of = _TINY.run_of, _TINY.learner_of, _TINY.datasets_of
