"""The one exception that people are meant to read."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
_SHOWN = 8


class RarlError(Exception):
    """Bad input, named in one line: which file, key or value, and what would be right.

    The command line prints it without a traceback and exits with `exit_code`.
    """

    exit_code = 2


class RunFailedError(RarlError):
    """The run cannot go on: not finite, or out of memory. A learner may raise it too, with one line that says why."""


def required(value: T | None, name: str) -> T:
    """The value; RarlError that names it where there is none."""
    if value is None:
        raise RarlError(f"{name}: is needed here")
    return value


def in_one_line(error: Exception) -> str:
    """What it says, with its kind where that is none of ours."""
    kind = "" if isinstance(error, RarlError) else f"{type(error).__name__}: "
    return f"{kind}{' '.join(str(error).split())}"


@contextlib.contextmanager
def told_in_one_line(where: str) -> Iterator[None]:
    """What goes wrong in other people's code or data becomes a RarlError; one of ours stays as it is."""
    try:
        yield
    except RarlError:
        raise
    except Exception as error:
        raise RarlError(f"{where}: {in_one_line(error)}") from error


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The known names closest to `name`, or a few if none is close, as the end of an error message."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=4, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(map(repr, close))}?"
    more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    return f"known: {', '.join(map(repr, known[:_SHOWN]))}{more}"
