"""What the runs of a report were made of and with: rows for its tables, from the runs' own records."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

from rarl.files import digest, sha256_file
from rarl.reporting import tables
from rarl.reporting.results import Results

LOCK_FILES = ("requirements.lock", "requirements.txt", "environment.yml")
STATUS = ("finished", "failed", "damaged", "excluded", "missing", "not planned")


def _seen(values: list[Any], limit: int = 4) -> str:
    """Different values with how many runs have each, most common first."""
    seen = Counter(str(v) for v in values if v not in (None, ""))
    if not seen:
        return "unknown"
    if len(seen) == 1:
        return next(iter(seen))
    shown = [f"{value} ({tables.plural(n, 'run')})" for value, n in sorted(seen.items(), key=lambda x: (-x[1], x[0]))]
    return "; ".join(shown[:limit]) + (f"; and {len(shown) - limit} more" if len(shown) > limit else "")


def making(results: Results) -> list[list[Any]]:
    """Rows (what, value): code, versions, machine, data, lock files."""
    records = list(results.records.values())
    git = [_part(record, "git") for record in records]
    versions = [_part(record, "versions") for record in records]
    hardware = [_part(record, "hardware") for record in records]
    rows = [
        ["Commit", _seen([_commit(g) for g in git])],
        ["Code digest", _seen([record.get("code_digest") for record in records])],
        ["Versions", _seen([", ".join(f"{k} {v}" for k, v in sorted(part.items()) if v) for part in versions])],
        ["Machine", _seen([_machine(part) for part in hardware])],
        ["Runs made between", _between(records)],
    ]
    hashes = {path: sha for record in records for path, sha in (record.get("data") or {}).items()}
    if hashes:
        rows.append(["Data", f"{tables.plural(len(hashes), 'manifest')}, digest of their SHA-256 {digest(hashes)}"])
    for name in LOCK_FILES:
        path = Path(results.root) / name
        if path.is_file():
            rows.append([name, f"SHA-256 {sha256_file(path)[:12]}"])
    return rows


def _part(record: dict[str, Any], key: str) -> dict[str, Any]:
    part = record.get(key)
    return part if isinstance(part, dict) else {}


def _commit(git: dict[str, Any]) -> str:
    commit = str(git.get("commit") or "unknown")
    if commit == "unknown":
        return "unknown: made outside a git repository"
    dirty = git.get("dirty")
    state = (
        "with changes that are not in it" if dirty is True else "" if dirty is False else "state of the tree unknown"
    )
    return commit[:12] + (f" {state}" if state else "")


def _machine(part: dict[str, Any]) -> str:
    words = [str(part.get("cpu") or "CPU unknown")]
    for key, text in (("cores", "{} cores"), ("threads", "{} threads used"), ("gpu", "{}"), ("device", "on {}")):
        if part.get(key) is not None:
            words.append(text.format(part[key]))
    return ", ".join(words)


def _between(records: list[dict[str, Any]]) -> str:
    times = sorted(str(t)[:10] for record in records for t in (record.get("started"), record.get("finished")) if t)
    return f"{times[0]} and {times[-1]}" if times else "unknown"


def variants(results: Results) -> list[list[Any]]:
    """Rows per variant: configuration digests and the command of its first seed."""
    rows = []
    for (experiment, task_set, variant), group in results.runs.groupby(
        ["experiment", "task_set", "variant"], sort=False
    ):
        records = [results.records[run] for run in group["run"] if run in results.records]
        if records:
            digests = sorted({str(record.get("config_digest") or "unknown") for record in records})
            command = str(records[0].get("command") or "not recorded")
            rows.append([f"{experiment}/{task_set}/{variant}", ", ".join(digests), tables.code(command)])
    return rows


def run_counts(results: Results) -> list[list[Any]]:
    """Rows per variant: how many runs were planned, are used, and are not, by status."""
    rows = []
    for (experiment, task_set, variant), group in results.runs.groupby(
        ["experiment", "task_set", "variant"], sort=False
    ):
        states = group["status"].value_counts()
        planned = int((group["status"] != "not planned").sum())
        name = f"{experiment}/{task_set}/{variant}"
        rows.append([name, planned, int(group["usable"].sum()), *(int(states.get(s, 0)) for s in STATUS[1:])])
    return rows


RUN_COUNT_HEADERS = ["Runs of", "Planned", "Used", *(status.capitalize() for status in STATUS[1:])]


def compute(results: Results) -> list[list[Any]]:
    """Rows per experiment: runs, updates, hours, memory, resumed and failed runs. Failed runs count as well."""
    rows = []
    for experiment, group in results.runs.groupby("experiment", sort=False):
        made = group[group["status"].isin(["finished", "failed", "excluded"])]
        rows.append(
            [
                experiment,
                len(made),
                tables.count(made["updates"].sum()),
                tables.duration(made["seconds_total"].sum()),
                tables.duration(made["seconds_training"].sum()),
                tables.count(made["peak_memory_mb"].max()),
                int(made["resumed"].fillna(0).gt(0).sum()),
                int((made["status"] == "failed").sum()),
            ]
        )
    return rows


COMPUTE_HEADERS = [
    "Experiment",
    "Runs",
    "Updates",
    "Wall time, all",
    "of it training",
    "Peak memory, MB",
    "Resumed",
    "Failed",
]


def run_table(results: Results, scores: dict[str, float]) -> pd.DataFrame:
    """One row per run for tables/runs.csv."""
    frame = results.runs.copy()
    frame.insert(6, "score", [scores.get(run) for run in frame["run"]])
    frame["config_digest"] = [results.records.get(run, {}).get("config_digest") for run in frame["run"]]
    frame["commit"] = [_part(results.records.get(run, {}), "git").get("commit") for run in frame["run"]]
    return frame


def configured(results: Results, key: str, experiment: str) -> list[Any]:
    """The different values of a dotted configuration key among an experiment's runs, in order of appearance."""
    values: list[Any] = []
    for run, record in results.records.items():
        value: Any = record.get("config") if run.startswith(f"{experiment}/") else None
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is not None and value not in values:
            values.append(value)
    return values
