"""The expert: minigrid's bot, quicker; its guard; KeyInBox."""

from __future__ import annotations

import numpy as np
import pytest
from minigrid.core.world_object import Box, Key
from minigrid.utils.baby_ai_bot import BabyAIBot, DisappearedBoxError, Subgoal

from rarl.envs.babyai.expert import MAX_SUBGOALS, Expert, ExpertFailed, _Plan
from rarl.envs.babyai.levels import LEVELS, level_named, make_level
from tests.envs.plain_babyai import ACTIONS, plain_level, plain_reset

TOGGLE = 5


def episode(name, seed, noise=0.0):
    """Reward of one episode with the expert, its actions."""
    env = make_level(name)
    env.reset(seed=seed)
    expert, rng, taken = Expert(env), np.random.default_rng(seed), []
    while True:
        action = expert.action(taken[-1] if taken else None)
        taken.append(int(rng.integers(ACTIONS)) if rng.random() < noise else action)
        _, reward, terminated, truncated, _ = env.step(taken[-1])
        if terminated or truncated:
            return reward, taken


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
def test_every_level_is_solved(level):
    for seed in (1000, 1001, 1002):
        reward, taken = episode(level.name, seed)
        assert reward > 0.1
        assert len(taken) >= 1


@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize("part", range(3))
def test_the_same_advice_as_minigrids_bot(noise, part):
    """Step by step; also after random actions, and up to the same failures."""
    compared = 0
    for level in LEVELS[part::3]:
        if level.name == "KeyInBox":  # minigrid's bot cannot
            continue
        for seed in (50, 51):
            ours, plain = make_level(level), plain_level(level)
            ours.reset(seed=seed)
            plain_reset(plain, seed)
            expert, bot = Expert(ours), BabyAIBot(plain)
            bot.stack = _Plan(bot.stack)
            rng, action = np.random.default_rng(seed), None
            for _ in range(150):
                bot.stack.added = 0
                try:
                    theirs = bot.replan(action)
                except DisappearedBoxError:  # our expert goes on if the mission is about something else
                    break
                except ExpertFailed:
                    assert level.name == "UnlockToUnlock"  # where ours has a rule more
                    break
                assert expert.action(action) == theirs
                compared += 1
                action = int(rng.integers(ACTIONS)) if rng.random() < noise else int(theirs)
                ends = ours.step(action)[1:4]
                assert ends == plain.step(action)[1:4]
                if ends[1] or ends[2]:
                    break
    assert compared > 600


def test_unlock_to_unlock_without_an_endless_plan():
    """Seed 4: minigrid's bot plans for the closer door, whose key is behind the other, without end."""
    env = plain_level(level_named("UnlockToUnlock"))
    plain_reset(env, 4)
    bot = BabyAIBot(env)
    bot.stack = _Plan(bot.stack)
    env.step(bot.replan())
    with pytest.raises(ExpertFailed, match="endless plan"):
        bot.replan()
    for seed in range(30):
        assert episode("UnlockToUnlock", seed)[0] > 0.8


@pytest.mark.parametrize(("name", "seed"), [("Unlock", 63), ("GoToImpUnlock", 6)])
def test_missions_without_a_solution_are_given_up_soon(name, seed):
    """The only key lies in the room that it opens: minigrid compares numbers by identity where it chooses rooms."""
    env = make_level(name)
    env.reset(seed=seed)
    doors = [(env.get_room(i, j), door) for i in range(3) for j in range(3)
             for door in env.get_room(i, j).doors if door and door.is_locked and env.get_room(i, j).locked]  # fmt: skip
    (room, door), *_ = doors
    keys = [(x, y) for x in range(env.width) for y in range(env.height)
            if isinstance(env.grid.get(x, y), Key) and env.grid.get(x, y).color == door.color]  # fmt: skip
    assert keys
    assert all(room.pos_inside(*key) for key in keys)
    with pytest.raises(ExpertFailed) as failure:
        episode(name, seed)
    assert failure.value.reason == "endless plan"


class Grows(Subgoal):
    """Plans more and more."""

    def replan_before_action(self):
        self.bot.stack.append(type(self)(self.bot))


class Alternates(Subgoal):
    """Plans something and drops it, for ever."""

    def replan_before_action(self):
        self.bot.stack.append(Grows(self.bot))
        self.bot.stack.pop()


@pytest.mark.parametrize("endless", [Grows, Alternates])
def test_endless_plans_are_abandoned(endless):
    env = make_level("GoToObj")
    env.reset(seed=0)
    expert = Expert(env)
    expert.action()
    bot = expert._bot
    list.append(bot.stack, endless(bot))
    with pytest.raises(ExpertFailed) as failure:
        expert.action(6)
    assert failure.value.reason == "endless plan"
    assert len(bot.stack) <= MAX_SUBGOALS


def test_long_episodes_are_no_endless_plans(monkeypatch):
    monkeypatch.setattr("rarl.envs.babyai.expert.MAX_CHANGES", 40)  # for one action, not for all
    for seed in range(4):
        reward, taken = episode("PutNext", seed, 0.1)
        assert reward > 0
        assert len(taken) > 60


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (AssertionError("0nothing left to explore"), "nothing left to explore"),
        (AssertionError("Forward cell is empty"), "plan does not fit"),
        (TypeError("'NoneType' object is not iterable"), "plan does not fit"),
    ],
)
def test_failures_have_few_reasons(monkeypatch, error, reason):
    env = make_level("GoToObj")
    env.reset(seed=0)
    expert = Expert(env)

    def fail(_):
        raise error

    monkeypatch.setattr(expert._bot, "replan", fail)
    with pytest.raises(ExpertFailed) as failure:
        expert.action()
    assert failure.value.reason == reason
    monkeypatch.setattr(expert._bot, "replan", lambda _: 1 / 0)  # a fault of ours is no failure of the expert
    with pytest.raises(ZeroDivisionError):
        expert.action()


def facing_a_box(name, wanted):
    """An environment with the agent before a box of which `wanted(env, box)` holds, and its expert, asked once."""
    for seed in range(200):
        env = make_level(name)
        env.reset(seed=seed)
        boxes = [cell for cell in env.grid.grid if isinstance(cell, Box) and wanted(env, cell)]
        for box in boxes:
            x, y = box.cur_pos
            for direction, (dx, dy) in enumerate([(1, 0), (0, 1), (-1, 0), (0, -1)]):
                if env.grid.get(x - dx, y - dy) is None:
                    env.agent_pos, env.agent_dir = (int(x - dx), int(y - dy)), direction
                    expert = Expert(env)
                    expert.action()
                    return env, expert
    raise AssertionError("no such box")


def test_opening_the_box_of_the_mission_is_a_failure():
    env, expert = facing_a_box("PickupDist", lambda env, box: box in env.instrs.desc.obj_set)
    env.step(TOGGLE)
    with pytest.raises(ExpertFailed, match="box opened"):
        expert.action(TOGGLE)


def test_opening_another_box_is_none():
    env, expert = facing_a_box("PickupDist", lambda env, box: box not in env.instrs.desc.obj_set)
    env.step(TOGGLE)
    action = expert.action(TOGGLE)
    for _ in range(40):
        _, reward, terminated, _, _ = env.step(action)
        if terminated:
            break
        action = expert.action(action)
    assert reward > 0


@pytest.mark.parametrize("noise", [0.0, 0.2, 0.6])
def test_key_in_box(noise):
    lengths = []
    for seed in range(100):
        reward, taken = episode("KeyInBox", seed, noise)
        assert reward > 0
        lengths.append(len(taken))
    assert np.mean(lengths) < 16 + 80 * noise


def test_key_in_box_from_odd_states():
    """Carrying the box with no room to drop it in front; the key dropped again."""
    env = make_level("KeyInBox")
    env.reset(seed=1)
    box = next(cell for cell in env.grid.grid if isinstance(cell, Box))
    x, y = box.cur_pos
    env.grid.set(x, y, None)
    env.carrying = box
    expert, action, dropped = Expert(env), None, False
    for _ in range(100):
        action = expert.action(action)
        if isinstance(env.carrying, Key) and not dropped and env.grid.get(*env.front_pos) is None:
            action, dropped = 4, True
        _, reward, terminated, _, _ = env.step(action)
        if terminated:
            break
    assert dropped
    assert reward > 0
