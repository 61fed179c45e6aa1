"""What jobs ask for: memory that fits what runs really took, and a GPU or none."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from rarl.agents.build import encoder_of
from rarl.config.files import SCALES
from rarl.config.scale import Run, Scale
from rarl.config.settings import RunSettings
from rarl.envs.atari.observation import pack
from rarl.workflow import resources
from rarl.workflow.resources import memory_of_costs, memory_of_run, step_mb

ROOT = Path(__file__).resolve().parents[2]
GPU_MB = 80_000  # of the GPUs that clusters have


def asked(scale: Scale, run: Run, gpu: bool, playing: bool = True) -> int:
    return memory_of_run(run, [scale.datasets[name] for name in run.datasets], gpu, playing)


# --- memory -----------------------------------------------------------------------------------------------------------


def test_memory_fits_what_recorded_runs_took() -> None:
    """Beside the peak of a run's own process there is room for those that start it, and not much more."""
    scale, compared = Scale("laptop", ROOT), 0
    for path in (ROOT / "results" / "laptop" / "runs").glob("**/run.json"):
        record = json.loads(path.read_text())
        if record["run"] not in scale.runs or record["hardware"]["device"] != "cpu":
            continue
        peak, memory = record["peak_memory_mb"], asked(scale, scale.runs[record["run"]], gpu=False)
        assert 1.25 * peak + 250 < memory < 4.5 * peak, f"{record['run']}: {memory} MB for {peak} MB"
        compared += 1
    assert compared > 100


def test_memory_of_measured_costs_fits_what_a_process_took() -> None:
    """The column memory_mb is of one process; the job has one of all learners of an experiment beside it."""
    with (ROOT / "results" / "laptop" / "costs.csv").open() as file:
        most = max(float(row["memory_mb"]) for row in csv.DictReader(file))
    assert 2 * most < memory_of_costs(Scale("laptop", ROOT), gpu=False) < 10 * most


@pytest.mark.parametrize("name", SCALES)
def test_a_learner_step_fits_a_gpu(name: str) -> None:
    for run in Scale(name, ROOT).runs.values():
        assert step_mb(run.settings) < GPU_MB, run.id


@pytest.mark.parametrize("name", SCALES)
def test_jobs_that_share_a_gpu_fit_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scale = Scale(name, ROOT)
    most = max(step_mb(run.settings) for run in scale.runs.values() if resources.uses_gpu("train", run))
    for memory in (GPU_MB, 2 * GPU_MB):
        monkeypatch.setattr(resources, "_gpu_memory_mb", lambda memory=memory: memory)
        assert resources.jobs_per_gpu(scale) * most < memory


def test_as_many_jobs_share_a_gpu_as_the_scale_says_where_memory_is_large_or_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scale, program = Scale("paper", ROOT), tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert resources.jobs_per_gpu(scale) == 4  # there is no such program
    for told, expected in (("81559\n1000000", 1), ("1000000\n1000000", 4), ("N/A", 4)):
        program.write_text(f"#!/bin/sh\n/bin/echo '{told}'\n")
        program.chmod(0o755)
        assert resources.jobs_per_gpu(scale) == expected


def test_a_larger_job_asks_for_more() -> None:
    scale = Scale("paper", ROOT)
    run = scale.runs["atari/alien/ra-r2d2/seed-1000"]

    def changed(**changes: dict) -> Run:
        return scale.run("atari", "alien", "ra-r2d2", 1000, changes)

    whole = asked(scale, run, gpu=True)
    # 4 million compressed frames, and a copy of them for each checkpoint.
    assert whole - asked(scale, run, gpu=True, playing=False) == pytest.approx(2 * 4e6 * 1.5e-3, rel=0.15)
    assert whole > asked(scale, changed(online={"capacity_sequences": 10_000}), gpu=True) + 8_000
    assert asked(scale, changed(online={"compression": 0}), gpu=True) > 56_000
    assert asked(scale, run, gpu=False) > whole  # what a step keeps is then in memory too
    assert step_mb(changed(agent={"encoder_options": {"recompute": 0}}).settings) > 3 * step_mb(run.settings)


def kept_bytes(settings: RunSettings) -> float:
    """What autograd keeps of one more state that passes the encoder, by its own account."""
    encoder = encoder_of(settings, 18, 0)

    def kept(n: int) -> int:
        if settings.environment == "atari":
            frames = np.zeros((n, settings.environment_options["stack"], 84, 84), dtype=np.uint8)
            inputs = (torch.from_numpy(pack(frames, np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.float32))),)
        elif settings.environment == "babyai":
            mission = torch.ones(1, 1, 6, dtype=torch.int64)
            inputs = (torch.zeros(1, n, 50, dtype=torch.uint8), mission)
        else:
            inputs = (torch.zeros(1, n, 11, dtype=torch.int8),)
        storages: dict[int, int] = {}
        alive = []

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            alive.append(tensor)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            alive.append(encoder(*inputs))
        return sum(storages.values())

    return (kept(6) - kept(4)) / 2


@pytest.mark.parametrize(
    ("scale", "run"),
    [
        ("laptop", "gridroboman/30-tasks/dqn-hidden/seed-1000"),
        ("paper", "gridroboman/30-tasks/dqn-hidden/seed-1000"),
        ("laptop", "babyai/6-levels-1000-episodes/rdqn/seed-1000"),
        ("workstation", "babyai/40-levels-10000-episodes/rdqn/seed-1000"),
        ("paper", "babyai/40-levels-200000-episodes/rdqn/seed-1000"),
        ("laptop", "atari/kung-fu-master/r2d2/seed-1005"),
        ("workstation", "atari/frostbite/r2d2/seed-1000"),
        ("workstation", "atari/frostbite/dqn/seed-1000"),
        ("paper", "ancestors-atari/frostbite/nec/seed-1000"),
        ("paper", "atari/alien/r2d2/seed-1000"),
    ],
)
def test_what_is_kept_of_a_state_covers_what_autograd_keeps(scale: str, run: str) -> None:
    settings = Scale(scale, ROOT).runs[run].settings
    # All is kept that could be computed again.
    options = {key: 0 if key == "recompute" else value for key, value in settings.agent.encoder_options.items()}
    agent = settings.agent.model_copy(update={"encoder_options": options})
    settings = settings.model_copy(update={"agent": agent})
    real = 1e-6 * kept_bytes(settings)
    assert real < resources._state_mb(settings) < 2 * real + 0.05


# --- GPUs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("partitions", "wanted", "found"),
    [
        ([], None, ""),  # no Slurm
        ([("main*", "(null)")], None, ""),
        ([("main*", "(null)"), ("gpu", "gpu:a100:4(S:0-1)")], None, "gpu"),
        ([("main*", "(null)"), ("main*", "gpu:2"), ("gpu", "gpu:4")], None, "main"),  # some of its nodes have
        ([("main*", "(null)"), ("gpu", "gpu:4"), ("mine", "craynetwork:2,gpu:h200:8")], "mine", "mine"),
        ([("main*", "gpu:1"), ("long", "(null)")], "long", "main"),
        ([("main*", "(null)"), ("gpu", "gpu:4"), ("big", "gpu:8")], "long,big", "big"),
        ([("main*", "shard:gpu:4")], None, ""),
    ],
)
def test_the_partition_with_gpus(partitions: list, wanted: str | None, found: str, monkeypatch) -> None:
    monkeypatch.delenv(resources.GPU_PARTITION, raising=False)
    monkeypatch.setattr(resources, "_partitions", lambda: partitions)
    monkeypatch.setattr(resources, "torch_knows_gpus", lambda: True)
    assert resources.gpu_partition(wanted) == found
    assert os.environ[resources.GPU_PARTITION] == found  # as jobs on nodes get it


def test_a_build_of_torch_for_cpus_gets_no_gpu(monkeypatch, capsys) -> None:
    monkeypatch.delenv(resources.GPU_PARTITION, raising=False)
    monkeypatch.setattr(resources, "_partitions", lambda: [("main*", "gpu:1")])
    monkeypatch.setattr(resources, "torch_knows_gpus", lambda: False)
    assert resources.gpu_partition() == ""
    assert capsys.readouterr().err.startswith(
        "Partition main has GPUs, but the torch installed here is a build for CPU"
    )
    assert resources.gpu_partition() == ""
    assert capsys.readouterr().err == ""  # said once


def test_the_environment_says_otherwise(monkeypatch) -> None:
    monkeypatch.setattr(resources, "_partitions", lambda: pytest.fail("needs no answer"))
    for said in ("a100", ""):
        monkeypatch.setenv(resources.GPU_PARTITION, said)
        assert resources.gpu_partition("main") == said


def test_without_slurm_there_is_no_partition(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert resources._partitions() == []


def test_jobs_that_compute_little_want_no_gpu() -> None:
    runs = Scale("paper", ROOT).runs
    game, board, counting = (
        runs[f"{run}/seed-1000"]
        for run in ("atari/alien/r2d2", "gridroboman/30-tasks/ra-dqn-hidden", "ancestors-atari/alien/mfec")
    )
    assert [resources.uses_gpu("train", run) for run in (game, board, counting)] == [True, True, False]
    assert [resources.uses_gpu("probe", run) for run in (game, board)] == [True, False]
