"""One planned dataset to one folder under data/{scale}."""

from __future__ import annotations

import logging
from pathlib import Path

from rarl.config import Dataset, Scale
from rarl.envs.babyai.levels import level_named
from rarl.envs.gridroboman.tasks import EPISODE_STEPS, task_named
from rarl.training.progress import Progress

log = logging.getLogger(__name__)


def make_dataset(scale: Scale, dataset: Dataset) -> Path:
    """Generate `dataset` into its folder; progress goes to the log."""
    folder = scale.root / "data" / scale.name / dataset.id
    settings = dataset.settings
    log.info("%s: generating", folder)
    if settings.source == "bot":
        from rarl.trajectories.babyai import generate_bot

        noise = tuple(settings.noise_percent)
        with Progress(settings.episodes, unit="episodes") as progress:
            generate_bot(
                level_named(dataset.task),
                settings.episodes,
                settings.seed,
                folder,
                noise,
                lambda done, _: progress.step(done),
            )
    elif settings.source == "planner":
        from rarl.trajectories.generate import generate_planner

        noise = tuple(settings.noise_percent)
        with Progress(settings.episodes, unit="episodes") as progress:
            generate_planner(
                task_named(dataset.task),
                settings.episodes,
                settings.seed,
                folder,
                noise,
                lambda done, _: progress.step(done),
            )
    else:
        from rarl.trajectories.online_dqn import generate_dqn

        with Progress(settings.environment_steps // EPISODE_STEPS, unit="episodes") as progress:
            generate_dqn(
                task_named(dataset.task),
                settings.environment_steps,
                settings.seed,
                folder,
                progress=lambda done, _: progress.step(done),
            )
    log.info("%s: done", folder)
    return folder
