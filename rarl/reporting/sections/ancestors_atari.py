"""Episodic control on Atari: the same parts as Gridroboman's."""

from __future__ import annotations

from rarl.reporting.sections.ancestors import section_of
from rarl.reporting.sections.ancestors_measures import FAMILIES

SECTION = section_of(FAMILIES["ancestors-atari"])
