"""What searching keys costs, exactly and by approximate indices, measured apart from any run."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter

from rarl.reporting import figures
from rarl.reporting.figures import PAPER, in_order
from rarl.reporting.sheet import Sheet
from rarl.reporting.study import Study

COLUMNS = ["kind", "states", "build_seconds", "query_ms", "single_query_ms", "memory_mb", "recall_at_10",
           "refresh_seconds", "threads"]  # fmt: skip
_PANELS = {"build_seconds": "build, s", "query_ms": "query, ms", "memory_mb": "memory, MB", "recall_at_10": "recall@10"}
_NAMES = {"exact": "exact", "ivf": "IVF", "hnsw": "HNSW"}


def write(study: Study, sheet: Sheet) -> None:
    """Against the number of states."""
    table = sheet.results.table("index-cost", COLUMNS).dropna(subset=["states"])
    if table.empty:
        return
    sheet.heading("Cost of nearest-neighbour search")
    sheet.figure(
        f"{study.name}-index-cost",
        index_cost(table),
        table.sort_values(["states", "kind"]),
        "Cost of exact and approximate indices against the number of states: build, query, memory, recall.",
        "Query, filled: batched; hollow: one at a time. Memory: by formula. Keys are drawn in clusters, not learned.",
    )


def index_cost(table: pd.DataFrame) -> Figure:
    """A panel for each quantity that was measured, against the number of states."""
    figure = figures.new_figure(4.2)
    kinds = in_order(_NAMES, table["kind"].astype(str))
    looks = figures.looks({k: (_NAMES.get(k, k), "", "gain" if k == kinds[0] else "") for k in kinds})
    for axes, (column, title) in zip(figure.subplots(2, 2, sharex=True).ravel(), _PANELS.items(), strict=True):
        for kind, look in looks.items():
            here = table[table["kind"] == kind].dropna(subset=[column]).sort_values("states")
            style = {"color": look.colour, "marker": look.marker, "ls": look.line, "ms": 4.5}
            axes.plot(here["states"], here[column], **style)
            if column == "query_ms":
                axes.plot(here["states"], here["single_query_ms"], **style, mfc=PAPER, lw=0.9)
        axes.set_title(title, weight="bold")
        axes.set_xscale("log")
        if column != "recall_at_10" and (table[column] > 0).any():
            axes.set_yscale("log", nonpositive="mask")
            axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,g}"))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    figure.supxlabel("states", fontsize=9)
    figures.legend(figure, looks.values())
    return figure
