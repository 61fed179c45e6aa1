"""Builds the report of one scale: REPORT.md, figures/, tables/ and the self-contained report.html."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from rarl.config.scale import Dataset
from rarl.envs.spec import load
from rarl.files import check_folder_writable, write_text
from rarl.reporting import (
    effects,
    figures,
    page,
    provenance,
    retrieval_use,
    searches,
    story,
    tables,
    wording,
)
from rarl.reporting import (
    rules as judging,
)
from rarl.reporting.choices import experiments_of, read_texts
from rarl.reporting.claims import load_claims
from rarl.reporting.known_faults import read_known_faults
from rarl.reporting.measured_costs import TITLE as COSTS
from rarl.reporting.measured_costs import write as write_costs
from rarl.reporting.registry import PARTS
from rarl.reporting.results import Results, load_results
from rarl.reporting.rules import Judged
from rarl.reporting.sheet import Sheet
from rarl.reporting.statistics import POWER
from rarl.reporting.study import Study, load_studies
from rarl.reporting.verdicts import Outcome, evaluate_claims

MOST_PROBLEMS = 60  # rows of the table of failures; runs.csv has all
MOST_NAMES = 12  # of a configured list
_MADE = {"figures": (".svg", ".png", ".webp", ".gif"), "tables": (".csv",)}


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
    """Build the report of `scale` from whatever runs there are.

    Args:
      root: the project's folder, with config/claims.yaml, results/ and data/.
      output: folder to write to; default reports/{scale}, or scratch/{scale}/preview for a preview.
      planned_runs: names of all runs that this scale asks for; those without result are named as missing.
      planned_datasets: the scale's datasets by id; manifests of others in their places are told and not used.
      preview: say "preliminary" wherever it matters; for looking at runs that are still being made.
      before_publishing: called before the pages are written; if it raises, they stay as they were.
      order: of the experiments; None: as their runs come.

    Returns:
      The path of report.html.

    Raises:
      RarlError: the claims file is missing or wrong. Runs that are missing, failed or damaged raise nothing.
    """
    root = Path(root)
    usual = root / "scratch" / scale / "preview" if preview else root / "reports" / scale
    output = Path(output) if output else usual
    check_folder_writable(output)
    rules, claims = load_claims(root / "config" / "claims.yaml")
    texts = read_texts()
    results = load_results(scale, root, planned_runs, planned_datasets)
    studies = load_studies(results, list(dict.fromkeys(results.runs["experiment"])) if order is None else order)
    own = set(results.runs["experiment"]).isdisjoint(e for claim in claims if claim.test for e, _ in claim.test.sides())
    judged, tries = Judged(rules), searches.read_tries(results)
    # Of others' experiments none is about.
    outcomes = evaluate_claims([] if own else claims, rules, results, studies, judged, tries)
    preliminary = "preliminary" if preview else ""
    stamp = preliminary if rules.scale(scale).results else f"{scale}: not a result"

    told = Sheet(output, results, rules, judged, preliminary)
    shown = [study for name, study in studies.items() if (results.runs["experiment"] == name).any()]
    with figures.style():
        found = [e for study in shown for e in effects.judge(study, judged)] if rules.scale(scale).results else []
        story.write(told, found)
        sheets, number = [], told.figure_number
        for study in shown:
            sheets.append(Sheet(output, results, rules, judged, stamp, number, study.title))
            _write_section(sheets[-1], study)
            number = sheets[-1].figure_number
        sheets.append(Sheet(output, results, rules, judged, stamp, number, COSTS))
        write_costs(sheets[-1], due=not preview)

    front = Sheet(output, results, rules, judged)
    context = _context(front, shown or list(studies.values()), outcomes, root, preview, texts, tries) | {
        "sections": [{"title": sheet.title, "markdown": sheet.markdown()} for sheet in sheets],
        "retrieval_table": retrieval_use.retrieval_table(results),
        "sampling_line": retrieval_use.sampling_line(results),
        "story": told.markdown(),
        "told": story.numbers(found),
    }
    markdown = page.render_markdown(context)
    before_publishing()
    write_text(output / "REPORT.md", markdown)
    title = f"{'[' + context['mark'] + '] ' if context['mark'] else ''}Retrieval-Augmented RL, replicated: {scale}"
    write_text(output / "report.html", page.to_html(markdown, output, title=title, mark=context["mark"]))
    _remove_stale(output, [path for sheet in (told, front, *sheets) for path in sheet.files])
    return output / "report.html"


def _write_section(sheet: Sheet, study: Study) -> None:
    """A study's parts; with no usable run it says so and stops."""
    if not study.used_sets:
        sheet.text("No usable run yet: nothing to show.")
        return
    for part in study.parts:
        load(PARTS[part])(study, sheet)


def _remove_stale(output: Path, files: list[Path]) -> None:
    """A figure of an earlier build that this one did not make would show runs that are gone."""
    kept = {path.resolve() for path in files}
    for folder, suffixes in _MADE.items():
        for path in (output / folder).glob("*"):
            if path.suffix in suffixes and path.resolve() not in kept:
                path.unlink()


def _context(
    sheet: Sheet,
    studies: Sequence[Study],
    outcomes: list[Outcome],
    root: Path,
    preview: bool,
    texts: dict[str, Any],
    search: Sequence[searches.Try],
) -> dict[str, Any]:
    results, rules = sheet.results, sheet.rules
    scale = rules.scale(results.scale)
    mark = (results.scale if not scale.results else "") or ("preliminary" if preview else "")
    scores = results.last.groupby("run")["score"].agg(lambda x: float(x.mean(skipna=False))).to_dict()
    paper, own = ([o for o in outcomes if o.claim.own is mine] for mine in (False, True))
    problems = results.problems
    return {
        "scale_name": results.scale,
        "scale": scale,
        "rules": rules,
        "answer": wording.answer(outcomes, rules, results),
        "mark": mark,
        "preview": preview,
        "known_faults": read_known_faults(root / "results" / results.scale),
        "headlines": wording.headlines(outcomes) if scale.results else [],
        "scope": wording.scope(outcomes),
        "rules_table": wording.rules_table(),
        "power_table": wording.power_table(outcomes, search, results, rules),
        "judging": judging,
        "judging_power": POWER,
        "planned": results.planned(),
        "runs_line": wording.runs_line(results, preview=preview),
        "cost_line": wording.cost_line(results),
        "texts": texts,
        "claim_table": wording.claim_table(paper),
        "question_table": wording.question_table(own),
        "claims_link": Markup("All verdicts with their numbers: {}.").format(
            sheet.csv("claims", wording.claim_numbers(outcomes))
        ),
        "protocol": wording.protocol(results),
        "measured": _meanings(studies),
        "search": search,
        "search_effort": ", ".join(
            f"{name}: {tries}" for name, tries in sorted(Counter(entry.variant for entry in search).items())
        ),
        "search_table": searches.table(search),
        "deviation_table": _choices(texts["choices"], "deviation", results, studies),
        "open_table": _choices(texts["choices"], "open", results, studies),
        "making_table": tables.table(["What", "Value"], provenance.making(results)),
        "compute_table": provenance.compute(results),
        "variant_table": provenance.variants(results),
        "command": f"rarl report --scale {results.scale}",
        "runs_link": Markup("One row per run: {}.").format(sheet.csv("runs", provenance.run_table(results, scores))),
        "run_count_table": provenance.run_counts(results),
        "problems": problems,
        "problem_table": tables.table(["Where", "What"], problems[:MOST_PROBLEMS]),
        "more_problems": max(0, len(problems) - MOST_PROBLEMS),
        "untested": sum(o.verdict.outcome == judging.NOT_TESTED for o in paper),
        "unchecked": sum(None in o.checks.values() for o in outcomes),
        "exploratory": sum(o.interval is not None and not o.specified for o in outcomes),
        "seeds_of_variants": results.runs[results.runs["usable"]].groupby(["experiment", "task_set", "variant"]).size(),
        "unnormalised": int(results.last["score"].isna().sum()),
    }


def _meanings(studies: Sequence[Study]) -> list[tuple[str, str]]:
    """(what, its meaning) of the score of each environment."""
    found = {f"{study.score.label.capitalize()} ({study.spec.title}).": study.score.meaning for study in studies}
    return [(what, meaning) for what, meaning in found.items() if meaning]


def _choices(choices: list[dict[str, Any]], kind: str, results: Results, studies: Sequence[Study]) -> Markup:
    """Rows of one kind; those of an experiment that is not among the studies are left out."""
    # What is said of all goes for an experiment and those that begin with its settings, whose variants are elsewhere.
    general = [study for study in studies if not study.settings.extends] or studies
    rows = []
    for entry in choices:
        named = experiments_of(entry)
        concerned = [study for study in studies if study.name in named] if named else general
        if entry["kind"] != kind or not concerned:
            continue
        what, here = entry["what"], entry["here"]
        if len(named) == 1 and len(studies) > 1:
            what = f"{concerned[0].title}: {what}"
        if "config" in entry:
            values = {study.title: provenance.configured(results, entry["config"], study.name) for study in concerned}
            found = [value for of_one in values.values() for value in of_one]
            if found and all(value in entry.get("paper_values", ()) for value in found):
                continue
            here += _in_brackets(values)
        rows.append([what, entry["paper"], here, entry["why"], entry["effect"]])
    return tables.table(["What", "Paper", "Here", "Why", "Expected effect"], rows)


def _in_brackets(values: dict[str, list[Any]]) -> str:
    """Configured values by experiment's title; without the titles where all experiments have the same."""
    texts = {title: ", ".join(map(_value_text, found)) for title, found in values.items() if found}
    if len(set(texts.values())) > 1:
        return f" ({'; '.join(f'{title}: {text}' for title, text in texts.items())})"
    return f" ({next(iter(texts.values()))})" if texts else ""


def _value_text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) if len(value) <= MOST_NAMES else f"{len(value)} of them"
    return str(value)
