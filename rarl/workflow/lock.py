"""One workflow at a time in a folder, and going on after one that was killed.

Snakemake's own lock is a list of files that a killed process leaves behind, and it looks at it only after it has read
the state of all files. Here a process holds `.snakemake/workflow.lock` by a lock of the system, which ends with the
process however it dies; who gets it knows that what Snakemake left behind is stale.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rarl.errors import RarlError
from rarl.runs.run_folder import describe_holder, holder_of, note_holder

STATE = Path(".snakemake")
LOCK = "workflow.lock"
MARK = "RARL_WORKFLOW"  # environment variable of the jobs of a workflow: the folder that it works in
_SECONDS_TO_STOP = 120.0  # a training process ends its learner step and writes a checkpoint

log = logging.getLogger(__name__)


@contextlib.contextmanager
def hold(folder: str | os.PathLike = ".", *, tell: Callable[[str], Any] = log.warning) -> Iterator[None]:
    """Hold the workflow's lock of `folder` for the length of a `with` block, and clear up after a killed workflow.

    Jobs that the killed one left running are told to stop, as Ctrl-C does; training goes on from there when it is
    started again. `tell` gets a line about that.

    Raises:
        RarlError: a workflow is running here; or was started on another machine, where it may still run; or a job that
            it left does not stop.
    """
    folder = Path(folder).resolve()
    state = folder / STATE
    path = state / LOCK
    try:
        state.mkdir(exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise RarlError(f"{path}: cannot be written ({error.strerror}); the workflow needs it") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.2)  # it may have the lock and not yet have said who it is
            raise RarlError(
                f"a workflow is running in this folder ({describe_holder(holder_of(descriptor))}); wait for it, or "
                "stop it with Ctrl-C"
            ) from None
        found = holder_of(descriptor)  # of the holder before
        if any((state / "locks").glob("*")):
            here = socket.gethostname()
            if found.get("host", here) != here:
                raise RarlError(
                    f"the workflow in this folder was started on another machine ({describe_holder(found)}) and not "
                    f"ended; if it does not run there any more: `rm {STATE / LOCK}`, then again"
                )
        note_holder(descriptor)
        _stop(_left_jobs(folder), tell)
        shutil.rmtree(state / "locks", ignore_errors=True)
        yield
    finally:
        os.close(descriptor)


def mark_jobs() -> None:
    """Let the processes that this one starts be known as jobs of a workflow in this folder."""
    os.environ[MARK] = str(Path.cwd())


def _left_jobs(folder: Path) -> list[Any]:
    """The `rarl` processes that a workflow in `folder` started; while the lock is held, all of them are left over."""
    import psutil

    own = {os.getpid(), *(process.pid for process in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):  # ended meanwhile, or of another user
            if process.pid in own or process.environ().get(MARK) != str(folder):
                continue
            names = [Path(part).name for part in process.cmdline()[:3]]
            if "rarl" in names and names[0] not in ("bash", "sh"):
                found.append(process)
    return found


def _stop(jobs: list[Any], tell: Callable[[str], Any]) -> None:
    import psutil

    if not jobs:
        return
    pids = ", ".join(str(job.pid) for job in jobs)
    tell(f"A workflow was killed here; stopping the jobs that it left (process {pids}), which go on where they are.")
    for job in jobs:
        with contextlib.suppress(psutil.Error):
            job.terminate()
    _, alive = psutil.wait_procs(jobs, timeout=_SECONDS_TO_STOP)
    if alive:
        left = ", ".join(str(job.pid) for job in alive)
        raise RarlError(
            f"jobs of a killed workflow still run in this folder (process {left}); wait for them, or "
            f"`kill {left.replace(',', '')}`, then again"
        )
