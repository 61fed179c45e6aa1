"""Per-seed numbers of Atari runs, for claims, tables and figures. A task set is one game, under its own name."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from rarl.envs.atari.games import GAMES
from rarl.envs.atari.scores import gain, human_normalised, paper_scores
from rarl.reporting import cost
from rarl.reporting.claims import EVERY, Claim, Samples, Settings
from rarl.reporting.effects import (
    NOTHING_RETRIEVED,
    REMOVED,
    RETRIEVAL,
    SHUFFLED,
    Change,
    Effect,
    effect,
    present,
)
from rarl.reporting.results import Results
from rarl.reporting.scores import intervention_scores, paired, run_means, seed_means, two_interventions
from rarl.reporting.statistics import score_table

EXPERIMENT = "atari"
BASELINE = "r2d2"
LABELS = {
    "r2d2": "R2D2",
    "ra-r2d2": "RA-R2D2",
    "dqn": "DQN",
    "ra-dqn": "RA-DQN",
    "no-retrieval": "RA-R2D2, nothing retrieved",
}
PAIRS = (("ra-r2d2", "r2d2"), ("ra-dqn", "dqn"))  # with and without retrieval, all else equal
PAPER_FRAMES = 2_000_000_000
PAPER_COLUMNS = {"r2d2": "paper_r2d2", "ra-r2d2": "paper_ra_r2d2"}  # of `rarl.envs.atari.scores`


@dataclass(frozen=True)
class Game:
    """A task set. name: of the game, as in `GAMES`; "" if it is none of them. title: for people."""

    task_set: str
    name: str
    title: str


def games(results: Results) -> list[Game]:
    """The task sets with usable runs, games in alphabetical order."""
    last = results.select(results.last, EXPERIMENT)
    found = []
    for task_set, tasks in last.groupby("task_set")["task"]:
        name = str(tasks.iloc[0])
        title = name.replace("_", " ") if str(task_set).replace("-", "_") == name else str(task_set)
        found.append(Game(str(task_set), name if name in GAMES else "", title))
    return sorted(found, key=lambda game: (game.name or "~", game.task_set))


# --- scores -----------------------------------------------------------------------------------------------------------


def normalised(tasks: Iterable[str], scores: Iterable[float]) -> np.ndarray:
    """Human-normalised scores: 0 random, 1 human; not a number where the game is unknown."""
    pairs = zip(tasks, scores, strict=True)
    return np.array([human_normalised(t, s) if t in GAMES else math.nan for t, s in pairs], dtype=float)


def score_frame(results: Results, frame: pd.DataFrame, experiment: str = EXPERIMENT) -> pd.DataFrame:
    """Rows of evaluations of games with `frames`, `score` and `human_normalised`."""
    frame = results.select(frame, experiment)
    per_update = frame["run"].map({run: frames_per_update(results, run) for run in frame["run"].unique()})
    return frame.assign(
        frames=frame["update"] * per_update.astype(float),
        score=frame["return_mean"].astype(float),
        human_normalised=normalised(frame["task"], frame["return_mean"].astype(float)),
    )


def frames_per_update(results: Results, run: str) -> float:
    """Emulator frames that all actors of a run play between two learner steps, by the run's own configuration."""
    config = results.records.get(run, {}).get("config")
    online: Any = config.get("online") if isinstance(config, dict) else None
    factors = [online.get(key) if isinstance(online, dict) else None
               for key in ("actors", "steps_per_update", "frame_skip")]  # fmt: skip
    return float(math.prod(factors)) if all(isinstance(factor, int) for factor in factors) else math.nan


def curve_table(results: Results) -> pd.DataFrame:
    """Rows task_set, variant, seed, update, frames, score, human_normalised at each evaluation point."""
    columns = ["task_set", "variant", "seed", "update", "frames", "score", "human_normalised"]
    return score_frame(results, results.evaluations)[columns]


def game_table(
    results: Results, variant: str, value: str = "human_normalised", experiment: str = EXPERIMENT
) -> pd.DataFrame:
    """(seeds, task sets) of the last evaluations. Empty where there are no usable runs."""
    frame = score_frame(results, results.last, experiment)
    frame = frame[frame["variant"] == variant]
    return score_table(frame.assign(task=frame["task_set"]), value).astype(float)


def seed_scores(results: Results, task_set: str, variant: str, value: str = "human_normalised") -> dict[int, float]:
    """seed -> last score on one game."""
    table = game_table(results, variant, value)
    return seed_means(table[[task_set]]) if task_set in table else {}


def human_normalised_scores(results: Results, claim: Claim, settings: Settings) -> Samples | None:
    """Variant a against variant b: mean over the games that both have of the last human-normalised score."""
    a, b = (_of_claim(game_table(results, claim.test[side]), claim) for side in ("a", "b"))
    common = [task_set for task_set in a if task_set in b]
    if not common:
        return None
    return Samples(seed_means(a[common]), seed_means(b[common]), detail=_games_text(common))


def _of_claim(table: pd.DataFrame, claim: Claim) -> pd.DataFrame:
    task_set = claim.test["task_set"]
    return table if task_set == EVERY else table[[name for name in table if name == task_set]]


def _games_text(task_sets: Iterable[str]) -> str:
    names = sorted(task_sets)
    return f"Mean over {len(names)} {'game' if len(names) == 1 else 'games'}: {', '.join(names)}."


def aggregate(results: Results) -> dict[str, float]:
    """run -> human-normalised score at the last evaluation."""
    return run_means(score_frame(results, results.last), "human_normalised")


def named_set(results: Results, claim: Claim) -> str | None:
    """The task set that a claim means; `EVERY` game only if its agents are planned."""
    rule = claim.test["task_set"]
    asked = {claim.test[side] for side in ("a", "b") if side in claim.test}
    return rule if rule != EVERY or asked <= set(results.planned(EXPERIMENT)["variant"]) else None


def scale_facts(results: Results, claim: Claim) -> dict[str, float]:
    """Our numbers beside the paper's: games, and frames of the shortest run."""
    last = score_frame(results, results.last)
    last = last[last["variant"].isin([claim.test.get(side) for side in ("a", "b")])]
    facts = {"frames per game": last["frames"].min(), "games": last["task"].nunique()}
    return {name: float(value) for name, value in facts.items() if value > 0}


def paper_gains() -> dict[str, float]:
    """How much larger RA-R2D2's human-normalised score is than R2D2's by the paper's own table, as a share."""
    r2d2, ra_r2d2 = paper_scores()
    return {"mean": gain(r2d2, ra_r2d2, np.mean), "median": gain(r2d2, ra_r2d2, np.median)}


# --- probes -----------------------------------------------------------------------------------------------------------


def intervention_table(results: Results, variant: str | None = None) -> pd.DataFrame:
    """Rows task_set, variant, intervention, seed, task, score, human_normalised."""
    frame = results.select(results.interventions, EXPERIMENT, variant=variant)
    scores = frame["return_mean"].astype(float)
    frame = frame.assign(score=scores, human_normalised=normalised(frame["task"], scores))
    return frame.dropna(subset=["human_normalised"])


def intervention(results: Results, claim: Claim, settings: Settings) -> Samples | None:
    """The same networks under the interventions `of` and `against`, on the games that both were measured on."""
    frame = intervention_table(results, claim.test["a"])
    if claim.test["task_set"] != EVERY:
        frame = frame[frame["task_set"] == claim.test["task_set"]]
    return two_interventions(frame, claim, "human_normalised")


# --- cost -------------------------------------------------------------------------------------------------------------


def _cost_ratio(results: Results, claim: Claim, column: str) -> Samples | None:
    """Seed by seed: a cost of variant a over that of b, mean over the games that both have."""
    runs = cost.run_costs(results, EXPERIMENT)
    runs = runs.assign(task=runs["task_set"])
    a, b = (_of_claim(score_table(runs[runs["variant"] == claim.test[side]], column), claim) for side in ("a", "b"))
    common = [task_set for task_set in a if task_set in b]
    seeds = a.index.intersection(b.index)
    ratios = seed_means(a.loc[seeds, common].astype(float) / b.loc[seeds, common].astype(float))
    return Samples(ratios, design="single", detail=_games_text(common)) if ratios else None


def time_ratio(results: Results, claim: Claim, settings: Settings) -> Samples | None:
    """Training time per learner update, playing included, of a over b."""
    return _cost_ratio(results, claim, "ms_per_update")


def parameter_ratio(results: Results, claim: Claim, settings: Settings) -> Samples | None:
    """Parameters of a over b."""
    return _cost_ratio(results, claim, "parameters")


def effects(results: Results, settings: Settings) -> list[Effect]:
    """What retrieval adds over all games, with and without the agent's own recurrence, and interventions."""
    found: list[Effect | None] = []
    for with_it, without in PAIRS:
        tables_ = [game_table(results, variant) for variant in (with_it, without, "no-retrieval")]
        full, base = _common_means(tables_[:2])
        gain = Samples(full, base) if full and base else None
        where = f"Atari, {LABELS[with_it]}"

        def made(
            change: Change, samples: Samples | None, where: str = where, gain: Samples | None = gain
        ) -> Effect | None:
            return effect(
                change, where, EXPERIMENT, EVERY, samples, settings,
                unit="of the human's score above random play", digits=3, gain=gain,
            )  # fmt: skip

        found.append(made(RETRIEVAL, gain))
        if with_it == PAIRS[0][0]:
            none, as_is = _common_means([tables_[2], tables_[0]])
            found.append(made(NOTHING_RETRIEVED, Samples(none, as_is) if none and as_is else None))
        frame = intervention_table(results, with_it)
        own = intervention_scores(frame, "own", value="human_normalised")
        for name, change in (("removed", REMOVED), ("shuffled", SHUFFLED)):
            changed = intervention_scores(frame, name, value="human_normalised")
            found.append(made(change, paired(changed, own)))
    return present(found)


def _common_means(tables_: list[pd.DataFrame]) -> list[dict[int, float]]:
    """seed -> mean over the games that all tables have."""
    common = [name for name in tables_[0] if all(name in table for table in tables_)]
    return [seed_means(table[common]) for table in tables_]


MEASURES = {
    "human_normalised": human_normalised_scores,
    "intervention": intervention,
    "time_ratio": time_ratio,
    "parameter_ratio": parameter_ratio,
}
