"""The 40 levels: which they are, and that our classes give minigrid's levels."""

from __future__ import annotations

import subprocess
import sys

import gymnasium as gym
import minigrid  # noqa: F401 (registers its levels)
import numpy as np
import pytest

from rarl.envs.babyai.generation import descriptions
from rarl.envs.babyai.levels import LEVELS, level_named, make_level
from rarl.errors import RarlError
from tests.envs.plain_babyai import busy_action, plain_level, plain_reset


def test_forty_levels_fifteen_compositional():
    assert len(LEVELS) == 40
    assert [level.id for level in LEVELS] == list(range(40))
    assert len({level.name for level in LEVELS}) == len({level.slug for level in LEVELS}) == 40
    assert [level.source for level in LEVELS] == ["iclr19"] * 19 + ["bonus"] * 21
    assert sum(level.compositional for level in LEVELS) == 15
    for level in LEVELS:
        assert level.gym_id in gym.registry or level.name == "PutNext"


def test_slugs():
    assert level_named("GoToRedBallGrey").slug == "go-to-red-ball-grey"
    assert level_named("FindObjS5").slug == "find-obj-s5"
    assert level_named("MoveTwoAcrossS8N9").slug == "move-two-across-s8-n9"
    assert level_named("OpenDoorsOrderN4").slug == "open-doors-order-n4"
    for level in LEVELS:
        assert level.slug.replace("-", "") == level.name.lower()  # nothing is lost


def test_missions_of_compositional_levels():
    """What the reasons promise, seen in the missions and grids."""
    for level in LEVELS:
        env = make_level(level)
        texts, locked = [], []
        for seed in range(12):
            env.reset(seed=seed)
            texts.append(env.mission)
            locked.append(any(cell is not None and cell.type == "door" and cell.is_locked for cell in env.grid.grid))
        joined = any(", then" in text or " after you " in text or " and " in text for text in texts)
        assert joined == (level.composition == "sequence")
        if level.composition == "unlock":
            assert all(locked)
            assert not any(text.startswith("open") for text in texts)


def test_unknown_name():
    with pytest.raises(RarlError, match="unknown BabyAI level 'GoToRedBal': did you mean 'GoToRedBall' or"):
        level_named("GoToRedBal")


@pytest.mark.parametrize("part", range(4))
def test_seeds_give_the_levels_of_minigrid(part):
    for level in LEVELS[part::4]:
        ours, plain = make_level(level), plain_level(level)
        for seed in (0, 1, 63, 2**63 - 1):
            ours.reset(seed=seed)
            plain_reset(plain, seed)
            assert ours.hash() == plain.hash()
            assert (ours.mission, ours.max_steps) == (plain.mission, plain.max_steps)
            assert ours.np_random.bit_generator.state == plain.np_random.bit_generator.state
        assert ours.gen_obs()["image"].shape == (7, 7, 3)  # minigrid's own observations are there for who wants them


def test_putnext_is_the_maze():
    env = make_level("PutNext")
    for seed in range(20):
        env.reset(seed=seed)
        assert (env.width, env.height, env.max_steps) == (22, 22, 1152)
        things = [cell for cell in env.grid.grid if cell is not None and cell.type not in ("wall", "door")]
        assert len(things) == 18
        assert env.check_objs_reachable(raise_exc=False)
        assert env.mission.startswith("put ")
    assert "BabyAI-PutNext-v0" not in gym.registry


def test_reachability_is_minigrids():
    """Walls of things around the agent: our search must say what minigrid's says."""
    rng = np.random.default_rng(0)
    ours, plain = make_level("UnblockPickup"), plain_level(level_named("UnblockPickup"))
    answers = []
    for seed in range(60):
        ours.reset(seed=seed)
        plain_reset(plain, seed)
        if rng.integers(2):
            for env in (ours, plain):
                env.grid.grid = [None if cell is not None and cell.type == "key" else cell for cell in env.grid.grid]
        answers.append(ours.check_objs_reachable(raise_exc=False))
        assert answers[-1] == plain.check_objs_reachable(raise_exc=False)
    assert 0 < sum(answers) < 60


@pytest.mark.parametrize("name", ["SynthSeq", "PutNextS7N4", "PickupDist"])
def test_described_objects_are_found_where_minigrid_finds_them(name):
    """Things are carried about at random; the bot counts on the order of the places too."""
    rng = np.random.default_rng(0)
    ours, plain = make_level(name), plain_level(level_named(name))
    moved = 0
    for seed in range(6):
        ours.reset(seed=seed)
        plain_reset(plain, seed)
        first = [about.obj_poss for about in descriptions(plain.instrs)]
        for _ in range(300):
            action = busy_action(rng)
            ours.step(action)
            plain.step(action)
            places = [[(int(x), int(y)) for x, y in about.obj_poss] for about in descriptions(plain.instrs)]
            assert [about.obj_poss for about in descriptions(ours.instrs)] == places
        moved += places != first
    assert moved > 2


def test_silent_and_light():
    """Nothing on stdout (minigrid prints rejected samples, pygame a greeting); the list alone needs no minigrid."""
    code = (
        "import sys\n"
        "from rarl.envs.babyai.levels import LEVELS, make_level\n"
        "assert 'minigrid' not in sys.modules\n"
        "env = make_level('Unlock')\n"
        "for seed in range(8): env.reset(seed=seed)\n"
        "print('end')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "end\n"
