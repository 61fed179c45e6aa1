"""What a person is told before anything runs."""

from __future__ import annotations

import json

import pytest
import tiny_project

from rarl.config import Scale
from rarl.jobs import code_of
from rarl.planning import describe_plan
from rarl.training.run_folder import RunPaths


@pytest.fixture
def root(tmp_path):
    tiny_project.write_config(tmp_path)
    return tmp_path


def put(root, *, checkpoint=True, **changes):
    """A run's record as a finished run leaves it, with changes."""
    scale = Scale("tiny", root)
    run = next(iter(scale.runs.values()))
    paths = RunPaths.of(run.id, "tiny", root)
    record = {"status": "finished", "config_digest": run.digest, "code_digest": code_of("train-gridroboman")} | changes
    paths.record.mkdir(parents=True)
    (paths.record / "run.json").write_text(json.dumps(record))
    if checkpoint:
        paths.checkpoint.mkdir(parents=True)
        (paths.checkpoint / "checkpoint.pt").touch()
    return scale


def finished(scale):
    return int(describe_plan(scale).split(" finished)")[0].split("(")[-1])


def test_a_finished_run_is_counted_and_shortens_the_time(root):
    before = describe_plan(Scale("tiny", root))
    assert f"runs      {len(Scale('tiny', root).runs)} (0 finished)" in before
    assert "About 0 s" not in before
    assert finished(put(root)) == 1


@pytest.mark.parametrize(
    "fault",
    [
        {"checkpoint": False},  # a fresh clone: git holds the records, DVC the checkpoints
        {"status": "failed"},
        {"config_digest": "0" * 12},
        {"code_digest": "0" * 12},
    ],
    ids=lambda fault: next(iter(fault)),
)
def test_what_will_be_done_again_is_not_counted(root, fault):
    assert finished(put(root, **fault)) == 0
