"""The site of a report that is in git, in a browser: links, accessibility, weight, narrow screens, filtered tables."""

from __future__ import annotations

import re
import shutil
import xml.etree.ElementTree as etree

import pytest

from rarl.reporting.answers import LESS_LIKELY
from rarl.reporting.claims import load_claims
from rarl.reporting.rules import READINGS
from rarl.reporting.site import build_site
from tests.reporting import synthetic as made
from tests.reporting.built import Page, lost_references, table

pytestmark = pytest.mark.slow

REPORT = made.PROJECT / "reports/laptop"
PAGES = sorted(path.relative_to(REPORT).with_suffix("").as_posix().replace("README", "index")
               for path in REPORT.rglob("*.md"))  # fmt: skip
MAIN = [name for name in PAGES if "/" not in name]
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
SMALLEST = 11  # pixels of text in figures
NARROW, WIDE = 420, 1200


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("built") / "report"
    shutil.copytree(REPORT, folder, ignore=shutil.ignore_patterns("site"))
    return build_site(folder, "A report").parent


@pytest.fixture(scope="module")
def parsed(site):
    return {path: Page(path.read_text()) for path in site.rglob("*.html")}


@pytest.fixture
def show(open_page, site):
    """(name, width) -> the page with all that comes late: parts that are folded, charts, pictures."""

    def show_one(name: str, width: int):
        page = open_page(site / f"{name}.html", width)
        page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
        for chart in page.locator("data-chart").all():
            chart.scroll_into_view_if_needed()
        page.wait_for_function("!document.querySelector('data-chart:not(.drawn)')")
        page.locator("img").evaluate_all("(all) => all.forEach((one) => { one.loading = 'eager'; })")
        page.wait_for_function("[...document.images].every((one) => one.naturalWidth)")
        return page

    return show_one


def violations(page) -> dict[str, list[str]]:
    """Rule -> the elements that break it."""
    from axe_playwright_python.sync_playwright import Axe

    # Style sheets of files may not be read: to load them first is refused, and is the one thing that is left out.
    options = {"runOnly": TAGS, "resultTypes": ["violations"], "preload": False}
    found = Axe().run(page, options=options).response["violations"]
    return {rule["id"]: [str(node["target"]) for node in rule["nodes"]] for rule in found}


def switch(page, scheme: str) -> None:
    """To the dark colours of a page or to its light ones, by its button."""
    page.locator("[data-md-component=palette] label:visible").click()
    page.wait_for_selector(f"body[data-md-color-scheme={scheme}]")


def test_every_reference_leads_somewhere(site, parsed):
    assert {path.relative_to(site).with_suffix("").as_posix() for path in parsed} == {*PAGES}
    assert lost_references(parsed) == []


@pytest.mark.parametrize("name", PAGES)
def test_no_page_breaks_a_rule_of_accessibility(show, name):
    """Main pages and one variant's also when narrow and dark; the others differ from it by what their tables hold."""
    page = show(name, WIDE)
    assert violations(page) == {}
    if name in MAIN or name == PAGES[-1]:
        switch(page, "slate")
        assert violations(page) == {}
        page.set_viewport_size({"width": NARROW, "height": 900})
        assert violations(page) == {}
        switch(page, "default")
        assert violations(page) == {}


def test_the_first_page_is_small_and_charts_come_late_and_once(open_page, site):
    assert (site / "index.html").stat().st_size < 1_000_000
    asked = []
    page = open_page(site / "index.html", WIDE)
    page.on("request", lambda request: asked.append(request.url.rpartition("/")[2]))
    page.goto((site / "index.html").as_uri())
    page.wait_for_load_state("networkidle")
    assert asked.count("vega.js") == 0
    below = page.locator("main figure img").all()
    assert below
    assert {picture.get_attribute("loading") for picture in below} == {"lazy"}
    page.goto((site / "babyai.html").as_uri())
    page.wait_for_load_state("networkidle")
    assert asked.count("vega.js") == 0
    charts = page.locator("data-chart")
    assert charts.count() > 1
    for chart in charts.all():
        chart.scroll_into_view_if_needed()
    page.wait_for_function("!document.querySelector('data-chart:not(.drawn)')")
    assert asked.count("vega.js") == 1


def smallest_of(picture) -> float:
    """The smallest text of an SVG file, in its own units, of which its width says how many there are."""
    root = etree.parse(picture).getroot()
    sizes = re.findall(r"font(?:-size)?: *(?:[^;\"]*? )??([\d.]+)px", etree.tostring(root, encoding="unicode"))
    return min(map(float, sizes)) / float(root.get("viewBox").split()[2])


@pytest.mark.parametrize("name", MAIN)
def test_a_narrow_page_can_be_read(show, site, name):
    page = show(name, NARROW)
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW
    small = {}
    for picture in page.locator("main figure img:visible").all():
        source = site / picture.get_attribute("src")
        size = smallest_of(source) * picture.bounding_box()["width"]
        if size < SMALLEST:
            small[source.name] = size
    assert small == {}
    drawn = page.locator("data-chart svg.marks text").evaluate_all(
        """(all) => all.filter((one) => one.textContent.trim()).map((one) => {
             const { a, b } = one.getScreenCTM();
             return parseFloat(getComputedStyle(one).fontSize) * Math.hypot(a, b); })"""
    )
    assert min(drawn, default=SMALLEST) >= SMALLEST
    # Cells that hold a verdict alone.
    told = page.locator("td").evaluate_all(
        """(all) => all.map((one) => { const box = one.getBoundingClientRect();
             return [one.textContent.replace(/^\\P{L}+/u, "").replace(", preliminary", ""), box.left, box.right]; })"""
    )
    verdicts = {*READINGS.values(), *table(REPORT, "claims")["outcome"], "yes", "no"}
    shown = [(text, left, right) for text, left, right in told if text in verdicts]
    assert [one for one in shown if not 0 <= one[1] < one[2] <= NARROW] == []
    assert shown


# --- the table of all claims ------------------------------------------------------------------------------------------


def rows(page, column: int) -> list[str]:
    """What is shown of a column, from the top."""
    return page.locator("table[data-filters] tbody tr:visible").evaluate_all(
        "(all, column) => all.map((one) => one.cells[column].textContent)", column
    )


def test_claims_are_filtered(open_page, site):
    page, claims = open_page(site / "claims.html", WIDE), table(REPORT, "claims", "id")
    says = page.locator(".table-live output")
    assert len(rows(page, 0)) == len(claims)
    assert says.get_attribute("aria-live") or says.evaluate("(one) => one.tagName") == "OUTPUT"
    page.get_by_label("Verdict").select_option("✓ supported")
    expected = claims[(claims["outcome"] == "supported") & ~claims["own"]]
    readings = {claim.id for claim in load_claims(made.PROJECT / "config/claims.yaml")[1] if claim.reading_of}
    assert sorted(rows(page, 0)) == sorted(
        row.text + LESS_LIKELY * (row.Index in readings) for row in expected.itertuples()
    )
    assert f"{len(expected)} of {len(claims)}" in says.inner_text()
    page.get_by_label("Environment").select_option("BabyAI")
    assert {*rows(page, 1)} <= {"✓ supported"}
    assert {*rows(page, 2)} <= {"BabyAI"}
    page.get_by_label("Verdict").select_option("")
    page.get_by_label("Environment").select_option("")
    page.get_by_label("Text", exact=True).fill("ORACLE")
    assert rows(page, 0)
    assert rows(page, 0) == [text for text in claims["text"] if "oracle" in text.lower()]


def test_claims_are_sorted_by_keys_and_lead_to_their_place(open_page, site):
    page = open_page(site / "claims.html", WIDE)
    heads = page.locator("table[data-filters] thead th").all_inner_texts()
    (found,) = (i for i, head in enumerate(heads) if head.startswith("Replicated"))
    head = page.locator("table[data-filters] thead th").nth(found)
    head.get_by_role("button").focus()
    for key, order in (("Enter", "ascending"), ("Space", "descending")):
        page.keyboard.press(key)
        assert head.get_attribute("aria-sort") == order
        told = rows(page, found)
        numbers = [float(text.replace("−", "-").split("[")[0].split(",")[0]) for text in told if text != "–"]
        assert numbers == sorted(numbers, reverse=order == "descending")
        assert {*told[len(numbers) :]} == {"–"}
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("document.activeElement.closest('th, .table-live') !== null")
    link = page.locator("table[data-filters] tbody tr").first.get_by_role("link")
    place = link.get_attribute("href")
    link.click()
    page.wait_for_url(f"**/{place}")
    target = page.locator(f"[id='{place.partition('#')[2]}']")
    assert target.bounding_box()["y"] < 900
