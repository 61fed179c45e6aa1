"""Recorded episodes as pictures, of every environment: each step is drawn, and what is odd is an error."""

from __future__ import annotations

import copy
import io

import numpy as np
import pytest
from PIL import Image

from rarl.envs.babyai.expert import Expert
from rarl.envs.babyai.levels import level_named
from rarl.envs.babyai.missions import words
from rarl.envs.babyai.vector import ACTIONS, VectorBabyAI
from rarl.envs.babyai.view import CELLS
from rarl.envs.spec import load, spec_of
from rarl.errors import RarlError
from rarl.reporting.player import player
from tests.reporting import synthetic as made


def level_gallery(name="UnlockPickup", seed=5, most=60):
    """An episode of the expert, with what it saw dressed up as retrieved."""
    env = VectorBabyAI([level_named(name)])
    observation = env.reset(np.array([seed]))
    expert, action, steps = Expert(env.envs[0]), None, []
    while env.active[0] and len(steps) < most:
        action = expert.action(action)
        view = observation[0, :CELLS].tolist()
        observation, reward, _, _ = env.step(np.array([action]))
        state = {"weight": 0.4, "task": name, "mission": "go to the red ball", "return": 0.5, "step": 3, "view": view,
                 "rewarded": False}  # fmt: skip
        steps.append({"t": len(steps), "action": action, "reward": float(reward[0]), "retrieved": [state]})
    episode = {"task": name, "mission": words(env.context[0]), "seed": seed, "success": bool(env.success[0]),
               "return": sum(step["reward"] for step in steps), "length": len(steps), "steps": steps}  # fmt: skip
    return {"rule": "Quartiles.", "episodes": [episode]}


GALLERIES = {"gridroboman": made.board_gallery(), "babyai": level_gallery(), "atari": made.screen_gallery()}


def play(environment, episode):
    return player(spec_of(environment), episode, "An agent")


@pytest.mark.parametrize("environment", GALLERIES)
def test_every_step_in_the_same_bytes(environment):
    episode = GALLERIES[environment]["episodes"][0]
    sheet, data = play(environment, episode)
    assert sheet == play(environment, episode).sheet
    last = environment != "atari"  # the screen after the last step is not recorded
    assert len(data["steps"]) == len(episode["steps"]) + last
    whole = np.asarray(Image.open(io.BytesIO(sheet)).convert("RGB"))
    assert list(whole.shape[1::-1]) == data["size"]
    x, y, width, height = data["boxes"][data["steps"][0]["box"]]
    assert len(np.unique(whole[y : y + height, x : x + width].reshape(-1, 3), axis=0)) > 1


def test_without_retrieval_there_are_states_alone():
    episode = copy.deepcopy(GALLERIES["atari"]["episodes"][0])
    for step in episode["steps"]:
        step["retrieved"] = []
    data = play("atari", episode).data
    assert data["retrieved"] == []
    assert all(step["retrieved"] == [] for step in data["steps"])


def changed(environment, place, value):
    episode = copy.deepcopy(GALLERIES[environment]["episodes"][0])
    *parents, last = place
    target = episode
    for key in parents:
        target = target[key]
    target[last] = value
    return episode


STEP, STATE = ("steps", 0), ("steps", 0, "retrieved", 0)


@pytest.mark.parametrize(
    ("environment", "place", "value"),
    [
        ("gridroboman", (*STEP, "observation"), [1]),
        ("gridroboman", ("final_observation",), [300] * 11),
        ("gridroboman", (*STEP, "action"), 7),
        ("gridroboman", (*STATE, "weight"), None),
        ("gridroboman", ("steps",), 3),
        ("babyai", ("task",), "GoToNowhere"),
        ("babyai", ("mission",), "open a door"),
        ("babyai", ("seed",), 6),
        ("babyai", ("seed",), -1),
        ("babyai", ("length",), 300),
        ("babyai", (*STEP, "reward"), 0.5),
        ("babyai", (*STATE, "view"), [198] * 49),
        ("babyai", (*STATE, "view"), [1] * 48),
        ("atari", (*STEP, "frame"), "AAAA"),
        ("atari", (*STEP, "frame"), made.screen(0)[:120]),
        ("atari", (*STEP, "reward"), float("nan")),
        ("atari", (*STATE, "frame"), 5),
        ("atari", (*STATE, "step"), "late"),
    ],
)
def test_an_odd_episode_is_an_error_with_its_name(environment, place, value):
    with pytest.raises(RarlError, match=r"^gallery\.json: "):
        play(environment, changed(environment, place, value))


def test_views_are_drawn_as_minigrid_draws_them():
    env = VectorBabyAI([level_named("UnlockPickup")])
    rng, observation = np.random.default_rng(0), env.reset(np.array([1]))
    for _ in range(12):
        drawn = load(spec_of("babyai").picture).retrieved({"view": observation[0, :CELLS].tolist()}, 56)
        assert (drawn == env.envs[0].get_frame(agent_pov=True, tile_size=8)).all()
        observation, *_ = env.step(rng.choice(len(ACTIONS), size=1, p=[0.2, 0.2, 0.3, 0.2, 0.01, 0.09, 0]))
