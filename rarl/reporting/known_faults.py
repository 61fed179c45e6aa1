"""What is known to be wrong in a scale's results, until they are made again: results/{scale}/known-faults.yaml."""

from __future__ import annotations

from pathlib import Path

from rarl.config.validate import Settings, validate
from rarl.files import read_yaml

NAME = "known-faults.yaml"


class KnownFault(Settings):
    """What results show, and why that is wrong."""

    shown: str
    wrong: str


class _Faults(Settings):
    entries: list[KnownFault]


def read_known_faults(folder: Path) -> list[KnownFault]:
    """What the results in `folder` show, and why that is wrong; none without a file.

    Raises:
      RarlError: the file is no list of entries with the texts `shown` and `wrong`.
    """
    path = folder / NAME
    return validate(_Faults, {"entries": read_yaml(path)}, str(path)).entries if path.is_file() else []
