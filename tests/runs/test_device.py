"""Choosing a device; GPUs are imagined, the locks are real."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

import pytest

from rarl.errors import RarlError
from rarl.runs import device
from rarl.runs.device import choose_device


@pytest.fixture
def gpus(monkeypatch, tmp_path):
    """Two GPUs, and a folder of locks that other tests do not see."""
    names = ["GPU-aaaa/1", "GPU-bbbb"]
    monkeypatch.setattr(device, "visible_gpus", lambda: names)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield names
    release()


def release() -> None:
    """Give back what this process has taken, as its end does."""
    while device._held:
        os.close(device._held.popitem()[1])


OTHER = """
import sys, tempfile
sys.path.insert(0, sys.argv[1])
from rarl.runs import device
tempfile.tempdir = sys.argv[2]
device.visible_gpus = lambda: ["GPU-aaaa/1", "GPU-bbbb"]
print(device.choose_device(sys.argv[3]), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other(gpus, tmp_path, request):
    """Starts another process that chooses a device and keeps it."""
    started = []

    def start(name):
        process = subprocess.Popen(
            [sys.executable, "-c", OTHER, str(request.config.rootpath), str(tmp_path), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process.stdout.readline().strip()

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_each_process_takes_a_gpu_of_its_own(other):
    assert other("auto") == "cuda:0"
    assert choose_device("cuda") == "cuda:1"
    assert choose_device("auto") == "cuda:1", "the same process keeps its own"


def test_processes_spread_over_gpus(other, caplog):
    caplog.set_level("INFO", "rarl")
    assert [other("auto") for _ in range(4)] == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
    assert choose_device("auto") == "cuda:0"
    assert "cuda:0 is shared with 2 other runs" in caplog.text


def test_those_that_start_together_do_not_pick_the_same(gpus, tmp_path, request):
    command = [sys.executable, "-c", OTHER, str(request.config.rootpath), str(tmp_path), "auto"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    started = [subprocess.Popen(command, **pipes) for _ in range(6)]
    assert sorted(process.stdout.readline().strip() for process in started) == ["cuda:0"] * 3 + ["cuda:1"] * 3
    for process in started:
        process.communicate()


def test_an_index_is_obeyed_and_counts_for_the_automatic_choice(other):
    assert other("cuda:0") == "cuda:0"
    assert other("cuda:0") == "cuda:0"
    assert [other("auto") for _ in range(3)] == ["cuda:1", "cuda:1", "cuda:0"]
    assert choose_device("cuda:0") == "cuda:0"


def test_a_gpu_is_free_again_when_its_process_has_ended(gpus):
    assert choose_device("auto") == "cuda:0"
    release()
    assert choose_device("auto") == "cuda:0"


def test_an_absent_index_says_what_there_is(gpus):
    with pytest.raises(RarlError, match=r"device 'cuda:2': there is only cuda:0, cuda:1"):
        choose_device("cuda:2")


def test_without_a_gpu(monkeypatch):
    monkeypatch.setattr(device, "visible_gpus", list)
    assert choose_device("auto") == "cpu"
    assert choose_device("cpu") == "cpu"
    for name in ("cuda", "cuda:0"):
        with pytest.raises(RarlError, match=rf"device '{name}': torch \S+ sees no GPU; use 'cpu' or 'auto'"):
            choose_device(name)


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cuda:-1", "", "CPU"])
def test_unknown_names(name):
    with pytest.raises(RarlError, match="known are 'auto', 'cpu', 'cuda' and 'cuda:<index>'"):
        choose_device(name)


def test_no_place_for_locks_is_no_reason_not_to_run(gpus, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere/at/all")
    assert choose_device("auto") == "cuda:0"


def test_a_link_in_the_place_of_a_lock_is_not_followed(gpus, tmp_path):
    victim = tmp_path / "victim"
    os.symlink(victim, tmp_path / "rarl-gpu-GPU-aaaa-1-0.lock")
    assert choose_device("auto") == "cuda:0"
    assert not victim.exists()


def test_plain_cpu_does_not_import_torch(request):
    code = (
        f"import sys; sys.path.insert(0, {str(request.config.rootpath)!r})\n"
        "from rarl.runs.device import choose_device; choose_device('cpu'); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
