"""Whether datasets and checkpoints on disk are what their own records say.

The workflow looks before it starts, and before anything is recorded. Hashes are remembered with size and times of their
files, so that looking again costs a few milliseconds.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rarl.config.scale import Dataset, Run, Scale
from rarl.envs.names import slug
from rarl.errors import RarlError
from rarl.files import read_json, sha256_file, state_of, write_json
from rarl.mappings import differences
from rarl.runs.run_folder import CHECKPOINT, checksums_of, read_record, sidecar
from rarl.trajectories.plan import unlike_plan
from rarl.trajectories.store import MANIFEST, TrajectoryDataset, place_of, read_manifest, repair
from rarl.trajectories.verify import open_checked

_SHOWN = 8
_MUCH = 4 * 10**9  # bytes: some seconds

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fault:
    """A file that is not what its record says. `unplanned`: intact, but not what the scale's settings ask for."""

    path: Path
    what: str
    unplanned: bool = False


class Hashes:
    """SHA-256 of files, remembered in a file together with what the system says of them.

    A changed file has another size or time, and is read again.

    Args:
      path: where hashes are remembered; what is there is thrown away if it cannot be read.
      reread: read every file again.
    """

    def __init__(self, path: Path, *, reread: bool = False):
        self._path = path
        self._known: dict[str, list[Any]] = {}
        self._changed = False
        if not reread:
            with contextlib.suppress(RarlError, OSError):
                known = read_json(path)
                self._known = known if isinstance(known, dict) else {}

    def add(self, paths: Iterable[Path]) -> None:
        """Read those of `paths` that are not known, several at a time; missing ones are left out."""
        unknown = [path for path in paths if path.is_file() and self._found(path) is None]
        size = sum(path.stat().st_size for path in unknown)
        if size > _MUCH:
            log.warning("reading %.0f GB of new or changed files to compare them with their records", size / 1e9)
        with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
            for path, entry in zip(unknown, pool.map(_entry_of, unknown), strict=True):
                self._known[str(path)] = entry
                self._changed = True

    def of(self, path: Path) -> str:
        """The hash of an existing file."""
        known = self._found(path)
        if known is None:
            self.add([path])
            known = self._known[str(path)][1]
        return known

    def _found(self, path: Path) -> str | None:
        entry = self._known.get(str(path))
        return entry[1] if isinstance(entry, list) and len(entry) == 2 and entry[0] == state_of(path) else None

    def save(self) -> None:
        """Remember what was read. Where that cannot be written, it is read again next time."""
        if self._changed:
            with contextlib.suppress(OSError):
                write_json(self._path, {path: entry for path, entry in self._known.items() if os.path.exists(path)})


def _entry_of(path: Path) -> list[Any]:
    state = state_of(path)  # first: what changes while it is read is read again
    return [state, sha256_file(path)]


def find_faults(scale: Scale, *, reread: bool = False) -> list[Fault]:
    """Every dataset and checkpoint on disk of a scale that is not what its record says. A missing file is none.

    Args:
      scale: whose products. What lies in its folders without being planned is looked at, too.
      reread: read every byte, also of files whose size and times are those of the last time.
    """
    hashes = Hashes(scale.root / "scratch" / scale.name / "hashes.json", reread=reread)
    faults = [*_of_datasets(scale, hashes), *_of_checkpoints(scale, hashes)]
    hashes.save()
    return faults


def check(scale: Scale, *, reread: bool = False, planned: bool = True) -> None:
    """Refuse products that are not what their records say.

    Args:
      planned: refuse, too, what is intact but not what the scale's settings ask for. A workflow that has not run yet
        may find such products: it makes them again.

    Raises:
      RarlError: names the files, and how to get them back.
    """
    faults = [fault for fault in find_faults(scale, reread=reread) if planned or not fault.unplanned]
    if faults:
        raise RarlError(describe(faults, scale))


def describe(faults: list[Fault], scale: Scale) -> str:
    """One line for each faulty file, and one that says what to do; what is intact is not touched by it."""
    shown = [f"{fault.path}: {fault.what}" for fault in faults[:_SHOWN]]
    if len(faults) > _SHOWN:
        shown.append(f"... and {len(faults) - _SHOWN} more")
    if all(fault.unplanned for fault in faults):
        advice = "start the workflow again; where that changes nothing, remove the file, and it is made again"
    else:
        advice = (
            f"`rarl restore --scale {scale.name}` brings back what DVC keeps of them; remove what it does not find, "
            "and the workflow makes it again"
        )
    count = f"{len(faults)} files are" if len(faults) > 1 else "a file is"
    return "\n".join([f"{count} not as recorded:", *shown, advice])


def verify_folder(folder: str | os.PathLike, *, quick: bool = False) -> tuple[TrajectoryDataset, str]:
    """Open the dataset in a folder after all checks that can be made there.

    In a project's layout, data/{scale}/{environment}/{source}/{task}, it must be the dataset that the scale plans
    there. Elsewhere bytes and content alone are looked at.

    Args:
      folder: the dataset's folder.
      quick: as in `open_checked`.

    Returns:
      the dataset, and in a few words what it was compared with.

    Raises:
      RarlError: as in `open_planned`.
    """
    folder = Path(folder)
    place = place_of(folder)
    if place is None:
        return open_checked(folder, None, quick), "of no project"
    root, name, dataset_id = place
    scale = Scale(name, root)
    if dataset_id not in scale.datasets:
        manifest = read_manifest(folder)
        found = f"{manifest['environment']}/{manifest['source']}/{slug(str(manifest['task']))}"
        if found != dataset_id:
            raise RarlError(f"{folder / MANIFEST}: is that of {found}, not of {dataset_id}; {repair(folder)}")
        return open_checked(folder, None, quick), f"not planned by scale {name}"
    return open_checked(folder, (scale, scale.datasets[dataset_id]), quick), f"as planned by scale {name}"


def environment_of(folder: str | os.PathLike) -> str | None:
    """The environment of a dataset as its scale's configuration names it; None for one that no scale plans."""
    place = place_of(Path(folder))
    dataset = Scale(place[1], place[0]).datasets.get(place[2]) if place is not None else None
    return None if dataset is None else dataset.environment


# ------------------------------------------------------------------------------------------------------------- datasets


def _of_datasets(scale: Scale, hashes: Hashes) -> Iterator[Fault]:
    root = scale.root / "data" / scale.name
    described = []
    for path in _visible(root, MANIFEST):
        try:
            described.append((path.parent, read_manifest(path.parent)))
        except RarlError as error:
            yield Fault(path, str(error).removeprefix(f"{path}: ").partition(";")[0])
    hashes.add(folder / entry["file"] for folder, manifest in described for entry in manifest["arrays"].values())
    for folder, manifest in described:
        for entry in manifest["arrays"].values():
            path = folder / entry["file"]
            if path.is_file() and hashes.of(path) != entry["sha256"]:
                yield Fault(path, f"damaged (its SHA-256 is not the one in {MANIFEST})")
        known = {entry["file"] for entry in manifest["arrays"].values()}
        for path in sorted(folder.glob("*.npy")):
            if path.name not in known:
                yield Fault(path, f"foreign (not in {MANIFEST})")
        yield from _unlike(folder, manifest, scale.datasets.get(folder.relative_to(root).as_posix()))


def _unlike(folder: Path, manifest: dict[str, Any], dataset: Dataset | None) -> Iterator[Fault]:
    """What a manifest says of its making that its place, or the plan, does not."""
    if dataset is None:
        return
    faults = unlike_plan(manifest, dataset)
    if faults:
        place = (dataset.name, dataset.task, dataset.settings.source)
        foreign = (manifest["environment"], manifest["task"], manifest["source"]) != place
        what = "of another dataset: " if foreign else ""
        yield Fault(folder / MANIFEST, what + "; ".join(faults), unplanned=not foreign)


# ---------------------------------------------------------------------------------------------------------- checkpoints


def _of_checkpoints(scale: Scale, hashes: Hashes) -> Iterator[Fault]:
    results = scale.root / "results" / scale.name
    paths = list(_visible(results / "checkpoints", CHECKPOINT))
    hashes.add(paths)
    for path in paths:
        run = path.parent.relative_to(results / "checkpoints").as_posix()
        record = results / "runs" / run / "run.json"
        try:
            said = read_record(record) if record.is_file() else None
        except (RarlError, OSError):
            yield Fault(record, "damaged (not the record of a run)")
            continue
        if said is not None and said["run"] != run:
            yield Fault(record, f"of another run ({said['run']})")
            continue
        found, listed = hashes.of(path), checksums_of(path)
        expected = said and said.get("checkpoint_sha256")
        if expected is not None and found != expected:
            yield Fault(path, f"damaged, or of another run (its SHA-256 is not the one in {record})")
            if listed is not None and expected not in listed:
                yield Fault(sidecar(path), f"of another checkpoint than that of {record}")
        elif listed is not None and found not in listed:
            yield Fault(path, f"damaged (its SHA-256 is not the one in {sidecar(path).name})")
        elif said is not None and run in scale.runs:
            if changed := changed_settings(said, scale.runs[run]):
                yield Fault(record, f"made with other settings: {'; '.join(changed[:3])}", unplanned=True)
            yield from _made_from_others(record, said, scale, hashes)


def changed_settings(record: Mapping[str, Any], run: Run) -> list[str]:
    """What differs between the settings in a run's record and those of today, a line each: "key: 1 then, 2 now"."""
    if record.get("config_digest") == run.digest:
        return []
    return differences(record.get("config") or {}, run.recorded()) or ["what is derived from settings"]


def _made_from_others(record: Path, said: dict[str, Any], scale: Scale, hashes: Hashes) -> Iterator[Fault]:
    """A run that learned from other data than there are now."""
    for manifest, checksum in said.get("data", {}).items():
        path = scale.root / manifest
        if path.is_file() and hashes.of(path) != checksum:
            yield Fault(record, f"made from another {manifest} than there is now", unplanned=True)
            return


def _visible(root: Path, name: str) -> Iterator[Path]:
    """The files of this name below `root`; not in hidden folders, in which writers prepare."""
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(entry for entry in folders if not entry.startswith("."))
        if name in files:
            yield Path(folder) / name
