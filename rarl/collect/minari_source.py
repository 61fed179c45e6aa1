"""Other people's data: a local Minari dataset as a dataset of a task."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from rarl.envs.content import content_of
from rarl.envs.spec import EnvSpec, load, spec_of
from rarl.errors import RarlError
from rarl.trajectories.store import DatasetWriter

_CHUNK = 64  # episodes written at once
_ROOT = "MINARI_DATASETS_PATH"


def generate_minari(
    task: str,
    episodes: int,
    seed: int,
    folder: str | os.PathLike,
    *,
    environment: str,
    id: str | Mapping[str, str],
    root: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the first episodes of a Minari dataset as a dataset of a task.

    Its observations are what the environment gives: `EnvSpec.prepare` makes of them what is stored, and `EnvSpec.tell`
    of the first one what an episode is about. The manifest holds the hash of Minari's files.

    Args:
      task: its name.
      episodes: how many.
      seed: without effect.
      folder: where it shall lie (an older dataset there is replaced).
      environment: its name, module:SPEC or file.py:SPEC.
      id: Minari's name for it, for example "me/cartpole/expert-v0"; of several tasks one for each.
      root: Minari's folder of datasets; None: $MINARI_DATASETS_PATH or ~/.minari/datasets.
      progress: called with (episodes done, episodes) now and then.

    Raises:
      RarlError: there is no such dataset, it holds too few episodes, or other things than the environment gives.
    """
    spec = spec_of(environment)
    name = id if isinstance(id, str) else id.get(task)
    if name is None:
        raise RarlError(f"options.id: names no Minari dataset for task {task!r}")
    source = _opened(name, root)
    if source.total_episodes < episodes:
        raise RarlError(f"Minari dataset {name}: holds {source.total_episodes} episodes, not {episodes}")
    content = content_of(environment)
    actions = source.spec.action_space
    n_actions = None if content is None else int(content.actions.high) + 1
    if not isinstance(actions, gym.spaces.Discrete) or actions.start or n_actions not in (None, int(actions.n)):
        raise RarlError(f"Minari dataset {name}: actions are {actions}, {spec.name} has Discrete({n_actions})")
    generator = {"policy": "minari", "id": id if isinstance(id, str) else dict(id), "root": root}
    generator["sha256"] = hash_of(name, root)
    with DatasetWriter(
        folder, environment=spec.name, task=task, source="minari", seed=seed, generator=generator, ends="per-episode"
    ) as writer:
        for done, episode in enumerate(source.iterate_episodes(range(episodes)), 1):
            x = _prepared(spec, episode.observations, len(episode.actions) + 1)
            where = f"Minari dataset {name}: episode {done - 1}"
            if content is not None:
                _check(x, content.observations, where, spec)
            more = {} if spec.tell is None else {spec.context: _told(spec, episode)[None]}
            writer.add(
                x[None],
                np.asarray(episode.actions, dtype=np.int16)[None],
                np.asarray(episode.rewards, dtype=np.float32)[None],
                terminated=np.array([bool(episode.terminations[-1])]),
                **more,
            )
            if progress and (done % _CHUNK == 0 or done == episodes):
                progress(done, episodes)


def hash_of(name: str, root: str | None = None) -> str:
    """SHA-256 of a Minari dataset's files.

    Raises:
      RarlError: there is no such dataset.
    """
    found = hashlib.sha256()
    for path in files_of(name, root):
        found.update(path.name.encode())
        with open(path, "rb") as file:
            while part := file.read(2**20):
                found.update(part)
    return found.hexdigest()


def files_of(name: str, root: str | None = None) -> list[Path]:
    """The files of a Minari dataset, sorted.

    Raises:
      RarlError: there is no such dataset.
    """
    base = Path(root or os.environ.get(_ROOT) or Path.home() / ".minari" / "datasets")
    folder = base / name / "data"
    if not folder.is_dir():
        there = sorted(str(path.parent.relative_to(base)) for path in base.glob("**/data")) if base.is_dir() else []
        raise RarlError(
            f"{base}: no Minari dataset {name!r}; there {'are ' + ', '.join(there) if there else 'is none'}"
        )
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _opened(name: str, root: str | None) -> Any:
    try:
        import minari
    except ImportError as error:
        raise RarlError(f"Minari's datasets need Minari with HDF5 ({error}): pip install 'minari[hdf5]'") from None
    files_of(name, root)
    before = os.environ.get(_ROOT)
    if root is not None:
        os.environ[_ROOT] = str(root)
    try:
        return minari.load_dataset(name)
    finally:
        if root is not None:
            os.environ.pop(_ROOT)
            if before is not None:
                os.environ[_ROOT] = before


def _row(observations: Any, t: int) -> Any:
    """The t-th observation of an episode; those of spaces of several parts come part by part."""
    if isinstance(observations, Mapping):
        return {key: _row(part, t) for key, part in observations.items()}
    if isinstance(observations, tuple):
        return tuple(_row(part, t) for part in observations)
    return observations[t]


def _prepared(spec: EnvSpec, observations: Any, n: int) -> np.ndarray:
    """(n, ...) as they are stored."""
    if spec.prepare is None:
        if isinstance(observations, Mapping | tuple):
            raise RarlError(f"{spec.name}: observations of several parts need `prepare`, which makes one array of them")
        return np.asarray(observations)
    prepare = load(spec.prepare)
    return np.stack([np.asarray(prepare(_row(observations, t))) for t in range(n)])


def _told(spec: EnvSpec, episode: Any) -> np.ndarray:
    return np.asarray(load(spec.tell)(_row(episode.observations, 0), {}))


def _check(x: np.ndarray, values: Any, where: str, spec: EnvSpec) -> None:
    if str(x.dtype) != values.dtype or x.shape[1:] != values.shape:
        raise RarlError(
            f"{where}: observations are {x.dtype} {x.shape[1:]}, {spec.name} has {values.dtype} {values.shape}"
        )
    bad = values.first_bad(x)
    if bad is not None:
        raise RarlError(f"{where}, observation {bad[0]}: holds {x[bad]!s}, must be {values.range_text(bad[1:])}")
