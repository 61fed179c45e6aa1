"""Text that is safe in Markdown and in HTML: escaping, numbers, tables; and CSV files."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from rarl.files import write_text
from rarl.reporting.statistics import Interval

HARD_SPACE = "\u00a0"  # keeps "0.42 [0.30, 0.54]" on one line, on GitHub as well
_MINUS = "\u2212"
NONE = "–"
_SPACE = re.compile(r"[\x00-\x20\x7f\x85\u2028\u2029]+")  # what could end a line; hard spaces stay
# Numeric entities: shown as the character by Markdown and HTML, never read as syntax.
_MARKDOWN = {ord(c): f"&#{ord(c)};" for c in "\\`*_[]|~$@"}


def md(text: Any) -> Markup:
    """Any value as one line of Markdown text in which nothing is syntax: no tags, no table bars, no links."""
    if isinstance(text, Markup):
        return text
    line = html.escape(_SPACE.sub(" ", str(text)).strip(" "), quote=False).replace('"', "&quot;").translate(_MARKDOWN)
    line = line.replace("://", "&#58;//").replace("www.", "www&#46;")
    # What opens a list, a quotation or a heading does so at the start of a line only: a zero-width space before it.
    return Markup(
        re.sub(r"^([-+](?=\s|$)|[-=]{2,}|&gt;|#|\d+[.)](?=\s|$))", lambda match: "&#8203;" + match.group(0), line)
    )


def code(text: Any) -> Markup:
    """Inline code that may hold backticks, bars and tags."""
    return Markup(f"<code>{md(text)}</code>")


def number(value: Any, digits: int = 2, *, signed: bool = False) -> str:
    """A number with a fixed number of decimals, or a dash where there is none."""
    if not _is_number(value):
        return NONE
    rounded = f"{abs(value):,.{digits}f}"
    zero = not any(c in "123456789" for c in rounded)
    sign = "" if zero else _MINUS if value < 0 else "+" if signed else ""
    return sign + rounded


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool) and math.isfinite(value)


def count(value: Any) -> str:
    """A whole number with thousands separators."""
    return number(value, 0)


def spaced(name: Any) -> str:
    """A name of paths for people: "lift-red" -> "lift red", "kung_fu_master" -> "kung fu master"."""
    return str(name).replace("-", " ").replace("_", " ")


def unbroken(text: Any) -> str:
    """Text that stays on one line: hard spaces and hyphens."""
    return str(text).replace(" ", HARD_SPACE).replace("-", "\u2011")


def plural(n: int, one: str) -> str:
    """ "1 run", "3 runs"."""
    return f"{n:,} {one if n == 1 else one + 's'}"


def interval(value: Interval | None, *, signed: bool = False) -> str:
    """Estimate and interval on one line, to the digits that its half-width carries, one, or two that begin with 1:
    "0.42 [0.30, 0.54]". Not to more than five that count, nor to more than six decimals.

    Without an interval, or where it has no width, three digits that count: "0.42, CI n/a (n=1)".
    """
    if value is None or not math.isfinite(value.estimate):
        return NONE
    half = (value.high - value.low) / 2 if value.known else 0.0
    carried = 2 if f"{half:e}"[0] == "1" else 1
    digits = decimals(half, carried) if half > 0 else decimals(value.estimate, 3)
    ends = (value.estimate, *((value.low, value.high) if value.known else ()))
    digits = min(digits, decimals(max(map(abs, ends)), 5), 6)
    text = number(value.estimate, digits, signed=signed)
    if not value.known:
        text += f", CI {value.note}"
    else:
        text += f" [{number(value.low, digits, signed=signed)}, {number(value.high, digits, signed=signed)}]"
        text += f" ({value.note})" if value.note else ""
    return text.replace(" ", HARD_SPACE)


def decimals(value: float, digits: int) -> int:
    """Decimals with which a number has so many digits that count; none of whole numbers are cut."""
    exponent = int(f"{value:.{digits - 1}e}".partition("e")[2]) if value else 0
    return max(0, digits - 1 - exponent)


def table(headers: Sequence[Any], rows: Iterable[Sequence[Any]], align: str = "") -> Markup:
    """A GitHub Markdown table. Cells are escaped unless they are Markup.

    Args:
      align: one letter per column: l or r; missing letters mean l.
    """
    align = align.ljust(len(headers), "l")
    rule = {"l": ":--", "r": "--:"}
    lines = ["| " + " | ".join(str(md(h)) for h in headers) + " |", "|" + "|".join(rule[a] for a in align) + "|"]
    for row in rows:
        cells = [str(md(NONE if cell is None or cell == "" else cell)) for cell in row]
        if len(cells) != len(headers):
            raise ValueError(f"table row has {len(cells)} cells, the head has {len(headers)}")
        lines.append("| " + " | ".join(cells) + " |")
    return Markup("\n".join(lines))


def to_markdown(
    frame: pd.DataFrame, heads: Mapping[str, str], *, digits: int = 3, **forms: Callable[[Any], Any]
) -> Markup:
    """The columns of a frame as a table, as their values ask for it; those without any value are left out.

    Intervals of columns whose names begin with "delta" are signed.

    Args:
      heads: name of a column -> its head.
      digits: that count, of numbers without an interval.
      forms: name of a column -> value -> cell, where it is not the usual one.
    """
    shown = [name for name in heads if name in frame and frame[name].notna().any()]
    rows = [[_cell(name, row[name], forms.get(name), digits) for name in shown] for _, row in frame.iterrows()]
    numeric = [all(isinstance(v, Interval) or _is_number(v) for v in frame[name].dropna()) for name in shown]
    return table([heads[name] for name in shown], rows, "".join("r" if n else "l" for n in numeric))


def _cell(name: str, value: Any, form: Callable[[Any], Any] | None, digits: int) -> Any:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if form is not None:
        return form(value)
    return interval(value, signed=name.startswith("delta")) if isinstance(value, Interval) else plain(value, digits)


def plain(value: Any, digits: int = 3) -> Any:
    """A number with so many digits that count, without zeros at the end; whole ones in full. Anything else as it is."""
    if not _is_number(value):
        return value
    text = number(value, 0 if float(value).is_integer() else decimals(value, digits))
    return text.rstrip("0").rstrip(".") if "." in text else text


def expanded(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns of intervals as three: the estimate under the column's name, NAME_low and NAME_high."""
    columns: dict[str, Any] = {}
    for name in frame:
        found = [value for value in frame[name] if isinstance(value, Interval)]
        if not found:
            columns[name] = frame[name]
            continue
        for suffix, part in (("", "estimate"), ("_low", "low"), ("_high", "high")):
            columns[f"{name}{suffix}"] = [getattr(value, part, math.nan) for value in frame[name]]
    return pd.DataFrame(columns, index=frame.index)


def write_csv(path: str | Path, frame: pd.DataFrame) -> None:
    """Write a table, intervals expanded; the same numbers give the same bytes."""
    write_text(path, expanded(frame).to_csv(index=False, float_format="%.6g", lineterminator="\n"))
