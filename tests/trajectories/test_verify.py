"""Datasets are those that are planned and hold what their environment can give, before anything learns from them."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from rarl import cli
from rarl.config.scale import Scale
from rarl.errors import RarlError
from rarl.files import sha256_file, write_json
from rarl.trajectories import verify
from rarl.trajectories.plan import unlike_plan
from rarl.trajectories.store import DatasetWriter, describe_returns
from rarl.trajectories.verify import open_planned
from rarl.workflow.verify import verify_folder
from tests.command_line import fails

LIFT_RED, TOUCH_RED = "gridroboman/planner/lift-red", "gridroboman/planner/touch-red"
RUN = "gridroboman/10-tasks/dqn/seed-0"


@pytest.fixture
def root(own_root, monkeypatch):
    monkeypatch.chdir(own_root)
    shutil.rmtree("scratch", ignore_errors=True)
    return own_root


@pytest.fixture
def babyai(tiny_babyai_root, tmp_path, monkeypatch):
    shutil.copytree(tiny_babyai_root, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rewrite(folder: Path, name: str, change, **manifest) -> None:
    """Change an array and let the manifest fit: hash, dtype, shape and returns, as a faulty generator would."""
    array = np.load(folder / f"{name}.npy")
    array = change(array.copy())
    np.save(folder / f"{name}.npy", array)
    if name == "rewards":
        offsets = np.load(folder / "offsets.npy")
        returns = np.add.reduceat(array.astype(np.float64), offsets[:-1]).astype(np.float32)
        np.save(folder / "returns.npy", returns)
    content = json.loads((folder / "manifest.json").read_text())
    if name == "rewards" and np.isfinite(returns).all():
        content["returns"] = describe_returns(returns)
    for entry in content["arrays"].values():
        path = folder / entry["file"]
        array = np.load(path)
        entry |= {"dtype": str(array.dtype), "shape": list(array.shape), "sha256": sha256_file(path)}
    write_json(folder / "manifest.json", content | manifest)


def put(at, value):
    def change(array):
        array[at] = value
        return array

    return change


# ----------------------------------------------------------------------------------------------------------------- plan


def test_another_tasks_dataset_is_refused_wherever_one_is_opened(root, capsys):
    folder = root / "data" / "tiny" / LIFT_RED
    shutil.rmtree(folder)
    shutil.copytree(root / "data" / "tiny" / TOUCH_RED, folder)
    told = f"data/tiny/{LIFT_RED}/manifest.json: not dataset {LIFT_RED} of scale tiny: task 'touch red' (planned: 'lift"
    for command in (
        ["train", RUN.replace("dqn", "ra-dqn")],
        ["search", "gridroboman", "dqn"],
        ["costs"],
        ["datasets", "verify", f"data/tiny/{LIFT_RED}"],
    ):
        error = fails(capsys, *command)
        assert told in error, error
        assert f"`rarl datasets make --scale tiny {LIFT_RED}` makes it" in error
    assert not (root / "results").exists()
    cli.main(["datasets", "make", LIFT_RED])
    verify_folder(folder)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"seed": 1}, "seed 0 (planned: 1)"),
        ({"episodes": 17}, "episodes 16 (planned: 17)"),
        ({"options": {"noise_percent": [0, 10]}}, "generator.noise_percent [0, 10, 25, 50, 100] (planned: [0, 10])"),
    ],
)
def test_a_dataset_of_another_size_seed_or_setting_is_refused(root, settings, expected):
    scale = Scale("tiny", root)
    planned = scale.datasets[LIFT_RED]
    planned.settings = planned.settings.model_copy(update=settings)
    with pytest.raises(RarlError) as caught:
        open_planned(scale, [planned])
    assert expected in str(caught.value)


def test_what_is_planned_of_each_source_is_what_generators_write(babyai):
    """Those that play while they learn are compared by their steps; that of the bot here, by its episodes."""
    scale = Scale("tiny", babyai)
    for dataset in scale.datasets.values():
        manifest = json.loads((babyai / "data" / "tiny" / dataset.id / "manifest.json").read_text())
        assert unlike_plan(manifest, dataset) == []
        assert unlike_plan(manifest | {"episodes": True, "generator": None}, dataset) == [
            "episodes True (planned: 16)",
            "generator.noise_percent None (planned: [0, 30])",
        ]


# -------------------------------------------------------------------------------------------------------------- content


BOARD_FAULTS = [
    ("actions", put(slice(None), 99), "actions.npy: episode 0, step 0 holds 99, must be 0 to 6"),
    ("actions", put(773, -1), "actions.npy: episode 15, step 23 holds -1, must be 0 to 6"),
    ("actions", lambda a: a.astype(np.int64), "actions.npy: rows of int64 (), but gridroboman has int8 ()"),
    ("observations", put((52, 4), 2), "observations.npy: episode 1, observation 1 holds 2 at (4,), must be -1 to 1"),
    ("observations", put((0, 0), 7), "observations.npy: episode 0, observation 0 holds 7 at (0,), must be 0 to 6"),
    ("observations", lambda a: a[:, :10], "observations.npy: rows of int8 (10,), but gridroboman has int8 (11,)"),
    ("observations", lambda a: a.astype(np.float32), "observations.npy: rows of float32 (11,)"),
    ("rewards", put(3, 2), "rewards.npy: episode 0, step 3 holds 2, must be 0 to 1"),
    ("rewards", lambda a: a + np.float32("nan"), "rewards.npy: rows of float32"),
    ("noise", put(5, 101), "noise.npy: episode 5 holds 101, must be 0 to 100"),
]


@pytest.mark.parametrize(("name", "change", "expected"), BOARD_FAULTS, ids=lambda v: v if isinstance(v, str) else "")
def test_what_no_board_can_give_is_found_before_training_and_by_verify(root, capsys, name, change, expected):
    rewrite(root / "data" / "tiny" / LIFT_RED, name, change)
    for command in (["train", RUN], ["datasets", "verify", f"data/tiny/{LIFT_RED}"]):
        error = fails(capsys, *command)
        assert f"data/tiny/{LIFT_RED}/{expected}" in error, error
    shutil.copytree(root / "data" / "tiny" / LIFT_RED, root / "alone")
    assert f"alone/{expected}" in fails(capsys, "datasets", "verify", "alone")
    assert not (root / "results").exists()
    assert not (root / "scratch" / "tiny" / "verified" / f"{LIFT_RED}.json").exists()


LEVEL_FAULTS = [
    ("rewards", put(0, np.nan), "rewards.npy: episode 0, step 0 holds nan, must be 0 to 1"),
    ("rewards", put(0, np.inf), "rewards.npy: episode 0, step 0 holds inf, must be 0 to 1"),
    ("observations", put((0, 49), 4), "observations.npy: episode 0, observation 0 holds 4 at (49,), must be 0 to 3"),
    (
        "observations",
        put((0, 0), 198),
        "observations.npy: episode 0, observation 0 holds 198 at (0,), must be 0",
    ),
    ("mission", put((2, 1), 255), "mission.npy: episode 2 holds 255 at (1,), must be 0 to"),
    ("seed", put(1, -4), "seed.npy: episode 1 holds -4"),
    ("actions", put(0, 7), "actions.npy: episode 0, step 0 holds 7, must be 0 to 6"),
]


@pytest.mark.parametrize(("name", "change", "expected"), LEVEL_FAULTS, ids=lambda v: v if isinstance(v, str) else "")
def test_what_no_level_can_give_is_found(babyai, name, change, expected):
    scale = Scale("tiny", babyai)
    dataset = next(iter(scale.datasets.values()))
    folder = babyai / "data" / "tiny" / dataset.id
    verify_folder(folder)
    rewrite(folder, name, change)
    with pytest.raises(RarlError) as caught:
        open_planned(scale, [dataset])
    assert f"{folder}/{expected}" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"ends": "termination"}, "'ends' is 'termination', gridroboman has 'truncation'"),
        ({"expert_return": "high"}, "expert_return 'high' is not a number"),
    ],
)
def test_a_manifest_that_no_generator_writes(root, changes, expected):
    folder = root / "data" / "tiny" / LIFT_RED
    write_json(folder / "manifest.json", json.loads((folder / "manifest.json").read_text()) | changes)
    with pytest.raises(RarlError, match=expected):
        verify_folder(folder)


def test_of_an_unknown_environment_all_must_be_finite(tmp_path):
    x = np.zeros((2, 4, 3), dtype=np.float32)
    x[1, 2, 0] = np.inf
    with DatasetWriter(tmp_path / "a", environment="maze", task="t", source="bot", seed=0, generator={}) as out:
        out.add(x, np.zeros((2, 3), dtype=np.int64), np.zeros((2, 3), dtype=np.float32))
    with pytest.raises(RarlError, match=r"observations\.npy: episode 1, observation 2 holds inf at \(0,\), must"):
        verify_folder(tmp_path / "a")


# ---------------------------------------------------------------------------------------------------- layout and marks


def test_verify_says_with_what_it_compared(root, capsys):
    shutil.copytree(root / "data" / "tiny" / LIFT_RED, root / "elsewhere")
    shutil.copytree(root / "data" / "tiny" / LIFT_RED, root / "data" / "tiny" / "gridroboman" / "planner" / "spare")
    cli.main(["datasets", "verify", f"data/tiny/{LIFT_RED}", "elsewhere"])
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith("all hashes match, as planned by scale tiny")
    assert second.endswith("all hashes match, of no project")
    error = fails(capsys, "datasets", "verify", "data/tiny/gridroboman/planner/spare")
    assert f"manifest.json: is that of {LIFT_RED}, not of gridroboman/planner/spare" in error


def test_content_is_looked_at_once_for_each_manifest(root, monkeypatch):
    subsample = []
    check = verify.check_content
    monkeypatch.setattr(
        verify, "check_content", lambda dataset, *of: subsample.append(dataset.folder) or check(dataset, *of)
    )
    scale = Scale("tiny", root)
    dataset = scale.datasets[LIFT_RED]
    folder = root / "data" / "tiny" / LIFT_RED
    before = sorted(path.name for path in folder.iterdir())
    for _ in range(3):
        open_planned(scale, [dataset])
    assert subsample == [folder]
    assert sorted(path.name for path in folder.iterdir()) == before  # marks are kept elsewhere
    mark = root / "scratch" / "tiny" / "verified" / f"{LIFT_RED}.json"
    mark.write_text("{")  # a damaged mark is none
    open_planned(scale, [dataset])
    rewrite(folder, "actions", put(0, 1))
    open_planned(scale, [dataset])
    assert len(subsample) == 3
    monkeypatch.setattr(verify, "_RULES", verify._RULES + 1)
    open_planned(scale, [dataset])
    assert len(subsample) == 4


def test_a_flipped_byte_is_found_even_if_times_are_trusted(root):
    scale = Scale("tiny", root)
    dataset = scale.datasets[LIFT_RED]
    folder = root / "data" / "tiny" / LIFT_RED
    path = folder / "observations.npy"
    open_planned(scale, [dataset])
    verify_folder(folder, quick=True)
    times, content = os.stat(path), bytearray(path.read_bytes())
    content[-1] ^= 2
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    for look in (lambda: verify_folder(folder, quick=True), lambda: open_planned(scale, [dataset])):
        with pytest.raises(RarlError, match=r"observations\.npy: damaged"):
            look()


def test_trusted_times_spare_the_reading(root, monkeypatch):
    scale = Scale("tiny", root)
    dataset, folder = scale.datasets[LIFT_RED], root / "data" / "tiny" / LIFT_RED
    open_planned(scale, [dataset])
    read = []
    monkeypatch.setattr("rarl.trajectories.store.sha256_file", lambda path: read.append(path) or sha256_file(path))
    verify_folder(folder, quick=True)
    assert not read
    open_planned(scale, [dataset])
    assert len(read) == 6
    (folder / "noise.npy").unlink()
    with pytest.raises(RarlError, match=r"noise\.npy: missing"):
        verify_folder(folder, quick=True)


def test_where_no_mark_can_be_written_all_is_looked_at_again(root):
    scale = Scale("tiny", root)
    (root / "scratch").write_text("in the way")
    for _ in range(2):
        assert open_planned(scale, [scale.datasets[LIFT_RED]])[0].episodes == 16
