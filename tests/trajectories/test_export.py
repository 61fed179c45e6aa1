"""A dataset written for Minari and read by Minari is the same dataset."""

from __future__ import annotations

import os

import gymnasium as gym
import minari
import numpy as np
import pytest

from rarl.errors import RarlError
from rarl.trajectories.export import export_minari
from rarl.trajectories.generate import generate_planner
from rarl.trajectories.store import DatasetWriter, TrajectoryDataset


@pytest.fixture
def planner(tmp_path):
    generate_planner("red on blue", 30, 0, tmp_path / "red-on-blue")
    return TrajectoryDataset.open(tmp_path / "red-on-blue")


def test_round_trip(planner, tmp_path, monkeypatch):
    done = []
    folder = export_minari(
        planner, "rarl/gridroboman/red-on-blue-v0", tmp_path / "minari", progress=lambda *n: done.append(n)
    )
    assert done == [(30, 30)]
    assert folder == tmp_path / "minari" / "rarl" / "gridroboman" / "red-on-blue-v0"
    assert "MINARI_DATASETS_PATH" not in os.environ
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    exported = minari.load_dataset("rarl/gridroboman/red-on-blue-v0")
    assert (exported.total_episodes, exported.total_steps) == (30, 1500)
    for theirs, ours in zip(exported.iterate_episodes(), planner, strict=True):
        np.testing.assert_array_equal(theirs.observations, ours.observations)
        np.testing.assert_array_equal(theirs.actions, ours.actions)
        np.testing.assert_array_equal(theirs.rewards, ours.rewards)
        assert theirs.observations.dtype == np.int8
        assert not theirs.terminations.any()
        assert theirs.truncations.tolist() == [False] * 49 + [True]
    noise = [metadata["noise"] for metadata in exported.storage.get_episode_metadata(range(30))]
    assert noise == planner.extras["noise"].tolist()
    assert "red on blue" in exported.storage.metadata["description"]
    env = exported.recover_environment()
    assert env.unwrapped.task.name == "red on blue"


def test_first_episodes_only(planner, tmp_path, monkeypatch):
    export_minari(planner, "few-v0", tmp_path / "minari", episodes=4)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    assert minari.load_dataset("few-v0").total_episodes == 4


def test_images_of_any_environment_stay_as_they_are(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 6, 40, 40, 3), dtype=np.uint8)
    with DatasetWriter(
        tmp_path / "a", environment="maze", task="t", source="bot", seed=0, generator={}, ends="per-episode"
    ) as out:
        ends = np.array([True, False, True])
        out.add(images, rng.integers(0, 3, (3, 5)), rng.random((3, 5)).astype(np.float32), terminated=ends)
    dataset = TrajectoryDataset.open(tmp_path / "a")
    with pytest.raises(RarlError, match="environment 'maze' needs observation_space and action_space"):
        export_minari(dataset, "maze-v0", tmp_path / "minari")
    spaces = {"observation_space": gym.spaces.Box(0, 255, (40, 40, 3), np.uint8)}
    with pytest.raises(RarlError, match=r"actions of shape \(\) are not from"):
        export_minari(dataset, "maze-v0", tmp_path / "minari", action_space=gym.spaces.Box(0, 1, (2,)), **spaces)
    export_minari(dataset, "maze-v0", tmp_path / "minari", action_space=gym.spaces.Discrete(3), **spaces)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    for i, episode in enumerate(minari.load_dataset("maze-v0").iterate_episodes()):
        np.testing.assert_array_equal(episode.observations, images[i])
        assert episode.terminations[-1] == ends[i]
        assert episode.truncations[-1] != ends[i]


def test_nothing_half_done_and_nothing_overwritten(planner, tmp_path):
    def fail(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_minari(planner, "a-v0", tmp_path / "minari", progress=fail)
    assert not (tmp_path / "minari" / "a-v0").exists()
    export_minari(planner, "a-v0", tmp_path / "minari")
    with pytest.raises(RarlError, match="a-v0: exists already"):
        export_minari(planner, "a-v0", tmp_path / "minari")
    assert (tmp_path / "minari" / "a-v0").exists()
    with pytest.raises(RarlError, match=r"episodes=31: .* holds 30"):
        export_minari(planner, "b-v0", tmp_path / "minari", episodes=31)
    with pytest.raises(RarlError, match="Minari refuses"):
        export_minari(planner, "not a name!", tmp_path / "minari")
