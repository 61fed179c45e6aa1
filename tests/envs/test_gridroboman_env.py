"""The gymnasium side: registration, the interface's checker, options, errors, pictures."""

from __future__ import annotations

import subprocess
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import rarl.envs
from rarl.envs.gridroboman.env import Gridroboman
from rarl.envs.gridroboman.render import board_image, board_text
from rarl.envs.gridroboman.tasks import DOWN, EPISODE_STEPS, LIFT, NOOP, PUT, RIGHT
from rarl.envs.gridroboman.vector import random_boards
from rarl.errors import RarlError

START = {"robot": (1, 1), "objects": [(1, 1), (2, 1), (5, 5)]}


@pytest.mark.parametrize("render_mode", ["rgb_array", "ansi"])
def test_gymnasium_has_nothing_to_complain_about(render_mode):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make("rarl/Gridroboman-v0", task="lift red", render_mode=render_mode).unwrapped)


def test_module_prefix_registers_by_itself_and_only_once():
    code = (
        "import gymnasium\n"
        "assert 'rarl/Gridroboman-v0' not in gymnasium.registry\n"
        "env = gymnasium.make('rarl.envs:rarl/Gridroboman-v0', task='lift red')\n"
        "import rarl.envs; rarl.envs.register()\n"
        "print(env.unwrapped.task.name, env.spec.max_episode_steps)\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "lift red 50\n", "")


def test_registering_twice_is_silent(recwarn):
    rarl.envs.register()
    assert not recwarn.list


def test_vectorised_by_gymnasium():
    envs = gym.make_vec("rarl/Gridroboman-v0", num_envs=5, task="touch blue")
    with pytest.raises(gym.error.ResetNeeded):
        envs.step(np.zeros(5, dtype=int))
    observations, infos = envs.reset(seed=0)
    assert infos == {}
    assert envs.observation_space.contains(observations)
    np.testing.assert_array_equal(observations, random_boards(5, np.random.default_rng(0)).observe())
    singles = [Gridroboman("touch blue") for _ in range(5)]
    for env, row in zip(singles, observations, strict=True):
        env.reset(options={"robot": row[:2], "objects": row[2:].reshape(3, 3)[:, :2]})
    for t in range(EPISODE_STEPS):
        actions = (np.arange(5) + t) % 7
        observations, rewards, terminated, truncated, infos = envs.step(actions)
        for i, env in enumerate(singles):
            theirs, reward, *ends, _ = env.step(int(actions[i]))
            np.testing.assert_array_equal(observations[i], theirs)
            assert (rewards[i], [terminated[i], truncated[i]]) == (reward, ends)
    assert truncated.all()
    with pytest.raises(gym.error.ResetNeeded):
        envs.step(np.zeros(5, dtype=int))
    others, again = envs.reset()[0], envs.reset(seed=0)[0]
    assert (others != again).any()
    np.testing.assert_array_equal(again, random_boards(5, np.random.default_rng(0)).observe())
    with pytest.raises(RarlError, match="50 steps"):
        gym.make_vec("rarl/Gridroboman-v0", num_envs=5, task="touch blue", max_episode_steps=10)


def test_fifty_steps_then_reset():
    env = Gridroboman("lift red")
    with pytest.raises(gym.error.ResetNeeded):
        env.step(NOOP)
    env.reset(seed=0)
    ends = [env.step(NOOP)[2:4] for _ in range(EPISODE_STEPS)]
    assert ends == [(False, False)] * 49 + [(False, True)]
    with pytest.raises(gym.error.ResetNeeded):
        env.step(NOOP)
    env.reset()
    env.step(NOOP)


def test_a_seed_fixes_the_start():
    env = Gridroboman("lift red")
    first, again, other = env.reset(seed=7)[0], env.reset(seed=7)[0], env.reset()[0]
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_options_set_part_of_the_start():
    env = Gridroboman("lift red")
    assert env.reset(seed=0, options={"robot": (6, 0)})[0][:2].tolist() == [6, 0]
    observation = env.reset(options={"objects": np.array([(0, 0), (1, 0), (2, 0)])})[0]
    assert observation[2:].tolist() == [0, 0, 0, 1, 0, 0, 2, 0, 0]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"robots": (0, 0)}, "'robots': known are 'robot' and 'objects'"),
        ({"robot": (7, 0)}, r"\(7, 0\) is off the board: x and y are whole numbers from 0 to 6"),
        ({"robot": (0, -1)}, "off the board"),
        ({"robot": (0.5, 1)}, "whole numbers"),
        ({"robot": (1, 2, 3)}, "not a cell"),
        ({"robot": 3}, "not a cell"),
        ({"objects": [(0, 0), (1, 1)]}, "must be 3 cells"),
        ({"objects": [(0, 0), (1, 1), (0, 0)]}, "red and blue are both at"),
        ({"objects": [(0, 0), (1, 1), (0, 9)]}, r"objects \(blue\)"),
        ({"objects": "abc"}, "must be 3 cells"),
    ],
)
def test_wrong_options(options, says):
    with pytest.raises(RarlError, match=says):
        Gridroboman("lift red").reset(options=options)


def test_wrong_task_action_and_mode():
    with pytest.raises(RarlError, match="did you mean 'lift red'"):
        Gridroboman("lift reed")
    with pytest.raises(RarlError, match="render_mode='human': must be one of rgb_array, ansi"):
        Gridroboman("lift red", render_mode="human")
    env = Gridroboman("lift-red")
    env.reset(seed=0)
    for action in (7, -1, 2.5):
        with pytest.raises(RarlError, match="must be an integer from 0 to 6"):
            env.step(action)


def colours(image):
    return {tuple(int(c) for c in pixel) for pixel in image.reshape(-1, 3)}


RED, GREEN, BLUE, CARRIES = (0xD5, 0x5E, 0), (0, 0x9E, 0x73), (0, 0x72, 0xB2), (0xF6, 0xD9, 0x4C)


@pytest.mark.parametrize("cell", [12, 32])
def test_picture_shows_each_object_where_it_is(cell):
    image = board_image(np.array([3, 3, 0, 0, 0, 6, 0, 0, 0, 6, 0]), cell=cell)
    assert image.shape == (7 * cell, 7 * cell, 3)
    assert image.dtype == np.uint8
    corners = image[:cell, :cell], image[:cell, -cell:], image[-cell:, :cell]
    for corner, colour in zip(corners, (RED, GREEN, BLUE), strict=True):
        assert colours(corner) & {RED, GREEN, BLUE} == {colour}
    empty = image[2 * cell : 3 * cell, 5 * cell : 6 * cell]
    robot = image[3 * cell : 4 * cell, 3 * cell : 4 * cell]
    assert not np.array_equal(empty, robot)
    assert CARRIES not in colours(robot)


@pytest.mark.parametrize("cell", [12, 32])
def test_every_content_of_a_cell_looks_different(cell):
    """Empty, one object, a stack and its reverse, under the robot, carried, carried above one object or a stack."""
    states = {
        "on the board": ([6, 6, 3, 3, 0, 0, 0, 0, 0, 6, 0], None),
        "under the robot": ([3, 3, 3, 3, 0, 0, 0, 0, 0, 6, 0], None),
        "carried": ([3, 3, 3, 3, 1, 0, 0, 0, 0, 6, 0], None),
        "red on green": ([6, 6, 3, 3, 1, 3, 3, -1, 0, 6, 0], None),
        "green on red": ([6, 6, 3, 3, -1, 3, 3, 1, 0, 6, 0], None),
        "red on green under the robot": ([3, 3, 3, 3, 1, 3, 3, -1, 0, 6, 0], None),
        "red carried above green": ([3, 3, 3, 3, 1, 3, 3, 0, 0, 6, 0], None),
        "red carried above blue on green": ([3, 3, 3, 3, 1, 3, 3, -1, 3, 3, 1], 0),
        "blue carried above red on green": ([3, 3, 3, 3, 1, 3, 3, -1, 3, 3, 1], 2),
        "empty": ([6, 6, 0, 3, 0, 0, 0, 0, 0, 6, 0], None),
        "robot": ([3, 3, 0, 3, 0, 0, 0, 0, 0, 6, 0], None),
    }
    middle = slice(3 * cell, 4 * cell)
    tiles = {name: board_image(np.array(o), cell, held)[middle, middle] for name, (o, held) in states.items()}
    assert len({tile.tobytes() for tile in tiles.values()}) == len(tiles)
    for name, tile in tiles.items():
        assert (CARRIES in colours(tile)) == ("carried" in name), name


def test_environment_renders_its_hidden_state():
    env = Gridroboman("lift red", render_mode="ansi")
    env.reset(seed=0, options={"robot": (3, 1), "objects": [(1, 1), (2, 1), (3, 1)]})
    for action in (LIFT, 3, PUT, 3, LIFT, RIGHT):  # blue on green, then red above them
        env.step(action)
    lines = env.render().splitlines()
    assert len(lines) == 8
    assert lines[1].split() == [".", ".", "[R^", "B/G]", ".", ".", ".", "."]
    assert lines[7] == "robot at (2, 1), holding red"
    env.render_mode = "rgb_array"
    np.testing.assert_array_equal(env.render(), board_image(env._observe(), held=0))
    assert not np.array_equal(env.render(), board_image(env._observe(), held=2))
    env.step(DOWN)
    assert env.render().shape == (224, 224, 3)


def test_text_of_a_plain_board():
    lines = board_text(np.array([0, 0, 1, 1, 0, 6, 6, 0, 0, 0, 0])).splitlines()
    assert lines[0].split() == ["[B]", *"......"]
    assert lines[1].split() == [".", "R", *"....."]
    assert lines[6].split() == [*"......", "G"]
    assert lines[7] == "robot at (0, 0), holding nothing"


def test_wrong_pictures():
    with pytest.raises(RarlError, match="11 numbers, not 10"):
        board_image(np.zeros(10))
    with pytest.raises(RarlError, match="at least 8 pixels"):
        board_image(np.zeros(11), cell=4)
