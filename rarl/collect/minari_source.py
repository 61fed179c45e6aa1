"""Other people's data: a local Minari dataset as a dataset of a task."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from rarl.envs.content import Values, content_of
from rarl.envs.spec import EnvSpec, load, spec_of
from rarl.errors import RarlError, required, told_in_one_line
from rarl.trajectories.minari import folder_of_all, imported, minari_root
from rarl.trajectories.store import DatasetWriter


def check_options(id: str | None = None, sha256: str | None = None, root: str | None = None) -> None:
    """Check the options of the source `minari`. The files are looked at only to say what their hash is.

    Raises:
      RarlError: it names the option, and the hash where that is missing.
    """
    for name, value in (("id", id), ("root", root), ("sha256", sha256)):
        if not isinstance(value, str | None):
            raise RarlError(f"{name}: must be text, got {value!r:.80}")
    if id is None:
        raise RarlError("id: is missing, Minari's name for the dataset, for example me/cartpole/expert-v0")
    if sha256 is None:
        raise RarlError(f"sha256: is missing, which says what the data are; that of {id} is now {hash_of(id, root)}")


def generate_minari(
    task: str,
    episodes: int,
    seed: int,
    folder: str | os.PathLike,
    *,
    environment: str,
    id: str,
    sha256: str,
    root: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the first episodes of a Minari dataset as a dataset of a task.

    Its observations are what the environment gives: `EnvSpec.prepare` makes of them what is stored, and `EnvSpec.tell`
    of the first one what an episode is about.

    Args:
      task: its name.
      episodes: how many.
      seed: without effect.
      folder: where it shall lie (an older dataset there is replaced).
      environment: its name, module:SPEC or file.py:SPEC.
      id: Minari's name for it, for example "me/cartpole/expert-v0".
      sha256: of its files, see `hash_of`.
      root: Minari's folder of datasets; None: $MINARI_DATASETS_PATH or ~/.minari/datasets.
      progress: called with (episodes done, episodes).

    Raises:
      RarlError: there is no such dataset, it has another hash, holds too few episodes, or other things than the
        environment gives.
    """
    spec, content = spec_of(environment), required(content_of(environment), f"{environment}: observation and n_actions")
    where = f"Minari dataset {id}"
    found = hash_of(id, root)
    if found != sha256:
        raise RarlError(f"{where}: options.sha256 is {sha256}, its files have {found}")
    unreadable = f"{where} in {folder_of_all(root) / id}: cannot be read"
    with minari_root(root), told_in_one_line(unreadable):
        source = imported().load_dataset(id)
        there, actions = source.total_episodes, source.spec.action_space
        read = source.iterate_episodes(range(episodes))
    if there < episodes:
        raise RarlError(f"{where}: holds {there} episodes, not {episodes}")
    n_actions = int(np.asarray(content.actions.high)) + 1
    if not isinstance(actions, gym.spaces.Discrete) or actions.start or int(actions.n) != n_actions:
        raise RarlError(f"{where}: actions are {actions}, {spec.name} has Discrete({n_actions})")
    generator = {"policy": "minari", "id": id, "sha256": sha256, "root": root}
    with DatasetWriter(
        folder, environment=spec.name, task=task, source="minari", seed=seed, generator=generator, ends="per-episode"
    ) as writer:
        for i in range(episodes):
            with told_in_one_line(unreadable):
                episode = next(read)
            x = _prepared(spec, episode.observations, len(episode.actions) + 1, where)
            _check(x, content.observations, f"{where}: episode {i}", spec)
            more = {} if spec.tell is None else {required(spec.context, "context"): _told(spec, episode)[None]}
            writer.add(
                x[None],
                np.asarray(episode.actions, dtype=np.int16)[None],
                np.asarray(episode.rewards, dtype=np.float32)[None],
                terminated=np.array([bool(episode.terminations[-1])]),
                **more,
            )
            if progress:
                progress(i + 1, episodes)


def hash_of(id: str, root: str | None = None) -> str:
    """SHA-256 of the names and the content of a Minari dataset's files.

    Raises:
      RarlError: there is no such dataset.
    """
    found = hashlib.sha256()
    for path in _files_of(id, root):
        found.update(path.name.encode())
        with open(path, "rb") as file:
            while part := file.read(2**20):
                found.update(part)
    return found.hexdigest()


def _files_of(id: str, root: str | None) -> list[Path]:
    base = folder_of_all(root)
    if not (base / id / "data").is_dir():
        there = sorted(str(path.parent.relative_to(base)) for path in base.glob("**/data"))
        raise RarlError(f"{base}: no Minari dataset {id!r}; there {'are ' + ', '.join(there) if there else 'is none'}")
    return sorted(path for path in (base / id / "data").rglob("*") if path.is_file())


def _row(observations: Any, t: int) -> Any:
    """The t-th observation of an episode; those of spaces of several parts come part by part."""
    if isinstance(observations, Mapping):
        return {key: _row(part, t) for key, part in observations.items()}
    if isinstance(observations, tuple):
        return tuple(_row(part, t) for part in observations)
    return observations[t]


def _prepared(spec: EnvSpec, observations: Any, n: int, where: str) -> np.ndarray:
    """(n, ...) as they are stored."""
    if spec.prepare is None:
        if isinstance(observations, Mapping | tuple):
            raise RarlError(f"{where}: observations have several parts; {spec.name} needs `prepare` to make one array")
        return np.asarray(observations)
    prepare = load(spec.prepare)
    return np.stack([np.asarray(prepare(_row(observations, t))) for t in range(n)])


def _told(spec: EnvSpec, episode: Any) -> np.ndarray:
    return np.asarray(load(spec.tell)(_row(episode.observations, 0), {}))


def _check(x: np.ndarray, values: Values, where: str, spec: EnvSpec) -> None:
    if str(x.dtype) != values.dtype or x.shape[1:] != values.shape:
        raise RarlError(
            f"{where}: observations are {x.dtype} {x.shape[1:]}, {spec.name} has {values.dtype} {values.shape}"
        )
    bad = values.first_bad(x)
    if bad is not None:
        raise RarlError(f"{where}, observation {bad[0]}: holds {x[bad]!s}, must be {values.range_text(bad[1:])}")
