"""Ablations on BabyAI: the same parts as Gridroboman's."""

from __future__ import annotations

from rarl.reporting.sections.ablations import section_of
from rarl.reporting.sections.ablations_measures import BENCHES

SECTION = section_of(BENCHES["ablations-babyai"])
