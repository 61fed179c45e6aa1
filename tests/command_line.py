"""The command line, in this process."""

from __future__ import annotations

import pytest

from rarl import cli


def fails(capsys, *arguments):
    """The one line that the command ends with."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        cli.main(list(arguments))
    assert stopped.value.code == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("rarl: error: ")
    assert error.endswith("\n")
    assert error.count("\n") == 1, error
    return error
