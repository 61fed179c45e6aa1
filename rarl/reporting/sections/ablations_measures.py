"""Per-seed numbers of ablations, the same for every environment: variants against the base and the full agent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import pandas as pd

from rarl.reporting import figures, tables
from rarl.reporting.claims import EVERY, Claim, Samples, Settings, shared_task_set
from rarl.reporting.configurations import differences, first_run, value_of
from rarl.reporting.effects import NOTHING_RETRIEVED, RETRIEVAL, Change, Effect, effect
from rarl.reporting.results import Results
from rarl.reporting.scores import paired, seed_means
from rarl.reporting.sections import atari_measures, babyai_measures, gridroboman_measures
from rarl.reporting.statistics import left_out_best

PAPER = {
    "a1-direct": "A-1: the state asks, no slots",
    "a2-nothing-retrieved": "A-2: nothing retrieved",
    "a3-short": "A-3: short trajectories",
    "a4-masking": "A-4: masking loss added",
    "a5-masking-alone": "A-5: masking auxiliary alone",
}
BEYOND = {
    "no-recurrence": "slots not carried",
    "one-best": "one slot, one trajectory",
    "told-actions-and-rewards": "actions and rewards seen",
    "retriever-first": "retriever first, then frozen",
    "noise-without-price": "z drawn, no price",
}
# The change in words, for sentences on several environments.
CHANGES = {
    "a1-direct": "The state itself asks, what is read is added, no slots (A-1)",
    "a2-nothing-retrieved": NOTHING_RETRIEVED.what,
    "a3-short": "Of each retrieved trajectory a few steps in a row (A-3)",
    "a4-masking": "A masking loss in addition (A-4)",
    "a5-masking-alone": "A masking loss in the place of the other auxiliary losses (A-5)",
    "no-recurrence": "Slots that are not carried from step to step",
    "one-best": "One slot that reads the single best trajectory",
    "told-actions-and-rewards": "Retrieved steps with their actions and rewards",
    "retriever-first": "The retriever trained first, then frozen",
    "noise-without-price": "z drawn while learning, without a price",
}
TUNED = Change("part", "How much is retrieved, tuned (A-6)", "A-6: amounts tuned")
RETRIEVES_NOTHING = ("a2-nothing-retrieved",)
GRID = "a6-*"
GRID_KEYS = ("agent.retrieval.k_traj", "agent.retrieval.k_states")


class Dose(NamedTuple):
    """Variants that differ from the full agent in one value. key: of the configuration. title: what the value is of."""

    key: str
    title: str


DOSES = {
    "slots-*": Dose("agent.retrieval.n_f", "Number of slots"),
    "beta-*": Dose("agent.retrieval.bottleneck", "Weight β of the bottleneck"),
}


class Agent(NamedTuple):
    """Runs of one variant."""

    experiment: str
    variant: str


@dataclass(frozen=True)
class Bench:
    """Where variants are compared.

    experiment: theirs. environment: name and title. base, full: the agent without and that with retrieval, and the
    names of both. others: variants that are agents of another experiment too, by the names that they have here. table:
    results, agent, task set -> (seeds, tasks or games). unit, axis: of the scores, in sentences
    and under figures. many: what the mean is over.
    """

    experiment: str
    environment: str
    title: str
    base: Agent
    full: Agent
    names: tuple[str, str]
    table: Callable[[Results, Agent, str], pd.DataFrame]
    unit: str
    axis: str
    digits: int
    many: str
    others: Mapping[str, Agent] = field(default_factory=dict)


def returns_table(results: Results, agent: Agent, task_set: str) -> pd.DataFrame:
    """(seeds, tasks) of Gridroboman: normalised return at the last evaluation."""
    return gridroboman_measures.normalised_table(results, task_set, agent.variant, agent.experiment)


def _success_table(results: Results, agent: Agent, task_set: str) -> pd.DataFrame:
    return babyai_measures.success_table(results, task_set, agent.variant, agent.experiment)


def games_table(results: Results, agent: Agent, task_set: str) -> pd.DataFrame:
    """(seeds, games) of Atari: human-normalised score at the last evaluation, of one game or of `EVERY`."""
    table = atari_measures.game_table(results, agent.variant, experiment=agent.experiment)
    return table if task_set == EVERY else table[[name for name in table if name == task_set]]


BENCHES = {
    bench.experiment: bench
    for bench in (
        Bench(
            "ablations",
            "gridroboman",
            "Gridroboman",
            Agent("ablations", "dqn"),
            Agent("ablations", "ra-dqn"),
            ("DQN", "RA-DQN"),
            returns_table,
            "of the expert's return",
            "share of the expert's return",
            3,
            "tasks",
        ),
        Bench(
            "ablations-babyai",
            "babyai",
            "BabyAI",
            Agent("babyai", "rdqn"),
            Agent("babyai", "ra-rdqn-own"),
            ("RDQN", "RA-RDQN, own level"),
            _success_table,
            "percentage points",
            "success, percentage points",
            1,
            "levels",
            {"a2-nothing-retrieved": Agent("babyai", "no-retrieval")},
        ),
        Bench(
            "ablations-atari",
            "atari",
            "Atari",
            Agent("atari", "r2d2"),
            Agent("atari", "ra-r2d2"),
            ("R2D2", "RA-R2D2"),
            games_table,
            "of the human's score above random play",
            "human-normalised score",
            3,
            "games",
        ),
    )
}


# --- what there is ----------------------------------------------------------------------------------------------------


def part_of(bench: Bench, agent: Agent) -> str:
    """What an agent is called among the variants."""
    return next((name for name, other in bench.others.items() if other == agent), agent.variant)


def compared(results: Results, bench: Bench, task_set: str) -> list[Agent]:
    """Base and full agent, and every variant but rows of values; of other experiments those with runs."""
    own = [Agent(bench.experiment, v) for v in variants(results, bench, task_set) if not is_value(v)]
    others = [agent for agent in bench.others.values() if bench.table(results, agent, task_set).shape[1]]
    agents = {part_of(bench, agent): agent for agent in [*others, *own] if agent not in (bench.base, bench.full)}
    return [bench.base, bench.full, *(agents[name] for name in in_order(bench, list(agents)))]


def labels(bench: Bench) -> dict[str, str]:
    """variant -> its name for people; those of rows of values have none."""
    return {bench.base.variant: bench.names[0], bench.full.variant: bench.names[1], **PAPER, **BEYOND}


def label(bench: Bench, variant: str) -> str:
    """A variant's name for people."""
    return labels(bench).get(variant, variant)


def is_value(variant: str) -> bool:
    """Whether it is one of the grid's or of another row of values, which have figures of their own."""
    return any(fnmatchcase(variant, pattern) for pattern in (GRID, *DOSES))


def in_order(bench: Bench, variants: Sequence[str]) -> list[str]:
    """Base and full agent, the paper's ablations, ours, and then the others."""
    return figures.in_order([bench.base.variant, bench.full.variant, *PAPER, *BEYOND], variants)


def task_sets(results: Results, bench: Bench) -> list[str]:
    """What is shown together, the largest last: the task sets with usable runs; on Atari all games at once."""
    used = sorted(set(results.select(results.last, bench.experiment)["task_set"]))
    if bench.environment == "atari":
        return [EVERY] if used else []
    return sorted(used, key=lambda name: (len(_tasks(results, bench, name)), name))


def _tasks(results: Results, bench: Bench, task_set: str) -> set[str]:
    return set(results.select(results.last, bench.experiment, task_set)["task"])


def variants(results: Results, bench: Bench, task_set: str) -> list[str]:
    """The experiment's own variants with usable runs."""
    last = results.select(results.last, bench.experiment, None if task_set == EVERY else task_set)
    return in_order(bench, last["variant"])


def named_set(results: Results, claim: Claim) -> str | None:
    """The task set that a claim means by "shared"; on Atari all games, if its agents are planned for any."""
    found = shared_task_set(results, claim)
    return EVERY if found is not None and BENCHES[claim.experiment].environment == "atari" else found


# --- comparisons ------------------------------------------------------------------------------------------------------


def common(tables_: Sequence[pd.DataFrame]) -> list[pd.DataFrame]:
    """The same tables with only those columns (tasks or games) that all have."""
    columns = [name for name in tables_[0] if all(name in table for table in tables_)]
    return [table[columns] for table in tables_]


def faults(results: Results, a: Agent, b: Agent, task_set: str) -> list[str]:
    """Why runs of different experiments may not be compared: the settings that they should share and do not."""
    if a.experiment == b.experiment:
        return []
    found = []
    sets = [task_set] if task_set != EVERY else sorted(set(results.select(results.last, a.experiment)["task_set"]))
    for name in sets:
        runs = [first_run(results, agent.experiment, name, agent.variant) for agent in (a, b)]
        if runs[0] is not None and runs[1] is not None:
            found += [f"{key} {_shown(x)} against {_shown(y)}" for key, x, y in differences(results, *runs)]
    return list(dict.fromkeys(found))


def _shown(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}…"


def where(bench: Bench, task_set: str) -> str:
    """ "Gridroboman, 30 tasks" """
    return bench.title if task_set == EVERY else f"{bench.title}, {tables.spaced(task_set)}"


def scores(results: Results, bench: Bench, agents: Sequence[Agent], task_set: str) -> list[dict[int, float]]:
    """Each agent's seed -> mean over the tasks or games that all of them have. Empty where they may not be compared."""
    if any(faults(results, agents[0], other, task_set) for other in agents[1:]):
        return [{} for _ in agents]
    return [seed_means(table) for table in common([bench.table(results, agent, task_set) for agent in agents])]


def compare(results: Results, bench: Bench, a: Agent, b: Agent, task_set: str) -> Samples | None:
    """a less b, with independent seeds."""
    of_a, of_b = scores(results, bench, [a, b], task_set)
    return Samples(of_a, of_b) if of_a and of_b else None


def difference(results: Results, claim: Claim, settings: Settings) -> Samples | None:
    """The claim's side a against side b."""
    a, b = (Agent(*claim.side(which)) for which in ("a", "b"))
    return compare(results, BENCHES[claim.experiment], a, b, claim.test["task_set"])


# --- values -----------------------------------------------------------------------------------------------------------


def dose(results: Results, bench: Bench, pattern: str, task_set: str) -> dict[float, Agent]:
    """value -> agent, in the order of the values: one row of variants, and the full agent for its own value."""
    key = DOSES[pattern].key
    found = [Agent(bench.experiment, v) for v in variants(results, bench, task_set) if fnmatchcase(v, pattern)]
    if not found:
        return {}
    values: dict[float, Agent] = {}
    for agent in [bench.full, *found]:
        value = configured(results, agent, task_set, key)
        if isinstance(value, int | float):
            values.setdefault(float(value), agent)
    return dict(sorted(values.items()))


def configured(results: Results, agent: Agent, task_set: str, key: str) -> Any:
    """An agent's value of a dotted key, or None."""
    sets = [task_set] if task_set != EVERY else sorted(set(results.select(results.last, agent.experiment)["task_set"]))
    runs = [first_run(results, agent.experiment, name, agent.variant) for name in sets]
    return next((value_of(results, run, key) for run in runs if run is not None), None)


def grid(results: Results, bench: Bench, task_set: str) -> dict[tuple[int, int], Agent]:
    """(k_traj, k_states) -> agent, by configuration: the variants of A-6.

    The full agent stands for its own values where no variant has them, if it chooses in the same way.
    """
    found = [Agent(bench.experiment, v) for v in variants(results, bench, task_set) if fnmatchcase(v, GRID)]
    if not found:
        return {}
    cells: dict[tuple[int, int], Agent] = {}
    ways = {configured(results, agent, task_set, "agent.retrieval.select_by") for agent in found}
    same = configured(results, bench.full, task_set, "agent.retrieval.select_by") in ways
    for agent in [*found, *([bench.full] if same else [])]:
        cell = tuple(configured(results, agent, task_set, key) for key in GRID_KEYS)
        if all(isinstance(value, int) for value in cell):
            cells.setdefault(cell, agent)
    axes = [{cell[i] for cell, agent in cells.items() if agent != bench.full} for i in (0, 1)]
    inside = {cell: agent for cell, agent in cells.items() if cell[0] in axes[0] and cell[1] in axes[1]}
    return dict(sorted(inside.items()))


def tuned(results: Results, bench: Bench, fixed: Agent, task_set: str) -> Samples | None:
    """The grid's best cell, cross-fitted, against a fixed one, seed by seed; on Atari chosen game by game.

    Paired, because the choice may be the fixed cell itself: then the difference is exactly 0.
    """
    cells = grid(results, bench, task_set)
    if len(cells) < 2 or any(faults(results, fixed, agent, task_set) for agent in cells.values()):
        return None
    of_cell = dict(zip(cells, common([bench.table(results, a, task_set) for a in cells.values()]), strict=True))
    of_fixed = bench.table(results, fixed, task_set)
    # On Atari each game has a network, and a choice, of its own; elsewhere one network does all tasks.
    columns = list(next(iter(of_cell.values())))
    groups = [[game] for game in columns] if bench.environment == "atari" else [columns]
    chosen, best, without = [], [], []
    for group in groups:
        if not set(group) <= set(of_fixed):
            continue
        by_cell = pd.DataFrame({i: pd.Series(seed_means(t[group])) for i, t in enumerate(of_cell.values())})
        picked = left_out_best(by_cell)
        chosen += [list(of_cell)[i] for i, _ in picked.values()]
        best.append({seed: score for seed, (_, score) in picked.items()})
        without.append(seed_means(of_fixed[group]))
    if not best:
        return None
    samples = paired(_mean_over(best), _mean_over(without))
    if samples is None:
        return None
    return Samples(samples.a, samples.b, design="paired", detail=_choices(chosen, len(best), bench))


def _mean_over(groups: Sequence[dict[int, float]]) -> dict[int, float]:
    """seed -> mean over the groups, of the seeds that all have."""
    return seed_means(pd.DataFrame({i: pd.Series(group, dtype=float) for i, group in enumerate(groups)}))


def _choices(chosen: Sequence[tuple[int, int]], groups: int, bench: Bench) -> str:
    counts = sorted({cell: chosen.count(cell) for cell in chosen}.items(), key=lambda entry: (-entry[1], entry[0]))
    shown = ", ".join(f"{k_traj}/{k_states} ({n} of {len(chosen)})" for (k_traj, k_states), n in counts)
    games = f" on {tables.plural(groups, 'game')}" if bench.environment == "atari" else ""
    return f"Chosen by the seeds left{games}, k_traj/k_states: {shown}."


def tuned_gain(results: Results, claim: Claim, settings: Settings) -> Samples | None:
    """The cross-fitted best of the grid against the claim's side b."""
    return tuned(results, BENCHES[claim.experiment], Agent(*claim.side("b")), claim.test["task_set"])


def fixed_cell(results: Results, bench: Bench, task_set: str) -> Agent | None:
    """The grid's cell with the paper's values, 10 and 10."""
    return grid(results, bench, task_set).get((10, 10))


MEASURES = {"difference": difference, "tuned": tuned_gain}


# --- for the story ----------------------------------------------------------------------------------------------------


def change(variant: str) -> Change:
    """A variant as a change of the full agent."""
    return Change("part", CHANGES.get(variant, variant), {**PAPER, **BEYOND}.get(variant, ""))


def effects(results: Results, bench: Bench, settings: Settings) -> list[Effect]:
    """What retrieval adds, and every change against the full agent. Of two task sets the larger one counts.

    Where base and full agent are another experiment's, what retrieval adds is told there.
    """
    found: dict[Change, Effect] = {}
    for task_set in task_sets(results, bench):
        gain = compare(results, bench, bench.full, bench.base, task_set)

        def add(what: Change, samples: Samples | None, task_set: str = task_set, gain: Samples | None = gain) -> None:
            made = effect(
                what, f"{where(bench, task_set)}, ablations", bench.environment, task_set, samples, settings,
                unit=bench.unit, digits=bench.digits, gain=gain,
            )  # fmt: skip
            if made is not None:
                found[what] = made

        if bench.full.experiment == bench.experiment:
            add(RETRIEVAL, gain)
        for variant in variants(results, bench, task_set):
            agent = Agent(bench.experiment, variant)
            if agent not in (bench.base, bench.full) and not is_value(variant):
                add(change(variant), compare(results, bench, agent, bench.full, task_set))
        for pattern, form in DOSES.items():
            values = dose(results, bench, pattern, task_set)
            own = next((value for value, agent in values.items() if agent == bench.full), None)
            for value, agent in values.items():
                if own is not None and agent != bench.full:
                    what = Change("part", f"{form.title}: {value:g} in the place of {own:g}")
                    add(what, compare(results, bench, agent, bench.full, task_set))
        fixed = fixed_cell(results, bench, task_set)
        if fixed is not None:
            add(TUNED, tuned(results, bench, fixed, task_set))
    return list(found.values())
