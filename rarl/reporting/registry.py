"""Which experiments the report knows, and what claims may measure of each: names alone, which importing costs nothing.

So config/claims.yaml can be checked before anything runs. What the names stand for is in the sections; a test holds the
two together.
"""

from __future__ import annotations

# experiment (the first part of a run's name) -> module of its section, in the order of the page
MODULES = {
    "gridroboman": "rarl.reporting.sections.gridroboman",
    "babyai": "rarl.reporting.sections.babyai",
    "atari": "rarl.reporting.sections.atari",
    "ablations": "rarl.reporting.sections.ablations",
    "ablations-babyai": "rarl.reporting.sections.ablations_babyai",
    "ablations-atari": "rarl.reporting.sections.ablations_atari",
    "relevance": "rarl.reporting.sections.relevance",
    "held-out": "rarl.reporting.sections.held_out",
    "ancestors": "rarl.reporting.sections.ancestors",
    "ancestors-atari": "rarl.reporting.sections.ancestors_atari",
}

_OF_ABLATIONS = ("difference", "tuned")
# experiment -> names of its section's measures
MEASURES: dict[str, tuple[str, ...]] = {
    "gridroboman": ("normalised_return", "solved_of_unsolved", "intervention"),
    "babyai": ("success", "intervention", "other_share", "other_share_over_chance"),
    "atari": ("human_normalised", "intervention", "time_ratio", "parameter_ratio"),
    "ablations": _OF_ABLATIONS,
    "ablations-babyai": _OF_ABLATIONS,
    "ablations-atari": _OF_ABLATIONS,
    "relevance": ("return_at_share", "found_at_share", "intervention"),
    "held-out": ("intervention", "kept"),
    "ancestors": ("difference",),
    "ancestors-atari": ("difference",),
}
