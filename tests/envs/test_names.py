"""Folders of datasets are named by this: another result would orphan the ones there are."""

from __future__ import annotations

import pytest

from rarl.envs.babyai.levels import level_named
from rarl.envs.gridroboman.tasks import task_named
from rarl.envs.names import slug


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
    ],
)
def test_slugs(task, expected):
    assert slug(task) == expected
    assert slug(expected) == expected


def test_tasks_and_levels_are_named_by_it():
    assert task_named("red touch green").slug == "red-touch-green"
    assert level_named("OpenRedBlueDoors").slug == "open-red-blue-doors"
