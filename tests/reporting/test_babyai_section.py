"""The BabyAI part of the page: its tables, figures and gallery, and what it does with missing and broken parts."""

from __future__ import annotations

import io
import json
import re
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from rarl.envs.babyai.levels import level_named
from rarl.envs.babyai.vector import ACTIONS, VectorBabyAI
from rarl.envs.babyai.view import CELLS
from rarl.errors import RarlError
from rarl.files import write_json
from rarl.reporting import pictures
from rarl.reporting.sections import babyai_figures as draw
from rarl.reporting.sections import babyai_gallery as gallery
from tests.reporting import synthetic
from tests.reporting import synthetic_babyai as made
from tests.reporting.built import build, drawn, plain, section


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """(folder of the report, its text with plain spaces and brackets)."""
    root = tmp_path_factory.mktemp("babyai")
    made.write_results(root, variants=("rdqn", "ra-rdqn-own", "ra-rdqn-all"))
    text, _ = build(root)
    return root / "reports" / "laptop", plain(text)


def test_table_1_stands_beside_ours(page):
    # Seeds at 58, 59, 60, 61, 62: t of 4 degrees 2.776 times sqrt(2.5 / 5) = 1.96.
    assert "| Agent | Paper, 50k | Ours, 200 | Paper, 200k | Ours, 800 | Seeds |" in page[1]
    assert "| RA-RDQN, all levels | 55 ± 5 | 60.0 [58.0, 62.0] | 74 ± 3 | 70.0 [68.0, 72.0] | 5 / 5 |" in page[1]
    assert "| RDQN | 32 ± 4 | 30.0 [28.0, 32.0] | 45 ± 6 | 40.0 [38.0, 42.0] | 5 / 5 |" in page[1]
    assert "| RA-RDQN, all levels, no bottleneck | 47 ± 3 | – | 59 ± 6 | – | – / – |" in page[1]
    assert "a 95 % t interval of as many seeds is 4.3 standard errors" in page[1]
    assert "6 of the 40 levels" in page[1]
    assert "+30.0 [+27.7, +32.3] percentage points" in page[1]  # the claim on it
    table = pd.read_csv(page[0] / "tables" / "babyai-success.csv").set_index(["task_set", "variant"])
    row = table.loc[made.task_set(200), "ra-rdqn-all"]
    assert (row["success_percent"], row["seeds"], row["levels"]) == (pytest.approx(60), 5, 6)
    assert row["high"] == pytest.approx(60 + 2.776 * np.sqrt(0.5), abs=1e-3)


def test_curves_and_levels_are_written_as_numbers(page):
    curves = pd.read_csv(page[0] / "tables" / "babyai-curves.csv")
    middle = curves[(curves["variant"] == "rdqn") & (curves["update"] == 1000) & (curves["seed"] == 4)]
    assert sorted(middle["success"]) == [pytest.approx(16), pytest.approx(21)]  # half of 32 and of 42
    levels = pd.read_csv(page[0] / "tables" / "babyai-levels.csv")
    levels = levels[levels["task_set"] == made.task_set(200)]
    row = levels.query("task == 'UnlockPickup' and variant == 'ra-rdqn-all' and seed == 0")
    assert row["success_rate"].item() == pytest.approx(0.60 + 0.05 - 0.02)
    assert row["kind"].item() == "compositional"


def test_figures_name_levels_reasons_and_agents(page):
    found = drawn(page[0], "babyai-levels")
    for text in ("single", "compositional", "OpenTwoDoors (sequence)", "UnlockPickup (unlock)", "GoToLocal", "RDQN"):
        assert text in found
    assert found.index("GoToLocal") < found.index("UnlockPickup (unlock)")
    assert drawn(page[0], "babyai-curves").count("200 trajectories per level") == 1
    assert {"as trained", "nothing retrieved", "states shuffled", "other levels only"} <= set(
        drawn(page[0], "babyai-interventions")
    )
    assert drawn(page[0], "babyai-access").count("their mean") == 2
    looks = [draw.look(variant) for variant in draw.LOOKS]
    assert len({look.marker for look in looks}) == len({str(look.line) for look in looks}) == len(looks)


def test_whom_it_retrieves_from(page):
    assert "| 800 | RA-RDQN, all levels | 55.0 [53.0, 57.0] | 25.0 [23.0, 27.0] | +30.0" in page[1]
    assert "| 85 / 80 | 5 |" in page[1]
    assert "| 800 | RA-RDQN, own level |" not in page[1]  # has no other level's trajectories to look at
    table = pd.read_csv(page[0] / "tables" / "babyai-access.csv").set_index("quantity")
    assert table.loc["difference", "percent"] == pytest.approx(30)
    assert table.loc["single chance", "percent"] == pytest.approx(80)
    states = "states that share the attention (exp of its entropy)"  # 6, 7, 8, 9, 10 by seed
    assert f"| RA-RDQN, own level | {states} | 5 | 8.000 [6.037, 9.963] |" in page[1]


def test_interventions_by_seed(page):
    table = pd.read_csv(page[0] / "tables" / "babyai-interventions.csv")
    row = table.query("variant == 'ra-rdqn-all' and intervention == 'shuffled' and seed == 4")
    assert row["success_percent"].item() == pytest.approx(52)
    assert set(table[table["variant"] == "rdqn"]["intervention"]) == {"own"}


def test_data_and_levels_and_cost(page):
    text = section(page[1], "BabyAI")
    assert "| UnlockPickup | compositional | 800 | 42.7 | 0.50 | 0.90 | 12 (endless plan 9, box opened 3) |" in text
    assert "| GoToLocal | single | 800 | 40.3 | 0.50 | 0.90 | 0 |" in text
    assert "in percent: 0, 20, 40, 60" in text
    assert "The 15 compositional levels, and the 25 others" in text
    assert "| KeyCorridor | unlock | a door has to be unlocked on the way to something else | no |" in text
    assert "| OpenTwoDoors | sequence | its mission joins several instructions" in text
    assert "605.0 (×3.36)" in text
    assert "240,000 (×1.60)" in text


def test_gallery_shows_the_median_of_each_probed_agent(page):
    text = section(page[1], "BabyAI")
    assert text.count("(run babyai/6-levels-800-episodes/ra-rdqn-all/seed-2)") == 1  # the middle seed
    assert "Recorded by this rule: Quartiles of the return." in text
    for variant in ("rdqn", "ra-rdqn-own", "ra-rdqn-all"):
        assert (page[0] / "figures" / f"babyai-episode-{variant}.gif").is_file()
    assert not (page[0] / "figures" / "babyai-strip-rdqn.svg").exists()  # retrieves nothing
    said = drawn(page[0], "babyai-strip-ra-rdqn-all")
    assert "step 0" in said
    assert any(re.fullmatch(r"weight 0\.\d\d", line) for line in said)
    assert any(re.fullmatch(r"step \d+, return 0\.\d\d", line) for line in said)


def test_protocol_and_choices_speak_of_babyai_alone(page):
    assert "- **Success (BabyAI).** Share of evaluation episodes" in page[1]
    assert "Normalised return" not in page[1]
    assert "could not be normalised" not in page[1]
    assert "| Amount of data | 50,000 and 200,000 trajectories per level |" in page[1]
    assert "(200, 800)" in page[1]
    assert "(GoToRedBallGrey, GoToLocal, PickupLoc, PutNextLocal, OpenTwoDoors, UnlockPickup)" in page[1]
    assert "Tenth task" not in page[1]


# --- missing and broken parts -----------------------------------------------------------------------------------------


def test_no_usable_run(tmp_path):
    synthetic.write_project(tmp_path)
    text, _ = build(tmp_path, planned_runs=[made.run_name(200, "rdqn", 0)])
    assert "No usable run yet: nothing to show." in section(text, "BabyAI")


def test_one_seed_of_one_agent_without_probes_and_data(tmp_path):
    synthetic.write_project(tmp_path)
    made.write_run(tmp_path, "laptop", 200, "ra-rdqn-all", 0, levels=made.SINGLE, probes=False)
    text = plain(build(tmp_path)[0])
    # 60 on average, 0 from these four levels, -2 from the seed.
    assert "| RA-RDQN, all levels | 55 ± 5 | 74 ± 3 | 58.0, CI n/a (n=1) | 1 |" in text
    for said in (
        "No attention was measured",
        "No interventions were measured.",
        "No gallery was recorded.",
        "The manifests of the data sets are not here.",
    ):
        assert said in text
    assert "✓" not in text


def test_broken_probes_are_named(tmp_path):
    synthetic.write_project(tmp_path)
    for seed in range(3):
        levels = ("No$\\Level$", *made.COMPOSED)
        made.write_run(tmp_path, "laptop", 200, "ra-rdqn-all", seed, levels=levels, probes=False)
        run = f"babyai/{made.task_set(200, 3)}/ra-rdqn-all/seed-{seed}"
        made.write_probes(tmp_path, "laptop", run, "ra-rdqn-all", seed, made.COMPOSED)
        probes = tmp_path / "results/laptop/probes" / run
        frame = pd.read_csv(probes / "interventions.csv")
        if seed == 0:
            frame = frame.drop(columns="success_rate")
        elif seed == 1:
            frame["success_rate"] = "often"
        synthetic.write_frame(probes / "interventions.csv", frame)
        if seed == 2:
            (probes / "attention.csv").write_text("task,quantity\n")
    text = plain(build(tmp_path)[0])
    assert "seed-0/interventions.csv | rows without a success rate; left out" in text
    assert "column success&#95;rate holds something that is not a number" in text
    assert "attention.csv lacks the columns value" in text
    # Compositional levels only: no difference to single ones, and two seeds.
    assert "| 54.5 [" not in text
    assert re.search(r"\| 200 \| RA-RDQN, all levels \| 53\.5 \[[-−\d., ]+\] \| – \| – \| 85 / – \| 2 \|", text)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    path = tmp_path_factory.mktemp("gallery") / "gallery.json"
    write_json(path, made.gallery("run"))
    return path.read_text()


def episodes(tmp_path, text):
    (tmp_path / "gallery.json").write_text(text)
    return gallery.read_gallery(tmp_path / "gallery.json")["episodes"]


def test_replayed_boards_are_those_of_the_episode(tmp_path, recorded):
    found = episodes(tmp_path, recorded)
    assert [e["return"] for e in found] == sorted(e["return"] for e in found)
    episode = next(e for e in found if e["task"] == "UnlockPickup")
    boards = gallery.boards(episode)
    assert len(boards) == len(episode["steps"]) + 1
    env = VectorBabyAI([level_named("UnlockPickup")])
    env.reset(np.array([episode["seed"]]))
    size = 288 // 11
    assert (boards[0] == env.envs[0].get_frame(tile_size=size)).all()
    for step in episode["steps"]:
        env.step(np.array([step["action"]]))
    assert (boards[-1] == env.envs[0].get_frame(tile_size=size)).all()
    assert any((a != b).any() for a, b in pairwise(boards))


def test_views_are_drawn_as_the_agent_saw_them():
    """Against minigrid's own picture of the agent's view, with things carried, doors and walls."""
    env = VectorBabyAI([level_named("UnlockPickup")])
    observation = env.reset(np.array([7]))
    rng, carried = np.random.default_rng(0), 0
    for _ in range(400):
        if not env.active[0]:
            observation = env.reset(np.array([int(rng.integers(1000))]))
        carried += env.envs[0].carrying is not None
        drawn = gallery.view_image(observation[0, :CELLS].tolist(), 8)
        assert (drawn == env.envs[0].get_frame(agent_pov=True, tile_size=8)).all()
        observation, *_ = env.step(rng.choice(len(ACTIONS), size=1, p=[0.2, 0.2, 0.3, 0.2, 0.01, 0.09, 0]))
    assert carried > 10


def test_gif_has_every_step(tmp_path, recorded):
    episode = pictures.median_episode(episodes(tmp_path, recorded))
    content = gallery.episode_gif(episode, gallery.boards(episode))
    assert content == gallery.episode_gif(episode, gallery.boards(episode))
    image = Image.open(io.BytesIO(content))
    assert image.n_frames == len(episode["steps"]) + 1
    assert image.size[0] >= 286 + 290


def change(text, **changes):
    """The gallery with entries of its first episode (or, by a name with a dot, of its first step) changed."""
    content = json.loads(text)
    for key, value in changes.items():
        *step, key = key.split("__")
        place = content["episodes"][0]
        if step:
            place = place["steps"][0]
        if step == ["state"]:
            place = place["retrieved"][0]
        place[key] = value
    return json.dumps(content)


@pytest.mark.parametrize(
    "changes",
    [
        {"task": "GoToNowhere"},
        {"task": ["GoTo"]},
        {"mission": "go to the <b>moon</b>"},
        {"seed": -1},
        {"length": 1},
        {"steps": 3},
        {"return": "much"},
        {"step__action": 7},
        {"step__reward": float("nan")},
        {"state__view": [1] * 48},
        {"state__view": [198] * 49},
        {"state__task": "lift red"},
        {"state__weight": None},
    ],
)
def test_an_odd_gallery_is_an_error_with_its_name(tmp_path, recorded, changes):
    with pytest.raises(RarlError, match=r"^gallery\.json: "):
        episodes(tmp_path, change(recorded, **changes))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"seed": 6}, "the mission is|the reward of step|it ends after|it does not end"),
        ({"mission": "open a door"}, "the mission is 'pick up the red box', not 'open a door'"),
        ({"step__reward": 0.5}, "the reward of step 0 is 0, not 0.5"),
        ({"length": 300}, "it does not end after 300 steps"),
        ({"task": "PickupLoc"}, "does not replay"),
    ],
)
def test_an_episode_that_does_not_replay_is_not_shown(tmp_path, recorded, changes, says):
    found = episodes(tmp_path, change(recorded, **changes))
    changed = next(e for e in found if all(e.get(k, v) == v for k, v in changes.items()) and _is_changed(e, recorded))
    with pytest.raises(RarlError, match=says):
        gallery.boards(changed)


def _is_changed(episode, text):
    return episode not in json.loads(text)["episodes"]


def test_a_gallery_that_does_not_replay_leaves_the_others_on_the_page(tmp_path, recorded):
    synthetic.write_project(tmp_path)
    texts = {
        (200, "rdqn"): recorded.replace('"seed": 6', '"seed": 60'),
        (200, "ra-rdqn-own"): "{",
        (200, "ra-rdqn-all"): "{",
        (800, "ra-rdqn-all"): recorded,  # more data: this one is shown
    }
    for (size, variant), text in texts.items():
        run = made.write_run(tmp_path, "laptop", size, variant, 0, probes=False)
        path = tmp_path / "results/laptop/probes" / run / "gallery.json"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    text = plain(build(tmp_path)[0])
    assert "RDQN: the gallery could not be read; see the list of failures." in text
    assert "RA-RDQN, own level: the gallery could not be read; see the list of failures." in text
    assert "RA-RDQN, all levels: the gallery" not in text
    assert "does not replay" in text
    assert (tmp_path / "reports/laptop/figures/babyai-episode-ra-rdqn-all.gif").is_file()
    assert not (tmp_path / "reports/laptop/figures/babyai-episode-rdqn.gif").exists()
