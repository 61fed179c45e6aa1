"""The table of scores, and what the paper's numbers add up to."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path

import numpy as np
import pytest

import rarl
from rarl.envs.atari.games import ACTIONS, GAMES, check_game
from rarl.envs.atari.scores import HEADLINE_GAIN, gain, human_normalised, paper_scores, table
from rarl.errors import RarlError


def test_57_games_with_human_and_random_scores():
    assert len(GAMES) == len(set(GAMES)) == 57
    assert list(GAMES) == sorted(GAMES)
    assert tuple(table()) == GAMES
    for scores in table().values():
        assert scores.human > scores.random
    assert len(ACTIONS) == len(set(ACTIONS)) == 18


def test_what_the_table_says_of_some_games():
    pong, berzerk, kangaroo = (table()[game] for game in ("pong", "berzerk", "kangaroo"))
    assert (pong.random, pong.human, pong.paper_r2d2_mean, pong.paper_ra_r2d2_mean) == (-20.7, 14.6, 21, 21)
    assert (berzerk.random, berzerk.human) == (123.7, 2630.4)
    assert berzerk.paper_r2d2_mean is berzerk.paper_ra_r2d2_mean is None
    assert (kangaroo.paper_ra_r2d2_mean, kangaroo.paper_ra_r2d2_spread) == (15232, None)


def test_human_normalised_by_hand():
    assert human_normalised("breakout", 1.7) == 0
    assert human_normalised("breakout", 30.5) == 1
    assert human_normalised("breakout", 848) == pytest.approx((848 - 1.7) / 28.8)
    assert human_normalised("skiing", -29973) == pytest.approx(-12874.9 / 12761.2)
    with pytest.raises(RarlError, match="unknown Atari game 'pomg'; did you mean 'pong'"):
        human_normalised("pomg", 1)


@pytest.mark.parametrize(("wrong", "close"), [("BankHeist", "bank_heist"), ("space-invaders", "space_invaders")])
def test_unknown_games_are_told_the_close_ones(wrong, close):
    with pytest.raises(RarlError, match=f"unknown Atari game '{wrong}'; did you mean .*'{close}'"):
        check_game(wrong)
    assert check_game(close) == close


def test_the_papers_table_does_not_add_up_to_its_headline():
    """Recomputed from its own Table 3: twice the headline in the mean, and more in the median."""
    r2d2, ra_r2d2 = paper_scores()
    assert len(r2d2) == 56
    assert set(GAMES) - set(r2d2) == {"berzerk"}
    assert round(100 * gain(r2d2, ra_r2d2), 1) == 23.3
    assert round(100 * gain(r2d2, ra_r2d2, np.median), 1) == 28.4
    assert HEADLINE_GAIN == 0.1132
    means = [np.mean([human_normalised(game, score) for game, score in each.items()]) for each in (r2d2, ra_r2d2)]
    assert np.round(means, 1).tolist() == [36.3, 44.7]


def test_gain_by_hand():
    """Human-normalised: 1 and 3, against 2 and 4 of the other."""
    base = {"breakout": 30.5, "freeway": 3 * 29.6}
    other = {"breakout": 1.7 + 2 * 28.8, "freeway": 4 * 29.6}
    assert gain(base, other) == pytest.approx(0.5)
    assert gain(base, other, max) == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match=r"different games: \['freeway'\]"):
        gain(base, {"breakout": 1.0})


def test_missing_scores_are_none_and_none_is_nan():
    for scores in table().values():
        values = [value for value in vars(scores).values() if value is not None]
        assert all(math.isfinite(value) for value in values)


def test_an_installed_package_has_the_table():
    root = Path(rarl.__file__).resolve().parent
    data = tomllib.loads((root.parent / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["rarl"]
    assert "envs/atari/scores.csv" in data
    assert (root / "envs/atari/scores.csv").exists()
