"""What searching keys costs, exactly and by approximate indices, measured apart from any run."""

from __future__ import annotations

from rarl.reporting.sheet import Sheet
from rarl.reporting.study import Study

HEADS = {"kind": "Index", "states": "States", "build_seconds": "Build, s", "query_ms": "Query, ms",
         "single_query_ms": "Single query, ms", "memory_mb": "Memory, MB", "recall_at_10": "Recall@10",
         "refresh_seconds": "Refresh, s", "threads": "Threads"}  # fmt: skip


def write(study: Study, sheet: Sheet) -> None:
    """Against the number of states."""
    table = sheet.results.table("index-cost", list(HEADS)).dropna(subset=["states"]).sort_values(["kind", "states"])
    if len(table):
        sheet.heading("Cost of nearest-neighbour search")
        caption = "keys drawn in clusters, not learned; queries in batches and one at a time; memory by formula."
        sheet.table(f"{study.name}-index-cost", table, HEADS, caption)
