"""Made-up BabyAI runs for tests only: what the report says of them can be computed by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from rarl.envs.babyai.expert import Expert
from rarl.envs.babyai.levels import LEVELS, level_named
from rarl.envs.babyai.missions import words
from rarl.envs.babyai.vector import VectorBabyAI
from rarl.envs.babyai.view import CELLS
from rarl.files import sha256_file, write_json
from tests.reporting import synthetic

SINGLE = ("GoToRedBallGrey", "GoToLocal", "PickupLoc", "PutNextLocal")
COMPOSED = ("OpenTwoDoors", "UnlockPickup")
LEARNED = (*SINGLE, *COMPOSED)
FOUR = ("rdqn", "ra-rdqn-own", "ra-rdqn-all-open", "ra-rdqn-all")
SIZES = (200, 800)
SUCCESS = dict(zip((*FOUR, "no-retrieval"), (0.30, 0.40, 0.48, 0.60, 0.31), strict=True))
LATER = 0.10  # how much more success there is with more data
UNEVEN = dict(zip(LEARNED, (0.10, 0.05, 0.0, -0.15, -0.05, 0.05), strict=True))  # sums to 0
BY_SEED = (-0.02, -0.01, 0.0, 0.01, 0.02)  # sums to 0
# other_share and its chance, by kind of level; interventions' success.
SHARES = {"compositional": (0.55, 0.85), "single": (0.25, 0.80)}
INTERVENTIONS = {"own": 0.70, "removed": 0.30, "shuffled": 0.50, "others": 0.65}

Rate = Callable[[str, int, int, str], float]


def task_set(episodes: int, levels: int = len(LEARNED)) -> str:
    return f"{levels}-levels-{episodes}-episodes"


def run_name(episodes: int, variant: str, seed: int) -> str:
    return f"babyai/{task_set(episodes)}/{variant}/seed-{seed}"


def rate(variant: str, episodes: int, seed: int, level: str) -> float:
    """Success at the last evaluation; its mean over levels and seeds is SUCCESS, plus LATER with more data."""
    more = LATER if episodes == SIZES[-1] else 0.0
    return SUCCESS[variant] + more + UNEVEN.get(level, 0.0) + BY_SEED[seed % len(BY_SEED)]


def write_manifests(root: Path, scale: str, levels: Sequence[str]) -> dict[str, str]:
    """Manifests of bot data sets; returns path -> sha256."""
    hashes = {}
    for level in map(level_named, levels):
        name = f"data/{scale}/babyai/bot/{level.slug}/manifest.json"
        write_json(
            root / name,
            {
                "format": 1,
                "environment": "babyai",
                "task": level.name,
                "source": "bot",
                "episodes": SIZES[-1],
                "steps": 40 * SIZES[-1] + 80 * level.id,
                "returns": {"mean": 0.5},
                "expert_return": 0.9,
                "generator": {
                    "policy": "bot",
                    "noise_percent": [0, 20, 40, 60],
                    "rejected": {"endless plan": 9, "box opened": 3} if level.composition == "unlock" else {},
                },
            },
        )
        hashes[name] = sha256_file(root / name)
    return hashes


def write_run(
    root: Path,
    scale: str,
    episodes: int,
    variant: str,
    seed: int,
    *,
    levels: Sequence[str] = LEARNED,
    rates: Rate = rate,
    data: dict[str, str] | None = None,
    probes: bool = True,
    **record,
) -> str:
    """One finished run."""
    run = f"babyai/{task_set(episodes, len(levels))}/{variant}/seed-{seed}"
    here = root / "results" / scale / "runs" / run
    config = {
        "tasks": list(levels),
        "episodes": episodes,
        "agent": {"d_s": 64, "retrieval": {"k_traj": 8, "n_traj": 16}},
        "learning": {"discount": 0.97, "n_step": 5},
        "seed": seed,
    }
    base = synthetic.run_record(scale, run, config, variant != "rdqn", data)
    write_json(here / "run.json", base | record)
    rows = [
        (update, level, 24, 0.9 * success, 0.3, success)
        for update in synthetic.UPDATES
        for level in levels
        for success in [rates(variant, episodes, seed, level) * update / synthetic.UPDATES[-1]]
    ]
    synthetic.write_frame(here / "evaluations.csv", pd.DataFrame(rows, columns=synthetic.EVALUATIONS))
    synthetic.write_training(here)
    if probes:
        write_probes(root, scale, run, variant, seed, levels)
    return run


def write_probes(root: Path, scale: str, run: str, variant: str, seed: int, levels: Sequence[str]) -> None:
    """Interventions and attention of one run."""
    here = root / "results" / scale / "probes" / run
    retrieving = variant != "rdqn"
    rows = [
        (name, level, level, 24, 0.9 * mean, mean + BY_SEED[seed % len(BY_SEED)])
        for name, mean in INTERVENTIONS.items()
        if retrieving or name == "own"
        for level in levels
    ]
    columns = ["intervention", "task", "given_task", "episodes", "return_mean", "success_rate"]
    synthetic.write_frame(here / "interventions.csv", pd.DataFrame(rows, columns=columns))
    values = []
    for level in levels:
        if not retrieving:
            values.append((level, "none", 0.0))
            continue
        share, chance = SHARES["compositional" if level_named(level).compositional else "single"]
        pooled = variant.startswith("ra-rdqn-all")
        values += [
            (level, "other_share", pooled * (share + BY_SEED[seed % len(BY_SEED)])),
            (level, "other_candidates", pooled * chance),
            (level, "rewarded_share", 0.2),
            (level, "rewarded_candidates", 0.1),
            (level, "effective_states", 6.0 + seed),
            (level, "kl", 1.5),
            (level, "related_there", 0.9),
            (level, "related_share", 0.3 + 0.01 * (seed % 2)),
            (level, "related_candidates", 0.1),
        ]
    synthetic.write_frame(here / "attention.csv", pd.DataFrame(values, columns=["task", "quantity", "value"]))


def played(level: str, seed: int, most: int = 60) -> tuple[dict, np.ndarray]:
    """An episode of the expert as a gallery holds it, without what was retrieved, and its views (steps, 49)."""
    env = VectorBabyAI([level_named(level)])
    observation = env.reset(np.array([seed]))
    expert, action, steps, views = Expert(env.envs[0]), None, [], []
    while env.active[0] and len(steps) < most:
        action = expert.action(action)
        views.append(observation[0, :CELLS])
        observation, reward, _, _ = env.step(np.array([action]))
        steps.append({"t": len(steps), "action": action, "reward": float(reward[0]), "retrieved": []})
    episode = {
        "task": level,
        "mission": words(env.context[0]),
        "seed": seed,
        "return": sum(step["reward"] for step in steps),
        "success": bool(env.success[0]),
        "length": len(steps) + bool(env.active[0]),
        "steps": steps,
    }
    return episode, np.array(views)


def gallery(run: str, levels: Sequence[str] = ("UnlockPickup", "GoToLocal", "OpenTwoDoors"), retrieving=True) -> dict:
    """The expert's episodes dressed up as recorded ones."""
    rng = np.random.default_rng(0)
    found = [played(level, 5 + i) for i, level in enumerate(levels)]
    for episode, _ in found:
        for step in episode["steps"] if retrieving else ():
            for weight in np.sort(rng.dirichlet(np.ones(8)))[::-1][:6]:
                source, views = found[rng.integers(len(found))]
                at = int(rng.integers(len(views)))
                step["retrieved"].append(
                    {"weight": round(float(weight), 5), "task": source["task"], "mission": source["mission"],
                     "return": source["return"], "step": at, "view": views[at].tolist(),
                     "rewarded": at == len(views) - 1}
                )  # fmt: skip
    return {"run": run, "rule": "Quartiles of the return.", "episodes": [episode for episode, _ in found]}


def write_results(
    root: Path,
    scale: str = "laptop",
    *,
    sizes: Sequence[int] = SIZES,
    variants: Sequence[str] = FOUR,
    levels: Sequence[str] = LEARNED,
    seeds: int = 5,
    rates: Rate = rate,
    probes: bool = True,
) -> list[str]:
    """All runs of a scale; probes on the larger size, with a gallery of every agent. Returns the runs' names."""
    synthetic.write_project(root, scale)
    data = write_manifests(root, scale, levels)
    names = []
    for episodes in sizes:
        for variant in variants:
            for seed in range(seeds):
                probed = probes and episodes == max(sizes)
                run = write_run(root, scale, episodes, variant, seed, levels=levels, rates=rates, data=data,
                                probes=probed)  # fmt: skip
                names.append(run)
                if probed:
                    content = gallery(run, retrieving=variant != "rdqn")
                    write_json(root / "results" / scale / "probes" / run / "gallery.json", content)
    return names


ALL_LEVELS = tuple(level.name for level in LEVELS)
