"""Scores of humans, of random play and of the paper's agents, and what the paper's add up to."""

from __future__ import annotations

import csv
import functools
import importlib.resources
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from rarl.envs.atari.games import check_game

# The paper's headline: RA-R2D2's mean human-normalised score over R2D2's. Its own table gives another, see `gain`.
HEADLINE_GAIN, HEADLINE_SPREAD = 0.1132, 0.012


@dataclass(frozen=True)
class Scores:
    """One game's row of the table; None where the paper's table has nothing."""

    random: float
    human: float
    paper_r2d2_mean: float | None
    paper_r2d2_spread: float | None
    paper_ra_r2d2_mean: float | None
    paper_ra_r2d2_spread: float | None


@functools.cache
def table() -> Mapping[str, Scores]:
    """game -> its scores, for all 57, from the packaged `scores.csv`, whose first lines name the sources."""
    text = importlib.resources.files("rarl.envs.atari").joinpath("scores.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return {
        row.pop("game"): Scores(**{name: float(value) if value else None for name, value in row.items()})
        for row in rows
    }


def human_normalised(game: str, score: float) -> float:
    """0 for random play, 1 for the human's."""
    scores = table()[check_game(game)]
    return (score - scores.random) / (scores.human - scores.random)


def reaches_human(game: str, returns: np.ndarray) -> np.ndarray:
    """Which episodes count as a success: returns (n,) -> (n,) bool."""
    return returns >= table()[check_game(game)].human


def episodes_of_a_human(task: str, returns: np.ndarray, last_rewards: np.ndarray) -> np.ndarray:
    """For `EnvSpec.success`."""
    return reaches_human(task, returns)


def gain(
    base: Mapping[str, float], other: Mapping[str, float], aggregate: Callable[[list[float]], float] = np.mean
) -> float:
    """How much larger the aggregate of `other`'s human-normalised scores is than that of `base`'s, as a share.

    Args:
      base, other: game -> score, of the same games.
      aggregate: of the human-normalised scores over games, `np.mean` or `np.median`.
    """
    if base.keys() != other.keys():
        raise ValueError(f"scores of different games: {sorted(base.keys() ^ other.keys())}")
    old, new = (
        aggregate([human_normalised(game, score) for game, score in scores.items()]) for scores in (base, other)
    )
    return float(new / old - 1)


def paper_scores() -> tuple[dict[str, float], dict[str, float]]:
    """The paper's mean scores of R2D2 and of RA-R2D2, game -> score, of the 56 games that have both."""
    rows = {game: row for game, row in table().items() if None not in (row.paper_r2d2_mean, row.paper_ra_r2d2_mean)}
    r2d2 = {game: row.paper_r2d2_mean for game, row in rows.items()}
    return r2d2, {game: row.paper_ra_r2d2_mean for game, row in rows.items()}
