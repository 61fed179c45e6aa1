"""Snakemake's records of how files were made, kept for each scale in one file that DVC tracks.

Snakemake writes one record per file to `.snakemake/metadata`, for all scales together; by them it decides what has to
run again. `results/{scale}/provenance.json` holds those of a scale: it travels with the data, and the Snakefile puts
the records back when it finds others than those it knows, as in a fresh clone or after another commit was checked out.
"""

from __future__ import annotations

import contextlib
import json
import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rarl.errors import RarlError
from rarl.files import read_json, sha256_file, write_json, write_text

STATE = Path(".snakemake")
METADATA = STATE / "metadata"
_LONGEST_NAME = 254  # Snakemake cuts longer names into folders that begin with "@"


def file_of(scale: str, root: str | os.PathLike = ".") -> Path:
    """Where the records of a scale are kept."""
    return Path(root) / "results" / scale / "provenance.json"


def record_of(product: str, root: str | os.PathLike = ".") -> dict[str, Any] | None:
    """What Snakemake recorded when it made `product`, a path below the root; None if it made no such file."""
    try:
        return json.loads((Path(root) / METADATA / _name_of(product)).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def inputs_of(product: str, root: str | os.PathLike = ".") -> dict[str, str]:
    """Path -> SHA-256 of the inputs that Snakemake recorded when it made `product`; empty if it made no such file."""
    checksums = (record_of(product, root) or {}).get("input_checksums") or {}
    return {path: checksum.rpartition(":")[2] for path, checksum in checksums.items() if checksum}


def has_params(product: str, params: Iterable[Any], root: str | os.PathLike = ".") -> bool:
    """Whether Snakemake recorded these among the parameters of the job that made `product`."""
    record = record_of(product, root)
    recorded = (record or {}).get("params") or []
    return all(repr(value) in recorded for value in params)


def plan_of(product: str, plan: dict[str, Any], scale: str, root: str | os.PathLike = ".") -> str:
    """The path of a file with the plan by which a product is made that has no other inputs, written if it changed.

    Such a product that is in git stands in a clone without a record of its making, and Snakemake would take it for up
    to date for ever. The plan is newer than that product, so it is made again.
    """
    name = f"scratch/{scale}/plans/{Path(product).stem}.json"
    path = Path(root) / name
    with contextlib.suppress(RarlError):
        if read_json(path) == plan and (record_of(product, root) is not None or not (Path(root) / product).exists()):
            return name
    write_json(path, plan)
    return name


def save_records(scale: str, root: str | os.PathLike = ".") -> Path:
    """Write the records of the products of a scale that exist; nothing if these are written already."""
    root, path = Path(root), file_of(scale, root)
    records = {}
    for product, file in _records(scale, root):
        if (root / product).exists():
            with contextlib.suppress(OSError, ValueError):
                records[product] = json.loads(file.read_text(encoding="utf-8"))
    with contextlib.suppress(RarlError):
        if read_json(path) == records:
            _remember(scale, root)
            return path
    write_json(path, records)
    _remember(scale, root)
    return path


def has_records(scale: str, root: str | os.PathLike = ".") -> bool:
    """Whether Snakemake has records of products of a scale that exist."""
    return any((Path(root) / product).exists() for product, _ in _records(scale, Path(root)))


def is_outdated(scale: str, root: str | os.PathLike = ".") -> bool:
    """Whether Snakemake has written records of a scale since they were saved."""
    try:
        saved = file_of(scale, root).stat().st_mtime_ns
    except FileNotFoundError:
        return True
    return any(file.stat().st_mtime_ns > saved for _, file in _records(scale, Path(root)))


def load_records(scale: str, root: str | os.PathLike = ".") -> bool:
    """Put the saved records in the place of Snakemake's, unless they are those saved or put there last. Whether it did.

    Raises:
        RarlError: the file cannot be read.
    """
    root, path = Path(root), file_of(scale, root)
    if not path.is_file() or _remembered(scale, root) == sha256_file(path):
        return False
    records = read_json(path)
    if not isinstance(records, dict):
        raise RarlError(f"{path}: not the records of a workflow; `rarl restore {path}`, or remove it")
    for _, file in list(_records(scale, root)):
        file.unlink(missing_ok=True)
    (root / STATE / "incomplete").mkdir(parents=True, exist_ok=True)  # else Snakemake takes the records for old ones
    for product, record in records.items():
        if _is_of(product, scale):
            file = root / METADATA / _name_of(product)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(record), encoding="utf-8")
            # What an interrupted job of another state of the project had begun is there again as it was recorded.
            if (root / product).exists():
                (root / STATE / "incomplete" / _name_of(product)).unlink(missing_ok=True)
    _remember(scale, root)
    return True


def _is_of(product: str, scale: str) -> bool:
    return product.startswith((f"data/{scale}/", f"results/{scale}/", f"reports/{scale}/"))


def _records(scale: str, root: Path) -> Iterator[tuple[str, Path]]:
    """(product, file of its record) for all of Snakemake's records of a scale."""
    metadata = root / METADATA
    for folder, _, files in os.walk(metadata):
        for name in files:
            file = Path(folder, name)
            code = "".join(part.removeprefix("@") for part in file.relative_to(metadata).parts)
            with contextlib.suppress(ValueError):
                product = urlsafe_b64decode(code).decode()
                if _is_of(product, scale):
                    yield product, file


def _name_of(product: str) -> Path:
    code = urlsafe_b64encode(product.encode()).decode()
    parts = [code[i : i + _LONGEST_NAME] for i in range(0, len(code), _LONGEST_NAME)]
    return Path(*(f"@{part}" for part in parts[:-1]), parts[-1])


def _known_by(scale: str, root: Path) -> Path:
    return root / STATE / f"provenance-{scale}.sha256"


def _remembered(scale: str, root: Path) -> str | None:
    try:
        return _known_by(scale, root).read_text(encoding="utf-8").strip()
    except OSError:
        return None


def _remember(scale: str, root: Path) -> None:
    write_text(_known_by(scale, root), sha256_file(file_of(scale, root)) + "\n")
