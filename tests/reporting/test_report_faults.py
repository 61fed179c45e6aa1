"""Reports from almost nothing: few runs, damaged runs, hostile names; never a warning, never a claim too many."""

from __future__ import annotations

import json
import re

import pytest

from rarl.errors import RarlError
from rarl.reporting import report as building
from rarl.reporting.report import build_report
from rarl.reporting.site import build_site
from tests.reporting import synthetic as made
from tests.reporting.built import Page, build, table

TWO = {"dqn-hidden": 0.1, "ra-dqn-hidden": 0.5}


def write(root, levels=TWO, *, seeds=2, **options):
    return made.write_runs(root, "gridroboman", "10-tasks", levels, made.BOARDS[:3], seeds=seeds, **options)


def test_same_runs_same_bytes_and_no_stale_figure(tmp_path):
    write(tmp_path)
    build(tmp_path)
    folder = tmp_path / "reports" / "laptop"
    first = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    (folder / "figures" / "gridroboman-old.svg").write_text("<svg/>")
    build(tmp_path)
    assert {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()} == first


@pytest.mark.parametrize("fault", ["before_publishing", "in the middle"])
def test_a_report_that_cannot_be_finished_leaves_the_one_before(tmp_path, monkeypatch, fault):
    def fail(*_, **__):
        raise RarlError("changed")

    write(tmp_path, {"dqn-hidden": 0.1})
    build(tmp_path)
    before = {path: path.read_bytes() for path in (tmp_path / "reports").rglob("*") if path.is_file()}
    write(tmp_path)
    options = {fault: fail} if fault == "before_publishing" else {}
    if not options:
        monkeypatch.setattr(building.answers, "write_all", fail)
    with pytest.raises(RarlError, match="changed"):
        build(tmp_path, **options)
    assert {path: path.read_bytes() for path in (tmp_path / "reports").rglob("*") if path.is_file()} == before
    assert [path.name for path in (tmp_path / "reports").iterdir()] == ["laptop"]


def test_without_any_run(tmp_path):
    made.write_project(tmp_path)
    assert set(build(tmp_path)) == {"README", "claims", "method", "appendix"}
    assert "gridroboman" in build(tmp_path, planned_runs=["gridroboman/30-tasks/dqn-hidden/seed-0"])
    assert table(tmp_path / "reports/laptop", "runs")["status"].tolist() == ["missing"]


@pytest.mark.parametrize("variant", ["dqn-hidden", "oracle", "unheard-of"])
def test_any_agent_alone(tmp_path, variant):
    write(tmp_path, {variant: 0.3})
    build(tmp_path)
    assert not table(tmp_path / "reports/laptop", "claims")["outcome"].isin(["supported", "contradicted"]).any()


def test_constant_nan_and_failed_scores(tmp_path):
    names = write(tmp_path, seeds=3)
    runs = tmp_path / "results/laptop/runs"
    for name in names[:3]:
        path = runs / name / "evaluations.csv"
        rows = [row.split(",") for row in path.read_text().splitlines()]
        path.write_text("\n".join(",".join([*r[:3], "0.0" if i else r[3], *r[4:]]) for i, r in enumerate(rows)) + "\n")
    path = runs / names[3] / "evaluations.csv"
    path.write_text(re.sub(r"(2000,[^,]*,32,)[\d.]+", r"\1nan", path.read_text()))
    record = runs / names[4] / "run.json"
    failed = {"status": "failed", "reason": "<b>no memory</b> | x"}
    record.write_text(json.dumps(json.loads(record.read_text()) | failed))
    text = build(tmp_path)["appendix"]
    status = table(tmp_path / "reports/laptop", "runs", "run")["status"]
    assert status.loc[names].tolist() == ["finished"] * 3 + ["excluded", "failed", "finished"]
    rows = table(tmp_path / "reports/laptop", "gridroboman-scores", "variant")
    assert rows.loc["dqn-hidden", ["score", "score_low", "score_high"]].tolist() == [0, 0, 0]
    assert rows.loc["ra-dqn-hidden", "seeds"] == 1
    assert "&lt;b&gt;no memory&lt;/b&gt; &#124; x" in text


def test_hostile_names_stay_text(tmp_path):
    evil = "x|y <script>alert(1)</script> [a](http://example.org) `c`"
    (run,) = write(
        tmp_path, {"ra-dqn-hidden": 0.5}, seeds=1, command=evil, versions={"torch": evil}, hardware={"cpu": evil},
        git={"commit": evil, "dirty": evil}, changes={"agent": {"encoder": evil}},
    )  # fmt: skip
    path = tmp_path / "results/laptop/runs" / run / "evaluations.csv"
    path.write_text(path.read_text().replace("touch red", '"$lift_x$ <b>|</b>"'))
    odd = tmp_path / "results/laptop/runs/gridroboman/10-tasks/{{ 7*7 }}<i>|/seed-0"
    odd.parent.mkdir()
    (tmp_path / "results/laptop/runs" / run).rename(odd)
    record = odd / "run.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"run": "gridroboman/10-tasks/{{ 7*7 }}<i>|/seed-0"}))
    record = tmp_path / "results/search/gridroboman.jsonl"
    record.parent.mkdir(parents=True)
    entry = {"variant": evil, "task_set": evil, "seed": 1, "changed": [evil], "return_by_update": [[1, 2.0]]}
    record.write_text(json.dumps(entry | {"core_seconds": 1}) + "\n")
    pages = build(tmp_path)
    assert "variants/gridroboman-7-7-i" in pages
    site = build_site(tmp_path / "reports/laptop", "<b>")
    for text in [*pages.values(), *(path.read_text() for path in site.parent.rglob("*.html"))]:
        assert "<script>alert" not in text
        assert "<i>" not in text
        assert "(http://example.org)" not in text
    assert "{{ 7*7 }}" in "".join(Page((site.parent / "variants/gridroboman-7-7-i.html").read_text()).text)


def test_a_smoke_report_cannot_be_mistaken(tmp_path):
    write(tmp_path, scale="smoke")
    text = build(tmp_path, "smoke")["README"]
    assert "> [!WARNING]" in text
    assert not re.search("✓|✗", text)
    for path in (tmp_path / "reports/smoke/figures").glob("*.svg"):
        assert "smoke: not a result" in path.read_text()


def test_preview_says_preliminary_and_leaves_the_published_report_alone(tmp_path):
    names = write(tmp_path, {"dqn-hidden": 0.1})
    pages = build(tmp_path, planned_runs=[*names, "gridroboman/10-tasks/ra-dqn-hidden/seed-0"], preview=True)
    assert "Preliminary: 2 of 3 planned runs used (1 missing)" in pages["README"]
    assert not (tmp_path / "reports").exists()
    assert (tmp_path / "scratch/laptop/preview/README.md").is_file()


def test_a_folder_with_spaces(tmp_path):
    root = tmp_path / "a folder ü"
    write(root, {"dqn-hidden": 0.1}, seeds=1)
    assert build_report("laptop", root) == root / "reports/laptop/README.md"
