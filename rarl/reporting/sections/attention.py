"""What is retrieved and whether it is used; how attention spreads, and on what it falls beside what chance would
give."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from rarl.config.doubts import doubts_about
from rarl.config.settings import RunSettings
from rarl.errors import RarlError
from rarl.reporting import tables
from rarl.reporting.claims import EVERY
from rarl.reporting.pictures import read_gallery
from rarl.reporting.registry import QUANTITIES
from rarl.reporting.results import IDENTITY, spelled
from rarl.reporting.sheet import Sheet
from rarl.reporting.statistics import POSITIVE, SHARES, paired, seed_means, t_interval
from rarl.reporting.study import Study, Variant

_SHARES = {"task_named", "related_there", *(name for name in QUANTITIES if name.endswith("_share"))}
_BY_GROUP = ("other_share", "rewarded_share")
OTHER = ("flips_exchanged", "flips_redrawn")  # by another batch: of another task, where there is one; drawn anew
_USE = {  # of retrieval.csv
    "agent": "Agent", "set": "Task set", "states": "States per batch", "steps_per_trajectory": "Steps per trajectory",
    "last_share": "Share of them that are last steps", "effective_states": "Effective number of attended states",
    "top_three": "Ever among the three of most attention, per recorded episode",
    "logit_std": "SD of logits", "z_between": "SD of z between batches, relative to its RMS",
    "flips_redrawn": "Actions changed by another draw, %", "flips_exchanged": "by another task's batch, %",
    "flips_removed": "by none, %",
}  # fmt: skip


def write(study: Study, sheet: Sheet) -> None:
    """The table of all quantities."""
    frame = attention_frame(study, sheet.rules.level)
    heads = {"text": "Quantity", "agent": "Agent", "set": study.heads["set"], "group": "Mean over", "seeds": "Seeds",
             "value": "Value", "delta_chance": "Minus chance"}  # fmt: skip
    if len(frame):
        sheet.heading("Attention")
        sheet.table(f"{study.name}-attention", frame, heads, "attention, with 95 % CI", folded=len(frame) > 12)


def attention_frame(study: Study, level: float) -> pd.DataFrame:
    """A row for each task set, variant, quantity and group of tasks: its mean, and that less what chance gives."""
    groups = {"all": None} | {name: set(map(spelled, tasks)) for name, tasks in study.spec.task_groups.items()}
    rows = []
    for task_set, variant in ((s, v) for s in study.used_sets for v in study.variants_on(s)):
        for name, (text, by_chance) in QUANTITIES.items():
            values, uniform = (study.attention(variant, task_set, quantity) for quantity in (name, by_chance))
            for group, tasks in groups.items():
                if group != "all" and (name not in _BY_GROUP or len(groups) > 3):
                    continue
                found, chance = (_of(table, tasks) for table in (values, uniform))
                if not found or (name == "kl" and not any(found.values())):  # without a bottleneck there is none
                    continue
                over, bounds = paired(found, chance), SHARES if name in _SHARES else POSITIVE
                rows.append({
                    "task_set": task_set, "variant": variant.name, "quantity": name, "group": group,
                    "seeds": len(found), "value": t_interval(list(found.values()), level, bounds),
                    "chance": t_interval(list(chance.values()), level, bounds) if chance else None,
                    "delta_chance": over and over.interval(level), "set": study.set_title(task_set),
                    "agent": variant.label, "text": text,
                })  # fmt: skip
    return pd.DataFrame(rows)


def _of(table: pd.DataFrame, tasks: set[str] | None) -> dict[int, float]:
    return seed_means(table[[task for task in table if tasks is None or task in tasks]])


def last_records(study: Study, variant: Variant | None = None, task_set: str | None = None) -> pd.DataFrame:
    """What runs recorded of retrieval at their last evaluation; arguments as of `Study.rows`."""
    frame = study.rows(study.results.retrieval, variant, task_set)
    return frame[frame["update"] == frame.groupby("run")["update"].transform("max")]


def changed_by(last: pd.DataFrame, names: Sequence[str] = OTHER) -> pd.Series:
    """Of rows of `last_records` the share of greedy actions that change by one of these, whichever changes more."""
    return last.reindex(columns=list(names)).apply(pd.to_numeric, errors="coerce").max(axis=1)


def retrieval_frame(study: Study) -> pd.DataFrame:
    """One row for each variant of a task set, means over its seeds at their last evaluation; empty without any."""
    last = last_records(study)
    measured = [name for name in _USE if name in last]
    numbers = last[measured].apply(pd.to_numeric, errors="coerce")
    means = numbers.groupby([last[key] for key in IDENTITY[2:4]], sort=False).mean().reset_index()
    means[[name for name in measured if name.startswith("flips")]] *= 100
    means["top_three"] = [_top_three(study, *key) for key in means[IDENTITY[2:4]].itertuples(index=False)]
    return means.assign(agent=means["variant"].map(study.label), set=means["task_set"].map(study.set_title))


def _top_three(study: Study, task_set: str, variant: str) -> float:
    """How many states are ever among the three of most attention in a recorded episode, which has one retrieval batch:
    mean over episodes and seeds. 3: they never change, whatever the agent sees. NaN where nothing was recorded."""
    runs, found = study.results.select(study.results.runs, study.name, task_set, variant), []
    for run in runs["run"][runs["usable"]]:
        try:
            episodes = read_gallery(study.results.galleries[run]) if run in study.results.galleries else []
            for steps in (episode["steps"] for episode in episodes):
                # Of a game's steps not all were recorded with it.
                shown = [step["retrieved"] for step in steps if len(step["retrieved"]) > 2]
                top = [sorted(states, key=lambda state: -state["weight"])[:3] for states in shown]
                if len(top) > 1:
                    found.append(len({state["candidate"] for states in top for state in states}))
        except (RarlError, KeyError, TypeError) as error:
            study.results.note(f"{run}/gallery.json", error)
    return sum(found) / len(found) if found else math.nan


def used_by(study: Study, variant: Variant, task_set: str) -> dict[str, Any]:
    """A variant's row of `retrieval_frame` on a task set, with `read`, "48 of 96", the states read of those in a batch,
    and `flips_other` in percent; empty where nothing was recorded."""
    frame = retrieval_frame(study)
    rows = frame[(frame["variant"] == variant.runs[1]) & ((task_set == EVERY) | (frame["task_set"] == task_set))]
    if rows.empty:
        return {}
    row, most = dict(rows.iloc[-1]), study.value(variant, task_set, "agent.retrieval.k_states")
    there = row.get("states")
    row["flips_other"] = 100 * changed_by(last_records(study, variant, task_set)).mean()
    return row | ({"read": f"{min(most, there):.3g} of {there:.3g}"} if there and most else {})


def write_use(study: Study, sheet: Sheet) -> None:
    """The table of what is retrieved, and whether it is used, by the runs' own records."""
    frame = retrieval_frame(study)
    if len(frame):
        sheet.heading("What is retrieved, and whether it is used")
        caption = ("fixed set of states, last evaluation, mean over seeds. An agent whose greedy actions do not change "
                   "with another batch does not read what is retrieved.")  # fmt: skip
        sheet.table(f"{study.name}-retrieval", frame, _USE, caption, digits=2)
    if said := warnings(study):
        sheet.folded("What the runs warn of", tables.table(["Warning", "Variants"], said))


def _doubts(settings: Any) -> list[str]:
    """Those of a run's settings; none where they are of another version."""
    try:
        return doubts_about(RunSettings.model_validate(settings))
    except ValueError:
        return []


def warnings(study: Study) -> list[list[str]]:
    """What runs said of their settings before they began, or these say of themselves, each with the variants that it
    concerns."""
    runs, found = study.rows(study.results.runs), dict[str, list[str]]()
    for run, variant in runs.loc[runs["usable"], ["run", "variant"]].to_numpy():
        record = study.results.records[run]
        for warning in [*(record.get("warnings") or ()), *_doubts(record.get("config"))]:
            found.setdefault(str(warning), []).append(study.label(variant))
    return [[warning, ", ".join(dict.fromkeys(labels))] for warning, labels in found.items()]
