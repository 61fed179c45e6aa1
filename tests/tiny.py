"""What makes a project of the smallest sizes on one environment: its configuration, its datasets, learners on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rarl.collect.make import make_dataset
from rarl.config.fit import with_options
from rarl.config.scale import Run, Scale
from rarl.config.settings import RunSettings
from rarl.config.validate import validate
from rarl.envs.spec import spec_of
from rarl.mappings import merge
from rarl.trajectories.store import TrajectoryDataset

SMALLEST: dict[str, Any] = {  # any scale begins with this
    "description": "the smallest sizes, for tests",
    "allows_verdicts": False,
    "about_core_minutes": 0.1,
    "seeds": [0],
    "costs": {"seconds_per_variant": 0.01},
}
RETRIEVAL: dict[str, Any] = {
    "n_f": 2,
    "d_m": 8,
    "d_e": 8,
    "d_h": 8,
    "d_v": 8,
    "slot_heads": 2,
    "n_traj": 6,
    "k_traj": 3,
    "k_states": 4,
}


EPISODIC: dict[str, dict[str, Any]] = {  # variants
    "mfec": {
        "agent": {"base": "mfec"},
        "learning": {"discount": 1.0},
        "episodic": {"neighbours": 3, "d_key": 4, "epsilon": 0.1, "epsilon_from_steps": 100, "epsilon_to_steps": 300},
    },
    "nec": {
        "agent": {"base": "nec"},
        "learning": {"learning_rate": 0.001, "batch_states": 8},
        "episodic": {
            "neighbours": 4,
            "d_key": 4,
            "epsilon": 0.1,
            "epsilon_from_steps": 100,
            "epsilon_to_steps": 300,
            "n_step": 5,
            "replay": 100,
            "learn_from_steps": 200,
            "learn_every_steps": 40,
        },
    },
}


def variants(**settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Variants by the settings that each changes; "_" in a name stands for "-"."""
    return {name.replace("_", "-"): {"settings": changes} for name, changes in settings.items()}


def settings_of(
    environment: str, agent: Mapping[str, Any], options: Mapping[str, Any] | None = None, tasks: int = 1
) -> RunSettings:
    """A run's settings of which nothing but the agent and the environment's options matters."""
    spec = spec_of(environment)
    value = {
        **dict.fromkeys(("experiment", "task_set", "variant", "source"), "test"),
        "environment": environment,
        "environment_options": options,
        "tasks": list(spec.tasks)[:tasks],
        "seed": 0,
        "updates": 1,
        "agent": {"task": "hidden"} | agent,
        "learning": {},
        "evaluation": {"every_updates": 1},
    }
    return validate(RunSettings, with_options(spec, value, "test"), "test")


@dataclass(frozen=True)
class Tiny:
    """One environment's project.

    Attributes:
      scale: of config/tiny.yaml.
      experiment: of config/experiments/{environment}.yaml; its first variant is the baseline.
      task_set: whose runs are asked for.
    """

    scale: Mapping[str, Any]
    experiment: Mapping[str, Any]
    task_set: int | str

    def write_config(
        self,
        root: Path,
        scale: Mapping[str, Any] | None = None,
        experiment: Mapping[str, Any] | None = None,
        name: str = "tiny",
    ) -> None:
        """The files under root/config, with `scale` and `experiment` over the project's own values."""
        files = {
            "config": {"scale": name},
            "claims": {"claims": []},
            name: merge(self.scale, scale or {}),
            f"experiments/{self.experiment['environment']}": merge(self.experiment, experiment or {}),
        }
        for file, content in files.items():
            path = root / "config" / f"{file}.yaml"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(yaml.safe_dump(content, sort_keys=False))

    def make_datasets(self, root: Path) -> None:
        """All that the scale's runs need."""
        scale = Scale("tiny", root)
        for name in {name for run in scale.runs.values() for name in run.datasets}:
            make_dataset(scale, scale.datasets[name])

    def run_of(self, root: Path, variant: str, seed: int = 0, changes: Mapping[str, Any] | None = None) -> Run:
        return Scale("tiny", root).run(self.experiment["environment"], self.task_set, variant, seed, changes)

    def learner_of(self, root: Path, variant: str, changes: Mapping[str, Any] | None = None, seed: int = 0):
        """A fresh learner on the CPU, from the run's seed; the same arguments give the same one."""
        import torch

        from rarl.runs.train import learner_of, open_datasets

        run = self.run_of(root, variant, seed, changes)
        torch.set_num_threads(1)  # tensors this small would wait for the other threads
        torch.manual_seed(run.settings.seed)
        return learner_of(run, open_datasets(Scale("tiny", root), run), "cpu")

    def datasets_of(self, root: Path) -> list[TrajectoryDataset]:
        """Those of the baseline."""
        from rarl.runs.train import open_datasets

        return open_datasets(Scale("tiny", root), self.run_of(root, next(iter(self.experiment["variants"]))))
