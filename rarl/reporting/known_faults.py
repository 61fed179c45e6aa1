"""What is known to be wrong in a scale's results, until they are made again: results/{scale}/known-faults.yaml."""

from __future__ import annotations

from pathlib import Path

import yaml

from rarl.errors import RarlError
from rarl.reporting import tables

NAME = "known-faults.yaml"
_KEYS = {"shown", "wrong"}


def read_known_faults(folder: Path) -> list[dict[str, str]]:
    """What the results in `folder` show, and why that is wrong; none without a file.

    Raises:
      RarlError: the file is no list of entries with the texts `shown` and `wrong`.
    """
    path = folder / NAME
    if not path.is_file():
        return []
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RarlError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(entries, list):
        raise RarlError(f"{path}: must be a list of entries with {' and '.join(sorted(_KEYS))}")
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict) or set(entry) != _KEYS or not all(isinstance(v, str) for v in entry.values()):
            raise RarlError(f"{path}: entry {number}: needs the texts {' and '.join(sorted(_KEYS))}, and nothing else")
    return entries


def fault_table(entries: list[dict[str, str]]) -> str:
    """The table for the report; empty without entries."""
    if not entries:
        return ""
    rows = [[entry["shown"].strip(), entry["wrong"].strip()] for entry in entries]
    return tables.table(["What these results show", "Why it is wrong"], rows)
