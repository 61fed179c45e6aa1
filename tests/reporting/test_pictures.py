"""Galleries: which run and episode is shown, and what happens to odd files."""

from __future__ import annotations

import json

import pytest

from rarl.errors import RarlError
from rarl.reporting import pictures
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
    episodes = pictures.read_gallery(path)["episodes"]
    returns = [episode["return"] for episode in episodes]
    assert returns == sorted(returns)
    assert pictures.median_episode(episodes)["return"] == returns[1]


def test_a_gallery_that_cannot_be_drawn_leaves_the_others_on_the_page(tmp_path):
    changes = made.PLAYED
    levels = {"r2d2": 0.1, "ra-r2d2": 0.2}
    names = made.write_runs(tmp_path, "atari", "pong", levels, ["pong"], seeds=1, changes=changes)
    made.write_gallery(tmp_path, names[0], {"episodes": 3})
    made.write_gallery(tmp_path, names[1], made.screen_gallery())
    text = build(tmp_path)[0]
    assert f"{names[0]}/gallery.json" in text
    made_ = {path.name for path in (tmp_path / "reports/laptop/figures").glob("atari-*.webp")}
    assert made_ == {"atari-episode-pong-ra-r2d2.webp"}
