"""What was measured of attention: how it spreads, and on what it falls beside what chance would give."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from rarl.reporting import tables
from rarl.reporting.results import spelled
from rarl.reporting.sections.tasks import by_task, stacked
from rarl.reporting.sheet import Sheet
from rarl.reporting.statistics import POSITIVE, SHARES, paired, seed_means, t_interval
from rarl.reporting.study import Study, Variant


class Quantity(NamedTuple):
    """A quantity of attention.csv. chance: the one that says what attending everywhere alike would give."""

    text: str
    chance: str = ""


QUANTITIES = {
    "effective_states": Quantity("effective number of attended states (exp. entropy)"),
    "kl": Quantity("KL of z's posterior from its prior, nats/step"),
    "task_named": Quantity("task decodable from z (accuracy of a linear probe)"),
    "rewarded_share": Quantity("attention on rewarded states", "rewarded_candidates"),
    # As products from before probes were the same everywhere call it.
    "goal_state_mass": Quantity("attention on rewarded states", "goal_state_share"),
    "other_share": Quantity("attention on other tasks' trajectories", "other_candidates"),
    "related_there": Quantity("batches that contain a trajectory with the same target object"),
    "related_share": Quantity("attention on trajectories with the same target object", "related_candidates"),
    "place_distance": Quantity("distance in steps between attended and current position in the episode",
                               "place_candidates"),
}  # fmt: skip
_SHARES = {"task_named", "related_there", *(name for name in QUANTITIES if name.endswith(("_share", "_mass")))}
_DRAWN = ("other_share", "rewarded_share", "goal_state_mass")  # task by task, the first of which there is something


def write(study: Study, sheet: Sheet) -> None:
    """The table of all quantities; task by task, where attention falls."""
    frame = attention_frame(study, sheet.rules.level)
    if frame.empty:
        return
    sheet.heading("Attention")
    task_set = frame["task_set"].iloc[-1]
    noun = study.spec.task_noun
    for quantity in _DRAWN:
        shown = [v for v in study.variants.values() if _chance(study, v, task_set, quantity).to_numpy().any()]
        if shown:
            panels = {v.label: {v.look: stacked(study.attention(v, task_set, quantity))} for v in shown}
            chance = {v.label: stacked(_chance(study, v, task_set, quantity)) for v in shown}
            long = {v.name: study.attention(v, task_set, quantity).assign(chance=_chance(study, v, task_set, quantity).mean(axis=1))
                    for v in shown}  # fmt: skip
            sheet.figure(
                f"{study.name}-attention-{quantity.partition('_')[0]}",
                by_task(study, panels, QUANTITIES[quantity].text, (0.0, 1.0), chance=chance),
                pd.concat(long, names=["variant"]).reset_index(),
                f"Per {noun}: {QUANTITIES[quantity].text}, and chance.",
                f"{QUANTITIES[quantity].text.capitalize()} ({study.set_title(task_set)}). Dots: seeds. Grey ticks: uniform "
                "attention (chance).",
            )
            break
    columns = [
        tables.words("text", "Quantity"),
        *study.columns[:2],
        tables.words("group", "Mean over"),
        tables.numbers("seeds", "Seeds"),
        tables.intervals("value", "Value"),
        tables.intervals("over_chance", "Minus chance", signed=True),
    ]
    caption = "attention, mean over tasks with 95 % CI"
    sheet.table(f"{study.name}-attention", frame, columns, caption, folded=len(frame) > 12)


def _chance(study: Study, variant: Variant, task_set: str, quantity: str) -> pd.DataFrame:
    name = QUANTITIES[quantity].chance
    return study.attention(variant, task_set, name) if name else pd.DataFrame()


def attention_frame(study: Study, level: float) -> pd.DataFrame:
    """A row for each task set, variant, quantity and group of tasks: its mean, and that less what chance gives."""
    groups = {"all": None} | {name: set(map(spelled, tasks)) for name, tasks in study.spec.task_groups.items()}
    rows = []
    for task_set in study.used_sets:
        for variant in study.variants_on(task_set):
            for name, quantity in QUANTITIES.items():
                values = study.attention(variant, task_set, name)
                chance = _chance(study, variant, task_set, name)
                for group, tasks in groups.items():
                    if group != "all" and (name not in _DRAWN or len(groups) > 3):
                        continue  # many groups are seen task by task
                    found, by_chance = (_of(table, tasks) for table in (values, chance))
                    if not found:
                        continue
                    over, bounds = paired(found, by_chance), SHARES if name in _SHARES else POSITIVE
                    rows.append({
                        "task_set": task_set, "variant": variant.name, "quantity": name, "group": group,
                        "seeds": len(found), "value": t_interval(list(found.values()), level, bounds),
                        "chance": t_interval(list(by_chance.values()), level, bounds) if by_chance else None,
                        "over_chance": over and over.interval(level), "set": study.set_title(task_set),
                        "agent": variant.label, "text": quantity.text,
                    })  # fmt: skip
    return pd.DataFrame(rows)


def _of(table: pd.DataFrame, tasks: set[str] | None) -> dict[int, float]:
    return seed_means(table[[task for task in table if tasks is None or task in tasks]])
