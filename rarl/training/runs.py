"""Runs: from a planned run to its record, by the learner that the environment needs."""

from __future__ import annotations

import logging
from typing import Any

from rarl.config import EPISODIC, WITHOUT_EFFECT, Run, Scale
from rarl.errors import RarlError
from rarl.files import sha256_file
from rarl.jobs import code_of, job_of
from rarl.training import checkpoints
from rarl.training.device import choose_device
from rarl.training.loop import Budget, Learner, Settings, train
from rarl.training.run_folder import RunPaths
from rarl.trajectories.store import MANIFEST, TrajectoryDataset
from rarl.trajectories.verify import folder_of, open_planned

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
    """The run's datasets, then those of its held-out tasks: each is the planned one, and every byte and value checked.

    Raises:
      RarlError: one is missing, damaged, another one, or holds what its environment cannot give.
    """
    names = scale.datasets_of(run)
    missing = [name for name in names if not (folder_of(scale, name) / MANIFEST).is_file()]
    if missing:
        raise RarlError(
            f"{folder_of(scale, missing[0])}: no dataset ({len(missing)} of {len(names)} are missing); `dvc checkout` "
            f"or `dvc pull` brings recorded ones, `rarl datasets make --scale {scale.name} {missing[0]}` makes it"
        )
    return [open_planned(scale, scale.find_dataset(name)) for name in names]


def data_of(scale: Scale, run: Run) -> dict[str, str | None]:
    """SHA-256 of the manifests of a run's datasets by their paths, as records and checkpoints have them.

    None for one that is not there.
    """
    paths = [folder_of(scale, name) / MANIFEST for name in scale.datasets_of(run)]
    return {str(path.relative_to(scale.root)): sha256_file(path) if path.is_file() else None for path in paths}


def config_of(run: Run) -> dict[str, Any]:
    """A run's settings as records and checkpoints have them: without those that change nothing that comes out."""
    return run.settings.model_dump(mode="json", exclude=WITHOUT_EFFECT)


def load_published(scale: Scale, run: Run) -> checkpoints.Checkpoint:
    """The checkpoint that a run published at its end.

    Raises:
      RarlError: it is missing or damaged, belongs to another run, or was made with other settings, code or data than
        the run would be now.
    """
    path = RunPaths.of(run.id, scale.name, scale.root).checkpoint / checkpoints.NAME
    train = f"`rarl train --scale {scale.name} {run.id}`"
    if not path.is_file():
        raise RarlError(f"{path}: no checkpoint; train the run first ({train})")
    loaded = checkpoints.load(path)
    # Agents that retrieve nothing can be looked into without their datasets.
    data = {name: found or loaded.header.data.get(name) for name, found in data_of(scale, run).items()}
    expected = checkpoints.Header(run.id, config_of(run), code_digest=code_of(job_of("train", run)), data=data)
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
        "config": config_of(run),
        "config_digest": run.digest,
        "code_digest": code_of(job_of("train", run)),
        "data": data_of(scale, run),
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
