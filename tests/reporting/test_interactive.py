"""Charts and players in built pages, and in a browser."""

from __future__ import annotations

import html.parser
import json
import shutil

import pytest

from rarl.envs.spec import spec_of
from rarl.reporting import interactive, player
from tests.reporting import test_charts, test_player

PIXEL = '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="30"/>'
HEAD = '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>x</title></head><body>'


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A page with a chart of each kind, a player and a plain picture; and one in a folder."""
    root = tmp_path_factory.mktemp("site")
    report, pages = root / "report", root / "pages"
    (pages / "figures").mkdir(parents=True)
    (pages / "variants").mkdir()
    names = {**test_charts.KINDS, "odd": lambda: odd}
    odd = test_charts.charts.effects(
        test_charts.differences().replace("no slots", "</script><b>"), test_charts.VERDICTS
    )
    for name, make in names.items():
        interactive.save_chart(report, name, make())
    episode = test_player.with_weights([(0.6, 0.4), (0.3, 0.7), (0.5, 0.5)])
    interactive.save_player(report, "episode", player.player(spec_of("gridroboman"), episode, "An agent"))
    for name in (*names, "episode", "plain"):
        (pages / "figures" / f"{name}.svg").write_text(PIXEL)
    body = "".join(f'<p><img alt="{name}" src="figures/{name}.svg" /></p>' for name in (*names, "episode", "plain"))
    (pages / "index.html").write_text(f"{HEAD}{body}</body></html>")
    (pages / "variants/dqn.html").write_text(f"{HEAD}<img src='../figures/curves.svg'></body></html>")
    (pages / "about.html").write_text(f"{HEAD}</body></html>")
    assert interactive.put_in(pages, report) == len(names) + 2
    return report, pages


class Elements(html.parser.HTMLParser):
    """found: [(element, its JSON, its picture)] of a page; links: every src and href."""

    def __init__(self, text):
        super().__init__()
        self.found, self.links, self._open = [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.links += [attributes[name] for name in ("src", "href") if name in attributes]
        if tag in ("data-chart", "retrieval-player"):
            self.found.append([tag, None, None])
        elif tag == "img" and self.found and self.found[-1][2] is None:
            self.found[-1][2] = attributes["src"]
        self._open = attributes.get("type") if tag == "script" else None

    def handle_data(self, data):
        if self._open == "application/json":
            self.found[-1][1] = json.loads(data)


def test_pictures_become_elements_that_hold_their_data(site):
    report, pages = site
    page = Elements((pages / "index.html").read_text())
    assert [tag for tag, *_ in page.found] == ["data-chart"] * 4 + ["retrieval-player"]
    for _, what, picture in page.found:
        stored = json.loads(
            (report / "interactive" / picture.replace("figures/", "").replace(".svg", ".json")).read_text()
        )
        csv = what.pop("csv", None)
        assert what == stored
        assert csv is None or csv == (report / what["table"]).read_text()
    assert "plain" not in str(page.found)


def test_every_link_of_a_page_is_a_file_of_the_site(site):
    _, pages = site
    for name in ("index.html", "variants/dqn.html", "about.html"):
        path = pages / name
        page = Elements(path.read_text())
        assert all((path.parent / link).is_file() for link in page.links)
        assert bool(page.links) == bool(page.found)
        for _, what, _ in page.found:
            assert "sheet" not in what or (path.parent / what["sheet"]).is_file()


def test_nothing_is_changed_where_there_is_nothing_to_put_in(tmp_path):
    page = f'{HEAD}<img src="figures/a.svg"></body></html>'
    (tmp_path / "index.html").write_text(page)
    assert interactive.put_in(tmp_path, tmp_path / "report") == 0
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
    assert (tmp_path / "index.html").read_text() == page


# --- in a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or pytest.skip("there is no chromium")
    with driver.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def page(browser, site):
    """The page, open; that it says no error and asks for files alone is checked at the end."""
    opened = browser.new_page(viewport={"width": 1000, "height": 900}, reduced_motion="reduce")
    errors, asked = [], []
    opened.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto((site[1] / "index.html").as_uri())
    yield opened
    assert not errors
    assert all(url.startswith(("file:", "data:")) for url in asked)
    opened.close()


def chart(page, name):
    found = page.locator(f'data-chart:has(img[alt="{name}"])')
    found.scroll_into_view_if_needed()
    page.wait_for_function("name => document.querySelector(`data-chart.drawn > img[alt=${name}]`)", arg=name)
    return found


def symbols(found, view=0):
    return (
        found.locator("svg.marks").nth(view).locator(".mark-symbol path:not([opacity]), .mark-symbol path[opacity='1']")
    )


@pytest.mark.slow
def test_the_pointer_finds_what_the_frame_holds(page):
    frame = test_charts.points_of_panels().set_index(["panel", "variant", "update"])
    row = frame.loc["10 tasks", "ra-dqn", 200]
    found = chart(page, "curves")
    assert not found.locator("img").is_visible()
    box = symbols(found).nth(6).bounding_box()  # the last mean of the second agent
    page.mouse.move(box["x"] + box["width"] / 2 + 3, box["y"] + box["height"] / 2 + 3)
    told = page.locator("#vg-tooltip-element.visible").inner_text()
    for text in ("RA-DQN", "200 updates", f"{row['score']:.3}", f"{row['score_low']:.3}", f"{row['seed_2']:.3}"):
        assert text in told


@pytest.mark.slow
def test_boxes_and_lists_choose_what_is_drawn(page):
    found = chart(page, "curves")
    assert symbols(found).count() == 7
    found.get_by_label("DQN", exact=True).focus()
    page.keyboard.press("Space")
    page.wait_for_timeout(200)
    assert symbols(found).count() == 3
    found.locator("select[name=panel]").select_option("30 tasks")
    page.wait_for_timeout(200)
    assert symbols(found).count() == 4
    effects = chart(page, "effects")
    assert effects.get_by_label("hurts").is_visible()
    effects.locator("select[name=panel]").select_option("B")
    assert not effects.get_by_label("hurts").is_visible()
    odd = chart(page, "odd")
    assert odd.locator("text", has_text="</script><b>").count() == 1


@pytest.mark.slow
def test_a_task_that_is_clicked_opens_its_curve(page):
    found = chart(page, "tasks")
    page.wait_for_timeout(200)
    box = found.locator("svg.marks").first.bounding_box()
    label = found.locator("svg.marks").first.locator("text", has_text="lift red").bounding_box()
    page.mouse.click(box["x"] + 0.8 * box["width"], label["y"] + label["height"] / 2)
    page.wait_for_timeout(200)
    assert found.locator("select[name=task]").input_value() == "lift-red"
    assert found.locator("svg.marks").nth(1).locator("text", has_text="lift red").count() == 1


@pytest.mark.slow
def test_the_player_is_stepped_by_keys(page):
    found = page.locator("retrieval-player")
    slider, says = found.locator("input[type=range]"), found.locator("output")
    assert slider.input_value() == "0"
    start = found.locator(".player-state svg").get_attribute("viewBox")
    page.wait_for_timeout(600)
    assert slider.input_value() == "0"  # it does not play by itself
    slider.focus()
    page.keyboard.press("ArrowRight")
    assert says.inner_text().startswith("Step 1:")
    assert found.locator(".player-state svg").get_attribute("viewBox") != start
    weights = [found.locator(".player-retrieved li b").nth(k).inner_text() for k in range(2)]
    assert weights == ["weight 0.700", "weight 0.300"]
    assert found.locator("tr.taken").count() == 1
    found.get_by_label("Step back").focus()
    page.keyboard.press("Enter")
    assert slider.input_value() == "0"
    found.get_by_label("Play", exact=True).focus()
    page.keyboard.press("Enter")
    page.wait_for_timeout(700)
    assert slider.input_value() == "0"  # with reduced motion a step takes a second
    page.wait_for_function("document.querySelector('retrieval-player input').value === '1'")
    page.keyboard.press("Enter")
    assert found.get_by_label("Play", exact=True).is_visible()


@pytest.mark.slow
@pytest.mark.parametrize("width", [420, 1200])
def test_nothing_is_wider_than_the_window(page, width):
    page.set_viewport_size({"width": width, "height": 900})
    for name in test_charts.KINDS:
        chart(page, name)
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
