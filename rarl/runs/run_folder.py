"""Where a run's files are, the record among them, and its scratch folder: who writes it, and its logs.

Everything in the scratch folder can be thrown away; what must last is published to `results/` by the loop. One process
holds the folder, by a file lock that the system drops with the process, however it dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import shutil
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rarl.errors import RarlError
from rarl.files import csv_text, read_json, remove_leftovers, write_text

CHECKPOINT = "checkpoint.pt"
LOCK = "lock"
LOG = "train.log"
TENSORBOARD = "tensorboard"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunPaths:
    """Where a run keeps what: `scratch` while it works; `record` (small, in git) and `checkpoint` (DVC) at its end."""

    scratch: Path
    record: Path
    checkpoint: Path

    @classmethod
    def of(cls, run: str, scale: str, root: str | os.PathLike = ".") -> RunPaths:
        """The paths of run "experiment/task-set/variant/seed-0" at a scale, under the project's root."""
        root = Path(root)
        return cls(
            scratch=root / "scratch" / scale / "runs" / run,
            record=root / "results" / scale / "runs" / run,
            checkpoint=root / "results" / scale / "checkpoints" / run,
        )


def read_record(path: str | os.PathLike) -> dict[str, Any]:
    """The record of a run; "run" and "status" are texts, "config", "data" and "budget" mappings where they are there.

    Raises:
        RarlError: there is none, or it is not the record of a run.
    """
    found = read_json(path)
    if not isinstance(found, dict):
        raise RarlError(f"{path}: not the record of a run")
    wrong = [key for key in ("run", "status") if not isinstance(found.get(key), str)]
    wrong += [key for key in ("config", "data", "budget") if not isinstance(found.get(key, {}), dict)]
    if wrong:
        raise RarlError(f"{path}: not the record of a run ({wrong[0]!r} is {found.get(wrong[0])!r:.40})")
    return found


def sidecar(path: str | os.PathLike) -> Path:
    """`X.sha256` of the checkpoint `X`."""
    path = Path(path)
    return path.with_name(path.name + ".sha256")


def checksums_of(path: str | os.PathLike) -> list[str] | None:
    """The checksums that the sidecar of the checkpoint `path` allows, none if it is unreadable; None: no sidecar."""
    try:
        return [line.split()[0] for line in sidecar(path).read_text(encoding="utf-8").splitlines() if line.strip()]
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        return []


class RunFolder:
    """A run's scratch folder, held exclusively: `with RunFolder(path, run) as folder`.

    Raises:
        RarlError: another process holds it (named with its host), or it cannot be written.
    """

    def __init__(self, path: str | os.PathLike, run: str) -> None:
        self.path = Path(path)
        self.run = run
        self._lock: int | None = None
        self._handler: logging.Handler | None = None

    def __enter__(self) -> RunFolder:
        try:
            self._lock = self._hold()
        except OSError as error:
            raise RarlError(f"{self.path}: cannot be used as a scratch folder ({error.strerror})") from error
        remove_leftovers(self.path)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_log_file()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _hold(self) -> int:
        path = self.path / LOCK
        while True:
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            except FileNotFoundError:  # the holder has just finished and removed the folder
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = describe_holder(holder_of(descriptor))
                os.close(descriptor)
                raise RarlError(f"run {self.run} is being written by {holder}: {self.path}") from None
            except OSError:
                os.close(descriptor)
                raise
            try:
                if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                    break
            except FileNotFoundError:
                pass
            os.close(descriptor)  # locked a file that its holder had removed; take the new one
        note_holder(descriptor)
        return descriptor

    def start_log_file(self) -> None:
        """Copy what the `rarl` loggers say to `train.log` as plain lines, until the folder is left."""
        logger = logging.getLogger("rarl")
        self._handler = logging.FileHandler(self.path / LOG, encoding="utf-8", delay=True)
        self._handler.setLevel(logging.INFO)
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger.addHandler(self._handler)

    def stop_log_file(self) -> None:
        """Close `train.log`."""
        if self._handler is not None:
            logging.getLogger("rarl").removeHandler(self._handler)
            self._handler.close()
            self._handler = None

    def clear(self) -> None:
        """Remove everything but the lock: the next run starts from update 0."""
        for entry in self.path.iterdir():
            if entry.name == LOCK:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()

    def remove(self) -> None:
        """Remove the folder of a run whose products are published; TensorBoard's files stay if there are any."""
        self.stop_log_file()
        for entry in list(self.path.iterdir()):
            if entry.name in (LOCK, TENSORBOARD):
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)
        if not (self.path / TENSORBOARD).exists():
            (self.path / LOCK).unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                self.path.rmdir()


def note_holder(descriptor: int) -> None:
    """Write into the file of a lock, which this process holds, who holds it."""
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode(), 0)


def holder_of(descriptor: int) -> dict[str, Any]:
    """{"pid", "host"} of the process that holds a lock, or held it last; empty where its file does not say."""
    try:
        note = json.loads(os.pread(descriptor, 4096, 0))
        return {"pid": int(note["pid"]), "host": str(note["host"])}
    except (ValueError, KeyError, TypeError):
        return {}


def describe_holder(holder: Mapping[str, Any]) -> str:
    """What `holder_of` has found, for people."""
    if not holder:
        return "another process"
    text = f"process {holder['pid']} on host {holder['host']}"
    if holder["host"] == socket.gethostname() and not _alive(holder["pid"]):
        text += " (which has ended, but a process that it started still holds the folder)"
    return text


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


class MetricsLog:
    """Rows of numbers as CSV: in memory, mirrored to a file that can be followed while a run works.

    The rows are part of the run's checkpoint (`state_dict`), so a resumed run continues exactly after the last row that
    the checkpoint knows: rows written after it, and a line torn by a kill, are gone from the file when the state is
    loaded.

    Columns are those of the first row; later ones are added at the end.

    Args:
        path: the CSV file; what is there is removed.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        self.columns: list[str] = []
        self.rows: list[list[str]] = []
        self.path.unlink(missing_ok=True)

    def append(self, rows: Mapping[str, Any] | Iterable[Mapping[str, Any]]) -> None:
        """Add one row or several; they reach the file before this returns. A missing value is an empty cell.

        Raises:
            RarlError: a full disk.
        """
        rows = [rows] if isinstance(rows, Mapping) else list(rows)
        known = len(self.columns)
        for row in rows:
            self.columns += [name for name in row if name not in self.columns]
        new = [[_cell(row.get(name)) for name in self.columns] for row in rows]
        self.rows += new
        if len(self.columns) > known:
            self._rewrite()
        else:
            self._append_text(csv_text(new))

    @property
    def text(self) -> str:
        """The whole file, header included."""
        width = len(self.columns)
        return csv_text([self.columns, *(row + [""] * (width - len(row)) for row in self.rows)]) if width else ""

    def state_dict(self) -> dict[str, Any]:
        """Columns and rows, for a checkpoint."""
        return {"columns": list(self.columns), "rows": [list(row) for row in self.rows]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over columns and rows; the file then holds exactly these."""
        self.columns = list(state["columns"])
        self.rows = [list(row) for row in state["rows"]]
        self._rewrite()

    def _rewrite(self) -> None:
        try:
            write_text(self.path, self.text)
        except OSError as error:
            raise RarlError(f"{self.path}: cannot be written ({error.strerror})") from error

    def _append_text(self, text: str) -> None:
        # An unbuffered write: nothing can be lost or complain later, when the file is closed.
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                data = text.encode()
                while data:
                    data = data[os.write(descriptor, data) :]
            finally:
                os.close(descriptor)
        except OSError as error:
            raise RarlError(f"{self.path}: cannot be written ({error.strerror})") from error


def _cell(value: Any) -> str:
    """Text of a cell. Floats as `repr`: the shortest text that reads back to the same bits, in every locale."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float):
        return repr(float(value))  # also for NumPy's float64, whose own repr names the type
    return str(value)


class TensorBoard:
    """Scalars for TensorBoard, as a convenience: nothing that goes wrong here stops a run.

    What is said before the process's first update waits for the next, since loading the libraries takes longer than it.

    Args:
        folder: the run's scratch folder.
        enabled: False makes every call do nothing.
        update: where the process begins; on resume, what was written from the next one on is hidden.
    """

    def __init__(self, folder: str | os.PathLike, *, enabled: bool, update: int = 0) -> None:
        self._folder, self._enabled, self._first = str(Path(folder) / TENSORBOARD), enabled, update
        self._waiting: list[tuple[int, str, float]] = []
        self._writer: Any = None

    def scalars(self, update: int, prefix: str, values: Mapping[str, Any]) -> None:
        """Write the numbers among `values` as prefix/name."""
        self._waiting += [(update, f"{prefix}/{k}", v) for k, v in values.items() if isinstance(v, int | float)]
        if update > self._first:
            self._write()

    def _write(self) -> None:
        waiting, self._waiting = self._waiting, []
        if self._enabled and self._writer is None and waiting:
            try:
                from torch.utils.tensorboard import SummaryWriter

                self._writer = SummaryWriter(self._folder, purge_step=self._first + 1 if self._first else None)
            except Exception as error:
                log.warning("no TensorBoard files for this run: %s", error)
                self._enabled = False
        self._try(lambda writer: [writer.add_scalar(name, value, update) for update, name, value in waiting])

    def close(self) -> None:
        """Flush and close."""
        self._write()
        self._try(lambda writer: writer.close())

    def _try(self, call: Any) -> None:
        if self._writer is None:
            return
        try:
            call(self._writer)
        except Exception as error:
            log.warning("TensorBoard files end here: %s", error)
            self._writer, self._enabled = None, False
