"""Made-up Atari runs for tests only: what the report says of them can be computed by hand."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from rarl.envs.atari.scores import table
from rarl.files import write_json
from tests.reporting import synthetic

GAMES = ("breakout", "ms_pacman", "pong")
FOUR = ("r2d2", "ra-r2d2", "dqn", "ra-dqn")
# Human-normalised scores at the last evaluation, on average over games and seeds.
SHARE = dict(zip((*FOUR, "no-retrieval"), (0.10, 0.16, 0.05, 0.08, 0.11), strict=True))
BY_GAME = dict(zip(GAMES, (0.03, -0.03, 0.0), strict=True))  # sums to 0
BY_SEED = (-0.02, -0.01, 0.0, 0.01, 0.02)  # sums to 0
INTERVENTIONS = {"own": (0.20, 1), "removed": (0.12, -1), "shuffled": (0.15, 1)}  # mean, and the seed's sign
ONLINE = {"actors": 8, "steps_per_update": 5, "frame_skip": 4, "full_actions": False}
FRAMES_PER_UPDATE = 160


def run_name(game: str, variant: str, seed: int, task_set: str | None = None) -> str:
    return f"atari/{task_set or game}/{variant}/seed-{seed}"


def score(game: str, share: float) -> float:
    """The score of a human-normalised one."""
    marks = table()[game]
    return marks.random + share * (marks.human - marks.random)


def write_run(
    root: Path,
    scale: str,
    game: str,
    variant: str,
    seed: int,
    *,
    probes: bool = True,
    task_set: str | None = None,
    **record,
) -> str:
    """One finished run; `record` overrides entries of run.json. task_set: its name, the game's by default."""
    run = run_name(game, variant, seed, task_set)
    here = root / "results" / scale / "runs" / run
    config = {
        "tasks": [game],
        "agent": {"encoder": "impala-small", "retrieval": {"n_traj": 16, "n_f": 4}},
        "online": ONLINE,
        "seed": seed,
    }
    retrieving = variant.startswith("ra-")
    write_json(here / "run.json", synthetic.run_record(scale, run, config, retrieving, None) | record)
    last = SHARE[variant] + BY_GAME[game] + BY_SEED[seed % len(BY_SEED)]
    rows = [(update, game, 8, score(game, last * update / synthetic.UPDATES[-1]), 3.0, 0.0)
            for update in synthetic.UPDATES]  # fmt: skip
    synthetic.write_frame(here / "evaluations.csv", pd.DataFrame(rows, columns=synthetic.EVALUATIONS))
    synthetic.write_training(here)
    if probes:
        write_probes(root, scale, game, variant, seed)
    return run


def write_probes(root: Path, scale: str, game: str, variant: str, seed: int) -> None:
    """Interventions, attention and gallery of one run."""
    run = run_name(game, variant, seed)
    here = root / "results" / scale / "probes" / run
    retrieving = variant.startswith("ra-")
    rows = [
        (name, game, game, 8, score(game, mean + sign * BY_SEED[seed % len(BY_SEED)]), 0.0)
        for name, (mean, sign) in INTERVENTIONS.items()
        if retrieving or name == "own"
    ]
    columns = ["intervention", "task", "given_task", "episodes", "return_mean", "success_rate"]
    synthetic.write_frame(here / "interventions.csv", pd.DataFrame(rows, columns=columns))
    values = [(game, "none", 0.0)]
    if retrieving:
        found = {"effective_states": 6.0 + seed, "kl": 1.5, "rewarded_share": 0.2, "rewarded_candidates": 0.1,
                 "place_distance": 120.0, "place_candidates": 200.0}  # fmt: skip
        values = [(game, name, value) for name, value in found.items()]
    synthetic.write_frame(here / "attention.csv", pd.DataFrame(values, columns=["task", "quantity", "value"]))
    write_json(here / "gallery.json", gallery(run, game, retrieving))


def picture(t: int) -> str:
    """A court with two bats and a ball that moves with t, as a PNG in base64."""
    frame = np.full((84, 84), 87, dtype=np.uint8)
    frame[:10] = frame[-6:] = 52
    frame[12 + (3 * t) % 60 :][:9, 6:9] = 148
    frame[20 + t % 40 :][:9, -9:-6] = 200
    frame[10 + (7 * t) % 66 :][:2, 10 + (5 * t) % 62 :][:, :2] = 236
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def gallery(run: str, game: str, retrieving: bool = True, steps: int = 30) -> dict:
    """Steps 40 to 69 of an episode of 500, with a reward in the 18th of them."""
    shown = []
    for i in range(steps):
        retrieved = [
            {"weight": 0.4 - 0.05 * k, "step": 100 * k + i, "rewarded": k == 1, "reward": float(k == 1),
             "frame": picture(100 * k + i)}
            for k in range(6)
        ]  # fmt: skip
        looks = retrieving and (i % 6 == 0 or i in (8, 17))
        shown.append({"t": 40 + i, "frame": picture(40 + i), "action": "upfire" if i < steps - 1 else None,
                      "reward": float(i == 17), "retrieved": retrieved if looks else []})  # fmt: skip
    episode = {"task": game, "return": 7.0, "length": 500, "steps": shown}
    return {"run": run, "rule": "The median episode.", "episodes": [episode]}


def write_results(
    root: Path,
    scale: str = "laptop",
    *,
    games: Sequence[str] = GAMES,
    variants: Sequence[str] = FOUR,
    seeds: int = 5,
    probed: Sequence[str] = ("r2d2", "ra-r2d2"),
) -> list[str]:
    """All runs of a scale; probes on the first game. Returns the runs' names."""
    synthetic.write_project(root, scale)
    return [
        write_run(root, scale, game, variant, seed, probes=variant in probed and game == games[0])
        for game in games
        for variant in variants
        for seed in range(seeds)
    ]
