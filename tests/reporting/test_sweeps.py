"""Ablations, sweeps and grids: by configuration, cross-fitted, on every environment."""

from __future__ import annotations

import pytest

from rarl.reporting.claims import EVERY
from rarl.reporting.sweeps import cells_of, paper_cell, tuned
from tests.reporting import synthetic as made
from tests.reporting.built import build, outcomes, study_of, table

MAIN, SMALL = "30-tasks", "10-tasks"
ABLATIONS = {
    "dqn": 0.10, "ra-dqn": 0.50, "a1-direct": 0.12, "a2-nothing-retrieved": 0.11, "a3-short": 0.35, "a4-masking": 0.51,
    "a5-masking-alone": 0.13, "one-best": 0.30, "told-actions-and-rewards": 0.58, "retriever-first": 0.47,
}  # fmt: skip
GRID = {f"a6-{i}-{j}": 0.40 + 0.02 * a + 0.03 * b for a, i in enumerate((5, 10, 20)) for b, j in enumerate((5, 10, 20))}
VALUES = {"slots-4": 0.52, "slots-8": 0.44, "beta-0.01": 0.50, "beta-0.3": 0.20}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("ablations")
    made.write_runs(root, "ablations", MAIN, ABLATIONS, made.BOARDS[:2])
    made.write_runs(root, "ablations", SMALL, {"ra-dqn": 0.50} | GRID | VALUES, made.BOARDS[:1])
    build(root)
    return root


def test_claims_by_hand(root):
    said = outcomes(root)

    def is_(name, outcome, estimate):
        assert said[name].verdict.outcome == outcome, name
        assert said[name].interval.estimate == pytest.approx(estimate), name

    is_("C2-A1-gridroboman", "supported", 0.02)  # no better than the base: the interval ends below the margin
    is_("C2-A1-full-gridroboman", "supported", 0.38)
    is_("C2-A3-gridroboman", "supported", 0.15)
    is_("C2-A4-gridroboman", "equivalent within the margin", 0.01)
    is_("C2-A5-base-gridroboman", "inconclusive", 0.03)  # p 0.017 alone
    is_("C2-A6-gridroboman", "supported", 0.05)
    is_("Q9-slots", "contradicted", -0.06)
    is_("Q9-bottleneck", "supported", 0.30)
    is_("Q11-gridroboman", "contradicted", -0.20)
    is_("Q13", "inconclusive", 0.03)
    assert said["C2-A1"].verdict.outcome == "not tested"  # Atari's
    assert said["Q9-slots"].claim.test.task_set == SMALL  # the one on which eight slots are planned
    assert said["C2-A1-gridroboman"].claim.test.task_set == MAIN


def test_claims_flip_with_the_numbers(tmp_path):
    levels = {"dqn": 0.10, "ra-dqn": 0.50, "a1-direct": 0.30, "a3-short": 0.55, "a5-masking-alone": 0.05}
    made.write_runs(tmp_path, "ablations", MAIN, levels, made.BOARDS[:1])
    said = outcomes(tmp_path)
    for name in ("C2-A1-gridroboman", "C2-A3-gridroboman", "C2-A5-base-gridroboman"):
        assert said[name].verdict.outcome == "contradicted"


def test_the_table_of_ablations(root):
    rows = table(root / "reports/laptop", "ablations-differences", "task_set", "variant")
    row = rows.loc[MAIN, "one-best"]
    assert row["agent"] == "one trajectory by attention"
    assert row[["delta_base", "delta"]].tolist() == pytest.approx([0.2, -0.2])
    readings = {"a4-masking": "same", "retriever-first": "open", "told-actions-and-rewards": "helps"}
    assert rows.loc[MAIN].loc[list(readings), "reading"].to_dict() == readings


def test_cells_are_read_from_configurations(root):
    study = study_of(root, "ablations")
    cells = cells_of(study, "amounts", SMALL)
    assert list(cells) == [(i, j) for i in (5, 10, 20) for j in (5, 10, 20)]
    assert cells[5, 20].name == "a6-5-20"
    assert paper_cell(study, "amounts", SMALL).name == "a6-10-10"
    slots = cells_of(study, "slots", SMALL)
    assert list(slots) == [(1,), (4,), (8,)]
    assert slots[1,] is study.full  # it stands for the value that it has; in the grid it chooses in another way
    assert cells_of(study, "beta", MAIN) == {}
    rows = table(root / "reports/laptop", "ablations-sweeps", "sweep", "value")
    assert rows.loc["beta"].index.tolist() == [0, 0.01, 0.3]
    assert rows.loc[("beta", 0.3), ["delta", "reading"]].tolist() == [pytest.approx(-0.3), "costs"]


def test_tuning_by_hand(tmp_path):
    """Two cells beside the fixed one; seed 0 is an outlier of the first, which the others do not choose."""
    made.write_project(tmp_path)
    scores = {"a6-5-5": [0.9, 0.1, 0.1], "a6-10-10": [0.3, 0.3, 0.3], "a6-20-20": [0.4, 0.2, 0.36]}
    for variant, levels in scores.items():
        for seed, level in enumerate(levels):
            run = f"ablations/{SMALL}/{variant}/seed-{seed}"
            made.write_run(tmp_path, run, level - made.BY_SEED[seed], made.BOARDS[:2])
    study = study_of(tmp_path, "ablations")
    # Without seed 0 the means are 0.1, 0.3, 0.28: 10/10. Without 1: 0.5, 0.3, 0.38: 5/5. Without 2: 0.5, 0.3, 0.3: 5/5.
    samples = tuned(study, "amounts", study.variants["a6-10-10"], SMALL)
    assert samples.a == pytest.approx({0: 0.3, 1: 0.1, 2: 0.1})
    assert samples.b == pytest.approx({0: 0.3, 1: 0.3, 2: 0.3})
    assert samples.design == "paired"
    assert samples.detail.endswith("k_traj/k_states: 5/5 (2 of 3), 10/10 (1 of 3).")


def test_games_are_tuned_one_by_one_on_what_was_played(tmp_path):
    changes = made.PLAYED | {"agent": {"retrieval": {"select_by": "attention"}}}
    for game in ("breakout", "pong"):
        made.write_runs(tmp_path, "atari", game, {"r2d2": 0.10, "ra-r2d2": 0.16}, [game], changes=changes)
        more = {"a6-5-5": 0.20, "a6-20-20": 0.05} if game == "pong" else {}
        levels = {"a1-direct": 0.10, "a4-masking": 0.18} | more
        made.write_runs(tmp_path, "ablations-atari", game, levels, [game], changes=changes)
    study = study_of(tmp_path, "ablations-atari")
    assert study.compare(study.variants["a4-masking"], study.full, EVERY).interval().estimate == pytest.approx(0.02)
    assert list(cells_of(study, "amounts", EVERY)) == [(5, 5), (20, 20)]  # 32 of RA-R2D2 are no value of the variants
    samples = tuned(study, "amounts", study.full, EVERY)
    assert samples.interval().estimate == pytest.approx(0.20 - 0.16)
    assert samples.detail.startswith("Chosen by the other seeds on 1 game,")


def test_tuning_needs_two_seeds_and_two_cells(tmp_path):
    made.write_runs(tmp_path, "ablations", SMALL, {"a6-10-10": 0.5, "a6-5-5": 0.4}, made.BOARDS[:1], seeds=1)
    study = study_of(tmp_path, "ablations")
    assert tuned(study, "amounts", study.variants["a6-10-10"], SMALL) is None
    build(tmp_path)


def test_without_the_base_agent(tmp_path):
    made.write_runs(tmp_path, "ablations", MAIN, {"ra-dqn": 0.5, "a2-nothing-retrieved": 0.1}, made.BOARDS[:2])
    build(tmp_path)
    folder = tmp_path / "reports/laptop"
    rows = table(folder, "ablations-differences", "variant")
    assert rows.loc["a2-nothing-retrieved", ["delta", "reading"]].tolist() == [pytest.approx(-0.4), "costs"]
    assert rows["delta_base"].isna().all()
    assert table(folder, "effects")["share_of_gain"].isna().all()
