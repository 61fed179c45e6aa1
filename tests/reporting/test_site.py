"""The site: every page is in its navigation, every link leads somewhere, and it needs neither server nor network."""

from __future__ import annotations

import json
import re
import shutil
import xml.etree.ElementTree as etree

import pytest
import yaml
from markdown import Markdown

from rarl.errors import RarlError
from rarl.reporting.registry import NAVIGATION
from rarl.reporting.site import TablesExtension, build_site
from tests.reporting.built import Page, lost_references


@pytest.fixture(scope="module")
def site(report, tmp_path_factory):
    """The folder of the project's site."""
    folder = tmp_path_factory.mktemp("a site ü") / "report"
    shutil.copytree(report, folder)
    return build_site(folder, "A report").parent


@pytest.fixture(scope="module")
def pages(site):
    """path -> page."""
    return {path: Page(path.read_text()) for path in site.rglob("*.html")}


def files(entries) -> list[str]:
    return [entries] if isinstance(entries, str) else [f for e in entries for v in e.values() for f in files(v)]


def test_every_page_is_in_the_navigation(report, pages, site):
    named = files(yaml.safe_load((report / NAVIGATION).read_text()))
    assert sorted(named) == sorted(path.relative_to(report).as_posix() for path in report.rglob("*.md"))
    built = {path.relative_to(site).with_suffix("").as_posix() for path in pages}
    assert built == {name.removesuffix(".md").replace("README", "index") for name in named}


def test_links_of_the_site_lead_somewhere(pages):
    assert lost_references(pages) == []


def test_charts_and_players_stand_in_the_place_of_their_pictures(report, site):
    text = "".join(path.read_text() for path in site.rglob("*.html"))
    made = [json.loads(path.read_text())["element"] for path in report.glob("interactive/*.json")]
    assert {"data-chart", "retrieval-player"} == {*made}
    for element in set(made):
        assert text.count(f"<{element} ") >= made.count(element)
    assert (site / "vega.js").is_file()
    assert not (site / "interactive").exists()


def test_nothing_comes_from_the_network(pages, site):
    for path, page in pages.items():
        loaded = [ref for tag, ref in page.references if tag in ("script", "link", "img", "source", "iframe")]
        assert loaded
        assert not [ref for ref in loaded if re.match(r"https?:|//", ref)], path
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(https?:|//)|@import", sheet.read_text()), sheet


def test_the_first_page_is_light(site):
    """All that it names, pictures below the fold included."""
    page = Page((site / "index.html").read_text())
    named = {site / ref for tag, ref in page.references if tag in ("script", "link", "img")} | {site / "index.html"}
    assert sum(path.stat().st_size for path in named if path.is_file()) < 1_000_000


def test_tables_have_captions_scopes_and_heads_beside_their_cells():
    text = "Table: What *it* shows.\n\n| Claim | Verdict |\n|:--|:--|\n| a | yes |\n| b | \u2013 |\n"
    (table,) = etree.fromstring(f"<d>{Markdown(extensions=['tables', TablesExtension()]).convert(text)}</d>")
    assert "".join(table.find("caption").itertext()) == "What it shows."
    assert [head.get("scope") for head in table.iter("th")] == ["col", "col", "row", "row"]
    assert [cell.get("data-head") for cell in table.iter("td")] == ["Verdict"] * 2
    assert table.find("tbody")[1][1].get("data-none") is not None
    assert table.get("data-cards") is not None


def test_without_pages_it_says_what_writes_them(tmp_path):
    with pytest.raises(RarlError, match="rarl report"):
        build_site(tmp_path, "t")


@pytest.mark.parametrize("text", ["3", "Claims: README.md", "[README.md]", "[{a: README.md, b: README.md}]", "[{a: 3}]",
                                  "[{a: [{b: nowhere.md}]}]", ""])  # fmt: skip
def test_a_navigation_of_another_kind_is_named(tmp_path, text):
    (tmp_path / "README.md").write_text("# A page")
    (tmp_path / NAVIGATION).write_text(text)
    with pytest.raises(RarlError, match=r"navigation\.yaml: must be a list"):
        build_site(tmp_path, "t")
