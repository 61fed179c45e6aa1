"""A page for each variant: command, difference to its base, settings, seeds, commit, checkpoint, costs."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from rarl.config.scale import default_scale
from rarl.errors import RarlError
from rarl.mappings import leaves
from rarl.reporting import tables
from rarl.reporting.configurations import changed, first_run, settings_of
from rarl.reporting.provenance import commit_of
from rarl.reporting.sheet import Sheet
from rarl.reporting.study import Study, Variant

_NOT_SETTINGS = ("experiment", "task_set", "variant", "seed")


def page_name(study: Study, variant: Variant) -> str:
    """Where it is, below the report's folder, without the suffix."""
    return f"variants/{safe(study.name)}-{safe(variant.name)}"


def safe(name: str) -> str:
    """A name as a part of a file's and of a link."""
    return re.sub(r"[^\w.-]+", "-", name, flags=re.ASCII).strip("-") or "unnamed"


def own_variants(study: Study) -> list[Variant]:
    """Those with usable runs of the study's own, each of which has a page."""
    runs = study.rows(study.results.runs)
    used = set(runs["variant"][runs["usable"]])
    return [v for v in study.variants.values() if v.runs == (study.name, v.name) and v.name in used]


def _default(root: Path) -> str | None:
    with suppress(RarlError):
        return default_scale(root)
    return None


def write(study: Study, variant: Variant, sheet: Sheet, costs: pd.DataFrame, table: pd.DataFrame) -> None:
    """All of it. costs, table: of all variants and runs, see `measured_costs.read_costs`, `provenance.run_table`."""
    results, name = study.results, variant.name
    runs = results.select(results.runs, study.name, variant=name)
    first = str(runs[runs["usable"]].sort_values(["task_set", "seed"])["run"].iloc[-1])
    record, names = results.records[first], [*variant.relative_to, study.base.name]
    other = next((study.variants[n] for n in names if n != name), None)
    if variant.settings.change:
        sheet.text(f"Changes: {variant.settings.change}.")
    base_run = first_run(results, other.runs[0], first.split("/")[1], other.runs[1]) if other is not None else None
    scale = "" if results.scale == _default(results.root) else f', scale="{results.scale}"'
    rows: list[list[Any]] = [
        ["Experiment", Markup("[{}](../{}.md)").format(tables.md(study.title), study.page)],
        ["Commit", commit_of(record)],
        ["Command, at that commit", tables.code(record.get("command") or "not recorded")],
        ["Code digest", record.get("code_digest")],
        ["Checkpoint (by DVC)", tables.code(f"results/{results.scale}/checkpoints/{first}/")],
        ["In Python", tables.code(f'rarl.load("{first}"{scale})')],
        ["Parameters", tables.count(record["parameters"].get("total"))],
    ]
    for row in results.select(costs, study.name, variant=name).itertuples():
        ms = f"{row.learner_step_ms:.3g} ms per update, {row.acting_ms:.3g} ms per action"
        rows.append(["Costs", f"{ms}, {row.memory_mb:.0f} MB"])
    sheet.parts.append(tables.table(["What", "Value"], rows))
    sheet.heading("Seeds")
    shown = results.select(table, study.name, variant=name)
    shown = shown.assign(minutes=shown["seconds_total"] / 60)
    heads = {"task_set": "Task set", "seed": "Seed", "score": study.score.label.capitalize(), "updates": "Updates",
             "minutes": "Minutes", "status": "Status", "config_digest": "Config"}  # fmt: skip
    sheet.parts.append(tables.to_markdown(shown, heads, task_set=tables.spaced, seed=str))
    if other is not None and base_run is not None:
        differing = [[tables.code(key), _text(x), _text(y)] for key, x, y in changed(results, base_run, first)
                     if key not in _NOT_SETTINGS]  # fmt: skip
        sheet.heading(f"Difference to {other.label}")
        sheet.parts.append(tables.table(["Setting", other.label, variant.label], differing))
    sheet.heading("Hyper-parameters")
    settings = leaves(settings_of(results, first))
    rows = [[tables.code(key), _text(value)] for key, value in settings if key not in _NOT_SETTINGS]
    sheet.folded(f"All {len(rows)} settings of {first}", tables.table(["Setting", "Value"], rows))


def _text(value: Any) -> str:
    text = tables.NONE if value is None else ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 200 else f"{text[:197]}…"
