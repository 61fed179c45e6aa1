"""The scratch folder: one writer, logs that fit their checkpoint."""

from __future__ import annotations

import json
import logging
import math
import os
import resource
import subprocess
import sys

import numpy as np
import pytest

from rarl.errors import RarlError
from rarl.runs.run_folder import LOCK, MetricsLog, RunFolder, RunPaths, TensorBoard

HOLD = """
import os, sys, time
sys.path.insert(0, {project!r})
from rarl.runs.run_folder import RunFolder
with RunFolder(sys.argv[1], "toy/seed-0"):
    child = os.fork() if len(sys.argv) > 2 else None
    if child != 0:
        os.write(1, b"held\\n")
    if child:
        os._exit(0)
    time.sleep(30)
"""


@pytest.fixture
def holder(tmp_path, request):
    """Another process that holds `tmp_path/run`."""
    project = str(request.config.rootpath)
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD.format(project=project), str(tmp_path / "run")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_paths_of_a_run(tmp_path):
    paths = RunPaths.of("gridroboman/30-tasks/dqn-hidden/seed-0", "laptop", tmp_path)
    assert paths.scratch == tmp_path / "scratch/laptop/runs/gridroboman/30-tasks/dqn-hidden/seed-0"
    assert paths.record == tmp_path / "results/laptop/runs/gridroboman/30-tasks/dqn-hidden/seed-0"
    assert paths.checkpoint == tmp_path / "results/laptop/checkpoints/gridroboman/30-tasks/dqn-hidden/seed-0"


def test_a_second_process_is_refused_and_told_who_is_first(holder, tmp_path):
    with pytest.raises(RarlError, match=rf"run toy/seed-0 is being written by process {holder.pid} on host \S+: "):
        RunFolder(tmp_path / "run", "toy/seed-0").__enter__()


def test_the_lock_goes_with_its_process_however_it_dies(holder, tmp_path):
    holder.kill()
    holder.wait()
    with RunFolder(tmp_path / "run", "toy/seed-0"):
        assert json.loads((tmp_path / "run" / LOCK).read_text())["pid"] == os.getpid()


def test_two_folders_in_one_process_exclude_each_other_and_leaving_frees(tmp_path):
    with RunFolder(tmp_path, "a"), pytest.raises(RarlError, match=f"process {os.getpid()} "):
        RunFolder(tmp_path, "a").__enter__()
    with RunFolder(tmp_path, "a"):
        pass


def test_an_orphan_that_holds_the_folder_is_told(tmp_path, request):
    script = HOLD.format(project=str(request.config.rootpath))
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path), "fork"], stdout=subprocess.PIPE, start_new_session=True
    )
    assert parent.stdout.readline() == b"held\n"
    assert parent.wait() == 0
    try:
        with pytest.raises(RarlError, match=r"which has ended, but a process that it started still holds the folder"):
            RunFolder(tmp_path, "toy/seed-0").__enter__()
    finally:
        os.killpg(parent.pid, 9)


def test_a_lock_that_was_removed_meanwhile_is_not_taken_for_held(tmp_path, monkeypatch):
    """The holder removes the folder between our open and our lock: we must hold the new file, not the old one."""
    real, calls = os.open, []

    def racing(path, *arguments, **options):
        descriptor = real(path, *arguments, **options)
        if str(path).endswith(LOCK) and not calls:
            calls.append(path)
            os.unlink(path)
        return descriptor

    monkeypatch.setattr(os, "open", racing)
    with RunFolder(tmp_path, "a") as folder:
        assert calls
        assert os.path.samestat(os.fstat(folder._lock), os.stat(tmp_path / LOCK))


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RarlError, match="cannot be used as a scratch folder"):
        RunFolder(tmp_path / "file" / "run", "a").__enter__()


def test_leftovers_go_at_the_start_and_everything_at_the_end(tmp_path):
    folder = tmp_path / "späte läufe" / "run 1"
    folder.mkdir(parents=True)
    (folder / ".checkpoint.pt.x.tmp").write_text("half")
    with RunFolder(folder, "a") as held:
        assert not (folder / ".checkpoint.pt.x.tmp").exists()
        (folder / "training.csv").write_text("a\n")
        (folder / "replay").mkdir()
        held.start_log_file()
        held.remove()
        assert not folder.exists()
    assert folder.parent.exists()


def test_tensorboard_files_stay(tmp_path):
    with RunFolder(tmp_path, "a") as held:
        (tmp_path / "tensorboard").mkdir()
        (tmp_path / "checkpoint.pt").write_text("")
        held.remove()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [LOCK, "tensorboard"]


def test_clearing_keeps_the_lock(tmp_path):
    with RunFolder(tmp_path, "a") as held:
        (tmp_path / "checkpoint.pt").write_text("")
        (tmp_path / "tensorboard").mkdir()
        held.clear()
        assert [entry.name for entry in tmp_path.iterdir()] == [LOCK]


def test_log_file_has_plain_lines(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    with RunFolder(tmp_path, "a") as held:
        held.start_log_file()
        logging.getLogger("rarl.runs.loop").info("update 5")
    logging.getLogger("rarl").warning("after")
    lines = (tmp_path / "train.log").read_text().splitlines()
    assert len(lines) == 1
    assert lines[0].endswith("INFO update 5")


# ------------------------------------------------------------------------------------------------------------- metrics


def test_columns_grow(tmp_path):
    metrics = MetricsLog(tmp_path / "t.csv")
    assert not (tmp_path / "t.csv").exists()
    metrics.append({"update": 1, "loss": 0.5})
    metrics.append({"update": 2, "loss": 0.25, "return": 3})
    metrics.append({"update": 3, "return": "touch, red"})
    assert (tmp_path / "t.csv").read_text() == 'update,loss,return\n1,0.5,\n2,0.25,3\n3,,"touch, red"\n' == metrics.text


def test_numbers_read_back_to_the_same_bits(tmp_path):
    metrics = MetricsLog(tmp_path / "t.csv")
    values = [0.1 + 0.2, 1e-300, -0.0, math.pi * 1e20, float(np.float32(0.1))]
    metrics.append([{"x": value} for value in values] + [{"x": np.float64(1) / 3}, {"x": True}, {"x": np.int64(4)}])
    lines = (tmp_path / "t.csv").read_text().splitlines()[1:]
    assert [float(line).hex() for line in lines[:5]] == [value.hex() for value in values]
    assert lines[5:] == [repr(1 / 3), "1", "4"]


@pytest.mark.parametrize("after", ["", "3,0.1\n", "3,0.1\n4,0.", "3,0.1\n4,0.2\n5,0.3\n", None, "torn"])
def test_a_resumed_log_is_exactly_the_one_of_the_checkpoint(tmp_path, after):
    """Whatever a killed process left in the file: rows too many, a torn line, rows too few, nothing."""
    path = tmp_path / "t.csv"
    metrics = MetricsLog(path)
    metrics.append([{"update": 1, "loss": 0.5}, {"update": 2, "loss": 0.25}])
    state = metrics.state_dict()
    text = metrics.text
    if after is None:
        path.unlink()
    elif after == "torn":
        os.truncate(path, len(text) - 3)
    else:
        with open(path, "a") as file:
            file.write(after)
    resumed = MetricsLog(path)
    resumed.load_state_dict(state)
    assert path.read_text() == text
    resumed.append({"update": 3, "loss": 0.125})
    assert path.read_text() == text + "3,0.125\n"
    assert state["rows"] == [["1", "0.5"], ["2", "0.25"]], "the state must not change with the log"


def test_full_disk_is_one_line(tmp_path):
    metrics = MetricsLog(tmp_path / "t.csv")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        for update in range(15):
            metrics.append({"update": update, "text": "x" * 50})
        with pytest.raises(RarlError, match=r"t\.csv: cannot be written \(File too large\)"):
            metrics.append({"update": 15, "text": "x" * 500})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# --------------------------------------------------------------------------------------------------------- TensorBoard


def test_tensorboard_writes_events(tmp_path):
    board = TensorBoard(tmp_path, enabled=True)
    board.scalars(3, "training", {"loss": 0.5, "text": "no number"})
    board.close()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert events.Tags()["scalars"] == ["training/loss"]
    assert [(event.step, event.value) for event in events.Scalars("training/loss")] == [(3, 0.5)]


def test_tensorboard_off_writes_nothing(tmp_path):
    board = TensorBoard(tmp_path, enabled=False)
    board.scalars(1, "a", {"b": 1.0})
    board.close()
    assert not list(tmp_path.iterdir())


def test_a_broken_tensorboard_does_not_stop_a_run(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    board = TensorBoard(tmp_path, enabled=True)
    board.scalars(1, "a", {"b": 1.0})
    board.close()
    assert "no TensorBoard files for this run" in caplog.text


def test_a_tensorboard_that_breaks_later_does_not_stop_a_run_either(tmp_path, caplog):
    class Broken:
        def add_scalar(self, *_):
            raise OSError("disk full")

    board = TensorBoard(tmp_path, enabled=False)
    board._writer = Broken()
    board.scalars(1, "a", {"b": 1.0})
    board.scalars(2, "a", {"b": 1.0})
    assert caplog.text.count("TensorBoard files end here: disk full") == 1
