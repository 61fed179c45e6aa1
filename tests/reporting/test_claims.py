"""Claims: the project's file is sound, mistakes are named, and verdicts follow from made-up runs with known answers."""

from __future__ import annotations

import math

import pytest
import synthetic

from rarl.errors import RarlError
from rarl.reporting.claims import Samples, Settings, counts, evaluate_claims, load_claims
from rarl.reporting.results import load_results
from rarl.reporting.sections import load_sections
from rarl.reporting.sections.gridroboman_measures import seed_scores, solved

CLAIMS = synthetic.PROJECT / "config" / "claims.yaml"


def outcomes(root, scale="laptop", planned=None):
    settings, claims = load_claims(root / "config" / "claims.yaml")
    found = evaluate_claims(claims, settings, load_results(scale, root, planned), load_sections())
    return {outcome.claim.id: outcome for outcome in found}


def test_the_projects_claims_are_sound():
    settings, claims = load_claims(CLAIMS)
    assert settings.min_seeds >= 5
    assert {"smoke", "laptop", "workstation", "paper"} <= set(settings.scales)
    assert not settings.scale("smoke").results
    paper = {claim.id for claim in claims if not claim.own}
    assert {"C1", "C2-A1", "C2-A6", "C5", "C6-time", "C6-parameters"} <= paper
    assert {f"C4{x}-{size}" for x in "abcd" for size in ("50k", "200k")} <= paper
    assert {f"C3{x}-{side}" for x in "abc" for side in ("hidden", "observed")} <= paper
    for claim in claims:
        assert claim.own or claim.place
        assert "smoke" not in claim.scales
        if claim.test:
            assert claim.test["measure"] in load_sections()[claim.experiment].measures


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("claims: [", "not valid YAML"),
        ("claims: 3", "needs the keys"),
        ("claims: [{id: A}]", "needs an id and a text"),
        ("claims: [{id: A, text: t, kind: superb}]", "did you mean 'superiority'"),
        ("claims: [{id: A, text: t, kind: equivalence}]", "margin above 0"),
        ("claims: [{id: A, text: t, verdict: yes}]", "unknown key 'verdict'"),
        ("claims: [{id: A, text: t}, {id: A, text: u}]", "'A' is there twice"),
        (
            "claims: [{id: A, text: t, scales: [laptp]}]\nsettings: {scales: {laptop: {banner: b}}}",
            "did you mean 'laptop'",
        ),
        ("claims: [{id: A, text: t, test: {measure: m}}]", "test needs measure"),
        ("claims: []\nsettings: {min_seed: 3}", "did you mean 'min_seeds'"),
    ],
)
def test_mistakes_in_the_file_are_named(tmp_path, text, says):
    path = tmp_path / "claims.yaml"
    path.write_text(text)
    with pytest.raises(RarlError, match=says):
        load_claims(path)


def test_unknown_measure_is_named(tmp_path):
    path = tmp_path / "claims.yaml"
    path.write_text(
        "settings: {scales: {laptop: {banner: b}}}\nclaims:\n- {id: A, text: t, scales: [laptop], "
        "test: {measure: normalized_return, experiment: gridroboman, task_set: 10-tasks, a: x, b: y}}"
    )
    settings, claims = load_claims(path)
    with pytest.raises(RarlError, match="did you mean 'normalised_return'"):
        evaluate_claims(claims, settings, load_results("laptop", tmp_path), load_sections())


def test_verdicts_of_runs_with_known_answers(full_project):
    said = outcomes(full_project[0])
    assert said["C3c-hidden"].verdict.outcome == "supported"  # 0.40 against 0.12 of the expert
    assert said["C3a-hidden"].verdict.outcome == "contradicted"  # they differ by far more than the margin
    assert said["C3b-hidden"].verdict.outcome == "not tested"  # no runs on 20 tasks
    assert said["C1"].verdict.outcome == said["C4a-50k"].verdict.outcome == "not tested at this scale"
    assert said["Q2-removed"].verdict.outcome == said["Q2-steered"].verdict.outcome == "supported"
    assert said["Q2-removed"].samples.design == "paired"
    assert said["Q2-removed"].interval.estimate == pytest.approx(0.35, abs=0.03)
    assert said["Q4"].verdict.outcome == "estimated"
    assert said["C3c-hidden"].ours_scale == {"episodes per task": 4000}
    assert sum(counts(list(said.values())).values()) == len(said)


def test_question_one_counts_tasks(full_project):
    """The share is counted again here, task by task."""
    results = load_results("laptop", full_project[0])
    base = solved(results, "30-tasks", "dqn-hidden", 0.5)
    ours = solved(results, "30-tasks", "ra-dqn-hidden", 0.5)
    unsolved = [task for task in base if sum(base[task]) < 2.5]
    said = outcomes(full_project[0])["Q1"]
    assert said.samples.a == {seed: sum(bool(ours.loc[seed, t]) for t in unsolved) / len(unsolved) for seed in range(5)}
    assert said.interval.n == (5, 5)
    assert f"{len(unsolved)} of 30 tasks unsolved" in said.samples.detail


def test_normalised_return_is_the_mean_over_tasks(full_project):
    results = load_results("laptop", full_project[0])
    rows = results.last[(results.last["run"] == synthetic.run_name(30, "oracle", 2))]
    expected = sum(r / e for r, e in zip(rows["return_mean"], rows["expert"], strict=True)) / 30
    assert seed_scores(results, "30-tasks", "oracle")[2] == pytest.approx(expected)


def test_missing_planned_runs_make_it_preliminary(full_project):
    names = [synthetic.run_name(30, v, s) for v in synthetic.FOUR for s in range(5)]
    complete = outcomes(full_project[0], planned=names)
    assert not complete["C3c-hidden"].preliminary
    waiting = outcomes(full_project[0], planned=[*names, synthetic.run_name(30, "dqn-hidden", 5)])
    assert waiting["C3c-hidden"].preliminary
    assert not waiting["C3c-observed"].preliminary


def test_few_seeds_are_inconclusive_and_smoke_judges_nothing(tmp_path):
    synthetic.write_results(tmp_path, sets=(30,), variants=("dqn-hidden", "ra-dqn-hidden"), seeds=3)
    said = outcomes(tmp_path)["C3c-hidden"]
    assert said.interval.low > 0
    assert (said.verdict.outcome, said.verdict.reason) == ("inconclusive", "3 seeds, 5 needed")
    synthetic.write_results(tmp_path, "smoke", sets=(30,), variants=("dqn-hidden", "ra-dqn-hidden"), seeds=5)
    assert {o.verdict.outcome for o in outcomes(tmp_path, "smoke").values()} == {"not tested at this scale"}


def test_designs_of_samples():
    a, b = {0: 1.0, 1: 2.0, 2: 4.0}, {0: 0.5, 1: 1.0, 5: 9.0}
    assert Samples(a, b, "paired").interval(0.95).n == (2,)
    assert Samples(a, b, "paired").interval(0.95).estimate == pytest.approx(0.75)
    assert Samples(a, b).interval(0.95).n == (3, 3)
    assert Samples(a, {0: math.nan}, "single").interval(0.95).n == (3, 1)
    with pytest.raises(RarlError, match="did you mean 'paired'"):
        Samples(a, b, "pairs").interval(0.95)


def test_unknown_scale_is_no_result():
    assert not Settings().scale("mine").results
