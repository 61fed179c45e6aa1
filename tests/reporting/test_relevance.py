"""Rare relevance, held-out tasks and the cost of an index: by their tables, claims and effects."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from rarl.reporting import figures
from rarl.reporting.claims import Rules
from rarl.reporting.rules import Judged
from rarl.reporting.sections.relevance import INDEX_COST, chance, share_of, write_distractors
from rarl.reporting.sheet import Sheet
from rarl.reporting.statistics import SHARES as FROM_0_TO_1
from tests.reporting import synthetic as made
from tests.reporting.built import build, outcomes, study_of, table

SHARES = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003)
RETURNS = {"uniform": (0.50, 0.49, 0.42, 0.23, 0.14, 0.11), "index": (0.48, 0.48, 0.47, 0.45, 0.40, 0.30)}
OTHER_WAY = {"uniform": ("index", (0.47, 0.45, 0.40, 0.30, 0.20, 0.15)),
             "index": ("uniform", (0.46, 0.42, 0.35, 0.2, 0.13, 0.11))}  # fmt: skip
RECALL = {"uniform": (1.0, 0.8, 0.6, 0.4, 0.3, 0.1), "index": (1.0, 1.0, 0.98, 0.95, 0.9, 0.7)}
TASKS = made.BOARDS[:1]
AMONG = {
    200: 0.40,
    200_000: 0.25,
}  # trajectories, one of them relevant -> score with what was learned; 0.1 less without


def name_of(share: float, way: str = "") -> str:
    """ "share-0.01", "share-0.01-index" """
    return f"share-{share:g}" + (f"-{way}" if way else "")


def write(root, returns=RETURNS):
    """Both ways to find a retrieval batch, probed at every share."""
    for variant, levels in returns.items():
        kind = variant.partition("-")[0]
        names = made.write_runs(root, "relevance", "10-tasks", {variant: levels[0]}, TASKS)
        way, other = OTHER_WAY[kind]
        rows = dict(zip(map(name_of, SHARES), levels, strict=True))
        rows |= {name_of(share, way): level for share, level in zip(SHARES, other, strict=True)}
        rows |= {f"among-{n}": level for n, level in AMONG.items()}
        rows |= {f"among-{n}-{other}": level - 0.1 for n, level in AMONG.items() for other in (way, "none")}
        made.write_interventions(root, names, made.same(rows | {"share-0": 0.09, "removed": 0.10}, TASKS))
        found = [(task, f"{name_of(share)}/{what}", value) for task in TASKS
                 for share, best in zip(SHARES, RECALL[kind], strict=True)
                 for what, value in (("recall@10", best), ("mrr", 0.6 * best))]  # fmt: skip
        found += [(task, f"among-{n}/recall@10", level / 2) for task in TASKS for n, level in AMONG.items()]
        made.write_attention(root, names, found)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("relevance")
    write(root)
    rows = [(kind, n, 1e-7 * n, 1e-5 * n, 3e-5 * n, 1e-4 * n, 1.0, 2e-5 * n, 1) for kind in ("exact", "ivf", "new|kind")
            for n in (1000, 10_000)]  # fmt: skip
    made.write_frame(root / "results/laptop/index-cost.csv", pd.DataFrame(rows, columns=list(INDEX_COST)))
    build(root)
    return root


def test_names_of_shares():
    assert share_of("share-0.003") == (0.003, "")
    assert share_of("share-0.01-index") == (0.01, "index")
    assert share_of("removed") is None
    assert share_of("among-200") is None
    assert share_of("among-200-index", "among") == (200, "index")
    assert (name_of(1.0), name_of(0.003, "uniform")) == ("share-1", "share-0.003-uniform")


@pytest.mark.parametrize(("what", "share"), [("recall@10", 0.1), ("recall@1", 0.3), ("mrr", 0.3), ("mrr", 1.0)])
def test_chance_equals_random_orders(what, share):
    """Against orders that were really drawn."""
    rng, n, found = np.random.default_rng(0), 300, []
    relevant = round(share * n)
    for _ in range(4000):
        hits = rng.permutation(n) < relevant
        k = int(what.split("@")[1]) if "@" in what else 0
        found.append(1 / (1 + int(np.argmax(hits))) if what == "mrr" else hits[:k].sum() / min(k, relevant))
    assert chance(what, share, n) == pytest.approx(np.mean(found), abs=0.015)


def test_chance_with_fewer_relevant_ones_than_places():
    # 12 of 4,000 are relevant; a random order has 64 * 12 / 4000 of them among 64, of 12 that could be there.
    assert chance("recall@64", 0.003, 4000) == pytest.approx(64 / 4000)
    assert math.isnan(chance("another", 0.1, 4000))


def test_claims_by_hand(root):
    said = outcomes(root)
    expected = {"Q14-uniform": (0.36, (5,)), "Q14-index": (0.26, (5, 5)), "Q14-index-all": (-0.02, (5, 5)),
                "Q14-acting": (0.27, (5,)), "Q14-late": (0.06, (5,)), "Q14-recall": (0.60, (5, 5))}  # fmt: skip
    for name, (estimate, n) in expected.items():
        assert said[name].interval.estimate == pytest.approx(estimate), name
        assert (said[name].verdict.outcome, said[name].interval.n) == ("supported", n), name


def test_tables_by_hand(root):
    folder = root / "reports/laptop"
    rows = table(folder, "relevance-share", "variant", "seed").query("share == 0.01").set_index("way", append=True)
    assert rows.loc[("uniform", 2, "index"), "score"] == pytest.approx(0.20)
    assert rows.loc["index"].xs(math.nan, level="way")["score"].mean() == pytest.approx(0.4)
    rows = table(folder, "relevance-found", "variant", "share", "quantity")
    assert rows.loc[("index", 0.003, "recall@10"), "value"] == pytest.approx(0.70)
    assert len(table(folder, "relevance-index-cost")) == 6


def test_one_relevant_trajectory_among_many(root):
    said = outcomes(root)
    assert said["Q28-worth"].interval.estimate == pytest.approx(0.1)
    assert said["Q28-lost"].interval.estimate == pytest.approx(0.15)
    rows = table(root / "reports/laptop", "relevance-among", "variant", "trajectories", "seed").loc["index"]
    off, own = made.BY_SEED[3], rows["way"].isna()
    assert rows[own].loc[(200_000, 3), "score"] == pytest.approx(0.25 + off)
    assert rows[rows["way"] == "uniform"].loc[(200, 3), "score"] == pytest.approx(0.30 + off)
    assert rows[own].loc[200_000, "recall@10"].mean() == pytest.approx(0.125)


def test_what_is_found_is_a_share_whatever_scores_are(root, tmp_path, monkeypatch):
    study, drawn = study_of(root, "relevance"), []
    monkeypatch.setattr(figures, "curves", lambda *args: drawn.append(args[-1]))
    with figures.style():
        write_distractors(study, Sheet(tmp_path, study.results, Judged(Rules())))
    assert drawn == [study.bounds, FROM_0_TO_1] != [FROM_0_TO_1] * 2


def test_runs_that_were_not_probed(tmp_path):
    made.write_runs(tmp_path, "relevance", "10-tasks", {"uniform": 0.5}, TASKS, seeds=1)
    made.write_runs(tmp_path, "held-out", "24-tasks", {"ra-dqn": 0.5}, TASKS, seeds=1)
    build(tmp_path)
    assert not list((tmp_path / "reports/laptop/figures").iterdir())


# --- held-out tasks ---------------------------------------------------------------------------------------------------

NEW = made.BOARDS[5::5]  # five of thirty


def write_held_out(root, own=0.30):
    learned = [task for task in made.BOARDS if task not in NEW]
    changes = {"held_out": list(NEW)}
    names = made.write_runs(root, "held-out", "24-tasks", {"dqn": 0.11, "ra-dqn": 0.50}, learned, changes=changes)
    rows = made.same({"own": 0.50}, learned)
    for i, task in enumerate(NEW):
        rows[("held-out", task, task)] = own + 0.05 * (i - 2)
        rows[("held-out-removed", task, task)] = 0.10
        rows |= {("held-out-swapped", task, given): 0.12 for given in learned[i::8]}
    made.write_interventions(root, [name for name in names if "/ra-dqn/" in name], rows)


def test_held_out_tasks_by_hand(tmp_path):
    write_held_out(tmp_path)
    said = outcomes(tmp_path)
    for name, estimate in (("Q15-removed", 0.20), ("Q15-swapped", 0.18)):
        assert said[name].verdict.outcome == "supported"
        assert said[name].interval.estimate == pytest.approx(estimate)
    assert said["Q15-kept"].samples.a == pytest.approx(
        {s: (0.30 + off) / (0.50 + off) for s, off in enumerate(made.BY_SEED)}
    )
    path = tmp_path / "config/experiments/held-out.yaml"
    path.write_text(path.read_text().replace("report: [held-out]", "report: [tasks, held-out]"))
    build(tmp_path)
    folder = tmp_path / "reports/laptop"
    assert len(table(folder, "held-out-tasks")) == 2 * 5 * 25  # the other part's
    rows = table(folder, "held-out-zero-shot", "intervention", "task", "seed")
    assert rows.loc[("held-out", "red-on-green", 2), "score"] == pytest.approx(0.40)


def test_held_out_tasks_flip_with_the_numbers(tmp_path):
    write_held_out(tmp_path, own=0.05)
    assert outcomes(tmp_path)["Q15-removed"].verdict.outcome == "contradicted"
