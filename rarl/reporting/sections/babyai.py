"""BabyAI's part of the report: the paper's table beside ours, levels, what is retrieved from whom, gallery, cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from scipy.special import stdtrit

from rarl.envs.babyai.levels import LEVELS
from rarl.errors import RarlError
from rarl.reporting import attention, cost, pictures, tables
from rarl.reporting.claims import Samples, Settings
from rarl.reporting.scores import intervention_scores, median_run, seed_means
from rarl.reporting.sections import Section
from rarl.reporting.sections import babyai_figures as draw
from rarl.reporting.sections import babyai_gallery as gallery
from rarl.reporting.sections.babyai_measures import (
    BASELINE,
    EXPERIMENT,
    LABELS,
    MEASURES,
    PAPER_OTHERS,
    PAPER_SEEDS,
    PAPER_SIZES,
    PAPER_SUCCESS,
    REASONS,
    USED,
    TaskSet,
    aggregate,
    attention_on_others,
    by_kind,
    effects,
    intervention_table,
    kind,
    level_order,
    missing_links,
    named_set,
    retrieving_from_others,
    scale_facts,
    success_table,
    task_sets,
)
from rarl.reporting.sheet import Sheet
from rarl.reporting.statistics import Interval, t_interval


def _sets(sheet: Sheet) -> list[TaskSet]:
    """The task sets with usable runs."""
    used = set(sheet.results.select(sheet.results.last, EXPERIMENT)["task_set"])
    return [chosen for chosen in task_sets(sheet.results) if chosen.name in used]


def _variants(sheet: Sheet, chosen: TaskSet) -> list[str]:
    return draw.in_order(sheet.results.select(sheet.results.last, EXPERIMENT, chosen.name)["variant"])


def _levels_of(sheet: Sheet) -> list[str]:
    return level_order(sheet.results.select(sheet.results.last, EXPERIMENT)["task"])


def _success(sheet: Sheet) -> None:
    results, sets = sheet.results, _sets(sheet)
    sheet.heading("Success beside the paper's Table 1")
    sheet.text(
        "Success is the share of evaluation episodes whose mission is accomplished in time, in percent, averaged over "
        f"levels. Learned here: {len(_levels_of(sheet))} of the {len(LEVELS)} levels, by one network each run. "
        "Within a task set all agents learn from the same trajectories; a set with less data is the beginning of one "
        "with more."
    )
    headers, cells, data = _table(sheet, sets)
    sheet.table(headers, cells, "l" + "r" * (len(headers) - 1))
    widening = float(stdtrit(PAPER_SEEDS - 1, 0.5 + sheet.settings.level / 2))
    sheet.text(
        Markup(
            "Column heads: trajectories per level. Paper: mean ± standard error of {} seeds; a {} % t interval of as "
            "many seeds is {} standard errors to either side. Ours: mean and t interval over seeds. Numbers: {}."
        ).format(
            PAPER_SEEDS,
            tables.number(100 * sheet.settings.level, 0),
            tables.number(widening, 1),
            sheet.csv("babyai-success", pd.DataFrame(data)),
        )
    )
    beside = draw.paper_columns(sets)
    sheet.figure(
        "babyai-success",
        draw.success_strip(results, sets),
        "Success of every seed, its mean and interval, for each amount of data and each agent.",
        "Success at the last evaluation. Each marker is a seed, the tick their mean, the bar the t interval."
        + (" Open diamond: the paper's number with its standard error, for orientation: its scale is another." if beside
           else ""),
    )  # fmt: skip
    sheet.figure(
        "babyai-curves",
        draw.learning_curves(results, sets),
        "Learning curves of all agents: success against learner updates, one panel per amount of data.",
        "Learning curves. Thin: every seed. Bold: mean over seeds, with its t interval.",
    )
    sheet.numbers("babyai-curves", draw.curve_table(results))


def _table(sheet: Sheet, sets: Sequence[TaskSet]) -> tuple[list[Any], list[list[Any]], list[dict[str, Any]]]:
    """Head and rows of Table 1 beside ours, and our numbers as data."""
    used = {variant for chosen in sets for variant in _variants(sheet, chosen)}
    beside = draw.paper_columns(sets)
    # Each of the paper's columns before the task set it is set beside, else before all of ours.
    columns: list[int | TaskSet] = [] if beside else list(range(len(PAPER_SIZES)))
    for chosen in sets:
        columns += [beside[chosen.name], chosen] if chosen.name in beside else [chosen]
    rows, data = [], []
    for variant in draw.in_order({*PAPER_SUCCESS, *used}):
        row: list[Any] = [draw.look(variant).label]
        seeds = []
        for column in columns:
            if isinstance(column, int):
                printed = PAPER_SUCCESS.get(variant)
                row.append(tables.unbroken("{} ± {}".format(*printed[column])) if printed else None)
                continue
            table = success_table(sheet.results, column.name, variant)
            values = list(seed_means(table).values())
            mean = t_interval(values, sheet.settings.level)
            row.append(tables.interval(mean, 1))
            seeds.append(str(len(values)) if values else tables.NONE)
            if values:
                data.append({"task_set": column.name, "variant": variant, "levels": table.shape[1],
                             "trajectories_per_level": column.episodes, "seeds": mean.n[0],
                             "success_percent": mean.estimate, "low": mean.low, "high": mean.high})  # fmt: skip
        rows.append([*row, tables.unbroken(" / ".join(seeds))])
    heads = [
        f"Paper, {PAPER_SIZES[column] // 1000}k" if isinstance(column, int) else f"Ours, {column.short}"
        for column in columns
    ]
    return ["Agent", *map(tables.unbroken, heads), "Seeds"], rows, data


def _levels(sheet: Sheet) -> None:
    results = sheet.results
    sheet.heading("Level by level")
    sheet.figure(
        "babyai-levels",
        draw.per_level(results, _sets(sheet)),
        "Success on each level, single levels above compositional ones, every seed a dot, for all agents.",
        "Success per level at the last evaluation. Dots: seeds. Ticks: their mean. In brackets: why a level is "
        "compositional.",
    )
    columns = ["task_set", "variant", "seed", "task", "episodes", "success_rate", "return_mean", "return_std"]
    last = results.select(results.last, EXPERIMENT)[columns]
    frame = last.assign(kind=last["task"].map(kind))
    sheet.numbers("babyai-levels", frame, "Every run, every level")
    used = set(_levels_of(sheet))
    composed = [level for level in LEVELS if level.compositional]
    sheet.text(
        f"The paper calls about 15 of the {len(LEVELS)} levels compositional and does not name them. By the rule used "
        f"here it is these {len(composed)}:"
    )
    rows = [
        [level.name, level.composition, REASONS[level.composition], "yes" if level.name in used else "no"]
        for level in composed
    ]
    sheet.folded(
        f"The {len(composed)} compositional levels, and the {len(LEVELS) - len(composed)} others",
        Markup("{}\n\n{}").format(
            tables.table(["Level", "Reason", "That is", "Learned here"], rows),
            tables.md(
                "Single: "
                + ", ".join(
                    level.name + (" (learned here)" if level.name in used else "")
                    for level in LEVELS
                    if not level.compositional
                )
                + ". Not compositional: unlocking a door for its own sake, putting next to each other what lies in one "
                "room, and UnblockPickup, most of whose missions need no unblocking."
            ),
        ),
    )


def _access(sheet: Sheet) -> None:
    results, settings = sheet.results, sheet.settings
    sheet.heading("From whom it retrieves")
    measured = {chosen.name: retrieving_from_others(results, chosen.name) for chosen in _sets(sheet)}
    if not any(measured.values()):
        sheet.text("No attention was measured on an agent that retrieves from other levels.")
        return
    sheet.text(
        "Share of the attention, over all steps of greedy episodes, that falls on trajectories of other levels than "
        f"the one in play. The paper: {PAPER_OTHERS['compositional']} % of accesses on compositional levels, "
        f"{PAPER_OTHERS['single']} % on single ones; what counts as an access is not said. Chance is the share of "
        "other levels' states among the candidates; it is low for a level whose own trajectories are long."
    )
    rows, data = [], []
    for chosen in _sets(sheet):
        for variant in draw.in_order(measured[chosen.name]):
            found = _shares(sheet, chosen, variant)
            rows.append(
                [chosen.short, draw.look(variant).label]
                + [tables.interval(found[k], 1, signed=k == "difference") for k in (*PAPER_OTHERS, "difference")]
                + [" / ".join(tables.number(found[f"{k} chance"].estimate, 0) for k in PAPER_OTHERS)]
                + [tables.seeds(found["compositional"].n)]
            )
            for name, value in found.items():
                data.append({"task_set": chosen.name, "variant": variant, "quantity": name, "percent": value.estimate,
                             "low": value.low, "high": value.high, "seeds": value.n[0]})  # fmt: skip
    headers = ["Trajectories", "Agent", "Compositional, %", "Single, %", "Difference", "Chance, %", "Seeds"]
    sheet.table(headers, rows, "llrrrrr")
    shown = [chosen for chosen in _sets(sheet) if measured[chosen.name]][-1]
    drawn = draw.access(results, shown.name, draw.in_order(measured[shown.name]))
    if drawn is not None:
        sheet.figure(
            "babyai-access",
            drawn,
            "Per level: the attention on trajectories of other levels, every seed a dot, and the share of such states "
            "among the candidates; means of compositional and of single levels beside the paper's.",
            f"Attention on other levels' trajectories ({shown.title}). Above each group its mean with the t interval, "
            "and the paper's number (open diamond). Grey line: share among the candidates; a dot on it means no better "
            "than chance, left of it means that the level's own trajectories are preferred.",
        )
    sheet.numbers("babyai-access", pd.DataFrame(data))
    frame = results.select(results.attention, EXPERIMENT, shown.name)
    more = attention.table(frame, _QUANTITIES, draw.in_order(frame["variant"]), draw.look, "levels", settings.level)
    sheet.folded("More on attention", more)


def _shares(sheet: Sheet, chosen: TaskSet, variant: str) -> dict[str, Interval]:
    """The shares in percent of both kinds of levels, their difference, and the candidates' shares."""
    level = sheet.settings.level
    share, candidates = attention_on_others(sheet.results, chosen.name, variant)
    of = {which: by_kind(share, which) for which in PAPER_OTHERS}
    found = {which: t_interval(list(values.values()), level) for which, values in of.items()}
    found["difference"] = Samples(of["compositional"], of["single"], design="paired").interval(level)
    for which in PAPER_OTHERS:
        found[f"{which} chance"] = t_interval(list(by_kind(candidates, which).values()), level)
    return found


_QUANTITIES = {
    **attention.QUANTITIES,
    "related_there": "episodes with a trajectory in the batch whose mission speaks of the same thing (colour, kind)",
    "related_share": "attention on such trajectories",
    "related_candidates": "their states among the candidates",
}


def _interventions(sheet: Sheet) -> None:
    results = sheet.results
    sheet.heading("What retrieval does")
    measured = []
    for chosen in _sets(sheet):
        frame = intervention_table(results, chosen.name)
        if not frame.empty:
            measured.append((chosen, frame))
    raw = results.select(results.interventions, EXPERIMENT)
    unread = raw if "success_rate" not in raw else raw[raw["success_rate"].isna()]
    for run in sorted(set(unread["run"])):
        results.problems.append((f"{run}/interventions.csv", "rows without a success rate; left out"))
    drawn = [(chosen, draw.interventions(results, chosen.name)) for chosen, _ in measured]
    drawn = [(chosen, figure) for chosen, figure in drawn if figure is not None]
    if not drawn:
        sheet.text("No interventions were measured.")
    for chosen, figure in drawn[-1:]:
        sheet.figure(
            "babyai-interventions",
            figure,
            "Success of the probed agents when what they retrieve from is left, removed, shuffled, or taken from other "
            "levels only.",
            f"The same trained networks with their retrieval batch changed at evaluation ({chosen.title}). Shuffled: "
            "states exchanged between trajectories. Other levels only: without the trajectories of the level in play.",
        )
    scores = [
        {"task_set": chosen.name, "variant": variant, "intervention": name, "seed": seed, "success_percent": value}
        for chosen, frame in measured
        for (variant, name), _ in frame.groupby(["variant", "intervention"])
        for seed, value in intervention_scores(frame[frame["variant"] == variant], name, value="success").items()
    ]
    if scores:
        sheet.numbers("babyai-interventions", pd.DataFrame(scores))


def _missing(sheet: Sheet) -> None:
    """From the trajectory in the batch to the gain: what was measured about each link of the chain."""
    shown = [chosen for chosen in _sets(sheet) if not intervention_table(sheet.results, chosen.name).empty]
    if not shown:
        return
    chosen = shown[-1]
    frame = intervention_table(sheet.results, chosen.name)
    retrieving = draw.in_order(frame["variant"][frame["intervention"] == "removed"])
    rows = missing_links(sheet.results, chosen.name, retrieving, sheet.settings)
    if not rows:
        return
    sheet.heading("What is missing")
    sheet.text(
        "For retrieval to help, every link of a chain must hold: what is needed lies in the batch, attention finds it, "
        f"the bottleneck lets it through, and the head uses it. What was measured about each ({chosen.title}):"
    )
    sheet.table(
        ["Link", "Measured", *(draw.look(variant).label for variant in retrieving)],
        [
            [
                row.link,
                row.measured,
                *(tables.interval(row.values.get(v), row.digits, signed=row.signed) for v in retrieving),
            ]
            for row in rows
        ],
        "ll" + "r" * len(retrieving),
    )
    used = next((row for row in rows if row.link == USED), None)
    if used is None:
        return
    unused = [v for v in retrieving if v in used.values and not used.values[v].low > 0]
    if unused:
        names = "; ".join(draw.look(variant).label for variant in unused)
        sheet.text(
            f"Without anything to retrieve from, these networks do no measurably worse: {names}. Where such an agent "
            "is better than RDQN all the same, the gain comes from what retrieval brings along (more parameters, "
            "auxiliary losses on the retrieved trajectories), not from what is retrieved when it acts."
        )


def _gallery(sheet: Sheet) -> None:
    results = sheet.results
    sheet.heading("Gallery: what it looks at")
    scores = aggregate(results)
    found = {}
    for chosen in _sets(sheet):
        for variant in _variants(sheet, chosen):
            run = median_run(results, EXPERIMENT, chosen.name, variant, scores)
            if run is not None:
                found[variant] = (chosen, run)  # of several task sets the one with the most data
    if not found:
        sheet.text("No gallery was recorded.")
        return
    rule_told = False
    for variant in draw.in_order(found):
        chosen, run = found[variant]
        try:
            content = gallery.read_gallery(results.galleries[run])
            episodes = content["episodes"]
            episode = pictures.median_episode(episodes) if episodes else None
            shown = gallery.boards(episode) if episode else []
        except RarlError as error:
            results.problems.append((f"{run}/gallery.json", str(error)))
            sheet.text(f"{draw.look(variant).label}: the gallery could not be read; see the list of failures.")
            continue
        if episode is None:
            sheet.text(f"{draw.look(variant).label}: the gallery holds no episode.")
            continue
        if not rule_told:
            sheet.text(
                "Of each agent the run with the median score, and of the episodes recorded of it the one with the "
                f"median return. Recorded by this rule: {content['rule'] or 'not stated.'} "
                f"{pictures.STEP_RULE} The agent sees the lit part of the board only, and its mission."
            )
            rule_told = True
        _episode(sheet, variant, run, episode, shown)


def _episode(sheet: Sheet, variant: str, run: str, episode: dict[str, Any], shown: list[np.ndarray]) -> None:
    label = draw.look(variant).label
    what = f"{label}. Level {episode['task']}, “{episode['mission']}”: {gallery.outcome(episode)} (run {run})."
    retrieves = any(step["retrieved"] for step in episode["steps"])
    if retrieves:
        sheet.figure(
            f"babyai-strip-{variant}",
            gallery.strip(episode, shown),
            f"Chosen steps of an episode of {episode['task']}: the board, and the retrieved views with the largest "
            "attention weights.",
            f"{what} Left: the board. Then the retrieved states with the most attention, as seen by the agent that "
            "was there (looking up): weight, level, mission, place in its trajectory and the trajectory's return. "
            "Thick frame: rewarded.",
        )
    sheet.image(
        f"babyai-episode-{variant}.gif",
        gallery.episode_gif(episode, shown),
        f"Animation of an episode of {episode['task']}, “{episode['mission']}”, played by this agent: {label}.",
        f"{label}. The same episode, all recorded steps." if retrieves else what,
    )


def _data(sheet: Sheet) -> None:
    """How the trajectories were made, from the manifests of the data sets that the runs used."""
    results = sheet.results
    sheet.heading("How the trajectories were made")
    used = {path for run in results.select(results.last, EXPERIMENT)["run"].unique()
            for path in (results.records[run].get("data") or {})}  # fmt: skip
    manifests = {path: manifest for path, manifest in results.manifests.items() if path in used}
    if not manifests:
        sheet.text("The manifests of the data sets are not here.")
        return
    generators = [m["generator"] for m in manifests.values() if isinstance(m.get("generator"), dict)]
    noise = sorted({str(g["noise_percent"]).strip("[]") for g in generators if g.get("noise_percent")})
    played = "Ours: source " + ", ".join(sorted({str(m.get("source")) for m in manifests.values()}))
    if all(m.get("source") == "bot" for m in manifests.values()):
        played = (
            "Ours are played by minigrid's bot (KeyInBox by an expert of our own), with random actions in the place of "
            "its advice"
            + (f", in these shares of an episode's steps, in percent: {'; '.join(noise)}" if noise else "")
            + ". Where the bot has no plan, the attempt is rejected and counted"
        )
    sheet.text(f"How the paper's were made is not said. {played}.")
    order = {task: i for i, task in enumerate(level_order(str(m.get("task")) for m in manifests.values()))}
    rows = []
    for _, m in sorted(manifests.items(), key=lambda entry: (order[str(entry[1].get("task"))], entry[0])):
        episodes, steps = m.get("episodes"), m.get("steps")
        length = steps / episodes if isinstance(steps, int) and isinstance(episodes, int) and episodes else None
        returns = m["returns"].get("mean") if isinstance(m.get("returns"), dict) else None
        task = str(m.get("task"))
        rows.append([task, kind(task), tables.count(episodes), tables.number(length, 1), tables.number(returns),
                     tables.number(m.get("expert_return")), _rejected(m)])  # fmt: skip
    headers = ["Level", "Kind", "Trajectories", "Steps each", "Return", "Return without noise", "Rejected attempts"]
    sheet.table(headers, rows, "llrrrrl")
    sheet.text("Numbers of the whole data sets; a task set with less data uses their first trajectories.")


def _rejected(manifest: dict[str, Any]) -> str:
    """ "12 (endless plan 9, box opened 3)"; agents in training have no attempts that could be rejected."""
    if manifest.get("source") == "rdqn":
        return "0"
    generator = manifest.get("generator")
    rejected = generator.get("rejected") if isinstance(generator, dict) else None
    if not isinstance(rejected, dict):
        return "not recorded"
    counts = {str(why): n for why, n in rejected.items() if isinstance(n, int)}
    total = tables.count(sum(counts.values()))
    reasons = ", ".join(f"{why} {tables.count(n)}" for why, n in sorted(counts.items(), key=lambda x: (-x[1], x[0])))
    return f"{total} ({reasons})" if counts else "0"


def _cost(sheet: Sheet) -> None:
    order = [(chosen.name, variant) for chosen in _sets(sheet) for variant in _variants(sheet, chosen)]
    cost.write(sheet, EXPERIMENT, order, BASELINE, draw.look, "the task set with the most data")


def _protocol(settings: Settings) -> list[tuple[str, str]]:
    return [
        (
            "Success (BabyAI).",
            "Share of evaluation episodes whose mission is accomplished before time runs out, averaged over levels; in "
            "percent. It is not divided by an expert's.",
        )
    ]


SECTION = Section(
    experiment=EXPERIMENT,
    title="BabyAI",
    measures=MEASURES,
    scale_facts=scale_facts,
    parts=(_success, _levels, _access, _interventions, _missing, _gallery, _data, _cost),
    aggregate=aggregate,
    labels=LABELS,
    protocol=_protocol,
    task_set=named_set,
    effects=effects,
)
