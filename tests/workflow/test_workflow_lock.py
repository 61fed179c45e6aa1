"""rarl.workflow.lock: alone in a folder, and going on after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from rarl.errors import RarlError
from rarl.workflow import lock as workflow_lock
from rarl.workflow.lock import MARK, hold

HOLDER = """
import sys, time
from rarl.workflow.lock import hold
with hold(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""


def start(folder: Path) -> subprocess.Popen:
    """A process that holds the lock of `folder`."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def leave_snakemakes_lock(folder: Path) -> Path:
    path = folder / ".snakemake/locks/0.input.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("data/manifest.json\n")
    return path


def test_two_are_refused_and_a_killed_one_is_cleared_up_after(tmp_path: Path) -> None:
    process = start(tmp_path)
    try:
        left = leave_snakemakes_lock(tmp_path)
        with (
            pytest.raises(RarlError, match=rf"running in this folder \(process {process.pid} on host .*Ctrl-C"),
            hold(tmp_path),
        ):
            pass
        assert left.exists()
    finally:
        process.kill()
        process.wait()
    with hold(tmp_path):
        assert not left.exists()
    with hold(tmp_path):
        pass


def test_a_folder_of_another_machine_is_left_alone(tmp_path: Path) -> None:
    left = leave_snakemakes_lock(tmp_path)
    note = tmp_path / ".snakemake" / workflow_lock.LOCK
    note.write_text(json.dumps({"pid": 1, "host": "elsewhere"}))
    with (
        pytest.raises(RarlError, match=r"another machine \(process 1 on host elsewhere\).*rm .snakemake/workflow.lock"),
        hold(tmp_path),
    ):
        pass
    assert left.exists()
    note.unlink()
    with hold(tmp_path):
        assert not left.exists()
    note.write_text(json.dumps({"pid": 1, "host": "elsewhere"}))  # which ended there as it should
    with hold(tmp_path):
        pass


JOB = """
import pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])
signal.signal(signal.SIGTERM, lambda *_: ((folder / "saved").touch(), sys.exit(0)))
(folder / "started").touch()
time.sleep(600)
"""


def test_jobs_that_a_killed_workflow_left_are_stopped_and_no_others(tmp_path: Path) -> None:
    script = tmp_path / "rarl"  # as `python .../rarl train` is called
    script.write_text(JOB)
    processes = []
    for name, mark in (("left", str(tmp_path.resolve())), ("elsewhere", "/another/folder"), ("by-hand", None)):
        folder = tmp_path / name
        folder.mkdir()
        environment = {key: value for key, value in os.environ.items() if key != MARK} | ({MARK: mark} if mark else {})
        processes.append(subprocess.Popen([sys.executable, str(script), str(folder)], env=environment))
        while not (folder / "started").exists():
            assert processes[-1].poll() is None
            time.sleep(0.02)
    told: list[str] = []
    try:
        with hold(tmp_path, tell=told.append):
            assert (tmp_path / "left/saved").exists()
            assert not psutil.pid_exists(processes[0].pid) or processes[0].wait(10) == 0
            assert [process.poll() for process in processes[1:]] == [None, None]
        assert len(told) == 1
        assert f"(process {processes[0].pid})" in told[0]
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_a_job_that_does_not_stop_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "rarl"
    script.write_text(JOB.replace('lambda *_: ((folder / "saved").touch(), sys.exit(0))', "signal.SIG_IGN"))
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)], env=os.environ | {MARK: str(tmp_path.resolve())}
    )
    try:
        while not (tmp_path / "started").exists():
            time.sleep(0.02)
        monkeypatch.setattr(workflow_lock, "_SECONDS_TO_STOP", 0.1)
        with pytest.raises(RarlError, match=rf"still run in this folder \(process {process.pid}\)"), hold(tmp_path):
            pass
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()


SLURM = """#!{python}
import pathlib, sys
queue = pathlib.Path({queue!r})
if not queue.exists():
    sys.exit("squeue: error: no controller")
lines = queue.read_text().splitlines()
if pathlib.Path(sys.argv[0]).name == "squeue":
    print(*lines, sep="\\n")
else:
    queue.write_text("\\n".join(line for line in lines if line.split("|")[0] not in sys.argv[1:]))
"""


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that `squeue` reads and `scancel` shortens; without it Slurm does not answer."""
    found = tmp_path / "queue"
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("squeue", "scancel"):
        (programs / name).write_text(SLURM.format(python=sys.executable, queue=str(found)))
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    return found


def test_jobs_left_in_slurms_queue_are_cancelled_and_no_others(tmp_path: Path, queue: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    others = [f"1|rule_train_run_wildcards_a|{tmp_path}", f"2|my own|{project}", f"3||{project}"]
    queue.write_text("\n".join([*others, f"4|rule_train_run_wildcards_a|{project}", f"5_7|rule_probe_run|{project}"]))
    told: list[str] = []
    with hold(project, tell=told.append):
        assert queue.read_text().splitlines() == others
    assert len(told) == 1
    assert "(4, 5_7)" in told[0]
    with hold(project, tell=told.append):
        assert len(told) == 1


def test_jobs_that_stay_in_slurms_queue_are_told(tmp_path: Path, queue: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queue.write_text(f"4|rule_train_run|{tmp_path}")
    (queue.parent / "bin/scancel").write_text("#!/bin/sh\n")
    monkeypatch.setattr(workflow_lock, "_SECONDS_TO_STOP", 0.1)
    with pytest.raises(RarlError, match=r"still in Slurm's queue \(4\)"), hold(tmp_path):
        pass


def test_a_slurm_that_does_not_answer_is_told_where_it_was_used(tmp_path: Path, queue: Path) -> None:
    with hold(tmp_path):
        pass
    (tmp_path / workflow_lock.SLURM_LOGS).mkdir()
    with pytest.raises(RarlError, match=r"squeue: .*no controller; .*rm -r .snakemake/slurm_logs"), hold(tmp_path):
        pass


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / ".snakemake").write_text("in the way")
    with pytest.raises(RarlError, match=r"workflow\.lock: cannot be written"), hold(tmp_path):
        pass
