"""GoToLocal with its missions as tasks: the same rooms and rules, another mission for each task, which nobody tells."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from minigrid.envs.babyai.core.verifier import GoToInstr

from rarl.envs.babyai.encoders import BabyAIEncoder, GoToEncoder
from rarl.envs.babyai.go_to import SPEC
from rarl.envs.babyai.levels import LEVELS, MISSIONS, level_named, make_level
from rarl.envs.babyai.missions import tokenise, words
from rarl.envs.babyai.vector import make_untold
from rarl.envs.spec import check_spec
from rarl.rollouts.evaluation import means_by_task
from rarl.rollouts.roll_out import Memoryless, roll_out


def test_every_mission_of_go_to_local_is_a_task():
    check_spec(SPEC)
    assert len(set(SPEC.tasks)) == 18
    assert len({level.id for level in (*LEVELS, *MISSIONS)}) == 58
    assert not set(SPEC.tasks) & {level.name for level in LEVELS}


@pytest.mark.parametrize("task", SPEC.tasks)
def test_the_mission_is_always_the_tasks(task):
    colour, kind = level_named(task).target
    level = make_level(task)
    for seed in range(10):
        level.reset(seed=seed)
        assert level.mission in (f"go to the {colour} {kind}", f"go to a {colour} {kind}")  # where there are several
        assert isinstance(level.instrs, GoToInstr)
        things = [cell for cell in level.grid.grid if cell is not None and cell.type != "wall"]
        assert len(things) == 8
        assert (colour, kind) in {(thing.color, thing.type) for thing in things}


def test_the_environments_tell_no_mission():
    envs = make_untold(SPEC.tasks[:3])
    envs.reset(np.arange(3))
    assert envs.context is None
    assert words(envs.missions[1]).endswith("red box")


def test_the_first_thing_faced_is_that_of_the_boards_own_objects():
    tasks = [SPEC.tasks[0]] * 40
    envs = make_untold(tasks)
    faced: list[bool | None] = [None] * len(tasks)

    def look() -> None:
        for i, env in enumerate(envs.envs):
            ahead = env.grid.get(*env.front_pos)
            if faced[i] is None and ahead is not None and ahead.type in ("key", "ball", "box"):
                faced[i] = (ahead.color, ahead.type) == ("red", "ball")

    rng = np.random.default_rng(0)
    envs.reset(np.arange(len(tasks)))
    look()
    for _ in range(60):
        envs.step(rng.integers(3, size=len(tasks)))  # turns and steps: nothing is moved
        look()
    assert len(set(faced) - {None}) == 2
    assert envs.measured["first_faced"].tolist() == [float(bool(one)) for one in faced]


def test_a_new_episode_forgets_what_was_faced():
    envs = make_untold([SPEC.tasks[0]])
    episodes = roll_out(envs, Memoryless(lambda x: np.full(len(x), 2)), np.arange(60))
    assert set(episodes.measured["first_faced"]) == {0.0, 1.0}
    one = [roll_out(envs, Memoryless(lambda x: np.full(len(x), 2)), [seed]) for seed in range(60)]
    assert np.array_equal(np.concatenate([e.measured["first_faced"] for e in one]), episodes.measured["first_faced"])


def test_means_of_what_was_measured_are_those_of_each_task():
    assert means_by_task({"a": np.array([0.0, 1.0, 1.0, 1.0])}, 2) == [{"a": 0.5}, {"a": 1.0}]
    assert means_by_task({}, 2) == [{}, {}]


def test_the_encoder_is_told_the_mission_by_the_tasks_id_or_nothing():
    options = {"channels": 4, "blocks": 1, "d_mission": 8}
    envs = make_untold(SPEC.tasks)
    x = torch.from_numpy(envs.reset(np.arange(18)))[:, None]
    ids = torch.arange(18)[:, None]
    with torch.no_grad():
        torch.manual_seed(0)
        told = GoToEncoder(16, 18, **options)
        torch.manual_seed(0)
        whole = BabyAIEncoder(16, **options)
        texts = [f"go to the {' '.join(level.target)}" for level in MISSIONS]
        missions = torch.from_numpy(np.stack([tokenise(text) for text in texts])).long()[:, None]
        assert torch.allclose(told(x, ids), whole(x, missions), atol=1e-6)
        hidden = GoToEncoder(16, 0, **options)
        assert torch.equal(hidden(x, ids), hidden(x, ids.flip(0)))
