"""JSON schemas of the files under config/, for editors and for readers: `python -m rarl.workflow.schemas` writes them.

Validation itself is done by `rarl.config`, whose messages are better; a test keeps these files in step with it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rarl.config.files import SCALES, ExperimentSettings, ScaleSettings
from rarl.config.settings import RunSettings
from rarl.files import write_json

FOLDER = Path("workflow") / "schemas"
_COORDINATES = ("experiment", "environment", "task_set", "tasks", "variant", "seed")  # set by the place in the file
_DRAFT = "https://json-schema.org/draft/2020-12/schema"


def schemas() -> dict[str, dict[str, Any]]:
    """File name -> schema."""
    scale, experiment = ScaleSettings.model_json_schema(), ExperimentSettings.model_json_schema()
    for schema in (scale, experiment):
        schema.setdefault("$defs", {}).update(_partial_run())
    some = {"$ref": "#/$defs/SomeRunSettings"}
    for name in ("ScaleExperimentSettings", "TaskSetSettings"):
        scale["$defs"][name]["properties"]["settings"] |= some
    scale["$defs"]["ScaleExperimentSettings"]["properties"]["variant_settings"]["additionalProperties"] = some
    experiment["properties"]["base"] |= some
    experiment["$defs"]["VariantSettings"]["properties"]["settings"] |= some
    config = {
        "title": "config.yaml",
        "type": "object",
        "properties": {"scale": {"enum": list(SCALES), "description": "the scale that `snakemake all` works on"}},
        "required": ["scale"],
        "additionalProperties": False,
    }
    found = {"config": config, "scale": scale, "experiment": experiment}
    return {f"{name}.schema.json": {"$schema": _DRAFT, **schema} for name, schema in found.items()}


def _partial_run() -> dict[str, Any]:
    """Definitions for any part of the settings of a run: the same keys and values, none of them required."""
    whole = RunSettings.model_json_schema()
    parts = {f"Some{name}": part for name, part in whole.pop("$defs").items()} | {"SomeRunSettings": whole}
    for name in _COORDINATES:
        del whole["properties"][name]
    for part in parts.values():
        part.pop("required", None)
        for value in part["properties"].values():
            for choice in (value, *value.get("anyOf", ())):
                if "$ref" in choice:
                    choice["$ref"] = choice["$ref"].replace("#/$defs/", "#/$defs/Some")
    return parts


def write(folder: Path = FOLDER) -> None:
    """Write all schemas."""
    for name, schema in schemas().items():
        write_json(folder / name, schema)


if __name__ == "__main__":
    write()
