"""Held-out tasks: never learned, handed over at evaluation by their datasets alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from rarl.reporting import cost, figures, tables
from rarl.reporting.claims import Claim, Samples, Settings, shared_task_set
from rarl.reporting.configurations import first_run, value_of
from rarl.reporting.effects import Change, Effect, effect, present
from rarl.reporting.figures import INK, PALETTE, Look
from rarl.reporting.results import Results, spelled
from rarl.reporting.scores import intervention_scores, paired, run_means, two_interventions
from rarl.reporting.sections import Section, no_facts
from rarl.reporting.sections.gridroboman_measures import TASKS_BY_FAMILY, intervention_table, seed_scores
from rarl.reporting.sheet import Sheet
from rarl.reporting.statistics import t_interval

EXPERIMENT = "held-out"
BASELINE = "dqn"
PROBED = "ra-dqn"
UNIT = "of the expert's return"
LOOKS = {"dqn": Look("DQN", PALETTE[0], "o", (0, (5, 1.5))), "ra-dqn": Look("RA-DQN", PALETTE[1], "s")}
OWN, REMOVED, SWAPPED = "held-out", "held-out-removed", "held-out-swapped"
NAMES = {
    OWN: Look("the task's own dataset", PALETTE[1], "s"),
    SWAPPED: Look("a learned task's dataset", PALETTE[3], "D"),
    REMOVED: Look("nothing retrieved", PALETTE[5], "v"),
}


def look(variant: str) -> Look:
    """How a variant is drawn."""
    return figures.look_of(LOOKS, variant)


def task_sets(results: Results) -> list[str]:
    """Those with usable runs, the largest last."""
    sizes = results.select(results.last, EXPERIMENT).groupby("task_set")["task"].nunique()
    return sorted(sizes.index, key=lambda name: (sizes[name], name))


def probed_set(results: Results) -> str | None:
    """The largest task set on whose held-out tasks something was measured."""
    for name in reversed(task_sets(results)):
        if intervention_table(results, name, PROBED, EXPERIMENT)["intervention"].isin(list(NAMES)).any():
            return name
    return None


def held_out_tasks(results: Results, task_set: str) -> list[str]:
    """By the runs' configuration; where that is silent, those that were measured."""
    for variant in (PROBED, BASELINE):
        found = value_of(results, first_run(results, EXPERIMENT, task_set, variant), "held_out")
        if isinstance(found, list) and found:
            return [spelled(task) for task in found]
    frame = intervention_table(results, task_set, PROBED, EXPERIMENT)
    return sorted(set(frame["task"][frame["intervention"].isin(list(NAMES))]))


def task_means(results: Results, task_set: str, intervention: str) -> pd.DataFrame:
    """(seeds, held-out tasks): normalised return, mean over the datasets given."""
    frame = intervention_table(results, task_set, PROBED, EXPERIMENT)
    rows = frame[frame["intervention"] == intervention]
    return rows.pivot_table(index="seed", columns="task", values="normalised", aggfunc="mean")


def won(results: Results, task_set: str, against: str) -> tuple[int, int]:
    """On how many held-out tasks, of how many, the own dataset gives more than another intervention, over seeds."""
    a, b = (task_means(results, task_set, name).mean() for name in (OWN, against))
    both = [task for task in a.index if task in b.index]
    return sum(bool(a[task] > b[task]) for task in both), len(both)


def strip(results: Results, task_set: str) -> Figure:
    """Mean over tasks under each intervention, every seed a dot, for learned and held-out tasks."""
    frame = intervention_table(results, task_set, PROBED, EXPERIMENT)
    learned = {variant: list(seed_scores(results, task_set, variant, EXPERIMENT).values()) for variant in LOOKS}
    rows: dict[str, list[tuple[Look, list[float]]]] = {
        "learned tasks": [(look(v), values) for v, values in learned.items() if values]
    }
    rows["held-out tasks, RA-DQN is given"] = [
        (drawn, values) for name, drawn in NAMES.items() if (values := list(intervention_scores(frame, name).values()))
    ]
    figure = figures.new_figure(0.36 * sum(map(len, rows.values())) + 1.5)
    axes = figure.subplots()
    placed = figures.Rows(axes)
    for header, members in rows.items():
        if members:
            placed.header(header)
        for drawn, values in members:
            figures.dots_with_interval(axes, values, t_interval(values), placed.row(drawn.label), drawn)
    placed.finish()
    axes.set_xlim(left=0)
    axes.set_xlabel("mean over tasks of return / expert's return")
    return figure


def per_task(results: Results, task_set: str) -> Figure:
    """Each held-out task with its own dataset, a learned task's and none: every seed a dot."""
    shown = {name: task_means(results, task_set, name) for name in NAMES}
    shown = {name: table for name, table in shown.items() if not table.empty}
    known = {task for table in shown.values() for task in table}
    tasks = [t.slug for t in TASKS_BY_FAMILY if t.slug in known]
    tasks += sorted(known - set(tasks))
    positions = {task: float(i) for i, task in enumerate(tasks)}
    figure = figures.new_figure(0.4 * len(tasks) + 1.2)
    axes = figure.subplots()
    offsets = np.linspace(-0.24, 0.24, len(shown)) if len(shown) > 1 else [0.0]
    for offset, (name, table) in zip(offsets, shown.items(), strict=True):
        values = table.stack().reset_index(level=0, drop=True)
        figures.dots_per_task(axes, values, positions, NAMES[name], offset=float(offset), tick=9)
    axes.hlines(np.arange(len(tasks)) + 0.5, 0, 1, color="#e6e6e6", lw=0.7, zorder=0,
                transform=axes.get_yaxis_transform())  # fmt: skip
    axes.set_yticks(range(len(tasks)), list(map(tables.spaced, tasks)))
    axes.set_ylim(len(tasks) - 0.4, -0.6)
    axes.set_xlim(left=0)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_color(INK)
    axes.set_xlabel("return / expert's return")
    handles = figures.legend_handles([NAMES[name] for name in shown], line=False)
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure


def _held_out(sheet: Sheet) -> None:
    results, level = sheet.results, sheet.settings.level
    task_set = probed_set(results)
    shown = task_set or task_sets(results)[-1]
    tasks = held_out_tasks(results, shown)
    learned = results.select(results.last, EXPERIMENT, shown)["task"].nunique()
    sheet.heading("Does the dataset decide the task?")
    named = (
        f"{tables.plural(len(tasks), 'task')} held out of training: {', '.join(map(tables.spaced, tasks))}. "
        if tasks
        else ""
    )
    sheet.text(
        f"{named}{tables.plural(learned, 'task')} learned. In the end the same networks get the datasets of the tasks "
        "that they never learned; the task itself is hidden."
    )
    if task_set is None:
        sheet.text("Nothing was measured on held-out tasks.")
        return
    sheet.figure(
        "held-out",
        strip(results, task_set),
        "Normalised return of every seed on learned tasks, and on held-out tasks with their own dataset, a learned "
        "task's, and nothing to retrieve.",
        "Normalised return, mean over tasks. Learned tasks: last evaluation. Held-out tasks: RA-DQN with what it is "
        "given to retrieve from. Each marker is a seed, the tick their mean, the bar the t interval.",
    )
    sheet.figure(
        "held-out-tasks",
        per_task(results, task_set),
        "Normalised return on each held-out task with its own dataset, with a learned task's, and with nothing to "
        "retrieve.",
        "The same, task by task. Dots: seeds. Ticks: their mean.",
    )
    for against, text in ((REMOVED, "nothing to retrieve"), (SWAPPED, "a learned task's dataset")):
        better, of = won(results, task_set, against)
        if of:
            sheet.text(f"On {better} of {tables.plural(of, 'held-out task')} its own dataset gives more than {text}.")
    frame = intervention_table(results, task_set, PROBED, EXPERIMENT)
    rows: list[list[Any]] = []
    for variant in LOOKS:
        scores = seed_scores(results, task_set, variant, EXPERIMENT)
        if scores:
            mean = t_interval(list(scores.values()), level)
            rows.append(
                [
                    look(variant).label,
                    "learned tasks, last evaluation",
                    tables.seeds(mean.n),
                    tables.interval(mean, 3),
                    None,
                ]
            )
    own = intervention_scores(frame, OWN)
    for name, drawn in NAMES.items():
        scores = intervention_scores(frame, name)
        if scores:
            mean, who = t_interval(list(scores.values()), level), f"held-out tasks, {drawn.label}"
            change = paired(own, scores) if name != OWN else None
            less = tables.interval(change.interval(level), 3, signed=True) if change else None
            rows.append([look(PROBED).label, who, tables.seeds(mean.n), tables.interval(mean, 3), less])
    sheet.table(["Agent", "On", "Seeds", "Return", "Own dataset less this"], rows, "llrrr")
    data = frame[["intervention", "task", "given_task", "seed", "episodes", "normalised"]]
    sheet.numbers("held-out", data)


def _cost(sheet: Sheet) -> None:
    used = sheet.results.select(sheet.results.last, EXPERIMENT)
    order = [(s, v) for s in task_sets(sheet.results)
             for v in figures.in_order(LOOKS, used["variant"][used["task_set"] == s])]  # fmt: skip
    cost.write(sheet, EXPERIMENT, order, BASELINE, look)


def intervention(results: Results, claim: Claim, settings: Settings) -> Samples | None:
    """The same networks under the interventions `of` and `against`, on the tasks that both were measured on."""
    return two_interventions(intervention_table(results, claim.test["task_set"], claim.test["a"], EXPERIMENT), claim)


def kept(results: Results, claim: Claim, settings: Settings) -> Samples | None:
    """What held-out tasks reach with their own datasets, as a share of what learned tasks reach with theirs."""
    frame = intervention_table(results, claim.test["task_set"], claim.test["a"], EXPERIMENT)
    new, learned = (intervention_scores(frame, name) for name in (OWN, "own"))
    ratios = {seed: new[seed] / learned[seed] for seed in new if learned.get(seed, 0) > 0}
    return Samples(ratios, design="single") if ratios else None


def aggregate(results: Results) -> dict[str, float]:
    """run -> mean over the learned tasks of the normalised last return."""
    return run_means(results.select(results.last, EXPERIMENT), "normalised")


def effects(results: Results, settings: Settings) -> list[Effect]:
    """What a held-out task loses when its dataset is taken away or exchanged."""
    task_set = probed_set(results)
    if task_set is None:
        return []
    frame = intervention_table(results, task_set, PROBED, EXPERIMENT)
    own = intervention_scores(frame, OWN)
    changes = {
        REMOVED: Change("data", "Tasks never learned: nothing retrieved, in the place of their own datasets",
                        "held-out tasks: nothing"),
        SWAPPED: Change("data", "Tasks never learned: a learned task's dataset, in the place of their own",
                        "held-out tasks: another's"),
    }  # fmt: skip
    lost = {name: paired(intervention_scores(frame, name), own) for name in changes}
    return present(
        [
            effect(change, "Gridroboman", "gridroboman", task_set, lost[name], settings, unit=UNIT, digits=3)
            for name, change in changes.items()
        ]
    )


SECTION = Section(
    experiment=EXPERIMENT,
    title="Held-out tasks",
    measures={"intervention": intervention, "kept": kept},
    scale_facts=no_facts,
    parts=(_held_out, _cost),
    aggregate=aggregate,
    labels={variant: look.label for variant, look in LOOKS.items()},
    task_set=shared_task_set,
    has_expert=True,
    extends="gridroboman",
    effects=effects,
)
