"""A project of the smallest sizes on BabyAI: two levels, a few episodes, learners on them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tiny_project
import yaml

from rarl.config import Run, Scale, merge
from rarl.trajectories.make import make_dataset
from rarl.trajectories.store import TrajectoryDataset

LEVELS = ["GoToRedBallGrey", "PutNextLocal", "PickupLoc"]
TASK_SET = "3-levels-12-episodes"
SCALE: dict[str, Any] = {
    "description": "The smallest sizes, for tests.",
    "judges": False,
    "about_core_minutes": 0.1,
    "seeds": [0],
    "datasets": {
        "babyai": [{"source": "bot", "tasks": LEVELS, "episodes": 16, "seed": 0, "noise_percent": [0, 30]}],
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
            "kind": "dqn",
            "task": "hidden",
            "core": "gru",
            "encoder": "babyai",
            "d_s": 12,
            "channels": 4,
            "blocks": 1,
            "d_mission": 8,
            "retrieval": {
                "n_f": 2,
                "d_m": 8,
                "d_e": 8,
                "d_h": 8,
                "d_v": 8,
                "slot_heads": 2,
                "n_traj": 6,
                "k_traj": 3,
                "k_states": 4,
                "step_stride": 3,
            },
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
    "variants": {
        "rdqn": {},
        "own": {"agent": {"kind": "ra-dqn"}},
        "all": {"agent": {"kind": "ra-dqn", "retrieval": {"source": "all"}}},
        "open": {"agent": {"kind": "ra-dqn", "retrieval": {"source": "all", "bottleneck": 0.0}}},
        "nothing": {"agent": {"kind": "ra-dqn", "retrieval": {"source": "none"}}},
    },
}


def write_config(root: Path, scale: Mapping[str, Any] | None = None) -> None:
    """The files under root/config, with `scale` over the values above."""
    folder = root / "config" / "experiments"
    folder.mkdir(parents=True, exist_ok=True)
    (root / "config" / "config.yaml").write_text("scale: tiny\n")
    (root / "config" / "tiny.yaml").write_text(yaml.safe_dump(merge(SCALE, scale or {}), sort_keys=False))
    (folder / "babyai.yaml").write_text(yaml.safe_dump(EXPERIMENT, sort_keys=False))


def make_datasets(root: Path) -> None:
    """All that the scale plans."""
    scale = Scale("tiny", root)
    for dataset in scale.datasets.values():
        make_dataset(scale, dataset)


def run_of(root: Path, variant: str, seed: int = 0, changes: Mapping[str, Any] | None = None) -> Run:
    return Scale("tiny", root).run("babyai", TASK_SET, variant, seed, changes)


def learner_of(root: Path, variant: str, changes: Mapping[str, Any] | None = None, seed: int = 0):
    """A fresh learner on the CPU; the same arguments give the same one."""
    return tiny_project.fresh_learner(Scale("tiny", root), run_of(root, variant, seed, changes))


def datasets_of(root: Path) -> list[TrajectoryDataset]:
    from rarl.training.offline import open_datasets

    return open_datasets(Scale("tiny", root), run_of(root, "rdqn"))
