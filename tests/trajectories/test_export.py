"""A dataset written for Minari and read by Minari is the same dataset."""

from __future__ import annotations

import os

import minari
import numpy as np
import pytest

from rarl import cli
from rarl.envs.babyai.missions import words
from rarl.envs.babyai.view import decode
from rarl.envs.content import content_of
from rarl.envs.gridroboman.datasets import generate_planner
from rarl.envs.names import slug
from rarl.envs.spec import ENVIRONMENTS, spec_of
from rarl.errors import RarlError
from rarl.trajectories.minari import export_minari
from rarl.trajectories.store import DatasetWriter, TrajectoryDataset
from rarl.workflow.verify import verify_folder
from tests import tiny_babyai
from tests.command_line import fails


@pytest.fixture
def planner(tmp_path):
    generate_planner("red on blue", 30, 0, tmp_path / "red-on-blue")
    return TrajectoryDataset.open(tmp_path / "red-on-blue")


def test_round_trip(planner, tmp_path, monkeypatch):
    folder = export_minari(planner, "rarl/gridroboman/red-on-blue-v0", tmp_path / "minari")
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


MAZE = """
import gymnasium
import numpy
from rarl.envs.spec import EnvSpec

IMAGES = gymnasium.spaces.Box(0, 255, (40, 40, 3), numpy.uint8)
SPEC = EnvSpec(name="maze", tasks=["t"], observation=IMAGES, n_actions=3)
"""


def test_images_of_any_environment_stay_as_they_are(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 6, 40, 40, 3), dtype=np.uint8)
    with DatasetWriter(
        tmp_path / "a", environment="maze", task="t", source="bot", seed=0, generator={}, ends="per-episode"
    ) as out:
        ends = np.array([True, False, True])
        actions = rng.integers(0, 3, (3, 5), dtype=np.int16)
        out.add(images, actions, rng.random((3, 5)).astype(np.float32), terminated=ends)
    dataset = TrajectoryDataset.open(tmp_path / "a")
    with pytest.raises(RarlError, match=r"'maze' .*--environment module:SPEC"):
        export_minari(dataset, "maze-v0", tmp_path / "minari")
    assert not (tmp_path / "minari").exists()
    (tmp_path / "maze.py").write_text(MAZE)
    export_minari(dataset, "maze-v0", tmp_path / "minari", environment=f"{tmp_path}/maze.py:SPEC")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    for i, episode in enumerate(minari.load_dataset("maze-v0").iterate_episodes()):
        np.testing.assert_array_equal(episode.observations, images[i])
        assert episode.terminations[-1] == ends[i]
        assert episode.truncations[-1] != ends[i]


def test_nothing_half_done_and_nothing_overwritten(planner, tmp_path, monkeypatch):
    def interrupted(dataset):
        yield dataset.episode(0)
        assert (tmp_path / "minari" / "a-v0").exists()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(TrajectoryDataset, "__iter__", interrupted)
        with pytest.raises(KeyboardInterrupt):
            export_minari(planner, "a-v0", tmp_path / "minari")
    assert not (tmp_path / "minari" / "a-v0").exists()
    export_minari(planner, "a-v0", tmp_path / "minari")
    with pytest.raises(RarlError, match="a-v0: exists already"):
        export_minari(planner, "a-v0", tmp_path / "minari")
    assert (tmp_path / "minari" / "a-v0").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(RarlError, match=r"file/b-v0: cannot be written"):
        export_minari(planner, "b-v0", tmp_path / "file")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("lift-red", "lift-red-v0"),
        ("not a name!", "not-a-name-v0"),
        ("../../a-v0", "a-v0"),
        ("/abs/a-v0", "abs/a-v0"),
        ("a//b-v0", "a//b-v0"),
        ("a/../b-v0", ""),
        ("", "rarl/lift-red-v0"),
        ("a-v0/", "a-v0"),
        ("a-vx", "a-vx-v0"),
        ("-v0", ""),
        ("a\nb-v0", "a-b-v0"),
    ],
)
def test_a_malformed_id_is_one_line(planner, tmp_path, capsys, monkeypatch, name, meant):
    with pytest.raises(RarlError) as caught:
        export_minari(planner, name, tmp_path / "minari")
    assert str(caught.value).startswith(f"Minari's id {name!r}: must be names")
    assert meant in str(caught.value)
    monkeypatch.chdir(tmp_path)
    if not name.startswith("-"):
        assert "Minari's id" in fails(capsys, "datasets", "export", str(planner.folder), name, "--root", "minari")
    assert not (tmp_path / "minari").exists()


def exported(root, folder, name, monkeypatch):
    """What Minari itself reads of a dataset that the command has exported."""
    cli.main(["datasets", "export", str(folder), name, "--root", str(root)])
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(root))
    return minari.load_dataset(name)


@pytest.mark.parametrize("level", tiny_babyai.LEVELS)
def test_babyai_is_exported_as_minigrid_shows_it(tiny_babyai_root, tmp_path, monkeypatch, level):
    folder = tiny_babyai_root / "data" / "tiny" / "babyai" / "bot" / slug(level)
    ours, theirs = (
        TrajectoryDataset.open(folder),
        exported(tmp_path, folder, f"rarl/babyai/{slug(level)}-v0", monkeypatch),
    )
    assert (theirs.total_episodes, theirs.total_steps) == (ours.episodes, ours.steps)
    env = theirs.recover_environment()
    assert env.spec.id == f"BabyAI-{level}-v0"
    told = list(theirs.storage.get_episode_metadata(range(ours.episodes)))
    for i, (there, here) in enumerate(zip(theirs.iterate_episodes(), ours, strict=True)):
        assert there.observations["mission"] == [words(here.extras["mission"])] * (len(here) + 1)
        np.testing.assert_array_equal(there.observations["image"], decode(here.observations[:, :49]))
        np.testing.assert_array_equal(there.observations["direction"], here.observations[:, 49])
        np.testing.assert_array_equal(there.actions, here.actions)
        np.testing.assert_array_equal(there.rewards, here.rewards)
        assert there.terminations.tolist() == [False] * (len(here) - 1) + [bool(here.extras["terminated"])]
        assert there.truncations.tolist() == [False] * (len(here) - 1) + [not here.extras["terminated"]]
        assert told[i]["mission"] == words(here.extras["mission"])
        assert told[i]["noise"] == here.extras["noise"]
        for t in range(len(here) + 1):
            step = {name: values[t] for name, values in there.observations.items()}
            assert theirs.observation_space.contains(step | {"direction": int(step["direction"])})
    space = env.observation_space
    assert (space["image"], space["direction"]) == (
        theirs.observation_space["image"],
        theirs.observation_space["direction"],
    )
    assert env.action_space == theirs.action_space


@pytest.mark.parametrize("environment", ["gridroboman", "babyai"])
def test_every_environment_with_datasets_is_exported_by_one_command(
    tiny_root, tiny_babyai_root, tmp_path, monkeypatch, environment
):
    root = {"gridroboman": tiny_root, "babyai": tiny_babyai_root}[environment]
    folder = next((root / "data" / "tiny" / environment).glob("*/*/"))
    theirs = exported(tmp_path, folder, "all-v0", monkeypatch)
    assert theirs.total_steps == TrajectoryDataset.open(folder).steps
    for values in next(iter(theirs.iterate_episodes([0]))).actions:
        assert theirs.action_space.contains(values)


def test_a_level_that_minigrid_lacks_has_no_environment_to_recover():
    public = content_of("babyai").public
    assert public.environment("PutNext") is None
    assert public.environment("GoTo").id == "BabyAI-GoTo-v0"


def test_datasets_are_of_environments_whose_content_is_known():
    assert {name for name in ENVIRONMENTS if spec_of(name).content} == {"gridroboman", "babyai"}


def test_what_no_environment_gives_is_not_exported(planner, tmp_path):
    path = planner.folder / "actions.npy"
    actions = np.load(path)
    actions[7] = 99
    np.save(path, actions)
    with pytest.raises(RarlError, match=r"actions\.npy: episode 0, step 7 holds 99"):
        export_minari(TrajectoryDataset.open(planner.folder, verify=False), "a-v0", tmp_path / "minari")
    with pytest.raises(RarlError, match="damaged"):
        export_minari(verify_folder(planner.folder)[0], "a-v0", tmp_path / "minari")
    assert not (tmp_path / "minari").exists()
