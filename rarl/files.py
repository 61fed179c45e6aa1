"""Files that are never half-written, reading that names what is wrong, and fingerprints of what files hold."""

from __future__ import annotations

import contextlib
import csv
import errno
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Hashable, Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from rarl.errors import RarlError

# What the machine or its user has to mend, in contrast to a fault of the program.
ENVIRONMENTAL = frozenset(
    {
        errno.EACCES,
        errno.EDQUOT,
        errno.EFBIG,
        errno.EISDIR,
        errno.ENAMETOOLONG,
        errno.ENOSPC,
        errno.ENOTDIR,
        errno.EPERM,
        errno.EROFS,
    }
)


def state_of(path: str | os.PathLike) -> list[int]:
    """Size, times and number of a file: while they stay, so does its content.

    The time of the last change of its state (ctime) is among them, which nobody sets: where the modification time was
    put back, it tells.
    """
    status = os.stat(path)
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


@contextlib.contextmanager
def atomic_writer(path: str | os.PathLike, mode: str = "w") -> Iterator[Any]:
    """Write to a temporary file beside `path`; on success flush, fsync and rename it, on failure remove it.

    Whoever opens `path` sees the old content or the whole new one, also after a kill or a power cut.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    encoding = None if "b" in mode else "utf-8"
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(descriptor, mode, encoding=encoding, newline=None if "b" in mode else "\n") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    fsync_folder(path.parent)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def fsync_folder(folder: Path) -> None:
    """Make what was renamed in `folder` outlast a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_leftovers(folder: str | os.PathLike) -> None:
    """Delete the temporary files that a killed writer left in `folder`."""
    for leftover in Path(folder).glob(".*.tmp"):
        leftover.unlink(missing_ok=True)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write `text` atomically."""
    with atomic_writer(path) as file:
        file.write(text)


def csv_text(rows: Iterable[Iterable[Any]]) -> str:
    """Rows of cells as CSV, one way for every file: commas, quotes where needed, lines that end in a line feed."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Write `value` as JSON with sorted keys, atomically. NaN and infinity are refused: JSON has none."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: str | os.PathLike) -> Any:
    """Read JSON; a missing or damaged file is an error that names it."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RarlError(f"{path}: no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RarlError(f"{path}: not valid JSON ({error})") from None


_Base: Any = object  # a loader, beside which it is a base


class _Strict(_Base):
    """For PyYAML's safe loaders: a key that stands twice in one mapping is an error.

    YAML forbids it, but PyYAML silently takes the last one. A key beside `<<` may replace one that is merged in.
    """

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._checked: set[int] = set()

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Replace `<<` by what it merges in; called for every mapping, and again where it is merged elsewhere."""
        if id(node) not in self._checked:  # afterwards keys that replace merged ones stand there beside them
            self._checked.add(id(node))
            self._refuse_twice(node)
        super().flatten_mapping(node)

    def _refuse_twice(self, node: yaml.MappingNode) -> None:
        first_lines: dict[Any, int] = {}
        for key_node, _ in node.value:
            merges = key_node.tag == "tag:yaml.org,2002:merge"
            key = "<<" if merges else self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):  # told by PyYAML
                continue
            if key in first_lines:
                raise yaml.constructor.ConstructorError(
                    problem=f"key {key!r} stands there twice, first in line {first_lines[key]}",
                    problem_mark=key_node.start_mark,
                )
            first_lines[key] = key_node.start_mark.line + 1


class _SlowLoader(_Strict, yaml.SafeLoader):
    """In Python: slow, and what is nested too deeply is a `RecursionError`."""


_ByLibyaml: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _FastLoader(_Strict, _ByLibyaml):
    """By libyaml where PyYAML has it: a tenth of the time. What is nested too deeply ends the process."""


_NESTED = 5_000  # levels that libyaml can take with certainty


def parse_yaml(text: str, where: str) -> Any:
    """The value of a YAML text.

    Args:
        text: the text.
        where: where it is from, for errors.

    Raises:
        RarlError: not valid YAML, or a key stands twice in a mapping; the message has the line.
    """
    levels = sum(map(text.count, "[{-?:"))  # at most: each takes one of these
    try:
        return yaml.load(text, Loader=_FastLoader if levels < _NESTED else _SlowLoader)  # subclasses of SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise RarlError(f"{where}{line}: not valid YAML: {' '.join(str(error.problem or error).split())}") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2024-13-45
        raise RarlError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise RarlError(f"{where}: not valid YAML: nested too deeply") from None


def read_yaml(path: str | os.PathLike) -> Any:
    """Read YAML; a missing, unreadable or invalid file, or a key that stands twice, is an error that names the file."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RarlError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise RarlError(f"{path}: not valid YAML: not UTF-8 text ({error.reason})") from None
    except OSError as error:
        raise RarlError(f"{path}: cannot be read ({error.strerror})") from None
    return parse_yaml(text, str(path))


def check_writable(path: str | os.PathLike) -> None:
    """Check that a file can be written at `path`, before the work that it is to hold; leaves nothing behind.

    Raises:
        RarlError: something is in the way, or the folder that exists already, or would have to be made, is read-only.
    """
    path = Path(path)
    if path.is_dir():
        raise RarlError(f"{path}: cannot be written: it is a folder")
    check_folder_writable(path.parent, path)


def check_folder_writable(folder: str | os.PathLike, what: str | os.PathLike | None = None) -> None:
    """Check that files can be written in `folder`, which need not exist yet; leaves nothing behind.

    Args:
        folder: the folder.
        what: what the error names; default `folder`.

    Raises:
        RarlError: a file is in the way, or the folder, or the one in which it would have to be made, is read-only.
    """
    folder = Path(folder)
    what = folder if what is None else what
    there = Path(os.path.abspath(folder))
    try:
        while not os.path.lexists(there):
            there = there.parent
        descriptor, temporary = tempfile.mkstemp(prefix=".rarl.", suffix=".tmp", dir=there)
        os.close(descriptor)
        os.unlink(temporary)
    except OSError as error:
        raise RarlError(f"{what}: cannot be written ({there}: {error.strerror})") from None


def sha256_file(path: str | os.PathLike) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical_json(value: Any) -> str:
    """One text per value: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """The first 12 hex digits of the SHA-256 of a JSON value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:12]
