"""The Atari part of the page: its numbers, the paper's headline, its gallery, and what it does with missing parts."""

from __future__ import annotations

import io
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from rarl.errors import RarlError
from rarl.files import write_json
from rarl.reporting.results import load_results
from rarl.reporting.sections import atari_figures as draw
from rarl.reporting.sections import atari_gallery as gallery
from rarl.reporting.sections.atari_measures import Game, games
from tests.reporting import synthetic
from tests.reporting import synthetic_atari as made
from tests.reporting.built import build, drawn, plain, section


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """(folder of the report, its text with plain spaces and brackets)."""
    root = tmp_path_factory.mktemp("atari")
    made.write_results(root)
    text, _ = build(root)
    return root / "reports" / "laptop", plain(text)


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_scores_stand_beside_the_papers(page):
    # Human-normalised 0.11 to 0.15, or 0.17 to 0.21: t of 4 degrees 2.776 times sqrt(0.00025 / 5) = 0.0196.
    # Breakout, 1.7 for random play and 30.5 for the human: 1.7 + 28.8 * 0.19 = 7.17.
    assert (
        "| breakout | RA-R2D2 | 7.2 [6.6, 7.7] | 5 | 320k | 0.190 [0.170, 0.210] | 869 ± 51 | 1.7 | 30.5 |" in page[1]
    )
    # Pong, -20.7 and 14.6: -20.7 + 35.3 * 0.1 = -17.17.
    assert "| pong | R2D2 | −17.2 [−17.9, −16.5] | 5 | 320k | 0.100 [0.080, 0.120] | 21 ± 0 |" in page[1]
    assert (
        "| ms pacman | DQN | 440.2 [309.7, 570.6] | 5 | 320k | 0.020 [0.000, 0.040] | – | 307.3 | 6,951.6 |" in page[1]
    )
    assert "3 games of 57, for 320k frames each; the paper's agents had 2,000M" in page[1]  # 2,000 * 8 * 5 * 4
    table = pd.read_csv(page[0] / "tables" / "atari-scores.csv").set_index(["task_set", "variant"])
    row = table.loc["breakout", "ra-r2d2"]
    assert (row["seeds"], row["frames"], row["paper_mean"], row["paper_spread"]) == (5, 320_000, 869, 51)
    assert row["score"] == pytest.approx(1.7 + 28.8 * 0.19, abs=1e-4)
    assert np.isnan(table.loc["breakout", "dqn"]["paper_mean"])


def test_what_retrieval_adds(page):
    # Two groups with a standard error of 0.00707 each: 2.306 (8 degrees) * 0.01 = 0.0231; times 28.8 points 0.66.
    assert "| RA-R2D2 less R2D2 | breakout | +1.7 [+1.1, +2.4] | +0.060 [+0.037, +0.083] | 5 v 5 |" in page[1]
    assert "| RA-DQN less DQN | pong | +1.1 [+0.2, +1.9] | +0.030 [+0.007, +0.053] | 5 v 5 |" in page[1]


def test_curves_are_written_in_frames(page):
    curves = pd.read_csv(page[0] / "tables" / "atari-curves.csv")
    middle = curves.query("task_set == 'pong' and variant == 'r2d2' and update == 1000 and seed == 4")
    assert middle["frames"].item() == 1000 * made.FRAMES_PER_UPDATE
    assert middle["human_normalised"].item() == pytest.approx(0.06)
    assert middle["score"].item() == pytest.approx(-20.7 + 35.3 * 0.06, abs=1e-4)
    runs = pd.read_csv(page[0] / "tables" / "atari-runs.csv")
    assert len(runs) == 3 * 4 * 5


def test_the_papers_headline_is_computed_again(page):
    assert "score +11.32 ± 1.2 % above R2D2's. It could not be re-derived" in page[1]
    for row in ("as stated | +11.32 %", "mean over 56 games | +23.3 %", "median over 56 games | +28.4 %"):
        assert f"| {row} |" in page[1]


def test_claims_and_questions(page):
    assert (
        "too small to judge it (frames per game: 320,000 of 2,000,000,000 (×0.00016); games: 3 of 57 (×0.053))"
        in page[1]
    )
    claims = pd.read_csv(page[0] / "tables" / "claims.csv").set_index("id")
    assert claims.loc["C1", "outcome"] == "not tested at this scale"
    # Training takes 1,210 s with retrieval and 360 s without.
    assert claims.loc["C6-time", "outcome"] == claims.loc["C6-parameters", "outcome"] == "estimated"
    assert claims.loc["C6-time", "estimate"] == pytest.approx(1210 / 360, rel=1e-5)
    assert claims.loc["C6-parameters", "estimate"] == pytest.approx(1.6)
    low_high = {"Q7": (0.06, 0.0231), "Q7-dqn": (0.03, 0.0231), "Q8-removed": (0.08, 2 * 0.0196)}
    for name, (estimate, half) in low_high.items():
        row = claims.loc[name]
        assert row["outcome"] == "supported"
        assert row["estimate"] == pytest.approx(estimate)
        assert (row["low"], row["high"]) == (
            pytest.approx(estimate - half, abs=1e-4),
            pytest.approx(estimate + half, abs=1e-4),
        )
    assert "Mean over 3 games: breakout, ms&#95;pacman, pong." in page[1]
    assert "of the human's score above random play: ✓ yes (interval above 0)." in page[1]  # the headline


def test_interventions_and_attention(page):
    table = pd.read_csv(page[0] / "tables" / "atari-interventions.csv")
    row = table.query("variant == 'ra-r2d2' and intervention == 'removed' and seed == 4")
    assert row["human_normalised"].item() == pytest.approx(0.10)
    assert row["score"].item() == pytest.approx(1.7 + 2.88, abs=1e-4)
    assert {"as trained", "nothing retrieved", "states shuffled", "breakout: RA-R2D2"} <= set(
        drawn(page[0], "atari-interventions")
    )
    states = "states that share the attention (exp of its entropy)"  # 6, 7, 8, 9, 10 by seed
    assert f"| RA-R2D2 | {states} | 5 | 8.000 [6.037, 9.963] |" in page[1]
    assert "| RA-R2D2 | steps between the attended states' places" in page[1]
    assert "| R2D2 | states that share" not in page[1]


def test_figures_name_games_and_agents(page):
    found = drawn(page[0], "atari-curves")
    assert {"breakout", "ms pacman", "pong", "random", "human: 6,951.6 ↑", "R2D2", "RA-DQN"} <= set(found)
    assert {"breakout", "random", "RA-R2D2"} <= set(drawn(page[0], "atari-normalised"))
    looks = [draw.look(variant) for variant in draw.LOOKS]
    for part in ("colour", "marker"):
        assert len({getattr(look, part) for look in looks}) == len(looks)
    assert len({str(look.line) for look in looks}) == len(looks)


def test_gallery_shows_the_run_of_median_score(page):
    text = section(page[1], "Atari")
    assert text.count("(run atari/breakout/ra-r2d2/seed-2)") == 1
    assert "score 7: steps 40 to 69 of 500" in text
    assert "Recorded by this rule: The median episode." in text
    assert not (page[0] / "figures" / "atari-strip-breakout-r2d2.svg").exists()  # retrieves nothing
    said = drawn(page[0], "atari-strip-breakout-ra-r2d2")
    assert [line for line in said if line.startswith("step ")] == ["step 40", "step 48", "step 57"]
    assert {"does: upfire", "reward +1", "weight 0.35", "its step 117"} <= set(said)
    for variant, width in (("r2d2", 252 + 16), ("ra-r2d2", 252 + 215)):
        image = Image.open(page[0] / "figures" / f"atari-episode-breakout-{variant}.gif")
        assert (image.n_frames, image.size[0]) == (30, width)


def test_cost_protocol_and_choices(page):
    assert "| breakout | RA-R2D2 | 5 | 240,000 (×1.60) | 605.0 (×3.36) |" in page[1]
    assert "- **Human-normalised score (Atari).**" in page[1]
    assert "Normalised return" not in page[1]
    assert "could not be normalised" not in page[1]
    assert "| Encoder | a ResNet of 47 layers |" in page[1]
    assert "(impala-small)" in page[1]
    assert "Tenth task" not in page[1]


def test_a_task_set_may_have_another_name_than_its_game(tmp_path):
    synthetic.write_project(tmp_path)
    made.write_run(tmp_path, "laptop", "ms_pacman", "r2d2", 0, probes=False, task_set="ms-pacman")
    made.write_run(tmp_path, "laptop", "pong", "r2d2", 0, probes=False, task_set="pong-long")
    found = games(load_results("laptop", tmp_path))
    assert found == [Game("ms-pacman", "ms_pacman", "ms pacman"), Game("pong-long", "pong", "pong-long")]


# --- missing and broken parts -----------------------------------------------------------------------------------------


def test_no_runs_no_section_and_none_usable(tmp_path):
    synthetic.write_project(tmp_path)
    assert "## Atari" not in build(tmp_path)[0]
    text, _ = build(tmp_path, planned_runs=[made.run_name("pong", "r2d2", 0)])
    assert "No usable run yet: nothing to show." in section(text, "Atari")


def test_one_seed_some_missing_some_failed(tmp_path):
    """Smoke scale; of two games one has a single agent, whose episodes are short."""
    synthetic.write_project(tmp_path)
    names = [made.write_run(tmp_path, "smoke", "pong", "ra-r2d2", 0, probes=False)]
    names.append(made.write_run(tmp_path, "smoke", "breakout", "r2d2", 0, probes=False))
    names.append(made.write_run(tmp_path, "smoke", "pong", "r2d2", 0, status="failed", reason="loss is not finite"))
    path = tmp_path / "results/smoke/runs" / names[0] / "run.json"
    record = json.loads(path.read_text())
    record["config"]["online"] |= {"max_frames": 6000}
    write_json(path, record)
    path = tmp_path / "results/smoke/runs" / names[1] / "run.json"
    record = json.loads(path.read_text())
    del record["config"]["online"]
    write_json(path, record)
    text = plain(build(tmp_path, "smoke", planned_runs=[*names, made.run_name("breakout", "ra-r2d2", 0)])[0])
    # 0.16 on average over games, 0 from pong, -0.02 from the seed: -20.7 + 35.3 * 0.14.
    assert "| pong | RA-R2D2 | −15.8, CI n/a (n=1) | 1 | 320k | 0.140, CI n/a (n=1) | 21 ± 0 |" in text
    assert "| breakout | R2D2 | 4.9, CI n/a (n=1) | 1 | – |" in text  # frames unknown
    assert "Episodes are cut off after 6,000 frames" in text
    for said in ("No attention was measured.", "No interventions were measured.", "No gallery was recorded."):
        assert said in text
    assert "What retrieval adds" not in text
    assert "✓" not in text
    assert "loss is not finite" in text


def episodes(tmp_path, content):
    (tmp_path / "gallery.json").write_text(json.dumps(content))
    return gallery.read_gallery(tmp_path / "gallery.json")["episodes"]


def test_gif_has_every_step_and_the_same_bytes(tmp_path):
    (episode,) = episodes(tmp_path, made.gallery("run", "pong"))
    content = gallery.episode_gif(episode)
    assert content == gallery.episode_gif(episode)
    assert Image.open(io.BytesIO(content)).n_frames == len(episode["steps"])


@pytest.mark.parametrize(
    "changes",
    [
        {"task": "ping"},
        {"length": 3},
        {"return": float("inf")},
        {"steps": 3},
        {"step__action": "jump"},
        {"step__action": 3},
        {"step__t": None},
        {"step__reward": float("nan")},
        {"step__frame": "AAAA"},
        {"step__frame": "%"},
        {"step__frame": made.picture(0)[:120]},
        {"state__frame": 5},
        {"state__weight": "much"},
        {"state__step": "late"},
    ],
)
def test_an_odd_gallery_is_an_error_with_its_name(tmp_path, changes):
    content = made.gallery("run", "pong")
    ((key, value),) = changes.items()
    *place, key = key.split("__")
    entry = content["episodes"][0]
    if place:
        entry = entry["steps"][0]
    if place == ["state"]:
        entry = entry["retrieved"][0]
    entry[key] = value
    with pytest.raises(RarlError, match=r"^gallery\.json: "):
        episodes(tmp_path, content)


def test_a_broken_gallery_is_named_and_the_others_stay(tmp_path):
    made.write_results(tmp_path, games=["pong"], variants=["r2d2", "ra-r2d2"], seeds=1)
    probes = tmp_path / "results/laptop/probes"
    (probes / made.run_name("pong", "r2d2", 0) / "gallery.json").write_text("{")
    (probes / made.run_name("pong", "ra-r2d2", 0) / "attention.csv").write_text("task,quantity\n")
    text = plain(build(tmp_path)[0])
    assert "R2D2 on pong: the gallery could not be read; see the list of failures." in text
    assert "attention.csv lacks the columns value" in text
    assert (tmp_path / "reports/laptop/figures/atari-episode-pong-ra-r2d2.gif").is_file()
