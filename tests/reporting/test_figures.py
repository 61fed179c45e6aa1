"""Figures: bytes depend on the numbers alone, labels do not overlap, the gallery follows its rules."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from rarl.envs.gridroboman.tasks import TASKS
from rarl.errors import RarlError
from rarl.files import write_json
from rarl.reporting import figures, pictures
from rarl.reporting.results import load_results
from rarl.reporting.sections import gridroboman_datasets as datasets
from rarl.reporting.sections import gridroboman_figures as draw
from rarl.reporting.sections import gridroboman_gallery as gallery
from rarl.reporting.statistics import t_interval
from tests.reporting import synthetic


def test_same_numbers_same_bytes(tmp_path):
    written = []
    for name in ("a", "b"):
        with figures.style():
            figure = figures.new_figure(2)
            axes = figure.subplots()
            figures.dots_with_interval(axes, [1.0, 2.0, 4.0], t_interval([1.0, 2.0, 4.0]), 0, draw.look("oracle"))
            figures.stamp(figure, "smoke")
            written.append([path.read_bytes() for path in figures.save(figure, tmp_path / name)])
    assert written[0] == written[1]
    assert b"<dc:date>" not in written[0][0]


def test_no_figure_is_wider_than_a_phone_can_show():
    assert figures.WIDTH <= 6.5
    with figures.style():
        assert figures.new_figure(2, width=12).get_size_inches()[0] == figures.WIDTH


@given(st.lists(st.floats(0, 50), min_size=1, max_size=8), st.floats(0.5, 4))
def test_labels_keep_their_distance_and_order(positions, gap):
    out = figures.spread(positions, gap, 0, 50)
    assert (np.diff(np.sort(out)) >= gap * 0.98).all()
    assert out.min() >= -1e-6
    assert out.max() <= 50 + 1e-6
    for i, a in enumerate(positions):
        for j, b in enumerate(positions):
            if a < b:
                assert out[i] < out[j]


def test_every_agent_differs_without_colour():
    """Agents that share a panel differ in marker and in line style."""
    for side in draw.SIDES.values():
        shared = [draw.look(v) for v in (*side, "no-retrieval", "random-tasks", "oracle")]
        assert len({look.marker for look in shared}) == len(shared)
        assert len({str(look.line) for look in shared}) == len(shared)


def test_swap_matrix_has_the_given_task_in_rows(full_project):
    root, planned = full_project
    results = load_results("laptop", root, planned)
    matrix = datasets.swap_matrix(results)
    assert matrix.shape == (30, 30)
    row = results.interventions
    row = row[(row["intervention"] == "swapped") & (row["task"] == "lift-red") & (row["variant"] == "ra-dqn-hidden")]
    given_task = row["given_task"].iloc[0]
    mean = row[row["given_task"] == given_task]["return_mean"].mean() / results.expert["gridroboman", "lift-red"]
    assert matrix.loc[given_task, "lift-red"] == pytest.approx(mean)
    assert matrix.loc["lift-red", "lift-red"] == pytest.approx(0.45, abs=0.1)
    assert math.isnan(matrix.loc["lift-red", "touch-red"]) or given_task == "touch-red"


def test_representative_run_is_the_median_seed(full_project):
    root, planned = full_project
    results = load_results("laptop", root, planned)
    run = gallery.representative_run(results, "ra-dqn-hidden")
    scores = draw.seed_scores(results, "30-tasks", "ra-dqn-hidden")
    assert scores[int(run[-1])] == sorted(scores.values())[2]
    assert gallery.representative_run(results, "oracle") is None


@pytest.fixture(scope="module")
def episodes(tmp_path_factory):
    path = tmp_path_factory.mktemp("gallery") / "gallery.json"
    write_json(path, synthetic.gallery("run", np.random.default_rng(0), (TASKS[0], TASKS[3], TASKS[-1])))
    return gallery.read_gallery(path)["episodes"]


def test_gallery_shows_the_median_and_the_first_reward(episodes):
    returns = [episode["return"] for episode in episodes]
    assert returns == sorted(returns)
    assert pictures.median_episode(episodes)["return"] == returns[1]
    for episode in episodes:
        chosen = pictures.chosen_steps(episode)
        rewards = [step["reward"] for step in episode["steps"]]
        if max(rewards) > 0:
            assert rewards[chosen[-1]] == 1
            assert not any(rewards[: chosen[-1]])
    without = episodes[0] | {"steps": [step | {"reward": 0.0} for step in episodes[0]["steps"]]}
    assert pictures.chosen_steps(without) == [0, 16, 33]


def test_gif_has_every_step_in_true_colours_and_stable_bytes(episodes):
    content = gallery.episode_gif(episodes[1])
    assert content == gallery.episode_gif(episodes[1])
    assert len(content) < 700_000
    image = Image.open(io.BytesIO(content))
    assert image.n_frames == 51
    image.seek(20)
    known = {colour for _, colour in image.convert("RGB").getcolors(1 << 20)}
    assert {(255, 255, 255), (0x33, 0x36, 0x3D)} <= known  # paper and robot are not shifted


@pytest.mark.parametrize(
    "content",
    [
        [],
        {"episodes": 3},
        {"episodes": [{"steps": []}]},
        {"episodes": [{"steps": [{"observation": [1]}]}]},
        {"episodes": [{"steps": [], "final_observation": [300] * 11}]},
    ],
)
def test_an_odd_gallery_is_an_error_with_its_name(tmp_path, content):
    write_json(tmp_path / "gallery.json", content)
    with pytest.raises(RarlError, match=r"gallery\.json"):
        gallery.read_gallery(tmp_path / "gallery.json")
