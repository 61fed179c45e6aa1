"""Runs: from a planned run to its record, by the learner that the environment needs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from rarl.agents.candidates import candidates_of, cannot_select
from rarl.config.scale import Run, Scale
from rarl.envs.common import LEARNERS
from rarl.envs.spec import learner_kind, load, spec_of
from rarl.errors import RarlError
from rarl.files import sha256_file
from rarl.jobs import LoadedCode, train_job
from rarl.provenance import claim_digests
from rarl.runs import checkpoints
from rarl.runs.device import choose_device
from rarl.runs.loop import Budget, Learner, LoopSettings, train
from rarl.runs.run_folder import CHECKPOINT, RunPaths, read_record
from rarl.trajectories.plan import folder_of
from rarl.trajectories.store import MANIFEST, TrajectoryDataset
from rarl.trajectories.verify import open_planned

_DATA = 4  # of random numbers, the stream that draws episodes

log = logging.getLogger(__name__)


def learner_of(run: Run, datasets: list[TrajectoryDataset], device: str) -> Learner:
    """The learner of a run, freshly initialised from torch's global generator and the run's seed.

    Of `datasets` it gets those of the tasks that it learns, and not those of held-out tasks behind them.
    """
    s = run.settings
    learner = load(LEARNERS[learner_kind(s)])
    return learner(run, device) if s.plays else learner(run, datasets[: len(run.tasks)], device)


def retrieval_warnings(run: Run, datasets: Sequence[TrajectoryDataset]) -> list[str]:
    """Why the retrieval of a run's agent has nothing to choose from; empty where it has, or retrieves nothing.

    datasets: what it retrieves from; none: windows of its own replay.
    """
    s = run.settings
    if not run.retrieves:
        return []
    if s.online is not None:
        lengths = [np.array([s.learning.sequence_steps - s.learning.burn_in])]
        return cannot_select(s.agent.retrieval, candidates_of(s.agent.retrieval, lengths))
    used = datasets[: len(run.tasks)]
    lengths, returns = ([getattr(d, name)[d.used] for d in used] for name in ("lengths", "returns"))
    return cannot_select(s.agent.retrieval, candidates_of(s.agent.retrieval, lengths, returns))


def open_datasets(scale: Scale, run: Run) -> list[TrajectoryDataset]:
    """The run's datasets, then those of its held-out tasks: each is the planned one, and every byte and value checked.

    If `episodes` are fewer than there are, each seed has its own draw of them, the same for all agents.

    Raises:
      RarlError: one is missing, damaged, another one, or holds what its environment cannot give.
    """
    opened = open_planned(scale, [scale.find_dataset(name) for name in run.datasets])
    return [used_by(run, dataset) for dataset in opened]


def used_by(run: Run, dataset: TrajectoryDataset) -> TrajectoryDataset:
    """A dataset as a run uses it: all, or each seed's own draw, in which those of smaller numbers lie."""
    s = run.settings
    task = list(spec_of(s.environment).tasks).index(dataset.task)
    return dataset.part(s.episodes, np.random.default_rng([s.seed, _DATA, task]))


def data_of(scale: Scale, run: Run) -> dict[str, str | None]:
    """SHA-256 of the manifests of a run's datasets by their paths, as records and checkpoints have them.

    None for one that is not there.
    """
    paths = [folder_of(scale, name) / MANIFEST for name in run.datasets]
    return {str(path.relative_to(scale.root)): sha256_file(path) if path.is_file() else None for path in paths}


def load_published(scale: Scale, run: Run) -> checkpoints.Checkpoint:
    """The checkpoint that a run published at its end.

    Raises:
      RarlError: it is missing or damaged, belongs to another run, or was made with other settings or data than the run
        would be now, or by other code than the run's record says.
    """
    path = RunPaths.of(run.id, scale.name, scale.root).checkpoint / CHECKPOINT
    train = f"`rarl train --scale {scale.name} {run.id}`"
    if not path.is_file():
        raise RarlError(f"{path}: no checkpoint; train the run first ({train})")
    loaded = checkpoints.load(path)
    # Agents that retrieve nothing can be looked into without their datasets.
    data = {name: found or loaded.header.data.get(name) for name, found in data_of(scale, run).items()}
    # Whether its code is the present one is the workflow's concern; here, that it is that of the run's record.
    record = RunPaths.of(run.id, scale.name, scale.root).record / "run.json"
    code = read_record(record).get("code_digest") if record.is_file() else None
    expected = checkpoints.Header(run.id, run.recorded(), code_digest=code, data=data)
    checkpoints.compare(loaded.header, expected, path)
    if not isinstance(loaded.state, dict) or not loaded.state.get("learner"):
        raise RarlError(f"{path}: holds no network: the run failed before its first update; train it again ({train})")
    return loaded


def train_run(
    scale: Scale,
    run: Run,
    *,
    device: str = "auto",
    force: bool = False,
    restart_if_changed: bool = False,
    record_failure: bool = False,
    code: LoadedCode | None = None,
) -> dict[str, Any]:
    """Train one run of a scale to its end and publish its record; see `rarl.runs.loop.train`.

    code: what this process computes with, where the caller has looked already.
    """
    s, code = run.settings, code or LoadedCode(train_job(run))
    datasets = open_datasets(scale, run)
    warnings = retrieval_warnings(run, datasets)
    for warning in warnings:
        log.warning("%s: %s", run.id, warning)
    chosen = choose_device(device)
    record = {
        "run": run.id,
        "scale": scale.name,
        "experiment": s.experiment,
        "task_set": s.task_set,
        "variant": s.variant,
        "seed": s.seed,
        "config": run.recorded(),
        "config_digest": run.digest,
        "code_digest": code.code.digest,
        "code": code.code.record,
        "data": data_of(scale, run),
        "claims": claim_digests(scale.root, scale.name),
        "warnings": warnings,
        "expert_returns": {d.task: d.manifest["expert_return"] for d in datasets},
    }
    return train(
        lambda: learner_of(run, datasets, chosen),
        Budget(s.updates, s.evaluation.every_updates, s.log_every, s.checkpoint_seconds),
        RunPaths.of(run.id, scale.name, scale.root),
        record=record,
        settings=LoopSettings(device=chosen, threads=s.threads, tensorboard=s.tensorboard),
        force=force,
        restart_if_changed=restart_if_changed,
        record_failure=record_failure,
        before_publishing=code.check,
    )
