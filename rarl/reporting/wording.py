"""The report's computed sentences and tables on claims: every number and verdict in them comes from the runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from markupsafe import Markup

from rarl.reporting import tables
from rarl.reporting.claims import WITH_MARGIN, Rules
from rarl.reporting.results import Results
from rarl.reporting.verdicts import NOT_HERE, Outcome

_MARKS = {"supported": "✓", "contradicted": "✗", "inconclusive": "?", "estimated": "="}
_ANSWERS = {"supported": "yes", "contradicted": "no, the opposite"}


def verdict_text(outcome: Outcome) -> str:
    """Mark, verdict and reason: "✓ supported (interval above 0)"; a question of our own is answered with yes or no."""
    said = outcome.verdict
    word = _ANSWERS.get(said.outcome, said.outcome) if outcome.claim.own else said.outcome
    if outcome.claim.own and outcome.claim.kind in WITH_MARGIN:
        word = word.removesuffix(", the opposite")
    text = f"{_MARKS.get(said.outcome, '')} {word}".strip()
    text += f" ({said.reason})" if said.reason else ""
    return text + (", preliminary" if outcome.preliminary and outcome.interval is not None else "")


def ours(outcome: Outcome) -> str:
    """Our number with its interval and unit."""
    difference = outcome.samples is None or outcome.samples.design != "single"
    text = tables.interval(outcome.interval, outcome.claim.digits, signed=difference)
    return f"{text} {outcome.claim.unit}" if text != tables.NONE and outcome.claim.unit else text


def scale_text(outcome: Outcome) -> str:
    """Ours against the paper's size: "episodes per task: 4,000 of 100,000 (×0.040)"."""
    parts = []
    for quantity, paper in outcome.claim.paper.scale.items():
        mine = outcome.ours_scale.get(quantity)
        if mine is not None and paper:
            parts.append(f"{quantity}: {tables.count(mine)} of {tables.count(paper)} (×{mine / paper:.2g})")
    return "; ".join(parts)


_COLUMNS = {
    "id": tables.words("id", "Id", tables.unbroken),
    "text": tables.words("text", "Claim"),
    "detailed": tables.words("detailed", "Claim"),
    "place": tables.words("place", "Place"),
    "paper": tables.words("paper", "Paper"),
    "ours": tables.words("ours", "Ours"),
    "seeds": tables.words("seeds", "Seeds", tables.unbroken),
    "verdict": tables.words("verdict", "Verdict"),
    "size": tables.words("size", "Scale of ours"),
    "why": tables.words("why", "Why not"),
}


def claim_frame(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """One row per claim and question: as numbers for tables/claims.csv, then in words for the page."""
    rows: list[dict[str, Any]] = []
    for o in outcomes:
        claim, paper, size = o.claim, o.claim.paper, scale_text(o)
        detail = o.samples.detail if o.samples is not None else ""
        rows.append({
            "id": claim.id, "own": claim.own, "outcome": o.verdict.outcome, "reason": o.verdict.reason,
            "estimate": o.interval, "seeds": o.interval.seeds if o.interval else None, "unit": claim.unit,
            "margin": claim.margin or None, "preliminary": o.preliminary, "text": claim.text, "place": claim.place,
            "number": str(paper.number), "detailed": f"{claim.text} {detail}".strip(),
            "paper": f"{paper.number}" + (f" (n={paper.n})" if paper.n else ""), "ours": ours(o),
            "verdict": verdict_text(o), "size": size, "why": o.verdict.reason + (f" ({size})" if size else ""),
        })  # fmt: skip
    return pd.DataFrame(rows, columns=list(rows[0]) if rows else [*_COLUMNS, "number"])


def claim_numbers(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """The numbers alone."""
    return claim_frame(outcomes).loc[:, :"number"]


def claim_table(outcomes: Sequence[Outcome]) -> Markup:
    """The paper's claims with its numbers, ours and the verdicts; those not tested at this scale in a last table."""
    judged = [o for o in outcomes if o.verdict.outcome != NOT_HERE]
    found = ["paper", "ours", "seeds", "verdict"]
    parts = [
        ("", [o for o in judged if not o.claim.elsewhere], ["id", "text", "place", *found, "size"]),
        ("**Claims that the paper made of another environment, tried here:**",
         [o for o in judged if o.claim.elsewhere], ["id", "detailed", "place", *found]),
        ("**Not tested at this scale:**", [o for o in outcomes if o.verdict.outcome == NOT_HERE],
         ["id", "text", "place", "paper", "why"]),
    ]  # fmt: skip
    shown = []
    for title, members, names in parts:
        if members:
            shown += [Markup(title)] if title else []
            shown.append(tables.to_markdown(claim_frame(members), [_COLUMNS[name] for name in names]))
    return Markup("\n\n").join(shown)


def question_table(outcomes: Sequence[Outcome]) -> Markup:
    """Our own questions; the detail of a measure stands below the question."""
    columns = [_COLUMNS["id"], _COLUMNS["detailed"]._replace(head="Question"), _COLUMNS["ours"]._replace(head="Answer")]
    return tables.to_markdown(claim_frame(outcomes), [*columns, _COLUMNS["seeds"], _COLUMNS["verdict"]])


def answer(outcomes: list[Outcome], rules: Rules, results: Results) -> str:
    """One line: how many of the paper's claims came out how."""
    if not rules.scale(results.scale).results or not outcomes:
        return "No claim is judged by it."
    if not results.runs["usable"].any():
        return "No run has finished yet, so no claim is judged."
    of_paper = [o for o in outcomes if not o.claim.own]
    here, elsewhere = ([o for o in of_paper if o.claim.elsewhere is other] for other in (False, True))
    sentence = f"Of {tables.plural(len(here), 'claim')} of the paper: {_outcome_counts(here)}."
    tried = [o for o in elsewhere if o.verdict.outcome != NOT_HERE]
    if tried:
        sentence += (
            f" Of {tables.plural(len(tried), 'claim')} that it made of another environment: {_outcome_counts(tried)}."
        )
    return sentence


def _outcome_counts(outcomes: list[Outcome]) -> str:
    """How many claims have which verdict, in a fixed order, zeros left out."""
    order = ("supported", "contradicted", "inconclusive", "estimated", "not tested", NOT_HERE)
    numbers = {name: sum(o.verdict.outcome == name for o in outcomes) for name in order}
    return ", ".join(f"{n} {name}" for name, n in numbers.items() if n)


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
    head = f"{'Preliminary: ' if preview else ''}{used} of {tables.plural(len(planned), 'planned run')} used"
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


def protocol(results: Results) -> Markup:
    """A table of experiments: episodes per evaluation and task, evaluations of a run, learner updates."""
    last = results.last.groupby("experiment", sort=False)
    points = results.evaluations.groupby(["experiment", "run"], sort=False)["update"].nunique()
    shown = pd.DataFrame({
        "episodes": last["episodes"].agg(_range), "points": points.groupby("experiment", sort=False).agg(_range),
        "updates": last["update"].agg(_range),
    })  # fmt: skip
    shown["title"] = list(map(results.title, shown.index))
    columns = [
        tables.words("title", "Experiment"),
        tables.words("episodes", "Episodes per task and evaluation"),
        tables.words("points", "Evaluations"),
        tables.words("updates", "Learner updates"),
    ]
    return tables.to_markdown(shown, columns)


def _range(values: pd.Series) -> str:
    """ "24", or "20 to 24"."""
    return " to ".join(dict.fromkeys(tables.count(value) for value in (values.min(), values.max())))
