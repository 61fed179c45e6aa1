"""Rare relevance: what uniform sampling loses where few trajectories are relevant, and what an index makes of it."""

from __future__ import annotations

from typing import Any

import pandas as pd

from rarl.reporting import cost, tables
from rarl.reporting.claims import Samples, Settings, shared_task_set
from rarl.reporting.scores import paired
from rarl.reporting.sections import Section, no_facts
from rarl.reporting.sections import relevance_figures as draw
from rarl.reporting.sections.relevance_measures import (
    BUT_ADDS,
    COST_COLUMNS,
    EXPERIMENT,
    LABELS,
    MEASURES,
    TOLD_SHARE,
    UNIFORM,
    UNIT,
    aggregate,
    batch_size,
    effects,
    name_of,
    none_relevant,
    other_ways,
    quantity_table,
    return_table,
    score,
    staleness_text,
    task_sets,
    taught,
    variants,
    without_index,
    worth_text,
)
from rarl.reporting.sheet import Sheet
from rarl.reporting.statistics import t_interval

QUANTITIES = {
    "recall@1": "recall@1",
    "recall@10": "recall@10",
    "recall@64": "recall@64",
    "mrr": "MRR",
    "new_recall@10": "recall@10, new",
    "new_mrr": "MRR, new",
    "relevant_in_batch": "Relevant in the batch",
    "attention_on_relevant": "Attention on them",
}

NEW = ("new_recall@10", "new_mrr")


def _label(variant: str) -> str:
    return LABELS.get(variant, variant)


def _seeds(table: pd.DataFrame, share: float) -> dict[int, float]:
    """seed -> value, of one row of (shares, seeds)."""
    return {int(seed): float(value) for seed, value in table.loc[share].dropna().items()}


def _shown(sheet: Sheet) -> str:
    """The largest task set that was looked into, else the largest."""
    sets = task_sets(sheet.results)
    probed = [s for s in sets if any(not return_table(sheet.results, s, v).empty for v in variants(sheet.results, s))]
    return (probed or sets)[-1]


def _returns(sheet: Sheet) -> None:
    results, level = sheet.results, sheet.settings.level
    task_set = _shown(sheet)
    sheet.heading("Returns")
    sheet.text(
        "The retrieval dataset of each task is mixed from its own trajectories, which are relevant, and those of other "
        "tasks. The query is told the task, the rest of the agent is not: what to do must come from what is retrieved. "
        "One network was trained on a mixture of all shares and is evaluated at each."
    )
    figure = draw.returns(results, task_set)
    if figure is None:
        sheet.text("No interventions were measured: nothing is known about the shares.")
        return
    sheet.figure(
        "relevance-returns",
        figure,
        "Return against the share of relevant trajectories for each way to find a retrieval batch, every seed, with "
        "intervals.",
        f"{tables.spaced(task_set)}: normalised return against the share of the retrieval dataset that is relevant. "
        "Thin: every seed. Bold: mean over seeds, with its t interval. Hollow: the same networks when their batch is "
        "found in the other way. Level, dotted, of the same colour: their mean where nothing is relevant or, if that "
        "was not measured, where nothing is retrieved.",
    )
    worth = [worth_text(results, task_set, variant, sheet.settings) for variant in variants(results, task_set)]
    for text in filter(None, worth):
        sheet.text(text)
    if any(text.endswith(BUT_ADDS) for text in worth):
        sheet.text(
            "How retrieval can add something that is not relevant: the query is told the task, and what it picks among "
            "any trajectories can tell the agent which one it is."
        )
    _batch(sheet, task_set)
    rows, data = [], []
    for variant in variants(results, task_set):
        table = return_table(results, task_set, variant)
        measured: list[tuple[str, Any, dict[int, float]]] = [
            (_label(variant), f"{share:g}", _seeds(table, share)) for share in table.index[::-1]
        ]
        for way in other_ways(results, task_set, variant):
            other = return_table(results, task_set, variant, way)
            measured += [
                (f"{_label(variant)}; evaluated with {_label(way)}", f"{share:g}", _seeds(other, share))
                for share in other.index[::-1]
            ]
        for name, text in draw.LEVELS.items():
            if level_scores := score(results, task_set, variant, name):
                measured.append((f"{_label(variant)}; {text}", None, level_scores))
        at_one = score(results, task_set, variant, name_of(1.0))
        for who, share, scores in measured:
            mean = t_interval(list(scores.values()), level)
            samples = paired(scores, at_one) if share != "1" or who != _label(variant) else None
            change = samples.interval(level) if samples else None
            rows.append(
                [who, share, tables.seeds(mean.n), tables.interval(mean, 3), tables.interval(change, 3, signed=True)]
            )
            data.append({"variant": variant, "as": who, "share": share, "seeds": mean.n[0], "normalised": mean.estimate,
                         "low": mean.low, "high": mean.high})  # fmt: skip
    _against_uniform(sheet, task_set)
    headers = ["Network", "Share", "Seeds", "Return", "Less its own way at 1"]
    sheet.folded("All returns", tables.table(headers, rows, "lrrrr"))
    sheet.numbers("relevance-returns", pd.DataFrame(data))


def _batch(sheet: Sheet, task_set: str) -> None:
    """What a uniform batch holds, by arithmetic."""
    n_traj = batch_size(sheet.results, task_set, UNIFORM)
    shares = [s for s in return_table(sheet.results, task_set, UNIFORM).index if s < 1]
    if n_traj is None or not shares:
        return
    told = []
    for share in sorted(shares, reverse=True):
        empty = tables.number(100 * none_relevant(share, n_traj), 0)
        told.append(f"{share:g}: {tables.number(share * n_traj, 1)}, and none in {empty} % of batches")
    sheet.text(f"Relevant trajectories in a uniform batch of {n_traj}, on average, by share: {'; '.join(told)}.")


def _against_uniform(sheet: Sheet, task_set: str) -> None:
    """Every index against uniform sampling, share by share."""
    results, level = sheet.results, sheet.settings.level
    rows, unlike = [], []
    for variant in variants(results, task_set):
        base = without_index(results, task_set, variant)
        if base is None:
            continue
        if taught(base) != taught(variant):
            unlike.append(variant)
        table, other = (return_table(results, task_set, v) for v in (variant, base))
        for share in table.index[::-1]:
            if share in other.index:
                change = Samples(_seeds(table, share), _seeds(other, share)).interval(level)
                difference = tables.interval(change, 3, signed=True)
                rows.append([_label(variant), _label(base), f"{share:g}", tables.seeds(change.n), difference])
    if rows:
        sheet.text(f"An index less uniform sampling, at the same share ({UNIT}, Welch interval):")
        for variant in unlike:
            sheet.text(
                f"{_label(variant).capitalize()}: two things differ, since uniform sampling has the loss that "
                "teaches the query what is relevant."
            )
        sheet.table(["Network", "Less", "Share", "Seeds", "Difference"], rows, "llrrr")


def _found(sheet: Sheet) -> None:
    results, level = sheet.results, sheet.settings.level
    task_set = _shown(sheet)
    sheet.heading("What is found")
    figure = draw.found(results, task_set)
    if figure is not None:
        sheet.figure(
            "relevance-found",
            figure,
            "Recall among the ten best and mean reciprocal rank against the share of relevant trajectories, with "
            "chance.",
            "Recall@10: of what ten places can hold of the relevant trajectories, the share that is among the ten "
            "best. MRR: the mean of one over the place of the first, 0 if there is none. An index ranks its whole "
            "dataset, uniform sampling what was drawn, so that it cannot find more than that. Thin: every seed. Bold: "
            "mean, with its t interval. Dotted: what a random order of the whole dataset gives.",
        )
    rows, data = [], []
    for variant in variants(results, task_set):
        for way in ("", *other_ways(results, task_set, variant)):
            found = {what: quantity_table(results, task_set, variant, what, way) for what in QUANTITIES}
            who = _label(variant) + (f"; evaluated with {_label(way)}" if way else "")
            for share in sorted({share for table in found.values() for share in table.index}, reverse=True):
                cells = []
                for what, table in found.items():
                    mean = t_interval(list(_seeds(table, share).values()) if share in table.index else [], level)
                    cells.append(tables.number(mean.estimate))
                    if mean.n[0]:
                        data.append({"variant": variant, "as": who, "share": share, "quantity": what,
                                     "seeds": mean.n[0], "value": mean.estimate, "low": mean.low,
                                     "high": mean.high})  # fmt: skip
                rows.append([who, f"{share:g}", *cells])
    if not rows:
        sheet.text("What is found was not measured.")
        return
    if any(row["quantity"] in NEW for row in data):
        sheet.text(
            "All this is among the trajectories that training retrieved from. New: among as many others of the same "
            "tasks, which it never retrieved, though their steps were among those that it learned from."
        )
    sheet.folded(
        "All that was measured of what is found, means over seeds",
        tables.table(["Network", "Share", *QUANTITIES.values()], rows, "lr" + "r" * len(QUANTITIES)),
    )
    sheet.numbers("relevance-found", pd.DataFrame(data))


def _index(sheet: Sheet) -> None:
    """What an index costs, measured apart from any run."""
    table = sheet.results.table("index-cost", COST_COLUMNS)
    sheet.heading("What an index costs")
    figure = draw.index_cost(table)
    if figure is None:
        sheet.text("The cost of an index was not measured.")
        return
    threads = sorted({int(n) for n in table["threads"].dropna()})
    with_threads = (
        f" with {' or '.join(map(str, threads))} {'thread' if threads == [1] else 'threads'}" if threads else ""
    )
    sheet.figure(
        "relevance-index-cost",
        figure,
        "Cost of exact and approximate indices against the number of states: building, searching, memory, and the "
        "share of the ten nearest that is found.",
        f"Measured{with_threads}, against the number of states. Searching, filled: many queries at once; hollow: one "
        "at a time. Memory: by formula. Recall@10: how many of the ten best keys by exact search are among those "
        "found. Keys are drawn in clusters, not learned. Exact search builds nothing; IVF looks through the clusters "
        "of keys nearest to the query; HNSW follows links from key to near key. Refresh: encoding all states anew.",
    )
    if text := _index_text(table):
        sheet.text(text)
    for variant in variants(sheet.results, _shown(sheet)):
        if text := staleness_text(sheet.results, _shown(sheet), variant):
            sheet.text(text)
    digits = {"build_seconds": 2, "query_ms": 3, "single_query_ms": 3, "memory_mb": 1, "recall_at_10": 3,
              "refresh_seconds": 2}  # fmt: skip
    rows = [[draw.KINDS[k].label if (k := str(row["kind"])) in draw.KINDS else k, tables.count(row["states"]),
             *(tables.number(row[column], n) for column, n in digits.items())]
            for _, row in table.sort_values(["states", "kind"]).iterrows()]  # fmt: skip
    headers = [
        "Index",
        "States",
        "Building, s",
        "Query, ms",
        "Query alone, ms",
        "Memory, MB",
        "Recall@10",
        "Refresh, s",
    ]
    sheet.folded("All measurements", tables.table(headers, rows, "lrrrrrrr"))
    sheet.numbers("relevance-index-cost", table)


def _index_text(table: pd.DataFrame) -> str:
    """The approximate ways against exact search, at the largest number of states that both were measured at."""
    exact = table[table["kind"] == "exact"].set_index("states")
    parts = []
    for kind, rows in table[table["kind"] != "exact"].groupby("kind"):
        rows = rows.set_index("states")
        both = [n for n in rows.index if n in exact.index]
        if not both:
            continue
        here, there = rows.loc[max(both)], exact.loc[max(both)]
        ratio = there["query_ms"] / here["query_ms"] if here["query_ms"] > 0 else float("nan")
        name = draw.KINDS[kind].label if kind in draw.KINDS else str(kind)
        parts.append(
            f"{name} answers in {tables.number(here['query_ms'], 3)} ms where exact search takes "
            f"{tables.number(there['query_ms'], 3)} ms (×{tables.number(ratio, 1)} as fast), with a recall@10 of "
            f"{tables.number(here['recall_at_10'])}, at {tables.count(max(both))} states"
        )
    return f"{'. '.join(parts)}." if parts else ""


def _cost(sheet: Sheet) -> None:
    order = [(s, v) for s in task_sets(sheet.results) for v in variants(sheet.results, s)]
    cost.write(sheet, EXPERIMENT, order, UNIFORM, draw.look)


def _protocol(settings: Settings) -> list[tuple[str, str]]:
    return [
        (
            "Rare relevance.",
            "Networks that retrieve in different ways are independent (Welch); shares, and ways to find a batch at "
            "evaluation, are compared within the same network (paired). The questions are about a share of "
            f"{TOLD_SHARE:g}.",
        )
    ]


SECTION = Section(
    experiment=EXPERIMENT,
    title="Rare relevance",
    measures=MEASURES,
    scale_facts=no_facts,
    parts=(_returns, _found, _index, _cost),
    aggregate=aggregate,
    labels=LABELS,
    protocol=_protocol,
    task_set=shared_task_set,
    has_expert=True,
    extends="gridroboman",
    effects=effects,
)
