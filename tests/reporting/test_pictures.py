"""Galleries: which run and episode is shown, and what happens to odd files."""

from __future__ import annotations

import json

import numpy as np
import pytest

from rarl.envs.spec import load, spec_of
from rarl.errors import RarlError
from rarl.reporting import figures, pictures
from rarl.reporting.sections.gallery import median_run
from tests.reporting import synthetic as made
from tests.reporting.built import build


@pytest.mark.parametrize(
    "content", [[], {"episodes": 3}, {"episodes": [{"steps": [1]}]}, {"episodes": [{"steps": []}, 3]}]
)
def test_an_odd_gallery_is_an_error_with_its_name(tmp_path, content):
    (tmp_path / "gallery.json").write_text(json.dumps(content))
    with pytest.raises(RarlError, match=r"gallery\.json"):
        pictures.read_gallery(tmp_path / "gallery.json")


def test_the_run_of_median_score_and_the_episode_of_median_return(studies, tmp_path):
    study = studies["gridroboman"]
    assert median_run(study, study.full, "30-tasks").endswith("/seed-2")
    assert median_run(study, study.base, "30-tasks") is None
    path = made.write_gallery(tmp_path, "a/b/c/seed-0", made.board_gallery())
    episodes = pictures.read_gallery(path)
    returns = [episode["return"] for episode in episodes]
    assert returns == sorted(returns)
    assert pictures.median_episode(episodes)["return"] == returns[1]


def test_a_step_shows_what_was_retrieved_for_it(studies, tmp_path):
    path = made.write_gallery(tmp_path, "a/b/c/seed-0", made.board_gallery())
    episode = pictures.median_episode(pictures.read_gallery(path))
    with figures.style():
        figure, frame = pictures.draw_step(studies["gridroboman"].spec, episode)
    assert frame["picture"].tolist() == ["state", "retrieved", "retrieved"]
    assert "half-way to its first reward" in pictures.step_rule(episode)
    assert frame["weight"].tolist()[1:] == [0.3, 0.3]
    assert len([axes for axes in figure.axes if axes.images]) == 3
    for step in episode["steps"]:  # as where an agent is rewarded for as long as it goes on
        step["reward"] = 1.0
    with figures.style():
        _, frame = pictures.draw_step(studies["gridroboman"].spec, episode)
    assert f"step {len(episode['steps']) // 3};" in frame["text"][0]
    assert "a third in" in pictures.step_rule(episode)
    for step in episode["steps"]:
        step["retrieved"] = []
    assert pictures.draw_step(studies["gridroboman"].spec, episode) is None


def test_a_gallery_that_cannot_be_drawn_is_told_and_another_one_shown(tmp_path):
    levels = {"r2d2": 0.1, "ra-r2d2": 0.2}
    names = made.write_runs(tmp_path, "atari", "pong", levels, ["pong"], seeds=1, changes=made.PLAYED)
    made.write_gallery(tmp_path, names[1], {"episodes": 3})
    made.write_gallery(tmp_path, names[0], made.screen_gallery())
    assert f"{names[1]}/gallery.json" in build(tmp_path)["appendix"]
    assert (tmp_path / "reports/laptop/figures/atari-step.svg").is_file()


def test_a_hidden_mission_is_drawn_as_the_level_that_was_played():
    spec = spec_of("rarl.envs.babyai.go_to:SPEC")
    task, seed, actions = spec.tasks[0], 3, [0, 1, 0]
    steps = [{"action": action, "reward": 0.0} for action in actions]
    episode = {"task": task, "seed": seed, "steps": steps, "length": len(actions) + 1}
    look = pictures.pictures_of(spec)
    drawn = look.states(episode, 112)
    assert len(drawn) == len(actions) + 1
    assert not (drawn[0] == drawn[1]).all()  # it turned
    env = load(spec.make_vector)([task], 0)
    view = env.reset(np.array([seed]))[0][:49].tolist()
    assert look.retrieved({"view": view}, 112).shape == (112, 112, 3)
