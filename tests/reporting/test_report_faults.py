"""Reports from almost nothing: few runs, damaged runs, hostile names; never a warning, never a claim too many."""

from __future__ import annotations

import json
import re

import pytest

from rarl.files import write_json
from rarl.reporting.report import build_report
from tests.reporting import synthetic
from tests.reporting.built import Page, build


def test_same_runs_same_bytes_and_no_stale_figure(tmp_path):
    synthetic.write_results(tmp_path, sets=(10,), variants=("dqn-hidden", "ra-dqn-hidden"), seeds=2)
    build(tmp_path)
    folder = tmp_path / "reports" / "laptop"
    first = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    (folder / "figures" / "gridroboman-old.svg").write_text("<svg/>")
    _, html = build(tmp_path)
    assert "not a result" not in (folder / "figures" / "gridroboman-aggregate.svg").read_text()
    assert '<div id="mark"></div>' in html
    assert {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()} == first


def test_without_any_run(tmp_path):
    synthetic.write_project(tmp_path)
    text, _ = build(tmp_path)
    assert "No run has finished yet, so no claim is judged." in text
    text, _ = build(tmp_path, planned_runs=[synthetic.run_name(30, "dqn-hidden", 0)])
    assert "0 of 1 planned run used (1 missing)" in text
    assert "No usable run yet" in text


def test_one_seed_of_one_agent_without_probes(tmp_path):
    synthetic.write_results(tmp_path, sets=(30,), variants=("ra-dqn-hidden",), seeds=1, probes=False)
    text, _ = build(tmp_path)
    assert "CI\u00a0n/a\u00a0(n=1)" in text
    assert "✓" not in text
    assert "No interventions were measured." in text
    assert "No gallery was recorded." in text


@pytest.mark.parametrize("variant", ["dqn-hidden", "oracle", "unheard-of"])
def test_any_agent_alone(tmp_path, variant):
    synthetic.write_project(tmp_path)
    tasks = 30 if variant == "oracle" else 10
    data = synthetic.write_manifests(tmp_path, "laptop", synthetic.TASKS)
    for seed in range(2):
        synthetic.write_run(tmp_path, "laptop", tasks, variant, seed, data=data)
    text, _ = build(tmp_path)
    assert "✓" not in text
    assert "2 of 2 planned runs used" in text


def test_without_experts_nothing_is_normalised(tmp_path):
    synthetic.write_project(tmp_path)
    synthetic.write_run(tmp_path, "laptop", 10, "dqn-hidden", 0)
    synthetic.write_run(tmp_path, "laptop", 10, "ra-dqn-hidden", 0)
    text, _ = build(tmp_path)
    assert "could not be normalised" in text
    assert "not tested (nothing to compute it from)" in text


def test_constant_nan_and_failed_scores(tmp_path):
    synthetic.write_results(tmp_path, sets=(10,), variants=("dqn-hidden", "ra-dqn-hidden"), seeds=3)
    runs = tmp_path / "results/laptop/runs/gridroboman/10-tasks"
    for seed in range(3):
        path = runs / "dqn-hidden" / f"seed-{seed}" / "evaluations.csv"
        rows = [row.split(",") for row in path.read_text().splitlines()]
        path.write_text("\n".join(",".join([*r[:3], "0.0" if i else r[3], *r[4:]]) for i, r in enumerate(rows)) + "\n")
    path = runs / "ra-dqn-hidden/seed-0/evaluations.csv"
    path.write_text(re.sub(r"(2000,[^,]*,32,)[\d.]+", r"\1nan", path.read_text()))
    record = runs / "ra-dqn-hidden/seed-1/run.json"
    write_json(record, json.loads(record.read_text()) | {"status": "failed", "reason": "killed: <b>no memory</b> | x"})
    text, html = build(tmp_path)
    assert "4 of 6 planned runs used (1 failed, 1 excluded)" in text
    assert "seeds\u00a0do\u00a0not\u00a0differ" in text
    assert "return is not a number on 10 tasks" in text
    assert "killed: &lt;b&gt;no memory&lt;/b&gt; &#124; x" in text
    assert "<b>no memory" not in html


def test_hostile_names_stay_text(tmp_path):
    synthetic.write_project(tmp_path)
    evil = "x|y <script>alert(1)</script> [a](http://example.org) `c`"
    data = synthetic.write_manifests(tmp_path, "laptop", synthetic.TASKS[:10])
    run = synthetic.write_run(
        tmp_path,
        "laptop",
        10,
        "ra-dqn-hidden",
        0,
        data=data,
        command=evil,
        versions={"torch": evil},
        hardware={"cpu": evil, "gpu": evil},
        git={"commit": evil, "dirty": evil},
        config={"agent": {"discount": evil}},
    )
    path = tmp_path / "results/laptop/runs" / run / "evaluations.csv"
    path.write_text(path.read_text().replace("lift red", '"$lift_x$ <b>|</b>"'))
    odd = tmp_path / "results/laptop/runs/gridroboman/10-tasks/{{ 7*7 }}<i>|/seed-0"
    odd.parent.mkdir()
    (tmp_path / "results/laptop/runs" / run).rename(odd)
    record = odd / "run.json"
    write_json(record, json.loads(record.read_text()) | {"run": "gridroboman/10-tasks/{{ 7*7 }}<i>|/seed-0"})
    record = tmp_path / "results/search/gridroboman.jsonl"
    record.parent.mkdir(parents=True)
    entry = {"variant": evil, "task_set": evil, "seed": 1, "changed": [evil], "return_by_update": [[1, 2.0]]}
    record.write_text(json.dumps(entry | {"core_seconds": 1}) + "\n")
    text, html = build(tmp_path)
    for part in (text, html):
        assert "<script" not in part
        assert "<i>" not in part
    assert "(http://example.org)" not in text
    assert "{{ 7*7 }}" in html
    assert all(ref.startswith(("data:image/", "#")) for ref in Page(html).references)


def test_a_smoke_report_cannot_be_mistaken(tmp_path):
    synthetic.write_results(tmp_path, "smoke", sets=(10,), variants=("dqn-hidden", "ra-dqn-hidden"), seeds=2)
    text, html = build(tmp_path, "smoke")
    assert text.startswith("**Scale: smoke** — ")
    assert "No claim is judged by it." in text.splitlines()[0]
    assert "> [!WARNING]" in text
    assert "must not be quoted" in text
    assert "✓" not in text
    assert "✗" not in text
    assert "<title>[smoke]" in html
    assert '<div id="mark">smoke</div>' in html
    for path in (tmp_path / "reports/smoke/figures").glob("*.svg"):
        # matplotlib writes a text's words as a comment beside its outlines
        assert "smoke: not a result" in path.read_text()


def test_preview_says_preliminary_and_leaves_the_published_report_alone(tmp_path):
    names = synthetic.write_results(tmp_path, sets=(10,), variants=("dqn-hidden",), seeds=2)
    text, html = build(tmp_path, planned_runs=[*names, synthetic.run_name(10, "ra-dqn-hidden", 0)], preview=True)
    assert "Preliminary: 2 of 3 runs (1 missing)." in text
    assert '<div id="mark">preliminary</div>' in html
    assert not (tmp_path / "reports").exists()
    assert (tmp_path / "scratch/laptop/preview/report.html").is_file()


def test_output_folder_with_spaces(tmp_path):
    synthetic.write_results(tmp_path, sets=(10,), variants=("dqn-hidden",), seeds=1)
    path = build_report("laptop", tmp_path, output=tmp_path / "a folder ü")
    assert path == tmp_path / "a folder ü" / "report.html"
