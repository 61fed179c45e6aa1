"""What each variant costs beside its base, from results/{scale}/costs.csv, which `rarl costs` measures in one run.

What the runs themselves took is told by `rarl.reporting.cost`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from rarl.reporting import figures, tables
from rarl.reporting.cost import with_ratio
from rarl.reporting.results import Results
from rarl.reporting.sheet import Sheet

TITLE = "What each variant costs"
NAMES = ["experiment", "task_set", "variant", "base", "step", "device"]
NUMBERS = ["parameters", "learner_step_ms", "acting_ms", "read_ms", "memory_mb", "tensors_mb", "rounds", "threads"]
COMPARED = {"learner_step_ms": "learner step", "acting_ms": "acting", "parameters": "parameters", "memory_mb": "memory"}
_ROW = 0.152  # inches
_UNFOLDED = 12  # rows of a table that need not be folded


def read_costs(results: Results, *, due: bool = True) -> pd.DataFrame:
    """The rows of costs.csv with their ratios to the base, `learner_step_ratio` and so on (NaN where there is none).

    Learner steps in which other things are done than in the base's, as episodic control's whole episodes, have none.

    No rows where there is no such file or it is damaged. Both are noted as a problem; if not `due` it may be missing.
    """
    where = f"results/{results.scale}"
    frame = results.table("costs", NUMBERS)
    if frame.empty:
        if due and not any(place == where and what.startswith("costs.csv") for place, what in results.problems):
            what = f"costs.csv is missing or has no rows; `rarl costs --scale {results.scale}` measures them"
            results.problems.append((where, what))
        return frame
    missing = [column for column in NAMES if column not in frame]
    odd = f"lacks the columns {', '.join(missing)}" if missing else "names a variant twice"
    if missing or frame.duplicated(["experiment", "variant"]).any():
        results.problems.append((where, f"costs.csv {odd}"))
        return frame[:0]
    for column in COMPARED:
        frame[ratio_of(column)] = np.nan
    for experiment, rows in frame.groupby("experiment", sort=False):
        base = rows[rows["variant"] == rows["base"]]
        if base.empty:
            results.problems.append((where, f"costs.csv lacks the base of {experiment}, {rows['base'].iloc[0]!r}"))
            continue
        for column in COMPARED:
            one = base[column].iloc[0]
            frame.loc[rows.index, ratio_of(column)] = rows[column].where(rows[column] > 0) / (
                one if one > 0 else np.nan
            )
        other = rows.index[rows["step"] != base["step"].iloc[0]]
        frame.loc[other, ratio_of("learner_step_ms")] = np.nan
    return frame


def ratio_of(column: str) -> str:
    """ "learner_step_ms" -> "learner_step_ratio"."""
    return f"{column.removesuffix('_ms').removesuffix('_mb')}_ratio"


def write(
    sheet: Sheet,
    titles: Mapping[str, str],
    label: Callable[[str, str], str] = lambda experiment, variant: variant,
    *,
    due: bool = True,
) -> None:
    """The part on measured costs: figure, table, CSV.

    Args:
      titles: of experiments.
      label: what a variant of an experiment is called.
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
            drawn = figure(shown, titles, label)
            sheet.figure("measured-costs", drawn, _alt(shown), _caption(shown, titles, label))
    body = tables.table(HEADERS, _rows(frame, titles, label), "llrrrrrr")
    if len(frame) > _UNFOLDED:
        sheet.folded(f"All {len(frame)} variants in numbers", body)
    else:
        sheet.parts.append(body)
    sheet.text(
        Markup(
            "In brackets: relative to the base, which stands in bold; of learner steps only where the same is done in "
            "one. {} Numbers: {}."
        ).format(_steps(frame, titles, label), sheet.csv("measured-costs", frame))
    )


def _how(frame: pd.DataFrame) -> str:
    devices = " and ".join(dict.fromkeys({"cpu": "CPU", "cuda": "GPU"}.get(d, d) for d in map(str, frame["device"])))
    threads = sorted(set(frame["threads"].dropna().astype(int)))
    on = f"{devices}, {tables.plural(threads[0], 'thread')}" if len(threads) == 1 else devices
    clock = ", of the processor's time where one thread does all" if "CPU" in devices else ""
    memory = "resident memory of a process that learns for a few steps, its libraries included"
    if "GPU" in devices:
        memory = "memory that a process which learns for a few steps took on the GPU"
    return (
        "Measured apart from the runs, with one learner of each variant on the largest task set of its experiment "
        f"({on}). The variants of an experiment took turns, so that what slowed the machine down slowed all of them; "
        f"times are medians over the rounds{clock}. "
        "Acting: one action in one of many environments, without the environments' own time. "
        "Reading: a retrieval batch is drawn and summarised, once per episode. "
        f"Memory: the most {memory}; tensors: parameters, target network, optimiser. "
        "Replays and episodic memories were nearly empty."
    )


def _named(row: pd.Series, label: Callable[[str, str], str]) -> str:
    return label(row["experiment"], row["variant"])


def _steps(frame: pd.DataFrame, titles: Mapping[str, str], label: Callable[[str, str], str]) -> str:
    """What a learner step is, by experiment."""
    parts = []
    for experiment, rows in frame.groupby("experiment", sort=False):
        kinds = {
            step: [label(experiment, variant) for variant in same["variant"]]
            for step, same in rows.groupby("step", sort=False)
        }
        most = max(kinds, key=lambda step: len(kinds[step]), default="")
        said = [step if step == most else f"{step} ({', '.join(names)})" for step, names in kinds.items()]
        parts.append(f"{titles.get(experiment, experiment)}: {'; '.join(map(str, said))}")
    return f"One learner step is, in {'. In '.join(parts)}." if parts else ""


def _largest(frame: pd.DataFrame, column: str) -> pd.Series | None:
    ratios = frame[ratio_of(column)]
    return frame.loc[ratios.idxmax()] if ratios.notna().any() else None


def _caption(frame: pd.DataFrame, titles: Mapping[str, str], label: Callable[[str, str], str]) -> str:
    said = []
    for column, what in COMPARED.items():
        most = _largest(frame, column)
        if most is not None:
            middle, ratio = frame[ratio_of(column)].median(), most[ratio_of(column)]
            said.append(
                f"{what} ×{tables.number(middle)}, at most ×{tables.number(ratio)} "
                f"({titles.get(most['experiment'], most['experiment'])}, {_named(most, label)})"
            )
    return (
        f"Costs of {tables.plural(len(frame), 'variant')}, each relative to the base named above it (line at 1; "
        f"logarithmic). Filled: reads a retrieval batch. Median over the variants: {'; '.join(said)}."
    )


def _alt(frame: pd.DataFrame) -> str:
    ranges = [
        f"{what} from ×{tables.number(ratios.min())} to ×{tables.number(ratios.max())}"
        for column, what in COMPARED.items()
        if (ratios := frame[ratio_of(column)].dropna()).size
    ]
    experiments = tables.plural(frame["experiment"].nunique(), "experiment")
    return (
        f"Dot plot: the costs of {tables.plural(len(frame), 'variant')} of {experiments}, relative to the base of "
        f"each: {', '.join(ranges)}."
    )


HEADERS = [
    "Experiment",
    "Variant",
    "Parameters",
    "ms per learner step",
    "µs to act",
    "ms to read",
    "Memory, MB",
    "Tensors, MB",
]


def _rows(frame: pd.DataFrame, titles: Mapping[str, str], label: Callable[[str, str], str]) -> list[list]:
    rows = []
    for _, row in frame.iterrows():
        is_base = row["variant"] == row["base"]
        name = tables.md(_named(row, label))

        def cell(text: str, column: str, row: pd.Series = row, is_base: bool = is_base) -> str:
            return text if is_base else with_ratio(text, row[ratio_of(column)])

        rows.append(
            [
                titles.get(row["experiment"], row["experiment"]),
                Markup("**{}**").format(name) if is_base else name,
                cell(tables.count(row["parameters"]), "parameters"),
                cell(_three_digits(row["learner_step_ms"]), "learner_step_ms"),
                cell(_three_digits(1000 * row["acting_ms"]), "acting_ms"),
                _three_digits(row["read_ms"]),
                cell(tables.count(row["memory_mb"]), "memory_mb"),
                tables.number(row["tensors_mb"], 1),
            ]
        )
    return rows


def _three_digits(value: float) -> str:
    """Times from microseconds to seconds: three digits that count, or all before the point."""
    return tables.number(value, 0 if value >= 100 else 1 if value >= 10 else 2)


def figure(frame: pd.DataFrame, titles: Mapping[str, str], label: Callable[[str, str], str]) -> Figure:
    """A panel per measure, a row per variant, the experiments below each other; ratios to the base."""
    drawn = figures.new_figure(_ROW * (len(frame) + 1.5 * frame["experiment"].nunique()) + 0.9)
    grid = drawn.subplots(1, len(COMPARED), sharey=True)
    rows = figures.Rows(grid[0], header=1.25)
    positions = []
    for experiment, variants in frame.groupby("experiment", sort=False):
        rows.header(titles.get(experiment, experiment))
        base = f"base: {label(experiment, variants['base'].iloc[0])}"
        place = grid[0].get_yaxis_transform()
        text = grid[0].text(0.04, rows.position, base, transform=place, color=figures.FAINT, fontsize=7.5, va="center")
        text.set_in_layout(False)  # a long one reaches over the next panel, where its row is empty
        positions += [rows.row(label(experiment, variant)) for variant in variants["variant"]]
    for axes, colour, (column, title) in zip(grid, figures.PALETTE, COMPARED.items(), strict=False):
        _draw(axes, frame, column, np.array(positions), colour)
        axes.set_title(title)
        axes.tick_params(axis="x", labeltop=True, labelsize=6.5)  # a tall figure
        axes.grid(axis="y", visible=False)
    rows.finish()
    grid[0].set_zorder(1)  # for the names of bases
    grid[0].patch.set_visible(False)
    for axes in grid[1:]:
        axes.tick_params(axis="y", length=0)
    return drawn


def _draw(axes: Axes, frame: pd.DataFrame, column: str, positions: np.ndarray, colour: str) -> None:
    """The ratios of one measure: filled where a retrieval batch is read."""
    ratios = frame[ratio_of(column)].to_numpy(dtype=float)
    reads = frame["read_ms"].notna().to_numpy()
    axes.set_xscale("log")
    axes.axvline(1, color=figures.FAINT, lw=1)
    axes.hlines(positions, 1, ratios, color=colour, lw=1.2, alpha=0.45)
    for which, face in ((reads, colour), (~reads, "white")):
        axes.plot(ratios[which], positions[which], ls="none", marker="o", ms=4.5, mfc=face, mec=colour)
    known = ratios[np.isfinite(ratios)]
    low, high = min([0.9, *known]), max([1.25, *known])
    room = (high / low) ** 0.12
    axes.set_xlim(low / room, high * room)
    axes.xaxis.set_major_locator(FixedLocator(_ticks(low / room, high * room)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"×{x:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def _ticks(low: float, high: float) -> list[float]:
    """At most three ticks of a logarithmic axis with 1 on it, evenly apart and 1 among them."""
    for step in (1.1, 1.25, 1.5, 2, 4, 10, 30, 100, 1000, 10_000):
        least, most = math.ceil(math.log(low, step) - 1e-9), math.floor(math.log(high, step) + 1e-9)
        if most - least <= 2:
            break
    return [step**k for k in range(least, most + 1)]
