"""Text that nobody can break a table or a page with, and numbers as people read them."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markupsafe import Markup

from rarl.reporting import tables
from rarl.reporting.statistics import Interval, t_interval

HOSTILE = [
    "a|b", "<script>alert(1)</script>", "two\nlines", "two\u2028lines", "![x](http://example.org/x.png)",
    "[x](javascript:alert(1))", "`code` *bold* __bold__ ~~gone~~", "# head", "- item", "1. item", "> quote", "---",
    "&amp;&lt;script&gt;", "back\\slash", "https://example.org www.example.org", "$x$ @name", "</td></table>",
]  # fmt: skip
PARSER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


def text_of(markdown: str) -> str:
    """The text that a reader sees, and a check that there is nothing but text."""
    (start, inline, end) = PARSER.parse(markdown)
    assert start.type == "paragraph_open"
    assert end.type == "paragraph_close"
    assert all(child.type in ("text", "text_special") for child in inline.children), inline.children
    return "".join(child.content for child in inline.children)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_strings_stay_text(hostile):
    seen = text_of(tables.md(hostile)).replace("\u200b", "")
    assert seen == " ".join(hostile.split())
    html = PARSER.render(tables.table(["name", hostile], [[hostile, 1]]))
    assert html.count("<td") == 2
    assert not any(tag in html for tag in ("<script", "<img", "href", "<code>"))


@given(st.text(max_size=60))
def test_any_text_fills_exactly_one_cell(text):
    html = PARSER.render(tables.table(["a", "b"], [[text, "end"]]))
    assert html.count("<td") == 2
    assert html.count("<tr") == 2
    assert ">end</td>" in html


def test_markup_is_not_escaped_twice():
    assert tables.md(Markup("**x**")) == "**x**"
    assert str(tables.code("a|b `c` <d>")) == "<code>a&#124;b &#96;c&#96; &lt;d&gt;</code>"


def test_numbers():
    assert tables.number(1234.567, 1) == "1,234.6"
    assert tables.number(-0.25, signed=True) == "\u22120.25"
    assert tables.number(0.25, signed=True) == "+0.25"
    assert tables.number(-0.001) == "0.00"  # never minus zero
    for nothing in (None, math.nan, math.inf, "x", True):
        assert tables.number(nothing) == tables.NONE


def test_intervals():
    space = tables.HARD_SPACE
    assert tables.interval(Interval(0.5, 0.25, 0.75, (5,))) == f"0.5{space}[0.2,{space}0.8]"
    assert tables.interval(t_interval([0.5])) == f"0.500,{space}CI{space}n/a{space}(n=1)"
    assert "identical across seeds" in tables.interval(t_interval([0.5, 0.5])).replace(space, " ")
    assert tables.interval(t_interval([])) == tables.NONE
    assert tables.interval(None) == tables.NONE


@pytest.mark.parametrize(
    ("estimate", "half", "said"),
    [
        (0.40874, 0.0275, "0.41 [0.38, 0.44]"), (0.9971, 0.0042, "0.997 [0.993, 1.001]"),
        (90.4, 17.3, "90 [73, 108]"), (1234.5, 250.0, "1,234 [984, 1,484]"), (-3.0556, 6.2, "−3 [−9, 3]"),
        (0.5, 0.0996, "0.5 [0.4, 0.6]"),
        (0.9999999997, 1e-9, "1.0000 [1.0000, 1.0000]"), (2e-10, 7e-10, "0.000000 [0.000000, 0.000000]"),
    ],
)  # fmt: skip
def test_digits_go_by_the_width_of_the_interval(estimate, half, said):
    value = Interval(estimate, estimate - half, estimate + half, (5,))
    assert tables.interval(value).replace(tables.HARD_SPACE, " ") == said


def test_tables_check_their_shape():
    with pytest.raises(ValueError, match="cells"):
        tables.table(["a", "b"], [[1]])


def test_csv_is_stable(tmp_path):
    frame = pd.DataFrame({"a": [1 / 3, math.nan], "b": ["x,y", 'q"']})
    tables.write_csv(tmp_path / "t.csv", frame)
    assert (tmp_path / "t.csv").read_bytes() == b'a,b\n0.333333,"x,y"\n,"q"""\n'


def test_one_frame_gives_markdown_and_csv(tmp_path):
    mean = t_interval([0.25, 0.5, 0.75])
    frame = pd.DataFrame(
        {"name": ["a|b", "c"], "delta": [mean, None], "n": [1000, 2.345678], "empty": [None, math.nan]}
    )
    heads = {"name": "Name", "delta": "Δ", "n": "N", "empty": "Nothing"}
    lines = str(tables.to_markdown(frame, heads, name=str.upper)).replace(tables.HARD_SPACE, " ").splitlines()
    assert lines[:2] == ["| Name | Δ | N |", "|:--|--:|--:|"]  # what has no value has no column
    assert lines[2:] == ["| A&#124;B | +0.5 &#91;\u22120.1, +1.1&#93; | 1,000 |", "| C | – | 2.35 |"]
    tables.write_csv(tmp_path / "t.csv", frame)
    read = pd.read_csv(tmp_path / "t.csv")
    assert list(read) == ["name", "delta", "delta_low", "delta_high", "n", "empty"]
    assert read["delta_high"].tolist() == pytest.approx([mean.high, math.nan], abs=1e-5, nan_ok=True)
