"""Names of tasks in paths."""

from __future__ import annotations

import re


def slug(task: str) -> str:
    """A task's name in paths: "lift red" -> "lift-red", "GoToRedBall" -> "go-to-red-ball"."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", task).replace(" ", "-").lower()
