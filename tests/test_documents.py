"""What the documents name exists: files, headings, names in code, targets of make; and versions agree."""

from __future__ import annotations

import re
import tomllib
from itertools import product
from pathlib import Path

import pytest
import yaml

import rarl
from rarl.config.scale import Scale

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/glossary.md",
    "data/README.md",
    "workflow/README.md",
]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def text_of(document: str | Path) -> str:
    """Without blocks of code."""
    return re.sub(r"^```.*?^```", "", (ROOT / document).read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def links_of(document: str) -> list[tuple[str, Path, str]]:
    """(text, file, anchor) of each link that stays in the project."""
    found = re.findall(r"\[([^\]]*)\]\(([^)\s]+)\)", text_of(document))
    parts = [(text, *target.partition("#")[::2]) for text, target in found if "://" not in target]
    folder = (ROOT / document).parent
    return [(text, (folder / path).resolve() if path else ROOT / document, anchor) for text, path, anchor in parts]


def anchors_of(file: Path) -> set[str]:
    """As GitHub makes them of headings."""
    heads = re.findall(r"^#+ (.+)$", text_of(file), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def expanded(path: str) -> list[str]:
    """rarl/{a,b}.py -> rarl/a.py, rarl/b.py"""
    parts = [part.split(",") for part in re.split(r"[{}]", path)]
    return ["".join(choice) for choice in product(*parts)]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    links = links_of(document)
    assert [str(path) for _, path, _ in links if not path.exists()] == []
    assert [anchor for _, path, anchor in links if anchor and anchor not in anchors_of(path)] == []


def test_the_glossary_names_what_the_code_has() -> None:
    names = [(text.strip("`"), path) for text, path, _ in links_of("docs/glossary.md") if path.suffix == ".py"]
    assert len(names) > 20
    assert [name for name, path in names if not re.search(rf"\b{name.rpartition('.')[2]}\b", path.read_text())] == []


@pytest.mark.parametrize(("document", "heading"), [("README.md", "Code"), ("CONTRIBUTING.md", "Map of the code")])
def test_the_map_names_files_that_are_there(document: str, heading: str) -> None:
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## )", text_of(document), re.DOTALL | re.MULTILINE)
    rows = [line for line in section.splitlines() if line.startswith("|")]
    named = [path for row in rows for name in re.findall(r"`([^`]+)`", row) if re.search("[/.]", name)
             for path in expanded(name)]  # fmt: skip
    assert len(named) >= 10
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_licence_of_every_direct_dependency_is_told() -> None:
    requirements = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    names = re.findall(r"^([\w.-]+)==", requirements, re.MULTILINE)
    licences = text_of("CONTRIBUTING.md").partition("## Licences")[2]
    assert len(names) > 30
    assert [name for name in names if not re.search(rf"(?<![\w-]){name}(?![\w-])", licences)] == []


def test_runs_and_datasets_that_are_named_are_those_of_the_default_scale() -> None:
    text = "".join((ROOT / document).read_text(encoding="utf-8") for document in DOCUMENTS)
    scale = Scale("laptop", ROOT)
    runs = {*re.findall(r"(?<![\w/-])(?:results/laptop/runs/)?([\w-]+/[\w-]+/[\w-]+/seed-\d+)", text)}
    datasets = {*re.findall(r"(?:rarl datasets make |data/laptop/)([\w-]+/[\w-]+/[\w-]+)", text)}
    own = {"mine/all/ra-dqn/seed-0", "cartpole/random/cart-pole-v1"}
    assert runs - own <= {*scale.runs}
    assert datasets - own <= {*scale.datasets}
    assert len(runs) > 2
    assert len(datasets) > 1


def test_the_citation_has_the_versions_of_the_package() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["version"] == project["version"] == rarl.__version__
    assert citation["license"] == project["license"] == (ROOT / "LICENSE").read_text().split()[0]
    assert {"cff-version", "message", "title", "authors"} <= {*citation}
    (paper,) = citation["references"]
    (identifier,) = paper["identifiers"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    facts = [author["family-names"].split()[-1] for author in paper["authors"]]
    facts += [paper["title"], paper["year"], paper["volume"], identifier["value"], f"version = {{{rarl.__version__}}}"]
    assert [fact for fact in facts if str(fact) not in readme] == []


def test_workflows_make_targets_that_there_are_on_the_pythons_of_the_readme() -> None:
    targets = {*re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)}
    steps = [step for file in WORKFLOWS for job in yaml.safe_load(file.read_text())["jobs"].values()
             for step in job["steps"]]  # fmt: skip
    made = {name for step in steps for name in re.findall(r"^make ([a-z-]+)", step.get("run", ""), re.MULTILINE)}
    assert made <= targets
    assert {"lint", "test", "test-all", "site"} <= made
    tests = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text())["jobs"]["tests"]
    *others, last = tests["strategy"]["matrix"]["python"]
    assert f"{', '.join(others)} and {last}" in text_of("README.md")
