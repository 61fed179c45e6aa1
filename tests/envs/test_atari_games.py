"""Each of the 57 games, by the settings with which the agents of the paper's scale play it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rarl.config.scale import Scale
from rarl.envs.atari.games import ACTIONS, GAMES
from rarl.envs.atari.observation import packed_size
from rarl.envs.atari.packed import PackedAtari
from rarl.envs.spec import make_vector
from rarl.runs.checkpoints import decode, encode
from tests.envs.plain_atari import PlainAtari

ROOT = Path(__file__).parents[2]
MOVES = tuple(action for action in ACTIONS if "fire" not in action)


@pytest.fixture(scope="module")
def settings():
    """game -> the settings by which it is played."""
    runs = Scale("paper", ROOT).runs.values()
    return {run.tasks[0]: run.settings for run in runs if run.settings.environment == "atari"}


def plays(settings, game):
    packed = make_vector(settings[game], [game] * 2, seed=4)
    assert isinstance(packed, PackedAtari)
    envs, full = packed.games, settings[game].environment_options["full_actions"]
    plain = PlainAtari(game, full)
    assert packed.actions == envs.actions == tuple(action.name.lower() for action in plain.actions)
    assert full
    assert envs.actions == (MOVES if game == "skiing" else ACTIONS)

    stack = settings[game].environment_options["stack"]
    assert packed.reset().shape == (2, packed_size(stack))
    first = envs.reset()
    assert (first.shape, first.dtype) == ((2, 84, 84), np.uint8)
    for action in range(envs.num_actions):  # each is accepted
        step = envs.step(np.array([action, envs.num_actions - 1 - action]))
        assert np.isfinite(step.rewards).all()
        assert not (step.terminated & step.truncated).any()
        assert step.lives.min() >= 0
        if not envs.active.all():
            envs.reset(where=np.flatnonzero(~envs.active))
    before = envs.observations
    after = envs.reset(where=np.array([1]))
    np.testing.assert_array_equal(before[0], after[0])

    state = encode(envs.state_dict())
    rest = np.random.default_rng(0).integers(envs.num_actions, size=(8, 2))
    went_on = [envs.step(actions) for actions in rest]
    again = make_vector(settings[game], [game] * 2, seed=9).games
    again.load_state_dict(decode(state))
    for t, (actions, one) in enumerate(zip(rest, went_on, strict=True)):
        for name, ours, theirs in zip(one._fields, one, again.step(actions), strict=True):
            np.testing.assert_array_equal(ours, theirs, err_msg=f"{name} of step {t}")


def test_skiing_is_played_without_a_button(settings):
    plays(settings, "skiing")


@pytest.mark.slow
@pytest.mark.parametrize("game", GAMES)
def test_every_game_is_played_and_restored(settings, game):
    plays(settings, game)
