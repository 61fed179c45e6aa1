"""Checkpoints that survive kills, full disks and damage.

A checkpoint is three things beside each other: `X`, the file; `X.sha256`, its sidecar in the format of `sha256sum`; and
`X.previous` (with a sidecar too), the checkpoint before. `X` holds a header (format, run, configuration, digests of
code and data, update) and the state: nested dicts, lists and tuples of tensors, NumPy arrays, numbers, strings,
booleans and None.

While `X` is being replaced its sidecar lists the checksum of the old and of the new file, so that whatever instant a
kill hits, `X` agrees with its sidecar. Loading verifies the checksum first, because torch reads a flipped bit without
complaint, and never unpickles anything but tensors and plain values.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import pickle
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

import rarl
from rarl.errors import RarlError
from rarl.files import atomic_writer, remove_leftovers, write_text
from rarl.mappings import differences, plain
from rarl.runs.run_folder import CHECKPOINT, checksums_of, sidecar

FORMAT = 1
_ARRAY = "__ndarray__"  # key of a dict that stands for a NumPy array: {_ARRAY: tensor, "scalar": bool}
_ABSENT = "absent"  # what the sidecar says, during the first save, about the file that is not there yet

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Header:
    """What a checkpoint says about itself.

    Args:
        run: the run's name, "experiment/task-set/variant/seed-0".
        config: the resolved configuration, plain JSON values.
        update: learner steps done.
        code_digest: of the code that wrote it (`rarl.code_digest.Code.digest`), or None.
        data: manifest path -> SHA-256 of the data it learned from.
        budget: what of the budget decides what the run's products hold; an empty one is not compared.
    """

    run: str
    config: Mapping[str, Any] = field(default_factory=dict)
    update: int = 0
    code_digest: str | None = None
    data: Mapping[str, str | None] = field(default_factory=dict)
    budget: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint; `path` is the file it came from."""

    header: Header
    state: Any
    path: Path


class ChangedError(RarlError):
    """What was found was made with another configuration, budget, code or data than what is asked for."""


class _DamagedError(Exception):
    """The bytes are not the ones that were written; another copy may be fine."""


# --------------------------------------------------------------------------------------------------------------- saving


def save(path: str | os.PathLike, state: Any, header: Header, *, keep_previous: bool = True) -> str:
    """Write `state` to `path` atomically, with its sidecar; keep what was there as `path.previous`.

    Equal states and headers give equal bytes, whatever the file's name.

    Returns:
        The SHA-256 of the file.

    Raises:
        RarlError: the state holds something that cannot be restored safely (named by its dotted path), or the disk is
            full; the checkpoint that was there stays as it was.
    """
    path = Path(path)
    about = {
        "format": FORMAT,
        "rarl": rarl.__version__,
        "torch": str(torch.__version__),
        "run": header.run,
        "config": plain(header.config),
        "update": header.update,
        "code_digest": header.code_digest,
        "data": plain(header.data),
        "budget": plain(header.budget),
    }
    content = {"header": encode(about, "header"), "state": encode(state)}
    old = _checksum(path)
    if old not in (checksums_of(path) or ()):  # nothing to keep, nothing to trust if the kill comes now
        old = None
    try:
        # Through a handle, because torch puts the name of a path into the bytes.
        with atomic_writer(path, "w+b") as file:
            torch.save(content, file)
            file.flush()
            file.seek(0)
            new = hashlib.file_digest(file, "sha256").hexdigest()
            if keep_previous and old is not None:
                _keep(path, old)
            write_text(sidecar(path), _sidecar_text(path, [new, old or _ABSENT]))
        write_text(sidecar(path), _sidecar_text(path, [new]))
    except (OSError, RuntimeError) as error:
        # torch reports a short write as a RuntimeError about positions; the system's reason is in its context.
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError):
            raise
        raise RarlError(
            f"{path}: the checkpoint of update {header.update} could not be written "
            f"({cause.strerror or cause}); " + ("there is none before" if old is None else "the one before is intact")
        ) from error
    return new


def _keep(path: Path, checksum: str) -> None:
    """Make `path` also `path.previous`. `path` itself stays valid throughout, so the order here does not matter."""
    previous = previous_of(path)
    temporary = path.with_name(f".{previous.name}.link.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(path, temporary)
    except OSError:  # a file system without hard links
        shutil.copyfile(path, temporary)
    os.replace(temporary, previous)
    write_text(sidecar(previous), _sidecar_text(previous, [checksum]))


def previous_of(path: str | os.PathLike) -> Path:
    """`X.previous` of `X`."""
    path = Path(path)
    return path.with_name(path.name + ".previous")


def _sidecar_text(path: Path, checksums: list[str]) -> str:
    return "".join(f"{checksum}  {path.name}\n" for checksum in checksums)


def _checksum(path: Path) -> str | None:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None


# -------------------------------------------------------------------------------------------------------------- loading


def load(path: str | os.PathLike) -> Checkpoint:
    """Read and verify one checkpoint file, beside which its sidecar must lie; tensors come to the CPU.

    Raises:
        RarlError: missing, damaged, unsafe, or of another format.
    """
    try:
        return _load(Path(path))
    except _DamagedError as damage:
        raise RarlError(f"{damage}; bring it back (`rarl restore {path}`, a backup) or train the run again") from None


def load_latest(folder: str | os.PathLike, *, expected: Header | None = None) -> Checkpoint | None:
    """The newest intact checkpoint of a scratch folder; None only if the run never wrote one.

    Removes leftovers of killed writers. If `checkpoint.pt` is damaged, takes `checkpoint.pt.previous` and logs a
    warning.

    Args:
        folder: the scratch folder.
        expected: what the run would be now, see `compare`; None: whatever it is.

    Raises:
        RarlError: all copies are damaged (a run never starts silently from 0 again), or as in `load` and `compare`.
    """
    folder = Path(folder)
    remove_leftovers(folder)
    newest = folder / CHECKPOINT
    previous = previous_of(newest)
    if not any(file.exists() for file in (newest, previous, sidecar(previous))):
        known = checksums_of(newest)
        if not known or _ABSENT in known:  # nothing yet, or killed within the very first save
            return None
    damages = []
    for path in (newest, previous):
        try:
            checkpoint = _load(path)
        except _DamagedError as damage:
            damages.append(str(damage))
            continue
        if expected is not None:
            compare(checkpoint.header, expected, path)
        if damages:
            log.warning("%s; going on from %s (update %d)", damages[0], path.name, checkpoint.header.update)
        return checkpoint
    raise RarlError(
        f"no usable checkpoint in {folder}: {'; '.join(damages)}. "
        "Remove that folder, or use --force, to train the run again from update 0"
    )


def _load(path: Path) -> Checkpoint:
    checksum = _checksum(path)
    if checksum is None:
        raise _DamagedError(f"{path}: no such checkpoint")
    known = checksums_of(path)
    if not known:
        fault = "is missing" if known is None else "holds no checksum"
        raise _DamagedError(f"{path}: its checksum file {sidecar(path).name} {fault}")
    if checksum not in known:
        raise _DamagedError(f"{path}: SHA-256 is {checksum[:12]}…, but {sidecar(path).name} says {known[0][:12]}…")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise RarlError(
            f"{path}: holds more than tensors and plain values; refused, because loading it could run code"
        ) from None
    except (RuntimeError, EOFError, ValueError, KeyError) as error:
        if "memory" in str(error):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RarlError(f"{path}: not a checkpoint of rarl ({reason})") from None
    header = content.get("header") if isinstance(content, dict) else None
    if not isinstance(header, dict) or "format" not in header or "state" not in content:
        raise RarlError(f"{path}: not a checkpoint of rarl (it has no header)")
    if header["format"] != FORMAT:
        raise RarlError(
            f"{path}: format {header['format']}, written by rarl {header.get('rarl', '?')}; "
            f"this is rarl {rarl.__version__}, which reads format {FORMAT}"
        )
    try:
        found = Header(**{name: header[name] for name in Header.__dataclass_fields__})
    except KeyError as error:
        raise RarlError(f"{path}: not a checkpoint of rarl (its header has no {error})") from None
    return Checkpoint(found, decode(content["state"]), path)


def compare(found: Header, expected: Header, where: str | os.PathLike) -> None:
    """List what differs between what was found at `where` and what is asked for, if anything does.

    Updates are not compared, nor is a code digest of None.

    Raises:
        ChangedError: one line with the differing keys, dotted, and both values.
        RarlError: it belongs to another run.
    """
    if found.run != expected.run:
        raise RarlError(f"{where}: belongs to run {found.run}, not to {expected.run}")
    differing = differences(found.config, expected.config)
    if found.budget and expected.budget:
        differing += [f"budget.{line}" for line in differences(found.budget, expected.budget)]
    if None not in (found.code_digest, expected.code_digest) and found.code_digest != expected.code_digest:
        differing.append(f"code: {found.code_digest} then, {expected.code_digest} now")
    differing += [f"data {line}" for line in differences(found.data, expected.data, whole_keys=True)]
    if differing:
        shown = "; ".join(differing[:8]) + (f"; and {len(differing) - 8} more" if len(differing) > 8 else "")
        raise ChangedError(
            f"{where}: run {found.run} was made with something else: {shown}. "
            "Change it back, or use --force to train the run again from update 0"
        )


def encode(state: Any, where: str = "state") -> Any:
    """`state` with NumPy arrays as tensors, which is all that `weights_only` loading accepts.

    Raises:
        RarlError: a value that could not be restored without running code, named by its dotted path.
    """
    if type(state) is str:
        return sys.intern(state)  # pickle writes an equal but other object anew, so bytes would depend on history
    if state is None or type(state) in (bool, int, float):
        return state
    if isinstance(state, torch.Tensor):
        tensor = state.detach()
        # A view would drag its whole storage into the file.
        return tensor.clone() if tensor.untyped_storage().nbytes() != tensor.numel() * tensor.element_size() else tensor
    if isinstance(state, np.ndarray | np.generic):
        try:
            tensor = torch.from_numpy(np.array(state, order="C"))
        except TypeError:
            raise RarlError(f"{where}: a NumPy array of dtype {state.dtype} cannot be put into a checkpoint") from None
        return {_ARRAY: tensor, "scalar": isinstance(state, np.generic)}
    if isinstance(state, Mapping):
        for key in state:
            if type(key) not in (str, int):
                raise RarlError(f"{where}: the key {key!r} cannot be put into a checkpoint; use text or whole numbers")
        return {encode(key): encode(value, f"{where}.{key}") for key, value in state.items()}
    if type(state) in (list, tuple):
        return type(state)(encode(value, f"{where}.{index}") for index, value in enumerate(state))
    raise RarlError(
        f"{where}: a {type(state).__module__}.{type(state).__qualname__} cannot be put into a checkpoint; "
        "use tensors, arrays, numbers, text, or (for a NumPy generator) its bit_generator.state"
    )


def decode(state: Any) -> Any:
    """The inverse of `encode`."""
    if isinstance(state, dict):
        if _ARRAY in state:
            array = state[_ARRAY].numpy()
            return array[()] if state["scalar"] else array
        return {key: decode(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(decode(value) for value in state)
    return state


def first_not_finite(state: Any, where: str = "") -> str | None:
    """The dotted path of the first tensor or array with a NaN or infinity, "net.0.weight holds nan"; None if there is
    none.

    Plain numbers are not looked at: "best so far: minus infinity" is nothing to worry about.
    """
    if isinstance(state, torch.Tensor):
        if not (state.is_floating_point() or state.is_complex()) or bool(torch.isfinite(state).all()):
            return None
        return f"{where} holds {'nan' if bool(torch.isnan(state).any()) else 'infinity'}"
    if isinstance(state, np.ndarray | np.generic):
        if state.dtype.kind not in "fc" or bool(np.isfinite(state).all()):
            return None
        return f"{where} holds {'nan' if bool(np.isnan(state).any()) else 'infinity'}"
    items = state.items() if isinstance(state, Mapping) else enumerate(state) if isinstance(state, list | tuple) else ()
    for key, value in items:
        found = first_not_finite(value, f"{where}.{key}" if where else str(key))
        if found:
            return found
    return None


def restore(learner: Any, state: Any, where: str | os.PathLike) -> None:
    """`learner.load_state_dict(state)`; what does not fit is named in one line instead of torch's page of shapes.

    Raises:
        RarlError: parameters are missing, superfluous or of another shape.
    """
    try:
        learner.load_state_dict(state)
    except (RuntimeError, KeyError, ValueError, TypeError, IndexError) as error:
        misfits = []
        with contextlib.suppress(Exception):
            misfits = _misfits(state, learner.state_dict(), "")
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        what = "; ".join(misfits[:4]) if misfits else (lines[-1] if lines else repr(error))
        raise RarlError(f"{where}: does not fit this learner: {what}") from error


def _misfits(then: Any, now: Any, where: str) -> list[str]:
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        lines = []
        for key in [*then, *(key for key in now if key not in then)]:
            inner = f"{where}.{key}" if where else str(key)
            if key not in now:
                lines.append(f"{inner} is not in the learner")
            elif key not in then:
                lines.append(f"{inner} is not in the checkpoint")
            else:
                lines += _misfits(then[key], now[key], inner)
        return lines
    shapes = [tuple(value.shape) for value in (then, now) if isinstance(value, torch.Tensor | np.ndarray)]
    if len(shapes) == 2 and shapes[0] != shapes[1]:
        return [f"{where} is {shapes[0]} in the checkpoint and {shapes[1]} in the learner"]
    return []
