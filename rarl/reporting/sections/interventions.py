"""What trained agents do when what they retrieve from is changed: removed, shuffled, swapped, made less."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import seaborn
from matplotlib.figure import Figure

from rarl.reporting import figures, tables
from rarl.reporting.figures import FAINT, StripRow, in_order
from rarl.reporting.interventions import AMOUNTS, NAMES, OWN, amount_of, amounts, swaps
from rarl.reporting.sheet import Sheet
from rarl.reporting.statistics import paired
from rarl.reporting.study import Study, Variant


def write(study: Study, sheet: Sheet) -> None:
    """Figures of the largest task set that was probed, and of all (where a task set is one task); the table of all."""
    probed = study.probed_sets()
    frame = intervention_frame(study, sheet)
    if frame.empty:
        return
    sheet.heading("Interventions on retrieval")
    shown = probed if study.spec.one_task else probed[-1:]
    several = len(shown) > 1
    groups: dict[str, list[StripRow]] = {}
    bases: list[float] = []
    for task_set in shown:
        for variant in _probed(study, task_set):
            header = f"{study.set_title(task_set)}: {variant.label}" if several else variant.label
            names = [n for n in _names(study, variant, task_set) if amount_of(n) is None]
            groups[header] = [
                StripRow(replace(variant.look, label=NAMES.get(name, name)),
                         list(study.under(variant, task_set, name).values()), hollow=name != OWN)
                for name in names
            ]  # fmt: skip
        bases += study.seed_scores(study.base, task_set).values()
    figure, axes = figures.strip(
        groups, f"{study.score.label}, mean over {study.spec.task_noun}s", study.score.ends, study.bounds
    )
    if bases and not several:
        axes.axvline(float(np.mean(bases)), color=study.base.look.colour, ls=study.base.look.line, lw=1.4)
    figures.marks(axes, study.score.marks, across=False)
    sheet.figure(
        f"{study.name}-interventions",
        figure,
        "Scores of the probed agents when what they retrieve from is left, removed, shuffled or exchanged.",
        f"The same trained networks, with what they retrieve from changed at evaluation "
        f"({', '.join(map(study.set_title, shown))}). Shuffled: states exchanged between trajectories. Vertical: "
        f"{study.base.label}.",
    )
    columns = [
        *study.columns[:2],
        tables.words("what", "Retrieval dataset"),
        *study.columns[2:],
        tables.intervals("delta", "Δ vs as trained", signed=True),
    ]
    sheet.table(f"{study.name}-interventions", frame, columns, folded="All interventions in numbers")
    _seeds(study, sheet)
    for variant in _probed(study, shown[-1]):
        _swaps(study, sheet, variant, shown[-1])
        _amounts(study, sheet, variant, shown[-1])


def _probed(study: Study, task_set: str) -> list[Variant]:
    """The variants on which more than their own way was measured."""
    frame = study.interventions(task_set=task_set)
    changed = set(frame["variant"][frame["intervention"] != OWN])
    return [v for v in study.variants_on(task_set) if v.runs == (study.name, v.name) and v.name in changed]


def _names(study: Study, variant: Variant, task_set: str) -> list[str]:
    found = study.interventions(variant, task_set)["intervention"].unique()
    return in_order(NAMES, sorted(found, key=lambda name: amount_of(name) or ("", 0)))


def intervention_frame(study: Study, sheet: Sheet) -> pd.DataFrame:
    """A row for each task set, variant and intervention: the score, and its difference from that as trained."""
    level, rows = sheet.rules.level, []
    for task_set in study.probed_sets():
        for variant in _probed(study, task_set):
            for name in _names(study, variant, task_set):
                scores = study.under(variant, task_set, name)
                change = study.acted(variant, task_set, name, OWN) if name != OWN else None
                rows.append({
                    "task_set": task_set, "variant": variant.name, "intervention": name, "seeds": len(scores),
                    "score": study.interval(scores, level), "delta": change and change.interval(level),
                    "set": study.set_title(task_set), "agent": variant.label, "what": _what(name),
                })  # fmt: skip
    return pd.DataFrame(rows)


def _what(name: str) -> str:
    amount = amount_of(name)
    if amount is None:
        return NAMES.get(name, name)
    return f"{amount[1]} trajectories" if amount[0] == "trajectories" else f"first {amount[1]} steps of each"


def _seeds(study: Study, sheet: Sheet) -> None:
    """Every seed under every intervention, as numbers."""
    keys = ["task_set", "variant", "intervention", "seed"]
    frame = study.interventions()
    raw = study.score.column
    per_task = frame.groupby([*keys, "task"])[[raw, "score"]].mean()
    means = per_task.groupby(keys)[[raw, "score"]].mean().rename(columns={raw: "raw"}).reset_index()
    sheet.numbers(f"{study.name}-intervention-seeds", means, "Every seed")


def _swaps(study: Study, sheet: Sheet, variant: Variant, task_set: str) -> None:
    """Whose dataset decides what is done."""
    matrix = swaps(study, variant, task_set)
    if matrix.empty:
        return
    noun = study.spec.task_noun
    sheet.figure(
        f"{study.name}-swaps",
        _swap_heatmap(study, matrix),
        f"Heat map: rows are the {noun} whose dataset is given, columns the {noun} whose reward is measured.",
        f"{variant.label}: does the dataset decide the {noun}? Bright on the diagonal and dark elsewhere means yes. "
        f"Lines part groups of {noun}s. White cells were not measured.",
    )
    if text := decided_text(matrix, noun):
        sheet.text(text)
    sheet.numbers(f"{study.name}-swaps", matrix.reset_index(names="given_task"))


def decided_text(matrix: pd.DataFrame, noun: str = "task") -> str:
    """On how many tasks of a swap matrix no other dataset gives more; "" without numbers."""
    values = matrix.to_numpy()
    own = np.diag(values)
    others = np.where(np.eye(len(values), dtype=bool), np.nan, values)
    measured = np.isfinite(own) & np.isfinite(others).any(axis=0)
    if not measured.any():
        return ""
    best = np.where(np.isfinite(others), others, -np.inf).max(axis=0)
    n, mean = int(measured.sum()), tables.number
    return (
        f"On {int((best <= own)[measured].sum())} of {tables.plural(n, noun)} no other dataset gives a higher score "
        f"than the {noun}'s own. Mean: {mean(own[measured].mean())} with the own dataset, "
        f"{mean(np.nanmean(others[:, measured]))} with that of another."
    )


def _swap_heatmap(study: Study, matrix: pd.DataFrame) -> Figure:
    """Groups of tasks apart; the values written in where there is room."""
    n = len(matrix)
    figure = figures.new_figure(max(3.4, min(5.2, 1.6 + 0.17 * n)))
    axes = figure.subplots()
    names = list(map(tables.spaced, matrix.index))
    ends = study.score.ends or (None, None)
    seaborn.heatmap(
        matrix, cmap="cividis", vmin=ends[0], vmax=ends[1], square=True, ax=axes, annot=n <= 12, fmt=".1f",
        xticklabels=names, yticklabels=names, cbar_kws={"label": study.score.label, "shrink": 0.7},
    )  # fmt: skip
    axes.tick_params(labelsize=8.5 if n <= 12 else 6.5, length=0)
    axes.grid(visible=False)
    axes.set(
        xlabel=f"{study.spec.task_noun} that is measured on", ylabel=f"{study.spec.task_noun} whose dataset is given"
    )
    sizes = [len(members) for members in study.task_order(matrix.index).values()]
    for edge in np.cumsum(sizes)[:-1]:
        axes.axhline(edge, color="white", lw=0.8)
        axes.axvline(edge, color="white", lw=0.8)
    return figure


def _amounts(study: Study, sheet: Sheet, variant: Variant, task_set: str) -> None:
    """How much of the data is needed."""
    found = {of: amounts(study, variant, task_set, of) for of in AMOUNTS.values()}
    found = {of: table for of, table in found.items() if not table.empty}
    if not found:
        return
    figure = figures.new_figure(2.75)
    grid = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
    rows = []
    for axes, (of, table) in zip(grid, found.items(), strict=True):
        long = table.rename_axis("left").melt(ignore_index=False, var_name="seed", value_name="score").reset_index()
        figures.curves(
            axes, long.assign(agent=variant.name), "left", "score", {variant.name: variant.look}, study.bounds
        )
        removed = list(study.under(variant, task_set, "removed").values())
        if removed:
            axes.axhline(float(np.mean(removed)), color=FAINT, lw=1.4, ls=(0, (1, 1)))
            axes.text(0.98, float(np.mean(removed)), "nothing retrieved", color=FAINT, fontsize=8, ha="right",
                      va="bottom", transform=axes.get_yaxis_transform())  # fmt: skip
        figures.logarithmic(axes, table.index)
        axes.set_xlabel("trajectories in a batch" if of == "trajectories" else "first steps of each trajectory")
        whole = table.iloc[-1].dropna()
        for n, values in table.iterrows():
            change = (
                paired(values.dropna().to_dict(), whole.to_dict(), bounds=study.bounds)
                if n != table.index[-1]
                else None
            )
            mean, level = study.interval(list(values.dropna()), sheet.rules.level), sheet.rules.level
            rows.append({"of": of, "left": n, "seeds": mean.n[0], "score": mean,
                         "delta": change and change.interval(level)})  # fmt: skip
    grid[0].set_ylim(bottom=0 if math.isfinite(grid[0].get_ylim()[0]) else None)
    grid[0].set_ylabel(study.score.label)
    sheet.figure(
        f"{study.name}-amounts",
        figure,
        f"Score of {variant.label} against the number of trajectories it may retrieve from, and against how many first "
        "steps of each are left.",
        f"How much of the data is needed: the same networks ({variant.label}) with fewer trajectories in their "
        "retrieval batch, and with trajectories cut to their first steps. The last point is as trained.",
    )
    sheet.numbers(f"{study.name}-amounts", pd.DataFrame(rows))
