"""Test-time interventions: what trained agents score when what they retrieve from is changed."""

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
    sheet.heading("Test-time interventions on retrieval")
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
        f"{study.name}-intervention-seeds",
        figure,
        _seeds(study),
        "Scores of the probed agents with their retrieval dataset as trained, removed, shuffled or swapped.",
        f"The same trained networks with another retrieval dataset at test time ({', '.join(map(study.set_title, shown))}). "
        f"Dots: seeds. Tick and bar: mean with 95 % CI. Vertical: {study.base.label}.",
    )
    columns = [
        tables.words("what", "Retrieval dataset"),
        *study.columns[:2],
        *study.columns[2:],
        tables.intervals("delta", "Δ vs as trained", signed=True),
    ]
    caption = "all test-time interventions, with 95 % CI"
    sheet.table(f"{study.name}-interventions", frame, columns, caption, folded=True)
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


def _seeds(study: Study) -> pd.DataFrame:
    """Every seed under every intervention, as numbers."""
    keys = ["task_set", "variant", "intervention", "seed"]
    frame, raw = study.interventions(), study.score.column
    means = frame.groupby([*keys, "task"])[[raw, "score"]].mean().groupby(keys).mean()
    return means.rename(columns={raw: "raw"}).reset_index()


def _swaps(study: Study, sheet: Sheet, variant: Variant, task_set: str) -> None:
    """Whose dataset decides what is done."""
    matrix = swaps(study, variant, task_set)
    if matrix.empty:
        return
    noun = study.spec.task_noun
    sheet.figure(
        f"{study.name}-swaps",
        _swap_heatmap(study, matrix),
        matrix.reset_index(names="given_task"),
        f"Heat map: rows are the {noun} whose dataset is retrieved from, columns the {noun} whose reward is measured.",
        f"{variant.label}: does the retrieval dataset decide which {noun} is done? A bright diagonal means yes. "
        + decided_text(matrix, noun),
    )


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
        f"On {int((best <= own)[measured].sum())} of {tables.plural(n, noun)} no other dataset scores higher than the "
        f"{noun}'s own; mean {mean(own[measured].mean())} (own) against {mean(np.nanmean(others[:, measured]))} (others)."
    )


def _swap_heatmap(study: Study, matrix: pd.DataFrame) -> Figure:
    """Groups of tasks apart; their names alone, where single ones have no room."""
    few = len(matrix) <= 12
    figure = figures.new_figure(3.6)
    axes = figure.subplots()
    ends = study.score.ends or (None, None)
    names = list(map(tables.spaced, matrix.index))
    seaborn.heatmap(
        matrix, cmap="cividis", vmin=ends[0], vmax=ends[1], ax=axes, annot=few, fmt=".1f",
        annot_kws={"fontsize": 9}, xticklabels=names if few else False, yticklabels=names if few else False,
        cbar_kws={"label": study.score.label},
    )  # fmt: skip
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.set(xlabel=f"{study.spec.task_noun} that is measured on", ylabel=f"{study.spec.task_noun} whose dataset is given")
    groups = study.task_order(matrix.index)
    edges = np.cumsum([0, *map(len, groups.values())])
    for edge in edges[1:-1]:
        axes.axhline(edge, color="white", lw=0.8)
        axes.axvline(edge, color="white", lw=0.8)
    if not few:
        middles = (edges[:-1] + edges[1:]) / 2
        axes.set_yticks(middles, list(groups), rotation=0)
        axes.set_xticks(middles, list(groups), rotation=60, ha="right", rotation_mode="anchor")
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
            axes.text(0.98, float(np.mean(removed)), "nothing", color=FAINT, fontsize=9, ha="right",
                      va="bottom", transform=axes.get_yaxis_transform())  # fmt: skip
        figures.logarithmic(axes, table.index)
        axes.set_xlabel("trajectories" if of == "trajectories" else "first steps kept")
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
        pd.DataFrame(rows),
        f"Score of {variant.label} against the number of retrieved trajectories, and against how many first steps of each "
        "are kept.",
        f"How much data is needed at test time: {variant.label} with fewer trajectories in its retrieval batch, and with "
        "trajectories truncated to their first steps. Last point: as trained.",
    )
