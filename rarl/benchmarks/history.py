"""results/costs-history.csv: what variants cost at which commit on which machine, rows as in costs.csv.

`rarl costs --history` appends to it. The settings of scale `reference` stay when those of others change; those of
`paper-sizes` are the paper's networks and batches. The report draws how learner steps changed, and shows the last
measurement of other scales; times of different machines do not compare, ratios within one measurement do.
"""

from __future__ import annotations

import csv
import datetime
from pathlib import Path

from rarl import provenance
from rarl.benchmarks import costs
from rarl.errors import RarlError
from rarl.files import csv_text, write_text

NAME = "costs-history.csv"
COLUMNS = ("date", "commit", "machine", "scale", *costs.COLUMNS)


def kept(root: Path) -> list[list[str]]:
    """The rows so far, their names first; to be asked before minutes are spent on measuring.

    Raises:
      RarlError: the history has other columns, or code was changed since the commit.
    """
    path = root / "results" / NAME
    if provenance.git_state()["dirty"] is not False:
        raise RarlError(f"{path}: a history names commits; commit what was changed, then measure again")
    if not path.is_file():
        return [list(COLUMNS)]
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    if not rows or tuple(rows[0]) != COLUMNS:
        raise RarlError(f"{path}: its first line is not {','.join(COLUMNS)}")
    return rows


def append(root: Path, scale: str, measured: Path) -> Path:
    """Add the rows of a costs.csv, measured just now by the code of this commit; raises what `kept` does."""
    rows, path = kept(root), root / "results" / NAME
    found = provenance.hardware(device="cuda:0")
    machines = {"cpu": f"{found['cpu']}, {found['cores']} cores", "cuda": found["gpu"]}
    today, commit = datetime.datetime.now(datetime.UTC).date().isoformat(), provenance.git_state()["commit"]
    with measured.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            rows.append([today, commit, machines[row["device"]], scale, *(row[name] for name in costs.COLUMNS)])
    write_text(path, csv_text(rows))
    return path
