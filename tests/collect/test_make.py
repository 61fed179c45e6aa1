"""Making datasets of every source, and by the command line, killed on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml

from rarl.collect.make import make_dataset
from rarl.config.scale import Scale
from rarl.envs.spec import COMMON, ENVIRONMENTS, sources_of, spec_of
from rarl.files import sha256_file
from rarl.mappings import merge
from rarl.trajectories.plan import unlike_plan
from rarl.trajectories.store import TrajectoryDataset
from rarl.trajectories.verify import check_content
from rarl.workflow.rules import dataset_files, dataset_kinds
from tests import tiny_babyai, tiny_project

TASKS = {"gridroboman": "touch red", "babyai": "GoToRedBallGrey"}
# Minari's are other people's.
GENERATED = [(name, source) for name in TASKS for source in sources_of(spec_of(name)) if source != "minari"]
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
    kind = {"source": "bot", "tasks": tiny_babyai.LEVELS, "episodes": 400, "options": {"noise_percent": [0, 50]}}
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
    hashes = [sha256_file(root / "data" / "tiny" / DATASET / "manifest.json") for root in roots]
    assert hashes[0] == hashes[1]
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]  # leftovers are gone
    assert Scale("tiny", roots[0]).find_dataset(DATASET).settings.episodes == 400


def test_an_environments_own_sources_come_first_and_no_common_one_is_in_their_way():
    for name in ENVIRONMENTS:
        spec, sources = spec_of(name), sources_of(spec_of(name))
        assert [*sources][: len(spec.sources)] == [*spec.sources]
        assert not set(spec.sources) & set(COMMON)
        assert set(sources) - set(spec.sources) == set(COMMON)
        assert all(source.unit in ("episodes", "environment_steps") for source in sources.values())


@pytest.mark.parametrize(("environment", "source"), GENERATED)
def test_a_dataset_of_every_source(tmp_path, environment, source):
    """The settings reach its generator, and it holds the files that the workflow waits for."""
    task, unit = TASKS[environment], sources_of(spec_of(environment))[source].unit
    size = {"episodes": 5, "environment_steps": 200}[unit]
    kind = {"source": source, "tasks": [task], "seed": 3, unit: size}
    expert = source in ("planner", "bot")
    if expert:
        kind["options"] = {"noise_percent": [40]}
    (tmp_path / "config").mkdir()
    plan = merge(tiny_project.SCALE, {"datasets": {"gridroboman": [], environment: [kind]}}) | {"experiments": {}}
    (tmp_path / "config" / "tiny.yaml").write_text(yaml.safe_dump(plan))
    scale = Scale("tiny", tmp_path)
    (planned,) = scale.datasets.values()
    folder = make_dataset(scale, planned)
    dataset = TrajectoryDataset.open(folder)
    manifest = dataset.manifest
    assert {file.name for file in folder.iterdir()} == set(dataset_files(planned))
    assert dataset_kinds(scale) == {f"{environment}/{source}": dataset_files(planned)}
    assert unlike_plan(manifest, planned) == []
    assert [manifest[key] for key in ("environment", "task", "source", "seed")] == [environment, task, source, 3]
    if unit == "episodes":
        assert dataset.episodes == 5
    else:
        # Whole episodes, of several actors at once.
        assert 200 <= dataset.steps < 200 + 32 * 64
        assert manifest["generator"]["environment_steps"] == 200
        assert manifest["expert_return"] > 0
    check_content(dataset)  # what it holds is what the environment has
    if expert:
        assert set(dataset.extras["noise"].tolist()) == {40}
    else:
        assert set(np.concatenate([episode.actions for episode in dataset]).tolist()) == set(range(7))
