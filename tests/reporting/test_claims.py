"""Claims: the project's file is sound, mistakes are named, and verdicts follow from made-up runs with known answers."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import yaml

from rarl.envs.spec import ENVIRONMENTS, spec_of
from rarl.errors import RarlError
from rarl.reporting import answers, choices
from rarl.reporting.claims import load_claims
from rarl.reporting.rules import INCONCLUSIVE, SUPPORTED
from rarl.reporting.statistics import Samples
from rarl.workflow.rules import scale_of
from tests import tiny_project
from tests.command_line import fails
from tests.reporting import synthetic as made
from tests.reporting.built import outcomes

CLAIMS = made.PROJECT / "config" / "claims.yaml"


def test_the_projects_claims_are_sound():
    settings, claims = load_claims(CLAIMS)
    assert len({claim.id for claim in claims if claim.primary}) == 7
    assert settings.min_seeds >= 5
    paper = {claim.id for claim in claims if not claim.own}
    assert {"C1", "C2-A1", "C2-A6", "C5", "C6-time", "C6-parameters"} <= paper
    assert {f"C4{x}-{size}" for x in "abcd" for size in ("50k", "200k")} <= paper
    assert {f"C3{x}-{side}" for x in "abc" for side in ("hidden", "observed")} <= paper
    margins = {spec.score.unit: spec.score.margin for spec in map(spec_of, ENVIRONMENTS)}
    for claim in claims:
        assert claim.kind not in ("superiority", "equivalence") or claim.margin == margins.get(claim.unit, claim.margin)
        assert claim.own or claim.place
        assert claim.family
        assert "smoke" not in claim.scales


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("claims: [", "not valid YAML"),
        ("claims: 3", "needs the keys"),
        ("claims: [{id: A}]", "claim A: key 'text' is missing"),
        ("claims: [{text: t}]", "claims.0: key 'id' is missing"),
        ("claims: []\nquestions: [3]", "questions.0: .*dictionary"),
        ("claims: [{id: A, text: t, kind: superb}]", "did you mean 'superiority'"),
        ("claims: [{id: A, text: t, kind: equivalence}]", "margin above 0"),
        ("claims: [{id: A, text: t, verdict: yes}]", "unknown key 'verdict'"),
        ("claims: [{id: A, text: t}, {id: A, text: u}]", "'A' is there twice"),
        ("claims: [{id: A, text: t, scales: [tyny]}]", "mean 'tiny'"),
        ("claims: [{id: A, text: t, test: {measure: m}}]", "claim A: key 'test.experiment' is missing"),
        ("claims: [{id: A, text: t, margin: wide}]", "claim A: margin: .*number, got 'wide'"),
        ("claims: [{id: A, text: t, margin: .inf}]", "claims.0.margin: must be a finite number, got inf"),
        ("claims: [{id: A, text: t, scales: laptop}]", "claim A: scales: .*list, got 'laptop'"),
        ("claims: [{id: A, text: t, primary: maybe}]", "claim A: primary: .*boolean, got 'maybe'"),
        (
            "claims: [{id: A, text: t, validity: [read]}]",
            "claim A: validity: unknown check 'read': did you mean 'reads'",
        ),
        ("claims: [{id: A, text: t, margin: 1, test: {TEST, experiment: e, a: x}}]", "claim A: family: "),
        ("claims: [{id: A, text: t, family: f, test: {TEST, experiment: e, a: x}}]", "superiority needs a margin"),
        ("claims: [{id: A, ASKS}, {id: B, ASKS}]", "B: test: A asks the same"),
        ("claims: [{id: A, text: t, paper: {nr: 3}}]", "claim A: unknown key 'paper.nr'"),
        ("claims: [{id: A, text: t}]\nquestion: []", "unknown key 'question'; did you mean 'questions'"),
        ("claims: [{id: A, text: t, text: u}]", "line 1: not valid YAML: key 'text' stands there twice"),
        ("claims: []\nquestions: [{id: Q, text: t, kind: superb}]", "claim Q: kind: .*did you mean 'superiority'"),
        ("claims: []\nsettings: {level: 95}", "settings.level: .*less than 1, got 95"),
        (
            "claims: [{id: A, text: t, margin: 1, family: f, "
            "test: {measure: diference, experiment: x, task_set: x, a: x}}]",
            "'difference'",
        ),
        ("claims: [{id: A, text: t, test: {TEST, experiment: gridroboman, a: dqn, c: x}}]", "unknown key 'test.c'"),
        ("claims: []\nsettings: {min_seed: 3}", "did you mean 'min_seeds'"),
        (
            "claims: [{id: AB, text: t, primary: true}, {id: C, text: t, qualifies: AC}]",
            "claim C: qualifies: unknown primary claim 'AC': did you mean 'AB'",
        ),
        (
            "claims: [{id: AB, text: t}, {id: C, text: t, reading_of: AC}]",
            "claim C: reading_of: unknown claim 'AC': did you mean 'C' or 'AB'",
        ),
        (
            "claims: [{id: AB, text: t}]\nrevised_checks: {read: {before: divides, scales: [tiny], seen: [AB]}}",
            "revised_checks.read: unknown check 'read': did you mean 'reads'",
        ),
        (
            "claims: [{id: AB, text: t}]\nrevised_checks: {reads: {before: divide, scales: [tiny], seen: [AB]}}",
            "revised_checks.reads.before: unknown check 'divide': did you mean 'divides'",
        ),
        (
            "claims: [{id: AB, text: t}]\nrevised_checks: {reads: {before: divides, scales: [tyny], seen: [AB]}}",
            "revised_checks.reads.scales: unknown scale 'tyny': did you mean 'tiny'",
        ),
        (
            "claims: [{id: AB, text: t}]\nrevised_checks: {reads: {before: divides, scales: [tiny], seen: [AC]}}",
            "revised_checks.reads.seen: unknown claim 'AC': did you mean 'AB'",
        ),
    ],
)
def test_mistakes_in_the_file_are_named(tmp_path, text, says):
    path = tmp_path / "config" / "claims.yaml"
    path.parent.mkdir()
    (path.parent / "tiny.yaml").touch()
    text = text.replace("ASKS", "text: t, family: f, margin: 1, scales: [tiny], test: {TEST, experiment: e, a: x}")
    path.write_text(text.replace("TEST", "measure: difference, task_set: larger, b: y"))
    with pytest.raises(RarlError, match=rf"claims\.yaml.*{says}") as caught:
        load_claims(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"a": "ra-dqm"}, "claim A: test.a: unknown variant 'ra-dqm': did you mean 'ra-dqn'"),
        ({"experiment": "gridrobo"}, "claim A: test.experiment: unknown experiment 'gridrobo': did you mean 'gridrobo"),
        ({"b": "gridrobomann/x"}, "claim A: test.b: unknown experiment 'gridrobomann': did you mean 'gridroboman'"),
        ({"b": "gridroboman/dqm"}, "claim A: test.b: unknown variant 'dqm': did you mean 'dqn'"),
        ({"b": "ra-x*"}, "claim A: test.b: unknown variant 'ra-x\\*'"),
        ({"measure": "diff*"}, "claim A: test.measure: unknown measure 'diff\\*'"),
        ({"b": None}, "claim A: test: difference needs b, got neither"),
        ({"measure": "tuned", "of": "own"}, "claim A: test: tuned needs b, got b and of"),
        ({"measure": "ratio", "of": "own", "against": "removed"}, "test: ratio needs against and of, got ag"),
        ({"measure": "intervention"}, "test: intervention needs against and of, or b and of, got b"),
        ({"measure": "intervention", "of": "onw"}, "A: test.of: unknown intervention 'onw': did you mean 'own'"),
        ({"measure": "interaction", "of": "own", "against": "truncatd-8"}, "test.against: .*'truncatd-8': did you"),
        ({"control": "share-0.1-indx"}, "test.control: unknown intervention 'share-0.1-indx': did you mean 'share-N-i"),
        ({"measure": "attention"}, "test: attention needs against and of and quantity, or b and quantity, got b"),
        ({"measure": "attention", "quantity": "klx"}, "test.quantity: unknown quantity 'klx'"),
        ({"measure": "attention", "quantity": "share-1/mrx"}, "unknown .* 'share-1/mrx': did you mean 'share-N/mrr'"),
        ({"measure": "attention", "quantity": "kl", "chance": "rewarded_candidate"}, "test.chance: unknown quantity"),
        ({"measure": "attention", "b": None, "quantity": "kl", "of": "lift", "against": "x"}, "unknown group .* 'x'"),
        ({"measure": "cost_ratio", "quantity": "parameter"}, "test.quantity: .*'parameter': did you mean 'parameters'"),
        ({"task_set": "10-task"}, "claim A: test.task_set: no scale of tiny plans '10-task': did you mean '10-tasks'"),
    ],
)
def test_claims_speak_of_what_is_configured(tmp_path, change, says):
    tiny_project.write_config(tmp_path)
    path = tmp_path / "config" / "claims.yaml"
    test = {"measure": "difference", "experiment": "gridroboman", "task_set": "10-tasks", "a": "ra-*", "b": "dqn"}
    claim = {"id": "A", "text": "t", "family": "f", "margin": 0.1, "scales": ["tiny"], "test": test}
    file = {"claims": [claim]}
    path.write_text(yaml.safe_dump(file))
    assert load_claims(path)[1][0].test.sides()[0] == ("gridroboman", "ra-*")
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
    monkeypatch.setattr(choices, "read_texts", lambda: choices._check_setting("learning.n_stp", "choices.yaml", []))
    assert "choices.yaml: unknown key" in fails(capsys, "plan")
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    for change, says in (
        ({"report": ["scors"]}, "report: unknown part 'scors'; did you mean 'scores'"),
        ({"unrecorded_trials": {"dqm": 3}}, "unrecorded_trials: unknown variant 'dqm'; did you mean 'dqn'"),
        ({"across": "agent.d_ss"}, "across: unknown key 'agent.d_ss'; did you mean 'd_s'"),
        ({"across": "environment_options.x"}, "across: unknown key 'environment_options.x'"),
        ({"sweeps": {"a": {"title": "A", "keys": ["agent.retrieval.nf"]}}}, "sweeps.a.keys: unknown key 'agent.re"),
        ({"sweeps": {"a": {"title": "A", "keys": ["updates"], "alike": ["agnt"]}}}, "sweeps.a.alike: unknown key 'agn"),
    ):
        tiny_project.write_config(tmp_path, experiment=change)
        for command in ("plan", "report"):
            assert f"gridroboman.yaml: {says}" in fails(capsys, command)
    assert not (tmp_path / "reports").exists()


def test_checking_texts_imports_nothing_heavy():
    code = (
        "import sys; from rarl.workflow.rules import scale_of; scale_of({'scale': 'smoke'}, sys.argv[1]); "
        "print([name for name in ('torch', 'pandas', 'matplotlib', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, made.PROJECT], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_verdicts_of_runs_with_known_answers(project):
    said = outcomes(*project)
    for name, (outcome, estimate) in {
        "C3c-hidden": ("supported", 0.40), "C3a-hidden": ("contradicted", 0.40), "C4a-50k": ("supported", 30),
        "C4d-200k": ("supported", 12), "C5": ("supported", 30), "Q5-chance": ("measured", -30 + 55),
        "Q5-removed": ("supported", 30), "Q6": ("supported", 29), "Q7": ("supported", 0.06),
        "Q8-removed": ("supported", 0.08), "Q16-few": ("contradicted", -0.10),
        "C6-time": ("measured", 1210 / 360), "C6-parameters": ("measured", 1.6), "Q4": ("measured", 0.22),
    }.items():  # fmt: skip
        assert said[name].verdict.outcome == outcome, name
        assert said[name].interval.estimate == pytest.approx(estimate), name
    assert said["C3b-hidden"].verdict.outcome == "not tested"  # no runs on 20 tasks
    assert said["C1"].verdict.outcome == "not tested"
    assert said["C3b-hidden"].due
    assert not said["C1"].due
    assert said["C1"].ours_scale == {"frames per game": 320_000, "games": 2}
    assert said["Q2-removed"].samples.design == "paired"
    assert said["C3c-hidden"].ours_scale["episodes per task"] == 4000
    assert said["C4a-50k"].ours_scale == {"episodes per level": 200, "levels": 4}


def test_question_one_counts_tasks(project):
    said = outcomes(*project)["Q1"]
    # Of three tasks none is solved by DQN; seeds 2, 3 and 4 of RA-DQN reach half of the expert's return on all.
    assert said.samples.a == {0: 0, 1: 0, 2: 1, 3: 1, 4: 1}
    assert said.interval.n == (5, 5)


def test_missing_planned_runs_make_it_preliminary(project):
    root, planned = project
    assert not outcomes(root, planned)["C3c-hidden"].preliminary
    waiting = outcomes(root, [*planned, "gridroboman/30-tasks/dqn-hidden/seed-5"])
    assert waiting["C3c-hidden"].preliminary
    assert not waiting["C3c-observed"].preliminary


def test_few_seeds_are_inconclusive_and_smoke_judges_nothing(tmp_path):
    levels = {"dqn-hidden": 0.1, "ra-dqn-hidden": 0.5}
    made.write_runs(tmp_path, "gridroboman", "30-tasks", levels, made.BOARDS[:2], seeds=3)
    said = outcomes(tmp_path)["C3c-hidden"]
    assert said.interval.low > 0
    assert (said.verdict.outcome, said.verdict.reason) == ("inconclusive", "3 seeds, 5 needed")
    made.write_runs(tmp_path, "gridroboman", "30-tasks", levels, made.BOARDS[:2], scale="smoke")
    assert {o.verdict.outcome for o in outcomes(tmp_path, scale="smoke").values()} == {"not tested"}


def test_verdicts_turn_with_the_numbers(tmp_path):
    levels = {"rdqn": 0.60, "ra-rdqn-own": 0.40, "ra-rdqn-all": 0.30, "ra-rdqn-all-open": 0.30}
    made.write_runs(tmp_path, "babyai", "4-levels-200-episodes", levels, made.LEVELS)
    said = outcomes(tmp_path)
    assert [said[f"C4{x}-50k"].verdict.outcome for x in "abcd"] == ["contradicted"] * 3 + [
        "equivalent within the margin"
    ]
    assert said["C4a-200k"].verdict.outcome == "not tested"  # one size of data: there is no larger


def test_agents_with_the_same_draws_are_compared_in_pairs_too(tmp_path):
    """Seeds far apart, agents close together: Welch sees nothing, pairs do."""
    for drawn, expected in (({"episodes": 50}, SUPPORTED), ({}, "")):
        root = tmp_path / str(len(drawn))
        made.write_project(root)
        for seed in range(5):
            for variant, more in (("dqn-hidden", 0.0), ("ra-dqn-hidden", 0.06 + 0.001 * seed)):
                run = f"gridroboman/30-tasks/{variant}/seed-{seed}"
                made.write_run(root, run, 0.2 * seed + more, made.BOARDS[:2], changes=drawn)
        said = outcomes(root)["C3c-hidden"]
        assert (said.verdict.outcome, said.in_pairs) == (INCONCLUSIVE, expected)
        told, differing = answers.pairs_frame([said])
        assert (told, len(differing)) == (int(bool(drawn)), int(bool(drawn)))


def test_every_claim_of_the_paper_has_a_sentence(project):
    found = outcomes(*project)
    tested, untested = answers.in_a_sentence(found["C3c-hidden"]), answers.in_a_sentence(found["C1"])
    assert "+0.40" in tested
    assert "5 v 5 seeds" in tested
    assert untested.startswith("The paper reports +11.32 ± 1.2 %")
    assert "scale paper could" in untested


def test_designs_of_samples():
    a, b = {0: 1.0, 1: 2.0, 2: 4.0}, {0: 0.5, 1: 1.0, 5: 9.0}
    assert Samples(a, b, "paired").interval(0.95).n == (2,)
    assert Samples(a, b, "paired").interval(0.95).estimate == pytest.approx(0.75)
    assert Samples(a, b).interval(0.95).n == (3, 3)
    assert Samples(a, {0: math.nan}, "single").interval(0.95).n == (3, 1)
