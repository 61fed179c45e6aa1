"""Reading of results: what is missing, failed or damaged is named, never fatal, and never used."""

from __future__ import annotations

import json
import math
import re

import pytest

from rarl.errors import RarlError
from rarl.files import write_json
from rarl.reporting.provenance import making
from rarl.reporting.results import identity, load_results
from tests.reporting import synthetic as made

RUN = "gridroboman/10-tasks/dqn-hidden/seed-0"


@pytest.fixture
def project(tmp_path):
    made.write_runs(tmp_path, "gridroboman", "10-tasks", {"dqn-hidden": 0.1}, made.BOARDS[:10], seeds=2)
    return tmp_path


def folder(root, run=RUN):
    return root / "results" / "laptop" / "runs" / run


def edit_json(path, **changes):
    write_json(path, json.loads(path.read_text()) | changes)


def test_reads_runs_and_normalises_by_the_expert(project):
    results = load_results("laptop", project)
    assert list(results.runs["status"]) == ["finished"] * 2
    assert results.problems == []
    last = results.last
    assert len(last) == 20
    assert set(last["update"]) == {made.UPDATES[-1]}
    row = last[last["task"] == "lift-red"].iloc[0]
    assert row["expert"] == made.EXPERT
    assert row["score"] == pytest.approx(row["return_mean"] / made.EXPERT)


def test_the_last_point_counts_not_the_best(project):
    path = folder(project) / "evaluations.csv"
    lines = path.read_text().splitlines()
    rows = [line.split(",") for line in lines]  # an earlier point better than anything
    lines = [",".join([*row[:3], "50", *row[4:]]) if row[0] == "1000" else ",".join(row) for row in rows]
    path.write_text("\n".join(lines) + "\n")
    results = load_results("laptop", project)
    assert results.last["return_mean"].max() < 50


def test_missing_and_unplanned_runs(project):
    planned = [RUN, RUN.replace("seed-0", "seed-7")]
    results = load_results("laptop", project, planned)
    status = dict(zip(results.runs["run"], results.runs["status"], strict=True))
    assert status == {RUN: "finished", planned[1]: "missing", RUN.replace("seed-0", "seed-1"): "not planned"}
    assert set(results.evaluations["seed"]) == {0}
    assert len(results.planned()) == 2


def test_failed_run_keeps_its_reason_and_gives_no_numbers(project):
    edit_json(folder(project) / "run.json", status="failed", reason="loss is NaN at update 400")
    results = load_results("laptop", project)
    assert (RUN, "failed: loss is NaN at update 400") in results.problems
    assert set(results.evaluations["seed"]) == {1}


def lines(text: bytes) -> list[bytes]:
    return text.splitlines(keepends=True)


@pytest.mark.parametrize(
    ("file", "damage", "says"),
    [
        ("run.json", lambda text: b"{", "not valid JSON"),
        ("run.json", lambda text: None, "no such file"),
        ("run.json", lambda text: text.replace(b"seed-0", b"seed-9"), "seed-9"),
        ("run.json", lambda text: text.replace(b': "finished"', b': "great"'), "finished or failed"),
        ("run.json", lambda text: re.sub(rb'"seconds": {[^}]*}', b'"seconds": 5', text), "seconds must be .*, got 5"),
        ("run.json", lambda text: re.sub(rb'"parameters": {[^}]*}', b'"parameters": 5', text), "parameters must be"),
        ("run.json", lambda text: re.sub(rb'"expert_returns": {[^}]*}', b'"expert_returns": [1]', text), "got .1."),
        ("run.json", lambda text: re.sub(rb'"data": {[^}]*}', b'"data": [1]', text), "run.json: data must be"),
        ("run.json", lambda text: re.sub(rb'"git": {[^}]*}', b'"git": "abc"', text), "run.json: git must be"),
        ("evaluations.csv", lambda text: text[:-4], "last line is torn"),
        ("evaluations.csv", lambda text: b"".join(lines(text)[:-3]), "7 of 10 tasks"),
        ("evaluations.csv", lambda text: b"".join(lines(text)[:-10]), "ends at update 1000, run.json says 2000"),
        ("evaluations.csv", lambda text: text.replace(b",32,", b",many,"), "not a number"),
        ("evaluations.csv", lambda text: text.replace(b"return_mean", b"mean"), "lacks the columns return_mean"),
        ("evaluations.csv", lambda text: b"", "is empty"),
        ("evaluations.csv", lambda text: lines(text)[0], "no rows"),
        ("evaluations.csv", lambda text: text + lines(text)[-1], "twice"),
        ("evaluations.csv", lambda text: b"\xff\xfe\x00\n", "not readable"),
    ],
)
def test_damaged_runs_are_named_and_left_out(project, file, damage, says):
    path = folder(project) / file
    damaged = damage(path.read_bytes())
    path.unlink() if damaged is None else path.write_bytes(damaged)
    results = load_results("laptop", project)
    row = results.runs.set_index("run").loc[RUN]
    assert row["status"] == "damaged"
    assert re.search(says, row["reason"])
    assert str(project) not in row["reason"]
    assert set(results.evaluations["seed"]) == {1}
    assert any(where == RUN for where, _ in results.problems)


def test_nan_score_excludes_the_run(project):
    path = folder(project) / "evaluations.csv"
    lines = path.read_text().splitlines()
    cells = lines[-1].split(",")
    lines[-1] = ",".join([*cells[:3], "nan", *cells[4:]])
    path.write_text("\n".join(lines) + "\n")
    results = load_results("laptop", project)
    row = results.runs.set_index("run").loc[RUN]
    assert row["status"] == "excluded"
    assert "not a number on 1 tasks" in row["reason"]
    assert set(results.evaluations["seed"]) == {1}


def test_different_configurations_are_noted(project):
    record = json.loads((folder(project) / "run.json").read_text())
    edit_json(folder(project) / "run.json", config=record["config"] | {"lr": 3})
    said = dict(load_results("laptop", project).problems)
    assert "2 different configurations" in said["gridroboman/10-tasks/dqn-hidden"]


def test_damaged_probes_do_not_cost_the_run(project):
    made.write_attention(project, [RUN], [("lift red", "kl", 1.0)])
    path = project / "results/laptop/probes" / RUN / "interventions.csv"
    head = "intervention,task,given_task,episodes,return_mean\n"
    for text, says in (
        ("a,b\n1", "the last line is torn"),
        (head + ",lift red,lift red,8,1\n", "column intervention has an empty cell"),
        (head + "own,lift red,,8,1\n", "column given_task has an empty cell"),
    ):
        path.write_text(text)
        results = load_results("laptop", project)
        assert results.runs["usable"].all()
        assert results.interventions.empty
        assert results.attention["task"].tolist() == ["lift-red"]
        assert results.problems == [(f"{RUN}/interventions.csv", f"interventions.csv: {says}")]


def test_scores_of_the_environment_that_is_configured(project):
    made.write_runs(project, "babyai", "x", {"rdqn": 0.3}, made.LEVELS, seeds=1)
    games = ["pong", "ping"]
    made.write_runs(project, "atari", "pong", {"r2d2": 0.1}, games, seeds=1, raw=lambda task, share: (-20.7, 0))
    made.write_interventions(project, ["babyai/x/rdqn/seed-0"], made.same({"own": 0.5}, made.LEVELS), "babyai")
    results = load_results("laptop", project)
    last = results.last.groupby("run")["score"]
    assert last.max()["babyai/x/rdqn/seed-0"] == pytest.approx(28)
    assert last.max()["atari/pong/r2d2/seed-0"] == pytest.approx(0)
    assert last.count()["atari/pong/r2d2/seed-0"] == 1  # there is no game of the other name
    assert results.interventions["score"].tolist() == pytest.approx([48] * 4)
    edit_json(folder(project) / "run.json", config={"environment": "doom"})
    results = load_results("laptop", project)
    assert ("doom", "no such environment with a score; its runs have none") in results.problems


def test_nothing_at_all(tmp_path):
    results = load_results("laptop", tmp_path)
    assert results.runs.empty
    assert results.last.empty
    assert math.isnan(results.runs["seconds_total"].max())


def test_names_of_runs():
    assert identity(RUN)["seed"] == 0
    for bad in ("a/b/seed-1", "a/b/c/1", "a/b/c/seed-x"):
        with pytest.raises(RarlError, match="experiment/task-set/variant/seed-N"):
            identity(bad)


def test_a_run_made_outside_a_repository_says_so_once(project):
    for seed in (0, 1):
        path = folder(project, RUN.replace("seed-0", f"seed-{seed}")) / "run.json"
        edit_json(path, git={"commit": "unknown", "dirty": "unknown"})
    rows = dict(making(load_results("laptop", project)))
    assert rows["Commit"] == "unknown: made outside a git repository"
