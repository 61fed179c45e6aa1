"""What each variant costs beside its base, from results/{scale}/costs.csv, which `rarl costs` measures in one run."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from rarl.reporting import figures, tables
from rarl.reporting.results import Results
from rarl.reporting.sheet import Sheet

TITLE = "What each variant costs"
NAMES = ["experiment", "task_set", "variant", "base", "step", "device"]
NUMBERS = ["parameters", "learner_step_ms", "acting_ms", "read_ms", "memory_mb", "tensors_mb", "rounds", "threads"]
COMPARED = {"learner_step_ms": "learner step", "acting_ms": "acting", "parameters": "parameters", "memory_mb": "memory"}
_ROW = 0.152  # inches


def read_costs(results: Results, *, due: bool = True) -> pd.DataFrame:
    """The rows of costs.csv with their ratios to the base, `learner_step_ratio` and so on (NaN where there is none).

    Learner steps in which other things are done than in the base's, as episodic control's whole episodes, have none.

    No rows where there is no such file or it is damaged. Both are noted as a problem; if not `due` it may be missing.
    """
    where = f"results/{results.scale}"
    frame = results.table("costs", [*NAMES, *NUMBERS])
    if (
        frame.empty
        and due
        and not any(place == where and what.startswith("costs.csv") for place, what in results.problems)
    ):
        what = f"costs.csv is missing or has no rows; `rarl costs --scale {results.scale}` measures them"
        results.problems.append((where, what))
    if frame.duplicated(["experiment", "variant"]).any():
        results.problems.append((where, "costs.csv names a variant twice"))
        return frame[:0]
    base = frame[frame["variant"] == frame["base"]].set_index("experiment")
    for column in COMPARED:
        numbers = frame[column].where(frame[column] > 0).astype(float)
        frame[ratio_of(column)] = numbers / frame["experiment"].map(base[column].where(base[column] > 0)).astype(float)
    unlike = frame["step"] != frame["experiment"].map(base["step"])
    frame[ratio_of("learner_step_ms")] = frame[ratio_of("learner_step_ms")].mask(unlike)
    return frame


def ratio_of(column: str) -> str:
    """ "learner_step_ms" -> "learner_step_ratio"."""
    return f"{column.removesuffix('_ms').removesuffix('_mb')}_ratio"


def write(sheet: Sheet, *, due: bool = True) -> None:
    """The part on measured costs: figure, table, CSV.

    Args:
      due: whether a missing file is worth a problem.
    """
    frame = read_costs(sheet.results, due=due)
    if frame.empty:
        sheet.text("Costs were not measured side by side" + ("; see the list of failures." if due else " yet."))
        return
    sheet.text(_how(frame))
    others = frame[frame["variant"] != frame["base"]]
    shown = others[others[[ratio_of(column) for column in COMPARED]].notna().any(axis=1)]
    if not shown.empty:
        with figures.style():
            alt = f"Dot plot: the costs of {tables.plural(len(shown), 'variant')}, relative to the base of each."
            sheet.figure("measured-costs", figure(shown, sheet.results), alt, _caption(shown))
    words = _in_words(frame, sheet.results)
    sheet.table("measured-costs", frame, _COLUMNS, shown=words, folded=f"All {len(frame)} variants in numbers")
    sheet.text(
        "In brackets: relative to the base, which stands in bold; of learner steps only where the same is done in one."
    )


def _how(frame: pd.DataFrame) -> str:
    devices = " and ".join(dict.fromkeys({"cpu": "CPU", "cuda": "GPU"}.get(d, d) for d in map(str, frame["device"])))
    threads = sorted(set(frame["threads"].dropna().astype(int)))
    on = f"{devices}, {tables.plural(threads[0], 'thread')}" if len(threads) == 1 else devices
    memory = "on the GPU" if "GPU" in devices else "resident, libraries included"
    return (
        "Measured apart from the runs, with one learner of each variant on the largest task set of its experiment "
        f"({on}). The variants of an experiment took turns; times are medians over the rounds. Acting: one action in "
        "one of many environments, without the environments' own time. Reading: a retrieval batch is drawn and "
        f"summarised, once per episode. Memory: the most of a process that learns for a few steps, {memory}; tensors: "
        "parameters, target network, optimiser. Replays and episodic memories were nearly empty."
    )


def _caption(frame: pd.DataFrame) -> str:
    medians = [f"{what} ×{tables.number(frame[ratio_of(column)].median())}" for column, what in COMPARED.items()]
    return (
        f"Costs of {tables.plural(len(frame), 'variant')}, each relative to the base of its experiment, in bold below "
        f"(line at 1; logarithmic). Filled: reads a retrieval batch. Median over the variants: {', '.join(medians)}."
    )


_COLUMNS = [
    tables.words("title", "Experiment"),
    tables.words("name", "Variant", tables.md),
    tables.words("step", "One learner step"),
    tables.words("parameters", "Parameters"),
    tables.words("learner_step_ms", "ms per learner step"),
    tables.words("acting_ms", "µs to act"),
    tables.numbers("read_ms", "ms to read", 2),
    tables.words("memory_mb", "Memory, MB"),
    tables.numbers("tensors_mb", "Tensors, MB", 1),
]


def _in_words(frame: pd.DataFrame, results: Results) -> pd.DataFrame:
    """The numbers with their ratios to the base in brackets, titles and labels."""
    is_base = frame["variant"] == frame["base"]
    names = [tables.md(results.label(*who)) for who in frame[["experiment", "variant"]].to_numpy()]
    forms = {"parameters": tables.count, "memory_mb": tables.count, "learner_step_ms": _three_digits,
             "acting_ms": lambda ms: _three_digits(1000 * ms)}  # fmt: skip
    shown = frame.assign(
        title=frame["experiment"].map(results.title),
        name=[Markup("**{}**").format(n) if base else n for n, base in zip(names, is_base, strict=True)],
    )
    for column, form in forms.items():
        ratios = frame[ratio_of(column)].where(~is_base)
        shown[column] = [
            form(value) + (f"{tables.HARD_SPACE}(×{tables.number(ratio)})" if np.isfinite(ratio) else "")
            for value, ratio in zip(frame[column], ratios, strict=True)
        ]
    return shown


def _three_digits(value: float) -> str:
    """Times from microseconds to seconds: three digits that count, or all before the point."""
    return tables.number(value, 0 if value >= 100 else 1 if value >= 10 else 2)


def figure(frame: pd.DataFrame, results: Results) -> Figure:
    """A panel per measure, a row per variant, the experiments below each other; ratios to the base."""
    drawn = figures.new_figure(_ROW * (len(frame) + 1.5 * frame["experiment"].nunique()) + 0.9)
    grid = drawn.subplots(1, len(COMPARED), sharey=True)
    rows, positions = figures.Rows(grid[0], header=1.25), []
    for experiment, variants in frame.groupby("experiment", sort=False):
        rows.header(results.title(experiment))
        positions += [rows.row(results.label(experiment, variant)) for variant in variants["variant"]]
    for axes, colour, (column, title) in zip(grid, figures.PALETTE, COMPARED.items(), strict=False):
        ratios = frame[ratio_of(column)].to_numpy(dtype=float)
        axes.axvline(1, color=figures.FAINT, lw=1)
        axes.hlines(positions, 1, ratios, color=colour, lw=1.2, alpha=0.45)
        faces = [colour if reads else "white" for reads in frame["read_ms"].notna()]
        axes.scatter(ratios, positions, s=20, color=faces, edgecolors=colour, zorder=3)
        known = ratios[np.isfinite(ratios)]
        low, high = min([0.9, *known]), max([1.25, *known])
        room = (high / low) ** 0.12
        figures.logarithmic(axes, _ticks(low / room, high * room))
        axes.set_xlim(low / room, high * room)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"×{x:g}"))
        axes.set_title(title.replace(" ", "\n"))
        axes.tick_params(axis="x", labeltop=True, labelsize=6.5)  # a tall figure
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
    rows.finish()
    return drawn


def _ticks(low: float, high: float) -> list[float]:
    """At most three ticks of a logarithmic axis with 1 on it, evenly apart and 1 among them."""
    for step in (1.1, 1.25, 1.5, 2, 4, 10, 30, 100, 1000, 10_000):
        least, most = math.ceil(math.log(low, step) - 1e-9), math.floor(math.log(high, step) + 1e-9)
        if most - least <= 2:
            break
    return [step**k for k in range(least, most + 1)]
