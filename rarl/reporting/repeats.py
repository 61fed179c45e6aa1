"""Whether runs that were made again say the same: one making's table of claims against another's.

`rarl compare` sets the report of this checkout against the one that is committed, or any other. results/{scale}/
repeats.csv keeps what earlier makings said, with `made`, which of them; the report tells it.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rarl.errors import RarlError
from rarl.provenance import file_at_head
from rarl.reporting import tables
from rarl.reporting.results import Results
from rarl.reporting.sheet import Sheet
from rarl.reporting.statistics import Interval

NAME = "repeats"
_NUMBERS = ["estimate", "estimate_low", "estimate_high"]
KEPT = ["id", "outcome", *_NUMBERS]
_COLUMNS = ["made", *KEPT]  # of repeats.csv


def claims_of(root: Path, scale: str) -> Path:
    """The table of claims of a scale's report."""
    return root / "reports" / scale / "tables" / "claims.csv"


def read(path: Path) -> pd.DataFrame:
    """A table of claims.

    Raises:
      RarlError: there is none, or it is something else.
    """
    return _parsed(_text(path), str(path))


def committed(root: Path, scale: str) -> pd.DataFrame:
    """That of the last commit; raises what `read` does."""
    path = claims_of(Path(), scale)
    return _parsed(file_at_head(root, path), f"{path} of the last commit")


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None


def _parsed(text: str | None, where: str, columns: Sequence[str] = ("text", *KEPT)) -> pd.DataFrame:
    if text is None:
        raise RarlError(f"{where}: there is none; a report has its table of claims in tables/claims.csv")
    try:
        return pd.read_csv(io.StringIO(text)).astype(dict.fromkeys(_NUMBERS, float))[list(columns)]
    except (KeyError, ValueError) as error:
        raise RarlError(f"{where}: is no table of claims, with the columns {', '.join(columns)}") from error


def compared(before: pd.DataFrame, now: pd.DataFrame) -> pd.DataFrame:
    """What both judge and measured anew: the columns of `before` as `KEPT_before`, those of `now`, `same`, whether the
    verdict is, and `moved`, by how many of its interval's half widths the estimate differs.

    The very same numbers are of the very same runs, and tell nothing.
    """
    both = now.merge(before[KEPT], on="id", suffixes=("", "_before")).dropna(subset=["estimate", "estimate_before"])
    there, here = both[[f"{name}_before" for name in _NUMBERS]], both[_NUMBERS]
    both = both[~np.isclose(here, there, rtol=1e-5, atol=0).all(axis=1)]  # files have six digits
    width = both["estimate_high"] - both["estimate_low"]
    return both.assign(
        moved=2 * (both["estimate"] - both["estimate_before"]).abs() / width.where(width > 0),
        same=both["outcome"] == both["outcome_before"],
    )


def summary(frame: pd.DataFrame) -> str:
    """What `compared` found, in two sentences."""
    inside = int(frame["estimate"].between(frame["estimate_low_before"], frame["estimate_high_before"]).sum())
    return (
        f"{len(frame)} claims and questions rest on runs that were made in both. Same verdict: {frame['same'].sum()}; "
        f"estimate in the other's interval: {inside}. The median estimate differs by {frame['moved'].median():.2g} of "
        f"its interval's half width, the furthest by {frame['moved'].max():.2g}."
    )


def told(frame: pd.DataFrame) -> str:
    """The same and each changed verdict, for a terminal."""
    if frame.empty:
        return "no run that a claim or question rests on was made again"
    lines = [
        f"{c.id}: {c.outcome_before} {_number(c, '_before')}, here {c.outcome} {_number(c)}: {c.text}"
        for c in frame[~frame["same"]].itertuples()
    ]
    return "\n".join([*lines, summary(frame)])


def _number(row: Any, which: str = "") -> str:
    estimate, low, high = (getattr(row, name + which) for name in _NUMBERS)
    return tables.interval(Interval(estimate, low, high, ()), signed=True).replace(tables.HARD_SPACE, " ")


def keep(root: Path, scale: str, made: str, before: pd.DataFrame) -> Path:
    """Add what another making said to results/{scale}/repeats.csv, in the place of what it was said to have said."""
    path = root / "results" / scale / f"{NAME}.csv"
    new = before.dropna(subset=["estimate"]).assign(made=made)[_COLUMNS]
    kept = _parsed(_text(path), str(path), _COLUMNS) if path.is_file() else new[:0]
    tables.write_csv(path, pd.concat([kept[kept["made"] != made], new]))
    return path


def others(results: Results, now: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """What other makings said, as `compared`, those of which something was made again. now: as tables/claims.csv."""
    kept = results.table(NAME, _COLUMNS)
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
        changed = frame[~frame["same"]]
        heads = {"text": "Claim or question", "outcome_before": "Verdict there", "outcome": "Verdict here"}
        if len(changed):
            sheet.parts.append(tables.to_markdown(changed, heads))
    sheet.text(file)
