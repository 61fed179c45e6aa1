"""The datasets that the runs learned from, by their manifests."""

from __future__ import annotations

import pandas as pd

from rarl.reporting import tables
from rarl.reporting.results import spelled
from rarl.reporting.sheet import Sheet
from rarl.reporting.study import Study


def write(study: Study, sheet: Sheet) -> None:
    """One row per dataset; nothing where agents play themselves, or the manifests are not here."""
    frame = dataset_frame(study)
    if frame.empty:
        return
    heads = {"task": study.spec.task_noun.capitalize(), "source": "Source", "episodes": "Episodes", "length": "Steps each",
             "return_mean": "Return", "expert_return": "Return of the expert", "rejected": "Rejected attempts"}  # fmt: skip
    sheet.heading("Datasets")
    sheet.table(f"{study.name}-datasets", frame, heads, tables.plural(len(frame), "dataset"), folded=True, task=tables.spaced)


def dataset_frame(study: Study) -> pd.DataFrame:
    """A row for each manifest that a usable run names, tasks in their order. All of a dataset, of which a run may use
    the first episodes alone."""
    results = study.results
    used = {path for run in results.select(results.last, study.name)["run"].unique()
            for path in (results.records[run].get("data") or {})}  # fmt: skip
    rows = []
    for path, manifest in sorted(results.manifests.items()):
        if path in used:
            returns, generator = manifest.get("returns") or {}, manifest.get("generator") or {}
            rejected = ", ".join(f"{why} {n:,}" for why, n in sorted((generator.get("rejected") or {}).items()))
            numbers = {key: manifest.get(key) for key in ("source", "episodes", "steps", "expert_return")}
            rows.append({"task": spelled(manifest.get("task")), **numbers, "return_mean": returns.get("mean"),
                         "rejected": rejected or None})  # fmt: skip
    frame = pd.DataFrame(rows)
    if frame.empty:
        return frame
    order = [task for members in study.task_order(frame["task"]).values() for task in members]
    frame["length"] = pd.to_numeric(frame["steps"]) / pd.to_numeric(frame["episodes"])
    return frame.sort_values("task", key=lambda tasks: tasks.map(order.index), kind="stable")
