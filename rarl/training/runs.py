"""Runs: from a planned run to its record, by the learner that the environment needs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from rarl.agents.candidates import candidates_of, cannot_select
from rarl.envs.spec import learner_kind, load, spec_of
from rarl.errors import RarlError
from rarl.jobs import LoadedCode, train_job
from rarl.planning.scale import Run, Scale
from rarl.training.device import choose_device
from rarl.training.loop import Budget, Learner, Settings, train
from rarl.training.run_folder import RunPaths
from rarl.trajectories.store import TrajectoryDataset

log = logging.getLogger(__name__)


def learner_of(run: Run, datasets: list[TrajectoryDataset], device: str) -> Learner:
    """The learner of a run, freshly initialised from torch's global generator and the run's seed.

    Of `datasets` it gets those of the tasks that it learns, and not those of held-out tasks behind them.
    """
    s = run.settings
    learner = load(spec_of(s.environment).learners[learner_kind(s)])
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
    lengths, returns = ([getattr(d, name)[: s.episodes] for d in used] for name in ("lengths", "returns"))
    return cannot_select(s.agent.retrieval, candidates_of(s.agent.retrieval, lengths, returns))


def open_datasets(scale: Scale, run: Run) -> list[TrajectoryDataset]:
    """The run's datasets, then those of its held-out tasks, every byte checked against its manifest."""
    folders = [scale.root / "data" / scale.name / name for name in scale.datasets_of(run)]
    missing = [folder for folder in folders if not (folder / "manifest.json").is_file()]
    if missing:
        name = scale.datasets_of(run)[folders.index(missing[0])]
        raise RarlError(
            f"{missing[0]}: no dataset ({len(missing)} of {len(folders)} are missing); `dvc checkout` or `dvc pull` "
            f"brings recorded ones, `rarl datasets make --scale {scale.name} {name}` makes it"
        )
    return [TrajectoryDataset.open(folder) for folder in folders]


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
    """Train one run of a scale to its end and publish its record; see `rarl.training.loop.train`.

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
        "data": {str(d.folder.relative_to(scale.root) / "manifest.json"): d.manifest_sha256 for d in datasets},
        "warnings": warnings,
        "expert_returns": {d.task: d.manifest["expert_return"] for d in datasets},
    }
    return train(
        lambda: learner_of(run, datasets, chosen),
        Budget(s.updates, s.evaluation.every_updates, s.log_every, s.checkpoint_seconds),
        RunPaths.of(run.id, scale.name, scale.root),
        record=record,
        settings=Settings(device=chosen, threads=s.threads, tensorboard=s.tensorboard),
        force=force,
        restart_if_changed=restart_if_changed,
        record_failure=record_failure,
        before_publishing=code.check,
    )
