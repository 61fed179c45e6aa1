"""Progress lines."""

from __future__ import annotations

import fcntl
import io
import logging
import os
import pty
import select
import struct
import termios

import pytest

from rarl.progress import Progress, duration, progress_line


def test_the_line():
    numbers = {"loss": 0.12345, "return": 12.3}
    line = progress_line(1200, 6000, 0.0121, numbers)
    assert line == "update 1200/6000 (20 %), 0.0121 s/update, 58 s left, loss 0.1235, return 12.3"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0.4 s"), (59.6, "60 s"), (125, "2.1 min"), (12_000, "3.3 h"), (187_300, "52.0 h")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_plain_lines_come_every_n_seconds_and_without_escapes(caplog):
    caplog.set_level(logging.INFO)
    now = 0.0
    stream = io.StringIO()
    with Progress(100, start=20, every_seconds=10, stream=stream, clock=lambda: now) as progress:
        for update in range(21, 101):
            now += 0.5
            if update == 30:
                progress.show(loss=0.25)
            progress.step(update)
    assert [record.getMessage() for record in caplog.records] == [
        "update 40/100 (40 %), 0.5 s/update, 30 s left, loss 0.25",
        "update 60/100 (60 %), 0.5 s/update, 20 s left, loss 0.25",
        "update 80/100 (80 %), 0.5 s/update, 10 s left, loss 0.25",
        "update 100/100 (100 %), 0.5 s/update, 0.0 s left, loss 0.25",
    ]
    assert "\x1b" not in caplog.text
    assert "\r" not in caplog.text
    assert stream.getvalue() == ""


def read_all(descriptor: int) -> str:
    """What a terminal was sent; it arrives in pieces."""
    data = b""
    while select.select([descriptor], [], [], 0.2)[0]:
        data += os.read(descriptor, 100_000)
    return data.decode()


@pytest.mark.parametrize("columns", [100, 0])
def test_a_terminal_gets_one_live_line_and_no_log_lines(caplog, columns):
    """Also a terminal that does not know its width, as containers have."""
    caplog.set_level(logging.INFO)
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with os.fdopen(follower, "w") as terminal:
        with Progress(50, start=10, every_seconds=0, stream=terminal) as progress:
            progress.show(loss=0.5)
            for update in range(11, 51):
                progress.step(update)
        terminal.flush()
        shown = read_all(leader)
    os.close(leader)
    assert "\r" in shown
    assert "50/50" in shown
    assert "loss=0.5" in shown
    assert shown.count("\n") <= 1
    assert not caplog.records


def test_log_lines_of_a_terminal_are_written_once(monkeypatch):
    """The live line takes the place of the console handler; the message must neither be lost nor doubled."""
    leader, follower = pty.openpty()
    root = logging.getLogger()
    with os.fdopen(follower, "w") as terminal:
        monkeypatch.setattr("sys.stderr", terminal)
        handler = logging.StreamHandler(terminal)
        root.addHandler(handler)
        try:
            with Progress(5, stream=terminal) as progress:
                progress.step(1)
                logging.getLogger("rarl.runs.loop").warning("a message")
        finally:
            root.removeHandler(handler)
        terminal.flush()
        shown = read_all(leader)
    os.close(leader)
    assert shown.count("a message") == 1


@pytest.mark.parametrize("stream", [None, object()])
def test_no_usable_stream_is_no_terminal(stream, monkeypatch):
    monkeypatch.setattr("sys.stderr", None)
    with Progress(2, stream=stream) as progress:
        progress.step(1)
        assert progress._bar is None
