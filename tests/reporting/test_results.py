"""Reading of results: what is missing, failed or damaged is named, never fatal, and never used."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from rarl.envs.gridroboman.tasks import TASKS
from rarl.errors import RarlError
from rarl.files import write_json
from rarl.reporting.provenance import making
from rarl.reporting.results import identity, load_results
from tests.reporting import synthetic

RUN = synthetic.run_name(10, "dqn-hidden", 0)


@pytest.fixture
def project(tmp_path):
    synthetic.write_results(tmp_path, sets=(10,), variants=("dqn-hidden",), seeds=2)
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
    assert set(last["update"]) == {synthetic.UPDATES[-1]}
    row = last[last["task"] == "lift-red"].iloc[0]
    expert = synthetic.EXPERT + TASKS.index(next(t for t in TASKS if t.slug == "lift-red")) % 3
    assert row["expert"] == expert
    assert row["normalised"] == pytest.approx(row["return_mean"] / expert)


def test_the_last_point_counts_not_the_best(project):
    path = folder(project) / "evaluations.csv"
    lines = path.read_text().splitlines()
    # Make an earlier point better than anything.
    lines = [
        ",".join([*row.split(",")[:3], "50", *row.split(",")[4:]]) if row.startswith("500,") else row for row in lines
    ]
    path.write_text("\n".join(lines) + "\n")
    results = load_results("laptop", project)
    assert results.last["return_mean"].max() < 50


def test_missing_and_unplanned_runs(project):
    planned = [RUN, synthetic.run_name(10, "dqn-hidden", 7)]
    results = load_results("laptop", project, planned)
    status = dict(zip(results.runs["run"], results.runs["status"], strict=True))
    assert status == {RUN: "finished", planned[1]: "missing", synthetic.run_name(10, "dqn-hidden", 1): "not planned"}
    assert set(results.evaluations["seed"]) == {0}
    assert len(results.planned()) == 2


def test_failed_run_keeps_its_reason_and_gives_no_numbers(project):
    edit_json(folder(project) / "run.json", status="failed", reason="loss is NaN at update 400")
    results = load_results("laptop", project)
    assert (RUN, "failed: loss is NaN at update 400") in results.problems
    assert set(results.evaluations["seed"]) == {1}


def damage_json(path):
    (path / "run.json").write_text("{")


def no_json(path):
    (path / "run.json").unlink()


def other_run(path):
    edit_json(path / "run.json", run="gridroboman/10-tasks/dqn-hidden/seed-9")


def odd_status(path):
    edit_json(path / "run.json", status="great")


def torn(path):
    text = (path / "evaluations.csv").read_text()
    (path / "evaluations.csv").write_text(text[:-4])


def cut_at_a_line(path):
    lines = (path / "evaluations.csv").read_text().splitlines(keepends=True)
    (path / "evaluations.csv").write_text("".join(lines[:-3]))


def cut_at_a_point(path):
    lines = (path / "evaluations.csv").read_text().splitlines(keepends=True)
    (path / "evaluations.csv").write_text("".join(lines[:-10]))


def words(path):
    text = (path / "evaluations.csv").read_text().replace(",32,", ",many,")
    (path / "evaluations.csv").write_text(text)


def no_column(path):
    text = (path / "evaluations.csv").read_text().replace("return_mean", "mean")
    (path / "evaluations.csv").write_text(text)


def empty(path):
    (path / "evaluations.csv").write_text("")


def head_only(path):
    lines = (path / "evaluations.csv").read_text().splitlines(keepends=True)
    (path / "evaluations.csv").write_text(lines[0])


def twice(path):
    lines = (path / "evaluations.csv").read_text().splitlines(keepends=True)
    (path / "evaluations.csv").write_text("".join(lines + lines[-1:]))


def binary(path):
    (path / "evaluations.csv").write_bytes(b"\xff\xfe\x00\n")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (damage_json, "not valid JSON"),
        (no_json, "no such file"),
        (other_run, "seed-9"),
        (odd_status, "finished or failed"),
        (torn, "last line is torn"),
        (cut_at_a_line, "7 of 10 tasks"),
        (cut_at_a_point, "ends at update 1500, run.json says 2000"),
        (words, "not a number"),
        (no_column, "lacks the columns return_mean"),
        (empty, "is empty"),
        (head_only, "no rows"),
        (twice, "twice"),
        (binary, "not readable"),
    ],
)
def test_damaged_runs_are_named_and_left_out(project, damage, says):
    damage(folder(project))
    results = load_results("laptop", project)
    row = results.runs.set_index("run").loc[RUN]
    assert row["status"] == "damaged"
    assert says in row["reason"]
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


def test_expert_returns_from_the_record_when_there_is_no_data(project):
    for path in sorted((project / "data").glob("**/manifest.json")):
        path.unlink()
    results = load_results("laptop", project)
    assert results.last["normalised"].isna().all()
    edit_json(folder(project) / "run.json", expert_returns={task.name: 40.0 for task in TASKS[:10]})
    results = load_results("laptop", project)
    np.testing.assert_allclose(results.last["expert"], 40.0)


def test_changed_data_and_configurations_are_noted(project):
    manifest = next((project / "data").glob("**/lift-red/manifest.json"))
    edit_json(manifest, episodes=17)
    record = json.loads((folder(project) / "run.json").read_text())
    edit_json(folder(project) / "run.json", config=record["config"] | {"lr": 3})
    said = dict(load_results("laptop", project).problems)
    assert "1 data manifests changed since this run" in said[RUN]
    assert "2 different configurations" in said["gridroboman/10-tasks/dqn-hidden"]


def test_damaged_probes_do_not_cost_the_run(tmp_path):
    synthetic.write_results(tmp_path, sets=(30,), variants=("ra-dqn-hidden",), seeds=1)
    run = synthetic.run_name(30, "ra-dqn-hidden", 0)
    (tmp_path / "results/laptop/probes" / run / "interventions.csv").write_text("a,b\n1")
    results = load_results("laptop", tmp_path)
    assert results.runs["usable"].all()
    assert results.interventions.empty
    assert not results.attention.empty
    assert results.problems == [(f"{run}/interventions.csv", "interventions.csv: the last line is torn")]


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
        path = folder(project, synthetic.run_name(10, "dqn-hidden", seed)) / "run.json"
        edit_json(path, git={"commit": "unknown", "dirty": "unknown"})
    rows = dict(making(load_results("laptop", project)))
    assert rows["Commit"] == "unknown: made outside a git repository"
