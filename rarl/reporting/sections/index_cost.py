"""What searching keys costs, exactly and by approximate indices, measured apart from any run; how stale keys get."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter

from rarl.reporting import figures, tables
from rarl.reporting.figures import in_order
from rarl.reporting.sheet import Sheet
from rarl.reporting.study import Study

COLUMNS = ["kind", "states", "build_seconds", "query_ms", "single_query_ms", "memory_mb", "recall_at_10",
           "refresh_seconds", "threads"]  # fmt: skip
_PANELS = {
    "build_seconds": "building, seconds",
    "query_ms": "searching, ms per query",
    "memory_mb": "memory, MB",
    "recall_at_10": "recall@10",
}
_NAMES = {"exact": "exact", "ivf": "IVF", "hnsw": "HNSW"}


def write(study: Study, sheet: Sheet) -> None:
    """Against the number of states; and how stale keys are before they are computed anew."""
    table = sheet.results.table("index-cost", COLUMNS).dropna(subset=["states"])
    if table.empty:
        return
    sheet.heading("What an index costs")
    sheet.figure(
        f"{study.name}-index-cost",
        index_cost(table),
        "Cost of exact and approximate indices against the number of states: building, searching, memory, recall.",
        "Searching, filled: many queries at once; hollow: one at a time. Memory: by formula. Recall@10: how many of "
        "the ten best keys by exact search are found. Keys are drawn in clusters, not learned. Exact search builds "
        "nothing; IVF looks through the clusters nearest to the query; HNSW follows links from key to near key.",
    )
    columns = [
        tables.words("kind", "Index", lambda kind: _NAMES.get(kind, kind)),
        tables.numbers("states", "States"),
        tables.numbers("build_seconds", "Building, s", 2),
        tables.numbers("query_ms", "Query, ms", 3),
        tables.numbers("single_query_ms", "Query alone, ms", 3),
        tables.numbers("memory_mb", "Memory, MB", 1),
        tables.numbers("recall_at_10", "Recall@10", 3),
        tables.numbers("refresh_seconds", "Refresh, s", 2),
        tables.numbers("threads", "Threads"),
    ]
    sheet.table(f"{study.name}-index-cost", table.sort_values(["states", "kind"]), columns, folded="All measurements")
    columns = [
        tables.words("agent", "Network"),
        tables.numbers("refresh_updates", "Keys computed anew every … updates"),
        tables.numbers("refresh_seconds", "Seconds", 2),
        tables.numbers("first_recall", "Of what new keys propose, old ones had proposed: first time, %"),
        tables.numbers("last_recall", "last time, %"),
        tables.numbers("seeds", "Seeds"),
    ]
    sheet.table(f"{study.name}-stale-keys", staleness(study), columns)


def index_cost(table: pd.DataFrame) -> Figure:
    """A panel for each quantity that was measured, against the number of states."""
    figure = figures.new_figure(4.6)
    kinds = in_order(_NAMES, table["kind"].astype(str))
    looks = figures.looks({k: (_NAMES.get(k, k), "", "gain" if k == kinds[0] else "") for k in kinds})
    for axes, (column, title) in zip(figure.subplots(2, 2, sharex=True).ravel(), _PANELS.items(), strict=True):
        for kind, look in looks.items():
            here = table[table["kind"] == kind].dropna(subset=[column]).sort_values("states")
            style = {"color": look.colour, "marker": look.marker, "ls": look.line, "ms": 4.5}
            axes.plot(here["states"], here[column], **style)
            if column == "query_ms":
                axes.plot(here["states"], here["single_query_ms"], **style, mfc="white", lw=0.9)
        axes.set_title(title, weight="bold")
        axes.set_xscale("log")
        if column != "recall_at_10" and (table[column] > 0).any():
            axes.set_yscale("log", nonpositive="mask")
            axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,g}"))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    figure.supxlabel("states", fontsize=9)
    figures.legend(figure, looks.values())
    return figure


def staleness(study: Study) -> pd.DataFrame:
    """A row for each variant with an index: what old keys had proposed of what new ones propose, means over seeds."""
    rows = []
    for task_set in study.used_sets[-1:]:
        for variant in study.variants_on(task_set):
            frame = study.results.select(study.results.training, variant.runs[0], task_set, variant.runs[1])
            every = study.value(variant, task_set, "agent.retrieval.index.refresh_updates")
            if "index_stale_recall" not in frame or every is None:
                continue
            by_seed = frame.dropna(subset=["index_stale_recall"]).sort_values("update").groupby("seed")
            if len(by_seed):
                first, last = (100 * by_seed["index_stale_recall"].nth(i).mean() for i in (0, -1))
                rows.append({"variant": variant.name, "agent": variant.label, "refresh_updates": every,
                             "refresh_seconds": frame["index_refresh_seconds"].median(), "first_recall": first,
                             "last_recall": last, "seeds": len(by_seed)})  # fmt: skip
    return pd.DataFrame(rows)
