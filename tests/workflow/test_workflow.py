"""rarl.workflow.rules: what the Snakefile asks."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from rarl.config.scale import Run, Scale
from rarl.envs.spec import ENVIRONMENTS, spec_of
from rarl.errors import RarlError
from rarl.workflow import rules as workflow
from tests import tiny_project

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def smoke() -> Scale:
    return workflow.scale_of({"scale": "smoke"}, ROOT)


def _choices(run: Run) -> set[tuple[str, object]]:
    """What a run's settings choose, numbers aside: (dotted name, value), of numbers only whether they are there."""

    def of(settings: dict, prefix: str) -> Iterator[tuple[str, object]]:
        for key, value in settings.items():
            if isinstance(value, dict):
                yield from of(value, f"{prefix}{key}.")
            elif isinstance(value, str | bool):
                yield f"{prefix}{key}", value
            else:
                yield f"{prefix}{key}", bool(value)

    return set(of(run.settings.model_dump(include={"agent", "learning", "episodic"}), ""))


def test_the_smoke_scale_runs_every_part(smoke: Scale) -> None:
    """Every variant of the main experiments; of the others whatever they choose, in one environment at least."""
    run_there = set().union(*map(_choices, smoke.runs.values()))
    untried = set()
    for name, experiment in smoke.experiments.items():
        task_set = next(iter(smoke.settings.experiments[name].task_sets))
        for variant in (name for name, v in experiment.variants.items() if v.same_as is None):
            run = smoke.run(name, task_set, variant, 0, {"agent": {"retrieval": {"n_traj": 20}}})  # enough for all
            untried |= {(name, variant, *choice) for choice in _choices(run) - run_there}
    assert untried == set()
    for name in ("gridroboman", "babyai", "atari"):
        variants = {run.settings.variant for run in smoke.runs.values() if run.settings.experiment == name}
        assert variants == set(smoke.experiments[name].variants)
    own = {f"{spec_of(name).name}/{source}" for name in ENVIRONMENTS for source in spec_of(name).sources}
    assert set(workflow.dataset_kinds(smoke)) == own | {"babyai-go-to/bot"}


def test_only_the_scale_can_be_set() -> None:
    with pytest.raises(RarlError, match=r"--config sclae=.*did you mean 'scale'"):
        workflow.scale_of({"scale": "smoke", "sclae": "laptop"}, ROOT)
    with pytest.raises(RarlError, match="one key, 'scale'"):
        workflow.scale_of({}, ROOT)


def test_the_preview_needs_the_first_seed_of_the_largest_task_set(smoke: Scale) -> None:
    runs = workflow.preview_runs(smoke)
    assert runs == [
        f"{experiment}/{name}/{variant}/seed-0"
        for experiment, key, name in (
            ("gridroboman", 30, "30-tasks"),
            ("relevance", "3-tasks", "3-tasks"),
            ("babyai", "2-levels-24-episodes", "2-levels-24-episodes"),
            ("control", "2-missions", "2-missions"),
            ("atari", "pong", "pong"),
            ("ablations", 30, "30-tasks"),
            ("ablations-babyai", "2-levels-24-episodes", "2-levels-24-episodes"),
            ("ablations-atari", "pong", "pong"),
            ("held-out", "4-of-6-tasks", "4-of-6-tasks"),
            ("strong-bases", 30, "30-tasks"),
            ("widths", 30, "30-tasks"),
            ("ancestors", 10, "10-tasks"),
            ("ancestors-atari", "pong", "pong"),
        )
        for variant in smoke.settings.experiments[experiment].task_sets[key].variants
    ]


def test_the_plan_changes_with_a_run(smoke: Scale) -> None:
    before = workflow.plan_digest(smoke)
    again = Scale("smoke", ROOT)
    assert workflow.plan_digest(again) == before
    again.runs.popitem()
    assert workflow.plan_digest(again) != before


def test_a_label_changes_the_report_and_no_run(tmp_path: Path) -> None:
    tiny_project.write_config(tmp_path)
    before = Scale("tiny", tmp_path)
    tiny_project.write_config(tmp_path, experiment={"variants": {"oracle": {"label": "an oracle"}}})
    after = Scale("tiny", tmp_path)
    assert {run.id: run.digest for run in after.runs.values()} == {run.id: run.digest for run in before.runs.values()}
    assert workflow.plan_digest(after) != workflow.plan_digest(before)


def make_devices(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).touch()
    return folder


def test_gpus_are_counted_without_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.13.0")
    assert workflow.gpus(tmp_path) == 0
    devices = make_devices(tmp_path, "nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "null")
    assert workflow.gpus(devices) == 2
    for hidden, seen in [("", 0), ("-1", 0), ("1", 1), ("0,1", 2), ("0,-1,1", 1), ("0,1,2,3", 2), ("GPU-1a,GPU-2b", 2)]:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        assert workflow.gpus(devices) == seen, hidden
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.13.0+cpu")
    assert workflow.gpus(devices) == 0


def test_jobs_use_this_python_and_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    workflow.prepare_environment()
    import sys

    assert os.environ["PATH"].split(os.pathsep) == [str(Path(sys.executable).parent), "/usr/bin"]
    assert os.environ["OMP_NUM_THREADS"] == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    workflow.prepare_environment()
    assert os.environ["OMP_NUM_THREADS"] == "3"


def test_a_report_follows_the_files_of_scales_whose_costs_it_shows(tmp_path: Path) -> None:
    assert workflow.described_scales(tmp_path) == []
    (tmp_path / "results").mkdir()
    (tmp_path / "config").mkdir()
    (tmp_path / "results/costs-history.csv").write_text("date,scale\nd,large\nd,large\nd,gone\n")
    (tmp_path / "config/large.yaml").touch()
    assert workflow.described_scales(tmp_path) == ["config/large.yaml"]
