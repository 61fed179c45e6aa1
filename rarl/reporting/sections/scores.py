"""Learning curves, final scores and what they rest on."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import trim_mean

from rarl.envs.spec import load
from rarl.reporting import charts, figures, tables
from rarl.reporting.claims import Rules
from rarl.reporting.figures import Look, StripRow
from rarl.reporting.sheet import Sheet
from rarl.reporting.statistics import finite, t_interval
from rarl.reporting.study import Study, Variant

_ACROSS = 2  # panels side by side
_LINES = 10  # of a performance profile; more cannot be told apart


def write(study: Study, sheet: Sheet) -> None:
    """Curves, a strip of all seeds, the table, the performance profile."""
    sheet.heading("Learning curves")
    curves = study.curves(study.used_sets)
    drawn, axis = learning_curves(study, curves)
    x, _ = study.x_axis(curves)
    flat = curves[x].isna().groupby([curves["task_set"], curves["variant"]]).all().any()
    sheet.figure(
        f"{study.name}-curves",
        drawn,
        curves,
        f"Learning curves of all agents: {study.score.label} against {axis}.",
        "Thin: seeds. Bold: mean over seeds with 95 % CI."
        + (" Level lines: agents without online interaction." if flat else ""),
        charts.curves(study),
    )
    sheet.heading("Final scores")
    groups: dict[str, list[StripRow]] = {}
    seeds = []
    for task_set, v in ((s, v) for s in study.used_sets for v in study.variants_on(s, sweeps=False)):
        found = study.seed_scores(v, task_set)
        printed = None if study.score.normaliser else reported(study, v, task_set)
        groups.setdefault(study.set_title(task_set), []).append(StripRow(v.look, list(found.values()), printed=printed))
        seeds += [{"task_set": task_set, "variant": v.name, "seed": s, "score": x} for s, x in found.items()]
    strip, axes = figures.strip(groups, f"{study.score.label}, last evaluation", study.score.ends, study.bounds)
    figures.marks(axes, study.score.marks, across=False)
    diamonds = any(row.printed for rows in groups.values() for row in rows)
    sheet.figure(
        f"{study.name}-seeds",
        strip,
        pd.DataFrame(seeds),
        f"Final scores ({study.score.label}) of every seed, with means and intervals, by task set and agent.",
        "Last evaluation. Markers: seeds. Tick and bar: mean with 95 % CI."
        + (" Open diamond: the paper's number with its spread, at its own scale." if diamonds else ""),
    )
    noun = study.spec.task_noun
    heads = {**study.heads, "iqm": f"IQM over {noun}s", "solved": f"{noun.capitalize()}s solved"}
    if study.spec.one_task:  # of which the mean is the task's own
        del heads["iqm"]
    heads |= ({"raw": "Return"} if study.score.normaliser else {}) | {"reported": "Paper", "spread": "±"}
    heads |= {name: tables.spaced(name).capitalize() for name in study.also_measured}
    sheet.table(
        f"{study.name}-scores", score_frame(study, sheet.rules), heads, "final scores, mean over seeds with 95 % CI."
    )
    _profile(study, sheet)


def headline(study: Study, sheet: Sheet) -> None:
    """Learning curves of the agents with and without retrieval alone, on the largest task set (the mean over all where
    every run learns one task)."""
    members = [v for v in study.variants.values() if v.settings.kind in ("base", "gain") and v.runs[0] == study.name]
    shown = figures.looks({v.name: (v.label, "", v.settings.kind) for v in members})
    curves = study.curves(study.used_sets if study.spec.one_task else study.used_sets[-1:])
    curves = curves[curves["variant"].isin(list(shown))]
    x, axis = study.x_axis(curves)
    frame = curves.groupby(["variant", "seed", "update"], sort=False)[["steps", "score"]].mean().reset_index()
    frame = frame.rename(columns={"variant": "agent"})
    figure = figures.new_figure(2.6)
    axes = figure.subplots()
    figures.curves(axes, frame, x, "score", shown, study.bounds)
    _finish(study, axes)
    axes.set(xlabel=axis, ylabel=study.score.label)
    axes.set_title(f"{study.title}, {study.set_title(study.compared_sets[-1])}", weight="bold")
    figures.legend(figure, [shown[name] for name in shown if (frame["agent"] == name).any()])
    alt = f"{study.title}: learning curves with and without retrieval, {study.score.label} against {axis}."
    sheet.figure(f"{study.name}-headline", figure, frame, alt, f"{study.title}.")


def _finish(study: Study, axes: Axes) -> None:
    figures.thousands(axes)
    if study.score.ends is not None:
        axes.set_ylim(*study.score.ends)
    figures.marks(axes, study.score.marks, across=True)


def learning_curves(study: Study, curves: pd.DataFrame) -> tuple[Figure, str]:
    """(figure, what is on the x axis): a panel per task set and group of variants."""
    frame = curves.rename(columns={"variant": "agent"})
    x, axis = study.x_axis(curves)
    panels = study.panels_on(study.used_sets)
    lines = math.ceil(len(panels) / _ACROSS)
    figure = figures.new_figure(2.1 * lines + 0.75)
    shared = study.score.ends is not None
    grid = figure.subplots(lines, min(len(panels), _ACROSS), sharey=shared, squeeze=False).ravel()
    drawn: list[Look] = []
    for axes, (task_set, header, variants) in zip(grid, panels, strict=False):
        here = frame[frame["task_set"] == task_set]
        figures.curves(axes, here, x, "score", {v.name: v.look for v in variants}, study.bounds)
        for variant in variants:
            if here[here["agent"] == variant.name][x].isna().all():
                figures.level(axes, study.interval(study.seed_scores(variant, task_set)), variant.look)
            look = variant.look.within(header)
            if not any(look.label.startswith(other.label) and look.colour == other.colour for other in drawn):
                drawn.append(look)
        _finish(study, axes)
        axes.set_title(f"{study.set_title(task_set)}\n{header}".strip(), weight="bold")
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    figure.supxlabel(axis, fontsize=9)
    figure.supylabel(study.score.label, fontsize=9)
    figures.legend(figure, drawn)
    return figure, axis


def _profile(study: Study, sheet: Sheet) -> None:
    """Which share of (seed, task) pairs scores above a threshold, on the largest task set; where there are several."""
    task_set = study.compared_sets[-1]
    shown = [v for v in study.variants_on(task_set, sweeps=False)
             if v.settings.kind in ("base", "gain") or not v.settings.group]  # fmt: skip
    found = {v.name: finite(study.table(v, task_set).to_numpy().ravel()) for v in shown}
    if study.table(study.base, task_set).shape[1] < 2 or len(found) > _LINES or not any(map(len, found.values())):
        return
    pooled = np.concatenate(list(found.values()))
    thresholds = np.linspace(min(0.0, pooled.min()), pooled.max(), 61)
    shares = {name: [float((values > t).mean()) for t in thresholds] for name, values in found.items()}
    looks = figures.looks({v.name: (v.label, "", v.settings.kind) for v in shown})
    figure = figures.new_figure(2.6)
    axes = figure.subplots()
    for name, look in looks.items():
        axes.plot(thresholds, shares[name], color=look.colour, ls=look.line)
    axes.set(xlabel=f"threshold τ, {study.score.label}", ylabel="share of runs\nwith score > τ", ylim=(0, 1.02))
    figures.legend(figure, [replace(look, marker="") for look in looks.values()])
    sheet.figure(
        f"{study.name}-profile",
        figure,
        pd.DataFrame({"threshold": thresholds} | shares),
        f"Performance profile: the share of runs and {study.spec.task_noun}s above each score, by agent.",
        f"Performance profile (rliable), {study.where(task_set)}: pairs of seed and {study.spec.task_noun}.",
    )


def score_frame(study: Study, rules: Rules) -> pd.DataFrame:
    """A row for each task set and variant with runs: its scores and what the paper printed."""
    rows = []
    low, high = (end / study.score.factor for end in study.bounds)
    for task_set, variant in ((s, v) for s in study.used_sets for v in study.variants_on(s)):
        table = study.table(variant, task_set)
        scores = list(study.seed_scores(variant, task_set).values())
        raw = list(study.table(variant, task_set, study.score.column).mean(axis=1))  # per seed, as it was measured
        printed = reported(study, variant, task_set) or (math.nan, math.nan)
        solved = (table.dropna() >= rules.solved).sum(axis=1).mean()
        rows.append({
            "task_set": task_set, "variant": variant.name, "seeds": len(scores), "tasks": table.shape[1],
            "raw": t_interval(raw, rules.level, (low, high)), "score": study.interval(scores, rules.level),
            "iqm": study.interval(trim_mean(table.dropna(), 0.25, axis=1), rules.level),
            "solved": solved if study.score.normaliser == "expert" else math.nan,
            "reported": printed[0], "spread": printed[1], "set": study.set_title(task_set), "agent": variant.label,
            **{name: t_interval(list(study.table(variant, task_set, name).mean(axis=1)), rules.level)
               for name in study.also_measured},
        })  # fmt: skip
    return pd.DataFrame(rows)


def reported(study: Study, variant: Variant, task_set: str) -> tuple[float, float | None] | None:
    """What the paper printed for a variant: of a task alone, or of the amount of data that is set beside it.

    It is set beside the least and the most data; with one amount there is nothing to choose by.
    """
    if study.spec.reported is not None and study.spec.one_task:
        tasks = study.rows(study.results.last, variant, task_set)["task"].unique()
        return load(study.spec.reported)(variant.name, str(tasks[0])) if len(tasks) == 1 else None
    printed, sets = variant.settings.reported, study.used_sets
    if not printed or len(sets) < 2 or task_set not in (sets[0], sets[-1]):
        return None
    mean, spread = printed[0 if task_set == sets[0] else -1]
    return mean, spread
