"""One planned dataset to one folder under data/{scale}."""

from __future__ import annotations

import logging
from importlib import import_module
from pathlib import Path

from rarl.config import SIZE_KEYS, Dataset, Scale
from rarl.files import check_folder_writable
from rarl.training.progress import Progress
from rarl.trajectories.verify import folder_of

log = logging.getLogger(__name__)

# By name: what makes one source imports nothing of the others. Each takes the task, the size, the seed and the folder.
GENERATORS = {
    "planner": "rarl.trajectories.generate:generate_planner",
    "dqn": "rarl.trajectories.online_dqn:generate_dqn",
    "bot": "rarl.trajectories.babyai:generate_bot",
    "rdqn": "rarl.trajectories.online_rdqn:generate_rdqn",
}


def make_dataset(scale: Scale, dataset: Dataset) -> Path:
    """Generate `dataset` into its folder; progress goes to the log."""
    folder = folder_of(scale, dataset.id)
    check_folder_writable(folder.parent, folder)
    settings = dataset.settings
    module, _, name = GENERATORS[settings.source].partition(":")
    generate = getattr(import_module(module), name)
    unit = SIZE_KEYS[settings.source]
    more = {"noise_percent": settings.noise_percent} if unit == "episodes" else {}  # those of experts
    log.info("%s: generating", folder)
    with Progress(settings.size, unit=unit.replace("_", " ")) as progress:
        generate(
            dataset.task,
            settings.size,
            settings.seed,
            folder,
            **more,
            # Some count their progress in episodes, but their size in steps.
            progress=lambda done, of: progress.step(settings.size * done // of),
        )
    log.info("%s: done", folder)
    return folder
