"""Folders of datasets are named by this: another result would orphan the ones there are."""

from __future__ import annotations

import re

import pytest

from rarl.envs.babyai.levels import level_named
from rarl.envs.gridroboman.tasks import task_named
from rarl.envs.names import slug
from rarl.envs.spec import ENVIRONMENTS, spec_of
from rarl.files import digest


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("lift red", "lift-red"),
        ("red to center", "red-to-center"),
        ("green far from blue", "green-far-from-blue"),
        ("GoTo", "go-to"),
        ("GoToRedBallGrey", "go-to-red-ball-grey"),
        ("FindObjS5", "find-obj-s5"),
        ("MoveTwoAcrossS8N9", "move-two-across-s8-n9"),
        ("kung_fu_master", "kung-fu-master"),
        ("CartPole-v1", "cart-pole-v1"),
        ("ALE/Pong-v5", "ale-pong-v5"),
        ("Cart Pole v1.0", "cart-pole-v1-0"),
        ("Zoë", "zo-"),
    ],
)
def test_slugs(task, expected):
    assert slug(task) == expected
    assert slug(expected) == expected


def test_slugs_of_what_comes_with_the_project_stay():
    slugs = {name: [slug(task) for task in spec_of(name).tasks] for name in ENVIRONMENTS}
    assert digest(slugs) == "69245b00dae5"
    for of_one in slugs.values():
        assert len(set(of_one)) == len(of_one)
        assert all(re.fullmatch("[a-z0-9-]+", name) for name in of_one)  # as the workflow expects them


def test_tasks_and_levels_are_named_by_it():
    assert task_named("red touch green").slug == "red-touch-green"
    assert level_named("OpenRedBlueDoors").slug == "open-red-blue-doors"
