"""The built page: what it must hold, and what it must not."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from rarl.errors import RarlError
from rarl.reporting import choices, page, report
from rarl.reporting.statistics import POSITIVE, t_interval
from tests.reporting import synthetic as made
from tests.reporting.built import Page, build, table


def test_the_order_of_the_page(report):
    text = (report / "REPORT.md").read_text()
    assert text.startswith("**Scale: laptop** — ")
    assert re.findall(r"^##? (.*)$", text, re.MULTILINE) == [
        "Retrieval-Augmented Reinforcement Learning: a replication",
        "Summary",
        "What matters",
        "Claims of the paper",
        "Questions of our own",
        "Gridroboman",
        "BabyAI",
        "Atari",
        "What each variant costs",
        "Protocol, statistics and verdicts",
        "Settings searched",
        "Deviations and choices",
        "Provenance",
        "Runs, failures, exclusions",
        "Limitations",
        "What was easy, what was difficult",
        "Questions to the authors",
    ]
    parts = re.findall(r"^### (.*)$", text.split("\n## Gridroboman\n")[1].split("\n## ")[0], re.MULTILINE)
    assert parts == ["Scores", "Task by task", "Differences", "Interventions on retrieval", "Attention", "Gallery",
                     "Datasets"]  # fmt: skip


def test_numbers_on_the_page_are_those_of_the_tables(report):
    """A verdict's interval is computed again from the CSV with one row per run."""
    runs, claims = table(report, "runs"), table(report, "claims", "id")
    here = runs[(runs["task_set"] == "30-tasks") & runs["usable"]]
    scores = here.groupby("variant")["score"]
    expected = scores.mean()["ra-dqn-hidden"] - scores.mean()["dqn-hidden"]
    assert claims.loc["C3c-hidden", "estimate"] == pytest.approx(expected, abs=1e-5)
    assert f"{expected:+.3f}" in (report / "REPORT.md").read_text()
    row = table(report, "gridroboman-scores", "task_set", "variant").loc["30-tasks", "oracle"]
    interval = t_interval(here[here["variant"] == "oracle"]["score"], bounds=POSITIVE)
    assert row[["score_low", "score_high"]].tolist() == pytest.approx([interval.low, interval.high], abs=1e-5)


def test_one_row_per_run(project, report):
    runs = table(report, "runs")
    assert sorted(runs["run"]) == sorted(project[1])
    assert runs["status"].value_counts().to_dict() == {"finished": len(project[1]) - 1, "missing": 1}


def test_the_page_needs_nothing_but_itself(report):
    html = (report / "report.html").read_text()
    seen = Page(html)
    assert not {"script", "link"} & set(seen.tags)
    assert seen.references
    assert all(ref.startswith(("data:image/", "#")) for ref in seen.references)
    assert not re.search(r"url\(|@import", html)
    assert len(seen.alts) >= 15
    assert all(len(alt) > 20 for alt in seen.alts)
    assert all(f'id="{ref[1:]}"' in html for ref in seen.references if ref.startswith("#"))
    text = "".join(seen.text)
    assert not any(mark in text for mark in (":--", "--:", "{{"))  # every table is a table


def test_markdown_links_and_images_exist(report):
    links = re.findall(r"\]\(([^)#]+)\)", (report / "REPORT.md").read_text())
    for link in links:
        assert (report / link).is_file(), link
    shown = [path for path in report.glob("*/*") if path.suffix in (".svg", ".csv", ".webp")]
    assert {f"{path.parent.name}/{path.name}" for path in shown} == set(links)


def test_search_records_are_shown_and_a_damaged_line_named(tmp_path):
    made.write_project(tmp_path)
    record = tmp_path / "results/search/gridroboman.jsonl"
    record.parent.mkdir(parents=True)
    entry = {"variant": "dqn-hidden", "task_set": 30, "seed": 100, "changed": [], "core_seconds": 12.2,
             "scale": "laptop", "return_by_update": [[9, 0.123]]}  # fmt: skip
    record.write_text(json.dumps(entry) + "\n{\n" + json.dumps(entry | {"measure": "success_rate"}) + "\n")
    elsewhere = record.with_name("babyai.jsonl")  # by an older record, which does not say what it measured
    elsewhere.write_text(json.dumps(entry | {"variant": "rdqn"}) + "\n" + json.dumps(entry | {"scale": "mine"}) + "\n")
    text = build(tmp_path)[0]
    assert "| dqn-hidden | none | 30 | 100 | 9 | success rate | 0.123 | 12 |" in text
    assert "| rdqn | none | 30 | 100 | 9 | success rate | 0.123 | 12 |" in text
    assert "All 3 tries" in text  # none of another scale
    assert "line 2 is not a record of a try" in text


@pytest.fixture
def both(tmp_path, monkeypatch):
    """A function: choices of choices.yaml -> page of a project with runs of two experiments."""
    made.write_runs(tmp_path, "gridroboman", "10-tasks", {"dqn-hidden": 0.1}, made.BOARDS[:1], seeds=1)
    changes = {"learning": {"discount": 0.97, "n_step": 5}}
    made.write_runs(tmp_path, "babyai", "4-levels-200-episodes", {"rdqn": 0.3}, made.LEVELS, seeds=1, changes=changes)

    def page_with(*entries):
        more = {"paper": "p", "here": "here", "why": "w", "effect": "e", "kind": "open"}
        path = tmp_path / "choices.yaml"
        path.write_text(json.dumps({"choices": [more | entry for entry in entries]}))
        texts = choices.read_texts(path)
        monkeypatch.setattr(report, "read_texts", lambda: texts)
        return build(tmp_path)[0]

    return page_with


def test_choices_belong_to_experiments(both):
    text = both(
        {"what": "A", "experiment": "babyai", "config": "learning.discount"},
        {"what": "B", "experiment": "gridroboman", "config": "agent.encoder"},
        {"what": "C", "config": "learning.discount"},
        {"what": "D", "experiment": "babyai", "config": "learning.n_step", "paper_values": [5]},
        {"what": "E", "experiment": "babyai", "config": "learning.n_step", "paper_values": [4]},
        {"what": "F", "config": "online.eta", "paper_values": [4]},
        {"what": "G", "experiment": "atari"},
    )
    assert "| BabyAI: A | p | here (0.97) |" in text
    assert "| Gridroboman: B | p | here (relational) |" in text
    assert "| C | p | here (BabyAI: 0.97; Gridroboman: 0.9) |" in text
    assert "| BabyAI: D |" not in text  # as in the paper
    assert "| BabyAI: E | p | here (5) |" in text
    assert "| F | p | here |" in text
    assert "G |" not in text


def test_choices_are_of_experiments_that_there_are():
    known = {path.stem for path in (made.PROJECT / "config/experiments").glob("*.yaml")}
    texts = choices.read_texts()
    assert {name for entry in texts["choices"] for name in choices.experiments_of(entry)} <= known
    assert all(texts[part] for part in ("choices", "limitations", "easy", "difficult", "questions"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("choices: [{what: x}]", "choice 'x': key 'kind' is missing"),
        ("choices: [{WHAT, kind: devation}]", "choice 'x': kind: .*did you mean 'deviation'"),
        ("choices: [{WHAT, kind: open, papers: p}]", "choice 'x': unknown key 'papers'; did you mean 'paper'"),
        ("choices: [{WHAT, kind: open, config: learning.n_stp}]", "config: unknown key 'learning.n_stp'; did you mean"),
        ("choices: [{WHAT, kind: open, config: n_step}]", "config: unknown key 'n_step'"),
        ("choices: [{WHAT, kind: open, paper_values: [3]}]", "paper_values belong to the values of 'config'"),
        ("choices: [3]", "choices.0: .*dictionary"),
        ("choices: {a: 1}", "choices: .*list"),
        ("limitation: [a]", "unknown key 'limitation'; did you mean 'limitations'"),
        ("limitations: [3]", "limitations.0: .*string, got 3"),
        ("easy: [a]\neasy: [b]", "line 2: not valid YAML: key 'easy' stands there twice"),
    ],
)
def test_mistakes_in_the_texts_are_named(tmp_path, text, expected):
    path = tmp_path / "choices.yaml"
    path.write_text(text.replace("WHAT", "what: x, paper: p, here: h, why: w, effect: e"))
    with pytest.raises(RarlError, match=rf"choices\.yaml.*{expected}"):
        choices.read_texts(path)


def test_images_that_are_not_there_are_named(tmp_path):
    with pytest.raises(RarlError, match=r"gone\.svg"):
        page.to_html("![x](gone.svg)\n", tmp_path, title="t")
    with pytest.raises(RarlError, match="an image must be one of"):
        page.to_html("![x](code.js)\n", tmp_path, title="t")


def test_no_torch_at_start():
    """A report must not wait for torch to load."""
    code = (
        "import sys; from rarl.envs.spec import load; from rarl.reporting import registry, report; "
        "[load(name) for name in registry.PARTS.values()]; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_frame_is_the_same_on_the_page_and_as_numbers(report):
    """The rows of a table's Markdown are those of its CSV, in the same order."""
    text, rows = (report / "REPORT.md").read_text(), table(report, "babyai-scores")
    lines = text.split("\n## BabyAI\n")[1].split("| Levels | Agent |")[1].splitlines()[2 : 2 + len(rows)]
    assert [line.split(" | ")[1] for line in lines] == rows["agent"].tolist()
    assert [line.split(" | ")[3].split("&")[0].strip("\u00a0") for line in lines] == [f"{v:.1f}" for v in rows["score"]]
