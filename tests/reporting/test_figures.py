"""Figures: bytes depend on the numbers alone, agents are told apart, what is asked for is drawn."""

from __future__ import annotations

import pytest

from rarl.reporting import figures
from rarl.reporting.figures import Look, StripRow

LOOK = Look("A", "#3f90da", "o")


def row(*values: float, **options) -> StripRow:
    return StripRow(LOOK, values, **options)


def test_same_numbers_same_bytes(tmp_path):
    written = []
    for name in ("a", "b"):
        with figures.style():
            figure, _ = figures.strip({"": [row(1.0, 2.0, 4.0)]}, "score")
            figures.stamp(figure, "smoke")
            written.append([path.read_bytes() for path in figures.save(figure, tmp_path / name)])
    assert written[0] == written[1]
    assert b"<dc:date>" not in written[0][0]


def test_no_figure_is_wider_than_a_phone_can_show():
    assert figures.WIDTH <= 6.5
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
    many = figures.looks({str(i): (str(i), "", "part") for i in range(30)})
    assert len(many) == 30
