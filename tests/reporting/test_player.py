"""Players: every step's picture, what was retrieved with its weight, and Q."""

from __future__ import annotations

import copy
import io

import numpy as np
import pytest
from PIL import Image

from rarl.envs.spec import spec_of
from rarl.errors import RarlError
from rarl.reporting import player
from rarl.reporting.pictures import pictures_of
from tests.envs.test_pictures import GALLERIES
from tests.reporting import synthetic as made


def of(environment, episode=None):
    return player.player(spec_of(environment), episode or GALLERIES[environment]["episodes"][0], "An agent")


def with_weights(weights):
    """A Gridroboman episode whose steps from the second on say which of two candidates have which weights; with Q."""
    episode = copy.deepcopy(made.board_gallery()["episodes"][0])
    episode["actions"] = [f"action {i}" for i in range(7)]
    for step, now in zip(episode["steps"], weights, strict=False):
        step["q"] = [0.5 * i for i in range(7)]
        for candidate, state in enumerate(step["retrieved"]):
            state |= {"candidate": candidate, "weight": now[candidate], "episode": 12}
        if step is not episode["steps"][0]:
            step |= {"retrieved": [], "attended": sorted(enumerate(now), key=lambda one: -one[1])}
    episode["steps"] = episode["steps"][: len(weights)]
    return episode


@pytest.mark.parametrize("environment", GALLERIES)
def test_the_sheet_holds_every_state(environment):
    episode = GALLERIES[environment]["episodes"][0]
    found, look = of(environment), pictures_of(spec_of(environment))
    assert len(found.sheet) < 200_000
    sheet = np.asarray(Image.open(io.BytesIO(found.sheet)).convert("RGB"))
    assert list(sheet.shape[1::-1]) == found.data["size"]
    states = look.states(episode, player.STATE_PIXELS)
    assert len(found.data["steps"]) == len(states)
    for step, state in zip(found.data["steps"], states, strict=True):
        assert (crop(sheet, found.data["boxes"][step["box"]]) == state).all()
    for step, recorded in zip(found.data["steps"], episode["steps"], strict=False):
        assert (step["t"], step["reward"]) == (recorded["t"], recorded["reward"])
        for (which, weight), state in zip(step["retrieved"], recorded["retrieved"], strict=False):
            shown = found.data["retrieved"][which]
            picture = look.retrieved(state, player.RETRIEVED_PIXELS)
            assert (crop(sheet, found.data["boxes"][shown["box"]]) == picture).all()
            assert weight == state["weight"]


def crop(sheet, box):
    x, y, width, height = box
    return sheet[y : y + height, x : x + width]


def test_the_same_bytes_again():
    assert of("babyai") == of("babyai")


def test_equal_pictures_are_kept_once():
    episode = copy.deepcopy(made.screen_gallery(6)["episodes"][0])
    for step in episode["steps"]:
        step["frame"] = made.screen(3)
    assert len(of("atari", episode).data["boxes"]) == 2  # the screen, and what is retrieved


def test_steps_that_describe_nothing_anew_say_weights():
    weights = [(0.6, 0.4), (0.3, 0.7), (0.5, 0.5)]
    data = of("gridroboman", with_weights(weights)).data
    assert [dict(step["retrieved"]) for step in data["steps"][:3]] == [dict(enumerate(w)) for w in weights]
    assert data["steps"][1]["retrieved"][0] == (1, 0.7)  # the heaviest first
    assert len(data["retrieved"]) == 2
    assert "episode 12" in data["retrieved"][0]["text"]
    assert data["q"] == [0, 3]
    assert data["steps"][0]["q"] == [0, 0.5, 1, 1.5, 2, 2.5, 3]


def test_it_says_whether_what_is_retrieved_changes():
    alike, weights = ([(0.6, 0.4)] * 3, [(0.6, 0.4), (0.3, 0.7)])
    notes = [of("gridroboman", with_weights(w)).data["note"] for w in (alike, weights)]
    notes.append(of("gridroboman").data["note"])  # other states at every step
    episode = copy.deepcopy(made.board_gallery()["episodes"][0])
    for step in episode["steps"]:
        step["retrieved"] = []
    notes.append(of("gridroboman", episode).data["note"])
    assert len(set(notes)) == 4
    assert all(notes)


def test_the_return_so_far_is_told_where_the_beginning_is_shown():
    episode = GALLERIES["gridroboman"]["episodes"][0]
    assert of("gridroboman").data["steps"][-1]["total"] == episode["return"]
    assert all(step["total"] is None for step in of("atari").data["steps"])


@pytest.mark.parametrize(("key", "value"), [("reward", "much"), ("reward", float("nan")), ("observation", [1, 2])])
def test_an_odd_episode_is_an_error_with_its_name(key, value):
    episode = copy.deepcopy(GALLERIES["gridroboman"]["episodes"][0])
    episode["steps"][0][key] = value
    with pytest.raises(RarlError, match=r"gallery\.json"):
        of("gridroboman", episode)
