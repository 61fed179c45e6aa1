"""Helpers for looking at a built report."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd

from rarl.reporting.claims import load_claims
from rarl.reporting.report import build_report
from rarl.reporting.results import load_results
from rarl.reporting.rules import Judged
from rarl.reporting.study import Study, load_studies
from rarl.reporting.verdicts import Outcome, evaluate_claims
from tests.reporting import synthetic as made


def build(root: Path, scale: str = "laptop", **options) -> dict[str, str]:
    """Name of a page -> its Markdown, built with every warning an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folder = build_report(scale, root, **options).parent
    return {path.relative_to(folder).with_suffix("").as_posix(): path.read_text() for path in folder.rglob("*.md")}


def table(folder: Path, name: str, *keys: str) -> pd.DataFrame:
    """A table of a report, by `keys`."""
    frame = pd.read_csv(folder / "tables" / f"{name}.csv")
    return frame.set_index(list(keys)) if keys else frame


def study_of(root: Path, name: str, scale: str = "laptop") -> Study:
    return load_studies(load_results(scale, root))[name]


def outcomes(root: Path, planned: list[str] | None = None, scale: str = "laptop") -> dict[str, Outcome]:
    """All claims of the project, answered."""
    rules, claims = load_claims(root / "config" / "claims.yaml")
    results = load_results(scale, root, planned, made.DATASETS)
    return {o.claim.id: o for o in evaluate_claims(claims, results, load_studies(results), Judged(rules))}


class Page(HTMLParser):
    """Collects ids, references (by attribute) and text of a page."""

    def __init__(self, html: str):
        super().__init__()
        self.ids, self.references, self.text = set(), [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids |= {attrs["id"]} if "id" in attrs else set()
        self.references += [(tag, attrs[key]) for key in ("src", "href") if key in attrs]

    def handle_data(self, data):
        self.text.append(data)


def lost_references(pages: Mapping[Path, Page]) -> list[tuple[str, str]]:
    """[(page, reference)] of those within a site that lead nowhere."""
    lost = []
    for path, page in pages.items():
        for _, reference in page.references:
            place, _, anchor = reference.partition("#")
            target = (path.parent / place).resolve() if place else path
            found = target.exists() and (not anchor or target not in pages or anchor in pages[target].ids)
            if not found and not re.match(r"[a-z]+:", place):
                lost.append((path.name, reference))
    return lost
