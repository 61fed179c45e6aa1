"""Runs: from a planned run to its record, by the learner that the environment needs."""

from __future__ import annotations

import logging
from typing import Any

from rarl.config import EPISODIC, WITHOUT_EFFECT, Run, Scale
from rarl.errors import RarlError
from rarl.jobs import code_of, job_of
from rarl.training.device import choose_device
from rarl.training.loop import Budget, Learner, Settings, train
from rarl.training.run_folder import RunPaths
from rarl.trajectories.store import TrajectoryDataset

log = logging.getLogger(__name__)


def learner_of(run: Run, datasets: list[TrajectoryDataset], device: str) -> Learner:
    """The learner of a run, freshly initialised from torch's global generator and the run's seed.

    Of `datasets` it gets those of the tasks that it learns, and not those of held-out tasks behind them.
    """
    if run.settings.agent.kind in EPISODIC:
        if run.settings.environment == "gridroboman":
            from rarl.training.episodic_boards import BoardEpisodicLearner

            return BoardEpisodicLearner(run, device)
        from rarl.training.episodic_games import GameEpisodicLearner

        return GameEpisodicLearner(run, device)
    datasets = datasets[: len(run.tasks)]
    if run.settings.environment == "gridroboman":
        from rarl.training.transitions import TransitionLearner

        return TransitionLearner(run, datasets, device)
    if run.settings.environment == "babyai":
        from rarl.training.sequences import SequenceLearner

        return SequenceLearner(run, datasets, device)
    from rarl.training.games import GameLearner

    return GameLearner(run, device)


def open_datasets(scale: Scale, run: Run) -> list[TrajectoryDataset]:
    """The run's datasets, then those of its held-out tasks, every byte checked against its manifest."""
    folders = [scale.root / "data" / scale.name / name for name in scale.datasets_of(run)]
    missing = [folder for folder in folders if not (folder / "manifest.json").is_file()]
    if missing:
        name = scale.datasets_of(run)[folders.index(missing[0])]
        raise RarlError(
            f"{missing[0]}: no dataset ({len(missing)} of {len(folders)} are missing); "
            f"`rarl restore {missing[0]}` brings it if it was recorded, "
            f"`rarl datasets make --scale {scale.name} {name}` makes it"
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
) -> dict[str, Any]:
    """Train one run of a scale to its end and publish its record; see `rarl.training.loop.train`."""
    s = run.settings
    datasets = open_datasets(scale, run)
    chosen = choose_device(device)
    record = {
        "run": run.id,
        "scale": scale.name,
        "experiment": s.experiment,
        "task_set": s.task_set,
        "variant": s.variant,
        "seed": s.seed,
        "config": s.model_dump(mode="json", exclude=WITHOUT_EFFECT),
        "config_digest": run.digest,
        "code_digest": code_of(job_of("train", run)),
        "data": {str(d.folder.relative_to(scale.root) / "manifest.json"): d.manifest_sha256 for d in datasets},
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
    )
