"""BabyAI's numbers and verdicts against ones computed by hand from made-up runs."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from rarl.envs.babyai.levels import LEVELS
from rarl.reporting.claims import evaluate_claims, load_claims
from rarl.reporting.results import load_results
from rarl.reporting.sections import babyai_measures as measures
from rarl.reporting.sections import load_sections
from tests.reporting import synthetic
from tests.reporting import synthetic_babyai as made

CLAIMS = [f"C4{row}-{size}" for row in "abcd" for size in ("50k", "200k")]


def outcomes(root, planned=None):
    settings, claims = load_claims(root / "config" / "claims.yaml")
    found = evaluate_claims(claims, settings, load_results("laptop", root, planned), load_sections())
    return {outcome.claim.id: outcome for outcome in found}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("babyai")
    synthetic.write_project(root)
    data = made.write_manifests(root, "laptop", made.LEARNED)
    for episodes in made.SIZES:
        for variant in (*made.FOUR, "no-retrieval"):
            for seed in range(5):
                probes = episodes == 800 and variant != "no-retrieval"
                made.write_run(root, "laptop", episodes, variant, seed, data=data, probes=probes)
    return root


def test_verdicts_and_their_numbers(project):
    said = outcomes(project)
    # SUCCESS in percent: 30, 40, 48, 60; the same differences with more data.
    for row, difference in {"a": 30, "b": 10, "c": 20, "d": 12}.items():
        for size in ("50k", "200k"):
            outcome = said[f"C4{row}-{size}"]
            assert outcome.verdict.outcome == "supported"
            assert outcome.interval.estimate == pytest.approx(difference)
            assert outcome.interval.n == (5, 5)
            # Seeds at -2, -1, 0, 1, 2 in both groups: error sqrt(2.5 / 5 + 2.5 / 5) = 1, t of 8 degrees 2.306.
            assert outcome.interval.high - outcome.interval.estimate == pytest.approx(2.306, abs=1e-3)
    assert said["C4a-50k"].ours_scale == {"trajectories per level": 200, "levels": 6}
    assert said["C4a-200k"].ours_scale == {"trajectories per level": 800, "levels": 6}
    assert said["C5"].verdict.outcome == "estimated"
    assert said["C5"].interval.estimate == pytest.approx(55 - 25)
    assert said["C5"].samples.design == "paired"
    assert said["Q5-chance"].verdict.outcome == "estimated"
    assert said["Q5-chance"].interval.estimate == pytest.approx((55 - 85) - (25 - 80))
    for row, difference in {"removed": 40, "shuffled": 20, "others": 5}.items():
        assert said[f"Q5-{row}"].verdict.outcome == "supported"
        assert said[f"Q5-{row}"].interval.estimate == pytest.approx(difference)
    assert said["Q6"].interval.estimate == pytest.approx(29)


def test_verdicts_turn_with_the_numbers(tmp_path):
    flip = {"rdqn": "ra-rdqn-all", "ra-rdqn-all": "rdqn", "ra-rdqn-all-open": "ra-rdqn-all-open"}

    def rates(variant, episodes, seed, level):
        return made.rate(flip.get(variant, "ra-rdqn-all-open"), episodes, seed, level)

    made.write_results(tmp_path, rates=rates, probes=False)
    said = outcomes(tmp_path)
    assert said["C4a-50k"].verdict.outcome == "contradicted"  # 30 against 60
    assert said["C4b-50k"].verdict.outcome == "contradicted"  # 48 against 60
    assert said["C4d-200k"].verdict.outcome == "contradicted"  # 40 against 58
    made.write_results(tmp_path, rates=lambda v, e, seed, level: 0.5 + made.BY_SEED[seed], probes=False)
    assert {outcomes(tmp_path)[name].verdict.outcome for name in CLAIMS} == {"inconclusive"}


def test_few_seeds_and_missing_runs(tmp_path):
    names = made.write_results(tmp_path, sizes=(800,), variants=("rdqn", "ra-rdqn-all"), seeds=3, probes=False)
    said = outcomes(tmp_path, [*names, made.run_name(800, "rdqn", 3)])
    # One size of data: it is the smaller one; there is no larger.
    assert said["C4a-50k"].verdict.reason == "3 seeds, 5 needed"
    assert said["C4a-50k"].preliminary
    assert said["C4a-50k"].ours_scale["trajectories per level"] == 800
    assert said["C4a-200k"].verdict.outcome == "not tested at this scale"
    assert said["C4b-50k"].verdict.outcome == "not tested"
    assert said["C5"].verdict.outcome == said["Q5-removed"].verdict.outcome == "not tested"


def test_without_babyai_nothing_is_tested(tmp_path):
    synthetic.write_results(tmp_path, sets=(10,), variants=("dqn-hidden",), seeds=1)
    said = outcomes(tmp_path)
    assert {said[name].verdict.outcome for name in (*CLAIMS, "C5", "Q6")} == {"not tested at this scale"}


def test_task_sets_are_known_from_runs_or_from_their_names(tmp_path):
    synthetic.write_project(tmp_path)
    run = made.write_run(tmp_path, "laptop", 800, "rdqn", 0)
    planned = [run, "babyai/6-levels-200-episodes/rdqn/seed-0", "babyai/odd/rdqn/seed-0"]
    sets = measures.task_sets(load_results("laptop", tmp_path, planned))
    assert [(s.name, s.levels, s.episodes) for s in sets] == [
        ("odd", None, None),
        ("6-levels-200-episodes", 6, 200),
        ("6-levels-800-episodes", 6, 800),
    ]
    assert sets[0].title == "odd"
    assert sets[2].title == "6 levels, 800 trajectories per level"


def test_all_of_a_data_set_counts_as_its_episodes(tmp_path):
    synthetic.write_project(tmp_path)
    data = made.write_manifests(tmp_path, "laptop", made.LEARNED)
    config = {"tasks": list(made.LEARNED), "episodes": None}
    made.write_run(tmp_path, "laptop", 7, "rdqn", 0, data=data, config=config)
    assert measures.task_sets(load_results("laptop", tmp_path))[0].episodes == 800


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
    ],
)
def test_which_task_set_a_claim_means(tmp_path, rule, sets, probed, chosen):
    planned = [f"babyai/{name}/ra-rdqn-all/seed-0" for name in sets]
    if probed:
        made.write_run(tmp_path, "laptop", probed, "ra-rdqn-all", 0)
    _, claims = load_claims(synthetic.PROJECT / "config" / "claims.yaml")
    claim = next(claim for claim in claims if claim.id == "C5")
    claim.test["task_set"] = rule
    assert measures.named_set(load_results("laptop", tmp_path, planned), claim) == chosen


def test_a_seed_that_lacks_a_level_is_left_out(tmp_path):
    synthetic.write_project(tmp_path)
    for seed, levels in enumerate((made.LEARNED, made.LEARNED[:-1])):
        run = made.write_run(tmp_path, "laptop", 200, "rdqn", seed)
        path = tmp_path / "results/laptop/runs" / run / "evaluations.csv"
        frame = pd.read_csv(path)
        synthetic.write_frame(path, frame[frame["task"].isin(levels)])
    results = load_results("laptop", tmp_path)
    assert list(measures.seed_scores(results, made.task_set(200), "rdqn")) == [0]


def test_success_that_is_not_a_number_is_excluded(tmp_path):
    synthetic.write_project(tmp_path)
    run = made.write_run(tmp_path, "laptop", 200, "rdqn", 0)
    path = tmp_path / "results/laptop/runs" / run / "evaluations.csv"
    frame = pd.read_csv(path)
    frame.loc[frame.index[-1], "success_rate"] = math.nan
    synthetic.write_frame(path, frame)
    results = load_results("laptop", tmp_path)
    assert not results.runs["usable"].any()
    assert (run, "excluded: success rate is not a number on 1 tasks, first UnlockPickup") in results.problems


def test_levels_by_kind():
    kinds = [measures.kind(level.name) for level in LEVELS]
    assert kinds.count("compositional") == 15
    assert kinds.count("single") == 25
    assert measures.kind("<b>GoTo</b>") == "unknown"
    order = measures.level_order(["NoLevel", "BossLevel", "GoToSeq", "GoTo", "GoToObj", "GoTo"])
    assert order == ["GoToObj", "GoTo", "GoToSeq", "BossLevel", "NoLevel"]
    assert {measures.reason(level.name) for level in LEVELS if level.compositional} == set(measures.REASONS)


def test_paper_numbers_are_those_of_its_table():
    """Table 1 of the paper, which the claims quote as well."""
    assert set(measures.PAPER_SUCCESS) == set(made.FOUR)
    _, claims = load_claims(synthetic.PROJECT / "config" / "claims.yaml")
    for claim in claims:
        if claim.id in CLAIMS:
            column = ("50k", "200k").index(claim.id.split("-")[1])
            before, after = (measures.PAPER_SUCCESS[claim.test[side]][column] for side in ("b", "a"))
            quoted = f"{before[0]} ± {before[1]} → {after[0]} ± {after[1]} % (s.e.)"
            assert claim.number == quoted
            assert claim.paper_scale["trajectories per level"] == measures.PAPER_SIZES[column]


def test_the_chain_from_the_batch_to_the_gain(project):
    settings, _ = load_claims(project / "config" / "claims.yaml")
    results = load_results("laptop", project, None)
    links = {
        link.link: link.values
        for link in measures.missing_links(results, made.task_set(800), ["ra-rdqn-all", "ra-rdqn-own"], settings)
    }
    assert links["It is in the batch"]["ra-rdqn-all"].estimate == pytest.approx(0.9)
    # 0.2 above chance for the even seeds 0, 2, 4, and 0.21 for the odd ones.
    assert links["Attention finds it"]["ra-rdqn-own"].estimate == pytest.approx((3 * 0.2 + 2 * 0.21) / 5)
    assert links["The bottleneck lets it through"]["ra-rdqn-own"].estimate == pytest.approx(1.5)
    assert links[measures.USED]["ra-rdqn-all"].estimate == pytest.approx(40)
    assert links["As whole trajectories"]["ra-rdqn-all"].estimate == pytest.approx(20)
    assert links["Training with it gains"]["ra-rdqn-all"].estimate == pytest.approx(60 - 31)
    assert links["Training with it gains"]["ra-rdqn-own"].estimate == pytest.approx(40 - 31)


def test_links_that_nothing_was_measured_about_are_left_out(project):
    settings, _ = load_claims(project / "config" / "claims.yaml")
    results = load_results("laptop", project, None)
    assert measures.missing_links(results, made.task_set(200), [], settings) == []
    links = measures.missing_links(results, made.task_set(200), ["ra-rdqn-all"], settings)
    assert [link.link for link in links] == ["Training with it gains"]
