"""Ablations on three environments: numbers by hand, what is comparable, the grid, rows of values, missing parts."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest

from rarl.envs.gridroboman.tasks import TASKS
from rarl.files import write_json
from rarl.reporting.claims import EVERY, Settings, evaluate_claims, load_claims
from rarl.reporting.effects import RETRIEVAL
from rarl.reporting.results import load_results
from rarl.reporting.sections import ablations_figures as draw
from rarl.reporting.sections import load_sections
from rarl.reporting.sections.ablations_measures import (
    BENCHES,
    BEYOND,
    PAPER,
    Agent,
    compare,
    compared,
    dose,
    effects,
    faults,
    fixed_cell,
    grid,
    part_of,
    task_sets,
    tuned,
)
from tests.reporting import synthetic
from tests.reporting import synthetic_ablations as made
from tests.reporting.built import build, drawn, plain, section

HALF = 0.0230600  # t(0.975, 8) * 0.0158114 * sqrt(2 / 5): of a Welch interval of two variants
SETTINGS = Settings(margins={"gridroboman": 0.05, "babyai": 5, "atari": 0.05})
GRIDROBOMAN, BABYAI, ATARI = BENCHES.values()


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("ablations")
    made.write_ablations(root, tasks=4)
    made.write_levels(root)
    return root


@pytest.fixture(scope="module")
def results(project):
    return load_results("laptop", project)


@pytest.fixture(scope="module")
def page(project):
    """(folder, text) of its report."""
    text, _ = build(project)
    return project / "reports" / "laptop", plain(text)


def outcomes(results, root):
    settings, claims = load_claims(root / "config" / "claims.yaml")
    return {o.claim.id: o for o in evaluate_claims(claims, settings, results, load_sections())}


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_differences_by_hand(results):
    found = compare(results, GRIDROBOMAN, Agent("ablations", "a3-short"), GRIDROBOMAN.full, made.MAIN).interval(0.95)
    assert found.estimate == pytest.approx(0.35 - 0.50)
    assert found.high - found.estimate == pytest.approx(HALF, abs=1e-5)
    found = compare(results, BABYAI, Agent("ablations-babyai", "one-best"), BABYAI.full, "6-levels-800-episodes")
    assert found.interval(0.95).estimate == pytest.approx(39.5 - 40)
    assert found.interval(0.95).high == pytest.approx(-0.5 + 100 * HALF, abs=1e-3)


def test_claims_by_hand(results, project):
    said = outcomes(results, project)

    def is_(name, outcome, estimate):
        assert said[name].verdict.outcome == outcome, name
        assert said[name].interval.estimate == pytest.approx(estimate), name

    is_("C2-A1-gridroboman", "supported", 0.02)  # no better than the base: the interval ends below the margin
    is_("C2-A1-full-gridroboman", "supported", 0.38)
    is_("C2-A2-gridroboman", "supported", 0.01)
    is_("C2-A3-gridroboman", "supported", 0.15)
    is_("C2-A4-gridroboman", "inconclusive", 0.01)
    is_("C2-A5-full-gridroboman", "supported", 0.37)
    is_("C2-A5-base-gridroboman", "supported", 0.03)
    is_("C2-A6-gridroboman", "supported", 0.05)
    is_("C2-A4-babyai", "supported", 7.0)
    is_("C2-A5-base-babyai", "supported", 3.0)
    is_("Q9-slots", "contradicted", -0.06)  # on the smaller task set, where eight slots are planned
    is_("Q9-bottleneck", "supported", 0.30)
    is_("Q10", "inconclusive", -1.0)
    is_("Q11-gridroboman", "contradicted", -0.20)
    is_("Q11-babyai", "supported", -0.5)
    is_("Q13", "supported", 0.03)
    for name in ("C2-A1", "C2-A6"):  # Atari's
        assert said[name].verdict.outcome == "not tested at this scale"
    assert said["Q9-slots"].claim.test["task_set"] == made.SMALL
    assert said["C2-A1-gridroboman"].claim.test["task_set"] == made.MAIN


def test_claims_flip_with_the_numbers(tmp_path):
    only = ("dqn", "ra-dqn", "a1-direct", "a3-short", "a5-masking-alone")
    made.write_ablations(tmp_path, tasks=2, only=only, a1_direct=0.30, a3_short=0.55, a5_masking_alone=0.05)
    said = outcomes(load_results("laptop", tmp_path), tmp_path)
    assert said["C2-A1-gridroboman"].verdict.outcome == "contradicted"  # better than the base by 0.2
    assert said["C2-A3-gridroboman"].verdict.outcome == "contradicted"
    assert said["C2-A5-base-gridroboman"].verdict.outcome == "contradicted"


def test_claims_wait_for_the_other_experiments_runs(results, project):
    planned = [*results.runs["run"], "babyai/6-levels-800-episodes/rdqn/seed-9"]
    said = outcomes(load_results("laptop", project, planned), project)
    assert said["C2-A1-babyai"].preliminary
    assert not said["C2-A1-full-babyai"].preliminary


def test_every_agent_of_a_claim_is_a_variant():
    _, claims = load_claims(synthetic.PROJECT / "config" / "claims.yaml")
    for claim in claims:
        for which in ("a", "b"):
            if claim.side(which) is not None:
                experiment, variant = claim.side(which)
                known = made.variants_of(experiment)
                assert variant in known or any(name.startswith(variant.removesuffix("*")) for name in known), claim.id


# --- what may be compared ---------------------------------------------------------------------------------------------


def test_agents_of_another_experiment_must_have_the_same_settings(tmp_path):
    made.write_levels(tmp_path, seeds=2, learning={"n_step": 4})
    results = load_results("laptop", tmp_path)
    agent = Agent("ablations-babyai", "a3-short")
    sets = task_sets(results, BABYAI)
    assert faults(results, agent, BABYAI.full, sets[0]) == ["learning.n_step 4 against 1"]
    assert compare(results, BABYAI, agent, BABYAI.full, sets[0]) is None
    assert compare(results, BABYAI, agent, Agent("ablations-babyai", "one-best"), sets[0]) is not None
    text = plain(build(tmp_path)[0])
    assert (
        "Not comparable with RDQN of experiment babyai: the variants differ in learning.n&#95;step 4 against 1." in text
    )
    assert [name for name in drawn(tmp_path / "reports" / "laptop", "ablations-babyai") if name.startswith("A-")] == [
        "A-2: nothing retrieved"  # of experiment babyai itself
    ]
    said = outcomes(results, tmp_path)
    assert said["C2-A3-babyai"].verdict.outcome == "not tested"
    assert not [e for e in effects(results, BABYAI, SETTINGS) if e.change.kind == "part"]


def test_the_page_says_where_agents_come_from(page):
    text = section(page[1], "Ablations: BabyAI")
    assert "From experiment babyai: RDQN; RA-RDQN, own level; A-2: nothing retrieved. By the records of" in text
    assert "Not comparable" not in text


def test_an_agent_of_another_experiment_is_a_variant_too(results, project, page):
    agents = compared(results, BABYAI, "6-levels-800-episodes")
    assert agents[:2] == [BABYAI.base, BABYAI.full]
    named = [part_of(BABYAI, agent) for agent in agents[2:]]
    assert named == [*PAPER, *(name for name in BEYOND if name in made.LEVELS)]  # in the order of the paper
    assert agents[2:][named.index("a2-nothing-retrieved")] == Agent("babyai", "no-retrieval")
    said = outcomes(results, project)
    assert said["C2-A2-babyai"].interval.estimate == pytest.approx(1.0)
    assert said["C2-A2-full-babyai"].interval.estimate == pytest.approx(9.0)
    assert "A-2: nothing retrieved" in drawn(page[0], "ablations-babyai")


# --- grid and values --------------------------------------------------------------------------------------------------


def test_the_grid_is_read_from_configurations(results):
    cells = grid(results, GRIDROBOMAN, made.SMALL)
    assert list(cells) == [(i, j) for i in (5, 10, 20) for j in (5, 10, 20)]
    assert cells[5, 20] == Agent("ablations", "a6-5-20")
    assert grid(results, GRIDROBOMAN, made.MAIN) == {}
    score, change = draw.grid_values(results, GRIDROBOMAN, made.SMALL, 0.95)[5, 20]
    assert score.estimate == pytest.approx(0.46)
    assert change.estimate == pytest.approx(-0.04)
    assert draw.mark(change) == " ▼"


def test_a_value_out_of_two_variants_is_taken_once(results):
    values = dose(results, GRIDROBOMAN, "slots-*", made.SMALL)
    assert list(values) == [1, 4, 8]
    assert values[1] == GRIDROBOMAN.full  # it stands for the value that it has
    assert list(dose(results, GRIDROBOMAN, "beta-*", made.SMALL)) == [0, 0.01, 0.3]
    assert dose(results, GRIDROBOMAN, "beta-*", made.MAIN) == {}


def test_tuning_by_hand(tmp_path):
    """Two cells beside the fixed one; seed 0 is an outlier of the first, which the others do not choose."""
    synthetic.write_project(tmp_path)
    data = synthetic.write_manifests(tmp_path, "laptop", TASKS)
    scores = {"a6-5-5": [0.9, 0.1, 0.1], "a6-10-10": [0.3, 0.3, 0.3], "a6-20-20": [0.4, 0.2, 0.36]}
    for variant, levels in scores.items():
        for seed, level in enumerate(levels):
            made.write_run(
                tmp_path, "ablations", "10-tasks", variant, seed, level - made.BY_SEED[seed], TASKS[:2], data=data
            )
    results = load_results("laptop", tmp_path)
    fixed = fixed_cell(results, GRIDROBOMAN, "10-tasks")
    assert fixed == Agent("ablations", "a6-10-10")
    # Without seed 0 the means are 0.1, 0.3, 0.28: 10/10. Without 1: 0.5, 0.3, 0.38: 5/5. Without 2: 0.5, 0.3, 0.3: 5/5.
    samples = tuned(results, GRIDROBOMAN, fixed, "10-tasks")
    assert samples.a == pytest.approx({0: 0.3, 1: 0.1, 2: 0.1})
    assert samples.b == pytest.approx({0: 0.3, 1: 0.3, 2: 0.3})
    assert samples.design == "paired"
    assert samples.detail == "Chosen by the seeds left, k_traj/k_states: 5/5 (2 of 3), 10/10 (1 of 3)."


def test_tuning_needs_two_seeds_and_two_cells(tmp_path):
    synthetic.write_project(tmp_path)
    data = synthetic.write_manifests(tmp_path, "laptop", TASKS)
    for variant in ("a6-10-10", "a6-5-5"):
        made.write_run(tmp_path, "ablations", "10-tasks", variant, 0, 0.5, TASKS[:2], data=data)
    text = plain(build(tmp_path)[0])
    assert "What tuning gives could not be computed" in text
    assert "No variant but rows of values has a usable run." in text


# --- the page ---------------------------------------------------------------------------------------------------------


def test_tables_hold_the_numbers(page):
    folder, text = page
    table = pd.read_csv(folder / "tables" / "ablations.csv").set_index("variant")
    assert table.loc["one-best", "less_base"] == pytest.approx(0.20)
    assert table.loc["one-best", "less_full"] == pytest.approx(-0.20)
    readings = {"a4-masking": "same", "retriever-first": "costs", "told-actions-and-rewards": "helps"}
    assert table.loc[list(readings), "reading"].to_dict() == readings
    assert "| A-4: masking loss added | 5 | 0.510 [0.490, 0.530] | +0.410 [+0.387, +0.433] | " \
           "+0.010 [−0.013, +0.033] | no visible difference |" in text  # fmt: skip
    assert (
        "9 comparisons at 95 %, not corrected: if nothing made a difference, about 0.5 would still not hold 0." in text
    )
    assert "Short trajectories have 5 steps in a row." in text
    values = pd.read_csv(folder / "tables" / "ablations-values-10-tasks.csv")
    assert values["value"].tolist() == [1, 4, 8, 0, 0.01, 0.3]
    cells = pd.read_csv(folder / "tables" / "ablations-grid-10-tasks.csv")
    assert (len(cells), cells["score"].max()) == (9, pytest.approx(0.50))
    assert "RA-DQN keeps 32, by return, and 64 states." in text
    assert "Tuned, against 10 and 10: +0.050 [+0.050, +0.050]" in text


def test_figures_name_agents_and_groups(page):
    names = drawn(page[0], "ablations")
    assert [n for n in names if n.startswith("A-")] == [
        "A-1: the state asks, no slots", "A-2: nothing retrieved", "A-3: short trajectories", "A-4: masking loss added",
        "A-5: masking auxiliary alone",
    ]  # fmt: skip
    assert {"The paper's ablations", "Beyond the paper", "DQN", "RA-DQN", "retriever first, then frozen"} <= set(names)
    assert {"RDQN", "slots not carried"} <= set(drawn(page[0], "ablations-babyai"))
    assert {"1 (RA-DQN)", "4", "8", "0.3"} <= set(drawn(page[0], "ablations-values-10-tasks"))
    assert {"0.40", "−0.10 ▼", "+0.00"} <= set(drawn(page[0], "ablations-grid-10-tasks"))


def test_claims_of_other_environments_are_counted_apart(page):
    first = page[1].splitlines()[0]
    assert "Of 27 claims of the paper: " in first
    assert "Of 17 claims that it made of another environment: 16 supported, 1 inconclusive." in first
    assert "**Claims that the paper made of another environment, tried here:**" in page[1]


def test_the_story_takes_part(page):
    text = page[1][page[1].index("\n## What matters\n") : page[1].index("\n## Claims of the paper\n")]
    assert "**One slot that reads the single best trajectory.** Gridroboman, 30 tasks, ablations " \
           "−0.200 [−0.223, −0.177], 50 % of the gain." in text  # fmt: skip
    assert "**Number of slots: 8 in the place of 1.**" in text
    assert "**Weight β of the bottleneck: 0.01 in the place of 0.**" in text
    assert "(Gridroboman ±0.05 of the expert's return; BabyAI ±5 percentage points)" in text


def test_what_retrieval_adds_is_told_by_the_experiment_that_ran_it(results):
    def gains(experiment):
        found = effects(results, BENCHES[experiment], SETTINGS)
        return [(e.where, e.task_set) for e in found if e.change == RETRIEVAL]

    assert gains("ablations") == [("Gridroboman, 30 tasks, ablations", "30-tasks")]
    assert gains("ablations-babyai") == []  # its base and full agent are those of experiment babyai


def test_brackets_of_costs_are_explained(page):
    assert "What each variant costs (in brackets: relative to RA-DQN)" in page[1]
    assert "<summary>What each variant costs</summary>" in page[1]  # BabyAI's: the agent to compare with is elsewhere


def test_choices_of_all_leave_out_what_variants_change(page):
    """The rows of values are not the settings of an experiment."""
    assert "A-6, grid" in page[1]
    rows = [line for line in page[1].splitlines() if line.startswith("| Number of slots |")]
    assert rows
    assert "Ablations: Gridroboman: 1" not in rows[0]


def test_choices_may_be_about_several_experiments(page):
    assert "| A-1, the state asks |" in page[1]
    assert "| Ablations: Gridroboman: Budget of the ablations |" in page[1]
    assert "Tasks held out" not in page[1]


# --- missing and broken parts -----------------------------------------------------------------------------------------


def test_without_the_base_agent(tmp_path):
    synthetic.write_project(tmp_path)
    data = synthetic.write_manifests(tmp_path, "laptop", TASKS)
    for variant, level in (("ra-dqn", 0.5), ("a2-nothing-retrieved", 0.1)):
        for seed in range(5):
            made.write_run(tmp_path, "ablations", made.MAIN, variant, seed, level, TASKS[:2], data=data)
    text = plain(build(tmp_path)[0])
    assert "No usable run of DQN that the variants could be set against: no figure." in text
    assert "| A-2: nothing retrieved | 5 | 0.100 [0.080, 0.120] | – | −0.400 [−0.423, −0.377] | costs |" in text
    assert "**Nothing retrieved, slots kept (A-2).** Gridroboman, 30 tasks, ablations −0.400 [−0.423, −0.377]." in text
    assert "of the gain" not in text.split("## What matters")[1].split("## Claims")[0].split("base agent there.")[1]


def test_one_seed_tells_nothing(tmp_path):
    made.write_ablations(tmp_path, seeds=1, tasks=1, only=("dqn", "ra-dqn", "a1-direct"))
    text = plain(build(tmp_path)[0])
    assert "CI n/a (n=1)" in text
    assert "| A-1: the state asks, no slots | 1 | 0.100, CI n/a (n=1) | +0.020, CI n/a (n=1) |" in text
    assert "cannot be told |" in text
    story = text[text.index("\n## What matters\n") : text.index("\n## Claims of the paper\n")]
    assert "### What retrieval adds" not in story
    assert "No change of the agent that was tried costs anything that these runs can show." in story
    assert "✓" not in text


def test_failed_runs_and_unknown_variants(tmp_path):
    synthetic.write_project(tmp_path)
    data = synthetic.write_manifests(tmp_path, "laptop", TASKS)
    names = [made.write_run(tmp_path, "ablations", made.MAIN, variant, seed, 0.3, TASKS[:2], data=data)
             for variant in ("dqn", "ra-dqn", "unheard|of") for seed in range(2)]  # fmt: skip
    path = tmp_path / "results/laptop/runs" / names[0] / "run.json"
    write_json(path, json.loads(path.read_text()) | {"status": "failed", "reason": "killed"})
    text = plain(build(tmp_path, planned_runs=[*names, f"ablations/{made.MAIN}/one-best/seed-0"])[0])
    assert "| unheard&#124;of | 2 |" in text
    assert "| DQN | 1 |" in text
    assert "| ablations/30-tasks/dqn | 2 | 1 | 1 | 0 | 0 | 0 | 0 |" in text
    assert "No usable run yet: nothing to show." not in text


def test_smoke_tells_no_story(tmp_path):
    made.write_ablations(tmp_path, seeds=2, tasks=1, scale="smoke", only=("dqn", "ra-dqn", "a1-direct"))
    text, _ = build(tmp_path, "smoke")
    assert "## What matters" not in text
    assert "## Ablations: Gridroboman" in text
    assert "smoke: not a result" in (tmp_path / "reports/smoke/figures/ablations.svg").read_text()


# --- Atari ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def games(tmp_path_factory):
    root = tmp_path_factory.mktemp("games")
    made.write_games(root)
    return root


def test_games_are_compared_on_what_both_played(games):
    results = load_results("workstation", games)
    assert task_sets(results, ATARI) == [EVERY]
    a4 = compare(results, ATARI, Agent("ablations-atari", "a4-masking"), ATARI.full, EVERY).interval(0.95)
    assert a4.estimate == pytest.approx(0.02)
    # The grid is on one game; RA-R2D2 stands for 10 and 10 there.
    cells = grid(results, ATARI, EVERY)
    assert list(cells) == [(5, 5), (20, 20)]  # 10 is no value of the variants here
    samples = tuned(results, ATARI, ATARI.full, EVERY)
    assert samples.interval(0.95).estimate == pytest.approx(0.20 - 0.16)
    assert samples.detail == "Chosen by the seeds left on 1 game, k_traj/k_states: 5/5 (5 of 5)."


def test_the_papers_own_claims_at_a_larger_scale(games):
    said = outcomes(load_results("workstation", games), games)
    assert said["C2-A1"].verdict.outcome == "supported"
    assert said["C2-A1"].claim.test["task_set"] == EVERY
    assert said["C2-A6"].interval.estimate == pytest.approx(0.04)
    assert said["C2-A3"].verdict.outcome == "not tested at this scale"  # not planned
    text = plain(build(games, "workstation")[0])
    assert "From experiment atari: R2D2; RA-R2D2." in section(text, "Ablations: Atari")
    assert "Atari: difference from R2D2 (line at 0), mean over games." in text


def test_the_band_is_the_full_agents_interval(results):
    figure = draw.relative(results, GRIDROBOMAN, made.MAIN)
    (band,) = [p for p in figure.axes[0].patches if p.get_alpha() == 0.1]
    ends = np.array(band.get_extents().transformed(figure.axes[0].transData.inverted()))
    assert (ends[0, 0], ends[1, 0]) == (pytest.approx(0.4 - HALF, abs=1e-4), pytest.approx(0.4 + HALF, abs=1e-4))
    assert math.isclose(figure.axes[0].lines[-2].get_xdata()[0], 0.0)  # the base agent's line
