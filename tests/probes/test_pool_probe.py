"""What is measured on an agent with few relevant trajectories, on tiny runs trained for it."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
import torch

from rarl.agents.index import best_of, exact_scores
from rarl.config.scale import Scale
from rarl.envs.gridroboman.vector import seeded_boards
from rarl.probes.pools import PoolProbe, recall_at_k, reciprocal_rank
from rarl.probes.probe import probe_run
from rarl.runs.train import train_run
from tests import tiny_project
from tests.tiny_relevance import SHARES, changes

KINDS = [None, "exact", "hnsw"]
AMONG = (12, 120, 1200)  # trajectories, one of them relevant


@pytest.fixture(scope="module")
def project(tiny_root, tmp_path_factory):
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("relevance")
    shutil.copytree(tiny_root, root, dirs_exist_ok=True)
    return Scale("tiny", root)


@pytest.fixture(scope="module", params=KINDS)
def probed(project, request):
    """The scale, a run that was trained, and the folder of what was found in it."""
    run = tiny_project.run_of(project.root, "ra-dqn", KINDS.index(request.param), changes(request.param))
    train_run(project, run, device="cpu")
    return project, run, probe_run(project, run)


def rows_of(path):
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        return reader.fieldnames, list(reader)


def test_every_share_is_tried_both_ways(probed):
    _, run, folder = probed
    columns, rows = rows_of(folder / "interventions.csv")
    assert columns == ["intervention", "task", "given_task", "episodes", "return_mean"]
    other = "uniform" if run.settings.agent.retrieval.propose == "index" else "index"
    places = [*(f"share-{share}" for share in ("1", "0.5", "0.1", "0")), *(f"among-{n}" for n in AMONG)]
    names = [
        f"{place}{way}"
        for place in places
        for way in ("", f"-{other}", *(["-none"] if place.startswith("among") else []))
    ]
    assert list(dict.fromkeys(row["intervention"] for row in rows)) == [*names, "removed"]
    assert len(rows) == 10 * 18
    for row in rows:
        assert row["task"] == row["given_task"]
        assert row["episodes"] == "20"
        assert 0 <= float(row["return_mean"]) <= 50


def test_rankings_have_their_format(probed):
    _, run, folder = probed
    columns, rows = rows_of(folder / "attention.csv")
    assert columns == ["task", "quantity", "value"]
    retrieval = run.settings.agent.retrieval
    other = "uniform" if retrieval.propose == "index" else "index"
    measures = {"recall@1", "recall@10", "recall@64", "mrr", "relevant_in_batch", "attention_on_relevant"}
    places = [*(f"share-{share:g}" for share in SHARES), *(f"among-{n}" for n in AMONG)]
    expected = {f"{place}{way}/{m}" for place in places for way in ("", f"-{other}") for m in measures}
    if retrieval.index and retrieval.index.kind != "exact":
        expected |= {f"{place}/index_recall@10" for place in places}
    values = {(row["task"], row["quantity"]): float(row["value"]) for row in rows}
    assert values.keys() == {(task, quantity) for task in run.tasks for quantity in expected}
    assert len(rows) == len(values)
    for (_, quantity), value in values.items():
        assert 0 <= value <= 1 + 1e-6
        if quantity.startswith(("share-1/", "share-1-")) and not quantity.endswith(("recall@10", "recall@64")):
            assert value == pytest.approx(1), quantity  # all that could be found is relevant
    mean = {q: np.mean([values[task, q] for task in run.tasks]) for q in expected}
    drawn = "-uniform" if retrieval.propose == "index" else ""
    assert 0.35 < mean[f"share-0.5{drawn}/relevant_in_batch"] < 0.65
    # A batch of 6 holds six of the 6 relevant ones at most; the whole ranking of 12 all of them.
    assert mean[f"share-0.5{drawn}/recall@10"] < 0.8
    if not retrieval.index or retrieval.index.kind == "exact":
        found = "" if retrieval.propose == "index" else "-index"
        assert mean[f"share-0.5{found}/recall@64"] == 1


@pytest.mark.parametrize("way", ["uniform", "index"])
def test_what_is_found_is_what_scores_best(project, way):
    run = tiny_project.run_of(project.root, "ra-dqn", 1, changes("exact"))
    train_run(project, run, device="cpu")
    probe = PoolProbe(project, run)
    evaluation = probe.evaluation_of(np.array([0, 7]), episodes=8, blocks=2)
    tasks = np.array([0, 0, 7, 7])
    assert evaluation.groups.tolist() == tasks.tolist()
    found = probe.find(evaluation, probe.of_share(0.5), way)
    starts = torch.from_numpy(seeded_boards(evaluation.seeds.ravel()).observe()).view(4, 4, 11)
    assert torch.equal(found.starts, starts)
    keys = probe.memory.keys(probe.network)
    for g, task in enumerate(tasks.tolist()):
        batch = [
            int(np.flatnonzero((probe.memory.pools.given == t) & (probe.memory.pools.episodes == e))[0])
            for t, e in zip(found.batch.given[g], found.batch.episodes[g], strict=True)
        ]
        could = probe.memory.pools.rows(task, 0.5) if way == "index" else np.array(batch)
        queries = probe.memory.queries(probe.network, starts, tasks)[g]
        weights = torch.softmax(queries @ keys[could].flatten(0, 1).T, -1).view(len(queries), len(could), -1)
        expected = could[np.argsort(-weights.sum((0, 2)).double().numpy(), kind="stable")]
        assert found.rankings[g].tolist() == expected.tolist()
        if way == "index":
            assert batch == expected[:6].tolist()
    quantities = probe._quantities(tasks, probe.of_share(0.5), way, found)
    for g, task in enumerate(tasks.tolist()):
        hits = probe.memory.pools.given[found.rankings[g]] == task
        assert quantities["recall@1"][g] == recall_at_k(hits, 1, 6)
        assert quantities["recall@10"][g] == recall_at_k(hits, 10, 6)
        assert quantities["mrr"][g] == reciprocal_rank(hits)
        assert quantities["relevant_in_batch"][g] == np.mean(found.batch.given[g] == task)


def test_attention_is_counted_on_the_relevant(project, monkeypatch):
    run = tiny_project.run_of(project.root, "ra-dqn", 1, changes("exact"))
    train_run(project, run, device="cpu")
    probe = PoolProbe(project, run)
    tasks = np.array([2, 5])
    found = probe.find(probe.evaluation_of(tasks, episodes=2, blocks=1), probe.of_share(0.5), "uniform")
    forward = probe.network.forward

    def on_two_trajectories(x, task, retrieved=None, **more):
        q, step = forward(x, task, retrieved, **more)
        alpha = torch.zeros_like(step.alpha).unflatten(-1, (6, 5))
        alpha[..., 0, 3], alpha[..., 4, 1] = 0.75, 0.25
        return q, step._replace(alpha=alpha.flatten(-2))

    monkeypatch.setattr(probe.network, "forward", on_two_trajectories)
    mass = probe._quantities(tasks, probe.of_share(0.5), "uniform", found)["attention_on_relevant"]
    of_task = found.batch.given == tasks[:, None]
    assert mass == pytest.approx(0.75 * of_task[:, 0] + 0.25 * of_task[:, 4])


def test_what_was_never_retrieved_is_searched_too(project):
    small = {"agent": {"retrieval": {"pool": {"trajectories": 8, "relevant": SHARES}}}}
    run = tiny_project.run_of(project.root, "ra-dqn", 5, changes(None, small))
    train_run(project, run, device="cpu")
    probe = PoolProbe(project, run)
    old, new = probe.memory.pools, probe.new.pools
    assert new.given.tolist() == old.given.tolist()
    for task in range(10):
        both = [*old.episodes[old.given == task], *new.episodes[new.given == task]]
        assert sorted(both) == list(range(16))
    assert torch.equal(probe.new_index.keys, probe.new.keys(probe.network))
    tasks = np.array([0, 7])
    evaluation = probe.evaluation_of(tasks, episodes=4, blocks=1)
    found = probe.find(evaluation, probe.of_share(0.5), "index")
    quantities = probe._quantities(tasks, probe.of_share(0.5), "index", found)
    for g, task in enumerate(tasks.tolist()):
        asked = probe.memory.queries(probe.network, found.starts, tasks)[g]
        rows = new.rows(task, 0.5)
        hits = new.given[rows[best_of(exact_scores(asked, probe.new.keys(probe.network)[rows]), 8)]] == task
        assert quantities["new_recall@10"][g] == recall_at_k(hits, 10, 4)
        assert quantities["new_mrr"][g] == reciprocal_rank(hits)
    drawn = probe.find(evaluation, probe.of_share(0.5), "uniform")
    assert "new_mrr" not in probe._quantities(tasks, probe.of_share(0.5), "uniform", drawn)


def test_datasets_that_hold_too_few_others(probed):
    """Twelve of sixteen are retrieved: there are not as many others."""
    scale, run, _ = probed
    assert PoolProbe(scale, run).new is None


def test_an_index_finds_at_evaluation_what_scores_best_now(probed):
    """Its keys are those of the trained network."""
    scale, run, _ = probed
    probe = PoolProbe(scale, run)
    assert torch.equal(probe.index.keys, probe.memory.keys(probe.network))
    found = probe.find(probe.evaluation_of(np.arange(10), episodes=1, blocks=1), probe.of_share(1.0), "index")
    queries = probe.memory.queries(probe.network, found.starts, np.arange(10))
    scores = probe.index.scores(3, 1.0, queries[3])
    assert found.rankings[3].tolist() == probe.memory.pools.rows(3, 1.0)[best_of(scores, 99)].tolist()


def test_the_gallery_says_of_which_share_it_is(probed):
    scale, run, folder = probed
    gallery = json.loads((folder / "gallery.json").read_text())
    assert gallery["run"] == run.id
    assert "a share of 0.5 is of the task" in gallery["rule"]
    items = [(e, item) for e in gallery["episodes"] for step in e["steps"] for item in step["retrieved"]]
    assert {item["task"] for _, item in items} <= set(run.tasks)
    probe = PoolProbe(scale, run)
    own = probe.played.batch.given == probe.evaluation.groups[:, None]
    assert 0 < own.mean() < 1
    for _, item in items:
        assert item.keys() == {"weight", "candidate", "task", "episode", "return", "step", "observation", "rewarded"}


def test_probing_again_gives_the_same_files(probed):
    scale, run, folder = probed
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert before.keys() == {"interventions.csv", "attention.csv", "gallery.json"}
    assert probe_run(scale, run) == folder
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


# --- rankings --------------------------------------------------------------------------------------------------------

HITS = np.array([False, True, False, True, True])


@pytest.mark.parametrize(
    ("k", "relevant", "recall"),
    [(1, 3, 0.0), (2, 3, 1 / 2), (4, 3, 2 / 3), (5, 3, 1.0), (4, 8, 2 / 4), (64, 8, 3 / 8), (64, 3, 1.0)],
)
def test_recall_counts_what_k_places_could_hold(k, relevant, recall):
    assert recall_at_k(HITS, k, relevant) == pytest.approx(recall)


def test_nothing_found_is_no_recall():
    assert recall_at_k(np.array([], dtype=bool), 10, 3) == 0
    assert reciprocal_rank(np.array([], dtype=bool)) == 0
    assert reciprocal_rank(np.zeros(4, dtype=bool)) == 0


def test_the_reciprocal_rank_is_that_of_the_first_hit():
    assert reciprocal_rank(HITS) == 1 / 2
    assert reciprocal_rank(HITS[1:]) == 1
    assert reciprocal_rank(HITS[2:]) == 1 / 2
    assert reciprocal_rank(np.array([False] * 9 + [True])) == pytest.approx(0.1)


def test_one_relevant_trajectory_among_others_made_anew(project):
    run = tiny_project.run_of(project.root, "ra-dqn", 1, changes("exact"))
    train_run(project, run, device="cpu")
    probe = PoolProbe(project, run)
    assert tuple(probe.among) == AMONG
    known = [sampler.dataset for sampler in probe.memory.samplers]
    for n, (memory, index, share) in probe.among.items():
        pools = memory.pools
        keys = memory.keys(probe.network)
        for task in range(10):
            rows = pools.rows(task, share)
            assert len(rows) == n
            assert (pools.given[rows] == task).sum() == 1
            assert np.bincount(pools.given[rows], minlength=10).max() <= -(-n // 9)
            assert len(none := pools.rows(task, 0.0)) == n
            assert task not in pools.given[none]
            asked = torch.randn(3, keys.shape[-1])
            assert index.scores(task, share, asked).tolist() == exact_scores(asked, keys[rows]).tolist()
    for old, sampler in zip(known, probe.among[1200].memory.samplers, strict=True):
        new = sampler.dataset
        assert new.task == old.task
        assert new.episodes > old.episodes
        assert not (new.observations[:51] == old.observations[:51]).all()  # another first episode
        assert not new.folder.exists()
