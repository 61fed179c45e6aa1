"""Held-out tasks: what their datasets tell a network that never learned them."""

from __future__ import annotations

import pandas as pd
import pytest

from rarl.envs.gridroboman.tasks import TASKS
from rarl.reporting.claims import Settings, evaluate_claims, load_claims
from rarl.reporting.results import load_results
from rarl.reporting.sections import held_out, load_sections
from tests.reporting import synthetic
from tests.reporting import synthetic_ablations as made
from tests.reporting.built import build, drawn, plain, section

SET = "24-tasks"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("held-out")
    made.write_held_out(root)
    return root


def outcomes(root):
    settings, claims = load_claims(root / "config" / "claims.yaml")
    found = evaluate_claims(claims, settings, load_results("laptop", root), load_sections())
    return {outcome.claim.id: outcome for outcome in found}


def test_claims_by_hand(project):
    said = outcomes(project)
    for name, estimate in (("Q15-removed", 0.20), ("Q15-swapped", 0.18)):
        assert said[name].verdict.outcome == "supported"
        assert said[name].interval.estimate == pytest.approx(estimate)
        assert said[name].samples.design == "paired"
    ratios = {seed: (0.30 + off) / (0.50 + off) for seed, off in enumerate(made.BY_SEED)}
    assert said["Q15-kept"].samples.a == pytest.approx(ratios)
    assert said["Q15-kept"].verdict.outcome == "estimated"


def test_claims_flip_with_the_numbers(tmp_path):
    made.write_held_out(tmp_path, held_out=0.05)
    said = outcomes(tmp_path)
    assert said["Q15-removed"].verdict.outcome == "contradicted"
    results = load_results("laptop", tmp_path)
    effects = held_out.effects(results, Settings(margins={"gridroboman": 0.01}))
    assert [e.reading for e in effects] == ["helps", "helps"]
    # Each task's own dataset gives 0.05 more than the one before; without one it is 0.1 on all.
    assert held_out.won(results, SET, held_out.REMOVED) == (1, 5)


def test_page(project):
    text = plain(build(project)[0])
    here = section(text, "Held-out tasks")
    assert (
        "5 tasks held out of training: lift blue, blue touch red, red to center, blue close to green, red on green."
        in here
    )
    assert "25 tasks learned." in here
    assert "On 5 of 5 held-out tasks its own dataset gives more than nothing to retrieve." in here
    assert "| RA-DQN | held-out tasks, a learned task's dataset | 5 | 0.120 [0.100, 0.140] | +0.180 [" in here
    folder = project / "reports" / "laptop"
    assert {"the task's own dataset", "nothing retrieved", "DQN"} <= set(drawn(folder, "held-out"))
    assert {"lift blue", "red on green"} <= set(drawn(folder, "held-out-tasks"))
    table = pd.read_csv(folder / "tables" / "held-out.csv")
    own = table[(table["intervention"] == "held-out") & (table["task"] == "red-on-green") & (table["seed"] == 2)]
    assert own["normalised"].item() == pytest.approx(0.40)
    assert "In brackets: relative to DQN." in here
    story = text[text.index("### What breaks it") : text.index("\n## Claims of the paper\n")]
    assert "**Tasks never learned: nothing retrieved, in the place of their own datasets.** Gridroboman −0.200" in story


def test_nothing_measured_on_held_out_tasks(tmp_path):
    synthetic.write_project(tmp_path)
    data = synthetic.write_manifests(tmp_path, "laptop", TASKS[:3])
    made.write_run(tmp_path, "held-out", SET, "dqn", 0, 0.1, TASKS[:2], data=data,
                   changes={"held_out": [TASKS[2].name]})  # fmt: skip
    text = plain(build(tmp_path)[0])
    assert "1 task held out of training: touch blue. 2 tasks learned." in text
    assert "Nothing was measured on held-out tasks." in text


def test_one_intervention_of_one_seed(tmp_path):
    synthetic.write_project(tmp_path)
    data = synthetic.write_manifests(tmp_path, "laptop", TASKS[:3])
    run = made.write_run(tmp_path, "held-out", SET, "ra-dqn", 0, 0.5, TASKS[:2], data=data)
    made.write_interventions(tmp_path, run, 0, {("held-out", TASKS[2], TASKS[2]): 0.3})
    text = plain(build(tmp_path)[0])
    assert "1 task held out of training: touch blue." in text  # the configuration is silent, the measurements are not
    assert "| RA-DQN | held-out tasks, the task's own dataset | 1 | 0.280, CI n/a (n=1) | – |" in text
    assert "gives more than" not in section(text, "Held-out tasks")
    assert "relative to DQN" not in section(text, "Held-out tasks")  # which has no run
    assert outcomes(tmp_path)["Q15-removed"].verdict.outcome == "not tested"
