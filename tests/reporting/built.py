"""Helpers for looking at a built report."""

from __future__ import annotations

import re
import warnings
from html.parser import HTMLParser
from pathlib import Path

from rarl.reporting.report import build_report


def build(root: Path, scale: str = "laptop", **options) -> tuple[str, str]:
    """(Markdown, HTML), built with every warning an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path = build_report(scale, root, **options)
    return (path.parent / "REPORT.md").read_text(), path.read_text()


def plain(text: str) -> str:
    """With plain spaces, brackets and hyphens."""
    return text.replace("\u00a0", " ").replace("&#91;", "[").replace("&#93;", "]").replace("\u2011", "-")


def section(text: str, title: str) -> str:
    """An experiment's section of the Markdown."""
    return text[text.index(f"\n## {title}\n") : text.index("\n## Protocol")]


def drawn(report: Path, name: str) -> list[str]:
    """The texts of a figure: matplotlib writes them beside their outlines."""
    return re.findall(r"<!-- (.*?) -->", (report / "figures" / f"{name}.svg").read_text())


class Page(HTMLParser):
    """Collects tags, references and text of a page."""

    def __init__(self, html: str):
        super().__init__()
        self.tags, self.references, self.text, self.alts = [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        attrs = dict(attrs)
        self.references += [attrs[key] for key in ("src", "href") if key in attrs]
        if tag == "img":
            self.alts.append(attrs.get("alt", ""))

    def handle_data(self, data):
        self.text.append(data)
