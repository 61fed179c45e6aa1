"""Per-seed numbers of episodic control beside the agents that it is the ancestor of, and what each has learned from."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from rarl.config.settings import EpisodicSettings
from rarl.envs.gridroboman.tasks import EPISODE_STEPS
from rarl.reporting import figures
from rarl.reporting.claims import Claim, Samples, Settings
from rarl.reporting.configurations import first_run, settings_of, value_of
from rarl.reporting.figures import PALETTE, Look
from rarl.reporting.results import Results
from rarl.reporting.scores import seed_means
from rarl.reporting.sections import atari_measures
from rarl.reporting.sections.ablations_measures import Agent, common, games_table, returns_table

EPISODIC = ("mfec", "nec")
MFEC = Look("MFEC", PALETTE[2], "^", (0, (3, 1, 1, 1)))
NEC = Look("NEC", PALETTE[3], "D", (0, (1, 1)))


@dataclass(frozen=True)
class Family:
    """Episodic control on one environment, with the agents that it is set beside.

    sides: header -> agents in their order, the last of those that learn with retrieval named by `full`. looks: by
    agent.
    table: results, agent, task set -> (seeds, tasks or games). axis: its numbers, under figures. many: what the mean is
    over.
    """

    experiment: str
    environment: str
    title: str
    sides: Mapping[str, tuple[Agent, ...]]
    full: Mapping[str, Agent]
    looks: Mapping[Agent, Look]
    table: Callable[[Results, Agent, str], pd.DataFrame]
    axis: str
    many: str


def labels(family: Family) -> dict[str, str]:
    """variant -> its name, and on which side it stands."""
    return {
        agent.variant: f"{family.looks[agent].label}, {side}" if side else family.looks[agent].label
        for side, agents in family.sides.items()
        for agent in agents
        if agent.experiment == family.experiment
    }


def _gridroboman() -> Family:
    sides, looks = {}, {}
    for side in ("hidden", "observed"):
        agents = [Agent("gridroboman", f"dqn-{side}"), Agent("gridroboman", f"ra-dqn-{side}")]
        agents += [Agent("ancestors", f"{kind}-{side}") for kind in EPISODIC]
        sides[f"task {side}"] = tuple(agents)
        drawn = (Look("DQN", PALETTE[0], "o", (0, (5, 1.5))), Look("RA-DQN", PALETTE[1], "s"), MFEC, NEC)
        looks |= dict(zip(agents, drawn, strict=True))
    full = {f"task {side}": Agent("gridroboman", f"ra-dqn-{side}") for side in ("hidden", "observed")}
    axis = "return / expert's return"
    return Family("ancestors", "gridroboman", "Gridroboman", sides, full, looks, returns_table, axis, "tasks")


def _atari() -> Family:
    looks = {
        Agent("atari", "r2d2"): Look("R2D2", PALETTE[0], "o", (0, (5, 1.5))),
        Agent("atari", "ra-r2d2"): Look("RA-R2D2", PALETTE[1], "s"),
        Agent("atari", "dqn"): Look("DQN", PALETTE[7], "P", (0, (1, 1))),
        Agent("atari", "ra-dqn"): Look("RA-DQN", PALETTE[6], "v", (0, (3, 1, 1, 1))),
        Agent("ancestors-atari", "mfec"): MFEC,
        Agent("ancestors-atari", "nec"): NEC,
    }
    sides, full = {"": tuple(looks)}, {"": Agent("atari", "ra-r2d2")}
    return Family(
        "ancestors-atari", "atari", "Atari", sides, full, looks, games_table, "human-normalised score", "games"
    )


FAMILIES = {family.experiment: family for family in (_gridroboman(), _atari())}


def task_sets(results: Results, family: Family) -> list[str]:
    """The task sets on which an ancestor has usable runs, the largest last; on Atari games in their order."""
    sizes = results.select(results.last, family.experiment).groupby("task_set")["task"].nunique()
    return sorted(sizes.index, key=lambda name: (sizes[name], name))


def agents_of(results: Results, family: Family, task_set: str, side: str) -> list[Agent]:
    """A side's agents with usable runs; variants that no side knows stand on the last one."""
    known = {agent for agents in family.sides.values() for agent in agents}
    agents = list(family.sides[side])
    if side == list(family.sides)[-1]:
        last = results.select(results.last, family.experiment, task_set)
        agents += [
            agent for v in sorted(set(last["variant"])) if (agent := Agent(family.experiment, str(v))) not in known
        ]
    return [agent for agent in agents if family.table(results, agent, task_set).shape[1]]


def look(family: Family, agent: Agent) -> Look:
    """How an agent is drawn."""
    return family.looks.get(agent) or figures.spare_look(agent.variant)


def scores(results: Results, family: Family, agent: Agent, task_set: str) -> dict[int, float]:
    """seed -> mean over tasks or games of the last evaluation."""
    return seed_means(family.table(results, agent, task_set))


def compare(results: Results, family: Family, a: Agent, b: Agent, task_set: str) -> Samples | None:
    """a less b over the tasks or games that both have."""
    of_a, of_b = map(seed_means, common([family.table(results, agent, task_set) for agent in (a, b)]))
    return Samples(of_a, of_b) if of_a and of_b else None


def difference(results: Results, claim: Claim, settings: Settings) -> Samples | None:
    """The claim's side a against side b."""
    a, b = (Agent(*claim.side(which)) for which in ("a", "b"))
    return compare(results, FAMILIES[claim.experiment], a, b, claim.test["task_set"])


# --- what each has learned from ---------------------------------------------------------------------------------------


def steps_per_update(results: Results, run: str) -> float:
    """Environment steps that a run plays between two learner updates, by its configuration; NaN if it plays nothing.

    On Gridroboman whole episodes of each task, on Atari so many steps of every actor.
    """
    config = settings_of(results, run)
    online, episodic = config.get("online"), config.get("episodic")
    if isinstance(online, Mapping):
        return float(online["actors"] * online["steps_per_update"])
    if isinstance(episodic, Mapping) and config.get("environment") == "gridroboman":
        each = episodic.get("episodes_per_update", EpisodicSettings().episodes_per_update)
        return float(each * len(config.get("tasks") or []) * EPISODE_STEPS)
    return math.nan


def curve_table(results: Results, family: Family) -> pd.DataFrame:
    """Rows experiment, task_set, variant, seed, update, steps, score: of all agents on the family's task sets."""
    parts = []
    for agent in dict.fromkeys([a for agents in family.sides.values() for a in agents] + _own(results, family)):
        frame = results.select(results.evaluations, agent.experiment, variant=agent.variant)
        frame = frame[frame["task_set"].isin(task_sets(results, family))]
        if frame.empty:
            continue
        values = frame["normalised"].astype(float)
        if family.environment == "atari":
            values = pd.Series(
                atari_measures.normalised(frame["task"], frame["return_mean"].astype(float)), frame.index
            )
        keys = ["experiment", "task_set", "variant", "seed", "run", "update"]
        curve = frame.assign(score=values).groupby(keys, as_index=False)["score"].mean()
        each = curve["run"].map({run: steps_per_update(results, run) for run in curve["run"].unique()})
        parts.append(curve.assign(steps=curve["update"] * each.astype(float)))
    columns = ["experiment", "task_set", "variant", "seed", "update", "steps", "score"]
    return pd.concat(parts)[columns] if parts else pd.DataFrame(columns=columns)


def _own(results: Results, family: Family) -> list[Agent]:
    return [
        Agent(family.experiment, str(v))
        for v in sorted(set(results.select(results.last, family.experiment)["variant"]))
    ]


def learned_from(results: Results, agent: Agent, task_set: str) -> tuple[str, float]:
    """(where the agent's experience comes from, its environment steps): played by itself, or steps in datasets."""
    run = first_run(results, agent.experiment, task_set, agent.variant)
    if run is None:
        return "unknown", math.nan
    source = value_of(results, run, "source")
    if value_of(results, run, "online") is not None or value_of(results, run, "episodic") is not None:
        return "its own play", (results.records[run].get("updates") or math.nan) * steps_per_update(results, run)
    manifests = [results.manifests.get(path, {}) for path in (results.records[run].get("data") or {})]
    return f"datasets ({source})" if source else "datasets", _steps_in(manifests, value_of(results, run, "episodes"))


def _steps_in(manifests: list[dict[str, Any]], episodes: Any) -> float:
    """Steps in the datasets' first so many episodes; not a number where one does not say."""
    total = 0.0
    for manifest in manifests:
        steps, of = manifest.get("steps"), manifest.get("episodes")
        if not isinstance(of, int) or of <= 0:
            return math.nan
        if not isinstance(steps, int):
            if manifest.get("environment") != "gridroboman":
                return math.nan
            steps = of * EPISODE_STEPS
        total += steps * min(1.0, episodes / of) if isinstance(episodes, int) else steps
    return total if manifests else math.nan


MEASURES = {"difference": difference}
