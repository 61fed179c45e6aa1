"""Charts and players in built pages, and in a browser."""

from __future__ import annotations

import html.parser
import json
import shutil
from pathlib import Path

import pytest

from rarl.envs.spec import spec_of
from rarl.reporting import charts, interactive, player
from tests.reporting import test_charts, test_player

PIXEL = '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="30"/>'
ASSETS = Path(interactive.__file__).parent / "assets"
KINDS = ("curves", "tasks", "effects")


def html_page(body, up=""):
    links = "".join(f'<link rel="stylesheet" href="{up}{path.name}">' for path in ASSETS.glob("*.css"))
    scripts = "".join(f'<script src="{up}{path.name}"></script>' for path in ASSETS.glob("*.js"))
    head = f'<head><meta charset="utf-8"><title>x</title>{links}</head>'
    return f'<!doctype html><html lang="en">{head}<body>{body}{scripts}</body></html>'


@pytest.fixture(scope="module")
def charts_of(studies):
    odd = test_charts.differences().replace("no slots", "</script><b>")
    return test_charts.kinds(studies) | {"odd": charts.effects(odd, test_charts.READINGS, {"part": "", "data": ""})}


@pytest.fixture(scope="module")
def site(charts_of, tmp_path_factory):
    """A page with a chart of each kind, a player and a plain picture; and one in a folder."""
    root = tmp_path_factory.mktemp("site")
    report, pages = root / "report", root / "pages"
    (pages / "variants").mkdir(parents=True)
    for name, chart in charts_of.items():
        interactive.save(report, name, chart)
    episode = test_player.with_weights([(0.6, 0.4), (0.3, 0.7), (0.5, 0.5)])
    interactive.save(report, "episode", player.player(spec_of("gridroboman"), episode, "An agent"))
    names = (*charts_of, "episode", "plain")
    for name in names:
        (report / "figures" / f"{name}.svg").write_text(PIXEL)
    shutil.copytree(report / "figures", pages / "figures")
    shutil.copytree(ASSETS, pages, dirs_exist_ok=True)
    body = "".join(f'<figure><img alt="{name}" src="figures/{name}.svg" loading="lazy"></figure>' for name in names)
    (pages / "index.html").write_text(html_page(body))
    (pages / "variants/dqn.html").write_text(html_page("<p><img src='../figures/curves.svg' /></p>", "../"))
    (pages / "about.html").write_text(html_page("none"))
    assert interactive.put_in(pages, report) == len(names)
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
        for _, what, _ in page.found:
            assert "sheet" not in what or (path.parent / what["sheet"]).is_file()


def test_nothing_is_changed_where_there_is_nothing_to_put_in(tmp_path):
    page = html_page('<img src="figures/a.svg">')
    (tmp_path / "index.html").write_text(page)
    assert interactive.put_in(tmp_path, tmp_path / "report") == 0
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
    assert (tmp_path / "index.html").read_text() == page


# --- in a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture
def page(open_page, site):
    return open_page(site[1] / "index.html")


def chart(page, name):
    found = page.locator(f'data-chart:has(img[alt="{name}"])')
    found.scroll_into_view_if_needed()
    page.wait_for_function("name => document.querySelector(`data-chart.drawn > img[alt=${name}]`)", arg=name)
    return found


def symbols(found, view=0):
    return (
        found.locator("svg.marks").nth(view).locator(".mark-symbol path:not([opacity]), .mark-symbol path[opacity='1']")
    )


def choose(found, name, value):
    found.locator(f"select[name={name}]").select_option(value)
    found.page.wait_for_timeout(200)


@pytest.mark.slow
def test_the_pointer_finds_what_the_frame_holds(page, charts_of):
    frame = charts_of["curves"].frame.set_index(["panel", "variant", "update"])
    row = frame.loc[test_charts.HIDDEN, "ra-dqn-hidden", 1000]
    found = chart(page, "curves")
    assert not found.locator("img").is_visible()
    choose(found, "panel", test_charts.HIDDEN)
    found.get_by_label("DQN, task hidden", exact=True).uncheck()
    page.wait_for_timeout(200)
    box = symbols(found).nth(1).bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2 + 3, box["y"] + box["height"] / 2 + 3)
    told = page.locator("#vg-tooltip-element.visible").inner_text()
    for text in ("RA-DQN", "1,000 updates", *(f"{row[name]:.3}" for name in ("score", "score_low", "seed_2"))):
        assert text in told


@pytest.mark.slow
def test_boxes_and_lists_choose_what_is_drawn(page, charts_of):
    frame = charts_of["curves"].frame
    found = chart(page, "curves")
    shown = frame[frame["panel"] == frame["panel"].iloc[0]]
    assert symbols(found).count() == len(shown)
    found.get_by_label("DQN, task hidden", exact=True).focus()
    page.keyboard.press("Space")
    page.wait_for_timeout(200)
    assert symbols(found).count() == (shown["variant"] != "dqn-hidden").sum()
    choose(found, "panel", "10 tasks, task observed")
    assert not found.get_by_label("DQN, task hidden", exact=True).is_visible()
    assert symbols(found).count() == (frame["panel"] == "10 tasks, task observed").sum()
    effects = chart(page, "effects")
    assert effects.get_by_label("hurts").is_visible()
    choose(effects, "panel", "B")
    assert not effects.get_by_label("hurts").is_visible()
    assert chart(page, "odd").locator("text", has_text="</script><b>").count() == 1


@pytest.mark.slow
def test_a_task_that_is_clicked_opens_its_curve(page, charts_of):
    found = chart(page, "tasks")
    last = found.locator("select[name=task] option").last
    value, name = last.get_attribute("value"), last.inner_text()
    page.wait_for_timeout(200)
    box = found.locator("svg.marks").first.bounding_box()
    label = found.locator("svg.marks").first.locator("text", has_text=name).bounding_box()
    page.mouse.click(box["x"] + 0.95 * box["width"], label["y"] + label["height"] / 2)
    page.wait_for_timeout(200)
    assert found.locator("select[name=task]").input_value() == value
    assert found.locator("svg.marks").nth(1).locator("text", has_text=name).count() == 1


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
    for name in KINDS:
        chart(page, name)
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
