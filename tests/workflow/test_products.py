"""rarl.workflow.verify: datasets and checkpoints against what their records say."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import yaml

from rarl.config.scale import Dataset, Scale
from rarl.errors import RarlError
from rarl.files import read_json, sha256_file, write_json, write_text
from rarl.runs.run_folder import CHECKPOINT, sidecar
from rarl.workflow import verify

RUN = "gridroboman/10-tasks/dqn/seed-0"
CHECKSUM = sidecar(CHECKPOINT).name


@pytest.fixture
def scale(own_root: Path) -> Scale:
    """A tiny project with datasets and one run's checkpoint and record."""
    scale = Scale("tiny", own_root)
    checkpoint = own_root / "results/tiny/checkpoints" / RUN / CHECKPOINT
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"networks")
    checksum = sha256_file(checkpoint)
    write_text(checkpoint.with_name(CHECKSUM), f"{checksum}  {CHECKPOINT}\n")
    manifest = "data/tiny/gridroboman/planner/lift-red/manifest.json"
    record = {
        "run": RUN,
        "status": "finished",
        "checkpoint_sha256": checksum,
        "config_digest": scale.runs[RUN].digest,
        "data": {manifest: sha256_file(own_root / manifest)},
    }
    write_json(own_root / "results/tiny/runs" / RUN / "run.json", record)
    assert verify.find_faults(scale) == []
    return scale


def dataset(scale: Scale) -> Path:
    return scale.root / "data/tiny/gridroboman/planner/lift-red"


def faults(scale: Scale) -> dict[str, str]:
    return {fault.path.relative_to(scale.root).as_posix(): fault.what for fault in verify.find_faults(scale)}


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["observations", "actions", "rewards", "offsets", "returns", "noise"])
def test_every_array_is_compared_with_its_manifest(scale: Scale, name: str) -> None:
    path = dataset(scale) / f"{name}.npy"
    flip(path)
    place = path.relative_to(scale.root).as_posix()
    assert list(faults(scale)) == [place]
    path.write_bytes(path.read_bytes()[:100])
    assert "damaged (its SHA-256 is not the one in manifest.json)" in faults(scale)[place]
    path.unlink()  # what is missing is made again
    assert faults(scale) == {}


def test_a_changed_file_with_its_old_time_is_read_again(scale: Scale) -> None:
    path = dataset(scale) / "rewards.npy"
    before = path.stat()
    flip(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert len(faults(scale)) == 1


def test_an_unchanged_file_is_read_once(scale: Scale, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    monkeypatch.setattr(verify, "sha256_file", lambda path: read.append(path) or sha256_file(path))
    assert verify.find_faults(scale) == []
    assert read == []
    os.utime(dataset(scale) / "rewards.npy")
    assert verify.find_faults(scale) == []
    assert read == [dataset(scale) / "rewards.npy"]
    assert verify.find_faults(scale, reread=True) == []
    assert len(read) > 60
    (scale.root / "scratch/tiny/hashes.json").write_text("{")  # thrown away, and read anew
    assert verify.find_faults(scale) == []


def test_manifests_are_of_their_place(scale: Scale) -> None:
    folder = dataset(scale)
    place = "data/tiny/gridroboman/planner/lift-red/manifest.json"
    (folder / "foreign.npy").write_bytes(b"")
    assert faults(scale) == {place.replace("manifest.json", "foreign.npy"): "foreign (not in manifest.json)"}
    shutil.rmtree(folder)
    shutil.copytree(folder.with_name("lift-green"), folder)
    assert faults(scale)[place].startswith("of another dataset: task 'lift green' (planned: 'lift red')")
    (folder / "manifest.json").write_text("{")
    assert "not valid JSON" in faults(scale)[place]
    # A writer's folder, and one in which a killed writer left arrays without a manifest, are nobody's.
    folder.rename(folder.with_name(".lift-red.1234.tmp"))
    shutil.copytree(folder.with_name("lift-green"), folder)
    (folder / "manifest.json").unlink()
    assert faults(scale) == {}


def test_what_the_settings_no_longer_ask_for_is_due_and_not_recorded(scale: Scale) -> None:
    path = scale.root / "config/tiny.yaml"
    settings = yaml.safe_load(path.read_text())
    for key, value in (("seed", 7), ("episodes", 17)):
        changed = json.loads(json.dumps(settings["datasets"]))
        changed["gridroboman"][0][key] = value
        path.write_text(yaml.safe_dump(settings | {"datasets": changed}))
        other = Scale("tiny", scale.root)
        verify.check(other, planned=False)
        with pytest.raises(RarlError, match=rf"lift-red/manifest\.json: {key} \d+ \(planned: {value}\)\n"):
            verify.check(other)


@pytest.mark.parametrize("environment", ["gridroboman", "rarl.envs.gridroboman.spec:SPEC"])
def test_a_dataset_with_other_settings_is_due_however_its_environment_is_named(scale: Scale, environment: str) -> None:
    planned = scale.datasets["gridroboman/planner/lift-red"]
    changed = Dataset(environment, planned.task, planned.settings.model_copy(update={"episodes": 17}))
    folder = dataset(scale)
    [fault] = verify._unlike(folder, read_json(folder / "manifest.json"), changed)
    assert fault.unplanned
    assert fault.what.startswith("episodes ")


def test_a_run_with_other_settings_is_due_and_not_recorded(scale: Scale) -> None:
    record = scale.root / "results/tiny/runs" / RUN / "run.json"
    run = scale.runs[RUN]
    said = read_json(record) | {"config_digest": run.digest, "config": run.recorded()}
    write_json(record, said)
    assert verify.find_faults(scale) == []
    other = said["config"] | {"updates": said["config"]["updates"] + 1}
    write_json(record, said | {"config_digest": "0" * 12, "config": other})
    verify.check(scale, planned=False)
    with pytest.raises(RarlError, match=r"run\.json: made with other settings: updates: \d+ then, \d+ now\n"):
        verify.check(scale)


def test_checkpoints_are_those_of_their_run(scale: Scale) -> None:
    folder = scale.root / "results/tiny/checkpoints" / RUN
    record = f"results/tiny/runs/{RUN}/run.json"
    checkpoint, checksum = (f"results/tiny/checkpoints/{RUN}/{name}" for name in (CHECKPOINT, CHECKSUM))
    flip(folder / CHECKPOINT)
    assert list(faults(scale)) == [checkpoint]
    # Of another run, together with its sum.
    write_text(folder / CHECKSUM, f"{sha256_file(folder / CHECKPOINT)}  {CHECKPOINT}\n")
    assert list(faults(scale)) == [checkpoint, checksum]
    assert f"or of another run (its SHA-256 is not the one in {scale.root / record})" in faults(scale)[checkpoint]
    # A record without the sum, as older ones, says nothing about it.
    said = json.loads((scale.root / record).read_text())
    del said["checkpoint_sha256"]
    write_json(scale.root / record, said)
    assert faults(scale) == {}
    flip(folder / CHECKPOINT)
    assert "the one in checkpoint.pt.sha256" in faults(scale)[checkpoint]
    write_json(scale.root / record, said | {"run": "gridroboman/10-tasks/dqn/seed-1"})
    assert faults(scale) == {record: "of another run (gridroboman/10-tasks/dqn/seed-1)"}
    (scale.root / record).write_text("{")
    assert faults(scale) == {record: "damaged (not the record of a run)"}


def test_a_run_from_other_data_is_due_and_not_recorded(scale: Scale) -> None:
    path = dataset(scale) / "manifest.json"
    write_json(path, json.loads(path.read_text()) | {"rarl": "another version"})
    verify.check(scale, planned=False)
    with pytest.raises(RarlError, match=r"run\.json: made from another data/.*\n.*start the workflow again"):
        verify.check(scale)


def test_every_fault_is_a_line_and_the_advice_the_last(scale: Scale) -> None:
    for folder in sorted((scale.root / "data/tiny/gridroboman/planner").iterdir())[:9]:
        flip(folder / "rewards.npy")
    with pytest.raises(RarlError) as caught:
        verify.check(scale)
    lines = str(caught.value).splitlines()
    assert lines[0] == "9 files are not as recorded:"
    assert len(lines) == 1 + 8 + 1 + 1
    assert lines[-2] == "... and 1 more"
    assert lines[-1].startswith("`rarl restore --scale tiny` brings back what DVC keeps of them")
