"""What the runs of a report were made of and with: rows for its tables, from the runs' own records."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from rarl.files import digest, sha256_file
from rarl.reporting import tables
from rarl.reporting.results import STATUS, Results

LOCK_FILES = ("requirements.lock", "requirements.txt", "environment.yml")
_WHO = ["experiment", "task_set", "variant"]


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
    versions = [_part(record, "versions") for record in records]
    rows = [
        ["Commit", _seen([_commit(_part(record, "git")) for record in records])],
        ["Code digest", _seen([record.get("code_digest") for record in records])],
        ["Versions", _seen([", ".join(f"{k} {v}" for k, v in sorted(part.items()) if v) for part in versions])],
        ["Machine", _seen([_machine(_part(record, "hardware")) for record in records])],
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
    states = {"True": " with changes that are not in it", "False": ""}
    return commit[:12] + states.get(str(git.get("dirty")), " state of the tree unknown")


def _machine(part: dict[str, Any]) -> str:
    words = [str(part.get("cpu") or "CPU unknown")]
    for key, text in (("cores", "{} cores"), ("threads", "{} threads used"), ("gpu", "{}"), ("device", "on {}")):
        if part.get(key) is not None:
            words.append(text.format(part[key]))
    return ", ".join(words)


def _between(records: list[dict[str, Any]]) -> str:
    times = sorted(str(t)[:10] for record in records for t in (record.get("started"), record.get("finished")) if t)
    return f"{times[0]} and {times[-1]}" if times else "unknown"


def variants(results: Results) -> Markup:
    """A table of variants: configuration digests and the command of the first seed."""
    rows = []
    for keys, group in results.runs.groupby(_WHO, sort=False):
        records = [results.records[run] for run in group["run"] if run in results.records]
        if records:
            digests = sorted({str(record.get("config_digest") or "unknown") for record in records})
            rows.append(["/".join(keys), ", ".join(digests), tables.code(records[0].get("command") or "not recorded")])
    return tables.table(["Runs of", "Configuration", "Command of the first seed"], rows)


def run_counts(results: Results) -> Markup:
    """A table of variants: how many runs were planned, are used, and are not, by status."""
    runs = results.runs
    if runs.empty:
        return Markup("")
    who = ["/".join(keys) for keys in runs[_WHO].itertuples(index=False)]
    counts = pd.crosstab(pd.Series(who, runs.index), runs["status"]).reindex(columns=list(STATUS), fill_value=0)
    counts.insert(0, "used", runs["usable"].groupby(who).sum())
    counts.insert(0, "planned", counts[list(STATUS[:-1])].sum(axis=1))
    counts = counts.drop(columns="finished").loc[list(dict.fromkeys(who))].reset_index(names="who")
    columns = [tables.words("who", "Runs of")]
    columns += [tables.numbers(name, name.capitalize()) for name in counts.columns[1:]]
    return tables.to_markdown(counts, columns)


def compute(results: Results) -> Markup:
    """A table of experiments: runs, updates, hours, memory, resumed and failed runs. Failed runs count as well."""
    made = results.runs[results.runs["status"].isin(["finished", "failed", "excluded"])]
    made = made.assign(resumed=made["resumed"].fillna(0) > 0, failed=made["status"] == "failed")
    frame = made.groupby("experiment", sort=False).agg(
        runs=("run", "size"), updates=("updates", "sum"), total=("seconds_total", "sum"),
        training=("seconds_training", "sum"), memory=("peak_memory_mb", "max"), resumed=("resumed", "sum"),
        failed=("failed", "sum"),
    )  # fmt: skip
    columns = [
        tables.words("experiment", "Experiment"),
        tables.numbers("runs", "Runs"),
        tables.numbers("updates", "Updates"),
        tables.Column("total", "Wall time, all", tables.duration),
        tables.Column("training", "of it training", tables.duration),
        tables.numbers("memory", "Peak memory, MB"),
        tables.numbers("resumed", "Resumed"),
        tables.numbers("failed", "Failed"),
    ]
    return tables.to_markdown(frame.reset_index(), columns)


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
