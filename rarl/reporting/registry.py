"""The names that configuration may use for parts of a report and for measures of claims, and where each is made; and
those of what was measured of agents, with the words for them.

Names alone, so that files can be checked before anything runs; what stands behind a name is imported when it is needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Set

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
# measure of a claim -> function (study, test, rules) -> samples, or None where there are no runs for it; and which of
# the keys b, of, against and quantity its test has: one of these sets
MEASURES: dict[str, tuple[str, tuple[Set[str], ...]]] = {
    "difference": ("rarl.reporting.measures:difference", ({"b"},)),
    "intervention": ("rarl.reporting.measures:intervention", ({"of", "against"}, {"b", "of"})),
    "interaction": ("rarl.reporting.measures:interaction", ({"b", "of", "against"},)),
    "ratio": ("rarl.reporting.measures:ratio", ({"of", "against"},)),
    "attention": ("rarl.reporting.measures:attention", ({"of", "against", "quantity"}, {"b", "quantity"})),
    "solved_of_unsolved": ("rarl.reporting.measures:solved_of_unsolved", ({"b"},)),
    "tuned": ("rarl.reporting.measures:tuned", ({"b"},)),
    "cost_ratio": ("rarl.reporting.measures:cost_ratio", ({"b", "quantity"},)),
}
COSTS = ("parameters", "ms_per_update")  # of which there are ratios
# validity check -> function (study, test, rules) -> `rarl.reporting.checks.Check`, or None where nothing was recorded
CHECKS = {
    "learned": "rarl.reporting.checks:learned",
    "both-learned": "rarl.reporting.checks:both_learned",
    "each-learned": "rarl.reporting.checks:each_learned",
    "reads": "rarl.reporting.checks:reads",
    "reads-or-needs": "rarl.reporting.checks:reads_or_needs",
    "attends": "rarl.reporting.checks:attends",
    "divides": "rarl.reporting.checks:divides",
    "control": "rarl.reporting.checks:control",
    "finds": "rarl.reporting.checks:finds",
}
OWN = "own"
INTERVENTIONS = {  # on what is retrieved -> in words
    OWN: "as trained",
    "removed": "nothing retrieved",
    "shuffled": "states shuffled across trajectories",
    "reordered": "steps shuffled within trajectories",
    "exchanged-by-reward": "states shuffled within equal reward",
    "z-mean": "read-out z fixed at its mean",
    "others": "other tasks' trajectories only",
    "swapped": "another task's dataset, scored on the task in play",
    "swapped-given": "another task's dataset, scored on that task",
    "retrieve-and-play": "copy of the nearest retrieved state's action",
    "retrieve-and-play-best": "copy, nearest of the best quarter of all data",
}
# Those that give an amount of data: first part of their names -> what that is, with the number after it.
AMOUNTS = {
    "truncated": "retrieval batch cut to {} trajectories",
    "cut": "first {} steps of each",
    "given": "given {} trajectories it learned from",
    "given-best": "given {} trajectories of the best quarter",
    "given-worst": "given {} trajectories of the worst quarter",
    "given-new": "given {} trajectories it never saw",
}
HELD_OUT = {  # on held-out tasks -> what is given to retrieve from
    "held-out": "the task's own dataset",
    "held-out-swapped": "a training task's dataset",
    "held-out-removed": "nothing",
}
QUANTITIES = {  # of attention.csv -> in words, and the quantity that says what uniform attention would give
    "effective_states": ("effective number of attended states (exp. entropy)", ""),
    "kl": ("KL of z's posterior from its prior, nats/step", ""),
    "task_named": ("task decodable from z (accuracy of a linear probe)", ""),
    "rewarded_share": ("attention on rewarded states", "rewarded_candidates"),
    "other_share": ("attention on other tasks' trajectories", "other_candidates"),
    "related_there": ("batches that contain a trajectory with the same target object", ""),
    "related_share": ("attention on trajectories with the same target object", "related_candidates"),
    "place_distance": ("distance in steps between attended and current position", "place_candidates"),
}
# The same of what is found at a share: "share-0.01/recall@10".
_FOUND = ("recall@1", "recall@10", "recall@64", "mrr", "relevant_in_batch", "attention_on_relevant", "new_recall@10",
          "new_mrr", "index_recall@10")  # fmt: skip
# All names, N for any number.
_PLACES = [f"{kind}-N{way}" for kind in ("share", "among") for way in ("", "-index", "-uniform", "-none")]
INTERVENTION_NAMES = [*INTERVENTIONS, *HELD_OUT, *(f"{kind}-N" for kind in AMOUNTS), *_PLACES]
QUANTITY_NAMES = [*QUANTITIES, *(uniform for _, uniform in QUANTITIES.values() if uniform),
                  *(f"{place}/{found}" for place in _PLACES for found in _FOUND)]  # fmt: skip


def without_numbers(name: str) -> str:
    """ "share-0.01/recall@10" -> "share-N/recall@10"."""
    return re.sub(r"-\d*\.?\d+(?=[-/]|$)", "-N", name)


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
