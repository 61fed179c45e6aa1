"""Checks of the arguments that generators of datasets share."""

from __future__ import annotations

from collections.abc import Sequence

from rarl.errors import RarlError

NOISE_PERCENTAGES = (0, 10, 25, 50, 100)


def check_seed(seed: int) -> None:
    """RarlError unless it is at least 0."""
    if seed < 0:
        raise RarlError(f"seed={seed}: must be at least 0")


def check_noisy_episodes(episodes: int, seed: int, noise_percent: Sequence[int]) -> tuple[int, ...]:
    """Check the size of a dataset of experts' episodes with random actions in them.

    Args:
      episodes: at least 1.
      seed: at least 0.
      noise_percent: whole percentages from 0 to 100, at least one.

    Returns:
      The percentages.

    Raises:
      RarlError: it names the argument that is out of its range.
    """
    if episodes < 1:
        raise RarlError(f"episodes={episodes}: must be at least 1")
    check_seed(seed)
    return check_noise(noise_percent)


def check_noise(noise_percent: Sequence[int]) -> tuple[int, ...]:
    """The percentages; RarlError unless they are whole ones from 0 to 100, at least one."""
    found = tuple(noise_percent) if isinstance(noise_percent, Sequence) else ()
    if not found or not all(isinstance(percent, int) and 0 <= percent <= 100 for percent in found):
        raise RarlError(f"noise_percent={found or noise_percent!r}: must be percentages from 0 to 100")
    return found
