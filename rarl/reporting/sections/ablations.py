"""Ablations: the paper's A-1 to A-6 and our own, against the base agent and the full one. Gridroboman's, and the parts
that those of other environments share."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd
from markupsafe import Markup

from rarl.reporting import cost, effects, tables
from rarl.reporting.claims import EVERY, Claim, Settings
from rarl.reporting.results import Results
from rarl.reporting.scores import run_means, seed_means
from rarl.reporting.sections import Section
from rarl.reporting.sections import ablations_figures as draw
from rarl.reporting.sections.ablations_measures import (
    BENCHES,
    DOSES,
    GRID_KEYS,
    MEASURES,
    Agent,
    Bench,
    compare,
    compared,
    configured,
    dose,
    faults,
    fixed_cell,
    grid,
    is_value,
    label,
    labels,
    named_set,
    part_of,
    task_sets,
    tuned,
    variants,
    where,
)
from rarl.reporting.sections.ablations_measures import effects as effects_of
from rarl.reporting.sections.atari_measures import scale_facts as atari_facts
from rarl.reporting.sections.atari_measures import score_frame
from rarl.reporting.sections.babyai_measures import scale_facts as babyai_facts
from rarl.reporting.sections.gridroboman_measures import scale_facts as gridroboman_facts
from rarl.reporting.sheet import Sheet
from rarl.reporting.statistics import t_interval

_SUFFIX = {"ablations": "", "ablations-babyai": "-babyai", "ablations-atari": "-atari"}


def _relative(bench: Bench, sheet: Sheet) -> None:
    """Figure 3's form, and the table, for every task set that has more than rows of values."""
    shown = [
        name
        for name in task_sets(sheet.results, bench)
        if any(not is_value(v) and Agent(bench.experiment, v) not in (bench.base, bench.full)
               for v in variants(sheet.results, bench, name))
    ]  # fmt: skip
    if not shown:
        sheet.text("No variant but rows of values has a usable run.")
    for task_set in reversed(shown):
        _one_set(bench, sheet, task_set, several=len(shown) > 1)


def _one_set(bench: Bench, sheet: Sheet, task_set: str, *, several: bool) -> None:
    results, settings = sheet.results, sheet.settings
    here = where(bench, task_set)
    sheet.heading(
        f"Against {bench.names[0]} and {bench.names[1]}" + (f": {tables.spaced(task_set)}" if several else "")
    )
    sheet.text(
        f"{here}. Each variant is {bench.names[1]} with one thing changed. {_steps_text(bench, results, task_set)}"
    )
    for line in comparability(bench, results, task_set):
        sheet.text(line)
    figure = draw.relative(results, bench, task_set)
    suffix = _SUFFIX[bench.experiment] + ("" if not several else f"-{task_set}")
    gain = compare(results, bench, bench.full, bench.base, task_set)
    if figure is None:
        sheet.text(f"No usable run of {bench.names[0]} that the variants could be set against: no figure.")
    else:
        band = (
            f" Band: {bench.names[1]}, {tables.interval(gain.interval(settings.level), bench.digits, signed=True)}."
            if gain is not None
            else ""
        )
        sheet.figure(
            f"ablations{suffix}",
            figure,
            f"Every variant as its difference from {bench.names[0]}: each seed, the mean and its interval; the paper's "
            "ablations above our own.",
            f"{here}: difference from {bench.names[0]} (line at 0), mean over {bench.many}.{band} Dots: seeds. Ticks: "
            f"their mean. Bars: Welch interval of the difference ({bench.names[0]}'s own: t interval of its mean). "
            "Hollow: nothing is retrieved.",
        )
    rows, data = [], []
    for agent in compared(results, bench, task_set):
        made = _row(bench, sheet, agent, task_set)
        if made is not None:
            rows.append(made[0])
            data.append(made[1])
    headers = [
        "Agent",
        "Seeds",
        "Score",
        f"Less {bench.names[0]}",
        f"Less {bench.names[1]}",
        f"Against {bench.names[1]}",
    ]
    sheet.table(headers, rows, "lrrrrl")
    least = tables.plural(settings.min_seeds, "seed")
    margin = settings.margins.get(bench.environment, 0.0)
    sheet.text(
        Markup(
            "Differences with Welch intervals. Last column: costs or helps where the interval does not hold 0; no "
            "visible difference where it lies inside ±{} (then whatever its sign); else, and with fewer than {}, it "
            "cannot be told. {} Numbers: {}."
        ).format(
            f"{margin:g}",
            least,
            chance_text(sum(row[-1] != tables.NONE for row in rows), settings),
            sheet.csv(f"ablations{suffix}", pd.DataFrame(data)),
        )
    )


def _steps_text(bench: Bench, results: Results, task_set: str) -> str:
    """What "short" means, by configuration."""
    steps = configured(results, Agent(bench.experiment, "a3-short"), task_set, "agent.retrieval.trajectory_steps")
    return f"Short trajectories have {tables.plural(steps, 'step')} in a row." if isinstance(steps, int) else ""


def comparability(bench: Bench, results: Results, task_set: str) -> list[str]:
    """Lines that say whether the agents of another experiment may be compared with the variants."""
    lines, same = [], []
    own = [Agent(bench.experiment, v) for v in variants(results, bench, task_set)]
    for other in (bench.base, bench.full, *bench.others.values()):
        name = label(bench, part_of(bench, other))
        if other.experiment == bench.experiment:
            continue
        wrong = {agent.variant: found for agent in own if (found := faults(results, agent, other, task_set))}
        for found in dict.fromkeys(map(tuple, wrong.values())):
            members = [label(bench, variant) for variant, lines_ in wrong.items() if tuple(lines_) == found]
            who = "the variants" if len(members) == len(own) else ", ".join(members)
            lines.append(
                f"Not comparable with {name} of experiment {other.experiment}: {who} differ in {'; '.join(found)}."
            )
        if not wrong and bench.table(results, other, task_set).shape[1]:
            same.append(name)
    if same:
        lines.append(
            f"From experiment {bench.full.experiment}: {'; '.join(same)}. By the records of the runs their data, "
            "budget, learning and evaluation are those of the variants."
        )
    return lines


def _row(bench: Bench, sheet: Sheet, agent: Agent, task_set: str) -> tuple[list[Any], dict[str, Any]] | None:
    """An agent's cells, and the same as data; None without a score."""
    results, level = sheet.results, sheet.settings.level
    values = list(seed_means(bench.table(results, agent, task_set)).values())
    if not values:
        return None
    score = t_interval(values, level)
    name = part_of(bench, agent)
    cells: list[Any] = [label(bench, name), tables.seeds(score.n), tables.interval(score, bench.digits)]
    data: dict[str, Any] = {"task_set": task_set, "variant": name, "seeds": score.n[0],
                            "score": score.estimate, "low": score.low, "high": score.high}  # fmt: skip
    reading = None
    for other, end in ((bench.base, "base"), (bench.full, "full")):
        samples = None if agent == other else compare(results, bench, agent, other, task_set)
        change = samples.interval(level) if samples is not None else None
        cells.append(tables.interval(change, bench.digits, signed=True))
        if change is not None:
            data |= {f"less_{end}": change.estimate, f"less_{end}_low": change.low, f"less_{end}_high": change.high}
            if end == "full":
                reading = effects.read(
                    change, sheet.settings.margins.get(bench.environment, 0.0), sheet.settings.min_seeds
                )
    data["reading"] = reading
    return [*cells, effects.READINGS[reading] if reading else tables.NONE], data


def chance_text(comparisons: int, settings: Settings) -> str:
    """How many of so many intervals would not hold 0 by chance alone."""
    expected = tables.number(comparisons * (1 - settings.level), 1)
    return (
        f"{tables.plural(comparisons, 'comparison')} at {tables.number(100 * settings.level, 0)} %, not corrected: if "
        f"nothing made a difference, about {expected} would still not hold 0."
    )


def _grid(bench: Bench, sheet: Sheet) -> None:
    results, settings = sheet.results, sheet.settings
    for task_set in task_sets(results, bench):
        cells = draw.grid_values(results, bench, task_set, settings.level)
        if not cells:
            continue
        here = where(bench, task_set)
        sheet.heading("How much is retrieved (A-6)")
        marked = sum(bool(draw.mark(change)) for _, change in cells.values())
        suffix = _SUFFIX[bench.experiment] + ("" if task_set == EVERY else f"-{task_set}")
        sheet.figure(
            f"ablations-grid{suffix}",
            draw.grid_heatmap(cells, bench),
            "Heat map of scores over the number of trajectories and of states that are kept, with differences from "
            f"{bench.names[1]}.",
            f"{here}: score, mean over {bench.many}; below it the difference from {bench.names[1]}. ▲ and ▼: the Welch "
            f"interval of the difference does not hold 0 ({marked} of {len(cells)}). "
            f"{_kept_text(bench, results, task_set)}{chance_text(len(cells), settings)}",
        )
        fixed = fixed_cell(results, bench, task_set)
        best = tuned(results, bench, fixed, task_set) if fixed is not None else None
        if best is None:
            sheet.text(
                "What tuning gives could not be computed: it needs the cell of the paper (10, 10) and two seeds."
            )
        else:
            gain = tables.interval(best.interval(settings.level), bench.digits, signed=True)
            sheet.text(
                f"Tuned, against 10 and 10: {gain} {bench.unit}. Each seed is scored with what the other seeds "
                f"chose, so that the best of {len(cells)} is not better by chance. {best.detail}"
            )
        data = [
            {"task_set": task_set, "k_traj": cell[0], "k_states": cell[1], "seeds": score.n[0], "score": score.estimate,
             "low": score.low, "high": score.high, "less_full": change.estimate, "less_full_low": change.low,
             "less_full_high": change.high}
            for cell, (score, change) in cells.items()
        ]  # fmt: skip
        sheet.numbers(f"ablations-grid{suffix}", pd.DataFrame(data))


def _kept_text(bench: Bench, results: Results, task_set: str) -> str:
    """How the grid's agents and the full agent choose what they keep, by configuration."""
    ways = {configured(results, agent, task_set, "agent.retrieval.select_by")
            for agent in grid(results, bench, task_set).values()}  # fmt: skip
    text = f"Trajectories are chosen by {next(iter(ways))}. " if len(ways) == 1 and None not in ways else ""
    k_traj, k_states = (configured(results, bench.full, task_set, key) for key in GRID_KEYS)
    if isinstance(k_traj, int) and isinstance(k_states, int):
        way = configured(results, bench.full, task_set, "agent.retrieval.select_by")
        text += f"{bench.names[1]} keeps {k_traj}, by {way}, and {k_states} states. "
    return text


def _doses(bench: Bench, sheet: Sheet) -> None:
    results, settings = sheet.results, sheet.settings
    for task_set in task_sets(results, bench):
        figure = draw.doses(results, bench, task_set)
        if figure is None:
            continue
        here, rows, data = where(bench, task_set), [], []
        for pattern, form in DOSES.items():
            for value, agent in dose(results, bench, pattern, task_set).items():
                made = _row(bench, sheet, agent, task_set)
                if made is not None:
                    rows.append([form.title, f"{value:g}", made[0][1], made[0][2], made[0][4], made[0][5]])
                    data.append({"value_of": form.title, "value": value, **made[1]})
        compared = sum(row[-1] != tables.NONE for row in rows)
        sheet.heading("Slots and bottleneck")
        suffix = _SUFFIX[bench.experiment] + ("" if task_set == EVERY else f"-{task_set}")
        sheet.figure(
            f"ablations-values{suffix}",
            figure,
            "Score against the number of slots and the weight of the bottleneck: every seed, means and intervals.",
            f"{here}: score for each value, mean over {bench.many}. Dots: seeds. Ticks, joined by a line: their mean. "
            f"Bars: t interval. {bench.names[1]} stands for the values that it has.",
        )
        headers = ["Value of", "Value", "Seeds", "Score", f"Less {bench.names[1]}", f"Against {bench.names[1]}"]
        sheet.table(headers, rows, "lrrrrl")
        sheet.text(
            Markup("{} Numbers: {}.").format(
                chance_text(compared, settings), sheet.csv(f"ablations-values{suffix}", pd.DataFrame(data))
            )
        )


def _cost(bench: Bench, sheet: Sheet) -> None:
    table = cost.cost_table(sheet.results, bench.experiment)
    if table.empty:
        return
    title = "What each variant costs"
    cost.write_folded(sheet, bench.experiment, title, bench.full.variant, partial(label, bench), table)


def _aggregate(bench: Bench, results: Results) -> dict[str, float]:
    if bench.environment == "atari":
        return run_means(score_frame(results, results.last, bench.experiment), "human_normalised")
    value, factor = ("success_rate", 100) if bench.environment == "babyai" else ("normalised", 1)
    means = run_means(results.select(results.last, bench.experiment), value)
    return {run: factor * mean for run, mean in means.items()}


def _protocol(bench: Bench, settings: Settings) -> list[tuple[str, str]]:
    return [
        (
            f"The best of a grid ({bench.title}).",
            "The best of several settings, chosen and scored on the same seeds, looks better than it is. Each seed is "
            "scored with the setting that the other seeds choose by their mean"
            + (", game by game" if bench.environment == "atari" else "")
            + ", and compared with the paper's setting at the same seed.",
        )
    ]


_FACTS: dict[str, Callable[[Results, Claim], dict[str, float]]] = {
    "gridroboman": gridroboman_facts,
    "babyai": babyai_facts,
    "atari": atari_facts,
}


def section_of(bench: Bench) -> Section:
    """The section of one environment's ablations."""
    return Section(
        experiment=bench.experiment,
        title=f"Ablations: {bench.title}",
        measures=MEASURES,
        scale_facts=_FACTS[bench.environment],
        parts=tuple(partial(part, bench) for part in (_relative, _grid, _doses, _cost)),
        aggregate=partial(_aggregate, bench),
        labels=labels(bench),
        protocol=partial(_protocol, bench),
        task_set=named_set,
        has_expert=bench.environment == "gridroboman",
        extends=bench.environment,
        effects=lambda results, settings: effects_of(results, bench, settings),
    )


SECTION = section_of(BENCHES["ablations"])
