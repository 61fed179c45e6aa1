"""Files that DVC keeps, brought back one at a time.

`dvc checkout` and `dvc pull` delete a whole tracked folder when one of its files is neither in the cache nor in the
remote. Here each file is fetched beside its place, compared with what its record says, and only then put there.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from rarl.config.scale import Scale
from rarl.errors import RarlError
from rarl.files import fsync_folder, sha256_file
from rarl.runs.run_folder import CHECKPOINT, checksums_of, sidecar
from rarl.trajectories.store import MANIFEST, read_manifest
from rarl.workflow.verify import find_faults


def restore(scale: Scale, paths: Sequence[str | os.PathLike] = ()) -> tuple[list[Path], list[str]]:
    """Bring back files of datasets and checkpoints of a scale from DVC's cache, or from its remote.

    Args:
      paths: files or folders; of folders what is missing or damaged. None: everything that is missing or damaged.

    Returns:
      The restored files, and a line for each that could not be, which lies there as before.

    Raises:
      RarlError: DVC keeps nothing of this scale, or a path is not among what it keeps.
    """
    kept = _Kept(scale)
    asked = [Path(path) for path in paths]
    for path in asked:
        if not any(_within(file, path) for file in (*kept.files, *kept.lost)) and not _within_any(path, kept.lost):
            raise RarlError(f"{path}: DVC has no record of it (see dvc.lock)")
    damaged = {fault.path for fault in find_faults(scale)}
    # Arrays fit their manifest: if that is not the recorded one, they are not either.
    whole = {path.parent for path in damaged if path.name == MANIFEST}
    wanted = [
        file
        for file in kept.files
        if (not asked or _within_any(file, asked)) and (not file.exists() or file in damaged or file.parent in whole)
    ]
    concerned = (p for p in kept.lost if not asked or _within_any(p, asked) or any(_within(path, p) for path in asked))
    done, left = [], [_lost(place) for place in concerned]
    for folder in dict.fromkeys(file.parent for file in wanted):
        fetched, reasons = _restore_in(folder, [file for file in wanted if file.parent == folder], kept)
        done += fetched
        left += reasons
    known = set(kept.files)
    for fault in find_faults(scale):
        path = fault.path
        if path not in known and not fault.unplanned and (not asked or _within_any(path, asked)):
            left.append(f"{path}: {fault.what}, and DVC has no copy of it")
    return done, left


def scale_of_path(path: str) -> str | None:
    """The scale whose product a path below data/ or results/ is, for example of data/laptop/my-env."""
    parts = Path(path).parts
    return parts[1] if len(parts) > 1 and parts[0] in ("data", "results") else None


class _Kept:
    """What the record in dvc.lock names for the large products of a scale.

    Attributes:
      files: their paths, below the project's root, sorted.
      lost: folders of which neither the cache nor a remote has so much as the list of files.
    """

    def __init__(self, scale: Scale):
        from dvc.exceptions import DvcException
        from dvc.repo import Repo
        from dvc_data.fs import DataFileSystem
        from dvc_data.index.index import DataIndexError

        found: list[str] = []
        self.lost: list[Path] = []
        # A file system over cache and remote alone; DVC's public one would give the damaged file in the workspace.
        try:
            self._system = DataFileSystem(index=Repo(str(scale.root)).index.data["repo"])
            results = f"results/{scale.name}"
            places = [f"data/{scale.name}", f"{results}/checkpoints", f"{results}/provenance.json"]
            for place in places:
                try:
                    found += self._system.find(place) if self._system.exists(place) else []
                except DataIndexError:
                    self.lost.append(scale.root / place)
        except (DvcException, OSError) as error:
            raise RarlError(f"DVC cannot be asked for what it keeps ({error})") from None
        if not found and not self.lost:
            raise RarlError(
                f"DVC keeps no data of scale {scale.name} here; it asks for those of the scale in config/config.yaml"
            )
        self._root = scale.root
        self.files = sorted(scale.root / file for file in found)

    def fetch(self, file: Path, target: Path) -> bool:
        """Write what DVC keeps of `file` to `target`; False if it has no copy."""
        from dvc.exceptions import DvcException
        from dvc_data.index.index import DataIndexError
        from dvc_objects.errors import ObjectFormatError

        try:
            self._system.get_file(file.relative_to(self._root).as_posix(), str(target))
        except (DvcException, DataIndexError, OSError, ObjectFormatError):
            return False
        return target.is_file()


def _restore_in(folder: Path, files: Iterable[Path], kept: _Kept) -> tuple[list[Path], list[str]]:
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".restore.{secrets.token_hex(4)}.tmp"
    temporary.mkdir()
    try:
        fetched, left = [], []
        for file in files:
            if kept.fetch(file, temporary / file.name):
                fetched.append(file)
            else:
                left.append(_lost(file))
        done = []
        for file in fetched:
            if _fits(temporary / file.name, temporary, folder):
                os.replace(temporary / file.name, file)
                done.append(file)
            else:
                left.append(f"{file}: what DVC keeps of it is damaged, too")
        fsync_folder(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if not any(folder.iterdir()):
            folder.rmdir()
    return done, left


def _lost(path: Path) -> str:
    return f"{path}: neither DVC's cache nor a remote has it"


def _fits(fetched: Path, temporary: Path, folder: Path) -> bool:
    """Whether a fetched file is what the record beside it says, which is in place or fetched with it."""

    def record(name: str) -> Path:
        return temporary if (temporary / name).is_file() else folder

    try:
        if fetched.suffix == ".npy":
            entries = read_manifest(record(MANIFEST))["arrays"].values()
            return sha256_file(fetched) in {entry["sha256"] for entry in entries if entry["file"] == fetched.name}
        if fetched.name == MANIFEST:
            return bool(read_manifest(fetched.parent))
        if fetched.name == CHECKPOINT:
            return sha256_file(fetched) in (checksums_of(record(sidecar(CHECKPOINT).name) / CHECKPOINT) or ())
    except (RarlError, OSError):
        return False
    return True


def _within(file: Path, path: Path) -> bool:
    return path == file or path in file.parents


def _within_any(file: Path, paths: Iterable[Path]) -> bool:
    return any(_within(file, path) for path in paths)
