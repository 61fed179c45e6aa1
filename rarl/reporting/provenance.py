"""What the runs of a report were made of and with: rows for its tables, from the runs' own records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from rarl.files import digest, sha256_file
from rarl.mappings import leaves
from rarl.progress import duration
from rarl.reporting import tables
from rarl.reporting.choices import Choice
from rarl.reporting.results import Results
from rarl.reporting.study import Study

MOST_NAMES = 12  # of a configured list
MOST_SEEN = 4  # different values in the table of provenance
LOCK_FILES = ("requirements.lock", "requirements.txt", "environment.yml")


def _seen(values: list[Any]) -> str:
    """Different values with how many runs have each, most common first."""
    seen = Counter(str(v) for v in values if v not in (None, ""))
    if not seen:
        return "unknown"
    if len(seen) == 1:
        return next(iter(seen))
    shown = [f"{value} ({tables.plural(n, 'run')})" for value, n in sorted(seen.items(), key=lambda x: (-x[1], x[0]))]
    return "; ".join(shown[:MOST_SEEN]) + (f"; and {len(shown) - MOST_SEEN} more" if len(shown) > MOST_SEEN else "")


def making(results: Results) -> list[list[Any]]:
    """Rows (what, value): code, versions, machine, data, lock files."""
    records = list(results.records.values())
    machines = [record["hardware"] for record in records]
    times = sorted(str(t)[:10] for record in records for t in (record.get("started"), record.get("finished")) if t)
    hashes = {path: sha for record in records for path, sha in record["data"].items()}
    locks = [(name, Path(results.root) / name) for name in LOCK_FILES]
    return [
        ["Commit", _seen(list(map(commit_of, records)))],
        ["Code digest", _seen([record.get("code_digest") for record in records])],
        ["Versions", _seen([_pairs(record["versions"]) for record in records])],
        ["Machine", _seen([_pairs(machine) for machine in machines])],
        ["Runs made between", " and ".join(dict.fromkeys([times[0], times[-1]])) if times else "unknown"],
        ["Data", f"{tables.plural(len(hashes), 'manifest')}, digest of their SHA-256 {digest(hashes)}"],
        *([name, f"SHA-256 {sha256_file(path)[:12]}"] for name, path in locks if path.is_file()),
    ]


def _pairs(part: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in sorted(part.items()) if value is not None)


def commit_of(record: dict[str, Any]) -> str:
    """The commit that made a run."""
    git = record["git"]
    if git.get("commit") in (None, "", "unknown"):
        return "unknown: made outside a git repository"
    states = {"True": " with changes that are not in it", "False": ""}
    return str(git["commit"])[:12] + states.get(str(git.get("dirty")), " state of the tree unknown")


def compute(results: Results) -> Markup:
    """A table of experiments: their budgets, and what their runs cost, failed ones included."""
    made = results.runs[results.runs["status"].isin(["finished", "failed", "excluded"])]
    made = made.assign(resumed=made["resumed"].fillna(0) > 0, failed=made["status"] == "failed")
    frame = made.groupby("experiment", sort=False).agg(
        runs=("run", "size"), updates=("updates", "max"), total=("seconds_total", "sum"),
        memory=("peak_memory_mb", "max"), resumed=("resumed", "sum"), failed=("failed", "sum"),
    )  # fmt: skip
    points = results.evaluations.groupby("experiment").agg(points=("update", "nunique"), episodes=("episodes", "max"))
    heads = {"experiment": "Experiment", "runs": "Runs", "updates": "Updates, at most", "points": "Evaluations",
             "episodes": "Episodes per evaluation", "total": "Wall time", "memory": "Peak memory, MB",
             "resumed": "Resumed", "failed": "Failed"}  # fmt: skip
    frame = frame.join(points).reset_index()
    return tables.to_markdown(frame, heads, total=lambda seconds: tables.unbroken(duration(seconds)))


def run_table(results: Results, by_other_code: Collection[str] = ()) -> pd.DataFrame:
    """One row per run for tables/runs.csv. by_other_code: runs that other code made than would make them now."""
    frame = results.runs.copy()
    scores = results.last.groupby("run")["score"].agg(lambda x: float(x.mean(skipna=False)))
    frame.insert(6, "score", [scores.get(run) for run in frame["run"]])
    records = [results.records.get(run, {}) for run in frame["run"]]
    frame["config_digest"] = [record.get("config_digest") for record in records]
    frame["commit"] = [record.get("git", {}).get("commit") for record in records]
    frame["by_other_code"] = frame["run"].isin(list(by_other_code))
    return frame


def configured(study: Study, key: str, *, main: bool = False) -> list[Any]:
    """The different values of a dotted configuration key among a study's runs, in order of appearance.

    main: those alone of its base agent and its full one.
    """
    only = {v.name for v in (study.base, study.full) if v is not None} if main else study.variants
    configs = [dict(leaves(record["config"])) for run, record in study.results.records.items()
               if run.startswith(f"{study.name}/") and run.split("/")[2] in only]  # fmt: skip
    found = [config[key] for config in configs if config.get(key) is not None]
    return [value for i, value in enumerate(found) if value not in found[:i]]


def rows_of(choices: Sequence[Choice], kind: str, studies: Sequence[Study], *, key: bool = False) -> list[list[str]]:
    """Rows (what, paper, here, why, effect) of one kind; those of an experiment that is not among the studies are left
    out.

    Args:
      key: those alone that stand beside the verdicts.
    """
    # What is said of all goes for an experiment and those that begin with its settings, whose variants are elsewhere.
    general = [study for study in studies if not study.settings.extends] or studies
    rows = []
    for entry in choices:
        named = entry.experiments
        concerned = [study for study in studies if study.name in named] if named else general
        if entry.kind != kind or not concerned or (key and not entry.key):
            continue
        what, here = entry.what, entry.here
        if len(named) == 1 and len(studies) > 1:
            what = f"{concerned[0].title}: {what}"
        if entry.config is not None:
            values = {study.title: configured(study, entry.config, main=key) for study in concerned}
            found = [value for of_one in values.values() for value in of_one]
            if found and all(value in entry.paper_values for value in found):
                continue
            words = entry.words if key else {}
            texts = _values_text({t: [words.get(str(v), v) for v in of_one] for t, of_one in values.items()})
            here = (texts or here) if key else f"{here} ({texts})" if texts else here
        rows.append([what, entry.paper, here, entry.why, entry.effect])
    return rows


def _values_text(values: Mapping[str, list[Any]]) -> str:
    """Configured values by experiment's title; without the titles where all experiments have the same."""
    texts = {title: ", ".join(f"{len(v)} of them" if isinstance(v, list) and len(v) > MOST_NAMES else
                              ", ".join(map(str, v)) if isinstance(v, list) else str(v) for v in found)
             for title, found in values.items() if found}  # fmt: skip
    if len(set(texts.values())) > 1:
        return "; ".join(f"{title}: {text}" for title, text in texts.items())
    return next(iter(texts.values()), "")
