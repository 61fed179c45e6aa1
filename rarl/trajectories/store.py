"""Datasets of trajectories as flat arrays on disk, memory-mapped when read.

A dataset is one folder. With N episodes of T_i steps and S = sum(T_i):

    observations.npy  (S + N, ...)   T_i + 1 observations per episode, the last one included
    actions.npy       (S, ...)
    rewards.npy       (S,)
    offsets.npy       (N + 1,) int64; episode i has the steps offsets[i]:offsets[i+1]
                      and the observations offsets[i]+i : offsets[i+1]+i+1
    returns.npy       (N,) float32, undiscounted
    <name>.npy        (N, ...), optional: one row per episode
    manifest.json     what it is, how it was made, and dtype, shape and SHA-256 of every array

The manifest's `ends` says what the end of an episode means: "truncation" (time ran out, the value of the last
observation counts), "termination" (nothing follows), or "per-episode" (a bool array `terminated` says which).

No array is ever unpickled. A dataset has no timestamps: the same episodes give the same bytes.
"""

from __future__ import annotations

import contextlib
import copy
import fcntl
import mmap
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

import rarl
from rarl.errors import RarlError
from rarl.files import fsync_folder, read_json, sha256_file, write_json

FORMAT = 1
MANIFEST = "manifest.json"
ENDS = ("truncation", "termination", "per-episode")
REQUIRED_ARRAYS = ("observations", "actions", "rewards", "offsets", "returns")
_FIXED_DTYPES = {"offsets": "int64", "returns": "float32"}
_EPISODES = 8192  # looked at together, which bounds the memory
_SOURCE_KEYS = ("environment", "task", "source", "seed", "generator")
# Left by tools in folders they manage; neither part of a dataset nor a reason to spare the folder.
_TOLERATED = {MANIFEST, ".gitignore", ".snakemake_timestamp"}


@dataclass(frozen=True)
class Episode:
    """One episode: views into the memory maps.

    observations: (T + 1, ...); actions: (T, ...); rewards: (T,); extras: this episode's row of every optional array.
    """

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    extras: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.actions)


class TrajectoryDataset:
    """A dataset opened for reading.

    Attributes:
      folder: where it lies.
      manifest: the parsed manifest.
      observations, actions, rewards: memory maps of the shapes given above.
      offsets, returns: the same, in memory.
      extras: the optional per-episode arrays, by name.
      used: (n,) int64 increasing, the episodes that samplers draw from; all, unless it was made by `part`.
    """

    used: np.ndarray

    def __init__(self, folder: Path, manifest: dict[str, Any], arrays: dict[str, np.ndarray], maps: list[mmap.mmap]):
        self.folder = folder
        self.manifest = manifest
        self.observations = arrays["observations"]
        self.actions = arrays["actions"]
        self.rewards = arrays["rewards"]
        self.offsets = np.array(arrays["offsets"])
        self.returns = np.array(arrays["returns"])
        self.extras = {name: array for name, array in arrays.items() if name not in REQUIRED_ARRAYS}
        self.used = np.arange(len(self.returns))
        self._maps = maps

    def part(self, episodes: int | None, rng: np.random.Generator) -> TrajectoryDataset:
        """The same, used in part: so many episodes, drawn; of the same generator a smaller part lies in a larger one.

        Raises:
          RarlError: it has fewer.
        """
        if episodes is None or episodes == self.episodes:
            return self
        if not 1 <= episodes <= self.episodes:
            raise RarlError(f"{self.folder}: holds {self.episodes} episodes, but {episodes} are to be used")
        part = copy.copy(self)
        part.used = np.sort(rng.permutation(self.episodes)[:episodes])
        return part

    @classmethod
    def open(cls, folder: str | os.PathLike, verify: bool = True) -> TrajectoryDataset:
        """Open the dataset in `folder`.

        Args:
          folder: the dataset's folder.
          verify: compare every file's SHA-256 with the manifest (about a second per gigabyte).

        Raises:
          RarlError: a file is missing, damaged, of a wrong shape or type, or foreign; the message names it.
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        described = manifest["arrays"]
        for file in sorted(folder.glob("*.npy")):
            if file.name not in {entry["file"] for entry in described.values()}:
                raise RarlError(f"{file}: not in {MANIFEST}: remove it, or {repair(folder)}")
        arrays, maps = {}, []
        for name, entry in described.items():
            arrays[name], mapped = _map_array(folder / entry["file"], entry, verify)
            maps.append(mapped)
        _check_shapes(folder, manifest, arrays)
        return cls(folder, manifest, arrays, maps)

    @property
    def task(self) -> str:
        """The task's name."""
        return self.manifest["task"]

    @property
    def episodes(self) -> int:
        """Number of episodes."""
        return len(self.returns)

    @property
    def steps(self) -> int:
        """Number of steps in all episodes."""
        return len(self.actions)

    @property
    def lengths(self) -> np.ndarray:
        """(N,) int64: steps of each episode."""
        return np.diff(self.offsets)

    @property
    def ends(self) -> str:
        """What the end of an episode means: one of `ENDS`."""
        return self.manifest["ends"]

    @property
    def terminated(self) -> np.ndarray:
        """(N,) bool: whether nothing follows the end of the episode (in contrast to time running out)."""
        if self.ends == "per-episode":
            return np.array(self.extras["terminated"], dtype=bool)
        return np.full(self.episodes, self.ends == "termination")

    def episode(self, i: int) -> Episode:
        """Episode i, from 0; IndexError beyond the last."""
        if not 0 <= i < self.episodes:
            raise IndexError(f"{self.folder}: no episode {i} among {self.episodes}")
        start, end = int(self.offsets[i]), int(self.offsets[i + 1])
        return Episode(
            self.observations[start + i : end + i + 1],
            self.actions[start:end],
            self.rewards[start:end],
            {name: array[i] for name, array in self.extras.items()},
        )

    def __len__(self) -> int:
        return self.episodes

    def __iter__(self) -> Iterator[Episode]:
        return (self.episode(i) for i in range(self.episodes))

    def check_valid(self) -> None:
        """Check what the content promises: finite rewards that add up to the returns, and these to the manifest's."""
        for first in range(0, self.episodes, _EPISODES):
            last = min(first + _EPISODES, self.episodes)
            offsets = self.offsets[first : last + 1]
            rewards = np.asarray(self.rewards[offsets[0] : offsets[-1]], dtype=np.float64)
            totals = np.add.reduceat(rewards, offsets[:-1] - offsets[0]).astype(np.float32)
            if not np.isfinite(totals).all():
                raise RarlError(f"{self.folder}/rewards.npy: holds values that are not finite; {repair(self.folder)}")
            wrong = np.flatnonzero(totals != self.returns[first:last])
            if wrong.size:
                i = int(wrong[0])
                raise RarlError(
                    f"{self.folder}/returns.npy: episode {first + i} has {self.returns[first + i]}, "
                    f"but its rewards add up to {totals[i]}; {repair(self.folder)}"
                )
            self.release()
        if self.manifest["returns"] != describe_returns(self.returns):
            raise RarlError(f"{self.folder}/{MANIFEST}: 'returns' disagrees with returns.npy; {repair(self.folder)}")

    def release(self) -> None:
        """Take the pages read so far out of this process's resident memory.

        They stay in the system's cache, so reading them again costs a minor page fault. Keeps training on datasets
        larger than the memory budget within it.
        """
        for mapped in self._maps:
            mapped.madvise(mmap.MADV_DONTNEED)


def describe_returns(returns: np.ndarray) -> dict[str, Any]:
    """Mean, minimum, maximum and quartiles (25, 50, 75 %) of the episodes' returns, for the manifest."""
    values = np.asarray(returns, dtype=np.float64)
    return {
        "mean": float(values.mean()),
        "min": float(values.min()),
        "max": float(values.max()),
        "quartiles": [float(q) for q in np.quantile(values, (0.25, 0.5, 0.75))],
    }


def place_of(folder: Path) -> tuple[Path, str, str] | None:
    """(the project's folder, scale, dataset's id) of a folder in a project's layout; None elsewhere."""
    parts = Path(os.path.abspath(folder)).parts
    if len(parts) < 6 or parts[-5] != "data":
        return None
    root, name = Path(*parts[:-5]), parts[-4]
    return (root, name, "/".join(parts[-3:])) if (root / "config" / f"{name}.yaml").is_file() else None


def repair(folder: Path) -> str:
    """What to do about a damaged dataset, as the end of an error message."""
    if place_of(folder) is None:  # perhaps no dataset at all
        return "bring it back from a backup, or generate the dataset again"
    return f"bring it back with `rarl restore {folder}`, or remove it and generate the dataset again"


def read_manifest(folder: Path) -> dict[str, Any]:
    """The checked manifest of the dataset in `folder`; its arrays are not looked at.

    Raises:
      RarlError: there is none, or it is damaged.
    """
    path = folder / MANIFEST
    if not folder.is_dir():
        raise RarlError(f"{folder}: no such dataset folder; {repair(folder)}")
    if not path.is_file():
        raise RarlError(f"{path}: missing, so the folder holds no complete dataset; {repair(folder)}")
    try:
        manifest = read_json(path)
    except RarlError as error:
        raise RarlError(f"{error}; {repair(folder)}") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else type(manifest).__name__
        raise RarlError(f"{path}: format {found!r}, this version reads format {FORMAT}; generate the dataset again")
    for key in (*_SOURCE_KEYS, "ends", "episodes", "steps", "returns", "arrays"):
        if key not in manifest:
            raise RarlError(f"{path}: key {key!r} is missing; {repair(folder)}")
    if manifest["ends"] not in ENDS:
        raise RarlError(f"{path}: 'ends' is {manifest['ends']!r}, known: {', '.join(ENDS)}")
    arrays = manifest["arrays"]
    if not isinstance(arrays, dict):
        raise RarlError(f"{path}: 'arrays' must map names to descriptions; {repair(folder)}")
    for name, entry in arrays.items():
        if not isinstance(entry, dict) or not {"file", "dtype", "shape", "sha256"} <= entry.keys():
            raise RarlError(f"{path}: array {name!r} needs file, dtype, shape and sha256; {repair(folder)}")
        if entry["file"] != f"{name}.npy" or Path(entry["file"]).name != entry["file"]:
            raise RarlError(f"{path}: array {name!r} has file {entry['file']!r}, which must be '{name}.npy'")
    needed = (*REQUIRED_ARRAYS, "terminated") if manifest["ends"] == "per-episode" else REQUIRED_ARRAYS
    for name in needed:
        if name not in arrays:
            raise RarlError(f"{path}: array {name!r} is missing; {repair(folder)}")
    return manifest


def _map_array(path: Path, entry: Mapping[str, Any], verify: bool) -> tuple[np.ndarray, mmap.mmap]:
    if not path.is_file():
        raise RarlError(f"{path}: missing; {repair(path.parent)}")
    if verify and sha256_file(path) != entry["sha256"]:
        raise RarlError(f"{path}: damaged (its SHA-256 is not the manifest's); {repair(path.parent)}")
    try:
        mapped = np.lib.format.open_memmap(path, mode="r")  # reads .npy only, and never unpickles
    except (ValueError, EOFError, OSError, SyntaxError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RarlError(f"{path}: not a readable array ({reason}); {repair(path.parent)}") from None
    if str(mapped.dtype) != entry["dtype"]:
        raise RarlError(f"{path}: dtype {mapped.dtype}, the manifest says {entry['dtype']}; {repair(path.parent)}")
    if list(mapped.shape) != entry["shape"]:
        raise RarlError(
            f"{path}: shape {list(mapped.shape)}, the manifest says {entry['shape']}; {repair(path.parent)}"
        )
    # A plain array over the same map: indexing np.memmap costs several microseconds more per call.
    return np.asarray(mapped), mapped._mmap  # type: ignore[attr-defined]


def _check_shapes(folder: Path, manifest: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    def refuse(name: str, what: str) -> None:
        raise RarlError(f"{folder}/{name}: {what}; {repair(folder)}")

    for name, dtype in _FIXED_DTYPES.items():
        if str(arrays[name].dtype) != dtype or arrays[name].ndim != 1:
            refuse(f"{name}.npy", f"must be a list of {dtype}")
    offsets, episodes, steps = arrays["offsets"], len(arrays["returns"]), len(arrays["actions"])
    if episodes < 1 or (episodes, steps) != (manifest["episodes"], manifest["steps"]):
        refuse(MANIFEST, f"says {manifest['episodes']} episodes and {manifest['steps']} steps, not {episodes}, {steps}")
    if len(offsets) != episodes + 1 or offsets[0] != 0 or offsets[-1] != steps or (np.diff(offsets) < 1).any():
        refuse("offsets.npy", f"must rise from 0 to {steps} in {episodes} steps of at least 1")
    if arrays["rewards"].shape != (steps,):
        refuse("rewards.npy", f"has shape {arrays['rewards'].shape}, must be ({steps},)")
    if len(arrays["observations"]) != steps + episodes:
        refuse("observations.npy", f"has {len(arrays['observations'])} rows, must have {steps + episodes}")
    for name, array in arrays.items():
        if name not in REQUIRED_ARRAYS and (array.ndim < 1 or len(array) != episodes):
            refuse(f"{name}.npy", f"must have one row for each of the {episodes} episodes")


class _ArrayFile:
    """An .npy file that grows; its bytes end up as np.save would have written them."""

    def __init__(self, path: Path, dtype: np.dtype, row_shape: tuple[int, ...]):
        self.path = path
        self.dtype = dtype
        self.row_shape = row_shape
        self.rows = 0
        self._file = open(path, "wb")  # noqa: SIM115 (closed by finish or discard)
        self._write_header()
        self._data_start = self._file.tell()

    def _write_header(self) -> None:
        # NumPy pads headers so that the first axis can grow without moving the data.
        shape = (self.rows, *self.row_shape)
        header = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)

    def append(self, rows: np.ndarray) -> None:
        self._file.write(np.ascontiguousarray(rows).data)
        self.rows += len(rows)

    def finish(self) -> dict[str, Any]:
        """Close the file; return its description for the manifest."""
        self._file.seek(0)
        self._write_header()
        if self._file.tell() != self._data_start:
            raise AssertionError(f"{self.path}: the header outgrew its padding")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return {
            "file": self.path.name,
            "dtype": str(self.dtype),
            "shape": [self.rows, *self.row_shape],
            "sha256": sha256_file(self.path),
        }

    def close(self) -> None:
        self._file.close()


class DatasetWriter:
    """Writes a dataset chunk by chunk; it appears in `folder` when the `with` block ends without an exception.

    Chunks go to a hidden folder beside `folder`, which is renamed at the end: who looks sees the old dataset,
    none, or the whole new one. What a killed writer left is removed by the next one for the same folder.
    Memory: the offsets and returns (16 bytes an episode) and the current chunk.

    Args:
      folder: where the dataset shall lie. A dataset that is there already is replaced; a folder with anything else in
        it is refused.
      environment, task, source, seed: for the manifest.
      generator: the settings it was made with, for the manifest (JSON).
      ends: what the end of an episode means, one of `ENDS`.

    Attributes:
      expert_return: set it before the block ends: the mean return of an expert in this task, or None.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        *,
        environment: str,
        task: str,
        source: str,
        seed: int,
        generator: Mapping[str, Any],
        ends: str = "truncation",
    ):
        if ends not in ENDS:
            raise RarlError(f"ends={ends!r}: must be one of {', '.join(ENDS)}")
        self.folder = Path(os.path.abspath(folder))
        _refuse_foreign(self.folder)
        self._source = {
            "environment": environment,
            "task": task,
            "source": source,
            "seed": int(seed),
            "generator": dict(generator),
        }
        self._ends = ends
        self.expert_return: float | None = None
        self._files: dict[str, _ArrayFile] = {}
        self._lengths: list[np.ndarray] = []
        self._returns: list[np.ndarray] = []
        self._temporary: Path | None = None
        self._lock: int | None = None

    def __enter__(self) -> Self:
        parent = self.folder.parent
        parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(self.folder)
        self._temporary = parent / f".{self.folder.name}.{secrets.token_hex(4)}.tmp"
        self._temporary.mkdir()
        self._lock = os.open(self._temporary, os.O_RDONLY)
        fcntl.flock(self._lock, fcntl.LOCK_EX)  # marks the folder as in use, until this process ends
        return self

    def add(self, observations: np.ndarray, actions: np.ndarray, rewards: np.ndarray, **extras: np.ndarray) -> None:
        """Add n episodes of the same length T.

        Args:
          observations: (n, T + 1, ...). actions: (n, T, ...). rewards: (n, T).
          extras: (n, ...) each, one row per episode, in every call the same names.
        """
        n, length = np.shape(rewards)
        if np.shape(observations)[:2] != (n, length + 1) or np.shape(actions)[:2] != (n, length):
            raise ValueError(
                f"{n} episodes of {length} steps need observations ({n}, {length + 1}, ...) and actions "
                f"({n}, {length}, ...), not {np.shape(observations)} and {np.shape(actions)}"
            )
        lengths = np.full(n, length, dtype=np.int64)
        x, a, r = (array.reshape(-1, *array.shape[2:]) for array in map(np.asarray, (observations, actions, rewards)))
        self.add_flat(x, a, r, lengths, **extras)

    def add_flat(
        self,
        observations: np.ndarray,
        actions: np.ndarray,
        rewards: np.ndarray,
        lengths: np.ndarray,
        **extras: np.ndarray,
    ) -> None:
        """Add n episodes of any lengths, one after the other on the first axis.

        Args:
          observations: (sum(lengths) + n, ...). actions: (sum(lengths), ...). rewards: (sum(lengths),).
          lengths: (n,) steps of each episode, each at least 1.
          extras: (n, ...) each, one row per episode, in every call the same names.
        """
        lengths = np.asarray(lengths, dtype=np.int64)
        n, steps = len(lengths), int(lengths.sum())
        if n == 0:
            return
        if lengths.min() < 1 or (len(observations), len(actions), np.shape(rewards)) != (steps + n, steps, (steps,)):
            raise ValueError(
                f"{n} episodes of {steps} steps in all need {steps + n} observations, {steps} actions and "
                f"{steps} rewards, not {len(observations)}, {len(actions)} and {np.shape(rewards)}"
            )
        extras = {name: np.asarray(values) for name, values in extras.items()}
        for name, values in extras.items():
            if name in REQUIRED_ARRAYS or not name.isidentifier():
                raise ValueError(f"{name!r} cannot name an optional array")
            if values.ndim < 1 or len(values) != n:
                raise ValueError(f"{name}: shape {values.shape}, needs one row for each of the {n} episodes")
        if self._ends == "per-episode" and (
            "terminated" not in extras or extras["terminated"].dtype != bool or extras["terminated"].ndim != 1
        ):
            raise ValueError("ends='per-episode' needs terminated: (n,) bool")
        starts = np.cumsum(lengths) - lengths
        totals = np.add.reduceat(np.asarray(rewards, dtype=np.float64), starts)
        if not np.isfinite(totals).all():
            raise ValueError("rewards must be finite")
        rows = {"observations": observations, "actions": actions, "rewards": rewards, **extras}
        if self._files and self._files.keys() != rows.keys():
            raise ValueError(f"arrays {sorted(rows)} after arrays {sorted(self._files)}")
        rows = {name: np.asarray(values) for name, values in rows.items()}
        for name, values in rows.items():  # all or none: a refused chunk leaves the dataset as it was
            self._check_storable(name, values)
        for name, values in rows.items():
            self._append(name, values)
        self._returns.append(totals.astype(np.float32))
        self._lengths.append(lengths)

    @property
    def _unfinished(self) -> Path:
        """Where the dataset is written."""
        if self._temporary is None:
            raise ValueError("episodes can be added only inside the writer's `with` block")
        return self._temporary

    def _check_storable(self, name: str, rows: np.ndarray) -> None:
        if rows.dtype.hasobject or rows.dtype.names:
            raise ValueError(f"{name}: dtype {rows.dtype} cannot be stored, only plain numbers and bools")
        file = self._files.get(name)
        if file and (rows.dtype, rows.shape[1:]) != (file.dtype, file.row_shape):
            raise ValueError(
                f"{name}: rows of {rows.dtype} {rows.shape[1:]} after rows of {file.dtype} {file.row_shape}"
            )

    def _append(self, name: str, rows: np.ndarray) -> None:
        path = self._unfinished / f"{name}.npy"
        if name not in self._files:
            self._files[name] = _ArrayFile(path, rows.dtype, rows.shape[1:])
        self._files[name].append(rows)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            for file in self._files.values():
                file.close()
            if self._temporary is not None:
                shutil.rmtree(self._temporary, ignore_errors=True)
                self._temporary = None
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    def _finish(self) -> None:
        if not self._returns:
            raise RarlError(f"{self.folder}: a dataset needs at least one episode")
        returns = np.concatenate(self._returns)
        offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(np.concatenate(self._lengths))])
        self._append("offsets", offsets)
        self._append("returns", returns)
        manifest = {
            "format": FORMAT,
            **self._source,
            "ends": self._ends,
            "episodes": len(returns),
            "steps": int(offsets[-1]),
            "returns": describe_returns(returns),
            "expert_return": None if self.expert_return is None else float(self.expert_return),
            "arrays": {name: file.finish() for name, file in self._files.items()},
            "rarl": rarl.__version__,
        }
        write_json(self._unfinished / MANIFEST, manifest)
        _put_in_place(self._unfinished, self.folder)


def _refuse_foreign(folder: Path) -> None:
    """Replacing a folder deletes what is in it: only ever do that to a dataset."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise RarlError(f"{folder}: is in the way of a dataset: not a folder")
    if folder.is_dir():
        for entry in sorted(folder.iterdir()):
            if entry.name not in _TOLERATED and (entry.suffix != ".npy" or entry.is_dir()):
                raise RarlError(f"{entry}: not part of a dataset; {folder} is not replaced: choose another folder")


def _remove_leftovers(folder: Path) -> None:
    """Delete the hidden folders of killed writers for `folder`; those of living ones are locked."""
    for leftover in folder.parent.glob(f".{folder.name}.*.tmp"):
        with contextlib.suppress(OSError):
            descriptor = os.open(leftover, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(leftover)
            finally:
                os.close(descriptor)


def _put_in_place(temporary: Path, folder: Path) -> None:
    fsync_folder(temporary)
    if folder.exists():
        _refuse_foreign(folder)
        # A folder with files cannot be renamed over: the old dataset steps aside first, under a name that the next
        # writer cleans up should this process be killed in between.
        old = folder.parent / f".{folder.name}.{secrets.token_hex(4)}.old.tmp"
        os.rename(folder, old)
        os.rename(temporary, folder)
        shutil.rmtree(old)
    else:
        os.rename(temporary, folder)
    fsync_folder(folder.parent)
