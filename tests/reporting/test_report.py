"""The built page: what it must hold, and what it must not."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pandas as pd
import pytest

from rarl.errors import RarlError
from rarl.reporting import page, report
from rarl.reporting.statistics import t_interval
from tests.reporting import synthetic, synthetic_babyai
from tests.reporting.built import Page, build


def test_the_page_holds_what_a_report_must(full_report):
    text = (full_report / "REPORT.md").read_text()
    assert text.startswith("**Scale: laptop** — ")
    assert re.search(r"Of \d+ claims of the paper: ", text.splitlines()[0])
    for heading in (
        "Summary",
        "Claims of the paper",
        "Questions of our own",
        "Gridroboman",
        "Protocol, statistics and verdicts",
        "Settings searched",
        "Deviations and choices",
        "Provenance",
        "Runs, failures, exclusions",
        "Limitations",
        "What was easy, what was difficult",
        "Questions to the authors",
    ):
        assert f"\n## {heading}\n" in text
    for said in (
        "✓ supported",
        "✗ contradicted",
        "not tested at this scale",
        "Some CPU",
        "f" * 12,
        "rarl train",
        "planned, no",
    ):
        assert said in text or said in (full_report / "tables" / "runs.csv").read_text()
    assert "54 of 56 planned" not in text
    assert "55 of 56 planned runs used (1 missing)" in text


def test_numbers_on_the_page_are_those_of_the_tables(full_report):
    """A verdict's interval is computed again from the CSV with one row per run."""
    runs = pd.read_csv(full_report / "tables" / "runs.csv")
    claims = pd.read_csv(full_report / "tables" / "claims.csv").set_index("id")
    here = runs[(runs["task_set"] == "30-tasks") & runs["usable"]]
    scores = here.groupby("variant")["score"]
    expected = scores.mean()["ra-dqn-hidden"] - scores.mean()["dqn-hidden"]
    assert claims.loc["C3c-hidden", "estimate"] == pytest.approx(expected, abs=1e-5)
    assert f"{expected:+.3f}" in (full_report / "REPORT.md").read_text()
    aggregate = pd.read_csv(full_report / "tables" / "gridroboman-aggregate.csv")
    row = aggregate[(aggregate["task_set"] == "30-tasks") & (aggregate["variant"] == "oracle")].iloc[0]
    interval = t_interval(here[here["variant"] == "oracle"]["score"])
    assert (row["low"], row["high"]) == (pytest.approx(interval.low, abs=1e-5), pytest.approx(interval.high, abs=1e-5))


def test_one_row_per_run(full_project, full_report):
    runs = pd.read_csv(full_report / "tables" / "runs.csv")
    assert sorted(runs["run"]) == sorted(full_project[1])
    assert runs["status"].value_counts().to_dict() == {"finished": 55, "missing": 1}


def test_the_page_needs_nothing_but_itself(full_report):
    html = (full_report / "report.html").read_text()
    seen = Page(html)
    assert "script" not in seen.tags
    assert "link" not in seen.tags
    assert seen.references
    assert all(ref.startswith(("data:image/", "#")) for ref in seen.references)
    assert not re.search(r"url\(|@import", html)
    assert len(seen.alts) >= 10
    assert all(len(alt) > 20 for alt in seen.alts)
    anchors = {ref[1:] for ref in seen.references if ref.startswith("#")}
    assert all(f'id="{anchor}"' in html for anchor in anchors)


def test_every_table_is_a_table(full_report):
    text = "".join(Page((full_report / "report.html").read_text()).text)
    assert ":--" not in text
    assert "--:" not in text
    assert "{{" not in text


def test_markdown_links_and_images_exist(full_report):
    text = (full_report / "REPORT.md").read_text()
    links = re.findall(r"\]\(([^)#]+)\)", text)
    assert any(link.startswith("figures/") for link in links)
    assert any(link.startswith("tables/") for link in links)
    for link in links:
        assert (full_report / link).is_file(), link
    made = {f"figures/{path.name}" for path in (full_report / "figures").glob("*.svg")}
    assert made <= set(links)


def search_record(**changes) -> str:
    entry = {"variant": "dqn-hidden", "task_set": 30, "seed": 100, "changed": ["learning.discount=0.95"]}
    return json.dumps(entry | {"return_by_update": [[500, 3.25], [1000, 4.5]], "core_seconds": 12.2} | changes) + "\n"


def test_search_record_is_shown_and_a_damaged_line_named(tmp_path):
    synthetic.write_project(tmp_path)
    record = tmp_path / "results/search/gridroboman.jsonl"
    record.parent.mkdir(parents=True)
    record.write_text(search_record() + "{\n" + search_record(variant="oracle", changed=[]))
    text = build(tmp_path)[0].replace("\\", "")
    assert "| dqn-hidden | learning.discount=0.95 | 30 | 100 | 1,000 | 4.5 | 12 |" in text
    assert "| oracle | none | 30 |" in text
    assert "dqn-hidden: 1, oracle: 1 tries" in text
    assert "line 2 is not a record of a try" in text


def test_choices_name_the_values_that_were_run(full_report):
    text = (full_report / "REPORT.md").read_text()
    assert "| Discount | 0.99 | a setting of the scale (0.9) |" in text


@pytest.fixture
def both(tmp_path, monkeypatch):
    """A function: choices of choices.yaml -> page of a project with runs of both experiments."""
    synthetic.write_results(tmp_path, sets=(10,), variants=("dqn-hidden",), seeds=1)
    synthetic_babyai.write_run(tmp_path, "laptop", 200, "rdqn", 0, probes=False)

    def page_with(*choices):
        entries = [{"paper": "p", "here": "here", "why": "w", "effect": "e", "kind": "open"} | c for c in choices]
        path = tmp_path / "choices.yaml"
        path.write_text(json.dumps({"choices": entries}))
        texts = report.read_texts(path)
        monkeypatch.setattr(report, "read_texts", lambda: texts)
        return build(tmp_path)[0]

    return page_with


def test_choices_belong_to_experiments(both):
    text = both(
        {"what": "A", "experiment": "babyai", "config": "learning.discount"},
        {"what": "B", "experiment": "gridroboman", "config": "agent.encoder"},
        {"what": "C", "config": "learning.discount"},
        {"what": "D", "config": "learning.n_step", "paper_values": [5]},
        {"what": "E", "config": "learning.n_step", "paper_values": [4]},
        {"what": "G", "config": "learning.discount", "paper_values": [0.97]},
        {"what": "F", "config": "online.eta", "paper_values": [4]},
    )
    assert "| BabyAI: A | p | here (0.97) |" in text
    assert "| Gridroboman: B | p | here (pairs) |" in text
    assert "| C | p | here (Gridroboman: 0.9; BabyAI: 0.97) |" in text
    assert "| D |" not in text  # as in the paper
    assert "| E | p | here (5) |" in text
    assert "| F | p | here |" in text
    assert "| G | p | here (Gridroboman: 0.9; BabyAI: 0.97) |" in text  # one of them as in the paper
    # What is measured, and how often, is told for each.
    assert "Gridroboman: 32 episodes per task and evaluation" in text
    assert "BabyAI: 24 episodes per task and evaluation" in text
    assert "- **Normalised return.** Return divided by" in text
    assert "- **Success (BabyAI).** Share of" in text


@pytest.mark.parametrize("named", ["babyia", "[atari, babyia]"])
def test_choices_of_unknown_experiments_are_named(tmp_path, named):
    path = tmp_path / "choices.yaml"
    entry = f"{{what: x, kind: open, paper: p, here: h, why: w, effect: e, experiment: {named}}}"
    path.write_text(f"choices:\n- {entry}\n")
    with pytest.raises(RarlError, match="did you mean 'babyai'"):
        report.read_texts(path)


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
        report.read_texts(path)


def test_texts_are_complete(tmp_path):
    texts = report.read_texts()
    assert len(texts["choices"]) >= 10
    assert texts["easy"]
    assert texts["difficult"]
    assert texts["questions"]
    path = tmp_path / "choices.yaml"
    path.write_text("choices:\n- {what: x, kind: other, paper: p, here: h, why: w, effect: e}\n")
    with pytest.raises(RarlError, match="kind"):
        report.read_texts(path)


def test_images_that_are_not_there_are_named(tmp_path):
    with pytest.raises(RarlError, match=r"gone\.svg"):
        page.to_html("![x](gone.svg)\n", tmp_path, title="t")
    with pytest.raises(RarlError, match="an image must be one of"):
        page.to_html("![x](code.js)\n", tmp_path, title="t")


def test_no_torch_at_start():
    """A report must not wait for torch to load."""
    code = "import sys, rarl.reporting.report as r; r.load_sections(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
