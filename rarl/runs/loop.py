"""The training loop: everything about a run that does not depend on what is learned.

`train` drives a `Learner` through its budget, evaluates, logs, checkpoints, and publishes the run's products. A run
that is killed at any instant and started again ends bitwise as if nothing had happened (on a CPU), but for the seconds
it took.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch

from rarl import provenance
from rarl.errors import RarlError, RunFailedError
from rarl.files import check_folder_writable, digest, read_json, remove_leftovers, write_json, write_text
from rarl.progress import Progress, duration
from rarl.runs import checkpoints
from rarl.runs.run_folder import CHECKPOINT, MetricsLog, RunFolder, RunPaths, TensorBoard, read_record

FORMAT = 1
_LOGS = ("evaluations", "training", "retrieval")  # each a CSV file
EVALUATION_COLUMNS = ("update", "task", "episodes", "return_mean", "return_std", "success_rate")
_STARTS = "starts.json"

log = logging.getLogger(__name__)


class Learner(Protocol):
    """What learns. All of its state, random generators included, goes through `state_dict` and `load_state_dict`.

    The state must be complete: after `load_state_dict(state_dict())` in a new process every later update is the same.
    It may hold what `rarl.runs.checkpoints.encode` accepts. A learner may also have `final_state_dict()`, which is
    then what the published checkpoint holds (the networks without replay and optimiser); `diagnose()`, named numbers
    that are recorded at every evaluation (empty: none now); and `facts()`, JSON values by name that the run's record
    tells beside its settings.
    """

    def update(self) -> Mapping[str, float | torch.Tensor]:
        """One learner step. Returns named scalars: floats, or fresh tensors of one element (not written to again).

        Scalars on a GPU are only read when a row is logged, so they do not make the loop wait. Each is averaged over
        the updates of a log interval in which it is returned.
        """
        ...

    def evaluate(self) -> Sequence[Mapping[str, Any]]:
        """One row per task: task, episodes, and what is measured, the most telling first: return_mean, return_std,
        success_rate; without a simulator agreement, td_error."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything that `load_state_dict` needs."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore; tensors come on the CPU."""
        ...

    def parameter_counts(self) -> dict[str, int]:
        """Trained parameters per module, without the total."""
        ...


@dataclass(frozen=True)
class Budget:
    """How long a run is and how often it looks up.

    Args:
        updates: learner steps of the whole run.
        evaluate_every: updates between two evaluations; update 0 and the last one are always evaluated.
        log_every: updates per row of training.csv.
        checkpoint_seconds: seconds between two checkpoints.
    """

    updates: int
    evaluate_every: int
    log_every: int
    checkpoint_seconds: float = 60.0

    def __post_init__(self) -> None:
        for name, least in (("updates", 0), ("evaluate_every", 1), ("log_every", 1)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise RarlError(f"budget.{name}: {value!r} is not a whole number of at least {least}")
        if not self.checkpoint_seconds >= 0:
            raise RarlError(f"budget.checkpoint_seconds: {self.checkpoint_seconds!r} is not a time in seconds")


@dataclass(frozen=True)
class LoopSettings:
    """How a run is carried out. Nothing here changes what is learned, except `threads` by rounding.

    Args:
        device: "cpu" or "cuda:<index>", for the record.
        threads: torch's threads within an operation; None leaves torch's choice.
        tensorboard: also write TensorBoard files into the scratch folder, where they stay.
    """

    device: str = "cpu"
    threads: int | None = None
    tensorboard: bool = False


class Interrupted(SystemExit):
    """A signal ended the run after its state was saved; the exit code is 143 for SIGTERM and 130 for SIGINT."""


# -------------------------------------------------------------------------------------------------------------- the run


def train(
    build: Callable[[], Learner],
    budget: Budget,
    paths: RunPaths,
    *,
    record: Mapping[str, Any],
    settings: LoopSettings = LoopSettings(),
    force: bool = False,
    restart_if_changed: bool = False,
    record_failure: bool = False,
    before_publishing: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Train to the end of the budget, or from where an earlier process stopped; publish; return the run's record.

    Products: `evaluations.csv`, `training.csv`, `retrieval.csv` (a row per evaluation of an agent that retrieves) and,
    last, `run.json` in `paths.record`; `checkpoint.pt` with its `.sha256` in `paths.checkpoint`, holding {"update",
    "learner"}. Then the scratch folder is removed. Where `run.json` is, the other files are complete and belong to it.

    A run that is already finished with the same configuration, code and data does nothing. SIGTERM and SIGINT finish
    the step, save and raise `Interrupted`; the same call continues. Further signals are ignored until then; the third
    one ends the process at once, at the cost of the updates since the last checkpoint.

    Args:
        build: makes the learner; called once, after the folder is locked, the seeds set and the threads chosen.
        budget: how long.
        paths: where, see `RunPaths.of`.
        record: goes into run.json; must hold "run" (its name), "seed" and "config" (resolved, JSON values); should hold
            "code_digest" and "data" ({manifest path: SHA-256}). Everything else is passed through.
        settings: how.
        force: forget scratch state and earlier products, and start from update 0; not before all that can be checked
            is, and the learner is built.
        restart_if_changed: start from update 0, with a warning that lists the differing keys, where state or products
            were made with another configuration, code or data; otherwise that is refused. For a workflow manager, which
            knows that the new one is wanted.
        record_failure: a run that fails (not finite, out of memory) writes its products with status "failed" and
            returns; its checkpoint is the last good one. Otherwise it raises. Either way its scratch folder stays:
            started again, it goes on from the last good checkpoint.
        before_publishing: called when all is computed; if it raises, nothing is published and the scratch folder
            stays.

    Raises:
        RunFailedError: NaN or infinity, naming update and quantity; or out of memory.
        RarlError: another process writes the run; made with another configuration (keys listed); damaged checkpoints;
            disk full; products cannot be written where they belong.
    """
    record = _checked(record, budget)
    with RunFolder(paths.scratch, record["run"]) as folder:
        anew = "--force" if force else None  # why it starts from update 0, whatever there is
        if not force:
            finished = None
            try:
                finished = finished_record(paths, record)
            except checkpoints.ChangedError as changed:
                if not restart_if_changed:
                    raise
                anew = str(changed)
            if finished is not None:
                log.info("run %s is finished; nothing to do (--force trains it again)", record["run"])
                folder.remove()
                return finished
        for place in (paths.record, paths.checkpoint):
            check_folder_writable(place)
        if anew is None:  # else what the log file has of the run before stays until its record goes
            folder.start_log_file()
        with _StopSignals() as stop, torch_settings(settings, record["seed"]):
            run = _Run(build, budget, paths, folder, record, settings, stop, restart_if_changed, anew)
            reason = None
            with _full_disk_told(run):
                try:
                    run.start()
                    run.learn()
                except (RunFailedError, RuntimeError, MemoryError) as error:
                    if not isinstance(error, RunFailedError) and not _is_out_of_memory(error):
                        raise
                    reason = str(error) if isinstance(error, RunFailedError) else _out_of_memory_text(error, run.update)
                    log.error("run %s failed: %s", record["run"], reason)
                    if not record_failure:
                        raise RunFailedError(reason) from error
                finally:
                    run.close()
                before_publishing()
                result = run.publish(reason)
            stop.exit_if_asked()  # the scratch folder still holds the final state, in case the products are thrown away
        if reason is None:
            folder.remove()
    return result


def _forget(paths: RunPaths, folder: RunFolder, why: str) -> None:
    """The run of before is over: its record goes, and all that it left in the scratch folder."""
    (paths.record / "run.json").unlink(missing_ok=True)  # first: from now on the old products are not a result
    folder.stop_log_file()
    folder.clear()
    folder.start_log_file()
    (log.info if why == "--force" else log.warning)("starting from update 0: %s", why)


def finished_record(paths: RunPaths, record: Mapping[str, Any]) -> dict[str, Any] | None:
    """The record of the finished run at `paths`; None if there is none, or it failed.

    Raises:
        RarlError: it was made with another configuration, code or data (listed), or its other products are gone.
    """
    path = paths.record / "run.json"
    if not path.exists():
        return None
    found = read_record(path)
    if found["status"] != "finished":
        return None
    checkpoints.compare(_header_of(found), _header_of(record), path)
    products = [*(paths.record / f"{name}.csv" for name in _LOGS), paths.checkpoint / CHECKPOINT]
    for product in products:
        if not product.exists():
            raise RarlError(
                f"{path}: the run is finished, but {product} is missing; `rarl restore {product}`, or use --force"
            )
    return found


def _checked(record: Mapping[str, Any], budget: Budget) -> dict[str, Any]:
    for key in ("run", "seed", "config"):
        if key not in record:
            raise RarlError(f"the record of a run needs {key!r}")
    # How often checkpoints are written changes no product.
    lasting = {name: value for name, value in asdict(budget).items() if name != "checkpoint_seconds"}
    return {**record, "config_digest": record.get("config_digest") or digest(record["config"]), "budget": lasting}


def _header_of(record: Mapping[str, Any], update: int = 0) -> checkpoints.Header:
    return checkpoints.Header(
        run=record["run"],
        config=record.get("config") or {},
        update=update,
        code_digest=record.get("code_digest"),
        data=record.get("data") or {},
        budget=record.get("budget") or {},
    )


class _Run:
    """One process's work on one run."""

    # There from `start` on.
    learner: Learner
    evaluations: MetricsLog
    training: MetricsLog
    retrieval: MetricsLog
    tensorboard: TensorBoard

    def __init__(
        self,
        build: Callable[[], Learner],
        budget: Budget,
        paths: RunPaths,
        folder: RunFolder,
        record: dict[str, Any],
        settings: LoopSettings,
        stop: _StopSignals,
        restart_if_changed: bool,
        anew: str | None,
    ) -> None:
        self.anew = anew
        self.build, self.budget, self.paths, self.folder = build, budget, paths, folder
        self.record, self.settings, self.stop, self.restart_if_changed = record, settings, stop, restart_if_changed
        self.update = 0
        self.interval = _Interval()
        self.seconds = {"training": 0.0, "evaluation": 0.0, "other": 0.0}
        self.peak_memory_mb = 0.0
        self.starts: list[str] = []
        self.mark = self.saved = time.monotonic()

    # -- beginning

    def start(self) -> None:
        """Build the learner, and go to where the last process stopped or evaluate and save update 0.

        What was made before with something else is forgotten when the learner is there: if it cannot be built (its
        datasets do not fit, its memory does not suffice), nothing is lost.
        """
        loaded = self._load() if self.anew is None else None
        self.learner = self.build()
        if self.anew is not None:
            _forget(self.paths, self.folder, self.anew)
        starts = self.folder.path / _STARTS
        self.starts = [*(_read_starts(starts) if loaded else []), datetime.now(UTC).isoformat(timespec="seconds")]
        write_json(starts, self.starts)
        self.evaluations = MetricsLog(self.folder.path / "evaluations.csv")
        self.training = MetricsLog(self.folder.path / "training.csv")
        self.retrieval = MetricsLog(self.folder.path / "retrieval.csv")
        if loaded:
            self._restore(loaded)
            log.info("run %s goes on from update %d/%d", self.record["run"], self.update, self.budget.updates)
        else:
            log.info("run %s starts, %d updates", self.record["run"], self.budget.updates)
        self.tensorboard = TensorBoard(self.folder.path, enabled=self.settings.tensorboard, update=self.update)
        self._lap("other")
        if not loaded:
            self._evaluate()
            self._save()
        self.stop.exit_if_asked()

    def _load(self) -> checkpoints.Checkpoint | None:
        try:
            return checkpoints.load_latest(self.folder.path, expected=_header_of(self.record))
        except checkpoints.ChangedError as changed:
            if not self.restart_if_changed:
                raise
            self.anew = str(changed)
            return None

    def _restore(self, loaded: checkpoints.Checkpoint) -> None:
        state = loaded.state
        checkpoints.restore(self.learner, state["learner"], loaded.path)
        self.update = state["update"]
        self.interval.load_state_dict(state["interval"])
        for name in _LOGS:
            getattr(self, name).load_state_dict(state[name])
        self.seconds = dict(state["seconds"])
        self.peak_memory_mb = state["peak_memory_mb"]
        _set_random_state(state["random"])  # last: building and loading may have drawn numbers

    # -- middle

    def learn(self) -> None:
        """All updates that are left, with what falls due between them."""
        budget, learner, interval, stop = self.budget, self.learner, self.interval, self.stop
        with Progress(budget.updates, start=self.update) as progress:
            self.saved = time.monotonic()
            while self.update < budget.updates:
                scalars = learner.update()
                # Counted only now: a failing step names itself, and a step is done or not done.
                self.update += 1
                interval.add(self.update, scalars)
                last = self.update == budget.updates
                if last or self.update % budget.log_every == 0:
                    self._log(progress)
                if last or self.update % budget.evaluate_every == 0:
                    self._lap("training")
                    progress.show(**self._evaluate())
                if last or stop.asked or time.monotonic() - self.saved >= budget.checkpoint_seconds:
                    self._lap("training")
                    self._save()
                    stop.exit_if_asked()
                progress.step(self.update)
        self._lap("training")

    def _log(self, progress: Progress) -> None:
        means = self.interval.means()
        self._lap("training")
        self.training.append({"update": self.update, "seconds": round(self.seconds["training"], 3), **means})
        self.tensorboard.scalars(self.update, "training", means)
        progress.show(**{name: means[name] for name in list(means)[:1]})

    def _evaluate(self) -> dict[str, float]:
        """Append an evaluation of every task; what it draws from the global generators does not reach training."""
        state = _random_state()
        rows = [dict(row) for row in self.learner.evaluate()]
        diagnosis: dict[str, float] = getattr(self.learner, "diagnose", dict)()
        _set_random_state(state)
        measured = [name for name in rows[0] if name not in ("task", "episodes")] if rows else []
        for row in rows:
            for name in measured:
                if not math.isfinite(row[name]):
                    what = f"{name} of task {row.get('task')!r} is {row[name]}"
                    raise RunFailedError(f"update {self.update}: evaluation: {what}")
        for name, value in diagnosis.items():
            if not math.isfinite(value):
                raise RunFailedError(f"update {self.update}: diagnosis of retrieval: {name} is {value}")
        self.evaluations.append([{"update": self.update, **row} for row in rows])
        if diagnosis:
            self.retrieval.append({"update": self.update, **diagnosis})
            self.tensorboard.scalars(self.update, "retrieval", diagnosis)
        name = measured[0].removesuffix("_mean") if measured else "return"
        mean = math.fsum(row[measured[0]] for row in rows) / len(rows) if measured else 0.0
        self._lap("evaluation")
        self.tensorboard.scalars(self.update, "evaluation", {name: mean})
        where = f"update {self.update}/{self.budget.updates}"
        log.info("%s: evaluated, %s %.4g over %d tasks", where, name, mean, len(rows))
        return {name: mean}

    def _save(self) -> None:
        self.interval.read()
        learned = self.learner.state_dict()
        bad = checkpoints.first_not_finite(learned)
        if bad:
            raise RunFailedError(f"update {self.update}: {bad} after this update")
        self._lap("other")
        self.peak_memory_mb = max(self.peak_memory_mb, provenance.peak_memory_mb())
        state = {
            "update": self.update,
            "learner": learned,
            "random": _random_state(),
            "interval": self.interval.state_dict(),
            **{name: getattr(self, name).state_dict() for name in _LOGS},
            "seconds": dict(self.seconds),
            "peak_memory_mb": self.peak_memory_mb,
        }
        with self.stop.held():
            checkpoints.save(self.folder.path / CHECKPOINT, state, _header_of(self.record, self.update))
        self._lap("other")
        self.saved = time.monotonic()

    def _lap(self, kind: str) -> None:
        now = time.monotonic()
        self.seconds[kind] += now - self.mark
        self.mark = now

    # -- end

    def close(self) -> None:
        """Close what is open; the folder is the caller's."""
        if hasattr(self, "tensorboard"):
            self.tensorboard.close()

    def publish(self, reason: str | None) -> dict[str, Any]:
        """Write the products, `run.json` last, and return its content. `reason` says why the run failed, if it did."""
        learned, update = self._last_good() if reason else (self._final_state(), self.update)
        self._lap("other")
        total = sum(self.seconds.values())
        learner = getattr(self, "learner", None)  # none if the run failed before
        counts = learner.parameter_counts() if learner is not None else {}
        facts: dict[str, Any] = getattr(learner, "facts", dict)()
        result = {
            **facts,
            **self.record,
            **provenance.run_record(threads=torch.get_num_threads(), device=self.settings.device),
            "format": FORMAT,
            "status": "failed" if reason else "finished",
            "reason": reason,
            "parameters": {"total": sum(counts.values()), **counts},
            "seconds": {
                "total": round(total, 3),
                "training": round(self.seconds["training"], 3),
                "evaluation": round(self.seconds["evaluation"], 3),
            },
            "updates": self.update,
            "resumed": max(len(self.starts) - 1, 0),
            "started": self.starts[0] if self.starts else None,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        result["peak_memory_mb"] = max(self.peak_memory_mb, result["peak_memory_mb"])
        with self.stop.held():
            for folder in (self.paths.record, self.paths.checkpoint):
                folder.mkdir(parents=True, exist_ok=True)
                remove_leftovers(folder)
            (self.paths.record / "run.json").unlink(missing_ok=True)  # of an earlier failure: its files change now
            result["checkpoint_sha256"] = checkpoints.save(
                self.paths.checkpoint / CHECKPOINT,
                {"update": update, "learner": learned},
                _header_of(self.record, update),
                keep_previous=False,
            )
            columns = {"evaluations": EVALUATION_COLUMNS, "training": ("update", "seconds"), "retrieval": ("update",)}
            for name, least in columns.items():
                text = getattr(self, name).text if hasattr(self, name) else ""
                write_text(self.paths.record / f"{name}.csv", text or ",".join(least) + "\n")
            write_json(self.paths.record / "run.json", result)
        if not reason:
            log.info("run %s finished: %d updates, %s", self.record["run"], self.update, duration(total))
        return result

    def _final_state(self) -> Any:
        final = getattr(self.learner, "final_state_dict", None)
        return final() if final is not None else self.learner.state_dict()

    def _last_good(self) -> tuple[Any, int]:
        """State and update of the last checkpoint of a failed run; (None, 0) if it failed before its first."""
        with contextlib.suppress(RarlError, RuntimeError, MemoryError):
            loaded = checkpoints.load_latest(self.folder.path, expected=_header_of(self.record))
            if loaded is not None and hasattr(self, "learner"):
                self.learner.load_state_dict(loaded.state["learner"])
                return self._final_state(), loaded.header.update
        return None, 0


def _read_starts(path: Path) -> list[str]:
    with contextlib.suppress(RarlError):
        starts = read_json(path)
        if isinstance(starts, list):
            return [str(start) for start in starts]
    return []


# ------------------------------------------------------------------------------------------------- scalars of a learner


class _Interval:
    """The scalars since the last row of the log.

    Floats and CPU tensors are read at once. GPU tensors are kept and read together, so that the GPU is waited for once
    per row. Whatever is not finite is named with the very update that returned it.
    """

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = {}
        self._unread: dict[str, list[tuple[int, torch.Tensor]]] = {}

    def add(self, update: int, scalars: Mapping[str, float | torch.Tensor]) -> None:
        for name, value in scalars.items():
            if isinstance(value, torch.Tensor):
                if value.device.type != "cpu":
                    self._unread.setdefault(name, []).append((update, value.detach()))
                    continue
                value = value.item()
            self._add(update, name, float(value))

    def _add(self, update: int, name: str, value: float) -> None:
        if not math.isfinite(value):
            raise RunFailedError(f"update {update}: {name} is {value}")
        values = self._values.get(name)
        if values is None:
            values = self._values[name] = []
        values.append(value)

    def read(self) -> None:
        """Read what is still on a GPU. The earliest update that is not finite is the one that is named."""
        unread, self._unread = self._unread, {}
        found = []
        for name, pairs in unread.items():
            values = torch.stack([tensor.reshape(()) for _, tensor in pairs]).tolist()
            found += [(update, name, value) for (update, _), value in zip(pairs, values, strict=True)]
        for update, name, value in sorted(found, key=lambda triple: triple[0]):
            self._add(update, name, value)

    def means(self) -> dict[str, float]:
        """The mean of each scalar, and a new interval."""
        self.read()
        means = {name: math.fsum(values) / len(values) for name, values in self._values.items()}
        self._values = {}
        return means

    def state_dict(self) -> dict[str, list[float]]:
        return {name: list(values) for name, values in self._values.items()}

    def load_state_dict(self, state: Mapping[str, list[float]]) -> None:
        self._values = {name: list(values) for name, values in state.items()}


# --------------------------------------------------------------------------------------------------- process-wide state


def _random_state() -> dict[str, Any]:
    """The global generators of torch (CPU, and GPUs if in use), NumPy and Python."""
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        "numpy": np.random.get_state(legacy=False),  # noqa: NPY002  (libraries may draw from it)
        "python": random.getstate(),
    }


def _set_random_state(state: Mapping[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    np.random.set_state(state["numpy"])  # noqa: NPY002
    random.setstate(state["python"])


@contextlib.contextmanager
def torch_settings(settings: LoopSettings, seed: int) -> Iterator[None]:
    """Threads, determinism and seeds of this process; threads and determinism are put back afterwards.

    torch is asked for deterministic algorithms on a CPU, where that costs next to nothing.
    """
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    warn_only, memory = torch.is_deterministic_algorithms_warn_only_enabled(), cast(Any, torch.utils.deterministic)
    fill = memory.fill_uninitialized_memory
    try:
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        torch.use_deterministic_algorithms(settings.device == "cpu", warn_only=True)
        memory.fill_uninitialized_memory = False  # a cost without a use here
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        random.seed(seed)
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        memory.fill_uninitialized_memory = fill


class _StopSignals:
    """SIGTERM and SIGINT as a wish: the loop asks `asked` between two steps."""

    def __init__(self) -> None:
        self.asked: signal.Signals | None = None
        self._count = 0
        self._holding = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _StopSignals:
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(ValueError):  # not in the main thread: the caller's business
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def _handle(self, number: int, _frame: Any) -> None:
        self._count += 1
        if self.asked is None:
            self.asked = signal.Signals(number)
        elif self._count >= 3 and not self._holding:
            raise Interrupted(128 + self.asked)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """While files are written no signal raises."""
        self._holding = True
        try:
            yield
        finally:
            self._holding = False

    def exit_if_asked(self) -> None:
        if self.asked is not None:
            log.warning("stopped by %s; all is saved, the same command goes on from here", self.asked.name)
            raise Interrupted(128 + self.asked)


@contextlib.contextmanager
def _full_disk_told(run: _Run) -> Iterator[None]:
    """A full disk is one line; what was saved before is intact, because every file is replaced as a whole."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        where = f"run {run.record['run']}, after update {run.update}"
        raise RarlError(f"{where}: {error.strerror}; what was saved before is intact") from error


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("can't allocate memory" in text or "out of memory" in text)


def _out_of_memory_text(error: BaseException, update: int) -> str:
    """What was asked for and what there is, in one line."""
    lines = str(error).strip().splitlines()
    needed = lines[-1].strip() if lines else "an allocation failed"
    text = f"out of memory after update {update} ({needed}"
    with contextlib.suppress(OSError, ValueError):
        text += f"; {os.sysconf('SC_AVPHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 1e9:.1f} GB free"
    return text + "); use smaller batches, or a machine with more"
