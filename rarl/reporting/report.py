"""Builds the report of one scale: REPORT.md, figures/, tables/ and the self-contained report.html."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from markupsafe import Markup

from rarl.config.scale import Dataset
from rarl.files import check_folder_writable, write_text
from rarl.reporting import figures, page, provenance, retrieval_use, story, tables, wording
from rarl.reporting.claims import Outcome, Settings, evaluate_claims, load_claims
from rarl.reporting.known_faults import fault_table, read_known_faults
from rarl.reporting.measured_costs import TITLE as COSTS
from rarl.reporting.measured_costs import write as write_costs
from rarl.reporting.results import Results, load_results
from rarl.reporting.sections import Section, load_sections
from rarl.reporting.sheet import Sheet
from rarl.reporting.texts import experiments_of, read_texts

MOST_PROBLEMS = 60  # rows of the table of failures; runs.csv has all
MOST_NAMES = 12  # of a configured list
_MADE = {"figures": (".svg", ".png", ".gif"), "tables": (".csv",)}


def build_report(
    scale: str,
    root: str | Path = ".",
    output: str | Path | None = None,
    planned_runs: Iterable[str] | None = None,
    preview: bool = False,
    planned_datasets: Mapping[str, Dataset] | None = None,
    before_publishing: Callable[[], None] = lambda: None,
) -> Path:
    """Build the report of `scale` from whatever runs there are.

    Args:
      root: the project's folder, with config/claims.yaml, results/ and data/.
      output: folder to write to; default reports/{scale}, or scratch/{scale}/preview for a preview.
      planned_runs: names of all runs that this scale asks for; those without result are named as missing.
      planned_datasets: the scale's datasets by id; manifests of others in their places are told and not used.
      preview: say "preliminary" wherever it matters; for looking at runs that are still being made.
      before_publishing: called before the pages are written; if it raises, they stay as they were.

    Returns:
      The path of report.html.

    Raises:
      RarlError: the claims file is missing or wrong. Runs that are missing, failed or damaged raise nothing.
    """
    root = Path(root)
    output = (
        Path(output)
        if output
        else root / ("scratch" if preview else "reports") / scale / ("preview" if preview else "")
    )
    check_folder_writable(output)
    settings, claims = load_claims(root / "config" / "claims.yaml")
    texts = read_texts()
    results = load_results(scale, root, planned_runs, planned_datasets)
    sections = load_sections()
    outcomes = evaluate_claims(claims, settings, results, sections)
    stamp = "" if settings.scale(scale).results else f"{scale}: not a result"

    told = Sheet(output, results, settings, outcomes, "preliminary" if preview else "")
    _tell(told, sections)
    files: list[Path] = list(told.files)
    shown, number = [], told.figure_number
    for section in map(sections.__getitem__, _with_runs(results, sections)):
        sheet = Sheet(output, results, settings, outcomes, stamp or ("preliminary" if preview else ""), number)
        section.build(sheet)
        files += sheet.files
        number = sheet.figure_number
        shown.append({"title": section.title, "markdown": sheet.markdown()})
    costs = Sheet(output, results, settings, outcomes, stamp or ("preliminary" if preview else ""), number)
    titles = {name: section.title for name, section in sections.items()}
    write_costs(costs, titles, partial(_label, sections), due=not preview)
    files += costs.files
    shown.append({"title": COSTS, "markdown": costs.markdown()})

    front = Sheet(output, results, settings, outcomes)
    context = _context(front, sections, root, preview, texts) | {
        "sections": shown,
        "retrieval_title": retrieval_use.TITLE,
        "retrieval_table": retrieval_use.retrieval_table(results, partial(_label, sections)),
        "sampling_line": retrieval_use.sampling_line(results),
        "story": told.markdown(),
        "story_title": story.TITLE,
    }
    files += front.files
    markdown = page.render_markdown(context)
    before_publishing()
    write_text(output / "REPORT.md", markdown)
    title = f"{'[' + context['mark'] + '] ' if context['mark'] else ''}Retrieval-Augmented RL, replicated: {scale}"
    write_text(output / "report.html", page.to_html(markdown, output, title=title, mark=context["mark"]))
    _remove_stale(output, files)
    return output / "report.html"


def _label(sections: dict[str, Section], experiment: str, variant: str) -> str:
    """What a variant of an experiment is called, by its section or that of the experiment that it extends."""
    own = sections.get(experiment)
    known = {**(sections[own.extends].labels if own.extends in sections else {}), **own.labels} if own else {}
    return known.get(variant, variant)


def _tell(sheet: Sheet, sections: dict[str, Section]) -> None:
    """The part "What matters"; a scale whose numbers are not results has none."""
    results, settings = sheet.results, sheet.settings
    if not settings.scale(results.scale).results:
        return
    effects = [e for name in _with_runs(results, sections) for e in sections[name].effects(results, settings)]
    with figures.style():
        story.write(sheet, effects)


def _remove_stale(output: Path, files: list[Path]) -> None:
    """A figure of an earlier build that this one did not make would show runs that are gone."""
    kept = {path.resolve() for path in files}
    for folder, suffixes in _MADE.items():
        for path in (output / folder).glob("*"):
            if path.suffix in suffixes and path.resolve() not in kept:
                path.unlink()


def _context(
    sheet: Sheet, sections: dict[str, Section], root: Path, preview: bool, texts: dict[str, Any]
) -> dict[str, Any]:
    results, settings, outcomes = sheet.results, sheet.settings, sheet.outcomes
    scale = settings.scale(results.scale)
    mark = (scale.name if not scale.results else "") or ("preliminary" if preview else "")
    scores = {run: score for section in sections.values() for run, score in section.aggregate(results).items()}
    search = read_search(results)
    paper, own = ([o for o in outcomes if o.claim.own is mine] for mine in (False, True))
    problems = results.problems
    return {
        "scale": scale,
        "settings": settings,
        "answer": wording.answer(outcomes, settings, results),
        "mark": mark,
        "warnings": _warnings(results, settings, preview),
        "known_faults": fault_table(read_known_faults(root / "results" / results.scale)),
        "headlines": wording.headlines(outcomes) if scale.results else [],
        "scope": _scope(outcomes),
        "method": _method(results),
        "runs_line": wording.runs_line(results, preview=preview),
        "cost_line": wording.cost_line(results),
        "texts": texts,
        "claim_table": wording.claim_table(paper),
        "question_table": wording.question_table(own),
        "claims_link": Markup("All verdicts with their numbers: {}.").format(
            sheet.csv("claims", wording.claim_frame(outcomes))
        ),
        "protocol": wording.protocol(results, {name: section.title for name, section in sections.items()}),
        "measured": [
            (term, Markup(meaning))
            for name in _with_runs(results, sections) or sections
            for term, meaning in sections[name].protocol(settings)
        ],
        "effort": wording.effort(results),
        "rules_table": Markup("{}\n\n{}").format(wording.rules_table(settings), tables.md(wording.margins(outcomes))),
        "search": search,
        "search_effort": ", ".join(
            f"{name}: {tries}" for name, tries in sorted(Counter(entry["variant"] for entry in search).items())
        ),
        "search_table": tables.table(
            ["Variant", "Changed", "Tasks", "Seed", "Updates", "Return", "Core seconds"], _search_rows(search)
        ),
        "deviation_table": _choices(texts["choices"], "deviation", results, sections),
        "open_table": _choices(texts["choices"], "open", results, sections),
        "making_table": tables.table(["What", "Value"], provenance.making(results)),
        "compute_table": tables.table(provenance.COMPUTE_HEADERS, provenance.compute(results), "lrrrrrrr"),
        "variant_table": tables.table(
            ["Runs of", "Configuration", "Command of the first seed"], provenance.variants(results)
        ),
        "command": f"rarl report --scale {results.scale}",
        "runs_link": Markup("One row per run: {}.").format(sheet.csv("runs", provenance.run_table(results, scores))),
        "run_count_rows": len(results.runs),
        "run_count_table": tables.table(provenance.RUN_COUNT_HEADERS, provenance.run_counts(results), "lrrrrrrr"),
        "problems": problems,
        "problem_table": tables.table(["Where", "What"], problems[:MOST_PROBLEMS]),
        "more_problems": max(0, len(problems) - MOST_PROBLEMS),
        "limitations": _limitations(texts["limitations"], results, settings, outcomes, sections),
    }


def _with_runs(results: Results, sections: dict[str, Section]) -> list[str]:
    """The experiments that this report is about, in the order of the page."""
    return [name for name in sections if (results.runs["experiment"] == name).any()]


def _warnings(results: Results, settings: Settings, preview: bool) -> list[str]:
    lines = []
    if not settings.scale(results.scale).results:
        lines.append(
            f"This is a {results.scale} report: it shows that every part of the workflow runs. Its numbers and "
            f"figures are not results "
            "and must not be quoted."
        )
    if preview:
        lines.append(wording.runs_line(results, preview=True) + " Numbers and verdicts will change.")
    return lines


def _scope(outcomes: list[Outcome]) -> str:
    asked = [o.claim for o in outcomes if o.verdict.outcome != "not tested at this scale"]
    own = sum(claim.own for claim in asked)
    experiments = sorted({claim.experiment for claim in asked if claim.experiment})
    if not asked:
        return "No claim can be judged by this report."
    where = f" ({', '.join(experiments)})" if experiments else ""
    claims, questions = tables.plural(len(asked) - own, "claim"), tables.plural(own, "question")
    return f"{claims} of the paper and {questions} of our own{where}."


def _method(results: Results) -> str:
    planned = results.planned()
    if planned.empty:
        return "No runs."
    agents = tables.plural(planned["variant"].nunique(), "agent or control", "agents and controls")
    sets = tables.plural(planned["task_set"].nunique(), "task set")
    most = int(planned.groupby(["experiment", "task_set", "variant"]).size().max())
    return f"{agents} on {sets}, up to {tables.plural(most, 'seed')} each."


SEARCH_KEYS = ("variant", "task_set", "seed", "changed", "return_by_update", "core_seconds")


def read_search(results: Results) -> list[dict[str, Any]]:
    """The tries recorded in results/search/*.jsonl, in their order; a damaged record is noted as a problem."""
    tries: list[dict[str, Any]] = []
    for path in sorted((results.root / "results" / "search").glob("*.jsonl")):
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            try:
                entry = json.loads(line)
                tries.append({key: entry[key] for key in SEARCH_KEYS} | {"updates": entry["return_by_update"][-1][0]})
            except (ValueError, KeyError, IndexError, TypeError):
                results.problems.append((f"results/search/{path.name}", f"line {number} is not a record of a try"))
    return tries


def _search_rows(tries: list[dict[str, Any]]) -> list[list[str]]:
    return [
        [
            entry["variant"],
            ", ".join(map(str, entry["changed"])) or "none",
            str(entry["task_set"]),
            str(entry["seed"]),
            tables.count(entry["updates"]),
            tables.number(entry["return_by_update"][-1][1], 1),
            tables.number(entry["core_seconds"], 0),
        ]
        for entry in tries
    ]


def _choices(choices: list[dict[str, Any]], kind: str, results: Results, sections: dict[str, Section]) -> Markup:
    """Rows of one kind; those of an experiment without runs are left out, unless no experiment has any."""
    present = _with_runs(results, sections) or list(sections)
    # What is said of all goes for an experiment and those that begin with its settings, whose variants are elsewhere.
    general = [name for name in present if not sections[name].extends] or present
    rows = []
    for entry in choices:
        named = experiments_of(entry)
        concerned = [name for name in present if name in named] if named else general
        if entry["kind"] != kind or not concerned:
            continue
        what, here = entry["what"], entry["here"]
        if len(named) == 1 and len(present) > 1:
            what = f"{sections[named[0]].title}: {what}"
        if "config" in entry:
            values = {name: provenance.configured(results, entry["config"], name) for name in concerned}
            found = [value for of_one in values.values() for value in of_one]
            if found and all(value in entry.get("paper_values", ()) for value in found):
                continue
            here += _in_brackets({sections[name].title: v for name, v in values.items() if v})
        rows.append([what, entry["paper"], here, entry["why"], entry["effect"]])
    return tables.table(["What", "Paper", "Here", "Why", "Expected effect"], rows)


def _in_brackets(values: dict[str, list[Any]]) -> str:
    """Configured values by experiment's title; without the titles where all experiments have the same."""
    texts = {title: ", ".join(map(_value_text, found)) for title, found in values.items()}
    if len(set(texts.values())) > 1:
        return f" ({'; '.join(f'{title}: {text}' for title, text in texts.items())})"
    return f" ({next(iter(texts.values()))})" if texts else ""


def _value_text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) if len(value) <= MOST_NAMES else f"{len(value)} of them"
    return str(value)


def _limitations(
    texts: list[str],
    results: Results,
    settings: Settings,
    outcomes: list[Outcome],
    sections: dict[str, Section],
) -> list[str]:
    lines = []
    untested = sum(o.verdict.outcome.startswith("not tested") for o in outcomes if not o.claim.own)
    if untested:
        lines.append(
            f"{tables.plural(untested, 'claim')} of the paper could not be tested at this scale or with the runs "
            f"there are."
        )
    usable = results.runs[results.runs["usable"]]
    sizes = usable.groupby(["experiment", "task_set", "variant"]).size()
    few = int((sizes < settings.min_seeds).sum())
    if few:
        lines.append(
            f"{few} of {tables.plural(len(sizes), 'variant')} have fewer than {settings.min_seeds} usable seeds."
        )
    divided = results.last["experiment"].isin([name for name, section in sections.items() if section.has_expert])
    unnormalised = results.last["normalised"][divided].isna().sum()
    if unnormalised:
        lines.append(
            f"{tables.plural(int(unnormalised), 'score')} could not be normalised: no return of the expert is known "
            f"for the task."
        )
    return lines + [str(text) for text in texts]
