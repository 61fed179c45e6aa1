"""Learning curves, last scores and what they rest on."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import trim_mean

from rarl.envs.spec import load
from rarl.reporting import figures, tables
from rarl.reporting.claims import Rules
from rarl.reporting.figures import Look, StripRow
from rarl.reporting.results import normalised, spelled
from rarl.reporting.sheet import Sheet
from rarl.reporting.statistics import t_interval
from rarl.reporting.study import Study, Variant

_ACROSS = 2  # panels side by side


def write(study: Study, sheet: Sheet) -> None:
    """Curves, a strip of all seeds, the table, the performance profile."""
    sheet.heading("Learning curves")
    curves = study.curves(study.used_sets)
    drawn, axis = learning_curves(study, curves)
    sheet.figure(
        f"{study.name}-curves",
        drawn,
        curves,
        f"Learning curves of all agents: {study.score.label} against {axis}.",
        "Thin: seeds. Bold: mean over seeds with 95 % CI. Level lines: agents without online interaction.",
    )
    sheet.heading("Final scores")
    frame = score_frame(study, sheet.rules)
    rows = [(task_set, v, seed, score) for task_set in study.used_sets
            for v in study.variants_on(task_set, sweeps=False)
            for seed, score in study.seed_scores(v, task_set).items()]  # fmt: skip
    seeds = pd.DataFrame([(s, v.name, seed, score) for s, v, seed, score in rows],
                         columns=["task_set", "variant", "seed", "score"])  # fmt: skip
    groups: dict[str, list[StripRow]] = {
        study.set_title(task_set): [
            StripRow(v.look, list(study.seed_scores(v, task_set).values()),
                     printed=None if study.score.normaliser else reported(study, v, task_set))
            for v in study.variants_on(task_set, sweeps=False)
        ]
        for task_set in study.used_sets
    }  # fmt: skip
    strip, axes = figures.strip(groups, f"{study.score.label}, last evaluation", study.score.ends, study.bounds)
    figures.marks(axes, study.score.marks, across=False)
    diamonds = any(row.printed for of_set in groups.values() for row in of_set)
    sheet.figure(
        f"{study.name}-seeds",
        strip,
        seeds,
        f"Final scores ({study.score.label}) of every seed, with means and confidence intervals, by task set and agent.",
        "Last evaluation. Markers: seeds. Tick and bar: mean with 95 % CI."
        + (" Open diamond: the paper's number with its spread, at its own scale." if diamonds else ""),
    )
    noun = study.spec.task_noun
    columns = [
        *study.columns,
        tables.intervals("iqm", f"IQM over {noun}s"),
        tables.numbers("solved", f"{noun.capitalize()}s solved", 1),
        tables.numbers("steps", study.step_unit.capitalize()),
        tables.words("learns_from", "Learns from"),
    ]
    if study.score.normaliser:
        columns.insert(3, tables.intervals("raw", "Return"))
    if frame["learns_from"].nunique() < 2:
        columns.pop()
    if (frame["reported"].notna()).any():
        frame = frame.assign(paper=[_plus_minus(*row) for row in zip(frame["reported"], frame["spread"], strict=True)])
        columns.append(tables.words("paper", "Paper"))
    sheet.table(f"{study.name}-scores", frame, columns, "final scores, mean over seeds with 95 % CI.")
    _profile(study, sheet)
    recomputed(study, sheet)


def headline(study: Study, sheet: Sheet) -> None:
    """Learning curves of the agents with and without retrieval alone, on the largest task set (the mean over all where
    every run learns one task)."""
    members = [v for v in study.variants.values() if v.settings.kind in ("base", "gain") and v.runs[0] == study.name]
    shown = figures.looks({v.name: (v.label, "", v.settings.kind) for v in members})
    curves = study.curves(study.used_sets if study.spec.one_task else study.used_sets[-1:])
    frame = curves[curves["variant"].isin(list(shown))]
    keys = ["variant", "seed", "update"]
    frame = frame.groupby(keys, sort=False)[["steps", "score"]].mean().reset_index().rename(columns={"variant": "agent"})
    figure = figures.new_figure(2.6)
    axes = figure.subplots()
    x, axis = ("steps", study.step_unit) if frame["steps"].notna().all() else ("update", "updates")
    figures.curves(axes, frame, x, "score", shown, study.bounds)
    figures.thousands(axes)
    if study.score.ends is not None:
        axes.set_ylim(*study.score.ends)
    figures.marks(axes, study.score.marks, across=True)
    axes.set(xlabel=axis, ylabel=study.score.label)
    axes.set_title(f"{study.title}, {study.set_title(study.compared_sets[-1])}", weight="bold")
    figures.legend(figure, [shown[name] for name in shown if (frame["agent"] == name).any()])
    sheet.figure(f"{study.name}-headline", figure, frame,
                 f"{study.title}: learning curves with and without retrieval, {study.score.label} against {axis}.",
                 "Thin: seeds. Bold: mean with 95 % CI.")  # fmt: skip


def _profile(study: Study, sheet: Sheet) -> None:
    """Which share of (seed, task) pairs scores above a threshold, on the largest task set; where there are several."""
    task_set = study.compared_sets[-1]
    found = {v: study.table(v, task_set).to_numpy().ravel() for v in study.variants_on(task_set, sweeps=False)
             if v.settings.kind in ("base", "gain") or not v.settings.group}  # fmt: skip
    found = {v: values[np.isfinite(values)] for v, values in found.items()}
    if study.table(study.base, task_set).shape[1] < 2 or not found:
        return
    pooled = np.concatenate(list(found.values()))
    thresholds = np.linspace(min(0.0, pooled.min()), pooled.max(), 61)
    frame = pd.DataFrame([{"variant": v.name, "threshold": t, "share": float((values > t).mean())}
                          for v, values in found.items() for t in thresholds])  # fmt: skip
    figure = figures.new_figure(2.6)
    axes = figure.subplots()
    for v in found:
        here = frame[frame["variant"] == v.name]
        axes.plot(here["threshold"], here["share"], color=v.look.colour, ls=v.look.line)
    axes.set(xlabel=f"threshold τ, {study.score.label}", ylabel="share of runs\nwith score > τ", ylim=(0, 1.02))
    figures.legend(figure, [replace(v.look, marker="") for v in found])
    sheet.figure(f"{study.name}-profile", figure, frame,
                 f"Performance profile: the share of runs and {study.spec.task_noun}s above each score, by agent.",
                 f"Performance profile (rliable), {study.where(task_set)}: pairs of seed and {study.spec.task_noun}.")


def learning_curves(study: Study, curves: pd.DataFrame) -> tuple[Figure, str]:
    """(figure, what is on the x axis): a panel per task set and group of variants."""
    frame = curves.rename(columns={"variant": "agent"})
    own = [v.name for v in study.variants.values() if v.runs[0] == study.name]
    plays = frame[frame["agent"].isin(own)]["steps"].notna().all()
    x, axis = ("steps", study.step_unit) if plays else ("update", "updates")
    panels = [(task_set, header, variants) for task_set in study.used_sets
              for header, variants in study.groups_on(task_set).items()]  # fmt: skip
    lines = math.ceil(len(panels) / _ACROSS)
    figure = figures.new_figure(2.1 * lines + 0.75)
    ends = study.score.ends
    grid = figure.subplots(lines, min(len(panels), _ACROSS), sharey=ends is not None, squeeze=False).ravel()
    drawn: dict[tuple, Look] = {}
    for axes, (task_set, header, variants) in zip(grid, panels, strict=False):
        here = frame[frame["task_set"] == task_set]
        figures.curves(axes, here, x, "score", {v.name: v.look for v in variants}, study.bounds)
        for variant in variants:
            if here[here["agent"] == variant.name][x].isna().all():
                figures.level(axes, study.interval(study.seed_scores(variant, task_set)), variant.look)
            look = variant.look.within(header)
            drawn[look.label, look.colour] = look
        figures.thousands(axes)
        if ends is not None:
            axes.set_ylim(*ends)
        figures.marks(axes, study.score.marks, across=True)
        axes.set_title(f"{study.set_title(task_set)}\n{header}".strip(), weight="bold")
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    figure.supxlabel(axis, fontsize=9)
    figure.supylabel(study.score.label, fontsize=9)
    figures.legend(figure, drawn.values())
    return figure, axis


def score_frame(study: Study, rules: Rules) -> pd.DataFrame:
    """A row for each task set and variant with runs: its scores, what they are compared with and rest on."""
    rows = []
    low, high = study.bounds
    of_raw = (low / study.score.factor, high / study.score.factor)
    for task_set in study.used_sets:
        for variant in study.variants_on(task_set):
            table = study.table(variant, task_set)
            scores = list(study.seed_scores(variant, task_set).values())
            raw = list(study.table(variant, task_set, study.score.column).mean(axis=1))  # per seed, as it was measured
            source, steps = study.experience(variant, task_set)
            printed = reported(study, variant, task_set) or (math.nan, math.nan)
            solved = (table.dropna() >= rules.solved).sum(axis=1).mean()
            rows.append({
                "task_set": task_set, "variant": variant.name, "seeds": len(scores), "tasks": table.shape[1],
                "raw": t_interval(raw, rules.level, of_raw), "score": study.interval(scores, rules.level),
                "iqm": study.interval(trim_mean(table.dropna(), 0.25, axis=1), rules.level),
                "solved": solved if study.score.normaliser == "expert" else math.nan,
                "learns_from": source, "steps": steps, "reported": printed[0], "spread": printed[1],
                "set": study.set_title(task_set), "agent": variant.label,
            })  # fmt: skip
    return pd.DataFrame(rows)


def reported(study: Study, variant: Variant, task_set: str) -> tuple[float, float | None] | None:
    """What the paper printed for a variant: of a task alone, or of the amount of data that is set beside it.

    It is set beside the least and the most data; with one amount there is nothing to choose by.
    """
    if study.spec.reported is not None and study.spec.one_task:
        tasks = study.results.select(study.results.last, *variant.runs[:1], task_set, variant.runs[1])["task"].unique()
        return load(study.spec.reported)(variant.name, str(tasks[0])) if len(tasks) == 1 else None
    printed, sets = variant.settings.reported, study.used_sets
    if not printed or len(sets) < 2 or task_set not in (sets[0], sets[-1]):
        return None
    mean, spread = printed[0 if task_set == sets[0] else -1]
    return mean, spread


def _plus_minus(mean: float, spread: float | None) -> str | None:
    if mean is None or math.isnan(mean):
        return None
    text = f"{mean:,.10g}"
    return tables.unbroken(text if spread is None or math.isnan(spread) else f"{text} ± {spread:,.10g}")


def recomputed(study: Study, sheet: Sheet) -> None:
    """What the paper's own table adds up to: how much more the full agent scores than the base."""
    if study.spec.reported is None or study.full is None:
        return
    of = load(study.spec.reported)
    tasks = [task for task in study.spec.tasks if of(study.base.name, task) and of(study.full.name, task)]
    if not tasks:
        return
    names = pd.Series(list(map(spelled, tasks)))
    base, full = (normalised(study.spec, names, pd.Series([of(v.name, task)[0] for task in tasks]))
                  for v in (study.base, study.full))  # fmt: skip
    gains = {name: (reduce(full) / reduce(base) - 1) for name, reduce in (("mean", np.mean), ("median", np.median))}
    noun = study.spec.task_noun
    sheet.text(
        f"From the paper's own table of {len(tasks)} {noun}s: {study.full.label} − {study.base.label} in "
        f"{study.score.label} is "
        + " and ".join(f"{100 * gain:+.1f} % ({name})" for name, gain in gains.items())
    )
    data = [{"aggregate": name, f"{noun}s": len(tasks), "gain": gain} for name, gain in gains.items()]
    sheet.numbers(f"{study.name}-reported", pd.DataFrame(data), "The same as numbers")
