"""The files under config/: experiments and scales.

    config/config.yaml               which scale is the default
    config/{scale}.yaml              sizes: datasets, seeds, budgets, which variants run
    config/experiments/{name}.yaml   what is compared: the base settings and the variants, each a few values changed

A run's settings are the experiment's base, changed by the scale's `settings`, changed by the task set's, changed by the
variant's, changed by the scale's `variant_settings`. Nothing else enters a run, so its digest names it. An experiment
that extends another begins with that one's base and settings at the scale.

What reports say of an experiment and its variants (labels, groups, what is compared with what) stands beside them and
changes no run; the report's own digest has it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from rarl.config.settings import TUNING_SEEDS, DatasetSettings
from rarl.config.validate import Names, Settings, once

NOT_SCALES = ("config", "claims")  # other files beside those of the scales
SCALES = ("smoke", "laptop", "workstation", "paper")


def _reported(seeds: list[int]) -> list[int]:
    for seed in seeds:
        if seed < 0 or seed in TUNING_SEEDS:
            raise ValueError(f"seed {seed} cannot be reported: {TUNING_SEEDS[0]} to {TUNING_SEEDS[-1]} are for tuning")
    return seeds


Variants = Annotated[list[str], AfterValidator(once)]
Seeds = Annotated[list[int], Field(min_length=1), AfterValidator(once), AfterValidator(_reported)]


class SweepSettings(Settings):
    """Variants that differ from the full agent in one value, or in two: then they are a grid."""

    title: str = Field(description="what the values are of")
    keys: list[str] = Field(min_length=1, max_length=2, description="the settings, dotted: agent.retrieval.n_f")
    alike: list[str] = Field(
        [], description="settings in which the full agent must be like the variants to stand for its own values"
    )
    label: str = Field("", description="of a grid: what reports call its best cell")
    change: str = Field("", description="of a grid: what choosing its best cell is, as the beginning of a sentence")
    paper: list[int | float] | None = Field(
        None, description="of a grid: the paper's cell, with which the best one is compared"
    )


Kind = Literal["base", "gain", "part", "data", "repair"]


class VariantSettings(Settings):
    """A variant: how it is run, and what reports say of it."""

    label: str | None = Field(None, description="what reports call it; null: its name")
    group: str = Field("", description="header under which it is shown; variants of a group share a panel")
    kind: Kind = Field(
        "part",
        description="base: an agent that others are compared with; gain: one that adds retrieval to it; else what is "
        "changed: a part of the agent, the data that it retrieves from, or a repair of what is broken. base_variant "
        "and full_variant of the experiment are a base and a gain without saying so",
    )
    relative_to: Annotated[list[str], AfterValidator(once)] | None = Field(
        None, description="the variants that it changes; null: the full one, of that the base, of a base none"
    )
    change: str = Field(
        "",
        description="what it changes there, as the beginning of a sentence; the same words for the same change in "
        "every experiment. Without, it is no change that reports weigh",
    )
    sweep: str | None = Field(None, description="whose values it is one of, see `sweeps`")
    reported: list[Annotated[list[float], Field(min_length=2, max_length=2)]] = Field(
        [], description="printed in the paper: score and its spread, by amount of data, the least first"
    )
    same_as: str | None = Field(
        None, description="a variant of the experiment that this one extends: its runs are shown, there are no others"
    )
    settings: dict[str, Any] = Field({}, description="the run settings that it changes")


class ExperimentSettings(Settings):
    """config/experiments/{name}.yaml."""

    environment: str = Field(description="its name, or module:SPEC or file.py:SPEC of your own")
    title: str
    extends: Annotated[str | None, Names] = Field(
        None,
        description="the experiment whose base, and whose settings at a scale, come before these; not its variants",
    )
    base_variant: str | None = Field(
        None,
        description="what all variants are compared with: one of these or, where the experiment extends another, one "
        "of that; null: the first",
    )
    full_variant: str | None = Field(
        None, description="the agent with retrieval that variants change, here or in the extended experiment"
    )
    beside: Annotated[list[str], AfterValidator(once)] = Field(
        [], description="variants of the extended experiment that are shown with these; base and full one always are"
    )
    whole_recipes: bool = Field(
        False,
        description="whether agents of the extended experiment are compared though data, budget or learning differ",
    )
    unrecorded_trials: dict[str, Annotated[int, Field(ge=1)]] = Field(
        {}, description="by variant, about how many trials found its settings before trials were recorded"
    )
    across: str | None = Field(
        None,
        description="a setting, dotted, against which scores are drawn: a panel for each group, a line for its base "
        "agents and one for those with retrieval",
    )
    report: list[str] | None = Field(None, description="the parts of its report, in order; null: the usual ones")
    sweeps: Annotated[dict[str, SweepSettings], Names] = Field({})
    base: dict[str, Any] = Field(description="run settings that all variants share")
    variants: Annotated[dict[str, VariantSettings], Names]


class TaskSetSettings(Settings):
    """A task set of an experiment at a scale."""

    tasks: int | Literal["all"] | Annotated[list[str], AfterValidator(once)] | None = Field(
        None,
        description="names of tasks, or all; or the size of a set, where there are sets (default: its own name)",
    )
    variants: Variants
    extended: Variants = Field(
        [],
        description="more variants, which `snakemake extended` makes and `all` leaves out; reports show them once made",
    )
    settings: dict[str, Any] = Field({})
    probes: Variants = Field([], description="variants whose final checkpoints are looked into")


class IndexCostSettings(Settings):
    """Against how many states the cost of an index is measured, on drawn keys."""

    states: list[Annotated[int, Field(ge=1)]] = Field(min_length=1, description="numbers of keys")
    kinds: list[Literal["exact", "ivf", "hnsw"]] = Field(["exact", "ivf", "hnsw"], min_length=1)
    most_states: dict[Literal["exact", "ivf", "hnsw"], int] = Field({}, description="by kind, where it ends")
    candidates: int = Field(64, ge=10, description="keys found for each query")


class ScaleExperimentSettings(Settings):
    """An experiment at a scale."""

    settings: dict[str, Any] = Field({})
    variant_settings: dict[str, dict[str, Any]] = Field({}, description="by variant, over everything else")
    seeds: Seeds | None = Field(None, description="null: the scale's")
    task_sets: Annotated[dict[int | str, TaskSetSettings], Names]
    index_cost: IndexCostSettings | None = Field(
        None,
        description="searching keys, against their number; one experiment of a scale may have it",
    )


class CostSettings(Settings):
    """How long costs are measured."""

    seconds_per_variant: float = Field(
        2.0, gt=0, description="of learner steps, acting and reading; a slow variant has a few of each in any case"
    )
    experiments: list[str] | None = Field(None, description="whose variants are measured; null: those of all")


class ResourceSettings(Settings):
    """What jobs of a scale ask for; their memory follows from their settings (`rarl.workflow.resources`)."""

    gpu: bool = Field(
        False, description="whether networks are trained on a GPU where there is one; small ones gain nothing there"
    )
    jobs_per_gpu: int = Field(
        4,
        ge=1,
        description="jobs that share a GPU of this machine, unless fewer fit; one alone leaves it mostly idle",
    )
    hours: float = Field(
        1.0, gt=0, description="time limit of a job on a cluster; a run that was stopped by it goes on where it was"
    )


class ScaleSettings(Settings):
    """config/{scale}.yaml."""

    description: str = Field(description="a phrase for the report's first lines: 'Scale NAME: ...'")
    allows_verdicts: bool = Field(False, description="whether results at this scale may carry a verdict")
    about_core_minutes: float | None = Field(
        None, gt=0, description="measured cost of `all` on one core of a common machine; null: nobody has measured it"
    )
    seeds: Seeds
    costs: CostSettings = CostSettings()
    resources: ResourceSettings = ResourceSettings()
    datasets: dict[str, list[DatasetSettings]] = Field({}, description="by environment")
    experiments: Annotated[dict[str, ScaleExperimentSettings], Names]
