"""Claims: the project's file is sound, mistakes are named, and verdicts follow from made-up runs with known answers."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import yaml

from rarl.errors import RarlError
from rarl.reporting import texts
from rarl.reporting.claims import Samples, Settings, counts, evaluate_claims, load_claims
from rarl.reporting.registry import MEASURES
from rarl.reporting.results import load_results
from rarl.reporting.sections import load_sections
from rarl.reporting.sections.gridroboman_measures import seed_scores, solved
from rarl.workflow.rules import scale_of
from tests import tiny_project
from tests.command_line import fails
from tests.reporting import synthetic

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
        ("claims: [{id: A, text: t, test: {measure: m}}]", "claim A: key 'test.experiment' is missing"),
        ("claims: [{id: A, text: t, margin: wide}]", "claim A: margin: .*number, got 'wide'"),
        ("claims: [{id: A, text: t, margin: .inf}]", "claims.0.margin: must be a finite number, got inf"),
        ("claims: [{id: A, text: t, scales: laptop}]", "claim A: scales: .*list, got 'laptop'"),
        ("claims: [{id: A, text: t, headline: maybe}]", "claim A: headline: .*boolean, got 'maybe'"),
        ("claims: [{id: A, text: t, paper: {nr: 3}}]", "claim A: unknown key 'paper.nr'"),
        ("claims: [{id: A, text: t}]\nquestion: []", "unknown key 'question'; did you mean 'questions'"),
        ("claims: [{id: A, text: t, text: u}]", "line 1: not valid YAML: key 'text' stands there twice"),
        ("claims: []\nquestions: [{id: Q, text: t, kind: superb}]", "claim Q: kind: .*did you mean 'superiority'"),
        ("claims: []\nsettings: {level: 95}", "settings.level: .*less than 1, got 95"),
        ("claims: []\nsettings: {margins: {doom: 1}}", "settings.margins.doom"),
        ("claims: []\nsettings: {scales: {mine: {baner: b}}}", "settings.scales.mine"),
        ("claims: [{id: A, text: t, test: {TEST, experiment: gridrobo, a: dqn}}]", "did you mean 'gridroboman'"),
        ("claims: [{id: A, text: t, test: {TEST, experiment: gridroboman, a: babyia/x}}]", "did you mean 'babyai'"),
        (
            "claims: [{id: A, text: t, test: {measure: normalized_return, experiment: gridroboman, task_set: x, "
            "a: x}}]",
            "claim A: test.measure: unknown measure 'normalized_return': did you mean 'normalised_return'",
        ),
        ("claims: [{id: A, text: t, test: {TEST, experiment: gridroboman, a: dqn, c: x}}]", "unknown key 'test.c'"),
        ("claims: []\nsettings: {min_seed: 3}", "did you mean 'min_seeds'"),
    ],
)
def test_mistakes_in_the_file_are_named(tmp_path, text, says):
    path = tmp_path / "claims.yaml"
    path.write_text(text.replace("TEST", "measure: normalised_return, task_set: 10-tasks"))
    with pytest.raises(RarlError, match=rf"claims\.yaml.*{says}") as caught:
        load_claims(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"a": "ra-dqm"}, "claim A: test.a: unknown variant 'ra-dqm': did you mean 'ra-dqn'"),
        ({"b": "gridroboman/dqm"}, "claim A: test.b: unknown variant 'dqm': did you mean 'dqn'"),
        ({"b": "ra-x*"}, "claim A: test.b: unknown variant 'ra-x\\*'"),
        ({"task_set": "10-task"}, "claim A: test.task_set: no scale of tiny plans '10-task': did you mean '10-tasks'"),
    ],
)
def test_claims_speak_of_what_is_configured(tmp_path, change, says):
    tiny_project.write_config(tmp_path)
    path = tmp_path / "config" / "claims.yaml"
    test = {
        "measure": "normalised_return",
        "experiment": "gridroboman",
        "task_set": "10-tasks",
        "a": "ra-*",
        "b": "dqn",
    }
    claim = {"id": "A", "text": "t", "scales": ["tiny"], "test": test}
    file = {"settings": {"scales": {"tiny": {"banner": "b"}}}, "claims": [claim]}
    path.write_text(yaml.safe_dump(file))
    assert load_claims(path)[1][0].side("a") == ("gridroboman", "ra-*")
    claim["test"] = test | change
    path.write_text(yaml.safe_dump(file))
    with pytest.raises(RarlError, match=says):
        load_claims(path)


def test_faults_in_the_texts_are_told_before_anything_runs(tmp_path, monkeypatch, capsys):
    tiny_project.write_config(tmp_path)
    monkeypatch.chdir(tmp_path)
    scale_of({"scale": "tiny"}, tmp_path)
    path = tmp_path / "config" / "claims.yaml"
    path.write_text("claims: [{id: A, text: t, kind: superb}]")
    with pytest.raises(RarlError, match=r"config/claims\.yaml: claim A: kind"):
        scale_of({"scale": "tiny"}, tmp_path)
    for command in (["plan"], ["report"], ["report", "--preview"]):
        assert "config/claims.yaml: claim A: kind" in fails(capsys, *command)
    path.unlink()
    for command in (["plan"], ["report"]):
        assert "config/claims.yaml: no such file" in fails(capsys, *command)
    path.write_text("claims: []")
    monkeypatch.setattr(texts, "read_texts", lambda: texts._check_setting("learning.n_stp", "choices.yaml: choice 'x'"))
    assert "choices.yaml: choice 'x': config: unknown key" in fails(capsys, "plan")
    assert not (tmp_path / "reports").exists()


def test_checking_texts_imports_nothing_heavy():
    code = (
        "import sys; from rarl.workflow.rules import scale_of; scale_of({'scale': 'smoke'}, sys.argv[1]); "
        "print([name for name in ('torch', 'pandas', 'matplotlib', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, synthetic.PROJECT], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_names_that_are_registered_are_those_of_the_sections():
    sections = load_sections()
    assert {name: tuple(section.measures) for name, section in sections.items()} == MEASURES


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
