"""Missions as tokens."""

from __future__ import annotations

import numpy as np
import pytest
from minigrid.core.constants import COLOR_NAMES
from minigrid.envs.babyai.core.verifier import LOC_NAMES, OBJ_TYPES, AfterInstr, AndInstr, ObjDesc, PutNextInstr

from rarl.envs.babyai.levels import LEVELS, make_level
from rarl.envs.babyai.missions import MISSION_LENGTH, PADDING, VOCABULARY, share_a_thing, things, tokenise, words
from rarl.errors import RarlError

# A word's number is part of every dataset.
GOLDEN = (
    " a the red green blue purple yellow grey box ball key door object in front of you behind on your left right "
    "go to open pick up put next and , then after"
)


def test_the_vocabulary_stays():
    assert " ".join(VOCABULARY) == GOLDEN
    assert len(set(VOCABULARY)) == len(VOCABULARY)


def test_round_trip_on_every_level():
    seen = set()
    for level in LEVELS:
        env = make_level(level)
        for seed in range(8):
            env.reset(seed=seed)
            tokens = tokenise(env.mission)
            assert tokens.shape == (MISSION_LENGTH,)
            assert tokens.dtype == np.uint8
            assert words(tokens) == env.mission
            seen.update(tokens.tolist())
    assert len(seen) == len(VOCABULARY)  # with the padding: no word is there for nothing


def test_every_colour_kind_and_place():
    for text in (*COLOR_NAMES, *OBJ_TYPES, *LOC_NAMES, "object"):
        assert words(tokenise(text)) == text


def longest_mission():
    env = make_level("BossLevel")
    for seed in range(100):
        env.reset(seed=seed)
        for kind in ("ball", "box", "key"):
            for color in COLOR_NAMES:
                thing = ObjDesc(kind, color, "front")
                if thing.find_matching_objs(env)[0]:
                    clause = PutNextInstr(thing, thing)
                    return AfterInstr(AndInstr(clause, clause), AndInstr(clause, clause)).surface(env)
    raise AssertionError("nothing in front of the agent in 100 levels")


def test_the_longest_mission_fits_exactly():
    text = longest_mission()
    tokens = tokenise(text)
    assert (tokens != PADDING).all()
    assert words(tokens) == text
    with pytest.raises(RarlError, match=f"{MISSION_LENGTH + 1} words, must be 1 to {MISSION_LENGTH}"):
        tokenise(text + " key")


def test_errors_name_the_word():
    with pytest.raises(RarlError, match=r"mission 'go to the rad ball': unknown word 'rad': did you mean 'red'"):
        tokenise("go to the rad ball")
    with pytest.raises(RarlError, match="0 words"):
        tokenise(" ")
    with pytest.raises(RarlError, match="unknown word 'Go'"):
        tokenise("Go to the red ball")


@pytest.mark.parametrize(
    ("mission", "expected"),
    [
        ("go to the red ball", {("red", "ball")}),
        ("put a box next to the grey key, then open a door behind you", {("", "box"), ("grey", "key"), ("", "door")}),
        ("pick up the object on your left", {("", "object")}),
    ],
)
def test_things_of_a_mission(mission, expected):
    assert things(mission) == expected


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("go to the red ball", "put the red ball next to the green box", True),
        ("go to the red ball", "pick up the blue ball", False),
        ("go to the red ball", "pick up the red box", False),
        ("open a door", "open the blue door", True),
    ],
)
def test_missions_share_a_thing(one, other, expected):
    assert share_a_thing(things(one), things(other)) is expected
    assert share_a_thing(things(other), things(one)) is expected
