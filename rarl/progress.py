"""Progress with the time left: one live line on a terminal, plain lines through `logging` everywhere else."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

log = logging.getLogger(__name__)


class Progress:
    """Says how far a run is; use it as a context manager.

    Args:
        total: updates of the whole run.
        start: updates already done (a resumed run).
        every_seconds: pause between two plain lines.
        unit: what is counted, in the plural.
        stream: where a live line would go; it is used only if it is a terminal.
        clock: seconds; injected by tests.
    """

    def __init__(
        self,
        total: int,
        *,
        start: int = 0,
        every_seconds: float = 30.0,
        unit: str = "updates",
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total = total
        self._first = self._last = start
        self._every, self._unit = every_seconds, unit
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._begun = self._said = clock()
        self._numbers: dict[str, float] = {}
        self._bar: Any = None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Progress:
        if _is_terminal(self._stream):
            with contextlib.suppress(Exception):  # plain lines will do
                from tqdm import tqdm
                from tqdm.contrib.logging import logging_redirect_tqdm

                # Log lines go above the bar instead of through it.
                loggers = [logger for logger in (logging.getLogger(), logging.getLogger("rarl")) if _writes_to(logger)]
                self._stack.enter_context(logging_redirect_tqdm(loggers))
                width = (
                    {"dynamic_ncols": True} if os.get_terminal_size(self._stream.fileno()).columns else {"ncols": 80}
                )
                self._bar = tqdm(
                    total=self.total, initial=self._first, file=self._stream, unit=f" {self._unit}", **width
                )
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
        self._stack.close()

    def show(self, **numbers: float) -> None:
        """Numbers to show beside the next lines, such as the loss; they stay until replaced."""
        self._numbers.update(numbers)
        if self._bar is not None:
            self._bar.set_postfix({name: f"{value:.4g}" for name, value in self._numbers.items()}, refresh=False)

    def step(self, update: int) -> None:
        """Updates done so far; cheap enough for every update."""
        if self._bar is not None:
            self._bar.update(update - self._last)
            self._last = update
            return
        self._last = update
        now = self._clock()
        if now - self._said >= self._every:
            self._said = now
            log.info("%s", self.line(update, now - self._begun))

    def line(self, update: int, seconds: float) -> str:
        """The plain line after `update` updates, of which those of this process took `seconds`."""
        each = seconds / max(update - self._first, 1)
        return progress_line(update, self.total, each, self._numbers, self._unit.removesuffix("s"))


def progress_line(
    update: int, total: int, seconds_per_update: float, numbers: Mapping[str, float], unit: str = "update"
) -> str:
    """ "update 1200/6000 (20 %), 0.012 s/update, 58 s left, loss 0.123, return 12.3"."""
    share = 100 * update // total if total else 100
    parts = [
        f"{unit} {update}/{total} ({share} %)",
        f"{seconds_per_update:.3g} s/{unit}",
        f"{duration((total - update) * seconds_per_update)} left",
        *(f"{name} {value:.4g}" for name, value in numbers.items()),
    ]
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """ "3.2 s", "48 s", "12.3 min", "3.4 h"."""
    if seconds < 120:
        return f"{seconds:.{int(seconds < 10)}f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"


def _writes_to(logger: logging.Logger) -> bool:
    """Whether a logger itself prints to the console."""
    return any(
        isinstance(handler, logging.StreamHandler) and getattr(handler, "stream", None) in (sys.stdout, sys.stderr)
        for handler in logger.handlers
    )


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except (AttributeError, ValueError):  # no stream, or a closed one
        return False
