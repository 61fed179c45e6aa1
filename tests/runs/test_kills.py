"""Real processes, really killed: whatever happens to a run, started again it ends as the undisturbed one."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rarl.runs import checkpoints
from rarl.runs.run_folder import RunPaths
from tests.runs import toy_learner
from tests.runs.toy_learner import RUN

# Long enough to be hit, short enough to be repeated; a checkpoint about every tenth update.
LONG = {"updates": 150, "evaluate_every": 40, "log_every": 7, "checkpoint_seconds": 0.02, "fault": {"sleep": 0.003}}


def paths(root) -> RunPaths:
    return RunPaths.of(RUN, "smoke", root)


def products(root) -> dict:
    where = paths(root)
    with open(where.record / "training.csv", newline="") as file:
        training = [{key: cell for key, cell in row.items() if key != "seconds"} for row in csv.DictReader(file)]
    return {
        "evaluations": (where.record / "evaluations.csv").read_bytes(),
        "retrieval": (where.record / "retrieval.csv").read_bytes(),
        "training": training,
        "checkpoint": (where.checkpoint / "checkpoint.pt").read_bytes(),
    }


def record(root) -> dict:
    return json.loads((paths(root).record / "run.json").read_text())


def until(condition, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.002)


def until_update(root, update: int) -> None:
    """Wait for a row of training.csv at or after `update`."""
    file = paths(root).scratch / "training.csv"

    def reached() -> bool:
        try:
            last = file.read_text().splitlines()[-1].split(",")[0]
        except (OSError, IndexError):
            return False
        return last.isdigit() and int(last) >= update

    until(reached)


@pytest.fixture(scope="module")
def undisturbed(toys, tmp_path_factory):
    root = tmp_path_factory.mktemp("undisturbed")
    assert toys.run(root=root, **LONG) == 0
    return products(root)


@pytest.mark.parametrize("seed", range(4))
def test_sigkill_at_random_moments(toys, undisturbed, tmp_path, seed):
    chance = random.Random(seed)
    kills = 0
    for attempt in range(100):
        pid = toys.start(tmp_path / "errors", root=tmp_path, **LONG)
        if attempt < 6:
            time.sleep(chance.uniform(0.02, 0.15))
            os.kill(pid, signal.SIGKILL)
        code = toys.wait(pid)
        if code == 0:
            break
        assert code == -signal.SIGKILL, (tmp_path / "errors").read_text()
        kills += 1
        assert not (paths(tmp_path).record / "run.json").exists() or record(tmp_path)["status"] == "finished"
    assert kills >= 2, "no kill hit the run: the test shows nothing"
    assert products(tmp_path) == undisturbed
    assert record(tmp_path)["updates"] == 150
    assert not paths(tmp_path).scratch.exists()


def test_sigkill_while_the_products_are_written(toys, undisturbed, tmp_path):
    """The run is over but for its products, and killed again and again while it publishes them."""
    stopped = tmp_path / "stopped"
    chance = random.Random(2)
    pid = toys.start(root=stopped, **{**LONG, "fault": {"sleep": 0.003, "raise_at": 150}})
    toys.wait(pid)
    seen = set()
    for number in range(10):
        root = tmp_path / f"copy {number}"
        shutil.copytree(stopped, root)
        pid = toys.start(root=root, fsync_seconds=0.003, **LONG)
        until(lambda root=root: paths(root).record.exists())
        time.sleep(chance.uniform(0, 0.04))
        os.kill(pid, signal.SIGKILL)
        toys.wait(pid)
        seen.add(record_exists(root))
        if record_exists(root):  # then everything else is there already
            assert products(root) == undisturbed
        assert toys.run(root=root, **LONG) == 0
        assert products(root) == undisturbed
        assert not paths(root).scratch.exists()
    assert False in seen, "no kill hit the publishing: the test shows nothing"


def record_exists(root) -> bool:
    return (paths(root).record / "run.json").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_finishes_the_step_saves_and_ends_with_its_code(toys, undisturbed, tmp_path, number, code):
    errors = tmp_path / "errors"
    slow = {**LONG, "checkpoint_seconds": 1000.0}
    pid = toys.start(errors, root=tmp_path, **slow)
    until_update(tmp_path, 28)
    os.kill(pid, number)
    assert toys.wait(pid) == code
    assert f"stopped by {number.name}" in errors.read_text()
    assert "Traceback" not in errors.read_text()
    assert not record_exists(tmp_path)
    update = checkpoints.load_latest(paths(tmp_path).scratch).header.update
    assert update >= 28
    assert toys.run(errors, root=tmp_path, **slow) == 0
    assert f"goes on from update {update}/150" in errors.read_text()
    assert products(tmp_path) == undisturbed
    assert record(tmp_path)["resumed"] == 1


def test_a_storm_of_signals_corrupts_nothing(toys, undisturbed, tmp_path):
    """Many signals, as a terminal, a workflow manager and an impatient person send them, mostly while it saves."""
    chance = random.Random(3)
    stops = 0
    for attempt in range(100):
        pid = toys.start(root=tmp_path, **{**LONG, "checkpoint_seconds": 0.0})
        if attempt < 6:
            time.sleep(chance.uniform(0.05, 0.2))
            for _ in range(8):
                try:
                    os.kill(pid, chance.choice([signal.SIGTERM, signal.SIGINT]))
                except ProcessLookupError:
                    break
                time.sleep(chance.uniform(0, 0.003))
        code = toys.wait(pid)
        if code == 0:
            break
        assert code in (130, 143, -signal.SIGTERM, -signal.SIGINT)
        stops += code in (130, 143)
    assert stops >= 2
    assert products(tmp_path) == undisturbed


def test_a_second_process_is_refused_by_name_and_the_first_is_not_disturbed(toys, undisturbed, tmp_path):
    errors = tmp_path / "errors"
    first = toys.start(root=tmp_path, **LONG)
    until_update(tmp_path, 7)
    assert toys.run(errors, root=tmp_path, **LONG) == 2
    assert toys.run(errors, root=tmp_path, force=True, **LONG) == 2
    assert errors.read_text().count(f"error: run {RUN} is being written by process {first} on host ") == 2
    assert toys.wait(first) == 0
    assert products(tmp_path) == undisturbed


def test_an_orphan_keeps_its_folder_until_it_is_gone(toys, undisturbed, tmp_path):
    pid = toys.start(root=tmp_path, **LONG)
    until_update(tmp_path, 7)
    os.kill(pid, signal.SIGSTOP)
    assert toys.run(root=tmp_path, **LONG) == 2
    os.kill(pid, signal.SIGKILL)
    toys.wait(pid)
    assert toys.run(root=tmp_path, **LONG) == 0
    assert products(tmp_path) == undisturbed


def test_full_disk_is_a_message_and_the_run_goes_on_when_there_is_room(toys, undisturbed, tmp_path):
    errors = tmp_path / "errors"
    pid = toys.start(root=tmp_path, **LONG)
    until_update(tmp_path, 21)
    os.kill(pid, signal.SIGKILL)
    toys.wait(pid)
    assert toys.run(errors, root=tmp_path, file_limit=9000, **LONG) == 2
    last = errors.read_text().splitlines()[-1]
    assert last.startswith("error: ")
    assert "could not be written (File too large); the one before is intact" in last
    assert "Traceback" not in errors.read_text()
    assert toys.run(root=tmp_path, **LONG) == 0
    assert products(tmp_path) == undisturbed


@pytest.fixture(scope="module")
def command(undisturbed, tmp_path_factory):
    """The toy as an ordinary command, in a folder that is no repository, without HOME, git, or a locale."""
    script = tmp_path_factory.mktemp("elsewhere") / "toy_learner.py"
    shutil.copy(toy_learner.__file__, script)
    environment = {"PATH": "/nonexistent", "LC_ALL": "C", "TZ": "Pacific/Auckland", "PYTHONHASHSEED": "7"}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(checkpoints.__file__).parents[2])}

    def start(root, **options):
        return subprocess.Popen(
            [sys.executable, str(script), json.dumps({"root": str(root), **options})],
            cwd=script.parent,
            env=environment,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )

    return start


@pytest.mark.slow
def test_an_ordinary_process_under_foreign_conditions(command, undisturbed, tmp_path):
    """A signal to the whole group, another hash seed, time zone and locale, no git, a path with spaces and umlauts."""
    root = tmp_path / "Läufe 日本" / "mit  Leerzeichen"
    options = {**LONG, "checkpoint_seconds": 1000.0}
    process = command(root, **options)
    until_update(root, 28)
    os.killpg(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 143, errors
    assert "\x1b" not in errors
    assert "\r" not in errors
    process = command(root, **options)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert products(root) == undisturbed
    assert record(root)["git"] == {"commit": "unknown", "dirty": "unknown"}
    assert record(root)["command"].startswith("python toy_learner.py ")
