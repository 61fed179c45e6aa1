"""A project of the smallest sizes: configuration, planner datasets of ten tasks, and learners on them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from rarl.config import Run, Scale, merge
from rarl.trajectories.generate import generate_planner
from rarl.trajectories.store import TrajectoryDataset

EPISODES = 16
SCALE: dict[str, Any] = {
    "description": "The smallest sizes, for tests.",
    "judges": False,
    "about_core_minutes": 0.1,
    "seeds": [0],
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
            "kind": "dqn",
            "task": "hidden",
            "d_s": 16,
            "fusion": "film",
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
                "step_stride": 10,
                "bottleneck": 0.3,
                "auxiliary": 0.1,
            },
        },
        "learning": {"batch_states": 40, "learning_rate": 0.003, "discount": 0.9, "target_period_updates": 5},
        "evaluation": {"every_updates": 500, "epsilon": 0.05},
    },
    "variants": {
        "dqn": {},
        "dqn-told": {"agent": {"task": "observed"}},
        "ra-dqn": {"agent": {"kind": "ra-dqn"}},
        "ra-dqn-told": {"agent": {"kind": "ra-dqn", "task": "observed"}},
        "oracle": {"agent": {"kind": "oracle"}},
        "nothing": {"agent": {"kind": "ra-dqn", "retrieval": {"source": "none"}}},
        "random": {"agent": {"kind": "ra-dqn", "retrieval": {"source": "random"}}},
    },
}


def write_config(
    root: Path, scale: Mapping[str, Any] | None = None, experiment: Mapping[str, Any] | None = None, name: str = "tiny"
) -> None:
    """The files under root/config, with `scale` and `experiment` over the values above."""
    folder = root / "config" / "experiments"
    folder.mkdir(parents=True, exist_ok=True)
    (root / "config" / "config.yaml").write_text(f"scale: {name}\n")
    (root / "config" / f"{name}.yaml").write_text(yaml.safe_dump(merge(SCALE, scale or {}), sort_keys=False))
    (folder / "gridroboman.yaml").write_text(yaml.safe_dump(merge(EXPERIMENT, experiment or {}), sort_keys=False))


def make_datasets(root: Path) -> None:
    """All that the scale plans and its runs need."""
    scale = Scale("tiny", root)
    for name in {name for run in scale.runs.values() for name in scale.datasets_of(run)}:
        dataset = scale.datasets[name]
        generate_planner(dataset.task, EPISODES, dataset.settings.seed, root / "data" / "tiny" / name)


def run_of(root: Path, variant: str, seed: int = 0, changes: Mapping[str, Any] | None = None) -> Run:
    return Scale("tiny", root).run("gridroboman", 10, variant, seed, changes)


def learner_of(root: Path, variant: str, changes: Mapping[str, Any] | None = None, seed: int = 0):
    """A fresh learner on the CPU; the same arguments give the same one."""
    return fresh_learner(Scale("tiny", root), run_of(root, variant, seed, changes))


def fresh_learner(scale: Scale, run: Run):
    """The learner of a run on the CPU, from the run's seed."""
    import torch

    from rarl.training.offline import learner_of, open_datasets

    torch.set_num_threads(1)  # tensors this small would wait for the other threads
    torch.manual_seed(run.settings.seed)
    return learner_of(run, open_datasets(scale, run), "cpu")


def datasets_of(root: Path) -> list[TrajectoryDataset]:
    from rarl.training.offline import open_datasets

    scale = Scale("tiny", root)
    return open_datasets(scale, scale.runs["gridroboman/10-tasks/dqn/seed-0"])
