"""Scores of humans, of random play and of the paper's agents."""

from __future__ import annotations

import csv
import functools
import importlib.resources
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rarl.envs.atari.games import check_game


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
    return {row.pop("game"): Scores(**{name: _number(value) for name, value in row.items()}) for row in rows}


def _number(text: str) -> Any:
    return float(text) if text else None


def reaches_human(game: str, returns: np.ndarray) -> np.ndarray:
    """Which episodes count as a success: returns (n,) -> (n,) bool."""
    return returns >= table()[check_game(game)].human


def random_and_human(game: str) -> tuple[float, float] | None:
    """The scores of random play and of the human; None for what is no game."""
    scores = table().get(game)
    return None if scores is None else (scores.random, scores.human)


def episodes_of_a_human(task: str, returns: np.ndarray, last_rewards: np.ndarray) -> np.ndarray:
    """For `EnvSpec.success`."""
    return reaches_human(task, returns)


def reported(variant: str, game: str) -> tuple[float, float | None] | None:
    """The mean and its spread that the paper printed for R2D2 and RA-R2D2."""
    scores, column = table().get(game), f"paper_{variant.replace('-', '_')}"
    mean = getattr(scores, f"{column}_mean", None)
    return None if mean is None else (mean, getattr(scores, f"{column}_spread"))
