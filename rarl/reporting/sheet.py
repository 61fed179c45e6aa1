"""A page of the report: text, tables and figures become Markdown, files land in the report's folders.

The Markdown reads on the web as it is. What only the site makes of it is in `rarl.reporting.site`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from rarl.reporting import figures, interactive, tables
from rarl.reporting.charts import Chart
from rarl.reporting.claims import Rules
from rarl.reporting.player import Player
from rarl.reporting.results import Results
from rarl.reporting.rules import Judged

SAID_ONCE = ("set", "seeds")  # columns
TABLE = "Table: "  # begins the paragraph above a table that is its caption


@dataclass
class Sheet:
    """A page, filled top to bottom.

    output: the report's folder; figures go to figures/, CSV files to tables/. stamp: text across every figure, where
    the numbers are not results. name: of its file, without the suffix. level: of its headings.
    """

    output: Path
    results: Results
    judged: Judged
    stamp: str = ""
    name: str = "page"
    title: str = ""
    level: int = 2
    parts: list[Markup] = field(default_factory=list)

    @property
    def rules(self) -> Rules:
        """The rules of judgement."""
        return self.judged.rules

    @property
    def root(self) -> str:
        """From the page to the report's folder, in links."""
        return "../" * self.name.count("/")

    def heading(self, text: Any) -> None:
        """A heading."""
        self.parts.append(Markup("#" * self.level + " ") + tables.md(text))

    def text(self, text: Any) -> None:
        """A paragraph; escaped unless it is Markup."""
        self.parts.append(tables.md(text))

    def table(
        self,
        name: str,
        frame: pd.DataFrame,
        heads: Mapping[str, str],
        caption: str,
        *,
        folded: bool = False,
        digits: int = 3,
        **forms: Callable[[Any], Any],
    ) -> None:
        """A frame as a table (see `tables.to_markdown`), opened on demand if folded, and as tables/`name`.csv with all
        its columns; nothing without rows. What is the same in all rows of `SAID_ONCE` is said in the caption."""
        if frame.empty:
            return
        once = [c for c in SAID_ONCE if c in heads and c in frame and len(frame) > 1 and frame[c].nunique(False) == 1]
        said = "; ".join(f"{heads[column].lower()}: {frame[column].iloc[0]}" for column in once)
        caption = f"{caption.rstrip('.')}; {said}." if said else caption
        caption = caption[:1].upper() + caption[1:]
        heads = {column: head for column, head in heads.items() if column not in once}
        body, link = tables.to_markdown(frame, heads, digits=digits, **forms), self.csv(name, frame)
        if folded:
            self.folded(caption, Markup("{}\n\n{}").format(body, link))
        else:
            self.parts += [Markup("{}{} {}").format(TABLE, tables.md(caption), link), body]

    def folded(self, title: Any, body: Markup) -> None:
        """A part that the reader opens on demand."""
        details = "<details markdown>\n<summary>{}</summary>\n\n{}\n\n</details>"
        self.parts.append(Markup(details).format(tables.md(title), body))

    def csv(self, name: str, frame: pd.DataFrame) -> Markup:
        """Write tables/`name`.csv and return a link to it."""
        tables.write_csv(self.output / "tables" / f"{name}.csv", frame)
        return Markup("[CSV]({}tables/{}.csv)").format(self.root, name)

    def numbers(self, name: str, frame: pd.DataFrame, what: str) -> None:
        """Write tables/`name`.csv, and a line that says what it is and links to it."""
        self.text(Markup("{}: {}.").format(what, self.csv(name, frame)))

    def figure(
        self,
        name: str,
        figure: Figure,
        frame: pd.DataFrame,
        alt: str,
        caption: str,
        more: Chart | Player | None = None,
    ) -> None:
        """Save a figure as SVG, its data as tables/`name`.csv, and show it. Call inside `figures.style()`.

        alt: what a reader who cannot see the figure needs. caption: one or two sentences. more: what takes its place on
        the site.
        """
        if self.stamp:
            figures.stamp(figure, self.stamp)
        figures.save(figure, self.output / "figures" / f"{name}.svg")
        self.csv(name, frame)
        if more is not None:
            interactive.save(self.output, name, more)
        width, height = (round(96 * inches) for inches in figure.get_size_inches())
        self.parts.append(
            Markup(
                '<figure id="{0}">\n<img src="{1}figures/{0}.svg" alt="{2}" width="{3}" height="{4}" loading="lazy">\n'
                '<figcaption>{5} <a href="{1}tables/{0}.csv">CSV</a></figcaption>\n</figure>'
            ).format(name, self.root, tables.md(alt), width, height, tables.md(caption))
        )

    def markdown(self) -> str:
        """The file's text."""
        body = "\n\n".join(map(str, self.parts))
        return f"# {tables.md(self.title)}\n\n{body}\n"
