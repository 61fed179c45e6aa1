"""Rare relevance: shares, chance, where uniform sampling breaks, what an index makes of it, and what it costs."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from rarl.envs.gridroboman.tasks import TASKS
from rarl.reporting import figures
from rarl.reporting.claims import Settings, evaluate_claims, load_claims
from rarl.reporting.results import load_results
from rarl.reporting.sections import load_sections
from rarl.reporting.sections import relevance_figures as draw
from rarl.reporting.sections import relevance_measures as measures
from tests.reporting import synthetic
from tests.reporting import synthetic_ablations as made
from tests.reporting.built import build, drawn, plain, section

SETTINGS = Settings(margins={"gridroboman": 0.05})


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("relevance")
    made.write_relevance(root, tasks=2)
    return root


@pytest.fixture(scope="module")
def results(project):
    return load_results("laptop", project)


@pytest.fixture(scope="module")
def page(project):
    text, _ = build(project)
    return project / "reports" / "laptop", plain(text)


def outcomes(root):
    settings, claims = load_claims(root / "config" / "claims.yaml")
    found = evaluate_claims(claims, settings, load_results("laptop", root), load_sections())
    return {outcome.claim.id: outcome for outcome in found}


def test_names_of_shares():
    assert measures.share_of("share-0.003") == (0.003, "")
    assert measures.share_of("share-1") == (1.0, "")
    assert measures.share_of("share-0.01-index") == (0.01, "index")
    assert measures.share_of("removed") is None
    assert measures.name_of(1.0) == "share-1"
    assert measures.name_of(0.003, "uniform") == "share-0.003-uniform"


@pytest.mark.parametrize(("what", "share"), [("recall@10", 0.1), ("recall@1", 0.3), ("mrr", 0.3), ("mrr", 1.0)])
def test_chance_equals_random_orders(what, share):
    """Against orders that were really drawn."""
    rng, n = np.random.default_rng(0), 300
    relevant = round(share * n)
    found = []
    for _ in range(4000):
        hits = rng.permutation(n) < relevant
        first = 1 + int(np.argmax(hits))
        k = int(what.split("@")[1]) if "@" in what else 0
        found.append(1 / first if what == "mrr" else np.count_nonzero(hits[:k]) / min(k, relevant))
    assert measures.chance(what, share, n) == pytest.approx(np.mean(found), abs=0.015)


def test_chance_with_fewer_relevant_ones_than_places():
    # 12 of 4,000 are relevant; a random order has 64 * 12 / 4000 of them among 64, of 12 that could be there.
    assert measures.chance("recall@64", 0.003, 4000) == pytest.approx(64 / 4000)
    assert measures.chance("relevant_in_batch", 0.1, 4000) == 0.1
    assert math.isnan(measures.chance("another", 0.1, 4000))


def test_what_relevance_is_worth(results, untaught):
    # (0.11 - 0.09) / (0.50 - 0.09) is left of it; at 0.1 it was (0.42 - 0.09) / 0.41, at 0.03 (0.23 - 0.09) / 0.41.
    text = measures.worth_text(results, made.MAIN, "uniform", SETTINGS)
    assert text.startswith(
        "Uniform sampling: 0.500 if all is relevant, 0.090 if nothing is, 0.100 with nothing retrieved. Relevance is "
        "worth +0.410"
    )
    assert text.endswith("at a share of 0.003 5 % of that is left, and less than half of it from 0.03 down.")
    text = measures.worth_text(results, made.MAIN, "index", SETTINGS)
    assert text.endswith("at a share of 0.003 54 % of that is left.")
    text = measures.worth_text(load_results("laptop", untaught), made.MAIN, "index-end-to-end", SETTINGS)
    assert "It does worse with what is relevant (−0.120" in text


def test_where_it_does_not_matter_what_is_retrieved(tmp_path):
    made.write_relevance(tmp_path, tasks=1, returns={"index-end-to-end": (0.62, 0.61, 0.6, 0.6, 0.6, 0.6)})
    results = load_results("laptop", tmp_path)
    text = measures.worth_text(results, made.MAIN, "index-end-to-end", SETTINGS)
    assert "So it makes no visible difference whether what is retrieved is relevant (+0.020" in text
    assert text.endswith("what retrieval adds nonetheless is not what relevant trajectories show.")
    page = section(plain(build(tmp_path)[0]), "Rare relevance")
    assert page.count("what it picks among any trajectories can tell the agent which one it is.") == 1
    few = replace(SETTINGS, min_seeds=6)
    assert "Whether relevance matters to it cannot be told (+0.020" in measures.worth_text(
        results, made.MAIN, "index-end-to-end", few
    )


def test_worth_needs_the_return_at_share_one(tmp_path):
    made.write_relevance(tmp_path, tasks=1, returns={"uniform": made.RETURNS["uniform"]})
    for file in tmp_path.glob("results/laptop/probes/relevance/**/interventions.csv"):
        rows = pd.read_csv(file)
        rows[rows["intervention"] != "share-0"].to_csv(file, index=False)
    results = load_results("laptop", tmp_path)
    text = measures.worth_text(results, made.MAIN, "uniform", SETTINGS)
    assert text == "Uniform sampling: 0.500 if all is relevant, 0.100 with nothing retrieved."
    for file in tmp_path.glob("results/laptop/probes/relevance/**/interventions.csv"):
        rows = pd.read_csv(file)
        rows[rows["intervention"] != "share-1"].to_csv(file, index=False)
    assert measures.worth_text(load_results("laptop", tmp_path), made.MAIN, "uniform", SETTINGS) == ""


def test_claims_by_hand(project):
    said = outcomes(project)

    def is_(name, outcome, estimate, n):
        found = said[name]
        assert (found.verdict.outcome, found.interval.n) == (outcome, n), name
        assert found.interval.estimate == pytest.approx(estimate), name

    is_("Q14-uniform", "supported", 0.36, (5,))
    is_("Q14-index", "supported", 0.26, (5, 5))
    is_("Q14-index-all", "supported", -0.02, (5, 5))
    is_("Q14-acting", "supported", 0.40 - 0.13, (5,))
    is_("Q14-late", "supported", 0.20 - 0.14, (5,))
    is_("Q14-recall", "supported", 0.60, (5, 5))


def test_claims_flip_with_the_numbers(tmp_path):
    made.write_relevance(
        tmp_path, tasks=1, returns={"uniform": made.RETURNS["index"], "index": made.RETURNS["uniform"]}
    )
    said = outcomes(tmp_path)
    assert said["Q14-index"].verdict.outcome == "contradicted"
    found = measures.effects(load_results("laptop", tmp_path), SETTINGS)
    assert [e.reading for e in found if e.change.kind == "repair"] == ["costs"]


def test_effects_name_where_it_begins(results):
    found = {e.change.what: e for e in measures.effects(results, SETTINGS)}
    first = found["Rare relevance, uniform sampling: a share of 0.1 is relevant"]  # 0.3 loses 0.01 only
    assert (first.reading, first.interval.estimate) == ("costs", pytest.approx(-0.08))
    assert found["Rare relevance, uniform sampling: a share of 0.01 is relevant"].reading == "costs"
    assert "Rare relevance, uniform sampling: a share of 0.03 is relevant" not in found
    nothing = found["Rare relevance, uniform sampling: nothing is relevant"]
    assert (nothing.reading, nothing.interval.estimate) == ("costs", pytest.approx(-0.41))
    repair = found["Where a share of 0.01 is relevant: exact index, in the place of uniform sampling"]
    assert (repair.reading, repair.interval.estimate) == ("helps", pytest.approx(0.26))


@pytest.fixture(scope="module")
def untaught(tmp_path_factory):
    """With networks that have learned without the loss that teaches the query."""
    root, returns = tmp_path_factory.mktemp("untaught"), made.RETURNS["index"]
    made.write_relevance(root, tasks=1, returns=made.RETURNS | {"index-end-to-end": returns})
    return root


def test_more_than_the_index_differs_where_the_query_is_not_taught(untaught):
    """Its difference from uniform sampling is no repair by an index."""
    found = measures.effects(load_results("laptop", untaught), SETTINGS)
    assert [e.change.what for e in found if e.change.kind == "repair"] == [
        "Where a share of 0.01 is relevant: exact index, in the place of uniform sampling"
    ]
    text = section(plain(build(untaught)[0]), "Rare relevance")
    assert "Exact index, paper's losses alone: two things differ, since uniform sampling has the loss" in text


def test_an_index_is_compared_with_uniform_sampling_of_the_same_losses(tmp_path):
    returns = made.RETURNS | {"index-end-to-end": made.RETURNS["index"], "uniform-end-to-end": made.RETURNS["uniform"]}
    made.write_relevance(tmp_path, tasks=1, returns=returns)
    found = measures.effects(load_results("laptop", tmp_path), SETTINGS)
    assert [(e.change.what, e.interval.estimate) for e in found if e.change.kind == "repair"] == [
        (
            f"Where a share of 0.01 is relevant: exact index{losses}, in the place of uniform sampling{losses}",
            pytest.approx(0.26),
        )
        for losses in ("", ", paper's losses alone")
    ]
    text = section(plain(build(tmp_path)[0]), "Rare relevance")
    assert "two things differ" not in text
    both = "exact index, paper's losses alone | uniform sampling, paper's losses alone"
    assert f"| {both} | 0.01 | 5 v 5 | +0.260" in text


def test_how_stale_keys_are(tmp_path):
    made.write_relevance(tmp_path, tasks=1)
    assert measures.staleness_text(load_results("laptop", tmp_path), made.MAIN, "index") == ""
    for seed, (early, late) in enumerate([(0.2, 0.8), (0.4, 1.0)]):
        path = tmp_path / f"results/laptop/runs/relevance/{made.MAIN}/index/seed-{seed}/training.csv"
        rows = {"update": [50, 100, 150], "index_stale_recall": [early, None, late], "index_refresh_seconds": 0.5}
        pd.DataFrame(rows).to_csv(path, index=False)
    text = measures.staleness_text(load_results("laptop", tmp_path), made.MAIN, "index")
    assert text.startswith("Exact index: its keys are computed anew every 50 updates, which takes 0.50 s.")
    assert text.endswith("the old ones had proposed 30 % at the first time and 90 % at the last (means over 2 seeds).")
    assert measures.staleness_text(load_results("laptop", tmp_path), made.MAIN, "uniform") == ""


def test_each_network_has_its_own_level_where_nothing_is_relevant(untaught):
    results = load_results("laptop", untaught)
    with figures.style():
        axes = draw.returns(results, made.MAIN).axes[0]
    levels = [line for line in axes.lines if list(line.get_xdata()) == [0, 1]]
    assert [line.get_color() for line in levels] == [
        draw.look(v).colour for v in ("uniform", "index", "index-end-to-end")
    ]
    assert [line.get_ydata()[0] for line in levels] == pytest.approx([0.09, 0.09, 0.60])


def test_page(page):
    text = section(page[1], "Rare relevance")
    assert "and less than half of it from 0.03 down." in text
    # 64 draws: 0.99^64 = 0.526, 0.997^64 = 0.825.
    assert "0.01: 0.6, and none in 53 % of batches; 0.003: 0.2, and none in 83 % of batches." in text
    assert "| exact index | uniform sampling | 0.01 | 5 v 5 | +0.260 [+0.237, +0.283] |" in text
    assert "| uniform sampling; evaluated with exact index | 0.01 | 5 | 0.200 [0.180, 0.220] |" in text
    assert "| exact index; nothing relevant | – | 5 | 0.090 [0.070, 0.110] |" in text
    assert "HNSW answers in 0.100 ms where exact search takes 10.000 ms (×100.0 as fast), with a " \
           "recall&#64;10 of 0.97, at 1,000,000 states." in text  # fmt: skip
    assert "Measured with 1 thread" in text
    found = pd.read_csv(page[0] / "tables" / "relevance-found.csv")
    row = found.query("variant == 'index' and share == 0.003 and quantity == 'recall@10'")
    assert row["value"].item() == pytest.approx(0.70)
    row = found.query("variant == 'index' and share == 0.003 and quantity == 'new_recall@10'")
    assert row["value"].item() == pytest.approx(0.35)
    assert "New: among as many others of the same tasks" in text
    assert {"uniform sampling", "exact index", "0.003", "nothing relevant",
            "uniform sampling, its batch found by the index"} <= set(drawn(page[0], "relevance-returns"))  # fmt: skip
    assert {"recall@10", "MRR", "chance"} <= set(drawn(page[0], "relevance-found"))
    assert {"building, seconds", "memory, MB", "IVF"} <= set(drawn(page[0], "relevance-index-cost"))


# --- missing and broken parts -----------------------------------------------------------------------------------------


def test_runs_that_were_not_looked_into(tmp_path):
    synthetic.write_project(tmp_path)
    data = synthetic.write_manifests(tmp_path, "laptop", TASKS[:2])
    made.write_run(tmp_path, "relevance", made.MAIN, "uniform", 0, 0.5, TASKS[:2], data=data)
    text = plain(build(tmp_path)[0])
    assert "No interventions were measured: nothing is known about the shares." in text
    assert "What is found was not measured." in text
    assert "The cost of an index was not measured." in text
    assert "## What matters" not in text


def test_one_way_one_seed_and_a_torn_table(tmp_path):
    made.write_relevance(tmp_path, seeds=1, tasks=1, returns={"uniform": made.RETURNS["uniform"]})
    path = tmp_path / "results" / "laptop" / "index-cost.csv"
    path.write_text("kind,states\nexact,10\n")
    text = plain(build(tmp_path)[0])
    assert "| uniform sampling | 0.01 | 1 | 0.120, CI n/a (n=1) |" in text
    assert "Less uniform sampling" not in text
    assert "index-cost.csv lacks the columns build&#95;seconds" in text
    assert "### What breaks it" in text
    assert "Nothing that was done to what it retrieves from breaks it as far as these runs can show." in text


def test_an_index_cost_of_few_rows():
    columns = measures.COST_COLUMNS
    assert draw.index_cost(pd.DataFrame(columns=columns)) is None
    row = dict.fromkeys(columns, math.nan) | {
        "kind": "flat|new",
        "states": 100.0,
        "query_ms": 0.2,
        "build_seconds": 0.0,
    }
    with figures.style():
        figure = draw.index_cost(pd.DataFrame([row]))
    assert [axes.get_title(loc="center") for axes in figure.axes if axes.axison] == [
        "building, seconds", "searching, ms per query",
    ]  # fmt: skip
