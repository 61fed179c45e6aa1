"""What is written is read back; whatever is damaged is named; nothing half-written is ever visible."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from rarl.errors import RarlError
from rarl.files import read_json, sha256_file, write_json
from rarl.trajectories.store import DatasetWriter, TrajectoryDataset

LENGTHS = [3, 1, 5, 2]


def ragged(lengths=LENGTHS, seed=0):
    rng = np.random.default_rng(seed)
    steps, n = sum(lengths), len(lengths)
    return (
        rng.integers(0, 255, size=(steps + n, 4, 3), dtype=np.uint8),
        rng.integers(0, 7, size=steps, dtype=np.int16),
        rng.normal(size=steps).astype(np.float32),
        np.array(lengths),
    )


def writer(folder, **changes):
    return DatasetWriter(
        folder,
        **{"environment": "test", "task": "go", "source": "bot", "seed": 3, "generator": {"settings": 1}} | changes,
    )


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "data" / "go"
    with writer(folder) as out:
        out.add_flat(*ragged(), noise=np.array([0, 10, 0, 50], dtype=np.int8))
        out.expert_return = 1.5
    return folder


def test_round_trip_of_ragged_episodes(folder):
    observations, actions, rewards, lengths = ragged()
    dataset = TrajectoryDataset.open(folder)
    dataset.check_valid()
    assert (dataset.episodes, dataset.steps, dataset.task, dataset.ends) == (4, 11, "go", "truncation")
    assert dataset.lengths.tolist() == LENGTHS
    assert dataset.terminated.tolist() == [False] * 4
    step = 0
    for i, (episode, length) in enumerate(zip(dataset, lengths, strict=True)):
        np.testing.assert_array_equal(episode.observations, observations[step + i : step + i + length + 1])
        np.testing.assert_array_equal(episode.actions, actions[step : step + length])
        np.testing.assert_array_equal(episode.rewards, rewards[step : step + length])
        assert dataset.returns[i] == pytest.approx(rewards[step : step + length].sum(), rel=1e-6)
        assert episode.extras["noise"] == [0, 10, 0, 50][i]
        assert len(episode) == length
        step += length
    for i in (-1, 4):
        with pytest.raises(IndexError, match=f"no episode {i} among 4"):
            dataset.episode(i)


def test_manifest(folder):
    manifest = read_json(folder / "manifest.json")
    dataset = TrajectoryDataset.open(folder)
    returns = dataset.returns.astype(float)
    assert manifest["returns"] == {
        "mean": returns.mean(),
        "min": returns.min(),
        "max": returns.max(),
        "quartiles": np.quantile(returns, [0.25, 0.5, 0.75]).tolist(),
    }
    assert manifest["expert_return"] == 1.5
    assert manifest["generator"] == {"settings": 1}
    assert manifest["arrays"]["observations"] == {
        "file": "observations.npy",
        "dtype": "uint8",
        "shape": [15, 4, 3],
        "sha256": sha256_file(folder / "observations.npy"),
    }
    assert {entry["file"] for entry in manifest["arrays"].values()} | {"manifest.json"} == set(os.listdir(folder))


def test_files_are_what_numpy_would_have_saved(folder, tmp_path):
    np.save(tmp_path / "by_numpy.npy", ragged()[0])
    assert (folder / "observations.npy").read_bytes() == (tmp_path / "by_numpy.npy").read_bytes()


def test_chunks_do_not_show(folder, tmp_path):
    observations, actions, rewards, lengths = ragged()
    with writer(tmp_path / "chunked") as out:
        step = 0
        for i, length in enumerate(lengths):
            rows = slice(step, step + length)
            noise = np.array([[0, 10, 0, 50][i]], dtype=np.int8)
            out.add_flat(
                observations[step + i : step + i + length + 1], actions[rows], rewards[rows], [length], noise=noise
            )
            step += length
        out.expert_return = 1.5
    for file in folder.iterdir():
        assert file.read_bytes() == (tmp_path / "chunked" / file.name).read_bytes(), file.name


def test_episodes_of_one_length(tmp_path):
    rng = np.random.default_rng(0)
    observations, actions, rewards = rng.random((6, 5, 2)), rng.random((6, 4)), rng.random((6, 4))
    with writer(tmp_path / "a") as out:
        out.add(observations[:4], actions[:4], rewards[:4])
        out.add(observations[4:], actions[4:], rewards[4:])
    dataset = TrajectoryDataset.open(tmp_path / "a")
    for i in range(6):
        np.testing.assert_array_equal(dataset.episode(i).observations, observations[i])
        np.testing.assert_array_equal(dataset.episode(i).actions, actions[i])
    np.testing.assert_allclose(dataset.returns, rewards.sum(axis=1), rtol=1e-6)


def test_ends(tmp_path):
    with writer(tmp_path / "a", ends="termination") as out:
        out.add_flat(*ragged())
    assert TrajectoryDataset.open(tmp_path / "a").terminated.tolist() == [True] * 4
    ends = np.array([True, False, False, True])
    with writer(tmp_path / "b", ends="per-episode") as out:
        out.add_flat(*ragged(), terminated=ends)
    assert TrajectoryDataset.open(tmp_path / "b").terminated.tolist() == ends.tolist()
    with pytest.raises(ValueError, match="needs terminated"), writer(tmp_path / "c", ends="per-episode") as out:
        out.add_flat(*ragged())
    with pytest.raises(RarlError, match="must be one of truncation, termination, per-episode"):
        writer(tmp_path / "c", ends="never")
    assert not (tmp_path / "c").exists()


# --- damage ------------------------------------------------------------------------------------------------------


def flip_a_byte(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-5])


def as_objects(path):
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)


def edit(folder, change):
    manifest = read_json(folder / "manifest.json")
    change(manifest)
    write_json(folder / "manifest.json", manifest)


def check_fault(folder, says, verify=True):
    with pytest.raises(RarlError, match=says) as caught:
        TrajectoryDataset.open(folder, verify=verify)
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    assert "rarl restore" in message or "generate the dataset again" in message or "known:" in message


@pytest.mark.parametrize("name", ["observations", "actions", "rewards", "offsets", "returns", "noise"])
@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda path: path.unlink(), "missing"),
        (flip_a_byte, "damaged"),
        (truncate, "damaged"),
        (as_objects, "damaged"),
        (lambda path: path.write_bytes(b""), "damaged"),
    ],
)
def test_damaged_array(folder, name, damage, says):
    damage(folder / f"{name}.npy")
    check_fault(folder, rf"{name}\.npy: {says}")


@pytest.mark.parametrize(
    "damage",
    [truncate, as_objects, lambda path: path.write_bytes(b""), lambda path: path.write_bytes(b"PK\x03\x04abc")],
)
def test_what_can_be_seen_without_hashing_is_seen(folder, damage):
    damage(folder / "actions.npy")
    check_fault(folder, r"actions\.npy: not a readable array", verify=False)


def test_unverified_open_reads_a_flipped_byte_and_check_valid_finds_it_in_rewards(folder):
    flip_a_byte(folder / "rewards.npy")
    with pytest.raises(RarlError, match=r"returns\.npy: episode 3 has .* but its rewards add up to"):
        TrajectoryDataset.open(folder, verify=False).check_valid()


def test_rewards_that_are_not_finite(tmp_path, folder):
    observations, actions, rewards, lengths = ragged()
    rewards[4] = np.nan
    with pytest.raises(ValueError, match="must be finite"), writer(tmp_path / "a") as out:
        out.add_flat(observations, actions, rewards, lengths)
    assert not (tmp_path / "a").exists()
    np.save(folder / "rewards.npy", rewards)
    with pytest.raises(RarlError, match=r"rewards\.npy: holds values that are not finite"):
        TrajectoryDataset.open(folder, verify=False).check_valid()


def test_check_valid_compares_with_the_manifest(folder):
    edit(folder, lambda manifest: manifest["returns"].update(mean=0.0))
    with pytest.raises(RarlError, match="'returns' disagrees"):
        TrajectoryDataset.open(folder).check_valid()


def test_foreign_array(folder):
    as_objects(folder / "extra.npy")
    check_fault(folder, r"extra\.npy: not in manifest\.json")


def test_object_array_with_a_matching_hash_is_not_unpickled(folder):
    as_objects(folder / "noise.npy")
    edit(folder, lambda m: m["arrays"]["noise"].update(sha256=sha256_file(folder / "noise.npy"), dtype="object"))
    check_fault(folder, r"noise\.npy: not a readable array")


def test_no_folder_and_no_manifest(folder):
    (folder / "manifest.json").unlink()
    check_fault(folder, r"manifest\.json: missing, so the folder holds no complete dataset")
    check_fault(folder.parent / "gone", "gone: no such dataset folder")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not valid JSON"),
        ('{"format": 1', "not valid JSON"),
        ("\x00\x01", "not valid JSON"),
        ("[]", "format 'list'"),
        ('{"format": 2}', "format 2, this version reads format 1"),
        ('{"format": 1}', "key 'environment' is missing"),
    ],
)
def test_garbled_manifest(folder, text, says):
    (folder / "manifest.json").write_text(text)
    check_fault(folder, f"manifest.json: {says}")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: m.update(ends="never"), "'ends' is 'never'"),
        (lambda m: m.update(arrays=[]), "'arrays' must map"),
        (lambda m: m["arrays"].pop("actions"), "actions.npy: not in|'actions' is missing"),
        (lambda m: m["arrays"]["actions"].pop("sha256"), "'actions' needs file"),
        (lambda m: m["arrays"]["actions"].update(file="../actions.npy"), "which must be 'actions.npy'"),
        (lambda m: m["arrays"]["actions"].update(dtype="int8"), "dtype int16, the manifest says int8"),
        (lambda m: m["arrays"]["actions"].update(shape=[12]), r"shape \[11\], the manifest says \[12\]"),
        (lambda m: m.update(episodes=5), "says 5 episodes and 11 steps"),
    ],
)
def test_manifest_that_disagrees(folder, change, says):
    edit(folder, change)
    with pytest.raises(RarlError, match=says):
        TrajectoryDataset.open(folder)


@pytest.mark.parametrize(
    ("name", "array", "says"),
    [
        ("offsets", np.array([0, 3, 3, 9, 11]), r"offsets\.npy: must rise from 0 to 11"),
        ("offsets", np.array([1, 3, 4, 9, 11]), r"offsets\.npy: must rise"),
        ("offsets", np.array([0, 3, 4, 11]), r"offsets\.npy: must rise"),
        ("offsets", np.array([0, 3, 4, 9, 11], dtype=np.int32), r"offsets\.npy: must be a list of int64"),
        ("rewards", np.zeros((11, 2)), r"rewards\.npy: has shape"),
        ("observations", np.zeros((14, 3)), r"observations\.npy: has 14 rows, must have 15"),
        ("noise", np.zeros(5), r"noise\.npy: must have one row for each of the 4 episodes"),
    ],
)
def test_arrays_that_do_not_fit_together(folder, name, array, says):
    np.save(folder / f"{name}.npy", array)
    entry = {
        "dtype": str(array.dtype),
        "shape": list(array.shape),
        "sha256": sha256_file(folder / f"{name}.npy"),
    }
    edit(folder, lambda m: m["arrays"][name].update(entry))
    check_fault(folder, says)


# --- wrong use of the writer -------------------------------------------------------------------------------------


def test_writer_refuses_what_does_not_fit(tmp_path):
    observations, actions, rewards, lengths = ragged()
    cases = [
        ((observations[:-1], actions, rewards, lengths), {}, "need 15 observations"),
        ((observations, actions, rewards, [3, 0, 6, 2]), {}, "need 15 observations"),
        ((observations.astype(object), actions, rewards, lengths), {}, "cannot be stored"),
        ((observations, actions, rewards, lengths), {"rewards": np.zeros(4)}, "multiple values|cannot name"),
        ((observations, actions, rewards, lengths), {"noise": np.zeros(3)}, "one row for each"),
    ]
    for arguments, extras, says in cases:
        with pytest.raises((ValueError, TypeError), match=says), writer(tmp_path / "a") as out:
            out.add_flat(*arguments, **extras)
    for second, extras, says in (
        (actions.astype(np.int32), {}, "rows of int32"),
        (actions, {"x": lengths}, "after arr"),
    ):
        with writer(tmp_path / "b") as out:
            out.add_flat(observations, actions, rewards, lengths)
            with pytest.raises(ValueError, match=says):
                out.add_flat(observations, second, rewards, lengths, **extras)
        TrajectoryDataset.open(tmp_path / "b").check_valid()  # the refused chunk has left no trace
    shutil.rmtree(tmp_path / "b")
    with pytest.raises(RarlError, match="at least one episode"), writer(tmp_path / "a"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_only_datasets_are_replaced(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.txt").write_text("years of work")
    with pytest.raises(RarlError, match=r"thesis\.txt: not part of a dataset"):
        writer(home)
    (tmp_path / "file").write_text("")
    with pytest.raises(RarlError, match="not a folder"):
        writer(tmp_path / "file")
    assert (home / "thesis.txt").read_text() == "years of work"


# --- all or nothing ----------------------------------------------------------------------------------------------


def test_failure_leaves_the_old_dataset(folder):
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    out = writer(folder)
    out.__enter__()
    out.add_flat(*ragged(seed=1))
    out.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert [entry.name for entry in folder.parent.iterdir()] == ["go"]


def test_replacing_while_it_is_being_read(folder):
    old = TrajectoryDataset.open(folder)
    before = old.observations.copy()
    with writer(folder) as out:
        assert TrajectoryDataset.open(folder).extras  # still the old one
        out.add_flat(*ragged(seed=1))
    np.testing.assert_array_equal(old.observations, before)
    new = TrajectoryDataset.open(folder)
    np.testing.assert_array_equal(new.observations, ragged(seed=1)[0])
    assert not (folder / "noise.npy").exists()
    assert [entry.name for entry in folder.parent.iterdir()] == ["go"]


KILLED = """
import sys, time
import numpy as np
from rarl.trajectories.store import DatasetWriter
with DatasetWriter(sys.argv[1], environment="test", task="go", source="bot", seed=0, generator={}) as out:
    out.add(np.zeros((100, 6)), np.zeros((100, 5)), np.zeros((100, 5)))
    print("written", flush=True)
    time.sleep(60)
"""


def test_killed_writer_leaves_nothing_visible_and_the_next_one_cleans_up(tmp_path):
    target = tmp_path / "go"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(target)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "written\n"
    assert not target.exists()
    with writer(target) as out:  # a second writer leaves the living one alone
        out.add_flat(*ragged())
    assert len([entry for entry in tmp_path.iterdir() if entry.name.endswith(".tmp")]) == 1
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    time.sleep(0.05)
    leftovers = [entry.name for entry in tmp_path.iterdir() if entry != target]
    assert len(leftovers) == 1
    assert leftovers[0].startswith(".go.")
    with writer(target) as out:
        out.add_flat(*ragged())
    assert [entry.name for entry in tmp_path.iterdir()] == ["go"]
    TrajectoryDataset.open(target).check_valid()


def test_release_keeps_the_content(folder):
    dataset = TrajectoryDataset.open(folder)
    before = dataset.observations.sum()
    dataset.release()
    assert dataset.observations.sum() == before


def test_manifest_is_plain_json_in_a_fixed_order(folder):
    text = (folder / "manifest.json").read_text()
    assert text == json.dumps(json.loads(text), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
