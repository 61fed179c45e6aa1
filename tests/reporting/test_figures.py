"""Figures: bytes depend on the numbers alone, agents are told apart, what is asked for is drawn."""

from __future__ import annotations

import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from rarl.reporting import figures
from rarl.reporting.figures import Look, StripRow
from rarl.reporting.statistics import SHARES, UNBOUNDED

LOOK = Look("A", "#3f90da", "o")


def row(*values: float, **options) -> StripRow:
    return StripRow(LOOK, values, **options)


def test_same_numbers_same_bytes(tmp_path):
    written = []
    for name in ("a", "b"):
        with figures.style():
            figure, _ = figures.strip({"": [row(1.0, 2.0, 4.0)]}, "score")
            figures.stamp(figure, "smoke")
            figures.save(figure, tmp_path / f"{name}.svg")
            written.append((tmp_path / f"{name}.svg").read_text())
    assert written[0] == written[1]
    assert "<dc:date>" not in written[0]
    assert ">score</text>" in written[0]  # text is text
    assert written[0].count("prefers-color-scheme: dark") == 1


@pytest.mark.parametrize("pair", figures.DARK.items(), ids=lambda pair: pair[0])
def test_colours_are_seen_on_both_pages(pair):
    """WCAG 2.2: 4.5 of text, 3 of marks; the grid is neither."""
    needed = 4.5 if pair[0] in (figures.INK, figures.FAINT) else 3.0
    if pair[0] not in (figures.GRID, figures.PAPER):
        assert contrast(pair[0], "#ffffff") >= needed
        assert contrast(pair[1], figures.DARK[figures.PAPER]) >= needed


def contrast(one: str, other: str) -> float:
    """Of two colours by their relative luminance."""
    linear = [[c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(x)] for x in (one, other)]
    low, high = sorted(0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in linear)
    return (high + 0.05) / (low + 0.05)


def test_text_is_legible_on_a_phone():
    """11 pixels where 390 of 420 are left."""
    sizes = [v for k, v in figures._STYLE.items() if k.endswith(("size", "font.size"))]
    assert min(sizes) * 390 / (72 * figures.WIDTH) >= 11
    with figures.style():
        assert figures.new_figure(2).get_size_inches()[0] == figures.WIDTH


def test_rows_of_a_strip_under_their_headers():
    with figures.style():
        groups = {"one": [row(1.0, 2.0), row(3.0, printed=(5.0, 1.0))], "none": [], "two": [row(1.0)]}
        figure, axes = figures.strip(groups, "score", (0.0, 10.0))
    assert len(axes.get_yticks()) == 3
    assert [text.get_text() for text in axes.texts] == ["one", "two"]
    assert axes.get_xlim() == (0, 10)
    assert any(5.0 in line.get_xdata() for line in axes.lines)
    assert axes.get_xlabel() == "score"
    assert figure.get_size_inches()[1] > 1


def test_nothing_of_a_strip_is_cut_off():
    groups = {"held-out tasks, RA-DQN retrieves from": [row(1.0, 2.0)]}
    with figures.style():
        figure, _ = figures.strip(groups, "share of the expert's return")
        figure.canvas.draw()
        box = figure.get_tightbbox()
    assert 0 <= box.x0 < box.x1 <= figures.WIDTH


@pytest.mark.parametrize("across", [True, False])
def test_marks_are_drawn_where_the_axis_reaches_them(across):
    with figures.style():
        axes = figures.new_figure(2).subplots()
        axes.set(xlim=(0, 1), ylim=(0, 1))
        figures.marks(axes, {"expert": 1.0, "human": 3.0}, across=across)
    assert [text.get_text() for text in axes.texts] == ["expert"]


def test_looks_of_a_group_differ_and_bases_look_alike():
    agents = {"a": ("A, x", "x", "base"), "b": ("B", "x", "gain"), "c": ("C", "x", "part"), "d": ("D", "y", "base"),
              "e": ("E", "x", "base")}  # fmt: skip
    found = figures.looks(agents)
    assert found["a"].colour == found["d"].colour
    assert len({found[name].marker for name in "abce"}) == 4
    assert found["a"].within("x").label == "A"
    assert Look("A, x, xy", "black", "o").within("x").label == "A, xy"
    agents |= {"f": ("C, y", "y", "part"), "g": ("G", "y", "part"), "h": ("C", "y", "part")}
    found = figures.looks(agents)
    assert found["f"].colour == found["c"].colour != found["h"].colour  # called the same; but not twice in a group
    assert len({found[name].marker for name in "acegh"}) == 5
    many = figures.looks({str(i): (str(i), "", "part") for i in range(30)})
    assert len(many) == 30


@pytest.mark.parametrize("bounds", [SHARES, UNBOUNDED])
def test_nothing_of_several_panels_is_cut_off(bounds):
    """Of one kind they share their axis, of several each has its own."""
    frames = {title: pd.DataFrame({"agent": "dqn", "seed": [0, 0], "amount": [1, 10], "value": [top / 2, top]})
              for title, top in (("low", 0.2), ("high", 0.8))}  # fmt: skip
    looks = {"dqn": Look("DQN", "black", "o")}
    with figures.style():
        _, grid = figures.by_amount(frames, looks, "x", "y", {"low": bounds, "high": SHARES})
    assert [axes.get_ylim()[0] for axes in grid] == [0, 0]
    assert all(axes.get_ylim()[1] > frame["value"].max() for axes, frame in zip(grid, frames.values(), strict=True))
    assert (grid[0].get_ylim() == grid[1].get_ylim()) == (bounds == SHARES)


def test_a_long_legend_takes_nothing_from_the_panels():
    heights = []
    for n in (4, 14):
        with figures.style():
            figure = figures.new_figure(2.6)
            axes = figure.subplots()
            figures.legend(
                figure, [Look(f"an agent whose name is rather long, the {i}th of them", "black", "o") for i in range(n)]
            )
            figure.canvas.draw()
        heights.append(axes.get_window_extent().height)
    assert heights[1] > 0.8 * heights[0]
