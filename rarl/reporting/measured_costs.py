"""What each variant costs beside its base, from results/{scale}/costs.csv, which `rarl costs` measures in one run."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from rarl.config.scale import read_scale, scales_in
from rarl.reporting import figures
from rarl.reporting.results import Results
from rarl.reporting.sheet import Sheet

NAMES = ["experiment", "task_set", "variant", "base", "step", "device"]
NUMBERS = ["parameters", "learner_step_ms", "acting_ms", "read_ms", "memory_mb", "tensors_mb", "gflop", "rounds",
           "threads"]  # fmt: skip
COMPARED = ("learner_step_ms", "gflop", "acting_ms", "parameters", "memory_mb")
OF_STEPS = ("learner_step_ms", "gflop")


def read_costs(results: Results, *, due: bool = True) -> pd.DataFrame:
    """The rows of costs.csv with their ratios to the base, `learner_step_ratio` and so on (NaN where there is none).

    Learner steps in which other things are done than in the base's, as episodic control's whole episodes, have none.

    No rows where there is no such file or it is damaged. Both are noted as a problem; if not `due` it may be missing.
    """
    where = f"results/{results.scale}"
    frame = results.table("costs", [*NAMES, *NUMBERS])
    told = any(place == where and what.startswith("costs.csv") for place, what in results.problems)
    if frame.empty and due and not told:
        results.note(where, f"costs.csv is missing or has no rows; `rarl costs --scale {results.scale}` measures them")
    if frame.duplicated(["experiment", "variant"]).any():
        results.note(where, "costs.csv names a variant twice")
        return frame[:0]
    return _with_ratios(frame)


def _with_ratios(frame: pd.DataFrame) -> pd.DataFrame:
    base = frame[frame["variant"] == frame["base"]].set_index("experiment")
    for column in COMPARED:
        numbers = frame[column].where(frame[column] > 0).astype(float)
        frame[ratio_of(column)] = numbers / frame["experiment"].map(base[column].where(base[column] > 0)).astype(float)
    unlike = frame["step"] != frame["experiment"].map(base["step"])
    for column in OF_STEPS:
        frame[ratio_of(column)] = frame[ratio_of(column)].mask(unlike)
    return frame


def against(costs: pd.DataFrame, side: tuple[str, str], base: tuple[str, str]) -> dict[str, Any]:
    """The row of one variant of `read_costs`, its ratios to another one's; empty where it was not measured."""
    rows = [
        costs[(costs["experiment"] == experiment) & (costs["variant"] == name)] for experiment, name in (side, base)
    ]
    if not all(map(len, rows)):
        return {}
    pair = pd.concat(rows).assign(experiment="", base=base[1])
    return dict(_with_ratios(pair).iloc[0])


def ratio_of(column: str) -> str:
    """ "learner_step_ms" -> "learner_step_ratio"."""
    return f"{column.removesuffix('_ms').removesuffix('_mb')}_ratio"


def write(sheet: Sheet, frame: pd.DataFrame) -> None:
    """The table of measured costs, see `read_costs`, and its CSV."""
    _table(sheet, "measured-costs", frame, "costs of each variant")


def _table(sheet: Sheet, name: str, frame: pd.DataFrame, caption: str) -> None:
    names = [sheet.results.label(*who) for who in frame[["experiment", "variant"]].to_numpy()]
    frame = frame.assign(name=names, title=frame["experiment"].map(sheet.results.title))
    heads = {"name": "Variant", "title": "Experiment", "parameters": "Parameters", "parameters_ratio": "×",
             "learner_step_ms": "ms per update", "learner_step_ratio": "×", "gflop": "GFLOP per update",
             "gflop_ratio": "×", "acting_ms": "ms to act",
             "acting_ratio": "×", "read_ms": "ms per retrieval", "memory_mb": "MB", "memory_ratio": "×"}  # fmt: skip
    caption += "; ×: ratio to the base, only where update steps are comparable"
    sheet.table(name, frame, heads, caption, folded=True, digits=2)


def write_history(sheet: Sheet) -> None:
    """Of results/costs-history.csv, see `rarl.benchmarks.history`: learner steps by commit, of scales that were
    measured at two; and the last measurement of each scale that has experiments of this one."""
    frame = _history(sheet.results)
    repeated = frame[frame.groupby("scale")["commit"].transform("nunique") > 1]
    if len(repeated):
        caption = (
            "Milliseconds per update by fixed settings, at commits in their order. Each line: one agent, one machine."
        )
        alt = "Time of a learner step with and without retrieval at several commits, by environment."
        sheet.figure("costs-history", _by_commit(sheet, repeated), repeated, alt, caption)
    for scale, rows in _last_at_scales(frame).items():
        date, commit, machine = rows.iloc[-1][["date", "commit", "machine"]]
        told = ", ".join([*_about(sheet.results, scale), f"commit {commit[:7]}", date, machine])
        _table(sheet, f"costs-{scale}", rows, f"costs at scale {scale} ({told})")


def told_of_scales(results: Results) -> str:
    """How many times their base's an update of agents takes at scales that were measured once, at sizes of their own:
    "large (larger networks): A board 360, A maze 67 to 101"; "" where there is none."""
    frame, found = _history(results), []
    once = frame.groupby("scale")["commit"].nunique() == 1
    for scale, rows in _last_at_scales(frame).items():
        ratios = rows[rows["variant"] != rows["base"]].groupby("experiment", sort=False)[ratio_of("learner_step_ms")]
        ends = {results.title(str(name)): dict.fromkeys((f"{of.min():.3g}", f"{of.max():.3g}")) for name, of in ratios}
        words = [f"{title} {' to '.join(numbers)}" for title, numbers in ends.items() if "nan" not in numbers]
        if once[scale] and words:
            about = "".join(f" ({what})" for what in _about(results, scale))
            found.append(f"{scale}{about}: {', '.join(words)}")
    return "; ".join(found)


def _history(results: Results) -> pd.DataFrame:
    columns = ["date", "commit", "machine", "scale", *NAMES, *NUMBERS]
    frame = results.table("costs-history", columns, of_all_scales=True)
    return frame[frame["experiment"].isin(results.planned()["experiment"])]


def _last_at_scales(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Scale -> the rows of its last measurement, with ratios."""
    known = frame[frame["parameters"].notna()].groupby("scale", sort=False)
    last = {str(scale): rows[rows["commit"] == rows["commit"].iloc[-1]] for scale, rows in known}
    return {
        s: _with_ratios(rows.drop_duplicates(["experiment", "variant"], keep="last").copy()) for s, rows in last.items()
    }


def _about(results: Results, scale: str) -> list[str]:
    """What its file says that it is for, where it is still there."""
    return [read_scale(scale, results.root).description] if scale in scales_in(results.root) else []


def _by_commit(sheet: Sheet, frame: pd.DataFrame) -> Figure:
    commits, experiments = list(frame["commit"].unique()), frame.groupby("experiment", sort=False)
    apart = [name for name in ("machine", "scale") if frame[name].nunique() > 1]
    figure = figures.new_figure(0.6 + 1.7 * len(experiments))
    grid = figure.subplots(len(experiments), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, rows) in zip(grid, experiments, strict=True):
        for i, ((variant, *where), line) in enumerate(rows.groupby(["variant", *apart], sort=False)):
            label = ", ".join([sheet.results.label(name, variant), *where])
            axes.plot([commits.index(c) for c in line["commit"]], line["learner_step_ms"], "os^vDP"[i % 6] + "-",
                      color=figures.PALETTE[i % len(figures.PALETTE)], label=label)  # fmt: skip
        axes.set(title=sheet.results.title(name), ylabel="ms per update")
        axes.set_ylim(0, 1.15 * rows["learner_step_ms"].max())
        axes.set_xticks(range(len(commits)), [commit[:7] for commit in commits], rotation=40, ha="right")
        axes.legend()
    return figure
