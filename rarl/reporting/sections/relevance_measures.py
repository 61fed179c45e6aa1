"""Per-seed numbers on rare relevance: returns and what is found, by the share of trajectories that are relevant."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import pandas as pd

from rarl.config.settings import PoolSettings
from rarl.reporting import tables
from rarl.reporting.claims import Claim, Samples, Settings
from rarl.reporting.configurations import first_run, value_of
from rarl.reporting.effects import Change, Effect, effect, present, read
from rarl.reporting.results import Results
from rarl.reporting.scores import intervention_scores, paired, run_means, two_interventions
from rarl.reporting.sections.gridroboman_measures import intervention_table

EXPERIMENT = "relevance"
UNIFORM = "uniform"
UNTAUGHT = "index-end-to-end"  # without the loss that others have
UNTAUGHT_UNIFORM = "uniform-end-to-end"
LABELS = {
    "uniform": "uniform sampling",
    "index": "exact index",
    "index-ivf": "IVF index",
    "index-hnsw": "HNSW index",
    "uniform-end-to-end": "uniform sampling, paper's losses alone",
    "index-end-to-end": "exact index, paper's losses alone",
}
SHORT = {  # beside a figure's rows
    "uniform": "uniform",
    "index": "index",
    "uniform-end-to-end": "uniform, untaught",
    "index-end-to-end": "index, untaught",
}
TOLD_SHARE = 0.01  # the share that the questions are about
BROKEN = 0.5  # of what relevance is worth; below it counts as broken
BUT_ADDS = ", and what retrieval adds nonetheless is not what relevant trajectories show."
UNIT = "of the expert's return"
_SHARE = re.compile(r"share-(\d*\.?\d+)(?:-([a-z]+))?")
COST_COLUMNS = [
    "kind",
    "states",
    "build_seconds",
    "query_ms",
    "single_query_ms",
    "memory_mb",
    "recall_at_10",
    "refresh_seconds",
    "threads",
]


def share_of(name: str) -> tuple[float, str] | None:
    """(share, way) of an intervention's or a quantity's first part; way "" is the variant's own. None: another name."""
    found = _SHARE.fullmatch(name)
    return (float(found[1]), found[2] or "") if found else None


def name_of(share: float, way: str = "") -> str:
    """ "share-0.01", "share-0.01-index" """
    return f"share-{share:g}" + (f"-{way}" if way else "")


def task_sets(results: Results) -> list[str]:
    """Those with usable runs, the largest last."""
    last = results.select(results.last, EXPERIMENT)
    sizes = last.groupby("task_set")["task"].nunique()
    return sorted(sizes.index, key=lambda name: (sizes[name], name))


def variants(results: Results, task_set: str) -> list[str]:
    """With usable runs, uniform sampling first."""
    used = set(results.select(results.last, EXPERIMENT, task_set)["variant"])
    return [*(v for v in LABELS if v in used), *sorted(used - set(LABELS))]


def taught(variant: str) -> bool:
    """Whether it learns with the loss that teaches the query what is relevant."""
    return variant not in (UNTAUGHT, UNTAUGHT_UNIFORM)


def without_index(results: Results, task_set: str, variant: str) -> str | None:
    """What a network with an index is compared with: uniform sampling, with the same losses if it was run.

    None for uniform sampling itself.
    """
    if variant in (UNIFORM, UNTAUGHT_UNIFORM):
        return None
    used = variants(results, task_set)
    if not taught(variant) and UNTAUGHT_UNIFORM in used:
        return UNTAUGHT_UNIFORM
    return UNIFORM if UNIFORM in used else None


# --- returns ----------------------------------------------------------------------------------------------------------


def score(results: Results, task_set: str, variant: str, intervention: str) -> dict[int, float]:
    """seed -> normalised return, mean over tasks, under one intervention."""
    return intervention_scores(intervention_table(results, task_set, variant, EXPERIMENT), intervention)


def return_table(results: Results, task_set: str, variant: str, way: str = "") -> pd.DataFrame:
    """(shares above 0, seeds): normalised return of a variant's networks. May be empty.

    Args:
      way: to find their batches; "" is the one that they were trained with.
    """
    frame = intervention_table(results, task_set, variant, EXPERIMENT)
    rows = {found[0]: intervention_scores(frame, name) for name in frame["intervention"].unique()
            if (found := share_of(name)) and found[0] > 0 and found[1] == way}  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index").sort_index(axis=0).sort_index(axis=1)


def other_ways(results: Results, task_set: str, variant: str) -> list[str]:
    """The ways to find a batch, beside its own, that a variant's networks were evaluated with."""
    frame = intervention_table(results, task_set, variant, EXPERIMENT)
    return sorted({found[1] for name in frame["intervention"].unique() if (found := share_of(name)) and found[1]})


def worth_text(results: Results, task_set: str, variant: str, settings: Settings) -> str:
    """What it is worth to a variant's networks that what is retrieved is relevant, and how much of it a small share
    keeps. "" without the return where all is relevant."""
    table = return_table(results, task_set, variant)
    if 1.0 not in table.index:
        return ""
    label = LABELS.get(variant, variant)
    means = table.mean(axis=1)
    at_one, without, removed = (
        score(results, task_set, variant, name) for name in (name_of(1.0), name_of(0.0), "removed")
    )
    told = [f"{tables.number(means[1.0], 3)} if all is relevant"]
    told += [f"{tables.number(_mean(without), 3)} if nothing is"] if without else []
    told += [f"{tables.number(_mean(removed), 3)} with nothing retrieved"] if removed else []
    text = f"{label[0].upper()}{label[1:]}: {', '.join(told)}."
    samples = paired(at_one, without)
    if samples is None:
        return text
    worth = samples.interval(settings.level)
    shown = tables.interval(worth, 3, signed=True)
    reading = read(worth, settings.margins.get("gridroboman", 0.0), settings.min_seeds)
    if reading == "helps":
        least = means.index.min()
        kept = {share: (mean - _mean(without)) / worth.estimate for share, mean in means.items()}
        lost = max((share for share, left in kept.items() if left < BROKEN), default=None)
        text += f" Relevance is worth {shown}; at a share of {least:g} "
        text += f"{tables.number(100 * kept[least], 0)} % of that is left"
        return text + (f", and less than half of it from {lost:g} down." if lost is not None else ".")
    if reading == "costs":
        return f"{text} It does worse with what is relevant ({shown})."
    if reading != "same":
        return f"{text} Whether relevance matters to it cannot be told ({shown})."
    text += f" So it makes no visible difference whether what is retrieved is relevant ({shown})"
    gain = paired(without, removed)
    if gain is not None and gain.interval(settings.level).low > 0:
        return f"{text}{BUT_ADDS}"
    return f"{text}."


def _mean(scores: Mapping[int, float]) -> float:
    return sum(scores.values()) / len(scores)


def batch_size(results: Results, task_set: str, variant: str) -> int | None:
    """Trajectories of a retrieval batch, by configuration."""
    size = value_of(results, first_run(results, EXPERIMENT, task_set, variant), "agent.retrieval.n_traj")
    return size if isinstance(size, int) else None


def staleness_text(results: Results, task_set: str, variant: str) -> str:
    """What is proposed with keys that are about to be refreshed, against what is proposed right after. "" without."""
    rows = results.select(results.training, EXPERIMENT, task_set, variant)
    every = value_of(
        results, first_run(results, EXPERIMENT, task_set, variant), "agent.retrieval.index.refresh_updates"
    )
    if "index_stale_recall" not in rows or every is None:
        return ""
    rows = rows.dropna(subset=["index_stale_recall"]).sort_values("update")
    if rows.empty:
        return ""
    by_seed = rows.groupby("seed")
    first, last = (100 * by_seed["index_stale_recall"].nth(i).mean() for i in (0, -1))
    label = LABELS.get(variant, variant)
    return (
        f"{label[0].upper()}{label[1:]}: its keys are computed anew every {every} updates, which takes "
        f"{tables.number(rows['index_refresh_seconds'].median())} s. Of what the new keys propose, the old ones had "
        f"proposed {tables.number(first, 0)} % at the first time and {tables.number(last, 0)} % at the last (means "
        f"over {tables.plural(len(by_seed), 'seed')})."
    )


def none_relevant(share: float, n_traj: int) -> float:
    """Probability that a uniform batch holds no relevant trajectory."""
    return (1 - share) ** n_traj


# --- what is found ----------------------------------------------------------------------------------------------------


def quantity(results: Results, task_set: str, variant: str, name: str) -> dict[int, float]:
    """seed -> a quantity of attention.csv, such as "share-0.01/recall@10", mean over tasks."""
    frame = results.select(results.attention, EXPERIMENT, task_set, variant)
    frame = frame[frame["quantity"] == name].astype({"value": float})
    return {int(seed): float(mean) for seed, mean in frame.groupby("seed")["value"].mean().items()}


def quantity_table(results: Results, task_set: str, variant: str, what: str, way: str = "") -> pd.DataFrame:
    """(shares, seeds) of one quantity, such as "recall@10". May be empty. way: as for `return_table`."""
    frame = results.select(results.attention, EXPERIMENT, task_set, variant)
    rows = {}
    for name in frame["quantity"].unique():
        head, _, tail = str(name).partition("/")
        if share_of(head) is not None and share_of(head)[1] == way and tail == what:
            rows[share_of(head)[0]] = quantity(results, task_set, variant, name)
    return pd.DataFrame.from_dict(rows, orient="index").sort_index(axis=0).sort_index(axis=1)


def chance(what: str, share: float, trajectories: int) -> float:
    """What a random order of a whole retrieval dataset gives; not a number where that is not known.

    recall@k: of what k places can hold of the relevant, the share that is there, k share / min(k, relevant). mrr: the
    mean of 1 / (place of the first relevant one), the sum over places of share (1 - share)^(place - 1) / place, which
    is -share ln(share) / (1 - share), if the dataset is large against the places that count. Shares: the share itself.

    Args:
      trajectories: in the dataset.
    """
    if found := re.fullmatch(r"recall@(\d+)", what):
        relevant = max(round(share * trajectories), 1)
        return int(found[1]) * relevant / trajectories / min(int(found[1]), relevant)
    if what == "mrr":
        return 1.0 if share >= 1 else -share * math.log(share) / (1 - share)
    return share if what in ("relevant_in_batch", "attention_on_relevant") else math.nan


def dataset_size(results: Results, task_set: str) -> int:
    """Trajectories in a retrieval dataset, by configuration."""
    for variant in variants(results, task_set):
        run = first_run(results, EXPERIMENT, task_set, variant)
        size = value_of(results, run, "agent.retrieval.pool.trajectories")
        if isinstance(size, int):
            return size
    return PoolSettings().trajectories


# --- claims -----------------------------------------------------------------------------------------------------------


def return_at_share(results: Results, claim: Claim, settings: Settings) -> Samples | None:
    """Variant a against variant b at the claim's `share`, each in its own way."""
    share, task_set = float(claim.test["share"]), claim.test["task_set"]
    a, b = (score(results, task_set, claim.test[side], name_of(share)) for side in ("a", "b"))
    return Samples(a, b) if a and b else None


def found_at_share(results: Results, claim: Claim, settings: Settings) -> Samples | None:
    """Variant a against variant b in the claim's `quantity` at its `share`."""
    name = f"{name_of(float(claim.test['share']))}/{claim.test['quantity']}"
    a, b = (quantity(results, claim.test["task_set"], claim.test[side], name) for side in ("a", "b"))
    return Samples(a, b) if a and b else None


def intervention(results: Results, claim: Claim, settings: Settings) -> Samples | None:
    """The same networks under the interventions `of` and `against`."""
    return two_interventions(intervention_table(results, claim.test["task_set"], claim.test["a"], EXPERIMENT), claim)


def aggregate(results: Results) -> dict[str, float]:
    """run -> mean over tasks of the normalised last return."""
    return run_means(results.select(results.last, EXPERIMENT), "normalised")


MEASURES: Mapping = {
    "return_at_share": return_at_share,
    "found_at_share": found_at_share,
    "intervention": intervention,
}


# --- for the story ----------------------------------------------------------------------------------------------------


def effects(results: Results, settings: Settings) -> list[Effect]:
    """What rare relevance costs, and what an index makes of it, on the largest task set that was looked into."""
    sets = [name for name in task_sets(results) if not return_table(results, name, UNIFORM).empty]
    if not sets:
        return []
    task_set = sets[-1]

    def made(change: Change, samples: Samples | None) -> Effect | None:
        return effect(change, "Gridroboman", "gridroboman", task_set, samples, settings, unit=UNIT, digits=3)

    def fall(variant: str, share: float) -> Samples | None:
        return paired(*(score(results, task_set, variant, name_of(s)) for s in (share, 1.0)))

    found: list[Effect | None] = []
    for variant in variants(results, task_set):
        label = LABELS.get(variant, variant)
        shares = [share for share in return_table(results, task_set, variant).index[::-1] if share < 1]
        falls = {
            s: made(
                Change(
                    "data",
                    f"Rare relevance, {label}: {f'a share of {s:g}' if s else 'nothing'} is relevant",
                    f"{s:g} relevant, {SHORT.get(variant, label)}",
                ),
                fall(variant, s),
            )
            for s in [*shares, 0.0]
        }
        first = next((s for s, e in falls.items() if e is not None and e.reading == "costs"), None)
        found += [falls[s] for s in dict.fromkeys((first, TOLD_SHARE, 0.0)) if s in falls]
        base = without_index(results, task_set, variant)
        if base is not None and taught(base) == taught(variant):  # it is the index alone by which they differ
            what = f"Where a share of {TOLD_SHARE:g} is relevant: {label}, in the place of {LABELS[base]}"
            change = Change("repair", what, f"{SHORT.get(variant, label)}, {TOLD_SHARE:g} relevant")
            a, b = (score(results, task_set, v, name_of(TOLD_SHARE)) for v in (variant, base))
            found.append(made(change, Samples(a, b) if a and b else None))
    return present(found)
