"""The built pages: what they must hold, and what they must not."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
import yaml

from rarl.config.files import ExperimentSettings
from rarl.errors import RarlError
from rarl.reporting import choices
from rarl.reporting import report as building
from rarl.reporting.claims import load_claims
from rarl.reporting.registry import NAVIGATION, pages_of
from rarl.reporting.statistics import POSITIVE, t_interval
from tests.reporting import synthetic as made
from tests.reporting.built import build, table


def test_a_page_for_each_environment_and_variant(report):
    pages = {path.relative_to(report).as_posix() for path in report.rglob("*.md")}
    assert {name for name in pages if "/" not in name} == {
        "README.md", "gridroboman.md", "babyai.md", "atari.md", "claims.md", "method.md", "appendix.md"}  # fmt: skip
    runs = table(report, "runs")
    variants = runs[runs["usable"]].drop_duplicates(["experiment", "variant"])
    assert {name for name in pages if "/" in name} == {
        f"variants/{row.experiment}-{row.variant}.md" for row in variants.itertuples()
    }


def test_the_files_that_the_workflow_expects(report):
    """Of a scale with these experiments."""
    experiments = [made.experiment_of(made.PROJECT, name) for name in ("gridroboman", "babyai", "atari")]
    names = {f"{page}.md" for page in pages_of([ExperimentSettings(**e) for e in experiments])} | {NAVIGATION}
    assert names == {path.name for path in report.iterdir() if path.is_file()}


def test_the_overview_is_short_and_answers(report):
    text = (report / "README.md").read_text()
    seen = re.sub(r"<[^>]*>|\]\([^)]*\)", " ", text)
    assert len([word for word in seen.split() if re.search("[A-Za-z]{2}", word)]) < 1200  # numbers are no words
    here = {*table(report, "runs")["experiment"]}
    claims = [
        c for c in load_claims(made.PROJECT / "config" / "claims.yaml")[1] if c.test and c.test.experiment in here
    ]
    assert all(f"#{claim.id})" in text for claim in claims if claim.primary)
    answered = {*table(report, "claims").dropna(subset=["estimate"])["id"]}
    shown = {claim.id for claim in claims if claim.overview} & answered
    assert shown
    assert all(f"#{name})" in text for name in shown)
    assert text.index("## Does it replicate?") < text.index("-headline.svg") < text.index("-step.svg")


def test_what_qualifies_a_claim_stands_below_it(tmp_path):
    made.write_project(tmp_path)
    levels = {"dqn-hidden": 0.1, "ra-dqn-hidden": 0.5, "as-printed": 0.11}
    made.write_runs(tmp_path, "gridroboman", "30-tasks", levels, made.BOARDS[:2])
    lines = build(tmp_path)["README"].splitlines()
    at = next(i for i, line in enumerate(lines) if "#C3c-hidden)" in line)
    assert "#Q24)" in lines[at + 1]


def test_parts_that_matter_are_on_the_first_page(report):
    rows = table(report, "parts", "change", "where")
    assert rows.loc[("No bottleneck", "BabyAI, RA-RDQN, all levels"), "delta"] == pytest.approx(-12)
    assert set(rows["reading"]) <= {"hurts", "helps"}
    assert rows["of_gain"].tolist() == sorted(rows["of_gain"])
    whats = [(where, what.partition(": ")[0]) for what, where in rows.index]
    assert len(set(whats)) == len(whats)  # of a sweep the largest effect


def test_numbers_on_the_page_are_those_of_the_tables(report):
    """A verdict's interval is computed again from the CSV with one row per run."""
    runs, claims = table(report, "runs"), table(report, "claims", "id")
    here = runs[(runs["task_set"] == "30-tasks") & runs["usable"]]
    scores = here.groupby("variant")["score"]
    expected = scores.mean()["ra-dqn-hidden"] - scores.mean()["dqn-hidden"]
    assert claims.loc["C3c-hidden", "estimate"] == pytest.approx(expected, abs=1e-5)
    assert f"{expected:+.2f}" in (report / "README.md").read_text()
    row = table(report, "gridroboman-scores", "task_set", "variant").loc["30-tasks", "oracle"]
    interval = t_interval(here[here["variant"] == "oracle"]["score"], bounds=POSITIVE)
    assert row[["score_low", "score_high"]].tolist() == pytest.approx([interval.low, interval.high], abs=1e-5)


def test_one_row_per_run(project, report):
    runs = table(report, "runs")
    assert sorted(runs["run"]) == sorted(project[1])
    assert runs["status"].value_counts().to_dict() == {"finished": len(project[1]) - 1, "missing": 1}


def test_runs_by_other_code_are_counted(tmp_path):
    runs = made.write_runs(tmp_path, "gridroboman", "30-tasks", {"dqn-hidden": 0.1}, made.BOARDS[:1])
    pages = build(tmp_path, by_other_code=[runs[1], "gridroboman/30-tasks/dqn-hidden/seed-9"])
    assert "1 of 5 runs were made by earlier code" in pages["README"]
    by_other = table(tmp_path / "reports/laptop", "runs", "run")["by_other_code"]
    assert by_other[by_other].index.tolist() == [runs[1]]
    assert "earlier code" not in build(tmp_path)["README"]


def test_links_images_and_anchors_lead_somewhere(report):
    """Those of Markdown and those of HTML, from the folder of their page; every file is linked."""
    reached = set()
    for page in report.rglob("*.md"):
        text = page.read_text()
        for link in re.findall(r"\]\(([^)]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text):
            path, _, anchor = link.partition("#")
            if "://" in path:
                continue
            target = (page.parent / path).resolve() if path else page
            assert target.is_file(), (page, link)
            reached.add(target)
            assert not anchor or anchor in anchors(target.read_text()), (page, link)
    for path in report.glob("interactive/*.json"):  # of the picture of that name
        assert (report / f"figures/{path.stem}.svg").resolve() in reached
        what = json.loads(path.read_text())
        reached |= {path.resolve(), (report / what.get("table", what.get("sheet"))).resolve()}
    assert {path.resolve() for path in report.glob("*/*")} <= reached


def anchors(text: str) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads} | set(
        re.findall('id="([^"]+)"', text)
    )


def test_each_figure_has_its_data_and_says_what_it_shows(report):
    figures = {path.stem for path in (report / "figures").glob("*.svg")}
    assert figures
    assert all((report / "tables" / f"{name}.csv").is_file() for name in figures)
    alts = [alt for page in report.rglob("*.md") for alt in re.findall(r'alt="([^"]*)"', page.read_text())]
    assert len(alts) >= len(figures)
    assert all(len(alt) > 20 for alt in alts)


def test_every_claim_has_an_anchor_on_one_page(report):
    found = [a for page in report.glob("*.md") for a in re.findall(r'<a id="([^"]+)"', page.read_text())]
    assert sorted(found) == sorted(table(report, "claims")["id"])


def test_errata_say_what_an_earlier_report_said(tmp_path):
    made.write_project(tmp_path)
    made.write_runs(tmp_path, "gridroboman", "10-tasks", {"dqn-hidden": 0.1, "ra-dqn-hidden": 0.5}, made.BOARDS[:2])
    before = {"was": "supported", "number": "+0.01"}
    asked = {"why": "The target network read otherwise.", "before": {"C3a-hidden": before, "Q0": before}}
    path = tmp_path / "results/laptop/errata.yaml"
    path.write_text(yaml.safe_dump([asked], sort_keys=False))
    assert "errata" in build(tmp_path)
    rows = table(tmp_path / "reports/laptop", "errata")
    assert rows["id"].tolist() == ["C3a-hidden", "Q0"]
    assert rows["verdict"].tolist()[0] != rows["verdict"].tolist()[1] == "not asked any more"
    assert "gridroboman.md#C3a-hidden" in rows["claim"][0]
    path.write_text(yaml.safe_dump([asked | {"because": "x"}]))
    with pytest.raises(RarlError, match=r"errata\.yaml: .*because"):
        build(tmp_path)


def test_search_records_are_shown_and_a_damaged_line_named(tmp_path):
    made.write_project(tmp_path)
    record = tmp_path / "results/search/gridroboman.jsonl"
    record.parent.mkdir(parents=True)
    entry = {"variant": "dqn-hidden", "task_set": 30, "seed": 100, "changed": [], "core_seconds": 12.2,
             "scale": "laptop", "return_by_update": [[9, 0.123]]}  # fmt: skip
    record.write_text(json.dumps(entry) + "\n{\n" + json.dumps(entry | {"measure": "success_rate"}) + "\n")
    elsewhere = record.with_name("babyai.jsonl")  # by an older record, which does not say what it measured
    elsewhere.write_text(json.dumps(entry | {"variant": "rdqn"}) + "\n" + json.dumps(entry | {"scale": "other"}) + "\n")
    (tmp_path / "config" / "other.yaml").touch()
    text = build(tmp_path)["appendix"]
    rows = table(tmp_path / "reports/laptop", "trials")
    assert rows["variant"].tolist() == ["rdqn", "dqn-hidden", "dqn-hidden"]  # none of another scale
    assert rows["measure"].tolist() == ["success_rate", "return_mean", "success_rate"]
    assert "line 2 is not a record of a trial" in text


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
        monkeypatch.setattr(building, "read_texts", lambda: texts)
        return build(tmp_path)["appendix"]

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


def test_the_first_page_calls_values_by_words(tmp_path, monkeypatch):
    made.write_runs(tmp_path, "gridroboman", "10-tasks", {"dqn-hidden": 0.3}, made.BOARDS[:1], seeds=1)
    other = {"agent": {"encoder": "mlp"}}
    made.write_runs(tmp_path, "gridroboman", "10-tasks", {"oracle": 0.3}, made.BOARDS[:1], seeds=1, changes=other)
    entry = {"what": "A", "paper": "p", "here": "here", "why": "w", "effect": "e", "kind": "deviation", "key": True}
    path = tmp_path / "choices.yaml"
    entries = [entry | {"config": "agent.encoder", "words": {"relational": "offsets"}}]
    path.write_text(json.dumps({"choices": entries}))
    texts = choices.read_texts(path)
    monkeypatch.setattr(building, "read_texts", lambda: texts)
    pages = build(tmp_path)
    assert "| A | p | offsets |" in pages["README"]
    assert "| A | p | here (relational, mlp) |" in pages["appendix"]


def test_choices_are_of_experiments_that_there_are():
    known = {path.stem for path in (made.PROJECT / "config/experiments").glob("*.yaml")}
    texts = choices.read_texts()
    assert {name for entry in texts.choices for name in entry.experiments} <= known
    assert all(getattr(texts, part) for part in ("choices", "limitations", "easy", "difficult", "questions"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("choices: [{what: x}]", "choice 'x': key 'kind' is missing"),
        ("choices: [{WHAT, kind: devation}]", "choice 'x': kind: .*did you mean 'deviation'"),
        ("choices: [{WHAT, kind: open, papers: p}]", "choice 'x': unknown key 'papers'; did you mean 'paper'"),
        ("choices: [{WHAT, kind: open, config: learning.n_stp}]", "config: unknown key 'learning.n_stp'; did you mean"),
        ("choices: [{WHAT, kind: open, config: n_step}]", "config: unknown key 'n_step'"),
        ("choices: [{WHAT, kind: open, paper_values: [3]}]", "belong to the values of 'config'"),
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


def test_no_torch_at_start():
    """A report must not wait for torch to load."""
    code = (
        "import sys; from rarl.envs.spec import load; from rarl.reporting import registry, report; "
        "[load(name) for name in registry.PARTS.values()]; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_frame_is_the_same_on_the_page_and_as_numbers(report):
    """The rows of a table's Markdown are those of its CSV, in the same order."""
    text, rows = (report / "babyai.md").read_text(), table(report, "babyai-scores")
    lines = text.split("| Agent | Levels |")[1].splitlines()[2 : 2 + len(rows)]
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines] == rows["agent"].tolist()
    assert [line.split(" | ")[3].split("&")[0].strip("\u00a0") for line in lines] == [f"{v:.1f}" for v in rows["score"]]
