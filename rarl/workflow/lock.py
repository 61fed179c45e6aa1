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
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rarl.errors import RarlError
from rarl.runs.run_folder import describe_holder, holder_of, note_holder

STATE = Path(".snakemake")
SLURM_LOGS = STATE / "slurm_logs"  # which Snakemake's plugin for Slurm makes
LOCK = "workflow.lock"
MARK = "RARL_WORKFLOW"  # environment variable of the jobs of a workflow: the folder that it works in
_SECONDS_TO_STOP = 120.0  # a training process ends its learner step and writes a checkpoint

log = logging.getLogger(__name__)


@contextlib.contextmanager
def hold(folder: str | os.PathLike = ".", *, tell: Callable[[str], Any] = log.warning) -> Iterator[None]:
    """Hold the workflow's lock of `folder` for the length of a `with` block, and clear up after a killed workflow.

    Jobs that the killed one left running, here or in Slurm's queue, are told to stop, as Ctrl-C does; training goes on
    from there when it is started again. `tell` gets a line about that.

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
        _cancel(folder, tell)
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


def _left_in_slurm(folder: Path) -> list[str]:
    """The numbers of Slurm's jobs that a workflow in `folder` submitted; none where Slurm is not used.

    Snakemake's own note of a job's number is overwritten as soon as the job begins, so Slurm is asked: Snakemake's
    plugin gives it the folder and a comment with the rule.

    Raises:
        RarlError: Slurm was used here and does not answer.
    """
    if shutil.which("squeue") is None:
        return []
    try:
        told = _slurm("squeue", "--me", "--noheader", "--array", "--format=%i|%k|%Z")
    except RarlError:
        if not (folder / SLURM_LOGS).exists():  # Slurm's commands are installed, that is all
            return []
        raise
    jobs = [line.split("|", 2) for line in told.splitlines() if line.count("|") >= 2]
    return [number for number, rule, place in jobs if rule.startswith("rule_") and Path(place).resolve() == folder]


def _cancel(folder: Path, tell: Callable[[str], Any]) -> None:
    jobs = _left_in_slurm(folder)
    if not jobs:
        return
    tell(f"A workflow was killed here; cancelling the jobs that it left in Slurm ({', '.join(jobs)}).")
    with contextlib.suppress(RarlError):  # what had ended meanwhile; the queue tells
        _slurm("scancel", *jobs)
    end = time.monotonic() + _SECONDS_TO_STOP
    while jobs := _left_in_slurm(folder):
        if time.monotonic() > end:
            raise RarlError(
                f"jobs of a killed workflow are still in Slurm's queue ({', '.join(jobs)}); when `squeue --me` no "
                "longer shows them, again"
            )
        time.sleep(_SECONDS_TO_STOP / 60)


def _slurm(*command: str) -> str:
    """What a command of Slurm's prints.

    Raises:
        RarlError: it fails.
    """
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = f"no answer ({error})"
    else:
        if done.returncode == 0:
            return done.stdout
        reason = (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
    raise RarlError(
        f"{command[0]}: {reason}; a killed workflow may have left jobs in Slurm's queue, and they must not be started "
        f"twice. Again when Slurm answers, or, if it is gone, `rm -r {SLURM_LOGS}`"
    )
