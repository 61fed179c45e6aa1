"""Templates to Markdown, Markdown to one self-contained HTML page."""

from __future__ import annotations

import base64
import html
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.anchors import anchors_plugin

from rarl.errors import RarlError
from rarl.reporting import tables

_TYPES = {".svg": "image/svg+xml", ".png": "image/png", ".webp": "image/webp"}
_MIDDLE, _WIDE = 3, 5  # tables with more columns scroll on a narrow screen instead of being squeezed


def environment() -> Environment:
    """Templates in which every value is escaped for Markdown and HTML unless it is already Markup."""
    env = Environment(
        loader=PackageLoader("rarl.reporting", "templates"),
        undefined=StrictUndefined,
        finalize=tables.md,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # `finalize` has escaped already; a second time would show the entities
    )
    env.globals.update(tables=tables)
    return env


def render_markdown(context: dict[str, Any]) -> str:
    """REPORT.md from its template, without runs of empty lines."""
    text = environment().get_template("REPORT.md.j2").render(context)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def to_html(markdown: str, folder: Path, *, title: str, mark: str = "") -> str:
    """One HTML page without any reference to the outside.

    Args:
      markdown: text of REPORT.md; images are relative to `folder`. Links to other files stay text.
      mark: a word that is written across the page ("smoke", "preliminary"), or nothing.
    """
    parser = MarkdownIt("commonmark", {"html": True, "alerts": True}).enable("table")
    anchors_plugin(parser, min_level=2, max_level=3)
    tokens = parser.parse(markdown)
    contents = _contents(tokens)
    _inline_images(tokens, folder)
    _wrap_tables(tokens)
    _unlink(tokens)
    body = parser.renderer.render(tokens, parser.options, {})
    template = (Path(__file__).parent / "templates" / "page.html").read_text(encoding="utf-8")
    navigation = f'<nav aria-label="Contents"><details><summary>Contents</summary>{contents}</details></nav>'
    parts = {
        "TITLE": html.escape(title),
        "MARK": html.escape(mark),
        "BODY": body.replace("</h1>", "</h1>\n" + navigation, 1),
    }
    return re.sub(r"\{\{(TITLE|MARK|BODY)\}\}", lambda match: parts[match.group(1)], template)


def _contents(tokens: list[Token]) -> str:
    """The page's list of sections."""
    items = []
    for token, inline in pairwise(tokens):
        if token.type == "heading_open" and token.tag == "h2":
            text = "".join(child.content for child in inline.children or [])
            items.append(f'<li><a href="#{html.escape(str(token.attrGet("id")))}">{html.escape(text)}</a></li>')
    return "<ol>" + "".join(items) + "</ol>"


def _inline_images(tokens: list[Token], folder: Path) -> None:
    for token in tokens:
        for child in token.children or []:
            if child.type == "image":
                child.attrSet("src", _data_uri(folder / str(child.attrGet("src"))))
    for opening, inline in pairwise(tokens):
        only = inline.children or []
        if opening.type == "paragraph_open" and len(only) == 1 and only[0].type == "image":
            opening.attrSet("class", "figure")


def _data_uri(path: Path) -> str:
    if path.suffix not in _TYPES:
        raise RarlError(f"{path}: an image must be one of {', '.join(_TYPES)}")
    try:
        content = path.read_bytes()
    except OSError:
        raise RarlError(f"{path}: the report shows this image, but it is not there") from None
    return f"data:{_TYPES[path.suffix]};base64,{base64.b64encode(content).decode('ascii')}"


def _wrap_tables(tokens: list[Token]) -> None:
    for i in range(len(tokens) - 1, -1, -1):
        if tokens[i].type == "table_close":
            tokens.insert(i + 1, _raw("</div>\n"))
        elif tokens[i].type == "table_open":
            columns = 0
            for token in tokens[i:]:
                columns += token.type == "th_open"
                if token.type == "thead_close":
                    break
            name = "scroll" + (" wide" if columns > _WIDE else " middle" if columns > _MIDDLE else "")
            tokens.insert(i, _raw(f'<div class="{name}" tabindex="0">\n'))


def _raw(content: str) -> Token:
    return Token("html_block", "", 0, content=content)


def _unlink(tokens: list[Token]) -> None:
    """Links to files beside REPORT.md would be dead in a page that is sent around: only their text stays."""
    for token in tokens:
        if token.children:
            inside, kept = False, []
            for child in token.children:
                if child.type == "link_open" and not str(child.attrGet("href")).startswith("#"):
                    inside = True
                elif child.type == "link_close" and inside:
                    inside = False
                else:
                    kept.append(child)
            token.children = kept
