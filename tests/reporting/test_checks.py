"""Validity checks, searches and what was on record before the runs: on made-up runs with known answers."""

from __future__ import annotations

import json
from dataclasses import replace

import pandas as pd
import pytest

from rarl.provenance import claim_digests
from rarl.reporting import searches
from rarl.reporting.answers import LATER, claim_frame, first_table, tally
from rarl.reporting.claims import load_claims
from rarl.reporting.results import load_results
from rarl.reporting.rules import MEASURED, NOT_TESTED, SUPPORTED, VOID
from rarl.reporting.searches import effort, spread
from rarl.reporting.verdicts import counts
from tests.reporting import synthetic as made
from tests.reporting.built import outcomes

LEVELS = {"dqn-hidden": 0.1, "ra-dqn-hidden": 0.5}
TASKS = made.BOARDS[:2]


def write(root, levels=LEVELS, **options) -> list[str]:
    return made.write_runs(root, "gridroboman", "30-tasks", levels, TASKS, **options)


def write_flips(root, runs, exchanged: float, removed: float) -> None:
    """retrieval.csv: nothing depends on it at the start, at the end so many actions do; more for later seeds."""
    for run in runs:
        more = 0.001 * int(run[-1])
        rows = [(0, 0.0, 0.0), (2000, exchanged + more, removed + more)]
        frame = pd.DataFrame(rows, columns=["update", "flips_exchanged", "flips_removed"])
        made.write_frame(root / f"results/laptop/runs/{run}/retrieval.csv", frame)


def test_an_agent_that_does_not_learn_answers_nothing(tmp_path):
    write(tmp_path, {"dqn-hidden": 0.0, "ra-dqn-hidden": 0.0})
    said = outcomes(tmp_path)["C3c-hidden"]
    assert said.verdict.outcome == VOID
    assert said.verdict.reason.startswith("learned: ")
    write(tmp_path, {"dqn-hidden": 0.0})  # one that learns is enough: the base may be unable to
    write(tmp_path, {"ra-dqn-hidden": 0.5})
    assert outcomes(tmp_path)["C3c-hidden"].verdict.outcome == SUPPORTED


def test_a_comparison_with_what_did_not_learn_is_marked(tmp_path):
    """By a check that came after the runs: the verdict stays."""
    for learned in (False, True):
        made.write_runs(tmp_path, "ancestors", "30-tasks", {"mfec-hidden": 0.2 * learned}, TASKS)
        write(tmp_path, {"ra-dqn-hidden": 0.5})
        said = outcomes(tmp_path)["Q17-mfec-hidden"]
        assert said.checks["learned"].passed
        assert said.later["both-learned"].passed == learned
        assert said.verdict.outcome == MEASURED
        assert ("one agent is not sure to have learned †" in claim_frame([said])["note"][0]) != learned


def test_each_agent_must_be_above_random_play_and_its_own_start(tmp_path):
    """By a check that came after the runs."""
    for level in (0.3, 0.0):
        for game in ("pong", "breakout"):
            for variant, plays in (("r2d2", level), ("ra-r2d2", 0.3)):
                made.write_runs(tmp_path, "atari", game, {variant: plays}, [game], changes=made.PLAYED)
        said = outcomes(tmp_path)["Q7"]
        assert said.checks["learned"].passed
        assert said.later["each-learned"].passed == (level > 0)


def test_random_play_is_a_start_too(tmp_path):
    for game, level in (("pong", 0.3), ("breakout", 0.0)):
        made.write_runs(tmp_path, "atari", game, {"r2d2": level}, [game], changes=made.PLAYED)
        made.write_runs(tmp_path, "atari", game, {"ra-r2d2": level}, [game], changes=made.PLAYED)
    assert outcomes(tmp_path)["Q7"].checks["learned"].passed


def test_scores_that_are_above_random_play_by_luck(tmp_path):
    """One seed of five that scores. An interval that keeps to what a game can give would always be above 0."""
    made.write_project(tmp_path)
    for seed, level in enumerate((1.5, 0.0, 0.0, 0.0, 0.0)):
        for variant in ("r2d2", "ra-r2d2"):
            run = f"atari/pong/{variant}/seed-{seed}"
            made.write_run(tmp_path, run, level - made.BY_SEED[seed], ["pong"], changes=made.PLAYED)
    said = outcomes(tmp_path)["Q7"]
    assert not said.checks["learned"].passed
    assert said.verdict.outcome == VOID


@pytest.mark.parametrize(
    ("exchanged", "removed", "passed"), [(0.002, 0.004, False), (0.002, 0.3, False), (0.2, 0, True)]
)
def test_retrieval_that_is_not_read(tmp_path, exchanged, removed, passed):
    """That actions depend on there being something is not enough: it might be anything."""
    runs = [run for run in write(tmp_path, {"dqn-hidden": 0.1, "as-printed": 0.5}) if "/as-" in run]
    assert outcomes(tmp_path)["Q24"].checks["reads"] is None  # not recorded: told, and not held against it
    write_flips(tmp_path, runs, exchanged, removed)
    said = outcomes(tmp_path)["Q24"]
    assert said.checks["reads"].passed == passed
    assert said.checks["reads"].fails == (not passed)
    assert said.verdict.outcome == (SUPPORTED if passed else VOID)
    assert not said.later


@pytest.mark.parametrize(("removed", "before"), [(0.004, False), (0.3, True)])
def test_the_check_that_was_fixed_before_the_runs_decides(tmp_path, removed, before):
    """What the one says that was written afterwards stands beside the verdict."""
    write_flips(tmp_path, [run for run in write(tmp_path) if "/ra-" in run], 0.002, removed)
    said = outcomes(tmp_path)["C3c-hidden"]
    assert said.checks["reads"].passed == before
    assert not said.later["reads"].passed
    assert said.verdict.outcome == (SUPPORTED if before else VOID)
    row = claim_frame([said]).iloc[0]
    assert said.later["reads"].found in row["checks"]
    assert (LATER in str(first_table([said], [said.study]))) == (not said.later["reads"].passed)
    counted = replace(said, claim=said.claim.model_copy(update={"reading_of": None}))
    assert tally([counted]) == ("1 supported (1 †)" if before else "1 not interpretable")


@pytest.mark.parametrize(
    ("shares", "candidates", "passed"),
    [((0.25, 0.55), (0.67, 0.91), True), ((0.67, 0.91), (0.67, 0.91), False), ((1.0, 1.0), (0.67, 0.91), False)],
)
def test_attention_that_does_not_ask(tmp_path, shares, candidates, passed):
    names = made.write_runs(tmp_path, "babyai", "4-levels-800-episodes", {"ra-rdqn-all": 0.6}, made.LEVELS)
    several = [level in made.LEVELS[2:] for level in made.LEVELS]
    rows = [(level, "other_share", shares[i]) for level, i in zip(made.LEVELS, several, strict=True)]
    rows += [(level, "other_candidates", candidates[i]) for level, i in zip(made.LEVELS, several, strict=True)]
    made.write_attention(tmp_path, names, rows)
    said = outcomes(tmp_path)["C5"]
    assert said.later["attends"].passed == passed
    divided = any(0.01 < share < 0.99 for share in shares)  # by the check before the runs, which decides
    assert said.checks["attends"].passed == divided
    assert (said.verdict.outcome == VOID) == (not divided)


def test_a_probe_needs_its_positive_control(tmp_path):
    """That shuffling changes nothing says something only where taking all away changes something."""
    runs = [run for run in write(tmp_path) if "/ra-" in run]
    for removed, passed in ((0.10, True), (0.50, False)):
        made.write_interventions(tmp_path, runs, made.same({"own": 0.5, "shuffled": 0.5, "removed": removed}, TASKS))
        said = outcomes(tmp_path)["Q2-shuffled"]
        assert said.checks["control"].passed == passed
        assert (said.verdict.outcome == VOID) == (not passed)


def test_verdicts_of_the_papers_claims_are_counted(project):
    found = outcomes(*project)
    said = counts(found.values())
    papers = [o for o in found.values() if not (o.claim.own or o.claim.elsewhere or o.claim.reading_of)]
    assert 0 < sum(said.values()) == len(papers) < len(found)
    assert said[NOT_TESTED] == sum(o.verdict.outcome == NOT_TESTED for o in papers)


# --- before the runs --------------------------------------------------------------------------------------------------


def test_only_what_was_on_record_before_all_runs_is_pre_specified(tmp_path):
    made.write_project(tmp_path)
    digests = claim_digests(tmp_path, "laptop")
    write(tmp_path, claims=digests)
    assert outcomes(tmp_path)["C3c-hidden"].specified
    write(tmp_path, {"dqn-hidden": 0.1}, seeds=1)  # one run that knew nothing of it
    assert not outcomes(tmp_path)["C3c-hidden"].specified


def test_runs_that_are_made_again_do_not_make_a_claim_pre_specified(tmp_path):
    """Their records know of it; their results had been seen."""
    made.write_project(tmp_path)
    write(tmp_path, claims=claim_digests(tmp_path, "laptop"))
    path = tmp_path / "config/claims.yaml"
    path.write_text(path.read_text().replace("  - id: C3c-hidden\n", "  - id: C3c-hidden\n    exploratory: true\n"))
    assert not outcomes(tmp_path)["C3c-hidden"].specified


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("Gridroboman, 30 tasks: RA-DQN beats DQN (task hidden).", "Reworded.", True),
        ("# The paper's claims", "# A comment", True),
        ("min_seeds: 5", "min_seeds: 4", False),
        ("family: gridroboman\n    primary: true", "family: gridroboman\n    primary: false", False),
        ("task_set: 30-tasks, a: ra-dqn-hidden, b: dqn-hidden", "task_set: 20-tasks, a: ra-dqn-hidden, b: dqn-hidden",
         False),
    ],
)  # fmt: skip
def test_what_may_be_reworded_and_what_not(tmp_path, old, new, same):
    made.write_project(tmp_path)
    path, before = tmp_path / "config/claims.yaml", claim_digests(tmp_path, "laptop")
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    after = claim_digests(tmp_path, "laptop")
    assert all(before[key] == after[key] for key in ("C3c-hidden", "settings")) == same
    assert before["C4a-50k"] == after["C4a-50k"]


def test_digests_are_of_what_the_scale_can_judge(tmp_path):
    made.write_project(tmp_path)
    digests, claims = claim_digests(tmp_path, "laptop"), load_claims(tmp_path / "config/claims.yaml")[1]
    assert set(digests) == {"settings", *(claim.id for claim in claims if "laptop" in claim.scales)}
    assert set(claim_digests(tmp_path, "mine")) == {"settings"}
    (tmp_path / "config/claims.yaml").write_text("claims: [")  # told elsewhere; a run is made all the same
    assert claim_digests(tmp_path, "laptop") == {}


# --- searches ---------------------------------------------------------------------------------------------------------


def tried(variant: str, seed: int = 100, last: float = 1.0, **changed) -> dict:
    changes = tuple(f"{key}={value}" for key, value in changed.items())
    return {"experiment": "gridroboman", "variant": variant, "task_set": "30", "seed": seed, "changed": changes,
            "updates": 100, "last": last, "scale": "laptop", "settings": {}}  # fmt: skip


def test_equal_search_is_counted(tmp_path):
    made.write_project(tmp_path)
    rows = [tried("dqn-hidden", rate=1), tried("ra-dqn-hidden", rate=1), tried("ra-dqn-hidden", 101, rate=2, slots=4)]
    of_all = load_results("laptop", tmp_path)
    results = replace(of_all, trials=pd.DataFrame(rows))
    sides = [("gridroboman", "ra-dqn-hidden"), ("gridroboman", "dqn-hidden")]
    assert effort(sides, results) == "unequal search: 2 trials against 1, on 2 and 1 tuning seeds; both tried rate"
    more = replace(of_all, trials=pd.DataFrame([*rows, tried("dqn-hidden", 101)]))
    assert effort(sides, more).startswith("equal search: 2 trials each")
    # Those of an experiment that extends it have its settings; what was changed there was not searched.
    assert effort([("ablations", "ra-dqn"), ("ablations", "dqn")], results).startswith("unequal search: 2 ")
    extended = effort([("ablations", "ra-dqn"), ("ablations", "slots-8")], results)
    assert extended.startswith("unequal search: 2 trials against 0")
    assert effort(sides[:1], results) == effort(sides, of_all) == ""
    more.experiments["gridroboman"] = more.experiments["gridroboman"].model_copy(
        update={"unrecorded_trials": {"ra-dqn-hidden": 25}}
    )
    assert effort(sides, more).startswith("unequal search: 2 trials, and about 25 not recorded against 2; both tried")


def test_whose_trials_found_the_settings_of_who_has_none(tmp_path):
    """RA-DQN that observes the task is as it was tuned with the task hidden; an agent of another kind has no such."""
    variants = {"dqn-hidden": 0.1, "ra-dqn-hidden": 0.5, "ra-dqn-observed": 0.6}
    made.write_runs(tmp_path, "gridroboman", "30-tasks", variants, made.BOARDS[:2])
    made.write_runs(tmp_path, "ancestors", "30-tasks", {"nec-hidden": 0.1}, made.BOARDS[:2])
    rows = [tried("dqn-hidden", rate=1), tried("ra-dqn-hidden", rate=1), tried("ra-dqn-hidden", 101, rate=2)]
    results = replace(load_results("laptop", tmp_path), trials=pd.DataFrame(rows))
    base = ("gridroboman", "dqn-hidden")
    lent = "0 trials (settings from 2 trials of RA-DQN, task hidden)"
    assert effort([("gridroboman", "ra-dqn-observed"), base], results) == f"unequal search: {lent} against 1"
    assert effort([("ancestors", "nec-hidden"), base], results) == "unequal search: 0 trials against 1"


def test_settings_that_were_changed_in_files_count_too():
    """Between two trials of a variant, where both have the setting; budgets and what only one knows do not."""
    with_price = {"agent.retrieval.process": "slots", "agent.beta": 0.1, "agent.old": 1, "episodes": 9}
    without = {"agent.retrieval.process": "slots", "agent.beta": 0.0, "episodes": 8}
    rows = [
        tried("ra", rate=1) | {"settings": with_price},
        tried("ra") | {"settings": without},
        tried("base", **{"evaluation.episodes": 1}),
    ]
    found = searches.counts(pd.DataFrame(rows)).set_index("variant")["changed"]
    assert found.to_dict() == {"ra": "agent.beta, rate", "base": ""}


def test_deviation_between_tuning_seeds(tmp_path):
    """Of the same settings on different seeds, as a share of the expert's return of 40; a repetition is no seed."""
    write(tmp_path)
    results = load_results("laptop", tmp_path)
    trials = pd.DataFrame([tried("dqn-hidden", seed, last) for seed, last in ((100, 4.0), (101, 8.0), (101, 8.0))])
    sides = [("gridroboman", "ra-dqn-hidden"), ("gridroboman", "dqn-hidden")]
    assert spread(sides, replace(results, trials=trials)) == pytest.approx(8**0.5 / 40)
    assert not spread(sides, replace(results, trials=trials[1:])) > 0


def test_tries_of_other_scales_are_not_this_ones(tmp_path):
    made.write_project(tmp_path)
    path = tmp_path / "results/search/gridroboman.jsonl"
    path.parent.mkdir(parents=True)
    entry = {"variant": "dqn-hidden", "task_set": 30, "seed": 100, "changed": [], "core_seconds": 1.0,
             "return_by_update": [[9, 0.1]]}  # fmt: skip
    path.write_text("".join(json.dumps(entry | {"scale": scale}) + "\n" for scale in ("laptop", "mine", "laptop")))
    assert load_results("laptop", tmp_path).trials["scale"].tolist() == ["laptop", "laptop"]
    write(tmp_path)  # now the experiment is one of the scale's, and so are its tries at a scale of scratch
    assert load_results("laptop", tmp_path).trials["scale"].tolist() == ["laptop", "mine", "laptop"]
    (tmp_path / "config" / "mine.yaml").touch()
    assert load_results("mine", tmp_path).trials["scale"].tolist() == ["mine"]
    assert load_results("laptop", tmp_path).trials["scale"].tolist() == ["laptop", "laptop"]


def test_a_trial_that_was_made_twice_is_one(tmp_path):
    """Settings, seed and outcome are the same; another outcome is of other code, and another trial."""
    made.write_project(tmp_path)
    path = tmp_path / "results/search/gridroboman.jsonl"
    path.parent.mkdir(parents=True)
    entry = {"variant": "dqn-hidden", "task_set": 30, "seed": 100, "changed": [], "core_seconds": 1.0,
             "return_by_update": [[9, 0.1]], "digest": "a", "scale": "laptop"}  # fmt: skip
    others = [{"core_seconds": 2.0}, {"digest": "b"}, {"seed": 101}, {"return_by_update": [[9, 0.2]]}]
    path.write_text("".join(json.dumps(entry | other) + "\n" for other in ({}, *others)))
    assert load_results("laptop", tmp_path).trials["core_seconds"].tolist() == [1.0, 1.0, 1.0, 1.0]
