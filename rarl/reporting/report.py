"""Builds the report of one scale: Markdown pages with figures/ and tables/, of which `rarl.reporting.site` makes a
site."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from rarl.config.scale import Dataset
from rarl.envs.spec import load, plays
from rarl.files import check_folder_writable, write_text
from rarl.reporting import (
    answers,
    figures,
    forest,
    measured_costs,
    provenance,
    repeats,
    rules,
    searches,
    tables,
    variants,
)
from rarl.reporting.checks import failed
from rarl.reporting.choices import Texts, check_experiments, read_errata, read_texts
from rarl.reporting.claims import Claim, Revised, load_claims
from rarl.reporting.effects import Effect, judge
from rarl.reporting.interactive import FOLDER as INTERACTIVE
from rarl.reporting.registry import ABLATIONS, BEYOND, CHECKS, ERRATA, NAVIGATION, PARTS
from rarl.reporting.results import Results, load_results
from rarl.reporting.sections import attention, gallery, scores
from rarl.reporting.sheet import Sheet
from rarl.reporting.statistics import POWER
from rarl.reporting.study import Study, load_studies
from rarl.reporting.verdicts import Outcome, counts, evaluate_claims

MOST_PROBLEMS = 60  # rows of the table of failures; runs.csv has all
_MADE = ("*.md", "variants/*.md", "figures/*.*", "tables/*.csv", f"{INTERACTIVE}/*.json")  # files that builds make
_TAGS = dict.fromkeys(map(ord, "<>"))  # which the theme would take for some in titles
_TITLES = {ABLATIONS: "Ablations", BEYOND: "Beyond the paper"}


@dataclass
class Report:
    """What the pages of a report are made from, and the pages so far. studies: those shown. effects: in them. revised:
    checks that were changed after runs of the scale."""

    first: Sheet
    studies: Mapping[str, Study]
    effects: Sequence[Effect]
    outcomes: Sequence[Outcome]
    costs: pd.DataFrame
    preview: bool
    revised: Mapping[str, Revised] = field(default_factory=dict)
    by_other_code: Collection[str] = ()
    texts: Texts = field(default_factory=lambda: read_texts())
    sheets: list[Sheet] = field(default_factory=list)

    @property
    def results(self) -> Results:
        """The runs."""
        return self.first.results

    @cached_property
    def repeated(self) -> dict[str, pd.DataFrame]:
        """What other makings of these runs said."""
        return repeats.others(self.results, tables.expanded(answers.claim_frame(self.outcomes)))

    @cached_property
    def pairs(self) -> tuple[int, pd.DataFrame]:
        """How many verdicts there are by pairs of seeds, too, and those that differ then."""
        return answers.pairs_frame(self.outcomes)

    def sheet(self, name: str, title: str) -> Sheet:
        """A new page."""
        self.sheets.append(replace(self.first, name=name, title=title, parts=[]))
        return self.sheets[-1]

    def asked_on(self, page: str) -> list[Outcome]:
        """The claims and questions of a page; those of none are in the appendix."""
        return [o for o in self.outcomes if o.page == page]


def folder_of(scale: str, root: str | Path = ".", *, preview: bool = False) -> Path:
    """Where a report is written."""
    return Path(root) / "scratch" / scale / "preview" if preview else Path(root) / "reports" / scale


def title_of(scale: str, *, preview: bool = False) -> str:
    """Of its site."""
    return f"Retrieval-augmented RL, replicated: {scale}{' (preliminary)' if preview else ''}"


def build_report(
    scale: str,
    root: str | Path = ".",
    planned_runs: Iterable[str] | None = None,
    preview: bool = False,
    planned_datasets: Mapping[str, Dataset] | None = None,
    before_publishing: Callable[[], None] = lambda: None,
    order: Sequence[str] | None = None,
    by_other_code: Collection[str] = (),
) -> Path:
    """Build the pages of the report of `scale` from whatever runs there are.

    Args:
      root: the project's folder, with config/claims.yaml, results/ and data/.
      planned_runs, planned_datasets: of the scale, see `load_results`.
      preview: say "preliminary" wherever it matters, and write to scratch/{scale}/preview instead of reports/{scale};
        for looking at runs that are still being made.
      before_publishing: called when all is made, and nothing is published; if it raises, the report stays as it was.
      order: of the experiments; None: as their runs come.
      by_other_code: runs that other code made than would make them now.

    Returns:
      The path of the first page, README.md.

    Raises:
      RarlError: a file under config/ is missing or wrong. Runs that are missing, failed or damaged raise nothing.
    """
    root = Path(root)
    output = folder_of(scale, root, preview=preview)
    check_folder_writable(output)
    judging, claims = load_claims(root / "config" / "claims.yaml")
    results = load_results(scale, root, planned_runs, planned_datasets)
    check_experiments(results.experiments)
    studies = load_studies(results, list(dict.fromkeys(results.runs["experiment"])) if order is None else order)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as folder:
        _write(Path(folder), results, studies, claims, rules.Judged(judging), by_other_code, preview=preview)
        before_publishing()
        _publish(Path(folder), output)
    return output / "README.md"


def _write(
    folder: Path, results: Results, studies: Mapping[str, Study], claims: Sequence[Claim], judged: rules.Judged,
    by_other_code: Collection[str], *, preview: bool,
) -> None:  # fmt: skip
    """All files of a report, into an empty folder."""
    own = set(results.runs["experiment"]).isdisjoint(e for claim in claims if claim.test for e, _ in claim.test.sides())
    # Of others' experiments none is about.
    outcomes = evaluate_claims([] if own else claims, results, studies, judged)
    planned = set(results.planned()["experiment"])
    shown = {name: study for name, study in studies.items() if name in planned}
    stamp = "preliminary" if preview else ""
    stamp = stamp if results.about.allows_verdicts else f"{results.scale}: not a result"
    costs = measured_costs.read_costs(results, due=not preview)
    first = Sheet(folder, results, judged, stamp)
    found = [e for study in shown.values() for e in judge(study, judged)]
    revised = {name: r for claim in claims for name, r in claim.revised.items() if results.scale in r.scales}
    usable = set(results.runs["run"][results.runs["usable"]])
    report = Report(
        first, shown, found, outcomes, costs, preview, {} if own else revised, usable.intersection(by_other_code)
    )
    errata = read_errata(results.root / "results" / results.scale / ERRATA)
    with figures.style():
        front = report.sheet("README", "Retrieval-augmented reinforcement learning, replicated")
        last = [ABLATIONS, BEYOND]
        pages = dict.fromkeys(study.page for study in shown.values())
        for page in sorted(pages, key=lambda page: last.index(page) if page in last else -1):
            _experiments(report, page)
        answers.write_all(report.sheet("claims", "All claims"), outcomes)
        front.parts.append(_render("overview", report, _overview(report, front) | {"errata": bool(errata)}))
    runs = provenance.run_table(results, report.by_other_code)
    for study in shown.values():
        for variant in variants.own_variants(study):
            sheet = report.sheet(variants.page_name(study, variant), variant.label)
            variants.write(study, variant, sheet, costs, runs)
    methods = report.sheet("method", "Method and rules")
    methods.parts.append(_render("method", report, {"checks": _checks(report)}))
    appendix = report.sheet("appendix", "Appendix")
    with figures.style():
        appendix.parts.append(_render("appendix", report, _appendix(report, appendix)))
    if errata:
        answers.write_errata(report.sheet("errata", "Errata"), errata, outcomes)
    for sheet in report.sheets:
        write_text(folder / f"{sheet.name}.md", sheet.markdown())
    write_text(folder / NAVIGATION, yaml.safe_dump(_navigation(report), sort_keys=False, allow_unicode=True))


def _publish(made: Path, output: Path) -> None:
    """Move all that was made into the report. A figure of an earlier build that this one did not make would show runs
    that are gone."""
    files = {path.relative_to(made) for path in made.rglob("*") if path.is_file()}
    for pattern in _MADE:
        (output / pattern).parent.mkdir(parents=True, exist_ok=True)
        for path in output.glob(pattern):
            if path.is_file() and path.relative_to(output) not in files:
                path.unlink()
    for file in files:
        shutil.move(made / file, output / file)


def _experiments(report: Report, page: str) -> None:
    """A page of one or several studies: their claims, then their parts."""
    members = [study for study in report.studies.values() if study.page == page]
    title = members[0].title if len(members) == 1 else members[0].spec.title
    sheet = report.sheet(page, _TITLES.get(page, title))
    if len(members) == 1:
        sheet.text(report.texts.experiments.get(members[0].name, ""))
    # Without a page of ablations they are on that of their environment.
    alone = all(study.page != ABLATIONS for study in report.studies.values())
    if report.results.about.allows_verdicts and page != BEYOND and (alone or page == ABLATIONS):
        forest.write(sheet, [e for e in report.effects if e.study in members or not alone])
    answers.write(sheet, report.asked_on(page))
    for study in members:
        if len(members) > 1:
            sheet.level = 2
            sheet.heading(study.title)
            sheet.level = 3
            sheet.text(report.texts.experiments.get(study.name, ""))
        if not study.used_sets:
            sheet.text("No usable run yet.")
            continue
        if not plays(study.spec):
            sheet.text(study.score.meaning)
        for part in study.parts:
            load(PARTS[part])(study, sheet)
        attention.write_use(study, sheet)
        links = [Markup("[{}]({}.md)").format(tables.md(v.label), variants.page_name(study, v))
                 for v in variants.own_variants(study)]  # fmt: skip
        sheet.text(Markup("Variants: {}.").format(Markup(", ").join(links)))


def _overview(report: Report, sheet: Sheet) -> dict[str, Any]:
    mains = [s for s in report.studies.values() if not s.settings.extends and s.used_sets]
    curves, step = replace(sheet, parts=[]), replace(sheet, parts=[])
    for study in mains:
        scores.headline(study, curves)
    any(gallery.write(study, step) for study in mains)
    gains = [[e.where, tables.interval(e.interval, signed=True) + f" {e.study.score.unit}", rules.READINGS[e.reading]]
             for e in report.effects if e.study in mains and e.change.kind == "gain"]  # fmt: skip
    first = answers.first_table(report.outcomes, report.studies.values())
    runs = report.results.runs
    primary = [o for o in report.outcomes if o.claim.primary and o.claim.test]
    use = _use_and_costs(report, mains, primary)
    seeds = runs[runs["usable"]].groupby(["experiment", "task_set", "variant"]).size()
    return {
        "numbers": counts(report.outcomes),
        "first_table": first or tables.table(["Environment", "Retrieval gains", "Effect"], gains),
        "questions": answers.overview_table(report.outcomes),
        "use": tables.to_markdown(use, _USE, digits=2) if len(use) else "",
        **_parts(sheet, [e for e in report.effects if e.study.page != BEYOND]),
        "use_csv": sheet.csv("main-agents", use[[name for name in _USE if name in use]]) if len(use) else "",
        "fixed": list(use["agent"][use["top_three"] == 3]) if "top_three" in use else [],
        "devices": sorted(set(report.costs["device"])),
        "elsewhere": measured_costs.told_of_scales(report.results),
        "logs": [(study.title, study.score.meaning) for study in mains if not plays(study.spec)],
        "offline": any(s.value(s.base, s.used_sets[-1], "source") != "replay" for s in mains),
        "drawn": any(isinstance(s.value(s.base, s.used_sets[-1], "episodes"), int) for s in mains),
        "key_choices": _choices(report, "deviation", key=True),
        "curves": Markup("\n\n").join(curves.parts),
        "step": Markup("\n\n").join(step.parts),
        "pages": [other for other in report.sheets[1:] if "/" not in other.name],
        "judged": [o for o in report.outcomes if o.interval is not None],
        "seeds": seeds,
        "per_agent": tables.plural(int(seeds.median()), "seed") if len(seeds) else "no seed",
        "ablations": any(study.page == ABLATIONS for study in report.studies.values()),
        "budgets": any(answers.budgets(o) for o in primary),
        "rising": _still_rising(primary),
        "revised": sum(bool(failed(o.later)) for o in report.outcomes),
        "repeated": {made: (frame["same"].sum(), len(frame)) for made, frame in report.repeated.items()},
    }  # fmt: skip


_USE = {
    "agent": "Agent", "steps_per_trajectory": "Steps seen per trajectory",
    "read": "States selected, of those in the batch", "effective_states": "Effective number attended",
    "flips_other": "Actions changed by another batch, %", "flips_removed": "by none, %",
    "learner_step_ms": "ms per update", "learner_step_ratio": "× base agent",
    "parameters_ratio": "Parameters, × base agent",
}  # fmt: skip


_PARTS = {
    "change": "Change", "where": "Where", "effect": "Effect on the score", "of_gain": "Of retrieval's gain, %"
}  # fmt: skip


def _parts(sheet: Sheet, found: Iterable[Effect]) -> dict[str, Any]:
    """The parts of agents that matter, those first that take most of what retrieval adds; and those of which nothing is
    visible."""
    parts = [e for e in found if e.change.kind == "part"]
    visible = sorted((e for e in parts if e.reading in ("costs", "helps")), key=lambda e: -(e.share or 0.0))
    largest: dict[tuple[str, str], Effect] = {}  # of a sweep, and of experiments with one environment
    for e in visible:
        largest.setdefault((e.study.spec.name, e.change.sweep or e.change.what), e)
    units = {e.study.score.unit for e in largest.values()}
    unit = units.pop() if len(units) == 1 else ""
    heads = _PARTS | {"effect": ", ".join(filter(None, [_PARTS["effect"], unit]))}
    rows = [{"change": e.change.what, "where": e.where, "delta": e.interval, "reading": rules.READINGS[e.reading],
             "of_gain": None if e.share is None else -round(100 * e.share),
             "effect": tables.interval(e.interval, signed=True) + ("" if unit else f" {e.study.score.unit}")}
            for e in largest.values()]  # fmt: skip
    frame = pd.DataFrame(rows)
    return {
        "parts": tables.to_markdown(frame, heads, of_gain=partial(tables.number, digits=0, signed=True))
        if rows
        else "",
        "parts_csv": sheet.csv("parts", frame.drop(columns="effect")) if rows else "",
        "no_part": {
            word: what
            for name, word in rules.READINGS.items()
            if name not in ("costs", "helps")
            and (what := list(dict.fromkeys(e.change.what for e in parts if e.reading == name)))
        },
    }


def _still_rising(primary: Iterable[Outcome]) -> str:
    """By how much more, in percent, the agents of each environment's primary claims scored at the last evaluation than
    at the one before, the most of them; empty where none did."""
    most: dict[str, float] = {}
    for o in primary:
        if o.study is None or o.claim.test is None or o.interval is None:
            continue
        for variant in (v for side in o.claim.test.sides() for v in o.study.variants_like(side)):
            curve = o.study.rows(o.study.results.evaluations, variant, o.claim.test.task_set)
            means = curve.groupby("update")["score"].mean().sort_index()
            if len(means) > 1 and means.iloc[-1] > means.iloc[-2] > 0:
                rise = 100 * (means.iloc[-1] / means.iloc[-2] - 1)
                most[o.study.title] = max(rise, most.get(o.study.title, 0.0))
    return ", ".join(f"{title} {rise:.0f}" for title, rise in most.items())


def _use_and_costs(report: Report, mains: Sequence[Study], primary: Sequence[Outcome]) -> pd.DataFrame:
    """How the agents of the primary claims attend, whether they use what they retrieve, and their costs."""
    rows: list[Mapping[str, Any]] = []
    for study in mains:
        tests = [o.claim.test for o in primary if o.interval is not None and o.claim.test is not None]
        last = {test.sides()[0]: test for test in tests if test.experiment == study.name}
        for side, test in last.items():
            variant = study.variant(side)
            found = attention.used_by(study, variant, test.task_set or "") | {
                "agent": f"{study.title}: {variant.label}"
            }
            rows.append(measured_costs.against(report.costs, *test.sides()) | found)
    return pd.DataFrame(rows)


def _appendix(report: Report, sheet: Sheet) -> dict[str, Any]:
    results = report.results
    left, costs = replace(sheet, parts=[], level=3), replace(sheet, parts=[])
    answers.write(left, report.asked_on("appendix"))
    measured_costs.write(costs, report.costs)
    measured_costs.write_history(costs)
    twice = replace(sheet, parts=[])
    repeats.write(twice, report.repeated)
    return {
        "left": Markup("\n\n").join(left.parts),
        "costs": Markup("\n\n").join(costs.parts),
        "twice": Markup("\n\n").join(twice.parts),
        "trials": searches.counts(results.trials),
        "power": answers.power_frame(report.outcomes, results, sheet.rules.level),
        "trials_csv": sheet.csv("trials", searches.frame(results.trials)) if len(results.trials) else "",
        "deviations": _choices(report, "deviation"),
        "open": _choices(report, "open"),
        "making": tables.table(["What", "Value"], provenance.making(results)),
        "compute": provenance.compute(results),
        "runs_csv": sheet.csv("runs", provenance.run_table(results, report.by_other_code)),
        "problems": results.problems[:MOST_PROBLEMS],
        "more_problems": max(0, len(results.problems) - MOST_PROBLEMS),
    }


def _checks(report: Report) -> dict[str, str]:
    """The validity checks that claims of the report name -> what must hold, as their functions say."""
    names = dict.fromkeys(name for o in report.outcomes for name in o.claim.validity)
    names |= dict.fromkeys(r.before for r in report.revised.values())
    return {name: " ".join((load(CHECKS[name]).__doc__ or "").split()) for name in names}


def _render(name: str, report: Report, context: Mapping[str, Any]) -> Markup:
    """A page's template, in which every value is escaped for Markdown and HTML unless it is already Markup."""
    env = Environment(
        loader=PackageLoader("rarl.reporting", "templates"),
        undefined=StrictUndefined,
        finalize=tables.md,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # `finalize` has escaped already; a second time would show the entities
    )
    common = {"tables": tables, "report": report, "judging": report.first.rules, "rules": rules, "answers": answers,
              "POWER": POWER, "runs_line": runs_line(report.results)}  # fmt: skip
    return Markup(env.get_template(f"{name}.md.j2").render(common | dict(context)).strip())


def _choices(report: Report, kind: str, *, key: bool = False) -> Markup:
    rows = provenance.rows_of(report.texts.choices, kind, list(report.studies.values()), key=key)
    heads = ["What", "Paper", "Here", "Why", "Expected effect"][: 3 if key else 5]
    return tables.table(heads, [row[: len(heads)] for row in rows]) if rows else Markup("")


def runs_line(results: Results) -> str:
    """How many runs were planned, are used and are not."""
    planned = results.planned()
    states = Counter(planned["status"])
    rest = [f"{states[name]} {name}" for name in ("failed", "damaged", "excluded", "missing") if states[name]]
    used = f"{int(planned['usable'].sum())} of {tables.plural(len(planned), 'planned run')} used"
    return used + (f" ({', '.join(rest)})" if rest else "")


def _navigation(report: Report) -> list[Any]:
    """Of the site: the pages in order, the variants' below their experiments."""
    entries: list[Any] = [{"Overview" if s.name == "README" else s.title.translate(_TAGS): f"{s.name}.md"}
                          for s in report.sheets if "/" not in s.name]  # fmt: skip
    by_study = [{study.title.translate(_TAGS): [{v.label.translate(_TAGS): f"{variants.page_name(study, v)}.md"}
                                                for v in found]}
                for study in report.studies.values() if (found := variants.own_variants(study))]  # fmt: skip
    return entries + ([{"Variants": by_study}] if by_study else [])
