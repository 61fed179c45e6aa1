"""Whether runs that were made again say the same: one making's table of claims against another's.

`rarl compare` sets the report of this checkout against the one that is committed, or any other. results/{scale}/
repeats.csv keeps what earlier makings said, with `made`, which of them; the report tells it.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rarl.errors import RarlError
from rarl.files import csv_text, write_text
from rarl.provenance import file_at_head
from rarl.reporting import tables
from rarl.reporting.results import Results
from rarl.reporting.sheet import Sheet
from rarl.reporting.statistics import Interval

NAME = "repeats"
_NUMBERS = ["estimate", "estimate_low", "estimate_high"]
KEPT = ["id", "outcome", *_NUMBERS]


def claims_of(root: Path, scale: str) -> Path:
    """The table of claims of a scale's report."""
    return root / "reports" / scale / "tables" / "claims.csv"


def read(path: Path) -> pd.DataFrame:
    """A table of claims.

    Raises:
      RarlError: there is none, or it is something else.
    """
    return _parsed(path.read_text(encoding="utf-8") if path.is_file() else None, str(path))


def committed(root: Path, scale: str) -> pd.DataFrame:
    """That of the last commit; raises what `read` does."""
    path = claims_of(Path(), scale)
    return _parsed(file_at_head(root, path), f"{path} of the last commit")


def _parsed(text: str | None, where: str) -> pd.DataFrame:
    if text is None:
        raise RarlError(f"{where}: there is none; a report has its table of claims in tables/claims.csv")
    try:
        return pd.read_csv(io.StringIO(text)).astype(dict.fromkeys(_NUMBERS, float))[["text", *KEPT]]
    except (KeyError, ValueError) as error:
        raise RarlError(f"{where}: is no table of claims, with the columns text, {', '.join(KEPT)}") from error


def compared(before: pd.DataFrame, now: pd.DataFrame) -> pd.DataFrame:
    """What both judge and measured anew: the columns of `before` as `KEPT_before`, those of `now`, and `moved`, by how
    many of its interval's half widths the estimate differs.

    The very same numbers are of the very same runs, and tell nothing.
    """
    both = now.merge(before[KEPT], on="id", suffixes=("", "_before")).dropna(subset=["estimate", "estimate_before"])
    there, here = both[[f"{name}_before" for name in _NUMBERS]], both[_NUMBERS]
    both = both[~np.isclose(here, there, rtol=1e-5, atol=0).all(axis=1)]  # files have six digits
    width = both["estimate_high"] - both["estimate_low"]
    return both.assign(moved=2 * (both["estimate"] - both["estimate_before"]).abs() / width.where(width > 0))


def summary(frame: pd.DataFrame) -> str:
    """What `compared` found, in two sentences."""
    same = int((frame["outcome"] == frame["outcome_before"]).sum())
    inside = int(frame["estimate"].between(frame["estimate_low_before"], frame["estimate_high_before"]).sum())
    return (
        f"{len(frame)} claims and questions rest on runs that were made in both. Same verdict: {same}; estimate in the "
        f"other's interval: {inside}. The median estimate differs by {frame['moved'].median():.2g} of its interval's "
        f"half width, the furthest by {frame['moved'].max():.2g}."
    )


def told(frame: pd.DataFrame) -> str:
    """The same and each changed verdict, for a terminal."""
    if frame.empty:
        return "no run that a claim or question rests on was made again"
    changed = frame[frame["outcome"] != frame["outcome_before"]]
    lines = [
        f"{c.id}: {c.outcome_before} {_number(c, '_before')}, here {c.outcome} {_number(c)}: {c.text}"
        for c in changed.itertuples()
    ]
    return "\n".join([*lines, summary(frame)])


def _number(row: Any, which: str = "") -> str:
    estimate, low, high = (getattr(row, name + which) for name in _NUMBERS)
    return tables.interval(Interval(estimate, low, high, ()), signed=True).replace(tables.HARD_SPACE, " ")


def keep(root: Path, scale: str, made: str, before: pd.DataFrame) -> Path:
    """Add what another making said to results/{scale}/repeats.csv, in the place of what it was said to have said."""
    path = root / "results" / scale / f"{NAME}.csv"
    columns = ["made", *KEPT]
    kept = pd.read_csv(path)[columns] if path.is_file() else pd.DataFrame(columns=columns)
    new = before.dropna(subset=["estimate"]).assign(made=made)[columns]
    rows = pd.concat([part for part in (kept[kept["made"] != made], new) if len(part)])
    write_text(path, csv_text([columns, *rows.astype(object).where(rows.notna(), "").to_numpy().tolist()]))
    return path


def others(results: Results, now: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """What other makings said, as `compared`, those of which something was made again. now: as tables/claims.csv."""
    kept = results.table(NAME, ["made", *KEPT])
    if now.empty:
        return {}
    found = {str(made): compared(before, now) for made, before in kept.groupby("made", sort=False)}
    return {made: frame for made, frame in found.items() if len(frame)}


def write(sheet: Sheet, found: Mapping[str, pd.DataFrame]) -> None:
    """How many verdicts are the same as those of `others`, and those that are not."""
    if not found:
        return
    whole = pd.concat([frame.assign(made=made) for made, frame in found.items()])
    names = ["made", "id", "text", "outcome_before", *(f"{n}_before" for n in _NUMBERS), "outcome", *_NUMBERS, "moved"]
    file = sheet.csv(NAME, whole[names])
    for made, frame in found.items():
        sheet.text(f"{made}. {summary(frame)}")
        changed = frame[frame["outcome"] != frame["outcome_before"]]
        heads = {"text": "Claim or question", "outcome_before": "Verdict there", "outcome": "Verdict here"}
        if len(changed):
            sheet.parts.append(tables.to_markdown(changed, heads))
    sheet.text(file)
