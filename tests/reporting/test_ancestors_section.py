"""Episodic control beside the agents of this project: what each learned from, and how far that may be compared."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from rarl.envs.gridroboman.tasks import TASKS
from rarl.files import write_json
from rarl.reporting.claims import evaluate_claims, load_claims
from rarl.reporting.results import load_results
from rarl.reporting.sections import load_sections
from rarl.reporting.sections.ablations_measures import Agent
from rarl.reporting.sections.ancestors_measures import FAMILIES, curve_table, learned_from, steps_per_update
from tests.reporting import synthetic, synthetic_atari
from tests.reporting import synthetic_ablations as made
from tests.reporting.built import build, drawn, plain, section

GRIDROBOMAN, ATARI = FAMILIES.values()


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("ancestors")
    made.write_ancestors(root, tasks=3)
    return root


def test_steps_by_hand(project):
    results = load_results("laptop", project)
    # One episode of 50 steps of each of 3 tasks between two updates, 2,000 updates.
    run = "ancestors/30-tasks/mfec-hidden/seed-0"
    assert steps_per_update(results, run) == 150
    assert learned_from(results, Agent("ancestors", "mfec-hidden"), made.MAIN) == ("its own play", 300_000)
    # 4,000 episodes of 50 steps of every task that there is data of.
    source, steps = learned_from(results, Agent("gridroboman", "dqn-hidden"), made.MAIN)
    assert (source, steps) == ("datasets (planner)", 30 * 4000 * 50)
    assert math.isnan(steps_per_update(results, "gridroboman/30-tasks/dqn-hidden/seed-0"))
    assert learned_from(results, Agent("ancestors", "unheard-of"), made.MAIN)[0] == "unknown"
    curves = curve_table(results, GRIDROBOMAN)
    at_end = curves[(curves["variant"] == "nec-observed") & (curves["update"] == 2000) & (curves["seed"] == 3)]
    assert at_end["steps"].item() == 300_000
    assert at_end["score"].item() == pytest.approx(0.23)


def test_first_episodes_of_datasets_alone_are_counted(tmp_path):
    synthetic.write_project(tmp_path)
    data = synthetic.write_manifests(tmp_path, "laptop", TASKS[:2])
    made.write_run(
        tmp_path, "gridroboman", made.MAIN, "dqn-hidden", 0, 0.1, TASKS[:2], data=data, changes={"episodes": 1000}
    )
    results = load_results("laptop", tmp_path)
    assert learned_from(results, Agent("gridroboman", "dqn-hidden"), made.MAIN)[1] == 2 * 1000 * 50


def test_page(project):
    text = plain(build(project)[0])
    here = section(text, "Ancestors: Gridroboman")
    assert "learn from datasets of experts and play nothing" in here
    assert (
        "| task hidden | MFEC | its own play | 300,000 | 5 | 0.080 [0.060, 0.100] | −0.420 [−0.443, −0.397] |" in here
    )
    assert "| task observed | RA-DQN | datasets (planner) | 6,000,000 | 5 | 0.570 [0.550, 0.590] | – |" in here
    folder = project / "reports" / "laptop"
    assert {"task hidden", "task observed", "MFEC", "NEC", "RA-DQN"} <= set(drawn(folder, "ancestors"))
    assert "environment steps played" in drawn(folder, "ancestors-curves")
    table = pd.read_csv(folder / "tables" / "ancestors.csv").set_index("agent")
    assert table.loc["ancestors/nec-hidden", "score"] == pytest.approx(0.05)
    settings, claims = load_claims(project / "config" / "claims.yaml")
    said = {o.claim.id: o for o in evaluate_claims(claims, settings, load_results("laptop", project), load_sections())}
    assert said["Q17-mfec-hidden"].verdict.outcome == "estimated"  # no direction: the data are not the same
    assert said["Q17-nec-observed"].interval.estimate == pytest.approx(0.57 - 0.22)
    assert said["Q18-nec"].verdict.outcome == "not tested at this scale"


def test_ancestors_alone_and_a_variant_that_no_one_knows(tmp_path):
    synthetic.write_project(tmp_path)
    data = synthetic.write_manifests(tmp_path, "laptop", TASKS[:2])
    for variant in ("mfec-hidden", "unheard-of"):
        made.write_run(tmp_path, "ancestors", made.MAIN, variant, 0, 0.1, TASKS[:2], data=data)
    text = plain(build(tmp_path)[0])
    here = section(text, "Ancestors: Gridroboman")
    assert "| task hidden | MFEC | datasets (planner) | 400,000 | 1 | 0.080, CI n/a (n=1) | – |" in here
    assert "| task observed | unheard-of |" in here
    assert "no learning curves" in here  # its record does not say what it played


def test_games(tmp_path):
    """Two games; on one the ancestors play with sticky actions."""
    synthetic.write_project(tmp_path, "workstation")
    for game in ("breakout", "pong"):
        for experiment, variant, level in (
            ("atari", "r2d2", 0.10),
            ("atari", "ra-r2d2", 0.16),
            ("ancestors-atari", "nec", 0.04),
        ):
            online = synthetic_atari.ONLINE | ({"sticky": 0.25} if variant == "nec" and game == "pong" else {})
            run = f"{experiment}/{game}/{variant}/seed-0"
            here = tmp_path / "results/workstation/runs" / run
            config = {"environment": "atari", "tasks": [game], "online": online, "seed": 0}
            config |= {"episodic": {}} if variant == "nec" else {}
            write_json(here / "run.json", synthetic.run_record("workstation", run, config, False, None))
            rows = [(u, game, 8, synthetic_atari.score(game, level * u / 2000), 3.0, 0.0) for u in made.UPDATES]
            synthetic.write_frame(here / "evaluations.csv", pd.DataFrame(rows, columns=synthetic.EVALUATIONS))
            synthetic.write_training(here)
    results = load_results("workstation", tmp_path)
    assert steps_per_update(results, "ancestors-atari/pong/nec/seed-0") == 40  # of 8 actors, 5 each
    here = section(plain(build(tmp_path, "workstation")[0]), "Ancestors: Atari")
    assert "The games were not played alike: environment_options.sticky 0.25 against 0.0." in here
    assert "| pong | NEC | its own play | 80,000 | 1 | 0.040, CI n/a (n=1) | −0.120, CI n/a (n=1) |" in here
    assert "| breakout | R2D2 | its own play | 80,000 | 1 |" in here
    assert {"breakout", "pong", "R2D2", "NEC"} <= set(drawn(tmp_path / "reports/workstation", "ancestors-atari-curves"))
