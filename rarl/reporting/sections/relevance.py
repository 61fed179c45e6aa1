"""Rare relevance: what uniform sampling loses where few trajectories are relevant, and what an index makes of it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from rarl.reporting import figures
from rarl.reporting.figures import FAINT
from rarl.reporting.sheet import Sheet
from rarl.reporting.statistics import POSITIVE, SHARES, Bounds, t_interval
from rarl.reporting.study import Study

_PLACE = re.compile(r"(share|among)-(\d*\.?\d+)(?:-([a-z]+))?")
_PANELS = {"recall@10": "recall@10", "mrr": "MRR"}
INDEX_COST = {"kind": "Index", "states": "States", "build_seconds": "Build, s", "query_ms": "Query, ms",
         "single_query_ms": "Single query, ms", "memory_mb": "Memory, MB", "recall_at_10": "Recall@10",
         "refresh_seconds": "Refresh, s", "threads": "Threads"}  # fmt: skip


def share_of(name: str, kind: str = "share") -> tuple[float, str] | None:
    """(share, way to find a batch) of an intervention's name, or of the first part of a quantity's; None of others.

    The way "" is the one that a network was trained with. kind: "among" for the number of trajectories, one of them
    relevant.
    """
    found = _PLACE.fullmatch(name)
    return (float(found[2]), found[3] or "") if found and found[1] == kind else None


def probed_set(study: Study) -> str | None:
    """The largest task set at whose shares something was measured."""
    frame = study.interventions()
    shares = frame["intervention"].map(lambda name: share_of(str(name)) is not None).astype(bool)
    probed = set(frame["task_set"][shares])
    return next((name for name in reversed(study.used_sets) if name in probed), None)


def write(study: Study, sheet: Sheet) -> None:
    """Scores by share, and what is found."""
    task_set = probed_set(study)
    if task_set is None:
        return
    level = sheet.rules.level
    sheet.heading("When little of the retrieval dataset is task-relevant")
    sheet.text(
        "Each task's retrieval dataset mixes its own trajectories (relevant) with those of other tasks. Only the query "
        "observes the task ID. One network is trained on all shares and evaluated at each."
    )
    seeds = seed_frame(study, task_set)
    own = seeds[(seeds["way"] == "") & (seeds["share"] > 0)].rename(columns={"score": "value"})
    sheet.figure(
        f"{study.name}-share",
        by_share(study, {"": own}, {"": study.bounds}, study.score.label),
        seeds,
        "Score against the share of relevant trajectories for each way to retrieve, with confidence intervals.",
        f"{study.set_title(task_set)}: mean with 95 % CI against the share of relevant trajectories.",
    )
    found = quantities(study, task_set)
    drawn = {title: found[(found["way"] == "") & (found["share"] > 0) & (found["quantity"] == name)]
             for name, title in _PANELS.items()}  # fmt: skip
    if not all(map(len, drawn.values())):
        return
    keys = ["variant", "way", "share", "quantity"]
    rows = [dict(zip(keys, key, strict=True))
            | {"seeds": len(values), "value": t_interval(values, level, _bounds(key[3]))}
            for key, values in found.groupby(keys, sort=False)["value"]]  # fmt: skip
    pool = study.value(study.base, task_set, "agent.retrieval.pool.trajectories") or 0
    sheet.figure(
        f"{study.name}-found",
        by_share(study, drawn, dict.fromkeys(drawn, SHARES), "", pool),
        pd.DataFrame(rows),
        "Recall at ten and mean reciprocal rank against the share of relevant trajectories, with chance.",
        "Recall@10 and mean reciprocal rank (MRR) of relevant trajectories, with 95 % CI. An index ranks the whole "
        "dataset, uniform sampling what was drawn. Grey: chance.",
    )


def write_distractors(study: Study, sheet: Sheet) -> None:
    """Score and recall by the number of trajectories, where one of them is relevant."""
    task_set = probed_set(study)
    if task_set is None:
        return
    seeds, found = seed_frame(study, task_set, "among"), quantities(study, task_set, "among")
    recall = found[found["quantity"] == "recall@10"]
    if seeds.dropna(subset=["share"]).empty or recall.empty:
        return
    sheet.heading("One relevant trajectory among many")
    stride = study.value(study.base, task_set, "agent.retrieval.step_stride")
    sheet.text(
        "Retrieval datasets made after training, each with one trajectory of the task; the others are of other tasks. "
        f"No network had seen any of them. The index has a key for one step in {stride} of each trajectory."
    )
    panels = {study.score.label: seeds.rename(columns={"score": "value"}), "recall@10": recall}
    drawn = {title: frame[(frame["way"] == "") & frame["share"].notna()] for title, frame in panels.items()}
    bounds = {study.score.label: study.bounds, "recall@10": SHARES}
    renamed = {"share": "trajectories", "value": "recall@10"}
    frame = seeds.merge(recall.drop(columns="quantity"), on=["variant", "way", "share", "seed"], how="left")
    sheet.figure(
        f"{study.name}-among",
        by_share(study, drawn, bounds, "", xlabel="trajectories"),
        frame.rename(columns=renamed),
        "Score and recall at ten against the number of trajectories, one of them relevant, for each way to retrieve.",
        f"{study.set_title(task_set)}: score and recall@10 where one trajectory of so many is relevant. Thin: seeds. "
        "Bold: mean with 95 % CI.",
    )


def by_share(
    study: Study, panels: Mapping[str, pd.DataFrame], bounds: Mapping[str, Bounds], ylabel: str, trajectories: int = 0,
    xlabel: str = "",
) -> Figure:  # fmt: skip
    """Values against the share, a panel for each title; with chance where the number of trajectories is given."""
    looks = {name: study.variants[name].look for frame in panels.values() for name in frame["variant"].unique()}
    renamed = {t: frame.rename(columns={"variant": "agent", "share": "amount"}) for t, frame in panels.items()}
    xlabel = xlabel or ("share of relevant trajectories" if len(panels) == 1 else "share relevant")
    figure, grid = figures.by_amount(renamed, looks, xlabel, ylabel, bounds)
    for axes, frame in zip(grid, panels.values(), strict=True):
        if trajectories:
            fine = np.geomspace(frame["share"].min(), frame["share"].max(), 60)
            by_chance = [chance(str(frame["quantity"].iloc[0]), share, trajectories) for share in fine]
            axes.plot(fine, by_chance, color=FAINT, lw=1.2, ls=(0, (1, 1.5)))
    return figure


def seed_frame(study: Study, task_set: str, kind: str = "share") -> pd.DataFrame:
    """Rows variant, way, share, seed, score: means over tasks; share NaN where nothing is retrieved. kind: see
    `share_of`."""
    rows = []
    for variant in study.variants_on(task_set):
        names = study.interventions(variant, task_set)["intervention"].unique()
        shares = {name: share_of(name, kind) for name in names} | {"removed": (math.nan, "removed")}
        known = {name: share for name, share in shares.items() if share is not None}
        for name, (share, way) in sorted(known.items(), key=lambda item: (item[1][1], -item[1][0])):
            rows += [{"variant": variant.name, "way": way, "share": share, "seed": seed, "score": score}
                     for seed, score in study.under(variant, task_set, name).items()]  # fmt: skip
    return pd.DataFrame(rows, columns=["variant", "way", "share", "seed", "score"])


def quantities(study: Study, task_set: str, kind: str = "share") -> pd.DataFrame:
    """Rows variant, way, share, quantity, seed, value: means over tasks of what was measured at each share. kind: see
    `share_of`."""
    rows = []
    for variant in study.variants_on(task_set):
        frame = study.rows(study.results.attention, variant, task_set)
        for (name, seed), values in frame.astype({"value": float}).groupby(["quantity", "seed"])["value"]:
            head, _, quantity = str(name).partition("/")
            if (found := share_of(head, kind)) is not None:
                rows.append({"variant": variant.name, "way": found[1], "share": found[0], "quantity": quantity,
                             "seed": seed, "value": values.mean()})  # fmt: skip
    return pd.DataFrame(rows, columns=["variant", "way", "share", "quantity", "seed", "value"])


def _bounds(quantity: str) -> Bounds:
    """Numbers of things have no upper one."""
    return SHARES if any(what in quantity for what in ("recall", "mrr", "attention")) else POSITIVE


def chance(what: str, share: float, trajectories: int) -> float:
    """What a random order of a whole retrieval dataset gives; not a number where that is not known.

    recall@k: of what k places can hold of the relevant, the share that is there, k share / min(k, relevant). mrr: the
    mean of 1 / (place of the first relevant one), the sum over places of share (1 - share)^(place - 1) / place, which
    is -share ln(share) / (1 - share), if the dataset is large against the places that count.

    Args:
      trajectories: in the dataset.
    """
    if match := re.fullmatch(r"recall@(\d+)", what):
        relevant = max(round(share * trajectories), 1)
        return int(match[1]) * relevant / trajectories / min(int(match[1]), relevant)
    if what == "mrr":
        return 1.0 if share >= 1 else -share * math.log(share) / (1 - share)
    return math.nan


def write_index_cost(study: Study, sheet: Sheet) -> None:
    """What searching keys costs, exactly and by approximate indices, measured apart from any run."""
    table = sheet.results.table("index-cost", list(INDEX_COST))
    table = table.dropna(subset=["states"]).sort_values(["kind", "states"])
    if len(table):
        sheet.heading("Cost of nearest-neighbour search")
        caption = "keys drawn in clusters, not learned; queries in batches and one at a time; memory by formula."
        sheet.table(f"{study.name}-index-cost", table, INDEX_COST, caption)
