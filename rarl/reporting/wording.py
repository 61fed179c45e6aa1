"""The report's computed sentences and tables on claims: every number and verdict in them comes from the runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from markupsafe import Markup

from rarl.reporting import tables
from rarl.reporting.claims import WITH_MARGIN, Rules
from rarl.reporting.results import Results
from rarl.reporting.rules import (
    BY_KIND,
    CONTRADICTED,
    EQUIVALENT,
    EXCLUDED,
    FIRST,
    INCONCLUSIVE,
    MEASURED,
    NOT_TESTED,
    SUPPORTED,
    VOID,
    p_columns,
)
from rarl.reporting.searches import Try, spread
from rarl.reporting.statistics import power
from rarl.reporting.verdicts import Outcome, counts

_MARKS = {SUPPORTED: "✓", CONTRADICTED: "✗", EXCLUDED: "✗", EQUIVALENT: "≈", INCONCLUSIVE: "?", VOID: "∅"}
_ANSWERS = {SUPPORTED: "yes", CONTRADICTED: "no, the opposite"}
# kind, or verdict -> the test that decides; else the sign
_DECIDES = {"equivalence": "margin", "no gain": "gain", EQUIVALENT: "margin", EXCLUDED: "size"}


def verdict_text(outcome: Outcome) -> str:
    """Mark, verdict and what it rests on: "✓ supported (above 0; p 0.002, Holm 0.016)"; a question of our own is
    answered with yes or no. What is measured alone has none."""
    claim, said = outcome.claim, outcome.verdict
    word = said.words
    if claim.own:
        word = word.replace(said.outcome, _ANSWERS.get(said.outcome, said.outcome))
        word = word.removesuffix(", the opposite") if claim.kind in WITH_MARGIN else word
    test = _DECIDES.get(claim.kind, _DECIDES.get(said.outcome, "sign"))
    p, adjusted = said.tests.get(test, (math.nan, math.nan))
    found = [said.reason]
    if math.isfinite(p):
        found.append(f"{test}: p {p_text(p)}, Holm {p_text(adjusted)}")
    if said.outcome == INCONCLUSIVE and math.isfinite(said.smallest):
        found.append(f"could have shown {said.smallest:.2g}")
    if said.size and said.outcome not in (SUPPORTED, EXCLUDED):
        found.append(f"the paper's {claim.paper.size:g} is excluded: {said.size}")
    details = "; ".join(filter(None, found))
    if said.outcome == MEASURED:
        return details
    text = f"{_MARKS.get(said.outcome, '')} {word}".strip() + (f" ({details})" if details else "")
    return text + (", preliminary" if outcome.preliminary and outcome.interval is not None else "")


def p_text(p: float) -> str:
    """Two digits that count, down to 0.0001."""
    return "below 0.0001" if p < 1e-4 else f"{p:.{tables.decimals(p, 2)}f}"


def grounds(outcome: Outcome) -> str:
    """Whether it was fixed before the runs, how both sides' settings were searched, what its checks found."""
    if not outcome.due or outcome.interval is None:
        return ""
    checks = {name: "not recorded" if check is None else "holds" if check.passed else "fails"
              for name, check in outcome.checks.items()}  # fmt: skip
    parts = ["pre-specified" if outcome.specified else "exploratory", outcome.search]
    return "; ".join(filter(None, [*parts, *(f"{name}: {found}" for name, found in checks.items())]))


def ours(outcome: Outcome) -> str:
    """Our number with its interval and unit."""
    difference = outcome.samples is None or outcome.samples.design != "single"
    text = tables.interval(outcome.interval, signed=difference)
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
    "grounds": tables.words("grounds", "Grounds"),
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
            "id": claim.id, "own": claim.own, "primary": claim.primary, "kind": claim.kind, "family": claim.family,
            "family_size": o.family, "outcome": o.verdict.outcome, "reason": o.verdict.reason, "estimate": o.interval,
            "seeds": o.interval.seeds if o.interval else None, "unit": claim.unit, "margin": claim.margin or None,
            **p_columns(o.verdict), "smallest_effect": o.verdict.smallest, "paper_size": paper.size,
            "size_excluded": o.verdict.size or None, "pre_specified": o.specified, "search": o.search or None,
            "checks": "; ".join(f"{name}: {check.found if check else 'not recorded'}"
                                for name, check in o.checks.items()) or None,
            "preliminary": o.preliminary, "text": claim.text, "place": claim.place, "number": str(paper.number),
            "detailed": f"{claim.text} {detail}".strip(), "grounds": grounds(o),
            "paper": f"{paper.number}" + (f" (n={paper.n})" if paper.n else ""), "ours": ours(o),
            "verdict": verdict_text(o), "size": size, "why": o.verdict.reason + (f" ({size})" if size else ""),
        })  # fmt: skip
    return pd.DataFrame(rows, columns=list(rows[0]) if rows else [*_COLUMNS, "number"])


def claim_numbers(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """The numbers alone."""
    return claim_frame(outcomes).loc[:, :"number"]


def claim_table(outcomes: Sequence[Outcome]) -> Markup:
    """The paper's claims with its numbers, ours and the verdicts; those not tested in a last table."""
    judged = [o for o in outcomes if o.verdict.outcome != NOT_TESTED]
    found = ["paper", "ours", "seeds", "verdict", "grounds"]
    parts = [
        ("", [o for o in judged if not o.claim.elsewhere], ["id", "text", "place", *found, "size"]),
        ("**Claims that the paper made of another environment, tried here:**",
         [o for o in judged if o.claim.elsewhere], ["id", "detailed", "place", *found]),
        ("**Not tested:**", [o for o in outcomes if o.verdict.outcome == NOT_TESTED],
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
    frame = claim_frame([o for o in outcomes if o.verdict.outcome != NOT_TESTED])
    left = [o.claim.id for o in outcomes if o.verdict.outcome == NOT_TESTED]
    rest = f"\n\nNot tested: {', '.join(left)}." if left else ""
    shown = tables.to_markdown(frame, [*columns, *(_COLUMNS[name] for name in ("seeds", "verdict", "grounds"))])
    return shown + Markup(rest)


_WHOSE = {  # key of `counts` -> (noun, the rest)
    "paper": ("claim", "of the paper"),
    "elsewhere": ("claim", "that it made of another environment"),
    "own": ("question", "of our own"),
}


def answer(outcomes: list[Outcome], rules: Rules, results: Results) -> str:
    """One line: how many of the paper's claims came out how."""
    if not rules.scale(results.scale).results or not outcomes:
        return "No claim is judged by it."
    if not results.runs["usable"].any():
        return "No run has finished yet, so no claim is judged."
    return " ".join(
        f"Of {_number_of(whose, found)}: " + ", ".join(f"{n} {verdict}" for verdict, n in found.items()) + "."
        for whose, found in counts(outcomes).items() if whose != "own" and found
    )  # fmt: skip


def _number_of(whose: str, found: Mapping[str, int]) -> str:
    noun, rest = _WHOSE[whose]
    return f"{tables.plural(sum(found.values()), noun)} {rest}"


def scope(outcomes: list[Outcome]) -> str:
    """How many claims and questions there are, and how many of them are not tested."""
    return "; ".join(
        f"{_number_of(whose, found)}, {found.get(NOT_TESTED, 0)} of them not tested"
        for whose, found in counts(outcomes).items() if found
    )  # fmt: skip


def headlines(outcomes: list[Outcome]) -> list[str]:
    """A line for each primary claim that has a number."""
    return [f"{o.claim.id}. {o.claim.text} {ours(o)}: {verdict_text(o)}." for o in outcomes
            if o.claim.primary and tables.interval(o.interval) != tables.NONE]  # fmt: skip


def rules_table() -> Markup:
    """The rules of verdicts, in their order."""
    rows = [["any", verdict, rule] for verdict, rule in FIRST]
    rows += [[f"“{says}”", verdict, rule] for says, kind in BY_KIND.values() for verdict, rule in kind]
    return tables.table(["Claim", "Verdict", "Rule"], [*rows, ["any", INCONCLUSIVE, "no rule above decides"]])


def power_table(outcomes: Sequence[Outcome], tries: Sequence[Try], results: Results, rules: Rules) -> Markup:
    """The chance to see the paper's effect (the margin, where it printed none), and half of it."""
    rows = []
    for o in outcomes:
        if (
            not o.due
            or o.claim.kind != "superiority"
            or not (o.claim.primary or o.claim.paper.size)
            or not o.claim.test
        ):
            continue
        sd, source = spread(tries, o.claim.test.sides(), results), "tuning seeds"
        if math.isnan(sd) and o.samples is not None:
            pairs = 2 if o.samples.design == "independent" else 1
            error, n = o.samples.estimate.error, min(o.samples.estimate.n)
            sd, source = error * math.sqrt(n / pairs), "these runs"
        effect = abs(o.claim.paper.size or o.claim.margin)
        if sd > 0:
            design = "independent" if o.samples is None or o.samples.design == "independent" else "paired"
            chances = [100 * power(design, sd, n, share * effect, max(o.family, 1), rules.level)
                       for n in (5, 10) for share in (1, 0.5)]  # fmt: skip
            what = f"{effect:g}" + ("" if o.claim.paper.size else " (the margin)")
            rows.append([o.claim.id, o.family, f"{sd:.2g} ({source})", what, *(tables.number(c, 0) for c in chances)])
    heads = ["Claim", "Family", "Deviation between seeds", "Effect", "n = 5, %", "half, %", "n = 10, %", "half, %"]
    return tables.table(heads, rows, "lrlrrrrr") if rows else Markup("")


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
