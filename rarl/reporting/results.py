"""Reads results/S into tidy long-form tables. A missing, failed or damaged run is named and counted, never fatal."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rarl.config.files import ExperimentSettings, ScaleSettings
from rarl.config.scale import Dataset, read_experiments, read_scale, scales_in
from rarl.envs.spec import MEASURED_ON_DATA, EnvSpec, load, plays, spec_of
from rarl.errors import RarlError
from rarl.files import read_json
from rarl.mappings import leaves

IDENTITY = ["run", "experiment", "task_set", "variant", "seed"]
RUN_COLUMNS = [*IDENTITY, "status", "usable", "reason", "updates", "seconds_total", "seconds_training",
               "seconds_evaluation", "peak_memory_mb", "parameters", "resumed"]  # fmt: skip
TRIAL_COLUMNS = ["experiment", "variant", "task_set", "seed", "changed", "updates", "measure", "last", "core_seconds",
                 "scale", "settings"]  # fmt: skip
COLUMNS = {  # of a run's files, at least
    "evaluations": ["update", "task", "episodes", "return_mean", "return_std", "success_rate"],
    "training": ["update"],
    "retrieval": ["update"],
    "interventions": ["intervention", "task", "given_task", "episodes", "return_mean"],
    "attention": ["task", "quantity", "value"],
}
MEASURED = {"return_mean": "return", "success_rate": "success rate"}  # and must be numbers; by playing
# All evaluations' columns; what else there is an environment's own.
EVALUATED = {*COLUMNS["evaluations"], *MEASURED_ON_DATA, *IDENTITY, "environment", "expert", "score"}
_ON_DATA = {name: name.replace("_", " ") for name in MEASURED_ON_DATA}  # where nobody can play
_PARTS = ("config", "data", "git", "versions", "hardware", "parameters", "seconds", "expert_returns", "claims")
_WORDS = {"task", "given_task", "intervention", "quantity", "kind", "scale", "date", "commit", "machine",
          "experiment", "task_set", "variant", "base", "step", "device", "made", "id", "outcome"}  # fmt: skip
_NUMBERS_IF_THERE = {"success_rate"}  # in interventions of experiments that measure success


def spelled(task: Any) -> str:
    """The one spelling of a task in all tables: "lift red" and "lift-red" -> "lift-red"; levels keep theirs."""
    return str(task).replace(" ", "-")


@dataclass
class Results:
    """All that one scale's runs left behind.

    runs: one row per planned or found run (RUN_COLUMNS). The other tables hold rows of usable runs only, each with the
    run's identity and environment, those of returns with a score by the environment's `Score`; NaN where it cannot be
    known. trials: trainings with changed settings on tuning seeds; `last` is the mean of the column `measure` at
    the end. records: run -> run.json, its parts empty where it has none. galleries: run -> path. datasets: of the
    scale, by id. problems: (where, what), all that was wrong or odd.
    """

    scale: str
    root: Path
    runs: pd.DataFrame
    evaluations: pd.DataFrame
    training: pd.DataFrame
    retrieval: pd.DataFrame
    interventions: pd.DataFrame
    attention: pd.DataFrame
    trials: pd.DataFrame
    experiments: dict[str, ExperimentSettings] = field(default_factory=dict)
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    galleries: dict[str, Path] = field(default_factory=dict)
    datasets: Mapping[str, Dataset] = field(default_factory=dict)
    problems: list[tuple[str, str]] = field(default_factory=list)

    @cached_property
    def about(self) -> ScaleSettings:
        """What the scale says of itself."""
        return read_scale(self.scale, self.root)

    @cached_property
    def last(self) -> pd.DataFrame:
        """The evaluations at each run's last point: the result of a run (never its best point)."""
        frame = self.evaluations
        return frame[frame["update"] == frame.groupby("run")["update"].transform("max")]

    @cached_property
    def first(self) -> pd.DataFrame:
        """The evaluations before each run's first update."""
        return self.evaluations[self.evaluations["update"] == 0]

    def select(self, frame: pd.DataFrame, experiment: str, task_set: str | None = None, variant: str | None = None):
        """The rows of one experiment, task set and variant."""
        for column, value in (("experiment", experiment), ("task_set", task_set), ("variant", variant)):
            frame = frame if value is None else frame[frame[column] == value]
        return frame

    def table(self, name: str, columns: list[str], *, of_all_scales: bool = False) -> pd.DataFrame:
        """results/{scale}/`name`.csv, which belongs to no run, or results/`name`.csv; without rows where it is missing
        or damaged."""
        folder = Path("results", *([] if of_all_scales else [self.scale]))
        path = self.root / folder / f"{name}.csv"
        if not path.is_file():
            return pd.DataFrame(columns=columns)
        try:
            return _read_csv(path, columns)
        except _Damaged as damage:
            self.note(folder.as_posix(), damage)
            return pd.DataFrame(columns=columns)

    def note(self, where: str, what: object) -> None:
        """A problem, told once."""
        if (where, str(what)) not in self.problems:
            self.problems.append((where, str(what)))

    def title(self, experiment: str) -> str:
        """What an experiment is called."""
        return self.experiments[experiment].title if experiment in self.experiments else experiment

    def label(self, experiment: str, variant: str) -> str:
        """What a variant of an experiment is called."""
        own = self.experiments.get(experiment)
        extended = self.experiments.get((own and own.extends) or "")
        found = (e.variants[variant].label for e in (own, extended) if e is not None and variant in e.variants)
        return next(found, "") or variant

    def planned(self, experiment: str | None = None) -> pd.DataFrame:
        """The runs that the scale asks for."""
        runs = self.runs[self.runs["status"] != "not planned"]
        return runs if experiment is None else runs[runs["experiment"] == experiment]


def load_results(
    scale: str,
    root: str | Path = ".",
    planned_runs: Iterable[str] | None = None,
    planned_datasets: Mapping[str, Dataset] | None = None,
) -> Results:
    """Read results/{scale} under `root`.

    Args:
      planned_runs: names like "experiment/task-set/variant/seed-0"; those without a folder are "missing", others that
        are found are "not planned" and take no part. None: what is found was planned.
      planned_datasets: the scale's, by id.
    """
    root = Path(root)
    folder = root / "results" / scale
    places = sorted(path for path in folder.glob("runs/*/*/*/seed-*") if path.is_dir())
    found = [path.relative_to(folder / "runs").as_posix() for path in places]
    planned = found if planned_runs is None else list(planned_runs)
    loader = _Loader(scale, root, planned_datasets or {})
    for run in dict.fromkeys([*planned, *found]):
        loader.add(run, folder, planned=run in planned, present=run in found)
    return loader.finish()


def identity(run: str) -> dict[str, Any]:
    """The parts of a run's name. A name of another shape is an error."""
    parts = run.split("/")
    seed = parts[-1].removeprefix("seed-")
    if len(parts) != 4 or not parts[-1].startswith("seed-") or not seed.isdigit():
        raise RarlError(f"run {run!r}: the name must be experiment/task-set/variant/seed-N")
    return {"run": run, "experiment": parts[0], "task_set": parts[1], "variant": parts[2], "seed": int(seed)}


class _Damaged(Exception):
    """The reason why a run cannot be used."""


class _Loader:
    def __init__(self, scale: str, root: Path, datasets: Mapping[str, Dataset]):
        self.scale, self.root, self.datasets, self.experiments = scale, root, datasets, read_experiments(root)
        self.rows: list[dict[str, Any]] = []
        self.frames: dict[str, list[pd.DataFrame]] = {kind: [] for kind in COLUMNS}
        self.records: dict[str, dict[str, Any]] = {}
        self.galleries: dict[str, Path] = {}
        self.problems: list[tuple[str, str]] = []
        self.expert: dict[tuple[str, str], float] = {}  # (environment, task) -> return of the expert

    def add(self, run: str, folder: Path, *, planned: bool, present: bool) -> None:
        row = dict.fromkeys(RUN_COLUMNS) | {"usable": False, "reason": ""}
        try:
            row |= identity(run)
        except RarlError as error:
            self.problems.append((run, str(error)))
            return
        if not planned:
            row |= {"status": "not planned", "reason": "not in the plan of this scale; takes no part"}
        elif not present:
            row |= {"status": "missing", "reason": "planned, no result yet"}
        else:
            try:
                self._read(run, folder, row)
            except _Damaged as damage:
                row |= {"status": "damaged", "usable": False, "reason": str(damage)}
        if row["status"] in ("damaged", "failed", "excluded"):
            self.problems.append((run, f"{row['status']}: {row['reason']}"))
        self.rows.append(row)

    def _read(self, run: str, folder: Path, row: dict[str, Any]) -> None:
        here = folder / "runs" / run
        try:
            record = read_json(here / "run.json")
        except RarlError as error:
            raise _Damaged(str(error).replace(str(here) + "/", "")) from None
        if not isinstance(record, dict) or record.get("status") not in ("finished", "failed"):
            raise _Damaged("run.json: status must be finished or failed")
        if record.get("run", run) != run:
            raise _Damaged(f"run.json is that of {record['run']}")
        for key in _PARTS:
            record[key] = record.get(key) or {}
            if not isinstance(record[key], dict):
                raise _Damaged(f"run.json: {key} must be names with values, got {record[key]!r:.40}")
        self.records[run] = record
        row |= {name: record.get(name) for name in ("status", "updates", "peak_memory_mb", "resumed")}
        row |= {f"seconds_{of}": record["seconds"].get(of) for of in ("total", "training", "evaluation")}
        row |= {"reason": record.get("reason") or "", "parameters": record["parameters"].get("total")}
        environment = self._environment(record, row["experiment"])
        for task, value in record["expert_returns"].items():
            if isinstance(value, int | float) and 0 < value < math.inf:
                self.expert.setdefault((environment, spelled(task)), float(value))
        if record["status"] == "failed":
            row["reason"] = row["reason"] or "no reason recorded"
            return
        spec = spec_if_there(environment)
        played = spec is None or plays(spec)
        evaluations = self._evaluations(here / "evaluations.csv", record, played)
        at_end = evaluations[evaluations["update"] == evaluations["update"].max()]
        for column, what in (MEASURED if played else _ON_DATA).items():
            tasks = at_end["task"][~np.isfinite(at_end[column])]
            if len(tasks):
                reason = f"{what} is not a number on {len(tasks)} tasks, first {tasks.iloc[0]}"
                row |= {"status": "excluded", "reason": reason}
                return
        row["usable"] = True
        who = {key: row[key] for key in IDENTITY} | {"environment": environment}
        self.frames["evaluations"].append(evaluations.assign(**who))
        probes = folder / "probes" / run
        for kind, place in {"training": here, "retrieval": here, "interventions": probes, "attention": probes}.items():
            self._optional(kind, place / f"{kind}.csv", who, played)
        if (probes / "gallery.json").is_file():
            self.galleries[run] = probes / "gallery.json"

    def _evaluations(self, path: Path, record: dict[str, Any], played: bool) -> pd.DataFrame:
        frame = _read_csv(path, _columns("evaluations", played))
        if frame.empty:
            raise _Damaged(f"{path.name} has no rows")
        if not np.isfinite(frame["update"]).all() or frame.duplicated(["update", "task"]).any():
            raise _Damaged(f"{path.name}: an evaluation point is missing its update or is there twice")
        last = frame["update"].max()
        if record.get("updates") is not None and last != record["updates"]:
            raise _Damaged(f"{path.name} ends at update {last:g}, run.json says {record['updates']}")
        here, all_tasks = set(frame["task"][frame["update"] == last]), set(frame["task"])
        if here != all_tasks:
            raise _Damaged(f"{path.name}: the last point has {len(here)} of {len(all_tasks)} tasks")
        return frame

    def _optional(self, kind: str, path: Path, who: dict[str, Any], played: bool) -> None:
        if not path.is_file():
            return
        try:
            frame = _read_csv(path, _columns(kind, played))
        except _Damaged as damage:
            self.problems.append((f"{who['run']}/{path.name}", str(damage)))
            return
        if not frame.empty:
            self.frames[kind].append(frame.assign(**who))

    def finish(self) -> Results:
        tables = {
            kind: pd.concat(frames, ignore_index=True) if frames
            else pd.DataFrame(columns=[*COLUMNS[kind], "environment", *IDENTITY])
            for kind, frames in self.frames.items()
        }  # fmt: skip
        runs = pd.DataFrame(self.rows, columns=RUN_COLUMNS)
        for column in RUN_COLUMNS[RUN_COLUMNS.index("updates") :]:
            runs[column] = pd.to_numeric(runs[column], errors="coerce")
        runs["usable"] = runs["usable"].astype(bool)
        tables["evaluations"] = self._scored(tables["evaluations"])
        # The return on another task than the one in play, whose dataset was given, is measured on that task's reward.
        acted = tables["interventions"]
        given = acted["intervention"].astype(str).str.endswith("-given")
        acted = self._scored(acted.assign(measured=acted["given_task"].where(given, acted["task"])), "measured")
        tables["interventions"] = acted.drop(columns="measured")
        self._compare_configurations(runs)
        kept = {name: getattr(self, name) for name in ("experiments", "records", "galleries", "datasets")}
        return Results(self.scale, self.root, runs, **tables, trials=self._trials(), **kept, problems=self.problems)

    def _trials(self) -> pd.DataFrame:
        """Of results/search/*.jsonl at this scale, in their order; a damaged record is a problem. Those of the scale's
        experiments that were made at scales of scratch, which are not there any more, are its own. The same settings
        on the same seed with the same outcome are one trial, however often made."""
        trials: list[tuple] = []
        known: set[tuple] = set()
        here = {row["experiment"] for row in self.rows}
        others = set(scales_in(self.root)) - {self.scale}
        for path in sorted((self.root / "results" / "search").glob("*.jsonl")):
            experiment = self.experiments.get(path.stem)
            spec = spec_if_there(experiment.environment) if experiment else None
            for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
                try:
                    e: dict[str, Any] = json.loads(line)
                    updates, last = e["return_by_update"][-1]
                    measure = e.get("measure") or (spec.score.column if spec else "return_mean")  # older do not say
                    found = (path.stem, e["variant"], str(e["task_set"]), int(e["seed"]), tuple(e["changed"]),
                             int(updates), measure, float(last), float(e["core_seconds"]))  # fmt: skip
                    scale, same = str(e["scale"]), (*found[:5], e.get("digest") or number, repr(e["return_by_update"]))
                    if same not in known and (scale == self.scale or (scale not in others and path.stem in here)):
                        known.add(same)
                        trials.append((*found, scale, dict(leaves(e.get("config") or {}))))
                except (ValueError, KeyError, IndexError, TypeError, AttributeError):
                    self.problems.append((f"results/search/{path.name}", f"line {number} is not a record of a trial"))
        return pd.DataFrame(trials, columns=TRIAL_COLUMNS)

    def _scored(self, frame: pd.DataFrame, task: str = "task") -> pd.DataFrame:
        """With the columns `expert` and `score`.

        Args:
          task: the column that names the task which was measured on.
        """
        keys = zip(frame["environment"], frame[task], strict=True)
        frame = frame.assign(expert=np.array([self.expert.get(key, math.nan) for key in keys], dtype=float))
        frame["score"] = np.nan
        for environment, rows in frame.groupby("environment"):
            spec = spec_if_there(environment)
            if spec is None:
                self.problems.append((str(environment), "no such environment with a score; its runs have none"))
                continue
            raw = rows[spec.score.column] if spec.score.column in rows else pd.Series(np.nan, rows.index)
            for run in rows["run"][raw.isna()].unique():
                self.problems.append((f"{run}", f"rows without a {spec.score.column}; left out"))
            frame.loc[rows.index, "score"] = normalised(spec, rows[task], raw.astype(float), rows["expert"])
        return frame

    def _environment(self, record: dict[str, Any], experiment: str) -> str:
        """Whose score a run has: the configured one's, else that of its experiment."""
        if isinstance(environment := record["config"].get("environment"), str):
            return environment
        return self.experiments[experiment].environment if experiment in self.experiments else experiment

    def _compare_configurations(self, runs: pd.DataFrame) -> None:
        """Seeds of one variant must differ in nothing but the seed."""
        for (experiment, task_set, variant), group in runs[runs["usable"]].groupby(IDENTITY[1:4]):
            configurations = {repr(_without_seed(self.records[run]["config"])) for run in group["run"]}
            if len(configurations) > 1:
                where = f"{experiment}/{task_set}/{variant}"
                self.problems.append((where, f"its seeds were run with {len(configurations)} different configurations"))


def spec_if_there(environment: Any) -> EnvSpec | None:
    """The specification of an environment; None where it cannot be read."""
    try:
        return spec_of(str(environment))
    except RarlError:
        return None


def normalised(spec: EnvSpec, tasks: pd.Series, raw: pd.Series, expert: pd.Series | None = None) -> pd.Series:
    """Scores by an environment's `Score`, NaN where what counts as 0 and as 1 is not known.

    Args:
      tasks: as they are spelled in tables.
      raw: the score's column.
      expert: the return of the expert.
    """
    score = spec.score
    zero: Any = 0.0
    one: Any = 1.0
    if score.normaliser == "expert":
        one = expert
    elif score.normaliser is not None:
        zero, one, _ = ends_of(spec, tasks)
    return score.factor * (raw - zero) / (one - zero)


def ends_of(spec: EnvSpec, tasks: pd.Series) -> tuple[pd.Series, pd.Series, pd.Series]:
    """By the function that normalises scores: what counts as 0, as 1, and the least that there can be; NaN where it is
    not known.

    Args:
      tasks: as they are spelled in tables.
    """
    named, ends = {spelled(task): task for task in spec.tasks}, load(spec.score.normaliser)
    known = {task: ends(named.get(task, task)) or () for task in tasks.unique()}
    zero, one, least = (
        tasks.map({task: found[i] if len(found) > i else None for task, found in known.items()}).astype(float)
        for i in range(3)
    )
    return zero, one, least


def _without_seed(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    return sorted((key, repr(value)) for key, value in config.items() if key != "seed")


def _columns(kind: str, played: bool) -> list[str]:
    """The columns of a run's file at least, whether or not its agent could play."""
    if played or kind not in ("evaluations", "interventions"):
        return COLUMNS[kind]
    return [name for name in COLUMNS[kind] if name not in (*MEASURED, "return_std")] + list(_ON_DATA)


def _read_csv(path: Path, columns: list[str]) -> pd.DataFrame:
    """A CSV file with at least `columns`, of numbers except those of names, where none is missing; tasks in their one
    spelling. A torn or odd file raises _Damaged."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _Damaged(f"{path.name} not readable ({type(error).__name__})") from None
    if not text.strip():
        raise _Damaged(f"{path.name} is empty")
    if not text.endswith("\n"):
        raise _Damaged(f"{path.name}: the last line is torn")
    try:
        frame = pd.read_csv(io.StringIO(text))
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError) as error:
        raise _Damaged(f"{path.name}: {' '.join(str(error).split())}") from None
    missing = [column for column in columns if column not in frame]
    if missing:
        raise _Damaged(f"{path.name} lacks the columns {', '.join(missing)}")
    for column in (set(columns) | (_NUMBERS_IF_THERE & set(frame))) - _WORDS:
        numbers = pd.to_numeric(frame[column], errors="coerce")
        if (numbers.isna() & frame[column].notna()).any():
            raise _Damaged(f"{path.name}: column {column} holds something that is not a number")
        frame[column] = numbers.astype(float)
    for column in columns:
        if column in _WORDS and frame[column].isna().any():
            raise _Damaged(f"{path.name}: column {column} has an empty cell")
    for column in {"task", "given_task"} & set(frame):
        frame[column] = frame[column].map(spelled, na_action="ignore")
    return frame
