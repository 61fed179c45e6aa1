"""results/costs-history.csv: what learner steps cost at which commit on which machine, a row for each measured variant.

`rarl costs --history` appends to it. The settings of scale `reference` stay when those of others change. The report
draws it; times of different machines do not compare, ratios within one measurement do.
"""

from __future__ import annotations

import csv
import datetime
from pathlib import Path

from rarl import provenance
from rarl.errors import RarlError
from rarl.files import csv_text, write_text

NAME = "costs-history.csv"
KEPT = ("experiment", "variant", "base", "learner_step_ms", "acting_ms", "gpu_busy", "kernels", "device")
COLUMNS = ("date", "commit", "machine", "scale", *KEPT)


def append(root: Path, scale: str, costs: Path) -> Path:
    """Add the rows of a table of costs, measured just now by the code of this commit.

    Raises:
      RarlError: the history has other columns, or code was changed since the commit.
    """
    path, state = root / "results" / NAME, provenance.git_state()
    if state["dirty"] is not False:
        raise RarlError(f"{path}: a history names commits; commit what was changed, then measure again")
    rows = [list(COLUMNS)]
    if path.is_file():
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
        if not rows or tuple(rows[0]) != COLUMNS:
            raise RarlError(f"{path}: its first line is not {','.join(COLUMNS)}")
    with costs.open(encoding="utf-8", newline="") as file:
        measured = list(csv.DictReader(file))
    found = provenance.hardware()
    machine = f"{found['cpu']}, {found['cores']} cores"
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    for row in measured:
        place = machine if row["device"] == "cpu" else provenance.hardware(device="cuda:0")["gpu"] or machine
        rows.append([today, state["commit"], place, scale, *(row[name] for name in KEPT)])
    write_text(path, csv_text(rows))
    return path
