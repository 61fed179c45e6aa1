"""Making datasets by the command line, killed on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import tiny_babyai

from rarl.config import Scale
from rarl.trajectories.store import TrajectoryDataset

DATASET = "babyai/bot/put-next-local"


def start(root):
    return subprocess.Popen(
        [sys.executable, "-m", "rarl", "datasets", "make", DATASET],
        cwd=root,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_killed_generation_started_again_gives_the_same_bytes(tmp_path):
    roots = [tmp_path / "killed", tmp_path / "undisturbed"]
    kind = {"source": "bot", "tasks": tiny_babyai.LEVELS, "episodes": 400, "noise_percent": [0, 50]}
    for root in roots:
        tiny_babyai.write_config(root, {"datasets": {"babyai": [kind]}})
    folder = roots[0] / "data" / "tiny" / DATASET
    process = start(roots[0])
    deadline = time.monotonic() + 30
    while not any(folder.parent.glob(".put-next-local.*.tmp/*.npy")):
        assert time.monotonic() < deadline, "it never began to write"
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not folder.exists()  # nothing half-done is visible
    for root in roots:
        again = start(root)
        _, said = again.communicate(timeout=60)
        assert again.returncode == 0, said
    hashes = [TrajectoryDataset.open(root / "data" / "tiny" / DATASET).manifest_sha256 for root in roots]
    assert hashes[0] == hashes[1]
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]  # leftovers are gone
    assert Scale("tiny", roots[0]).find_dataset(DATASET).settings.episodes == 400
