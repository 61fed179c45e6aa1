"""Episodic control, retrieval's ancestors, beside the agents of this project: Gridroboman's, and what both share."""

from __future__ import annotations

from functools import partial

import pandas as pd

from rarl.reporting import cost, tables
from rarl.reporting.claims import EVERY, Claim, shared_task_set
from rarl.reporting.configurations import differences, first_run
from rarl.reporting.results import Results
from rarl.reporting.scores import run_means
from rarl.reporting.sections import Section, no_facts
from rarl.reporting.sections import ancestors_figures as draw
from rarl.reporting.sections.ancestors_measures import (
    FAMILIES,
    MEASURES,
    Family,
    agents_of,
    compare,
    curve_table,
    labels,
    learned_from,
    look,
    scores,
    task_sets,
)
from rarl.reporting.sections.atari_measures import score_frame
from rarl.reporting.sheet import Sheet
from rarl.reporting.statistics import t_interval

_GAME_KEYS = tuple(
    f"environment_options.{key}" for key in ("full_actions", "sticky", "noop_max", "frame_skip", "max_frames")
)


def _shown(results: Results, family: Family) -> list[str]:
    """On Atari every game, elsewhere the largest task set."""
    sets = task_sets(results, family)
    return sets if family.environment == "atari" else sets[-1:]


def _beside(family: Family, sheet: Sheet) -> None:
    results, level = sheet.results, sheet.settings.level
    shown = _shown(results, family)
    sheet.heading("Beside the agents of this project")
    sheet.text(
        "Model-Free Episodic Control (MFEC) and Neural Episodic Control (NEC) act on averages over the nearest stored "
        "states. " + _caveat(family)
    )
    for line in _played_otherwise(results, family):
        sheet.text(line)
    bars = draw.bars(results, family, shown)
    if bars is not None:
        sheet.figure(
            family.experiment,
            bars,
            f"{family.axis.capitalize()} of episodic control beside the agents with and without retrieval: every seed, "
            "mean and interval.",
            "Last evaluation. Each marker is a seed, the bar ends at their mean, the line is the t interval. Hollow: "
            "episodic control, which learns from its own play.",
        )
    curves = draw.curves(results, family, shown)
    if curves is None:
        sheet.text("How many environment steps were played is not recorded: no learning curves.")
    else:
        sheet.figure(
            f"{family.experiment}-curves",
            curves,
            "Learning curves of episodic control against the environment steps that it played itself, with the last "
            "level of the agents that learn from datasets.",
            "Learning curves against the environment steps that the agent itself played. Thin: every seed. Bold: mean, "
            "with its t interval. Level lines: the last evaluation of agents that learn from datasets and play "
            "nothing.",
        )
    rows, data = [], []
    for task_set in shown:
        for side in family.sides:
            for agent in agents_of(results, family, task_set, side):
                values = scores(results, family, agent, task_set)
                if not values:
                    continue
                mean, full = t_interval(list(values.values()), level), family.full[side]
                samples = compare(results, family, agent, full, task_set) if agent != full else None
                change = samples.interval(level) if samples else None
                source, steps = learned_from(results, agent, task_set)
                title = side or tables.unbroken(tables.spaced(task_set).replace("_", " "))
                rows.append([title, look(family, agent).label, source, tables.count(steps), tables.seeds(mean.n),
                             tables.interval(mean, 3), tables.interval(change, 3, signed=True)])  # fmt: skip
                data.append({"task_set": task_set, "side": side, "agent": f"{agent.experiment}/{agent.variant}",
                             "learns_from": source, "environment_steps": steps, "seeds": mean.n[0],
                             "score": mean.estimate, "low": mean.low, "high": mean.high})  # fmt: skip
    label = look(family, next(iter(family.full.values()))).label
    first = "Game" if family.environment == "atari" else "Side"
    headers = [first, "Agent", "Learns from", "Environment steps", "Seeds", "Score", f"Less {label}"]
    sheet.table(headers, rows, "lllrrrr")
    sheet.numbers(family.experiment, pd.DataFrame(data))
    curves_table = curve_table(results, family)
    if len(curves_table):
        sheet.numbers(f"{family.experiment}-curves", curves_table, "Curves")


def _caveat(family: Family) -> str:
    if family.environment == "atari":
        return (
            "Like the agents beside them they play, but with settings of their own papers. Read the differences as "
            "those of whole recipes."
        )
    return (
        "They play, from nothing, and learn from what they met themselves; DQN and RA-DQN learn from datasets of "
        "experts and play nothing. The number of steps is told for both, but they are steps of a different kind: read "
        "the differences as those of whole recipes."
    )


def _played_otherwise(results: Results, family: Family) -> list[str]:
    """Where the games of the two experiments were not the same."""
    if family.environment != "atari":
        return []
    found: list[str] = []
    for task_set in _shown(results, family):
        agents = agents_of(results, family, task_set, "")
        own = [a for a in agents if a.experiment == family.experiment]
        others = [a for a in agents if a.experiment != family.experiment]
        if own and others:
            runs = [first_run(results, a.experiment, task_set, a.variant) for a in (own[0], others[0])]
            found += [f"{key} {x} against {y}" for key, x, y in differences(results, *runs) if key in _GAME_KEYS]
    return [f"The games were not played alike: {'; '.join(dict.fromkeys(found))}."] if found else []


def _cost(family: Family, sheet: Sheet) -> None:
    order = [(s, a.variant) for s in task_sets(sheet.results, family) for side in family.sides
             for a in agents_of(sheet.results, family, s, side) if a.experiment == family.experiment]  # fmt: skip
    looks = {a.variant: look(family, a) for a in family.looks if a.experiment == family.experiment}
    names = {v: f"{drawn.label}, task {v.split('-')[1]}" if "-" in v else drawn.label for v, drawn in looks.items()}
    table = cost.cost_table(sheet.results, family.experiment)
    if table.empty or not order:
        return
    cost.write_folded(sheet, family.experiment, "What each costs", order[0][1], lambda v: names.get(v, v), table)


def _aggregate(family: Family, results: Results) -> dict[str, float]:
    if family.environment == "atari":
        return run_means(score_frame(results, results.last, family.experiment), "human_normalised")
    return run_means(results.select(results.last, family.experiment), "normalised")


def _named_set(family: Family, results: Results, claim: Claim) -> str | None:
    found = shared_task_set(results, claim)
    return EVERY if found is not None and family.environment == "atari" else found


def section_of(family: Family) -> Section:
    """The section of one environment's ancestors."""
    return Section(
        experiment=family.experiment,
        title=f"Ancestors: {family.title}",
        measures=MEASURES,
        scale_facts=no_facts,
        parts=(partial(_beside, family), partial(_cost, family)),
        aggregate=partial(_aggregate, family),
        labels=labels(family),
        task_set=partial(_named_set, family),
        has_expert=family.environment == "gridroboman",
        extends=family.environment,
    )


SECTION = section_of(FAMILIES["ancestors"])
