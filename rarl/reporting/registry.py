"""The names that configuration may use for parts of a report and for measures of claims, and where each is made.

Names alone, so that files can be checked before anything runs; what stands behind a name is imported when it is needed.
"""

from __future__ import annotations

from collections.abc import Iterable

from rarl.config.files import ExperimentSettings
from rarl.envs.names import slug
from rarl.envs.spec import spec_of

FIXED_PAGES = ("README", "claims", "method", "appendix")  # of every report; README is the overview
ABLATIONS, BEYOND = "ablations", "beyond"
ERRATA = "errata.yaml"  # beside results; they make a page
NAVIGATION = "navigation.yaml"  # of the site, beside the pages
# part -> function (study, sheet) that writes it; it writes nothing where nothing was measured
PARTS = {
    "scores": "rarl.reporting.sections.scores:write",
    "tasks": "rarl.reporting.sections.tasks:write",
    "differences": "rarl.reporting.sections.differences:write",
    "sweeps": "rarl.reporting.sections.differences:write_sweeps",
    "interventions": "rarl.reporting.sections.interventions:write",
    "attention": "rarl.reporting.sections.attention:write",
    "gallery": "rarl.reporting.sections.gallery:write",
    "across": "rarl.reporting.sections.across:write",
    "relevance": "rarl.reporting.sections.relevance:write",
    "distractors": "rarl.reporting.sections.relevance:write_distractors",
    "index-cost": "rarl.reporting.sections.relevance:write_index_cost",
    "held-out": "rarl.reporting.sections.held_out:write",
}
USUAL_PARTS = ("scores", "tasks", "differences", "sweeps", "interventions", "attention", "gallery")
# measure of a claim -> function (study, claim, rules) -> samples, or None where there are no runs for it
MEASURES = {
    "difference": "rarl.reporting.measures:difference",
    "intervention": "rarl.reporting.measures:intervention",
    "interaction": "rarl.reporting.measures:interaction",
    "ratio": "rarl.reporting.measures:ratio",
    "attention": "rarl.reporting.measures:attention",
    "solved_of_unsolved": "rarl.reporting.measures:solved_of_unsolved",
    "tuned": "rarl.reporting.measures:tuned",
    "cost_ratio": "rarl.reporting.measures:cost_ratio",
}
# validity check -> function (study, test, rules) -> `rarl.reporting.checks.Check`, or None where nothing was recorded
CHECKS = {
    "learned": "rarl.reporting.checks:learned",
    "reads": "rarl.reporting.checks:reads",
    "reads-or-needs": "rarl.reporting.checks:reads_or_needs",
    "attends": "rarl.reporting.checks:attends",
    "divides": "rarl.reporting.checks:divides",
    "control": "rarl.reporting.checks:control",
    "finds": "rarl.reporting.checks:finds",
}


def page_of(experiment: ExperimentSettings) -> str:
    """The name of the page that shows an experiment: one for each environment, one for all ablations, one for what else
    extends an experiment."""
    if not experiment.extends:
        return slug(spec_of(experiment.environment).name)
    parts = experiment.report or USUAL_PARTS
    return ABLATIONS if "differences" in parts and "scores" not in parts else BEYOND


def pages_of(experiments: Iterable[ExperimentSettings]) -> list[str]:
    """The names of all pages of a report on these, but those of variants."""
    return list(dict.fromkeys(["README", *map(page_of, experiments), *FIXED_PAGES[1:]]))
