"""Gridroboman: whether the dataset decides the task, and how much of it is needed."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from rarl.envs.gridroboman.tasks import TASKS
from rarl.reporting.claims import Settings, evaluate_claims, load_claims
from rarl.reporting.results import load_results
from rarl.reporting.sections import load_sections
from rarl.reporting.sections.gridroboman_datasets import decided_text, swap_matrix
from rarl.reporting.sections.gridroboman_measures import ALL_TASKS, PROBED, amount_of, amount_table, effects
from tests.reporting import synthetic
from tests.reporting import synthetic_ablations as made
from tests.reporting.built import build, drawn, plain

SETTINGS = Settings(margins={"gridroboman": 0.05})


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """RA-DQN and DQN on three tasks, looked into: own 0.5, removed 0.1, another's dataset 0.12, less data."""
    root = tmp_path_factory.mktemp("amounts")
    synthetic.write_project(root)
    data, tasks = synthetic.write_manifests(root, "laptop", TASKS), TASKS[:3]
    for variant, level in {"dqn-hidden": 0.1, "ra-dqn-hidden": 0.5, "random-tasks": 0.1, "same-batch": 0.58}.items():
        for seed in range(5):
            run = made.write_run(root, "gridroboman", ALL_TASKS, variant, seed, level, tasks, data=data)
            if variant == PROBED:
                rows = {("own", t, t): 0.5 for t in tasks} | {("removed", t, t): 0.1 for t in tasks}
                rows |= {("swapped", t, g): 0.12 for t in tasks for g in tasks if g != t}
                made.write_interventions(root, run, seed, rows)
                made.write_amounts(root, run, seed, tasks)
    return root


def test_names_of_amounts():
    assert amount_of("truncated-8") == ("trajectories", 8)
    assert amount_of("cut-10") == ("steps", 10)
    for name in ("own", "cut", "cut-", "truncated-8-more", "held-out"):
        assert amount_of(name) is None


def test_amounts_by_hand(project):
    results = load_results("laptop", project)
    table = amount_table(results, ALL_TASKS, PROBED, "trajectories")
    assert table.index.tolist() == [1, 2, 4, 8, 16, 32, 64]  # the last is as trained, by configuration
    assert table.mean(axis=1).tolist() == pytest.approx([0.15, 0.2, 0.3, 0.4, 0.44, 0.45, 0.5])
    assert amount_table(results, ALL_TASKS, PROBED, "steps").index.tolist() == [5, 10, 25, 50]
    assert amount_table(results, ALL_TASKS, "dqn-hidden", "steps").empty


def test_effects_give_the_ends_of_what_is_enough(project):
    found = {e.change.what: e for e in effects(load_results("laptop", project), SETTINGS)}
    few = found["Only 32 trajectories to retrieve from, in the place of 64"]  # already 0.05 less
    assert (few.reading, few.interval.estimate) == ("costs", pytest.approx(-0.05))
    assert few.share == pytest.approx(0.05 / 0.4)
    assert "Only 16 trajectories to retrieve from, in the place of 64" not in found
    assert found["Only the first 25 steps of each trajectory, in the place of 50"].reading == "costs"
    assert found["One retrieval batch per task, never redrawn"].reading == "helps"
    assert found["Trained on batches of random tasks"].reading == "costs"
    assert found["Only other tasks' trajectories when a trained agent acts"].interval.estimate == pytest.approx(-0.38)


def test_claims_by_hand(project):
    settings, claims = load_claims(project / "config" / "claims.yaml")
    said = {o.claim.id: o for o in evaluate_claims(claims, settings, load_results("laptop", project), load_sections())}
    assert said["Q16-few"].verdict.outcome == "contradicted"  # 0.1 less with 8
    assert said["Q16-few"].interval.estimate == pytest.approx(-0.10)
    assert said["Q16-short"].interval.estimate == pytest.approx(-0.15)


def test_page(project):
    text = plain(build(project)[0])
    folder = project / "reports" / "laptop"
    assert "On 3 of 3 tasks no other task's dataset gives more return than the task's own." in text
    assert "Mean over tasks: 0.50 with the own dataset, 0.12 with that of another." in text
    assert "| trajectories | 8 | 5 | 0.400 [0.380, 0.420] | −0.100 [" in text
    assert {"trajectories in a batch", "first steps of each trajectory", "nothing retrieved"} <= set(
        drawn(folder, "gridroboman-amounts")
    )
    # Interventions that leave less data have that figure, not the one of the others.
    assert "truncated-8" not in drawn(folder, "gridroboman-interventions")
    assert "| ✗ no (interval outside ±0.05) |" in text
    swaps = pd.read_csv(folder / "tables" / "gridroboman-swaps.csv").set_index("given_task")
    assert swaps.loc["touch-red", "touch-red"] == pytest.approx(0.5)


def matrix(values) -> pd.DataFrame:
    names = ["touch-red", "lift-red", "red-on-blue"]
    return pd.DataFrame(values, index=names, columns=names, dtype=float)


def test_which_dataset_decides():
    text = decided_text(matrix([[0.5, 0.1, 0.1], [0.1, 0.2, 0.1], [0.2, 0.6, 0.4]]))
    assert "On 2 of 3 tasks no other task's dataset gives more return than the task's own." in text
    assert "Mean over tasks: 0.37 with the own dataset, 0.20 with that of another." in text
    assert text.endswith("Tasks on which another one gives more, and whose: lift red (red on blue).")


def test_what_was_not_measured_decides_nothing():
    nothing = math.nan
    assert decided_text(matrix(np.full((3, 3), nothing))) == ""
    text = decided_text(matrix([[0.5, 0.1, nothing], [nothing, nothing, nothing], [0.2, 0.6, 0.4]]))
    assert text.startswith("On 1 of 1 task no other")  # of one task the own is unknown, of another all others are
    assert swap_matrix(load_results("laptop", "no-such-folder")).empty
