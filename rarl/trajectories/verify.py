"""Whether a dataset is the one that is planned, undamaged, and holds what its environment can give.

Three questions, cheapest first:

    plan      is the manifest that of the dataset asked for: environment, task, source, seed, size, the generator's
              settings?
    bytes     do all files have the manifest's hashes?
    content   are dtypes, shapes and values those of the environment (`rarl.envs.content`)?

The content follows from the manifest, since that holds the hashes. So it is looked at once for each manifest: a mark,
scratch/{scale}/verified/{dataset}.json, keeps the manifest's own hash, and size and times of all files. Whoever trusts
the times (`quick`) need not read unchanged files again. A mark can be thrown away.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rarl.config.scale import Dataset, Scale
from rarl.envs.content import Content, Values, content_of
from rarl.errors import RarlError
from rarl.files import digest, read_json, sha256_file, state_of, write_json
from rarl.trajectories.plan import folder_of, unlike_plan
from rarl.trajectories.store import MANIFEST, TrajectoryDataset, place_of, read_manifest, repair

_CHUNK_BYTES = 64_000_000  # looked at together
_RULES = 1  # of the checks in this module; part of every mark


def open_planned(scale: Scale, datasets: Sequence[Dataset]) -> list[TrajectoryDataset]:
    """Open planned datasets of a scale after all checks, every byte and value.

    Raises:
      RarlError: one is missing, damaged, another dataset, or holds what its environment cannot give. The message names
        file, key or value, and says what to do.
    """
    missing = [dataset for dataset in datasets if not (folder_of(scale, dataset.id) / MANIFEST).is_file()]
    if missing:
        folder = folder_of(scale, missing[0].id)
        raise RarlError(
            f"{folder}: no dataset ({len(missing)} of {len(datasets)} are missing); `rarl restore {folder}` brings it "
            f"if it was recorded, {_make(scale, missing[0].id)}"
        )
    return [open_checked(folder_of(scale, dataset.id), (scale, dataset), quick=False) for dataset in datasets]


def check_content(dataset: TrajectoryDataset, environment: str | None = None) -> None:
    """Check that all arrays hold what the environment can give; of one that is not known here, that all is finite.

    Args:
      dataset: which.
      environment: of which; None: the one that the manifest names.

    Raises:
      RarlError: it names the file and what would be right, and for values the first one that is wrong.
    """
    folder, environment = dataset.folder, environment or dataset.manifest["environment"]
    content = content_of(environment)
    arrays = {"observations": dataset.observations, "actions": dataset.actions, "rewards": dataset.rewards}
    arrays |= dataset.extras
    if content is not None:
        _check_kind(dataset, content, arrays)
    known = content.arrays() if content else {}
    for name, array in arrays.items():
        values = known.get(name) or Values(str(array.dtype), array.shape[1:])
        if str(array.dtype) != values.dtype or array.shape[1:] != values.shape:
            raise RarlError(
                f"{folder}/{name}.npy: rows of {array.dtype} {array.shape[1:]}, but {environment} has "
                f"{values.dtype} {values.shape}; {repair(folder)}"
            )
        _check_values(dataset, name, array, values)
    expert = dataset.manifest.get("expert_return")
    if expert is not None and not (isinstance(expert, int | float) and np.isfinite(expert)):
        raise RarlError(f"{folder / MANIFEST}: expert_return {expert!r} is not a number; {repair(folder)}")
    dataset.check_valid()


def _check_kind(dataset: TrajectoryDataset, content: Content, arrays: Mapping[str, np.ndarray]) -> None:
    folder, environment = dataset.folder, dataset.manifest["environment"]
    if dataset.ends != content.ends:
        raise RarlError(
            f"{folder / MANIFEST}: 'ends' is {dataset.ends!r}, {environment} has {content.ends!r}; {repair(folder)}"
        )
    if content.steps is not None and (dataset.lengths != content.steps).any():
        i = int(np.flatnonzero(dataset.lengths != content.steps)[0])
        raise RarlError(
            f"{folder}/offsets.npy: episode {i} has {dataset.lengths[i]} steps, those of {environment} have "
            f"{content.steps}; {repair(folder)}"
        )
    for name in content.required:
        if name not in arrays:
            raise RarlError(f"{folder / MANIFEST}: array {name!r} is missing; {repair(folder)}")


def _check_values(dataset: TrajectoryDataset, name: str, array: np.ndarray, values: Values) -> None:
    rows = max(_CHUNK_BYTES // max(array.nbytes // max(len(array), 1), 1), 1)
    for first in range(0, len(array), rows):
        found = values.first_bad(array[first : first + rows])
        if found is not None:
            row, *place = first + found[0], *found[1:]
            raise RarlError(
                f"{dataset.folder}/{name}.npy: {_where(dataset, name, row)} holds {array[(row, *place)]!s}"
                f"{f' at {tuple(place)}' if place else ''}, must be {values.range_text(tuple(place))}; "
                f"{repair(dataset.folder)}"
            )
        dataset.release()


def _where(dataset: TrajectoryDataset, name: str, row: int) -> str:
    if name in dataset.extras:
        return f"episode {row}"
    starts = dataset.offsets + (np.arange(len(dataset.offsets)) if name == "observations" else 0)
    episode = int(np.searchsorted(starts, row, side="right")) - 1
    return f"episode {episode}, {'observation' if name == 'observations' else 'step'} {row - starts[episode]}"


# ---------------------------------------------------------------------------------------------------------------- marks


def open_checked(folder: Path, planned: tuple[Scale, Dataset] | None, quick: bool) -> TrajectoryDataset:
    """Open the dataset in a folder after all checks.

    Args:
      folder: where.
      planned: as which one.
      quick: do not read files again whose size and times are those at which they were verified before.

    Raises:
      RarlError: as in `open_planned`.
    """
    manifest = read_manifest(folder)
    if planned is not None:
        scale, dataset = planned
        faults = unlike_plan(manifest, dataset)
        if faults:
            raise RarlError(
                f"{folder / MANIFEST}: not dataset {dataset.id} of scale {scale.name}: {', '.join(faults)}; "
                f"{_make(scale, dataset.id)}"
            )
    path = _mark_path(folder)
    environment = manifest["environment"] if planned is None else planned[1].environment
    now = _mark(folder, manifest, environment)  # before the files are read, so that a later change makes it outdated
    before = _read_mark(path) or {}
    looked_at = all(before.get(key) == now[key] for key in ("manifest", "rules"))
    unchanged = looked_at and before.get("files") == now["files"]
    opened = TrajectoryDataset.open(folder, verify=not (quick and unchanged))
    if not looked_at:
        check_content(opened, environment)
    if path is not None and not unchanged:
        with contextlib.suppress(OSError):  # where nothing can be written, it is looked at again
            write_json(path, now)
    return opened


def _mark(folder: Path, manifest: Mapping[str, Any], environment: str) -> dict[str, Any]:
    content = content_of(environment)
    files = {}
    for entry in manifest["arrays"].values():
        with contextlib.suppress(FileNotFoundError):  # told when it is opened
            files[entry["file"]] = state_of(folder / entry["file"])
    return {
        "manifest": sha256_file(folder / MANIFEST),
        "rules": digest([_RULES, repr(content)]),
        "files": files,
    }


def _read_mark(path: Path | None) -> dict[str, Any] | None:
    if path is None or not path.is_file():
        return None
    with contextlib.suppress(RarlError, OSError):
        found = read_json(path)
        return found if isinstance(found, dict) else None
    return None


def _mark_path(folder: Path) -> Path | None:
    """Where the mark of a dataset is; None outside of a project."""
    place = place_of(folder)
    if place is None:
        return None
    root, scale, dataset_id = place
    return root / "scratch" / scale / "verified" / f"{dataset_id}.json"


def _make(scale: Scale, dataset: str) -> str:
    return f"`rarl datasets make --scale {scale.name} {dataset}` makes it"
