"""What a part of the report writes on: text, tables and figures become Markdown, files land in the report's folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from rarl.files import atomic_writer
from rarl.reporting import figures, tables
from rarl.reporting.claims import Rules
from rarl.reporting.results import Results
from rarl.reporting.rules import Judged


@dataclass
class Sheet:
    """A section of the report, filled top to bottom.

    output: the report's folder; figures go to figures/, CSV files to tables/. results, rules: what there is to
    report. judged: the verdicts on it. stamp: text across every figure, where the numbers are not results. title: of
    the section.
    """

    output: Path
    results: Results
    rules: Rules
    judged: Judged = field(default_factory=lambda: Judged(Rules()))
    stamp: str = ""
    figure_number: int = 0
    title: str = ""
    parts: list[Markup] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)

    def heading(self, text: Any) -> None:
        """A heading inside the section."""
        self.parts.append(Markup("### ") + tables.md(text))

    def text(self, text: Any) -> None:
        """A paragraph; escaped unless it is Markup."""
        self.parts.append(tables.md(text))

    def table(
        self,
        name: str,
        frame: pd.DataFrame,
        columns: Sequence[tables.Column],
        *,
        shown: pd.DataFrame | None = None,
        folded: str = "",
    ) -> None:
        """A frame as a table, and as tables/`name`.csv with all its columns; nothing without rows.

        Args:
          columns: those that are shown.
          shown: the frame in other words for the page; None: as it is.
          folded: the title under which the table is opened on demand; "": it is open.
        """
        if frame.empty:
            return
        body = tables.to_markdown(frame if shown is None else shown, columns)
        if folded:
            self.folded(folded, body)
        else:
            self.parts.append(body)
        self.numbers(name, frame)

    def folded(self, title: Any, body: Markup) -> None:
        """A part that the reader opens on demand."""
        self.parts.append(Markup("<details>\n<summary>{}</summary>\n\n{}\n\n</details>").format(tables.md(title), body))

    def csv(self, name: str, frame: pd.DataFrame) -> Markup:
        """Write tables/`name`.csv and return a link to it."""
        path = self.output / "tables" / f"{name}.csv"
        tables.write_csv(path, frame)
        self.files.append(path)
        return Markup(f"[tables/{name}.csv](tables/{name}.csv)")

    def numbers(self, name: str, frame: pd.DataFrame, what: str = "Numbers") -> None:
        """Write tables/`name`.csv, and a line that says what it is and links to it."""
        self.text(Markup("{}: {}.").format(what, self.csv(name, frame)))

    def figure(self, name: str, figure: Figure, alt: str, caption: str) -> None:
        """Save a figure as SVG and PNG and show the SVG. Call inside `figures.style()`.

        alt: what a reader who cannot see the figure needs. caption: one or two sentences.
        """
        if self.stamp:
            figures.stamp(figure, self.stamp)
        self.files += figures.save(figure, self.output / "figures" / name)
        self._show(f"figures/{name}.svg", alt, caption)

    def image(self, file_name: str, content: bytes, alt: str, caption: str) -> None:
        """Save a ready-made image (WebP, PNG) under figures/ and show it."""
        path = self.output / "figures" / file_name
        with atomic_writer(path, "wb") as file:
            file.write(content)
        self.files.append(path)
        self._show(f"figures/{file_name}", alt, caption)

    def _show(self, source: str, alt: str, caption: str) -> None:
        self.figure_number += 1
        line = Markup("![{}]({})\n\n*Figure {}. {}*")
        self.parts.append(line.format(tables.md(alt), Markup(source), self.figure_number, tables.md(caption)))

    def markdown(self) -> Markup:
        """All parts, as Markdown."""
        return Markup("\n\n").join(self.parts)
