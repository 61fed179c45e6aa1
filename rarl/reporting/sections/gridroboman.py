"""Gridroboman's part of the report: returns, controls, what retrieval does, gallery, cost."""

from __future__ import annotations

import numpy as np
import pandas as pd
from markupsafe import Markup

from rarl.errors import RarlError
from rarl.reporting import cost, pictures, tables
from rarl.reporting.claims import Settings
from rarl.reporting.scores import intervention_scores, paired
from rarl.reporting.sections import Section
from rarl.reporting.sections import gridroboman_datasets as datasets
from rarl.reporting.sections import gridroboman_figures as draw
from rarl.reporting.sections import gridroboman_gallery as gallery
from rarl.reporting.sections import gridroboman_probes as probes
from rarl.reporting.sections.gridroboman_measures import (
    ALL_TASKS,
    AMOUNTS,
    EXPERIMENT,
    LABELS,
    MEASURES,
    aggregate,
    amount_table,
    effects,
    normalised_table,
    scale_facts,
    solved,
)
from rarl.reporting.sheet import Sheet
from rarl.reporting.statistics import (
    Interval,
    bootstrap_interval,
    probability_of_improvement,
    t_interval,
)

_REWARD_NOTE = (
    "The return is the number of rewarded steps of an episode; the normalised return divides it by the mean return "
    "of the "
    "scripted expert without noise, task by task."
)


def _variants(sheet: Sheet) -> list[tuple[str, str]]:
    last = sheet.results.select(sheet.results.last, EXPERIMENT)
    return [(s, v) for s in draw.task_sets(last) for v in draw.in_order(last["variant"][last["task_set"] == s])]


def _returns(sheet: Sheet) -> None:
    results, settings = sheet.results, sheet.settings
    sheet.heading("Returns")
    sheet.text(_REWARD_NOTE)
    last = results.select(results.last, EXPERIMENT)
    if last["variant"].isin([v for side in draw.SIDES.values() for v in side]).any():
        sheet.figure(
            "gridroboman-curves",
            draw.learning_curves(results),
            "Learning curves of DQN and RA-DQN: average return against learner updates, one panel per task set, task "
            "hidden above, "
            "task observed below.",
            "Learning curves. Thin: every seed. Bold: mean over seeds, with its t interval. Dotted: the expert.",
        )
    rows, data = [], []
    for task_set, variant in _variants(sheet):
        table = normalised_table(results, task_set, variant)
        if not table.shape[1]:
            continue
        values = table.dropna().mean(axis=1)
        mean = t_interval(values, settings.level)
        bootstrap = {"repetitions": settings.repetitions, "seed": settings.bootstrap_seed, "level": settings.level}
        middle = bootstrap_interval(table, **bootstrap)
        better = Interval(np.nan, np.nan, np.nan, ())
        if variant != draw.BASELINE:
            base = normalised_table(results, task_set, draw.BASELINE)
            if list(base.columns) == list(table.columns):
                better = probability_of_improvement(table, base, **bootstrap)
        share = solved(results, task_set, variant, settings.solved).sum(axis=1)
        raw = results.select(last, EXPERIMENT, task_set, variant).groupby("seed")["return_mean"].mean()
        rows.append(
            [
                tables.unbroken(tables.spaced(task_set)),
                draw.look(variant).label,
                tables.seeds(mean.n),
                tables.number(raw.mean(), 1),
                tables.interval(mean),
                tables.interval(middle),
                tables.interval(better),
                tables.unbroken(f"{tables.number(share.mean(), 1)} of {table.shape[1]}") if len(share) else tables.NONE,
            ]
        )
        data.append({"task_set": task_set, "variant": variant, "seeds": mean.n[0], "tasks": table.shape[1],
                     "return_mean": raw.mean(), "normalised": mean.estimate, "low": mean.low, "high": mean.high,
                     "iqm": middle.estimate, "iqm_low": middle.low, "iqm_high": middle.high,
                     "improvement": better.estimate, "improvement_low": better.low, "improvement_high": better.high,
                     "solved": share.mean() if len(share) else np.nan})  # fmt: skip
    headers = [
        "Task set",
        "Agent",
        "Seeds",
        "Return",
        "Normalised, t interval",
        "IQM, bootstrap",
        "Beats DQN (hidden)",
        "Solved",
    ]
    if rows:
        sheet.figure(
            "gridroboman-aggregate",
            draw.aggregate_strip(results),
            "Normalised return of every seed, its mean and interval, for each task set and agent.",
            "Normalised return at the last evaluation. Each marker is a seed, the tick their mean, the bar the t "
            "interval; hollow "
            "markers see the task.",
        )
        sheet.table(headers, rows, "llrrrrrr")
    sheet.text(Markup("Numbers: {}, {}.").format(
        sheet.csv("gridroboman-aggregate", pd.DataFrame(data)),
        sheet.csv("gridroboman-curves", draw.curve_table(results)),
    ))  # fmt: skip


def _tasks(sheet: Sheet) -> None:
    results = sheet.results
    frame = results.select(results.last, EXPERIMENT, ALL_TASKS)
    columns = [
        "task_set",
        "variant",
        "seed",
        "task",
        "episodes",
        "return_mean",
        "return_std",
        "success_rate",
        "expert",
        "normalised",
    ]
    if frame["variant"].isin([v for side in draw.SIDES.values() for v in side]).any():
        sheet.heading("Task by task")
        sheet.figure(
            "gridroboman-tasks",
            draw.per_task(results),
            "Return on each of the tasks, by family, every seed a dot, for DQN and RA-DQN with the task hidden and "
            "observed, and the expert.",
            "Return per task at the last evaluation, tasks grouped by family. Dots: seeds. Coloured ticks: their "
            "mean. Dark tick: expert.",
        )
    every = results.select(results.last, EXPERIMENT)[columns]
    sheet.numbers("gridroboman-tasks", every, "Every run, every task")


def _controls(sheet: Sheet) -> None:
    results = sheet.results
    last = results.select(results.last, EXPERIMENT, ALL_TASKS)
    extra = set(last["variant"]) - {v for side in draw.SIDES.values() for v in side}
    if not extra and not (last["variant"] == draw.BASELINE).any():
        return
    sheet.heading("Controls")
    if draw.seed_scores(results, ALL_TASKS, draw.BASELINE):
        sheet.figure(
            "gridroboman-controls",
            draw.controls(results),
            "Difference in normalised return from DQN with the task hidden, for every agent and control on the "
            "largest task set.",
            "Controls, as difference from DQN with the task hidden (line at 0; its own bar is the t interval of its "
            "mean). Bars: Welch "
            "interval of the difference. Nothing retrieved: same network, same parameters. Never "
            "redrawn: one retrieval batch per task for the whole run, so that what is read varies no more. Oracle: a "
            "learned embedding of the task in place "
            "of what is retrieved, the upper bound for how the two are joined.",
        )
    else:
        sheet.text("No usable run of DQN with the task hidden on this task set: nothing to compare the controls with.")
    if extra:
        sheet.figure(
            "gridroboman-control-curves",
            draw.all_curves(results),
            "Learning curves of all agents and controls on the largest task set.",
            "Learning curves of agents and controls on the largest task set.",
        )


def _probes(sheet: Sheet) -> None:
    results, settings = sheet.results, sheet.settings
    sheet.heading("What retrieval does")
    acted = probes.intervention_table(results, ALL_TASKS, probes.PROBED)
    label = draw.look(probes.PROBED).label
    if acted.empty:
        sheet.text("No interventions were measured.")
    else:
        sheet.figure(
            "gridroboman-interventions",
            probes.interventions(results),
            f"Normalised return of {label} when its retrieval dataset is left, removed, shuffled or swapped.",
            f"The same trained networks ({label}) with their retrieval dataset changed at evaluation. Swapped: the "
            f"dataset of another "
            "task, measured once on the reward of the task in play and once on that of the dataset's task.",
        )
        _datasets(sheet)
        scores = [
            {"variant": probes.PROBED, "intervention": name, "seed": seed, "normalised": value}
            for name in sorted(set(acted["intervention"]))
            for seed, value in intervention_scores(acted, name).items()
        ]
        sheet.numbers("gridroboman-interventions", pd.DataFrame(scores))
    seen = probes.attention_table(results)
    if seen.empty:
        sheet.text("No attention was measured.")
        return
    per_task = probes.goal_attention(results)
    if per_task is not None:
        sheet.figure(
            "gridroboman-attention",
            per_task,
            "Per task: the share of goal states among the candidates for retrieval, and the attention that falls on "
            "them.",
            "Does retrieval look at states at which the task's condition holds? Open: their share among the "
            "candidates. Filled: the "
            "attention on them. Equal means: no better than chance. Mean over seeds.",
        )
    rows = [
        [draw.look(variant).label, quantity.replace("_", " "), tables.seeds((len(group),)),
         tables.interval(t_interval(group["value"], settings.level), 3)]
        for (variant, quantity), group in seen.groupby(["variant", "quantity"])
    ]  # fmt: skip
    sheet.table(["Agent", "Quantity (mean over tasks)", "Seeds", "Value"], rows, "llrr")


def _datasets(sheet: Sheet) -> None:
    """Whose data, and how much of it."""
    results, level = sheet.results, sheet.settings.level
    matrix = datasets.swap_matrix(results)
    if not matrix.empty:
        sheet.figure(
            "gridroboman-swaps",
            datasets.swap_heatmap(matrix),
            "Heat map: rows are the task whose dataset is given, columns the task whose reward is measured.",
            "Does the dataset decide the task? Bright on the diagonal and dark elsewhere means yes. Lines part the "
            "families of tasks; related tasks may share reward. Grey cells were not measured.",
        )
        if text := datasets.decided_text(matrix):
            sheet.text(text)
        sheet.numbers("gridroboman-swaps", matrix.reset_index(names="given_task"))
    figure = datasets.amounts(results)
    if figure is None:
        return
    label = draw.look(probes.PROBED).label
    sheet.figure(
        "gridroboman-amounts",
        figure,
        f"Normalised return of {label} against the number of trajectories it may retrieve from, and against how many "
        "first steps of each are left.",
        f"How much of the data is needed: the same networks ({label}) with fewer trajectories in their retrieval "
        "batch, and with trajectories cut to their first steps. The last point is as trained. Thin: every seed. Bold: "
        "mean, with its t interval.",
    )
    rows, data = [], []
    for of in AMOUNTS.values():
        table = amount_table(results, ALL_TASKS, probes.PROBED, of)
        for n in table.index[::-1]:
            scores = {int(seed): float(value) for seed, value in table.loc[n].dropna().items()}
            whole = {int(seed): float(value) for seed, value in table.iloc[-1].dropna().items()}
            lost = paired(scores, whole) if n != table.index[-1] else None
            mean = t_interval(list(scores.values()), level)
            rows.append([of, tables.count(n), tables.seeds(mean.n), tables.interval(mean, 3),
                         tables.interval(lost.interval(level), 3, signed=True) if lost else None])  # fmt: skip
            data += [{"of": of, "left": n, "seed": seed, "normalised": value} for seed, value in scores.items()]
    sheet.folded("All amounts", tables.table(["Left", "Number", "Seeds", "Return", "Less as trained"], rows, "lrrrr"))
    sheet.numbers("gridroboman-amounts", pd.DataFrame(data))


def _missing(sheet: Sheet) -> None:
    """What stands between the retrieval agent and the oracle, one candidate cause per row."""
    rows = [row for row in probes.candidate_causes(sheet.results, sheet.settings) if row is not None]
    if not rows:
        return
    sheet.heading("What is missing")
    sheet.text(
        "Between the retrieval agent and the oracle, which differ only in where z comes from, lies a gap. "
        "Each row is one thing that could be missing, and what was measured about it."
    )
    sheet.table(["Could it be that …", "Measured", "Seeds", "Value"], rows, "llrr")


def _gallery(sheet: Sheet) -> None:
    results = sheet.results
    run = gallery.representative_run(results, probes.PROBED)
    sheet.heading("Gallery: what it looks at")
    if run is None:
        sheet.text("No gallery was recorded.")
        return
    try:
        content = gallery.read_gallery(results.galleries[run])
    except RarlError as error:
        results.problems.append((f"{run}/gallery.json", str(error)))
        sheet.text("The gallery could not be read; see the list of failures.")
        return
    episodes = content["episodes"]
    if not episodes:
        sheet.text("The gallery holds no episode.")
        return
    rule = (content["rule"] or "not stated").rstrip(".")
    sheet.text(f"Run shown: {run}, the seed with the median score. Recorded by this rule: {rule}.")
    sheet.text(
        f"Strip: of the {tables.plural(len(episodes), 'recorded episode')}, the one with the median return. "
        f"{pictures.STEP_RULE} "
        "The agent does not see the names of tasks."
    )
    chosen = pictures.median_episode(episodes)
    task = tables.spaced(chosen["task"])
    sheet.figure(
        "gridroboman-strip",
        gallery.strip(chosen),
        f"Chosen steps of an episode of {task}: the board, and the retrieved boards with the largest attention "
        f"weights.",
        f"Task {task}, return {chosen['return']:g}. Left: the board. Then the retrieved states with the most "
        f"attention: weight, task and "
        "return of their trajectory, and whether the state was rewarded there (thick frame).",
    )
    shown = {"lowest": episodes[0], "median": chosen, "highest": episodes[-1]}
    for name, episode in shown.items():
        if any(episode is other for key, other in shown.items() if list(shown).index(key) < list(shown).index(name)):
            continue
        task = tables.spaced(episode["task"])
        sheet.image(
            f"gridroboman-episode-{name}.gif",
            gallery.episode_gif(episode),
            f"Animation of the recorded episode with the {name} return, task {task}.",
            f"The recorded episode with the {name} return: {task}, return {episode['return']:g}.",
        )


def _cost(sheet: Sheet) -> None:
    cost.write(sheet, EXPERIMENT, _variants(sheet), draw.BASELINE, draw.look)


def _protocol(settings: Settings) -> list[tuple[str, str]]:
    return [
        (
            "Normalised return.",
            "Return divided by the mean return of the scripted expert without noise, task by task, then averaged over "
            f"tasks. A task is *solved* by a run that reaches {tables.number(settings.solved)} of the expert's return.",
        )
    ]


SECTION = Section(
    experiment=EXPERIMENT,
    title="Gridroboman",
    measures=MEASURES,
    scale_facts=scale_facts,
    parts=(_returns, _tasks, _controls, _probes, _missing, _gallery, _cost),
    aggregate=aggregate,
    labels=LABELS,
    protocol=_protocol,
    has_expert=True,
    effects=effects,
)
