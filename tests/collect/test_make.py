"""Making datasets of every source, and by the command line, killed on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
import yaml

from rarl.collect.make import make_dataset
from rarl.config.scale import Scale
from rarl.config.fit import sources_of
from rarl.envs.spec import ENVIRONMENTS, spec_of
from rarl.mappings import merge
from rarl.trajectories.store import TrajectoryDataset
from rarl.workflow.rules import DATASET_FILES
from tests import tiny_babyai, tiny_project

GENERATED = [source for name in ENVIRONMENTS for source in spec_of(name).sources]
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


def test_every_source_is_known_everywhere():
    sources = [source for of_environment in SOURCES.values() for source in of_environment]
    assert len(set(sources)) == len(sources)
    for known in (SIZE_KEYS, GENERATED, DATASET_FILES):
        assert set(known) == set(sources)


@pytest.mark.parametrize("source", GENERATED)
def test_a_dataset_of_every_source(tmp_path, source):
    """The settings reach its generator, and it holds the files that the workflow waits for."""
    environment = next(name for name, sources in SOURCES.items() if source in sources)
    task = {"gridroboman": "touch red", "babyai": "GoToRedBallGrey"}[environment]
    size = {"episodes": 5, "environment_steps": 200}[SIZE_KEYS[source]]
    kind = {"source": source, "tasks": [task], "seed": 3, SIZE_KEYS[source]: size}
    if SIZE_KEYS[source] == "episodes":
        kind["noise_percent"] = [40]
    (tmp_path / "config").mkdir()
    plan = merge(tiny_project.SCALE, {"datasets": {"gridroboman": [], environment: [kind]}}) | {"experiments": {}}
    (tmp_path / "config" / "tiny.yaml").write_text(yaml.safe_dump(plan))
    scale = Scale("tiny", tmp_path)
    (planned,) = scale.datasets.values()
    folder = make_dataset(scale, planned)
    dataset = TrajectoryDataset.open(folder)
    manifest = dataset.manifest
    assert {file.name for file in folder.iterdir()} == set(DATASET_FILES[source])
    assert [manifest[key] for key in ("environment", "task", "source", "seed")] == [environment, task, source, 3]
    if SIZE_KEYS[source] == "episodes":
        assert dataset.episodes == 5
        assert set(dataset.extras["noise"].tolist()) == {40}
    else:
        assert 200 <= dataset.steps < 264
        assert manifest["generator"]["environment_steps"] == 200
        assert (dataset.extras["epsilon"] > 0).all()
