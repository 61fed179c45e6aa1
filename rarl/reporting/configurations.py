"""What runs were configured with, by their own records, and whether two of them may be compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rarl.config.settings import AgentSettings, EvaluationSettings, LearningSettings, OnlineSettings
from rarl.envs.spec import spec_of
from rarl.mappings import leaves, merge
from rarl.reporting.results import Results

# A record has no key that was added after its run was made; such a key had no other value than its default.
_DEFAULTS: dict[str, Any] = {
    "held_out": [],
    "episodes": None,
    "agent": AgentSettings(task="hidden").model_dump(),
    "learning": LearningSettings().model_dump(),
    "evaluation": EvaluationSettings(every_updates=1).model_dump(),
}
_ONLINE = OnlineSettings().model_dump()
# What runs must have in common to be compared: data, budget, learning and evaluation, and of the agent what is not
# retrieval. An auxiliary loss is what some variants add.
_SHARED = ("tasks", "held_out", "source", "episodes", "updates", "agent", "learning", "evaluation", "online",
           "environment_options")  # fmt: skip
_APART = ("agent.fusion", "agent.retrieval", "learning.masking", "online.overlap")


def settings_of(results: Results, run: str) -> dict[str, Any]:
    """A run's configuration with the defaults of what its record does not name; {} where there is none."""
    config = results.records.get(run, {}).get("config")
    if not config:
        return {}
    defaults = _DEFAULTS | ({"online": _ONLINE} if isinstance(config.get("online"), Mapping) else {})
    return merge(defaults, config)


def value_of(results: Results, run: str | None, key: str) -> Any:
    """The value of a dotted key, or None."""
    value: Any = settings_of(results, run) if run is not None else None
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def first_run(results: Results, experiment: str, task_set: str, variant: str) -> str | None:
    """The usable run of a variant with the lowest seed; all its seeds have the same settings."""
    runs = results.select(results.runs, experiment, task_set, variant)
    runs = runs[runs["usable"]]
    return str(runs.sort_values("seed")["run"].iloc[0]) if len(runs) else None


def differences(results: Results, a: str, b: str) -> list[tuple[str, Any, Any]]:
    """(key, value in a, value in b) of the settings that the two should share and do not."""
    environments = {value_of(results, run, "environment") for run in (a, b)} - {None}
    apart = {f"environment_options.{key}" for name in environments for key in spec_of(name).options_without_effect}
    return [found for found in changed(results, a, b) if _is_shared(found[0]) and found[0] not in apart]


def changed(results: Results, a: str, b: str) -> list[tuple[str, Any, Any]]:
    """(key, value in a, value in b) of all settings that the two do not share."""
    of_a, of_b = (dict(leaves(settings_of(results, run))) for run in (a, b))
    values = [(key, of_a.get(key), of_b.get(key)) for key in dict.fromkeys([*of_a, *of_b])]
    return [(key, x, y) for key, x, y in values if x != y]


def _is_shared(key: str) -> bool:
    return key.split(".")[0] in _SHARED and not any(key == part or key.startswith(f"{part}.") for part in _APART)
