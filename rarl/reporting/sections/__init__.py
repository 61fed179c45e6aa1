"""The parts of the report that know an environment. Each is one module with a `SECTION`.

To add one: write `sections/NAME.py` with a `SECTION` and name it, with its measures, in `rarl.reporting.registry`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module

from rarl.reporting import figures
from rarl.reporting.claims import Claim, Samples, Settings
from rarl.reporting.effects import Effect
from rarl.reporting.registry import MODULES
from rarl.reporting.results import Results
from rarl.reporting.sheet import Sheet

Measure = Callable[[Results, Claim, Settings], Samples | None]


def no_facts(results: Results, claim: Claim) -> dict[str, float]:
    """Of an experiment that the paper has not: there is nothing to set its size against."""
    return {}


def _no_effects(results: Results, settings: Settings) -> list[Effect]:
    return []


def _as_named(results: Results, claim: Claim) -> str | None:
    return claim.test["task_set"]


@dataclass(frozen=True)
class Section:
    """What the rest of the report wants to know about one experiment.

    experiment: the first part of the names of its runs.
    title: its heading.
    measures: name in claims.yaml -> function that returns per-seed numbers, or None where there are no runs for it.
    scale_facts: quantity -> our number, for the quantities that the claim's `paper.scale` names.
    parts: write the section on a sheet, one after the other; there is a usable run.
    aggregate: run -> its score, for the table of runs.
    protocol: (term, what it means), on how the section measures; for the page's part on the protocol.
    task_set: the task set that a claim's test means; None where this scale has no such set.
    has_expert: whether scores are divided by an expert's return, so that one without is worth telling.
    extends: the experiment whose settings its own begin with; what is said of that one's settings goes for it as well.
    labels: variant -> what it is called, where that is another word; those of `extends` hold too.
    effects: what changes in the agent or in what it retrieves from did to the score, for the part "What matters".
    """

    experiment: str
    title: str
    measures: Mapping[str, Measure]
    scale_facts: Callable[[Results, Claim], dict[str, float]]
    parts: Sequence[Callable[[Sheet], None]]
    aggregate: Callable[[Results], dict[str, float]]
    protocol: Callable[[Settings], list[tuple[str, str]]] = field(default=lambda settings: [])
    task_set: Callable[[Results, Claim], str | None] = field(default=_as_named)
    has_expert: bool = False
    extends: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    effects: Callable[[Results, Settings], list[Effect]] = field(default=_no_effects)

    def build(self, sheet: Sheet) -> None:
        """Write the section; with no usable run it says so and stops."""
        if sheet.results.select(sheet.results.last, self.experiment).empty:
            sheet.text("No usable run yet: nothing to show.")
            return
        with figures.style():
            for part in self.parts:
                part(sheet)


def load_sections() -> dict[str, Section]:
    """experiment -> section, in the order of the page."""
    return {name: import_module(module).SECTION for name, module in MODULES.items()}
