"""Planner datasets: the same arguments give the same bytes, on every machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from rarl.envs.gridroboman import datasets as generate
from rarl.envs.gridroboman.datasets import generate_planner
from rarl.envs.gridroboman.env import Gridroboman
from rarl.envs.gridroboman.tasks import TASKS, task_named
from rarl.errors import RarlError
from rarl.files import read_json
from rarl.trajectories.store import TrajectoryDataset

# SHA-256 of generate_planner("red on blue", episodes=200, seed=7).
GOLDEN = {
    "actions": "4ae8a4479d4242141668f82ee1603f0c23eb213e138432e0abc44b7423991a65",
    "noise": "fe812c1d3217df840504a3d381cd2fa4bdaa6042ea8caa860fc6b17af9a545b8",
    "observations": "d378f81332d529ada042dde10d97e7b24768e01df0199689e4f0aeefa0c4e074",
    "offsets": "05b2c0c677860ab2809600529e198e8ebacfec0e5b591662c98ac195a8f052f5",
    "returns": "c7690a3ab3b30ae504f88a1500f8547c65f9e90003205b62464428a7cd9d5494",
    "rewards": "93ee1f3cbf375ee075dc1ec3cb78ebd2a57a9dbaebd7aae870271c105964e310",
}


def hashes(folder):
    return {name: entry["sha256"] for name, entry in read_json(folder / "manifest.json")["arrays"].items()}


def content(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_golden_bytes(tmp_path):
    """Changes in the planner, the rules, the chunks or NumPy's stream all show here."""
    generate_planner("red on blue", 200, 7, tmp_path / "a")
    assert hashes(tmp_path / "a") == GOLDEN


def test_same_arguments_same_bytes(tmp_path):
    for name in ("a", "b"):
        generate_planner("touch red", 5000, 1, tmp_path / name)  # two chunks
    assert content(tmp_path / "a") == content(tmp_path / "b")
    generate_planner("touch red", 5000, 2, tmp_path / "b")
    assert hashes(tmp_path / "a")["observations"] != hashes(tmp_path / "b")["observations"]
    generate_planner(task_named("touch red"), 4096, 1, tmp_path / "b")  # a chunk does not depend on those that follow
    first, alone = TrajectoryDataset.open(tmp_path / "a"), TrajectoryDataset.open(tmp_path / "b")
    np.testing.assert_array_equal(first.observations[: 4096 * 51], alone.observations)
    generate_planner("touch red", 8192, 1, tmp_path / "b")
    chunks = TrajectoryDataset.open(tmp_path / "b").observations.reshape(2, 4096, 51, 11)
    assert (chunks[0] != chunks[1]).any(axis=(1, 2)).mean() > 0.99  # nor repeat one of them


@pytest.mark.parametrize("task", ["touch red", "red far from blue", "green on red"])
def test_episodes_replay_in_the_single_environment(tmp_path, task):
    generate_planner(task, 60, 3, tmp_path / "a")
    dataset = TrajectoryDataset.open(tmp_path / "a")
    dataset.check_valid()
    env = Gridroboman(task)
    for episode in dataset:
        first = episode.observations[0]
        observation, _ = env.reset(options={"robot": first[:2], "objects": first[2:].reshape(3, 3)[:, :2]})
        np.testing.assert_array_equal(observation, first)
        for t, action in enumerate(episode.actions):
            observation, reward, _, truncated, _ = env.step(int(action))
            np.testing.assert_array_equal(observation, episode.observations[t + 1])
            assert reward == episode.rewards[t]
        assert truncated


def test_manifest_and_noise(tmp_path):
    done = []
    generate_planner("lift red", 6000, 0, tmp_path / "a", progress=lambda *numbers: done.append(numbers))
    assert done == [(4096, 6000), (6000, 6000)]
    dataset = TrajectoryDataset.open(tmp_path / "a")
    manifest = dataset.manifest
    assert (manifest["environment"], manifest["task"], manifest["source"]) == ("gridroboman", "lift red", "planner")
    assert (manifest["seed"], manifest["episodes"], manifest["steps"]) == (0, 6000, 300_000)
    assert manifest["ends"] == "truncation"
    assert manifest["generator"]["noise_percent"] == [0, 10, 25, 50, 100]
    noise = dataset.extras["noise"]
    assert manifest["expert_return"] == dataset.returns[noise == 0].astype(float).mean()
    means = [dataset.returns[noise == level].mean() for level in (0, 10, 25, 50, 100)]
    assert (np.diff(means) < 0).all()  # the more noise, the less return
    counts = np.array([(noise == level).sum() for level in (0, 10, 25, 50, 100)])
    assert ((counts - 1200) ** 2 / 1200).sum() < 23.5  # chi square, 4 degrees of freedom, p = 0.0001
    random_actions = dataset.actions.reshape(6000, 50)[noise == 100]
    counts = np.bincount(random_actions.ravel(), minlength=7)
    assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < 27.9  # 6 degrees of freedom


def test_other_noise(tmp_path):
    generate_planner("lift red", 50, 0, tmp_path / "a", noise_percent=[20])
    dataset = TrajectoryDataset.open(tmp_path / "a")
    assert set(dataset.extras["noise"]) == {20}
    assert dataset.manifest["expert_return"] is None


def test_tasks_differ(tmp_path):
    seen = set()
    for task in TASKS[::4]:
        generate_planner(task, 20, 0, tmp_path / task.slug)
        seen.add(hashes(tmp_path / task.slug)["observations"])
    assert len(seen) == 8


def test_wrong_arguments(tmp_path):
    for arguments, says in (
        (("lift purple", 10, 0), "unknown Gridroboman task 'lift purple': did you mean"),
        (("lift red", 0, 0), "episodes=0: must be at least 1"),
        (("lift red", 10, -1), "seed=-1: must be at least 0"),
        (("lift red", 10, 0, [101]), r"noise_percent=\(101,\): must be percentages from 0 to 100"),
        (("lift red", 10, 0, []), "must be percentages"),
    ):
        with pytest.raises(RarlError, match=says):
            generate_planner(*arguments[:3], tmp_path / "a", *arguments[3:])
    assert list(tmp_path.iterdir()) == []


def test_killed_and_run_again(tmp_path, monkeypatch):
    """Killed between two chunks: nothing to see; run again: the bytes of an undisturbed run, no leftovers."""
    target, reference = tmp_path / "killed" / "lift-red", tmp_path / "reference"
    code = (
        "import os, sys, signal\n"
        "from rarl.envs.gridroboman.datasets import generate_planner\n"
        "die = lambda done, all: os.kill(os.getpid(), signal.SIGKILL) if done > 4096 else None\n"
        "generate_planner('lift red', 10_000, 0, sys.argv[1], progress=die)\n"
    )
    process = subprocess.run([sys.executable, "-c", code, str(target)], check=False)
    assert process.returncode == -signal.SIGKILL
    time.sleep(0.05)
    assert not target.exists()
    assert all(name.startswith(".") for name in os.listdir(target.parent))
    for folder in (target, reference):
        generate_planner("lift red", 10_000, 0, folder)
    assert os.listdir(target.parent) == ["lift-red"]
    assert content(target) == content(reference)


def test_memory_is_one_chunk(tmp_path, monkeypatch):
    sizes = []
    chunk = generate._chunk
    monkeypatch.setattr(generate, "_chunk", lambda task, size, *rest: sizes.append(size) or chunk(task, size, *rest))
    generate_planner("lift red", 9000, 0, tmp_path / "a")
    assert sizes == [4096, 4096, 808]
