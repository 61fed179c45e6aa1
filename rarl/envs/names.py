"""Names of tasks in paths."""

from __future__ import annotations

import re


def slug(task: str) -> str:
    """A task's name in paths, of a-z, 0-9 and "-": "lift red" -> "lift-red", "GoToRedBall" -> "go-to-red-ball"."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", task)
    return re.sub(r"[^a-z0-9]", "-", words.lower())
