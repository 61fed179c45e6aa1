"""Atari's part of the report: curves and scores beside the paper's, its headline, what is retrieved, cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from rarl.envs.atari.scores import HEADLINE_GAIN, HEADLINE_SPREAD, paper_scores, table
from rarl.errors import RarlError
from rarl.reporting import attention, cost, figures, pictures, provenance, tables
from rarl.reporting.claims import Settings
from rarl.reporting.scores import intervention_scores, median_run
from rarl.reporting.sections import Section
from rarl.reporting.sections import atari_figures as draw
from rarl.reporting.sections import atari_gallery as gallery
from rarl.reporting.sections.atari_measures import (
    BASELINE,
    EXPERIMENT,
    LABELS,
    MEASURES,
    PAIRS,
    PAPER_COLUMNS,
    PAPER_FRAMES,
    Game,
    aggregate,
    curve_table,
    effects,
    games,
    intervention_table,
    named_set,
    paper_gains,
    scale_facts,
    score_frame,
    seed_scores,
)
from rarl.reporting.sheet import Sheet
from rarl.reporting.statistics import t_interval, welch_interval

MOST_SHOWN = 6  # galleries
MAX_FRAMES = 108_000  # of an episode, in the field's protocol


def _variants(sheet: Sheet, game: Game) -> list[str]:
    return draw.in_order(sheet.results.select(sheet.results.last, EXPERIMENT, game.task_set)["variant"])


def _frames(frames: pd.Series) -> str:
    """ "200k", or "100k to 200k" where runs differ."""
    ends = dict.fromkeys(figures.short(value) for value in (frames.min(), frames.max()) if np.isfinite(value))
    return " to ".join(ends) or tables.NONE


def _scores(sheet: Sheet) -> None:
    results, shown = sheet.results, games(sheet.results)
    last = score_frame(results, results.last)
    sheet.heading("Scores beside the paper's Table 3")
    sheet.text(
        f"One network per game and seed. Learned here: {tables.plural(len(shown), 'game')} of {len(table())}, for "
        f"{_frames(last['frames'])} frames each; the paper's agents had {figures.short(PAPER_FRAMES)}. A score is the "
        "mean over episodes of what the game counts, neither clipped nor discounted."
    )
    cut = [
        frames
        for frames in provenance.configured(results, "environment_options.max_frames", EXPERIMENT)
        if frames < MAX_FRAMES
    ]
    if cut:
        sheet.text(
            f"Episodes are cut off after {' or '.join(map(tables.count, cut))} frames, where whole games of up to "
            f"{tables.count(MAX_FRAMES)} are usual. Scores of what is cut off are not those of games: less is gained, "
            "and less is lost. Their human-normalised scores compare the agents here, not agents with humans."
        )
    sheet.figure(
        "atari-curves",
        draw.learning_curves(results, shown),
        "Learning curves of all agents: mean episode score against frames, one panel per game.",
        "Mean episode score against frames played by all actors together. Thin: every seed. Bold: mean over seeds, "
        "with its t interval. Dotted: random play. Dashed: the human, where the panel reaches there.",
    )
    bars = draw.human_normalised_bars(results, shown)
    if bars is not None:
        sheet.figure(
            "atari-normalised",
            bars,
            "Human-normalised score of every seed, its mean and interval, for each game and each agent.",
            "Human-normalised score at the last evaluation: 0 is random play, 1 the human. Each marker is a seed, the "
            "bar ends at their mean, the line is the t interval.",
        )
    rows, data = _score_rows(sheet, shown, last)
    headers = ["Game", "Agent", "Score", "Seeds", "Frames", "Human-normalised",
               f"Paper, {figures.short(PAPER_FRAMES)} frames", "Random", "Human"]  # fmt: skip
    sheet.table(headers, rows, "llrrrrrrr")
    _pairs(sheet, shown)
    columns = ["task_set", "variant", "seed", "task", "update", "frames", "episodes", "score", "return_std",
               "human_normalised", "success_rate"]  # fmt: skip
    sheet.text(
        Markup(
            "Ours: mean and t interval over seeds. Paper: mean ± spread of 3 seeds; random and human: the usual ones. "
            "Numbers: {}; every run: {}; curves: {}."
        ).format(
            sheet.csv("atari-scores", pd.DataFrame(data)),
            sheet.csv("atari-runs", last[columns]),
            sheet.csv("atari-curves", curve_table(results)),
        )
    )


def _score_rows(sheet: Sheet, shown: list[Game], last: pd.DataFrame) -> tuple[list[list[Any]], list[dict[str, Any]]]:
    """The table's cells, and the same as data."""
    level, rows, data = sheet.settings.level, [], []
    for game in shown:
        marks = table().get(game.name)
        for variant in _variants(sheet, game):
            here = last[(last["task_set"] == game.task_set) & (last["variant"] == variant)]
            score, share = (t_interval(here[column], level) for column in ("score", "human_normalised"))
            column = PAPER_COLUMNS.get(variant)
            mean, spread = (getattr(marks, f"{column}_{part}", None) for part in ("mean", "spread"))
            digits = 1 if abs(score.estimate) < 1000 else 0
            rows.append(
                [
                    tables.unbroken(game.title),
                    draw.look(variant).label,
                    tables.interval(score, digits),
                    tables.seeds(score.n),
                    _frames(here["frames"]),
                    tables.interval(share, 3),
                    _paper(mean, spread),
                    tables.number(marks.random, 1) if marks else None,
                    tables.number(marks.human, 1) if marks else None,
                ]
            )
            data.append(
                {"task_set": game.task_set, "variant": variant, "seeds": score.n[0], "frames": here["frames"].max(),
                 "score": score.estimate, "low": score.low, "high": score.high, "human_normalised": share.estimate,
                 "human_normalised_low": share.low, "human_normalised_high": share.high, "paper_mean": mean,
                 "paper_spread": spread, "random": marks and marks.random, "human": marks and marks.human}
            )  # fmt: skip
    return rows, data


def _paper(mean: float | None, spread: float | None) -> str | None:
    if mean is None:
        return None
    digits = 0 if float(mean).is_integer() else 1
    text = tables.number(mean, digits)
    return tables.unbroken(text if spread is None else f"{text} ± {tables.number(spread, digits)}")


def _pairs(sheet: Sheet, shown: list[Game]) -> None:
    """With retrieval less without, game by game."""
    rows = []
    for with_it, without in PAIRS:
        for game in shown:
            cells = []
            for value, digits in (("score", 1), ("human_normalised", 3)):
                a, b = (list(seed_scores(sheet.results, game.task_set, v, value).values()) for v in (with_it, without))
                difference = welch_interval(a, b, sheet.settings.level)
                cells.append(tables.interval(difference, digits, signed=True))
            if a and b:
                names = f"{draw.look(with_it).label} less {draw.look(without).label}"
                rows.append([names, tables.unbroken(game.title), *cells, tables.seeds((len(a), len(b)))])
    if rows:
        sheet.text("What retrieval adds, game by game (difference of the means, Welch interval):")
        sheet.table(["Agents", "Game", "Score", "Human-normalised", "Seeds"], rows, "llrrr")


def _headline(sheet: Sheet) -> None:
    """The paper's headline, computed again from the paper's own table."""
    sheet.heading("The paper's headline")
    n, found = len(paper_scores()[0]), paper_gains()
    sheet.text(
        f"The paper states a mean human-normalised score {tables.number(100 * HEADLINE_GAIN, signed=True)} ± "
        f"{tables.number(100 * HEADLINE_SPREAD, 1)} % above R2D2's. It could not be re-derived: when the scores of its "
        f"Table 3 are human-normalised game by game, with the usual scores of random play and of humans, and averaged "
        f"over the {n} games for which both are printed, RA-R2D2's average is larger than R2D2's by another share:"
    )
    rows = [["as stated", f"{tables.number(100 * HEADLINE_GAIN, signed=True)} %"]]
    rows += [[f"{name} over {n} games", f"{tables.number(100 * g, 1, signed=True)} %"] for name, g in found.items()]
    sheet.table(["RA-R2D2 over R2D2", "Gain"], rows, "lr")
    data = [{"aggregate": "stated", "gain": HEADLINE_GAIN}]
    data += [{"aggregate": name, "games": n, "gain": value} for name, value in found.items()]
    sheet.numbers("atari-headline", pd.DataFrame(data))


_QUANTITIES = attention.QUANTITIES | {
    "place_distance": "steps between the attended states' places in their episodes and the current one",
    "place_candidates": "the same of all candidates",
}


def _looking(sheet: Sheet) -> None:
    results, shown = sheet.results, games(sheet.results)
    sheet.heading("What retrieval does")
    drawn = draw.interventions(results, shown)
    if drawn is None:
        sheet.text("No interventions were measured.")
    else:
        sheet.figure(
            "atari-interventions",
            drawn,
            "Human-normalised score of the probed agents when what they retrieve from is left, removed or shuffled, "
            "every seed a dot.",
            "The same trained networks, the same episodes, with their retrieval batch changed at evaluation. Nothing "
            "retrieved: slots read nothing. Shuffled: states exchanged between the windows of the batch.",
        )
        frame = intervention_table(results)
        scores = [
            {"task_set": task_set, "variant": variant, "intervention": name, "seed": seed, "score": score,
             "human_normalised": share[seed]}
            for (task_set, variant, name), here in frame.groupby(["task_set", "variant", "intervention"])
            for share in [intervention_scores(here, name, value="human_normalised")]
            for seed, score in intervention_scores(here, name, value="score").items()
        ]  # fmt: skip
        sheet.numbers("atari-interventions", pd.DataFrame(scores))
    frame = results.select(results.attention, EXPERIMENT)
    frame = frame[frame["quantity"].isin(list(_QUANTITIES))]
    if frame.empty:
        sheet.text("No attention was measured.")
        return
    variants = draw.in_order(frame["variant"])
    sheet.parts.append(attention.table(frame, _QUANTITIES, variants, draw.look, "games", sheet.settings.level))


def _gallery(sheet: Sheet) -> None:
    results = sheet.results
    sheet.heading("Gallery: what it looks at")
    scores = aggregate(results)
    runs = [(game, variant, median_run(results, EXPERIMENT, game.task_set, variant, scores))
            for game in games(results) for variant in _variants(sheet, game)]  # fmt: skip
    runs = [(game, variant, run) for game, variant, run in runs if run is not None]
    if not runs:
        sheet.text("No gallery was recorded.")
        return
    found = []
    for game, variant, run in runs[:MOST_SHOWN]:
        who = f"{draw.look(variant).label} on {game.title}"
        try:
            content = gallery.read_gallery(results.galleries[run])
        except RarlError as error:
            results.problems.append((f"{run}/gallery.json", str(error)))
            sheet.text(f"{who}: the gallery could not be read; see the list of failures.")
            continue
        if content["episodes"]:
            found.append((who, variant, run, content))
        else:
            sheet.text(f"{who}: the gallery holds no episode.")
    if found:
        sheet.text(
            f"Of each game and agent the run with the median score. Recorded by this rule: "
            f"{found[0][3]['rule'] or 'not stated.'} {pictures.STEP_RULE} Screens are as the agent sees them."
        )
    for who, variant, run, content in found:
        _episode(sheet, who, variant, run, content)
    if len(runs) > MOST_SHOWN:
        sheet.text(f"{len(runs) - MOST_SHOWN} more were recorded and are not shown.")


def _episode(sheet: Sheet, who: str, variant: str, run: str, content: dict[str, Any]) -> None:
    episode = pictures.median_episode(content["episodes"])
    first, last = (episode["steps"][i]["t"] for i in (0, -1))
    what = (
        f"{who}, score {tables.number(episode['return'], 0)}: steps {first:,} to {last:,} of {int(episode['length']):,}"
        f" (run {run})."
    )
    name = run.replace("/", "-").removeprefix(f"{EXPERIMENT}-").rsplit("-seed-", 1)[0]
    retrieves = any(step["retrieved"] for step in episode["steps"])
    if retrieves:
        sheet.figure(
            f"atari-strip-{name}",
            gallery.strip(episode),
            f"Chosen steps of an episode: {who}; the screen, and the retrieved screens with the largest attention "
            "weights.",
            f"{what} Left: the screen. Then the retrieved states with the most attention: weight, place in their "
            "episode, and the reward that followed there (thick frame: above 0).",
        )
    sheet.image(
        f"atari-episode-{name}.gif",
        gallery.episode_gif(episode),
        f"Animation of the recorded part of an episode: {who}.",
        "The same steps, one after the other." if retrieves else what,
    )


def _cost(sheet: Sheet) -> None:
    shown = games(sheet.results)
    order = [(game.task_set, variant) for game in shown for variant in _variants(sheet, game)]
    cost.write(sheet, EXPERIMENT, order, BASELINE, draw.look, shown[-1].title)


def _protocol(settings: Settings) -> list[tuple[str, str]]:
    return [
        (
            "Human-normalised score (Atari).",
            "Score of an agent less that of random play, divided by the human's less that of random play. Here every "
            "game and seed has a network of its own; a number per seed is the mean over games. Frames count those of "
            "all actors, skipped ones included.",
        )
    ]


SECTION = Section(
    experiment=EXPERIMENT,
    title="Atari",
    measures=MEASURES,
    scale_facts=scale_facts,
    parts=(_scores, _headline, _looking, _gallery, _cost),
    aggregate=aggregate,
    labels=LABELS,
    protocol=_protocol,
    task_set=named_set,
    effects=effects,
)
