"""The report's computed sentences and tables on claims: every number and verdict in them comes from the runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from markupsafe import Markup

from rarl.reporting import figures, tables
from rarl.reporting.claims import Outcome, Settings, counts
from rarl.reporting.results import Results
from rarl.reporting.statistics import WITH_MARGIN

MARKS = {"supported": "✓", "contradicted": "✗", "inconclusive": "?", "estimated": "="}


_ANSWERS = {"supported": "yes", "contradicted": "no, the opposite"}


def verdict_text(outcome: Outcome) -> str:
    """Mark, verdict and reason: "✓ supported (interval above 0)"; a question of our own is answered with yes or no."""
    said = outcome.verdict
    word = _ANSWERS.get(said.outcome, said.outcome) if outcome.claim.own else said.outcome
    if outcome.claim.own and outcome.claim.kind in WITH_MARGIN:
        word = word.removesuffix(", the opposite")
    text = f"{MARKS.get(said.outcome, '')} {word}".strip()
    text += f" ({said.reason})" if said.reason else ""
    return text + (", preliminary" if outcome.preliminary and outcome.interval is not None else "")


def _is_difference(outcome: Outcome) -> bool:
    return outcome.samples is None or outcome.samples.design != "single"


def ours(outcome: Outcome, *, unit: bool = True) -> str:
    """Our number with its interval and unit."""
    text = tables.interval(outcome.interval, outcome.claim.digits, signed=_is_difference(outcome))
    return f"{text} {outcome.claim.unit}" if unit and text != tables.NONE and outcome.claim.unit else text


def scale_text(outcome: Outcome) -> str:
    """Ours against the paper's size: "episodes per task: 4,000 of 100,000 (×0.040)"."""
    parts = []
    for quantity, paper in outcome.claim.paper_scale.items():
        mine = outcome.ours_scale.get(quantity)
        if mine is not None and paper:
            parts.append(f"{quantity}: {tables.count(mine)} of {tables.count(paper)} (×{mine / paper:.2g})")
    return "; ".join(parts)


def _why_not(outcome: Outcome) -> str:
    """Why a claim was not tested, with the size of what there is."""
    size = scale_text(outcome)
    return outcome.verdict.reason + (f" ({size})" if size else "")


def _paper(outcome: Outcome) -> str:
    return outcome.claim.number + (f" (n={outcome.claim.n})" if outcome.claim.n else "")


def _seeds(outcome: Outcome) -> str:
    return tables.seeds(outcome.interval.n) if outcome.interval else tables.NONE


def claim_table(outcomes: list[Outcome]) -> Markup:
    """The paper's claims with its numbers, ours and the verdicts; those not tested at this scale in a last table."""
    judged = [o for o in outcomes if o.verdict.outcome != "not tested at this scale"]
    others = [o for o in outcomes if o.verdict.outcome == "not tested at this scale"]
    parts = []
    if here := [o for o in judged if not o.claim.elsewhere]:
        rows = [
            [tables.unbroken(o.claim.id), o.claim.text, o.claim.place, _paper(o), ours(o), _seeds(o),
             verdict_text(o), scale_text(o)]
            for o in here
        ]  # fmt: skip
        parts.append(tables.table(["Id", "Claim", "Place", "Paper", "Ours", "Seeds", "Verdict", "Scale of ours"], rows))
    if elsewhere := [o for o in judged if o.claim.elsewhere]:
        rows = [
            [
                tables.unbroken(o.claim.id),
                _with_detail(o),
                o.claim.place,
                _paper(o),
                ours(o),
                _seeds(o),
                verdict_text(o),
            ]
            for o in elsewhere
        ]
        parts.append(Markup("**Claims that the paper made of another environment, tried here:**"))
        parts.append(tables.table(["Id", "Claim", "Place", "Paper", "Ours", "Seeds", "Verdict"], rows))
    if others:
        rows = [
            [tables.unbroken(o.claim.id), o.claim.text, tables.unbroken(o.claim.place), _paper(o), _why_not(o)]
            for o in others
        ]
        parts.append(Markup("**Not tested at this scale:**"))
        parts.append(tables.table(["Id", "Claim", "Place", "Paper", "Why not"], rows))
    return Markup("\n\n").join(parts)


def question_table(outcomes: list[Outcome]) -> Markup:
    """Our own questions; the detail of a measure stands below the question."""
    rows = [[tables.unbroken(o.claim.id), _with_detail(o), ours(o), _seeds(o), verdict_text(o)] for o in outcomes]
    return tables.table(["Id", "Question", "Answer", "Seeds", "Verdict"], rows)


def _with_detail(outcome: Outcome) -> str:
    """The claim's text, and what its measure adds to it."""
    detail = outcome.samples.detail if outcome.samples is not None else ""
    return f"{outcome.claim.text} {detail}".strip()


def claim_frame(outcomes: list[Outcome]) -> pd.DataFrame:
    """One row per claim and question, for tables/claims.csv."""
    columns = [
        "id",
        "own",
        "outcome",
        "reason",
        "estimate",
        "low",
        "high",
        "seeds",
        "unit",
        "margin",
        "preliminary",
        "text",
        "place",
        "paper",
    ]
    rows: list[dict[str, Any]] = []
    for o in outcomes:
        row = {
            "id": o.claim.id,
            "own": o.claim.own,
            "outcome": o.verdict.outcome,
            "reason": o.verdict.reason,
            "unit": o.claim.unit,
        }
        row |= {
            "margin": o.claim.margin or None,
            "preliminary": o.preliminary,
            "text": o.claim.text,
            "place": o.claim.place,
        }
        row["paper"] = o.claim.number
        if o.interval:
            row |= {"estimate": o.interval.estimate, "low": o.interval.low, "high": o.interval.high}
            row["seeds"] = " v ".join(map(str, o.interval.n))
        rows.append(row)
    return pd.DataFrame(rows, columns=columns)


def answer(outcomes: list[Outcome], settings: Settings, results: Results) -> str:
    """One line: how many of the paper's claims came out how."""
    if not settings.scale(results.scale).results:
        return "No claim is judged by it."
    if not results.runs["usable"].any():
        return "No run has finished yet, so no claim is judged."
    of_paper = [o for o in outcomes if not o.claim.own]
    here, elsewhere = ([o for o in of_paper if o.claim.elsewhere is other] for other in (False, True))
    sentence = f"Of {tables.plural(len(here), 'claim')} of the paper: {_outcome_counts(here)}."
    tried = [o for o in elsewhere if o.verdict.outcome != "not tested at this scale"]
    if tried:
        sentence += (
            f" Of {tables.plural(len(tried), 'claim')} that it made of another environment: {_outcome_counts(tried)}."
        )
    return sentence


def _outcome_counts(outcomes: list[Outcome]) -> str:
    return ", ".join(f"{n} {name}" for name, n in counts(outcomes).items())


def headlines(outcomes: list[Outcome]) -> list[str]:
    """A line for each claim that claims.yaml marks as a headline and that has a number."""
    lines = []
    for outcome in outcomes:
        if outcome.claim.headline and outcome.interval is not None and tables.interval(outcome.interval) != tables.NONE:
            size = outcome.verdict.outcome == "estimated"
            lines.append(
                f"{outcome.claim.id}. {outcome.claim.text} {ours(outcome)}"
                + ("." if size else f": {verdict_text(outcome)}.")
            )
    return lines


def runs_line(results: Results, *, preview: bool) -> str:
    """How many runs were planned, are used and are not."""
    planned = results.planned()
    used = int(planned["usable"].sum())
    states = planned["status"].value_counts()
    rest = [f"{states[name]} {name}" for name in ("failed", "damaged", "excluded", "missing") if states.get(name)]
    head = (
        f"Preliminary: {used} of {tables.plural(len(planned), 'run')}"
        if preview
        else f"{used} of {tables.plural(len(planned), 'planned run')} used"
    )
    extra = int((results.runs["status"] == "not planned").sum())
    tail = f" {tables.plural(extra, 'more run')} found that the plan does not hold; left out." if extra else ""
    return head + (f" ({', '.join(rest)})" if rest else "") + "." + tail


def cost_line(results: Results) -> str:
    """Total wall time of all runs that were made, failed ones included, and the largest run."""
    made = results.runs[results.runs["status"].isin(["finished", "failed", "excluded"])]
    if not made["seconds_total"].notna().any():
        return "Not recorded."
    longest, total = (tables.duration(value) for value in (made["seconds_total"].max(), made["seconds_total"].sum()))
    return f"{total} of wall time in {tables.plural(len(made), 'run')}; the longest took {longest}."


def protocol(results: Results, titles: Mapping[str, str]) -> str:
    """Episodes per evaluation and task, and at how many points, read from the evaluations.

    Args:
      titles: experiment -> its title; with several experiments there is a sentence for each.
    """
    evaluations = results.evaluations
    if evaluations.empty:
        return "No evaluation yet."
    several = evaluations["experiment"].nunique() > 1
    sentences = []
    for experiment in figures.in_order(titles, evaluations["experiment"]):
        frame, last = (results.select(rows, experiment) for rows in (evaluations, results.last))
        episodes = sorted({int(n) for n in last["episodes"].dropna()})
        points = sorted({int(n) for n in frame.groupby("run")["update"].nunique()})
        updates = sorted({int(n) for n in last["update"]})
        sentences.append(
            (f"{titles.get(experiment, experiment)}: " if several else "")
            + f"{_range(episodes)} episodes per task and evaluation, at {_range(points)} points of training (before "
            f"the first update included); the last one after {_range(updates)} learner updates."
        )
    return " ".join(sentences) + " The exploration rate is in the configuration of each run."


def effort(results: Results) -> str:
    """Whether the agents of a task set were trained for the same number of updates."""
    usable = results.runs[results.runs["usable"]]
    spread = usable.groupby(["experiment", "task_set"])["updates"].nunique()
    uneven = [f"{experiment}/{task_set}" for (experiment, task_set), n in spread.items() if n > 1]
    if uneven:
        return f"The number of learner updates differs between runs of {', '.join(uneven)}: read comparisons with care."
    return "Within each task set all runs used have the same number of learner updates."


def _range(values: list[int]) -> str:
    if not values:
        return "an unknown number of"
    low, high = tables.count(values[0]), tables.count(values[-1])
    return low if low == high else f"{low} to {high}"


def rules_table(settings: Settings) -> Markup:
    """The rules of judgement, with the numbers that apply."""
    least = tables.plural(settings.min_seeds, "seed")
    rows = [
        ["“better” (difference, paper's side positive)", "interval above 0", "interval below 0"],
        ["“no difference”", "interval inside ± margin", "interval outside ± margin"],
        ["“no better”", "interval below +margin", "interval above +margin"],
        ["a size (no direction claimed)", "never; the number is given (“estimated”)", "never"],
        ["a count (the same for every seed)", "never; the number is given, from one seed on", "never"],
    ]
    table = tables.table(["Claim", "supported", "contradicted"], rows)
    note = tables.md(
        f"Anything else is inconclusive, and so is everything but counts with fewer than {least} in any group. No "
        "usable run: not tested. A scale that "
        "cannot judge the claim: not tested at this scale. Many claims are judged at once and the intervals are not "
        "corrected for that."
    )
    return Markup("{}\n\n{}").format(table, note)


def margins(outcomes: list[Outcome]) -> str:
    """Which margin each claim that needs one has."""
    signs = {"equivalence": "±", "no gain": "+"}
    parts = [
        f"{o.claim.id} {signs[o.claim.kind]}{o.claim.margin:g} {o.claim.unit}".strip()
        for o in outcomes
        if o.claim.kind in signs and o.claim.test
    ]
    return f"Margins: {'; '.join(parts)}." if parts else ""
