"""Between which scores those of a game are compared."""

from __future__ import annotations

from rarl.envs.atari.scores import random_and_human

# The games of `rarl.envs.atari.games` in which points can be lost (the emulator's rules of scoring).
POINTS_ARE_LOST = frozenset(
    ("boxing", "double_dunk", "fishing_derby", "ice_hockey", "pitfall", "pong", "private_eye", "skiing", "surround",
     "tennis")
)  # fmt: skip


def ends(game: str) -> tuple[float, float, float | None] | None:
    """The scores of random play and of the human, and the least that there can be, None where it is not known; None for
    what is no game."""
    found = random_and_human(game)
    return None if found is None else (*found, None if game in POINTS_ARE_LOST else 0.0)
