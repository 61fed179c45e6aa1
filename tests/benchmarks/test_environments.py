"""How fast environments are: of which there is a row."""

from __future__ import annotations

import pytest

from rarl.benchmarks import environments
from rarl.benchmarks.environments import COLUMNS, environment_speeds
from rarl.config.scale import Scale
from tests import tiny_atari, tiny_babyai, tiny_project


def _run(tiny, root):
    tiny.write_config(root)
    return next(iter(Scale("tiny", root).runs.values()))


@pytest.mark.parametrize(
    ("tiny", "libraries"),
    [
        (tiny_project, ["rarl", "gymnasium"]),
        (tiny_babyai, ["rarl", "minigrid"]),
        (tiny_atari, ["rarl", "ale-py"]),
    ],
    ids=["gridroboman", "babyai", "atari"],
)
def test_each_environment_beside_the_library_that_it_comes_from(tmp_path, monkeypatch, capsys, tiny, libraries):
    monkeypatch.setattr(environments, "NUMBERS", (1, 3))
    monkeypatch.setattr(environments, "LONGEST", 10)
    run = _run(tiny, tmp_path)
    rows = environment_speeds(run, 0.03)
    assert [(row["library"], row["environments"]) for row in rows] == [(name, n) for name in libraries for n in (1, 3)]
    for row in rows:
        assert tuple(row) == COLUMNS
        assert (row["environment"], row["task"]) == (run.settings.environment, run.tasks[0])
        assert float(row["steps_per_core_second"]) > 0
    assert not capsys.readouterr().out


def test_more_are_not_tried_where_a_step_takes_long(tmp_path, monkeypatch):
    monkeypatch.setattr(environments, "LONGEST", 0)
    run = _run(tiny_project, tmp_path)
    assert {row["environments"] for row in environment_speeds(run, 0.003)} == {1}
