"""One planned dataset to one folder under data/{scale}."""

from __future__ import annotations

import inspect
import logging
from pathlib import Path

from rarl.config.scale import Dataset, Scale
from rarl.envs.spec import load, sources_of, spec_of
from rarl.files import check_folder_writable
from rarl.jobs import LoadedCode, dataset_job
from rarl.progress import Progress
from rarl.trajectories.plan import folder_of

log = logging.getLogger(__name__)


def make_dataset(scale: Scale, dataset: Dataset, code: LoadedCode | None = None) -> Path:
    """Generate `dataset` into its folder; progress goes to the log.

    code: what this process computes with, where the caller has looked already.
    """
    code = code or LoadedCode(dataset_job(dataset))
    folder = folder_of(scale, dataset.id)
    check_folder_writable(folder.parent, folder)
    settings = dataset.settings
    source = sources_of(spec_of(dataset.environment))[settings.source]
    generate, unit = load(source.make), source.unit
    known = inspect.signature(generate).parameters
    about = {"environment": dataset.environment, "source": settings.source}
    about = {name: value for name, value in about.items() if name in known}  # those that serve several are told
    log.info("%s: generating", folder)
    with Progress(settings.size, unit=unit.replace("_", " ")) as progress:

        def told(done: int, of: int) -> None:
            # Some count their progress in episodes, but their size in steps.
            progress.step(settings.size * done // of)
            if done == of:  # all is written, but not yet published
                code.check()

        generate(
            dataset.task,
            settings.size,
            settings.seed,
            folder,
            **about,
            **settings.options,
            progress=told,
        )
    log.info("%s: done", folder)
    return folder
