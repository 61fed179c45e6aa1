"""`rarl index-cost`: the table of what an index costs."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from rarl import cli
from rarl.benchmarks import index_cost as bench_index
from rarl.config.files import IndexCostSettings
from rarl.config.scale import Scale, index_cost_plan
from rarl.errors import RarlError
from rarl.mappings import merge
from rarl.workflow.rules import index_cost_digest
from tests import tiny_project
from tests.tiny_relevance import changes


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(bench_index, "SECONDS", 0.0)


def project(root, index_cost=None, kind="exact"):
    """A tiny project whose one task set has a run with an index, and asks for the table."""
    variants = {"index": {"settings": merge(changes(kind), {"agent": {"retrieval": {"process": "slots"}}})}}
    at_scale = {"task_sets": {10: {"variants": ["dqn", "index"], "probes": []}}, "index_cost": index_cost}
    tiny_project.write_config(root, {"experiments": {"gridroboman": at_scale}}, {"variants": variants})
    return Scale("tiny", root)


def rows_of(path):
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        return reader.fieldnames, list(reader)


def test_the_table_has_a_row_for_each_kind_and_number(tmp_path):
    scale = project(tmp_path, {"states": [3000, 500], "most_states": {"hnsw": 1000}})
    path = bench_index.write_index_cost(scale)
    assert path == tmp_path / "results" / "tiny" / "index-cost.csv"
    columns, rows = rows_of(path)
    assert columns == list(bench_index.COLUMNS)
    assert [(row["kind"], int(row["states"])) for row in rows] == [
        ("exact", 500),
        ("ivf", 500),
        ("hnsw", 500),
        ("exact", 3000),
        ("ivf", 3000),
    ]
    for row in rows:
        assert row["d_e"] == "8"  # the run's
        assert row["threads"] == "1"
        assert float(row["query_ms"]) > 0
        assert float(row["single_query_ms"]) > 0
        assert 0.5 < float(row["recall_at_10"]) <= 1
        assert (float(row["build_seconds"]) == 0) == (row["kind"] == "exact")
        assert float(row["memory_mb"]) == pytest.approx(
            int(row["states"]) * {"exact": 32, "ivf": 40, "hnsw": 160}[row["kind"]] / 1e6, abs=1e-3
        )
        assert int(row["refresh_measured_states"]) == 256 * 5
    assert {row["recall_at_10"] for row in rows if row["kind"] == "exact"} == {"1.0"}
    small, large = float(rows[0]["refresh_seconds"]), float(rows[3]["refresh_seconds"])
    assert large == pytest.approx(6 * small, abs=1e-3)


def test_a_scale_that_asks_for_nothing_gets_an_empty_table(tmp_path):
    scale = project(tmp_path)
    assert rows_of(bench_index.write_index_cost(scale)) == (list(bench_index.COLUMNS), [])


def test_recall_is_counted_against_exact_search(monkeypatch):
    keys = bench_index.draw_keys(50, 4, np.random.default_rng(0))
    best = np.arange(20).reshape(2, 10)
    found = np.concatenate([best[:, 5:], best[:, :5] + 30], axis=1)  # of each ten the last five, and five others
    monkeypatch.setattr(bench_index, "searcher", lambda kind, keys: (lambda queries, k: found[: len(queries)], 0.25))
    row = bench_index.measure("ivf", keys, keys[:2], best, 10)
    assert row["recall_at_10"] == 0.5
    assert row["build_seconds"] == 0.25
    assert row["states"] == 50


def test_keys_lie_in_clusters():
    keys = bench_index.draw_keys(2000, 16, np.random.default_rng(0))
    assert keys.dtype == np.float32
    again = bench_index.draw_keys(2000, 16, np.random.default_rng(0))
    assert (keys == again).all()
    distances = np.linalg.norm(keys[:300, None] - keys[None], axis=-1)
    nearest = np.sort(distances, axis=1)[:, 1]
    assert nearest.mean() < 0.6 * np.median(distances)


def test_large_numbers_of_keys_are_drawn_in_parts(monkeypatch):
    monkeypatch.setattr(bench_index, "PART", 7)
    keys = bench_index.draw_keys(20, 3, np.random.default_rng(0))
    assert np.isfinite(keys).all()
    assert len(np.unique(keys, axis=0)) == 20


def test_what_it_is_measured_on_is_known_by_a_digest(tmp_path):
    costs = {"states": [500], "kinds": ["exact"]}
    scale = project(tmp_path, costs)
    settings, run = index_cost_plan(scale)
    assert settings == IndexCostSettings(states=[500], kinds=["exact"])
    assert run.settings.variant == "index"
    before = index_cost_digest(scale)
    assert index_cost_digest(project(tmp_path, costs)) == before
    assert index_cost_digest(project(tmp_path, costs | {"candidates": 32})) != before
    assert index_cost_digest(project(tmp_path, costs, kind="ivf")) != before
    assert index_cost_digest(project(tmp_path)) != before


def test_an_experiment_without_an_index_cannot_ask(tmp_path):
    at_scale = {"index_cost": {"states": [500]}}
    tiny_project.write_config(tmp_path, {"experiments": {"gridroboman": at_scale}})
    with pytest.raises(RarlError, match=r"tiny.yaml: experiments.gridroboman.index_cost: no run .* has an index"):
        index_cost_plan(Scale("tiny", tmp_path))


def test_the_command_writes_the_table_and_checks_the_digest(tmp_path, monkeypatch, capsys):
    project(tmp_path, {"states": [300], "kinds": ["exact"]})
    monkeypatch.chdir(tmp_path)
    cli.main(["index-cost", "--scale", "tiny"])
    assert "index-cost.csv" in capsys.readouterr().out
    assert len(rows_of(tmp_path / "results/tiny/index-cost.csv")[1]) == 1
    with pytest.raises(SystemExit):
        cli.main(["index-cost", "--scale", "tiny", "--digest", "000000000000"])
    assert "a file under config/ changed meanwhile" in capsys.readouterr().err
