"""Claims and their answers as tables: every number and verdict in them comes from the runs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

import pandas as pd
from markupsafe import Markup

from rarl.errors import required
from rarl.reporting import rules, searches, tables
from rarl.reporting.checks import Check, failed
from rarl.reporting.choices import Erratum
from rarl.reporting.claims import WITH_MARGIN, Rules
from rarl.reporting.results import Results
from rarl.reporting.sheet import TABLE, Sheet
from rarl.reporting.statistics import power
from rarl.reporting.study import Study
from rarl.reporting.verdicts import Outcome, counts

_MARKS = {
    rules.SUPPORTED: "✓", rules.CONTRADICTED: "✗", rules.EXCLUDED: "✗", rules.EQUIVALENT: "≈",
    rules.INCONCLUSIVE: "?", rules.VOID: "∅",
}  # fmt: skip
_ANSWERS = {rules.SUPPORTED: "yes", rules.CONTRADICTED: "no, the opposite"}
# validity check -> why an answer means nothing if it fails
_FAILED = {
    "learned": "no agent is sure to have learned", "both-learned": "one agent is not sure to have learned",
    "each-learned": "one agent is not sure to have learned",
    "reads": "retrieval not shown to be used",
    "attends": "attention does not ask for the level", "control": "the probe's control failed",
    "finds": "nothing relevant is found",
}  # fmt: skip
_FAILED_SURELY = {"reads": "retrieval unused"}
EXPLORATORY, LATER = "exploratory", " †"  # a check that was changed after the runs
LESS_LIKELY = " (Less likely reading of the paper, not counted.)"
# kind, or verdict -> the test that decides; else the sign
_DECIDES = {"equivalence": "margin", "no gain": "gain", rules.EQUIVALENT: "margin", rules.EXCLUDED: "size"}


def verdict(outcome: Outcome) -> str:
    """Mark and verdict, as short as a cell: "✓ supported"; a question of our own is answered with yes or no."""
    claim, said = outcome.claim, outcome.verdict
    word = said.words
    if claim.own:
        word = word.replace(said.outcome, _ANSWERS.get(said.outcome, said.outcome))
        word = word.removesuffix(", the opposite") if claim.kind in WITH_MARGIN else word
    text = f"{_MARKS.get(said.outcome, '')} {word}".strip()
    return text + (", preliminary" if outcome.preliminary and outcome.interval is not None else "")


def because(outcome: Outcome) -> str:
    """What the verdict rests on: the test that decided, with p before and after Holm's correction; and the least change
    of the estimate that would change it."""
    claim, said = outcome.claim, outcome.verdict
    test = _DECIDES.get(claim.kind, _DECIDES.get(said.outcome, "sign"))
    p, adjusted = said.tests.get(test, (math.nan, math.nan))
    found = [said.reason]
    if math.isfinite(p):
        found.append(f"{test}: p {p_text(p)}, Holm {p_text(adjusted)}")
    if said.outcome == rules.INCONCLUSIVE and math.isfinite(said.smallest):
        found.append(f"80 % power at {said.smallest:.2g}")
    if said.size and said.outcome not in (rules.SUPPORTED, rules.EXCLUDED):
        found.append(f"the paper's {claim.paper.size:g} is excluded: {said.size}")
    if outcome.turn is not None:
        by, other = outcome.turn
        word = "lower" if by < 0 else "higher"
        found.append(f"{other} if the estimate were {abs(by):.2g} {word}")
    return "; ".join(filter(None, found))


def p_text(p: float) -> str:
    """Two digits that count, down to 0.0001."""
    return "< 0.0001" if p < 1e-4 else f"{p:.{tables.decimals(p, 2)}f}"


def ours(outcome: Outcome, known: str = "") -> str:
    """Our number with its interval, and with its unit unless that is `known`."""
    difference = outcome.samples is None or outcome.samples.design != "single"
    text = tables.interval(outcome.interval, signed=difference)
    return text if text == tables.NONE or outcome.claim.unit in ("", known) else f"{text} {outcome.claim.unit}"


def budgets(outcome: Outcome) -> list[tuple[str, str]]:
    """Ours as shares of the paper's sizes: [("4 % of its episodes per task", "4,000 of 100,000")]."""
    found = []
    for quantity, paper in outcome.claim.paper.scale.items():
        mine = outcome.ours_scale.get(quantity)
        if mine is not None and paper:
            share = tables.unbroken(f"{100 * mine / paper:.2g} %")
            found.append((f"{share} of its {quantity}", f"{tables.count(mine)} of {tables.count(paper)}"))
    return found


def budget(outcome: Outcome) -> str:
    """The same in a line."""
    return "; ".join(f"{share} ({sizes})" for share, sizes in budgets(outcome))


def claim_frame(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """One row per claim and question: as numbers for tables/claims.csv, then, after `number`, in words."""
    rows: list[dict[str, Any]] = []
    for o in outcomes:
        claim, paper = o.claim, o.claim.paper
        checks = [f"{name}{when} {_told(check)}" for found, when in ((o.checks, ""), (o.later, LATER))
                  for name, check in found.items()]  # fmt: skip
        grounds = ["pre-specified" if o.specified else EXPLORATORY, o.search]
        detail = o.samples.detail if o.samples is not None else ""
        rows.append({
            "id": claim.id, "own": claim.own, "primary": claim.primary, "kind": claim.kind, "family": claim.family,
            "family_size": o.family, "outcome": o.verdict.outcome, "reason": o.verdict.reason, "estimate": o.interval,
            "seeds": o.interval.seeds if o.interval else None, "unit": claim.unit, "margin": claim.margin or None,
            **rules.p_columns(o.verdict), "smallest_effect": o.verdict.smallest, "paper_size": paper.size,
            "turns_by": o.turn.by if o.turn else None, "turns_to": o.turn.outcome if o.turn else None,
            "size_excluded": o.verdict.size or None, "pre_specified": o.specified, "search": o.search or None,
            "checks": "; ".join(checks) or None, "outcome_in_pairs": o.in_pairs or None,
            "preliminary": o.preliminary, "text": claim.text, "place": claim.place, "number": str(paper.number),
            "anchor": Markup('<a id="{0}" href="#{0}">{1}</a>').format(claim.id, tables.unbroken(claim.id)),
            "reported": ", ".join(filter(None, [str(paper.number), f"n={paper.n}" * bool(paper.n), claim.place])),
            "ours": ours(o), "verdict": verdict(o), "said": _with_reason(o),
            "note": "; ".join(filter(None, _notes(o))),
            "because": because(o), "detail": detail, "budget": budget(o),
            "share": "; ".join(share for share, _ in budgets(o)),
            "grounds": "; ".join(filter(None, grounds)) if o.interval else "",
        })  # fmt: skip
    return pd.DataFrame(rows)


def _told(check: Check | None) -> str:
    return "not recorded" if check is None else f"{'holds' if check.passed else 'fails'}: {check.found}"


def _link(text: str, outcome: Outcome) -> Markup:
    return Markup("[{}]({}.md#{})").format(tables.md(text), outcome.page, outcome.claim.id)


def write_all(sheet: Sheet, outcomes: Sequence[Outcome]) -> None:
    """One table of all claims and questions."""
    if not outcomes:
        sheet.text("No claim is about these experiments.")
        return
    frame = claim_frame(outcomes)
    numbers, frame = sheet.csv("claims", frame.loc[:, :"number"]), frame.replace("", None)
    frame["environment"] = [o.study.spec.title if o.study is not None else None for o in outcomes]
    frame["text"] = [_link(o.claim.text, o) + LESS_LIKELY * bool(o.claim.reading_of) for o in outcomes]
    heads = {name: _HEADS[name] for name in ("text", "verdict", "note", "environment", "reported", "ours")}
    table = tables.to_markdown(frame, heads)
    caption = f"Claims of the paper and questions of our own. {legend(table, sheet.rules)}"
    sheet.parts += [Markup("{}{} {}").format(TABLE, caption, numbers), table]
    rows = [[_link(o.claim.id, o), o.claim.text, in_a_sentence(o)] for o in outcomes if not o.claim.own]
    if rows:
        sheet.folded("Each claim of the paper in a sentence", tables.table(["Id", "Claim", "In a sentence"], rows))


def in_a_sentence(outcome: Outcome) -> str:
    """What the paper says, what was found, how sure that is, and what would change it."""
    claim, said = outcome.claim, outcome.verdict
    paper = f"The paper reports {claim.paper.number}" if claim.paper.number else "The paper says so without a number"
    if outcome.interval is None:
        scales = f"; scale {' or '.join(claim.scales)} could" if claim.scales else "; no scale here could"
        return f"{paper}; not tested here, {said.reason}{scales}."
    sure = [because(outcome) or "a size, with no test", "pre-specified" if outcome.specified else EXPLORATORY]
    sure += [f"{outcome.interval.seeds} seeds"]
    if said.outcome == rules.VOID or failed(outcome.later):
        sure.append(f"to be asked again where this is mended: {_why_void(outcome.checks) or _why_void(outcome.later)}")
    return f"{paper}; we find {_scores(outcome)}{ours(outcome)}, {said.words}: {'; '.join(sure)}."


def write_errata(sheet: Sheet, errata: Sequence[Erratum], outcomes: Sequence[Outcome]) -> None:
    """What an earlier report said of each claim and question, and what this one says: a table for each reason."""
    now = {o.claim.id: o for o in outcomes}
    rows = []
    for e in errata:
        for id_, before in e.before.items():
            o = now.get(id_)
            rows.append({
                "id": id_, "claim": _link(o.claim.text, o) if o else id_,
                "was": before.was, "number": before.number, "verdict": verdict(o) if o else "not asked any more",
                "ours": ours(o) if o else tables.NONE, "why": e.why,
            })  # fmt: skip
    heads = {"claim": "Claim or question", "was": "Verdict before", "number": "Number before", "verdict": "Verdict",
             "ours": "Number"}  # fmt: skip
    frame = pd.DataFrame(rows)
    sheet.text(
        Markup("Each claim in the previous report and in this one, by why they differ. {}").format(
            sheet.csv("errata", frame)
        )
    )
    for why, group in frame.groupby("why", sort=False):
        sheet.parts += [Markup("{}{}").format(TABLE, tables.md(why)), tables.to_markdown(group, heads)]


_HEADS = {
    "text": "Claim", "reported": "Reported", "ours": "Replicated", "verdict": "Verdict", "said": "Verdict",
    "budget": "Share of the paper's budget", "because": "Test that decided", "detail": "Detail", "id": "Id",
    "grounds": "Specified and searched", "checks": "Validity checks", "anchor": "Id", "seeds": "Seeds",
    "reason": "Why not", "share": "Of the paper's budget", "environment": "Environment",
    "note": "What qualifies it",
}  # fmt: skip
_PAPER = ("text", "said", "reported", "ours", "seeds", "share", "anchor")
_KINDS = {  # title -> (which, columns)
    "Claims of the paper": (lambda c: not c.own and not c.elsewhere, _PAPER),
    "Claims that the paper tested on a different environment": (lambda c: c.elsewhere, _PAPER),
    "Questions of our own": (lambda c: c.own, ("text", "said", "ours", "seeds", "anchor")),
}


def write(sheet: Sheet, outcomes: Sequence[Outcome]) -> None:
    """The tables of a page's claims and questions, what each verdict rests on, and which were not tested."""
    tested = [o for o in outcomes if o.verdict.outcome != rules.NOT_TESTED]
    for title, (which, names) in _KINDS.items():
        if members := [o for o in tested if which(o.claim)]:
            sheet.heading(title)
            caption = (
                "Differences are agent − baseline with 95 % CI, not corrected for the number of tests; verdicts are, "
                "and hold at this scale only."
            )
            table = _table(members, names)
            sheet.parts += [Markup("{}{} {}").format(TABLE, caption, legend(table, sheet.rules)), table]
    if tested:
        names = ("id", "because", "detail", "grounds", "checks")
        sheet.folded("What each verdict rests on", _table(tested, names))
    if left := [o for o in outcomes if o.verdict.outcome == rules.NOT_TESTED]:
        sheet.heading("Not tested at this scale")
        sheet.parts.append(_table(left, ("text", "reason", "reported", "budget", "anchor")))


def legend(table: str, judging: Rules) -> str:
    """Sentences on words and marks that verdicts in a table have."""
    reads = f"{100 * judging.reads:.2g} % of greedy actions depend on which trajectories are retrieved."
    says = {
        (_FAILED["reads"], _FAILED_SURELY["reads"]): f"Used: by its interval, at least {reads}",
        (EXPLORATORY,): "Exploratory: asked after the runs.",
        (LATER,): "†: by a check made after the runs; the verdict stays.",
    }
    return " ".join(text for words, text in says.items() if any(word in table for word in words))


def _table(outcomes: Sequence[Outcome], names: Sequence[str]) -> Markup:
    heads = {name: _HEADS[name] for name in names}
    if all(o.claim.own for o in outcomes) and "ours" in heads:
        heads |= {"text": "Question", "ours": "Answer"}
    return tables.to_markdown(claim_frame(outcomes).replace("", None), heads)


def first_table(outcomes: Sequence[Outcome], studies: Iterable[Study]) -> Markup:
    """The primary claims, study by study, below each what qualifies it: environment, verdict, what the paper reports,
    what we find, share of its budget."""
    rows = []
    for study, o in product(studies, outcomes):
        if o.claim.primary and o.claim.test is not None and o.study is study:
            below = [other for other in outcomes if other.claim.qualifies == o.claim.id and other.interval is not None]
            rows += [_first_row(o, study), *(_first_row(one, study, o.claim.unit) for one in below)]
    heads = ["Environment", "Verdict", "The paper reports", "We find", "Budget, as a share of the paper's"]
    return tables.table(heads, rows) if rows else Markup("")


def _first_row(o: Outcome, study: Study, known: str = "") -> list[Any]:
    test = required(o.claim.test, "test")
    sides = [study.variant(side).label for side in test.sides()]
    where = f"{study.title}, {study.set_title(test.task_set)}" if test.task_set else study.title
    # What nobody else asked is asked in words, so that it is not taken for the paper's claim.
    what = o.claim.text.partition(": ")[2] or o.claim.text if o.claim.own else " vs ".join(sides)
    who = Markup("{}: {}").format(_link(where, o), tables.md(what))
    who = Markup("↳ {}").format(_link(what, o)) if o.claim.qualifies else who
    share = [] if o.claim.qualifies else [budget(o)]
    share.append(_updates(o, study) if o.interval is not None else "")
    return [who, _with_reason(o), o.claim.paper.number, _scores(o) + ours(o, known), "; ".join(filter(None, share))]


def _updates(outcome: Outcome, study: Study) -> str:
    """ "1,800 updates"; of agent and baseline where they differ."""
    test, found = required(outcome.claim.test, "test"), []
    for side in test.sides():
        last = study.rows(study.results.last, study.variant(side), test.task_set)
        if len(last):
            found.append(tables.count(last["update"].max()))
    return f"{' against '.join(dict.fromkeys(found))} updates" if found else ""


def _with_reason(outcome: Outcome) -> str:
    """The verdict; where there is none, why; what a check says that was written after the runs; whether the question is
    of that time."""
    why, *rest = _notes(outcome)
    return "; ".join(filter(None, [": ".join(filter(None, [verdict(outcome), why])), *rest]))


def _notes(outcome: Outcome) -> list[str]:
    """What qualifies a verdict, each "" where there is nothing to say."""
    why = outcome.verdict.reason if outcome.verdict.outcome == rules.NOT_TESTED else ""
    why = _why_void(outcome.checks) if outcome.verdict.outcome == rules.VOID else why
    later = _why_void(outcome.later)
    return [why, later + LATER if later else "", "" if outcome.specified or outcome.interval is None else EXPLORATORY]


def _why_void(checks: Mapping[str, Check | None]) -> str:
    found = []
    for name, check in failed(checks).items():
        words = (_FAILED_SURELY if check.fails else {}).get(name) or _FAILED.get(name, name)
        found.append(words + (f" ({check.number} % of actions)" if name == "reads" else ""))
    return "; ".join(found)


def _scores(outcome: Outcome) -> str:
    """ "0.12 → 0.50: ", the means of baseline and agent, where two groups are compared."""
    samples = outcome.samples
    if samples is None or samples.design != "independent":
        return ""
    means = [sum(side.values()) / len(side) for side in (samples.b, samples.a)]
    digits = tables.decimals(max(map(abs, means)), 2)
    return " → ".join(tables.number(mean, digits) for mean in means) + ": "


def overview_table(outcomes: Sequence[Outcome]) -> Markup:
    """The other claims and questions that the first page answers, in the order of their file; none untested."""
    asked = [o for o in outcomes if o.claim.overview and not o.claim.primary and o.page != "appendix"]
    rows = [[_link(o.claim.text, o), _with_reason(o), ours(o)] for o in asked if o.interval is not None]
    return tables.table(["Claim or question", "Verdict", "We find"], rows) if rows else Markup("")


def tally(outcomes: Sequence[Outcome]) -> str:
    """ "4 supported, 5 with the paper's size excluded (4 †)", † where a later check would say not interpretable."""
    words = {rules.EXCLUDED: "with the paper's size excluded", rules.MEASURED: "measured without a verdict"}
    doubted = counts([o for o in outcomes if failed(o.later)])
    return ", ".join(
        f"{n} {words.get(said, said)}" + (f" ({doubted[said]} †)" if said in doubted and said != rules.VOID else "")
        for said, n in counts(outcomes).items() if said != rules.NOT_TESTED
    )  # fmt: skip


def pairs_frame(outcomes: Sequence[Outcome]) -> tuple[int, pd.DataFrame]:
    """How many claims can be judged by pairs of seeds too, and those of another verdict then."""
    both = [o for o in outcomes if o.in_pairs]
    rows = [{"claim": _link(o.claim.text, o), "verdict": verdict(o), "ours": ours(o), "in_pairs": o.in_pairs}
            for o in both if o.in_pairs != o.verdict.outcome]  # fmt: skip
    return len(both), pd.DataFrame(rows)


def power_frame(outcomes: Sequence[Outcome], results: Results, level: float) -> pd.DataFrame:
    """The chance to see the paper's effect (the margin, where it printed none) and half of it, by the deviation between
    tuning seeds or, without such, between these runs: a row for each primary claim and each with a printed effect."""
    rows = []
    for o in outcomes:
        claim = o.claim
        if not o.family or not claim.test or claim.kind != "superiority" or not (claim.primary or claim.paper.size):
            continue
        sd, source = searches.spread(claim.test.sides(), results), "tuning seeds"
        design = "independent" if o.samples is None or o.samples.design == "independent" else "paired"
        if math.isnan(sd) and o.samples is not None:
            n = min(o.samples.estimate.n)
            sd, source = (
                o.samples.estimate.error * math.sqrt(n / (2 if design == "independent" else 1)),
                "these runs, afterwards",
            )
        effect = abs(claim.paper.size or claim.margin)
        if sd > 0:
            chances = {f"{what}_{n}": round(100 * power(design, sd, n, share * effect, o.family, level))
                       for n in (5, 10) for what, share in (("whole", 1), ("half", 0.5))}  # fmt: skip
            rows.append(
                {"id": claim.id, "family_size": o.family, "sd": sd, "source": source, "effect": effect} | chances
            )
    return pd.DataFrame(rows)


def rules_table() -> Markup:
    """The rules of verdicts, in their order."""
    rows = [["any", verdict, rule] for verdict, rule in rules.FIRST]
    rows += [[f"“{says}”", verdict, rule] for says, kind in rules.BY_KIND.values() for verdict, rule in kind]
    return tables.table(["Claim", "Outcome", "Rule"], [*rows, ["any", rules.INCONCLUSIVE, "no rule above decides"]])
