"""Builds the report of one scale: Markdown pages with figures/ and tables/, of which `rarl.reporting.site` makes a site."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from rarl.config.scale import Dataset
from rarl.envs.spec import load
from rarl.files import check_folder_writable, write_text
from rarl.reporting import (
    answers,
    effects,
    figures,
    forest,
    measured_costs,
    provenance,
    retrieval_use,
    searches,
    tables,
    variants,
)
from rarl.reporting import (
    rules as judging,
)
from rarl.reporting.choices import read_texts
from rarl.reporting.effects import Effect
from rarl.reporting.claims import Rules, load_claims
from rarl.reporting.known_faults import read_known_faults
from rarl.reporting.registry import ABLATIONS, BEYOND, NAVIGATION, PARTS, page_of
from rarl.reporting.results import Results, load_results
from rarl.reporting.rules import NOT_TESTED, Judged
from rarl.reporting.sections import gallery, scores
from rarl.reporting.sheet import Sheet
from rarl.reporting.statistics import POWER
from rarl.reporting.study import Study, load_studies
from rarl.reporting.verdicts import Outcome, counts, evaluate_claims

MOST_PROBLEMS = 60  # rows of the table of failures; runs.csv has all
_MADE = {"": "*.md", "variants": "*.md", "figures": "*.*", "tables": "*.csv"}  # folder -> files that builds make
_TITLES = {ABLATIONS: "Ablations", BEYOND: "Beyond the paper"}


@dataclass
class Report:
    """What the pages of a report are made from, and the pages so far.

    studies: those that are shown. pages: experiment -> name of its page. mark: written over all; "": nothing.
    """

    output: Path
    results: Results
    rules: Rules
    judged: Judged
    studies: Mapping[str, Study]
    pages: Mapping[str, str]
    outcomes: Sequence[Outcome]
    trials: Sequence[searches.Trial]
    texts: Mapping[str, Any]
    costs: pd.DataFrame
    mark: str
    preview: bool
    sheets: list[Sheet] = field(default_factory=list)

    def sheet(self, name: str, title: str) -> Sheet:
        """A new page."""
        stamp = {"": "", "preliminary": self.mark}.get(self.mark, f"{self.mark}: not a result")
        self.sheets.append(Sheet(self.output, self.results, self.rules, self.judged, stamp, name, title))
        return self.sheets[-1]

    def on(self, page: str) -> list[Study]:
        """The studies of a page."""
        return [study for study in self.studies.values() if self.pages[study.name] == page]

    def asked_on(self, page: str) -> list[Outcome]:
        """The claims and questions of a page; those of none are in the appendix."""
        homes = [(self.pages.get(o.claim.test.experiment) if o.claim.test else None) or "appendix" for o in self.outcomes]
        return [o for o, home in zip(self.outcomes, homes, strict=True) if home == page]


def folder_of(scale: str, root: str | Path = ".", *, preview: bool = False) -> Path:
    """Where a report is written."""
    return Path(root) / "scratch" / scale / "preview" if preview else Path(root) / "reports" / scale


def title_of(scale: str, *, preview: bool = False) -> str:
    """Of its site."""
    return f"Retrieval-augmented RL, replicated: {scale}{' (preliminary)' if preview else ''}"


def build_report(
    scale: str,
    root: str | Path = ".",
    output: str | Path | None = None,
    planned_runs: Iterable[str] | None = None,
    preview: bool = False,
    planned_datasets: Mapping[str, Dataset] | None = None,
    before_publishing: Callable[[], None] = lambda: None,
    order: Sequence[str] | None = None,
) -> Path:
    """Build the pages of the report of `scale` from whatever runs there are.

    Args:
      root: the project's folder, with config/claims.yaml, results/ and data/.
      output: folder to write to; default reports/{scale}, or scratch/{scale}/preview for a preview.
      planned_runs: names of all runs that this scale asks for; those without result are named as missing.
      planned_datasets: the scale's datasets by id; manifests of others in their places are told and not used.
      preview: say "preliminary" wherever it matters; for looking at runs that are still being made.
      before_publishing: called before the pages are written; if it raises, they stay as they were.
      order: of the experiments; None: as their runs come.

    Returns:
      The path of the first page, README.md.

    Raises:
      RarlError: the claims file is missing or wrong. Runs that are missing, failed or damaged raise nothing.
    """
    root = Path(root)
    output = Path(output) if output else folder_of(scale, root, preview=preview)
    check_folder_writable(output)
    rules, claims = load_claims(root / "config" / "claims.yaml")
    results = load_results(scale, root, planned_runs, planned_datasets)
    studies = load_studies(results, list(dict.fromkeys(results.runs["experiment"])) if order is None else order)
    own = set(results.runs["experiment"]).isdisjoint(e for claim in claims if claim.test for e, _ in claim.test.sides())
    judged, trials = Judged(rules), searches.read_trials(results)
    # Of others' experiments none is about.
    outcomes = evaluate_claims([] if own else claims, rules, results, studies, judged, trials)
    planned = set(results.planned()["experiment"])
    shown = {name: study for name, study in studies.items() if name in planned}
    pages = {name: page_of(study.settings) for name, study in shown.items()}
    mark = scale if not rules.scale(scale).results else "preliminary" if preview else ""
    costs = measured_costs.read_costs(results, due=not preview)
    report = Report(output, results, rules, judged, shown, pages, outcomes, trials, read_texts(), costs, mark, preview)
    with figures.style():
        front = report.sheet("README", "Retrieval-augmented reinforcement learning, replicated")
        found = {name: effects.judge(study, judged) for name, study in shown.items()}
        last = [ABLATIONS, BEYOND]
        for page in sorted(dict.fromkeys(pages.values()), key=lambda page: last.index(page) if page in last else -1):
            _experiments(report, page, found)
        _overview(report, front, found, root)
        _variants(report)
    _words(report, "method", "Method and rules")
    _words(report, "appendix", "Appendix", known_faults=read_known_faults(root / "results" / scale))
    before_publishing()
    for sheet in report.sheets:
        write_text(output / f"{sheet.name}.md", sheet.markdown())
    write_text(output / NAVIGATION, yaml.safe_dump(_navigation(report), sort_keys=False, allow_unicode=True))
    _remove_stale(output, [path for sheet in report.sheets for path in (*sheet.files, output / f"{sheet.name}.md")])
    return output / "README.md"


def _experiments(report: Report, page: str, found: Mapping[str, Sequence[Effect]]) -> None:
    """A page of one or several studies: their claims, then their parts."""
    members = report.on(page)
    title = members[0].title if len(members) == 1 else members[0].spec.title
    sheet = report.sheet(page, _TITLES.get(page, title))
    if page == ABLATIONS and report.rules.scale(report.results.scale).results:
        forest.write(sheet, found, {name for name in found if report.pages[name] != BEYOND})
    answers.write(sheet, report.asked_on(page))
    for study in members:
        if len(members) > 1:
            sheet.heading(study.title)
            sheet.level = 3
        if not study.used_sets:
            sheet.text("No usable run yet.")
            continue
        for part in study.parts:
            load(PARTS[part])(study, sheet)
        retrieval_use.write(study, sheet)
        links = [Markup("[{}]({}.md)").format(tables.md(v.label), variants.page_name(study, v))
                 for v in variants.own_variants(study)]  # fmt: skip
        sheet.text(Markup("Variants: {}.").format(Markup(", ").join(links)))
        sheet.level = 2


def _variants(report: Report) -> None:
    for study in report.studies.values():
        for variant in variants.own_variants(study):
            sheet = report.sheet(variants.page_name(study, variant), variant.label)
            variants.write(study, variant, sheet, report.pages[study.name], report.costs)


def _overview(report: Report, sheet: Sheet, found: Mapping[str, Sequence[Effect]], root: Path) -> None:
    results, rules = report.results, report.rules
    mains = [s for s in report.studies.values() if not s.settings.extends and s.used_sets]
    curves = Sheet(sheet.output, results, rules, report.judged, sheet.stamp)
    for study in mains:
        scores.headline(study, curves)
    step = Sheet(sheet.output, results, rules, report.judged, sheet.stamp)
    any(gallery.write(study, step) for study in mains)
    sheet.files += curves.files + step.files
    faults = read_known_faults(root / "results" / results.scale)
    folder, numbers = sheet.csv("claims", answers.claim_numbers(report.outcomes)), counts(report.outcomes)
    rows = [[e.where, tables.interval(e.interval, signed=True) + f" {e.score.unit}", judging.READINGS[e.reading]]
            for study in mains for e in found[study.name] if e.change.kind == "gain"]  # fmt: skip
    table = answers.first_table(report.outcomes, report.studies, {e: f"{page}.md" for e, page in report.pages.items()})
    context = {
        "faults": faults,
        "tested": sum(n for verdict, n in numbers["paper"].items() if verdict != NOT_TESTED),
        "paper": sum(numbers["paper"].values()),
        "tally": answers.tally(numbers["paper"]),
        "first_table": table or tables.table(["Environment", "Retrieval gains", "Effect"], rows),
        "key_choices": _choices(report, "deviation", key=True),
        "curves": Markup("\n\n").join(curves.parts),
        "step": Markup("\n\n").join(step.parts),
        "claims_csv": folder,
        "pages": [(other.title, other.name) for other in report.sheets[1:] if "/" not in other.name],
        "unspecified": sum(o.interval is not None and not o.specified for o in report.outcomes),
        "judged": sum(o.interval is not None for o in report.outcomes),
        "few_seeds": results.runs[results.runs["usable"]].groupby(["experiment", "task_set", "variant"]).size(),
        "unequal": sum(o.search.startswith("unequal") for o in report.outcomes),
        "runs_line": runs_line(results),
        "budgets": list(dict.fromkeys(
            f"{s.title}: {share}" for s in mains for o in report.outcomes if o.claim.primary and o.claim.test
            and o.claim.test.experiment == s.name for share, _ in answers.budgets(o))),
    }
    sheet.parts.append(render("overview", report, context))


def _words(report: Report, name: str, title: str, **more: Any) -> None:
    """A page that is mostly words."""
    results, rules, sheet = report.results, report.rules, report.sheet(name, title)
    last = results.last.groupby("run")["score"].agg(lambda x: float(x.mean(skipna=False))).to_dict()
    context: dict[str, Any] = {
        "judging": judging,
        "judging_power": POWER,
        "rules_table": answers.rules_table(),
        "protocol": answers.protocol(results),
        "measured": {f"{s.score.label.capitalize()} ({s.spec.title})": s.score.meaning
                     for s in report.studies.values() if s.score.meaning},
    } | more  # fmt: skip
    if name == "appendix":
        left = Sheet(sheet.output, results, rules, level=3)
        answers.write(left, report.asked_on("appendix"))
        costs = Sheet(sheet.output, results, rules)
        measured_costs.write(costs, report.costs)
        trials = searches.counts(report.trials)
        heads = {"experiment": "Experiment", "variant": "Variant", "trials": "Trials", "seeds": "Tuning seeds",
                 "changed": "Settings changed"}  # fmt: skip
        context |= {
            "left": Markup("\n\n").join(left.parts),
            "costs": Markup("\n\n").join(costs.parts),
            "trials": tables.to_markdown(trials, heads) if len(trials) else "",
            "trials_csv": sheet.csv("trials", searches.frame(report.trials)) if len(trials) else "",
            "deviations": _choices(report, "deviation"),
            "open": _choices(report, "open"),
            "making": tables.table(["What", "Value"], provenance.making(results)),
            "compute": provenance.compute(results),
            "runs_csv": sheet.csv("runs", provenance.run_table(results, last)),
            "runs_line": runs_line(results),
            "problems": tables.table(["Where", "What"], results.problems[:MOST_PROBLEMS]) if results.problems else "",
            "more_problems": max(0, len(results.problems) - MOST_PROBLEMS),
        }
        sheet.files += left.files + costs.files
    sheet.parts.append(render(name, report, context))


def render(name: str, report: Report, context: Mapping[str, Any]) -> Markup:
    """A page's template, in which every value is escaped for Markdown and HTML unless it is already Markup."""
    env = Environment(
        loader=PackageLoader("rarl.reporting", "templates"),
        undefined=StrictUndefined,
        finalize=tables.md,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # `finalize` has escaped already; a second time would show the entities
    )
    scale = report.rules.scale(report.results.scale)
    common = {"tables": tables, "report": report, "rules": report.rules, "texts": report.texts, "scale": scale}
    return Markup(env.get_template(f"{name}.md.j2").render(common | dict(context)).strip())


def _choices(report: Report, kind: str, *, key: bool = False) -> Markup:
    rows = provenance.rows_of(report.texts["choices"], kind, report.results, list(report.studies.values()), key=key)
    heads = ["What", "Paper", "Here", "Why", "Expected effect"][: 3 if key else 5]
    return tables.table(heads, [row[: len(heads)] for row in rows]) if rows else Markup("")


def runs_line(results: Results) -> str:
    """How many runs were planned, are used and are not."""
    planned = results.planned()
    states = Counter(planned["status"])
    rest = [f"{states[name]} {name}" for name in ("failed", "damaged", "excluded", "missing") if states[name]]
    return f"{int(planned['usable'].sum())} of {tables.plural(len(planned), 'planned run')} used" + (
        f" ({', '.join(rest)})" if rest else ""
    )


def _navigation(report: Report) -> list[Any]:
    """Of the site: the pages in order, the variants' below their experiments."""
    main = [sheet for sheet in report.sheets if "/" not in sheet.name]
    by_study: dict[str, list[Any]] = {}
    for study in report.studies.values():
        for v in variants.own_variants(study):
            by_study.setdefault(study.title, []).append({v.label: f"{variants.page_name(study, v)}.md"})
    entries: list[Any] = [{"Overview" if s.name == "README" else s.title: f"{s.name}.md"} for s in main]
    return entries + ([{"Variants": [{title: found} for title, found in by_study.items()]}] if by_study else [])


def _remove_stale(output: Path, files: Iterable[Path]) -> None:
    """A figure of an earlier build that this one did not make would show runs that are gone."""
    kept = {path.resolve() for path in files}
    for folder, pattern in _MADE.items():
        (output / folder).mkdir(parents=True, exist_ok=True)
        for path in (output / folder).glob(pattern):
            if path.is_file() and path.resolve() not in kept:
                path.unlink()
