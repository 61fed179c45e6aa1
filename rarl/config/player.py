"""Who plays for a dataset: the settings of an agent that learns while it plays, and of its environments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rarl.config.fit import check_run, with_options
from rarl.config.scale import Run
from rarl.config.settings import RunSettings
from rarl.config.validate import validate
from rarl.envs.spec import EnvSpec, spec_of
from rarl.errors import RarlError
from rarl.mappings import merge

# DQN with a uniform replay of single steps; what a source's options change goes over it.
AGENT: Mapping[str, Any] = {
    "agent": {"task": "hidden", "d_s": 128},
    "learning": {
        "batch_sequences": 128,
        "sequence_steps": 2,
        "learning_rate": 0.00025,
        "discount": 0.99,
        "target_period_updates": 100,
    },
    "evaluation": {"every_updates": 1_000_000, "episodes_per_task": 1},
    "online": {
        "actors": 4,
        "steps_per_update": 2,
        "period_steps": 2,
        "capacity_sequences": 25_000,
        "start_sequences": 500,
        "priority_exponent": 0.0,
        "importance_exponent": 0.0,
        "refresh_updates": 1,
        "compression": 0,
        "overlap": False,
    },
}


def settings_of(environment: str, task: str, seed: int, settings: Mapping[str, Any] | None = None) -> RunSettings:
    """What an agent on a task does, and how its environments are played; settings: over `AGENT`."""
    return _settings(spec_of(environment), environment, task, seed, settings)


def _settings(spec: EnvSpec, environment: str, task: str, seed: int, settings: Mapping[str, Any] | None) -> RunSettings:
    place = {
        "experiment": "datasets",
        "environment": environment,
        "task_set": "datasets",
        "tasks": [task],
        "variant": "agent",
        "seed": seed,
        "source": "replay",
        "updates": 1_000_000_000,
        "tensorboard": False,
    }
    where = f"an agent of {spec.name}"
    return validate(RunSettings, with_options(spec, {**merge(AGENT, settings or {}), **place}, where), where)


def run_of(environment: str, task: str, seed: int, settings: Mapping[str, Any] | None = None) -> Run:
    """What an agent that makes a dataset does."""
    run = Run("datasets", settings_of(environment, task, seed, settings))
    check_run(spec_of(environment), run.settings, f"a dataset of {spec_of(environment).name}")
    return run


def check_agent(spec: EnvSpec, settings: Any = None, random_share: Any = 0.0) -> None:
    """Check the options of a dataset that an agent makes, see `rarl.collect.play.generate_agent`.

    Raises:
      RarlError: it names the option.
    """
    if not isinstance(settings, Mapping | None):
        raise RarlError(f"settings: must be an agent's, such as {{agent: {{d_s: 64}}}}, got {settings!r:.80}")
    if not isinstance(random_share, int | float) or not 0 <= random_share <= 1:
        raise RarlError(f"random_share={random_share!r}: must be between 0 and 1")
    check_run(spec, _settings(spec, spec.name, spec.tasks[0], 0, settings), f"a dataset of {spec.name}")
