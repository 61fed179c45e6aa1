"""What runs cost: parameters, time per update, wall time, memory. The same for every experiment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from rarl.reporting import figures, tables
from rarl.reporting.figures import Look
from rarl.reporting.results import Results
from rarl.reporting.sheet import Sheet


def write(
    sheet: Sheet,
    experiment: str,
    order: Sequence[tuple[str, str]],
    baseline: str,
    look: Callable[[str], Look],
    largest: str = "the largest task set",
) -> None:
    """The part "Cost" of a section: figure, table, CSV. Call inside `figures.style()`.

    Args:
      order: (task set, variant) in the order of the table; the figure shows the last task set.
      baseline: the variant that ratios are taken to.
      largest: the last task set in words.
    """
    sheet.heading("Cost")
    table = cost_table(sheet.results, experiment)
    if table.empty:
        sheet.text("No cost was recorded.")
        return
    place = {pair: i for i, pair in enumerate(order)}
    pairs = zip(table["task_set"], table["variant"], strict=True)
    table = table.iloc[np.argsort([place.get(pair, len(place)) for pair in pairs], kind="stable")]
    if table[["parameters", "ms_per_update", "seconds_total"]].notna().all(axis=None):
        sheet.figure(
            f"{experiment}-cost",
            figure(table[table["task_set"] == order[-1][0]], look),
            f"Parameters, milliseconds per learner update and minutes per run of each agent on {largest}.",
            f"What each agent costs on {largest}: parameters, training time per learner update, wall time of a whole "
            f"run.",
        )
    sheet.table(HEADERS, rows(table, baseline, lambda v: look(v).label), "llrrrrr")
    link = sheet.csv(f"{experiment}-cost", table)
    sheet.text(Markup("{}Numbers: {}.").format(_brackets(table, baseline, look(baseline).label), link))


def _brackets(table: pd.DataFrame, baseline: str, label: str) -> str:
    """What the ratios are to; "" where the baseline has no runs, and so no cell a ratio."""
    return f"In brackets: relative to {label}. " if (table["variant"] == baseline).any() else ""


def write_folded(
    sheet: Sheet, experiment: str, title: str, baseline: str, label: Callable[[str], str], table: pd.DataFrame
) -> None:
    """Table and CSV alone, to be opened on demand; the title says what the ratios are to."""
    if (table["variant"] == baseline).any() and table["variant"].nunique() > 1:
        title += f" (in brackets: relative to {label(baseline)})"
    sheet.folded(title, Markup("{}").format(tables.table(HEADERS, rows(table, baseline, label), "llrrrrr")))
    sheet.numbers(f"{experiment}-cost", table, "Cost")


def run_costs(results: Results, experiment: str) -> pd.DataFrame:
    """The usable runs with their `ms_per_update` of training."""
    planned = results.planned(experiment)
    usable = planned[planned["usable"]]
    updates = usable["updates"].where(usable["updates"] > 0)
    return usable.assign(ms_per_update=1000 * usable["seconds_training"] / updates)


def cost_table(results: Results, experiment: str) -> pd.DataFrame:
    """One row per task set and variant: means over usable runs, and how many runs of each kind there are."""
    usable = run_costs(results, experiment)
    columns = ["parameters", "updates", "ms_per_update", "seconds_training", "seconds_total", "peak_memory_mb"]
    table = usable.groupby(["task_set", "variant"], as_index=False)[columns].mean()
    return table.merge(usable.groupby(["task_set", "variant"], as_index=False).size().rename(columns={"size": "runs"}))


def with_ratio(text: str, ratio: float) -> str:
    """A cell with a ratio to the baseline in brackets, where there is one."""
    return f"{text} (×{tables.number(ratio)})".replace(" ", tables.HARD_SPACE) if np.isfinite(ratio) else text


def rows(table: pd.DataFrame, baseline: str, label: Callable[[str], str]) -> list[list[Any]]:
    """Table cells; ratios to `baseline` of the same task set stand in brackets."""
    out = []
    for _, row in table.iterrows():
        same = (table["task_set"] == row["task_set"]) & (table["variant"] == baseline)
        base = table[same].iloc[0] if same.any() else None

        def ratio(text: str, key: str, row: Any = row, base: Any = base) -> str:
            compared = base is not None and row["variant"] != baseline and base[key] > 0
            return with_ratio(text, row[key] / base[key] if compared else np.nan)

        out.append(
            [
                tables.unbroken(tables.spaced(row["task_set"])),
                label(row["variant"]),
                row["runs"],
                ratio(tables.count(row["parameters"]), "parameters"),
                ratio(tables.number(row["ms_per_update"], 1), "ms_per_update"),
                tables.duration(row["seconds_total"]),
                tables.count(row["peak_memory_mb"]),
            ]
        )
    return out


HEADERS = ["Task set", "Agent", "Runs", "Parameters", "ms per update", "Wall time per run", "Peak memory, MB"]


def figure(table: pd.DataFrame, look: Callable[[str], Look]) -> Figure:
    """Three panels: parameters, milliseconds per learner update, wall time of a run; one dot per variant."""
    drawn = figures.new_figure(0.28 * len(table) + 1.0)
    grid = drawn.subplots(1, 3, sharey=True)
    panels = [
        ("parameters", 1e-3, "parameters (k)"),
        ("ms_per_update", 1.0, "ms per update"),
        ("seconds_total", 1 / 60, "minutes per run"),
    ]
    y = range(len(table))
    for axes, (column, factor, title) in zip(grid, panels, strict=True):
        for position, (_, row) in zip(y, table.iterrows(), strict=True):
            seen = look(row["variant"])
            value = row[column] * factor
            axes.plot([0, value], [position] * 2, color=seen.colour, lw=1.5, alpha=0.5)
            axes.plot(value, position, marker=seen.marker, color=seen.colour, ms=5.5)
        axes.set_xlim(left=0)
        axes.margins(x=0.12)
        axes.set_xlim(left=0)
        axes.set_xlabel(title)
        axes.grid(axis="y", visible=False)
    sets = table["task_set"].nunique() > 1
    names = [
        look(v).label + (f" ({t.replace('-tasks', '')})" if sets else "")
        for t, v in zip(table["task_set"], table["variant"], strict=True)
    ]
    grid[0].set_yticks(list(y), names)
    grid[0].set_ylim(len(table) - 0.4, -0.6)
    return drawn
