"""A study: which variants stand in it, what may be compared, which task sets there are and which a claim means."""

from __future__ import annotations

import math

import pytest

from rarl.reporting.claims import EVERY, ClaimTest
from rarl.reporting.results import load_results
from rarl.reporting.study import TaskSet, load_studies
from tests.reporting import synthetic as made
from tests.reporting.built import build, outcomes, study_of

SET = "4-levels-800-episodes"


def test_every_experiment_of_the_project_is_a_study(tmp_path):
    made.write_project(tmp_path)
    studies = load_studies(load_results("laptop", tmp_path), ["babyai", "gridroboman"])
    names = list(studies)
    assert set(names) == {path.stem for path in (made.PROJECT / "config/experiments").glob("*.yaml")}
    assert names.index("babyai") < names.index("ablations-babyai") < names.index("gridroboman") < names.index("atari")
    assert studies["relevance"].parts == ("relevance", "distractors", "index-cost")
    for study in studies.values():
        assert study.base.settings.kind == "base"
        assert all(v.label and set(v.relative_to) <= set(study.variants) for v in study.variants.values())
        groups = {}
        for v in study.variants.values():
            if not v.settings.sweep:
                groups.setdefault(v.settings.group, []).append(v)
        for members in groups.values():  # they share a panel: told apart without colour
            assert len({v.look.marker for v in members}) == len({v.look.dashes for v in members}) == len(members)


def test_variants_know_whose_runs_they_are_and_what_they_change(studies):
    study = studies["ablations-babyai"]
    assert list(study.variants)[:2] == ["rdqn", "ra-rdqn-own"]  # beside the own ones, first
    assert (study.base.runs, study.full.runs) == (("babyai", "rdqn"), ("babyai", "ra-rdqn-own"))
    assert study.variants["a2-nothing-retrieved"].runs == ("babyai", "no-retrieval")
    assert study.variants["a1-direct"].relative_to == ("ra-rdqn-own",)
    main = studies["babyai"]
    assert main.variants["no-retrieval"].relative_to == ("ra-rdqn-own", "ra-rdqn-all")
    assert main.full.look.colour != main.variants["ra-rdqn-own"].look.colour
    assert studies["gridroboman"].variants["dqn-observed"].relative_to == ()
    assert main.label("unheard-of") == "unheard-of"
    assert main.variant(("babyai", "rdqn")) is main.base


def test_a_variant_that_is_in_no_file_is_shown_under_its_name(tmp_path):
    made.write_runs(tmp_path, "ablations", "30-tasks", {"dqn": 0.1, "ra-dqn": 0.5, "unheard|of": 0.3}, made.BOARDS[:1])
    study = study_of(tmp_path, "ablations")
    assert [v.name for v in study.variants_on("30-tasks")] == ["dqn", "ra-dqn", "unheard|of"]
    assert "unheard&#124;of" in build(tmp_path)["ablations"]


def test_scores_are_means_over_tasks_of_seeds_that_have_all(tmp_path):
    names = made.write_runs(tmp_path, "babyai", SET, {"rdqn": 0.3}, made.LEVELS, seeds=2)
    path = tmp_path / f"results/laptop/runs/{names[1]}/evaluations.csv"
    path.write_text("".join(line for line in path.open() if "UnlockPickup" not in line))
    study = study_of(tmp_path, "babyai")
    assert study.seed_scores(study.base, SET) == {0: pytest.approx(28)}
    assert study.table(study.base, SET).shape == (2, 4)


def test_agents_of_another_experiment_must_have_the_same_settings(tmp_path):
    of_babyai = {"rdqn": 0.30, "ra-rdqn-own": 0.40, "no-retrieval": 0.31}
    more = {"source": "bot", "episodes": 800}
    made.write_runs(tmp_path, "babyai", SET, of_babyai, made.LEVELS, seeds=2, changes=more)
    other = more | {"learning": {"n_step": 4}}
    own = {"a3-short": 0.3, "one-best": 0.4}
    made.write_runs(tmp_path, "ablations-babyai", SET, own, made.LEVELS, seeds=2, changes=other)
    study = study_of(tmp_path, "ablations-babyai")
    short, best = study.variants["a3-short"], study.variants["one-best"]
    assert study.mismatches(short, study.full, SET) == ["learning.n_step 4 against 1"]
    assert study.compare(short, study.full, SET) is None
    assert study.compare(short, best, SET).interval().estimate == pytest.approx(-10)
    of_main = study.compare(study.variants["a2-nothing-retrieved"], study.full, SET)
    assert of_main.interval().estimate == pytest.approx(-9)
    assert outcomes(tmp_path)["C2-A3-babyai"].verdict.outcome == "not tested"
    text = build(tmp_path)["appendix"]
    assert "not compared with babyai/rdqn: learning.n&#95;step 4 against 1" in text


def test_what_is_played_is_counted(tmp_path, studies):
    played = {"changes": {"episodic": {"episodes_per_update": 1}}}
    made.write_runs(tmp_path, "gridroboman", "30-tasks", {"dqn-hidden": 0.1, "ra-dqn-hidden": 0.5}, made.BOARDS[:3])
    made.write_runs(tmp_path, "ancestors", "30-tasks", {"mfec-hidden": 0.08}, made.BOARDS[:3], **played)
    study = study_of(tmp_path, "ancestors")
    assert study.steps_per_update("ancestors/30-tasks/mfec-hidden/seed-0") == 150  # 50 steps of each of 3 tasks
    assert math.isnan(study.steps_per_update("gridroboman/30-tasks/dqn-hidden/seed-0"))
    # Whole recipes are compared, though their settings differ.
    assert outcomes(tmp_path)["Q17-mfec-hidden"].interval.estimate == pytest.approx(0.42)
    curves = study.curves(["30-tasks"]).query("variant == 'mfec-hidden' and update == 2000 and seed == 3")
    assert curves[["steps", "score"]].values.tolist() == [[300_000, pytest.approx(0.09)]]
    atari = studies["atari"]  # frames, where actions are repeated
    assert (atari.step_unit, atari.steps_per_update("atari/pong/r2d2/seed-0")) == ("frames", 8 * 5 * 4)


def test_task_sets_are_known_from_runs_or_from_their_names(tmp_path):
    (run,) = made.write_runs(tmp_path, "babyai", SET, {"rdqn": 0.3}, made.LEVELS, seeds=1, changes={"episodes": 800})
    planned = [run, "babyai/4-levels-200-episodes/rdqn/seed-0", "babyai/odd/rdqn/seed-0"]
    study = load_studies(load_results("laptop", tmp_path, planned))["babyai"]
    assert study.task_sets == [("odd", None, None), ("4-levels-200-episodes", 4, 200), (SET, 4, 800)]
    assert study.used_sets == [SET]


def test_all_of_a_dataset_counts_as_its_episodes(tmp_path):
    made.write_runs(tmp_path, "gridroboman", "10-tasks", {"dqn-hidden": 0.1}, made.BOARDS[:2], seeds=1, data=made.DATA)
    results = load_results("laptop", tmp_path, planned_datasets=made.DATASETS)
    assert load_studies(results)["gridroboman"].task_sets == [TaskSet("10-tasks", 10, 4000)]


@pytest.mark.parametrize(
    ("rule", "sets", "probed", "chosen"),
    [
        ("smaller", ("6-levels-800-episodes", "6-levels-200-episodes"), None, "6-levels-200-episodes"),
        ("larger", ("6-levels-800-episodes", "6-levels-200-episodes"), None, "6-levels-800-episodes"),
        ("larger", ("6-levels-800-episodes",), None, None),
        ("smaller", (), None, None),
        ("smaller", ("6-levels-100-episodes", "40-levels-200-episodes"), None, "40-levels-200-episodes"),
        ("probed", ("6-levels-200-episodes", "6-levels-800-episodes"), 200, "6-levels-200-episodes"),
        ("probed", ("6-levels-200-episodes", "6-levels-800-episodes"), None, "6-levels-800-episodes"),
        ("mine", ("6-levels-200-episodes",), None, "mine"),
        ("shared", ("6-levels-200-episodes", "6-levels-800-episodes"), None, "6-levels-800-episodes"),
    ],
)
def test_which_task_set_a_claim_means(tmp_path, rule, sets, probed, chosen):
    made.write_project(tmp_path)
    planned = [f"babyai/{name}/ra-rdqn-all/seed-0" for name in sets]
    if probed:
        name, levels = f"6-levels-{probed}-episodes", (*made.LEVELS, "GoTo", "GoToObj")
        names = made.write_runs(tmp_path, "babyai", name, {"ra-rdqn-all": 0.5}, levels, seeds=1)
        made.write_attention(tmp_path, names, [("GoTo", "kl", 1.0)])
    study = load_studies(load_results("laptop", tmp_path, planned))["babyai"]
    test = ClaimTest(measure="difference", experiment="babyai", task_set=rule, a="ra-rdqn-all")
    assert study.named_set(test) == chosen


def test_all_games_at_once_if_all_agents_are_planned(studies):
    study = studies["atari"]
    for rule in (EVERY, "shared"):
        test = {"measure": "difference", "experiment": "atari", "task_set": rule, "a": "ra-r2d2"}
        assert study.named_set(ClaimTest(**test, b="r2d2")) == EVERY
        assert study.named_set(ClaimTest(**test, b="no-retrieval")) is None
    assert study.compared_sets == [EVERY]
    assert study.compare(study.full, study.base, EVERY).interval().estimate == pytest.approx(0.06)
    test = ClaimTest(measure="difference", experiment="babyai", task_set=SET, a="rdqn")
    assert studies["babyai"].sizes(test) == {"episodes per level": 800, "levels": 4}


def test_without_a_run_there_is_no_size(tmp_path):
    made.write_project(tmp_path)
    test = ClaimTest(measure="difference", experiment="atari", task_set=EVERY, a="ra-r2d2", b="r2d2")
    assert study_of(tmp_path, "atari").sizes(test) == {}
