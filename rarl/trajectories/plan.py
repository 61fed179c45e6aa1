"""Where a planned dataset lies, and whether a manifest is that of it. Opens no dataset."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rarl.config.scale import Dataset, Scale


def folder_of(scale: Scale, dataset: str) -> Path:
    """Where a dataset of a scale lies."""
    return scale.root / "data" / scale.name / dataset


def unlike_plan(manifest: Mapping[str, Any], dataset: Dataset) -> list[str]:
    """What in a manifest is not as planned, such as "task 'touch red' (planned: 'lift red')"."""
    s = dataset.settings
    planned: dict[str, Any] = {
        "environment": dataset.name,
        "task": dataset.task,
        "source": s.source,
        "seed": s.seed,
    }
    if s.episodes is not None:
        planned["episodes"] = s.episodes
    else:
        planned["generator.environment_steps"] = s.environment_steps
    planned |= {f"generator.{name}": value for name, value in s.options.items()}
    faults = []
    for key, value in planned.items():
        found: Any = manifest
        for part in key.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
        if found != value or isinstance(found, bool):
            faults.append(f"{key} {found!r:.60} (planned: {value!r})")
    return faults
