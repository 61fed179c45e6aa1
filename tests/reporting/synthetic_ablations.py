"""Made-up runs of ablations, rare relevance, held-out tasks and ancestors, for tests only.

What the report says of them can be computed by hand: a run's score is its variant's mean plus `BY_SEED`, which sums to
0, on every task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from rarl.envs.gridroboman.tasks import TASKS, Task
from rarl.files import write_json
from rarl.mappings import merge
from tests.reporting import synthetic, synthetic_atari, synthetic_babyai

BY_SEED = (-0.02, -0.01, 0.0, 0.01, 0.02)
SPREAD = 0.0158113883  # their standard deviation
UPDATES = (0, 1000, 2000)
MAIN, SMALL = "30-tasks", "10-tasks"
RETRIEVAL = {"n_f": 1, "select_by": "return", "k_traj": 32, "k_states": 64, "n_traj": 64, "bottleneck": 0.0}
SETTINGS: dict[str, Any] = {
    "source": "planner", "updates": UPDATES[-1],
    "agent": {"kind": "dqn", "task": "hidden", "encoder": "relational", "retrieval": RETRIEVAL},
    "learning": {"discount": 0.9}, "evaluation": {"every_updates": 1000},
}  # fmt: skip
# Share of the expert's return.
ABLATIONS = {
    "dqn": 0.10,
    "ra-dqn": 0.50,
    "a1-direct": 0.12,
    "a2-nothing-retrieved": 0.11,
    "a3-short": 0.35,
    "a4-masking": 0.51,
    "a5-masking-alone": 0.13,
    "one-best": 0.30,
    "told-actions-and-rewards": 0.58,
    "retriever-first": 0.47,
}
GRID = {f"a6-{i}-{j}": 0.40 + 0.02 * a + 0.03 * b for a, i in enumerate((5, 10, 20)) for b, j in enumerate((5, 10, 20))}
VALUES = {"slots-4": 0.52, "slots-8": 0.44, "beta-0.01": 0.50, "beta-0.3": 0.20}
LEVELS = {  # success
    "no-recurrence": 0.41,
    "a1-direct": 0.30,
    "a3-short": 0.35,
    "a4-masking": 0.47,
    "a5-masking-alone": 0.33,
    "one-best": 0.395,
    "told-actions-and-rewards": 0.55,
}
SHARES = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003)
RETURNS = {"uniform": (0.50, 0.49, 0.42, 0.23, 0.14, 0.11), "index": (0.48, 0.48, 0.47, 0.45, 0.40, 0.30)}
OTHER_WAY = {"uniform": ("index", (0.47, 0.45, 0.40, 0.30, 0.20, 0.15)),
             "index": ("uniform", (0.46, 0.42, 0.35, 0.2, 0.13, 0.11))}  # fmt: skip
OTHER_WAY["index-end-to-end"] = OTHER_WAY["index"]
FOUND = {"uniform": (1.0, 0.8, 0.6, 0.4, 0.3, 0.1), "index": (1.0, 1.0, 0.98, 0.95, 0.9, 0.7)}
FOUND["index-end-to-end"] = FOUND["index"]
for of_one in (OTHER_WAY, FOUND):
    of_one["uniform-end-to-end"] = of_one["uniform"]
NOTHING_RELEVANT = {"index-end-to-end": 0.60}
HELD_OUT = {"own": 0.50, "held-out": 0.30, "held-out-removed": 0.10, "held-out-swapped": 0.12}
ANCESTORS = {"mfec-hidden": 0.08, "mfec-observed": 0.30, "nec-hidden": 0.05, "nec-observed": 0.22}
AMOUNTS = {"truncated": {32: 0.45, 16: 0.44, 8: 0.40, 4: 0.3, 2: 0.2, 1: 0.15}, "cut": {25: 0.44, 10: 0.35, 5: 0.2}}


def variants_of(experiment: str) -> dict[str, dict[str, Any]]:
    """The variants of the project's own experiment file."""
    path = synthetic.PROJECT / "config" / "experiments" / f"{experiment}.yaml"
    variants = yaml.safe_load(path.read_text(encoding="utf-8"))["variants"]
    return {name: variant.get("settings", {}) for name, variant in variants.items()}


def config_of(experiment: str, variant: str, seed: int, tasks: Sequence[str], **changes: Any) -> dict[str, Any]:
    """A run's configuration as its record has it."""
    config = merge(SETTINGS, variants_of(experiment).get(variant, {}))
    named = {
        "environment": "gridroboman",
        "experiment": experiment,
        "tasks": list(tasks),
        "variant": variant,
        "seed": seed,
    }
    return merge(config, changes) | named


def write_run(
    root: Path,
    experiment: str,
    task_set: str,
    variant: str,
    seed: int,
    level: float,
    tasks: Sequence[Task],
    *,
    scale: str = "laptop",
    data: dict[str, str] | None = None,
    changes: Mapping[str, Any] | None = None,
    **record: Any,
) -> str:
    """One finished run on Gridroboman that reaches `level` of the expert's return, plus its seed's, on every task."""
    run = f"{experiment}/{task_set}/{variant}/seed-{seed}"
    here = root / "results" / scale / "runs" / run
    config = config_of(experiment, variant, seed, [task.name for task in tasks], **(changes or {}))
    retrieving = config["agent"]["kind"] == "ra-dqn"
    write_json(here / "run.json", synthetic.run_record(scale, run, config, retrieving, data) | record)
    last = level + BY_SEED[seed % len(BY_SEED)]
    rows = [(update, task.name, 32, expert(task) * last * update / UPDATES[-1], 5.0, last)
            for update in UPDATES for task in tasks]  # fmt: skip
    synthetic.write_frame(here / "evaluations.csv", pd.DataFrame(rows, columns=synthetic.EVALUATIONS))
    synthetic.write_training(here)
    return run


def expert(task: Task) -> float:
    """As `synthetic.write_manifests` has it."""
    return synthetic.EXPERT + TASKS.index(task) % 3


def write_interventions(root: Path, run: str, seed: int, rows: Mapping[tuple[str, Task, Task], float], scale="laptop"):
    """interventions.csv of a run: (intervention, task, given task) -> share of the expert's return, plus the seed's."""
    values = [
        (name, task.name, given.name, 20, expert(task) * (level + BY_SEED[seed % len(BY_SEED)]))
        for (name, task, given), level in rows.items()
    ]
    columns = ["intervention", "task", "given_task", "episodes", "return_mean"]
    path = root / "results" / scale / "probes" / run / "interventions.csv"
    synthetic.write_frame(path, pd.DataFrame(values, columns=columns))


def write_ablations(
    root: Path, *, seeds: int = 5, tasks: int = 6, scale: str = "laptop", only: Sequence[str] = (), **levels: float
) -> list[str]:
    """Ablations on Gridroboman, the grid and the rows of values on a smaller set; `levels` override the means."""
    synthetic.write_project(root, scale)
    data = synthetic.write_manifests(root, scale, TASKS)
    sets = {MAIN: (ABLATIONS, TASKS[:tasks]), SMALL: ({"ra-dqn": 0.50, **GRID, **VALUES}, TASKS[: max(1, tasks // 2)])}
    changed = {name.replace("_", "-"): value for name, value in levels.items()}
    return [
        write_run(
            root, "ablations", task_set, variant, seed, changed.get(variant, level), chosen, data=data, scale=scale
        )
        for task_set, (members, chosen) in sets.items()
        for variant, level in members.items()
        if not only or variant in only
        for seed in range(seeds)
    ]


def write_levels(
    root: Path, *, seeds: int = 5, scale: str = "laptop", learning: Mapping[str, Any] | None = None
) -> list[str]:
    """BabyAI's ablations, and three agents of experiment babyai; `learning` changes the ablations' settings."""
    synthetic.write_project(root, scale)
    episodes, names = 800, []
    of_babyai = {"rdqn": 0.30, "ra-rdqn-own": 0.40, "no-retrieval": 0.31}
    for experiment, members in (("babyai", of_babyai), ("ablations-babyai", LEVELS)):
        for variant, level in members.items():
            for seed in range(seeds):
                run = f"{experiment}/{synthetic_babyai.task_set(episodes)}/{variant}/seed-{seed}"
                named = {"environment": "babyai", "tasks": list(synthetic_babyai.LEARNED), "episodes": episodes}
                config = merge(SETTINGS, variants_of(experiment)[variant]) | named | {"source": "bot", "seed": seed}
                if experiment != "babyai":
                    config["learning"] = merge(config["learning"], learning or {})
                here = root / "results" / scale / "runs" / run
                write_json(here / "run.json", synthetic.run_record(scale, run, config, variant != "rdqn", None))
                rows = [
                    (update, name, 24, 0.0, 0.3,
                     (level + synthetic_babyai.UNEVEN[name] + BY_SEED[seed]) * update / UPDATES[-1])
                    for update in UPDATES for name in synthetic_babyai.LEARNED
                ]  # fmt: skip
                synthetic.write_frame(here / "evaluations.csv", pd.DataFrame(rows, columns=synthetic.EVALUATIONS))
                synthetic.write_training(here)
                names.append(run)
    return names


def write_games(root: Path, *, seeds: int = 5, scale: str = "workstation") -> list[str]:
    """Atari's ablations on two games, its grid on one, and the agents of experiment atari."""
    synthetic.write_project(root, scale)
    names = []
    members = {"r2d2": 0.10, "ra-r2d2": 0.16, "a1-direct": 0.10, "a4-masking": 0.18, "a6-5-5": 0.20, "a6-20-20": 0.05}
    for game in ("breakout", "pong"):
        for variant, level in members.items():
            if variant.startswith("a6-") and game != "pong":
                continue
            experiment = "atari" if "r2d2" in variant else "ablations-atari"
            for seed in range(seeds):
                run = f"{experiment}/{game}/{variant}/seed-{seed}"
                change = variants_of(experiment)[variant]
                named = {"environment": "atari", "tasks": [game], "online": synthetic_atari.ONLINE, "seed": seed}
                config = merge({"agent": {"retrieval": {"select_by": "attention"}}}, change) | named
                here = root / "results" / scale / "runs" / run
                write_json(here / "run.json", synthetic.run_record(scale, run, config, "ra" in variant, None))
                last = level + BY_SEED[seed]
                rows = [(u, game, 8, synthetic_atari.score(game, last * u / UPDATES[-1]), 3.0, 0.0) for u in UPDATES]
                synthetic.write_frame(here / "evaluations.csv", pd.DataFrame(rows, columns=synthetic.EVALUATIONS))
                synthetic.write_training(here)
                names.append(run)
    return names


def write_relevance(
    root: Path,
    *,
    seeds: int = 5,
    tasks: int = 4,
    scale: str = "laptop",
    returns: Mapping[str, Sequence[float]] = RETURNS,
) -> list[str]:
    """Both ways to find a retrieval batch, looked into at every share, and the cost of indices."""
    synthetic.write_project(root, scale)
    data, chosen, names = synthetic.write_manifests(root, scale, TASKS), TASKS[:tasks], []
    for variant, levels in returns.items():
        for seed in range(seeds):
            run = write_run(root, "relevance", MAIN, variant, seed, levels[0], chosen, data=data, scale=scale)
            way, other = OTHER_WAY[variant]
            values = {f"share-{share:g}": level for share, level in zip(SHARES, levels, strict=True)}
            values |= {f"share-{share:g}-{way}": level for share, level in zip(SHARES, other, strict=True)}
            values |= {"share-0": NOTHING_RELEVANT.get(variant, 0.09), f"share-0-{way}": 0.09, "removed": 0.10}
            rows = {(name, task, task): level for name, level in values.items() for task in chosen}
            write_interventions(root, run, seed, rows, scale)
            found = [
                (task.name, f"share-{share:g}/{what}", value)
                for task in chosen
                for share, best in zip(SHARES, FOUND[variant], strict=True)
                for what, value in (
                    ("recall@1", best / 2), ("recall@10", best + BY_SEED[seed] / 10 * (best < 1)), ("recall@64", 1.0),
                    ("mrr", 0.6 * best), ("relevant_in_batch", share if variant == "uniform" else best / 2),
                    ("attention_on_relevant", best * 0.8),
                    *([] if variant == "uniform" else [("new_recall@10", best / 2), ("new_mrr", best / 2)]),
                )
            ]  # fmt: skip
            path = root / "results" / scale / "probes" / run / "attention.csv"
            synthetic.write_frame(path, pd.DataFrame(found, columns=["task", "quantity", "value"]))
            names.append(run)
    write_index_cost(root, scale)
    return names


def write_index_cost(root: Path, scale: str = "laptop") -> None:
    """index-cost.csv: exact search takes time in proportion to the states, the others to their root."""
    rows = []
    for states in (1_000, 10_000, 100_000, 1_000_000):
        root_of = states**0.5
        rows += [
            ("exact", states, 1e-7 * states, 1e-5 * states, 3e-5 * states, 1.28e-4 * states, 1.0, 2e-5 * states, 1),
            ("ivf", states, 2e-6 * states, 2e-4 * root_of, 1e-3 * root_of, 1.4e-4 * states, 0.9, 2.2e-5 * states, 1),
            ("hnsw", states, 3e-5 * states, 1e-4 * root_of, 5e-4 * root_of, 4e-4 * states, 0.97, 5e-5 * states, 1),
        ]
    columns = ["kind", "states", "build_seconds", "query_ms", "single_query_ms", "memory_mb", "recall_at_10",
               "refresh_seconds", "threads"]  # fmt: skip
    synthetic.write_frame(root / "results" / scale / "index-cost.csv", pd.DataFrame(rows, columns=columns))


def write_held_out(root: Path, *, seeds: int = 5, scale: str = "laptop", **levels: float) -> list[str]:
    """Six tasks held out of thirty, and what the agent does with their datasets."""
    synthetic.write_project(root, scale)
    data, names = synthetic.write_manifests(root, scale, TASKS), []
    new = TASKS[5::5]
    learned = [task for task in TASKS if task not in new]
    means = HELD_OUT | {name.replace("_", "-"): value for name, value in levels.items()}
    for variant, level in {"dqn": 0.11, "ra-dqn": 0.50}.items():
        for seed in range(seeds):
            run = write_run(root, "held-out", "24-tasks", variant, seed, level, learned, data=data, scale=scale,
                            changes={"held_out": [task.name for task in new]})  # fmt: skip
            names.append(run)
            if variant == "ra-dqn":
                rows = {("own", task, task): means["own"] for task in learned}
                for i, task in enumerate(new):
                    uneven = 0.05 * (i - (len(new) - 1) / 2)
                    rows[("held-out", task, task)] = means["held-out"] + uneven
                    rows[("held-out-removed", task, task)] = means["held-out-removed"]
                    for given in learned[i::8]:
                        rows[("held-out-swapped", task, given)] = means["held-out-swapped"]
                write_interventions(root, run, seed, rows, scale)
    return names


def write_ancestors(root: Path, *, seeds: int = 5, tasks: int = 6, scale: str = "laptop") -> list[str]:
    """Episodic control, and the four agents of experiment gridroboman."""
    synthetic.write_project(root, scale)
    data, names = synthetic.write_manifests(root, scale, TASKS), []
    four = {"dqn-hidden": 0.10, "ra-dqn-hidden": 0.50, "dqn-observed": 0.35, "ra-dqn-observed": 0.57}
    for experiment, members in (("gridroboman", four), ("ancestors", ANCESTORS)):
        for variant, level in members.items():
            for seed in range(seeds):
                changes = {"episodic": {"episodes_per_update": 1}} if experiment == "ancestors" else {}
                names.append(
                    write_run(root, experiment, MAIN, variant, seed, level, TASKS[:tasks], data=data, scale=scale,
                              changes=changes)
                )  # fmt: skip
    return names


def write_amounts(root: Path, run: str, seed: int, tasks: Sequence[Task], scale: str = "laptop") -> None:
    """Adds the interventions that leave less data to a run's interventions.csv."""
    path = root / "results" / scale / "probes" / run / "interventions.csv"
    frame = pd.read_csv(path)
    rows = [
        (f"{name}-{n}", task.slug, task.slug, 20, expert(task) * (level + BY_SEED[seed % len(BY_SEED)]))
        for name, levels in AMOUNTS.items() for n, level in levels.items() for task in tasks
    ]  # fmt: skip
    synthetic.write_frame(path, pd.concat([frame, pd.DataFrame(rows, columns=frame.columns)]))


def write_everything(root: Path, *, seeds: int = 5) -> list[str]:
    """A whole laptop's worth: to look at the page. The six experiments of a small computer, and the first three."""
    names = synthetic.write_results(root, sets=(30,), variants=(*synthetic.FOUR, *synthetic.CONTROLS), seeds=seeds)
    for name in names:
        seed = int(name.rsplit("-", 1)[1])
        if "/ra-dqn-hidden/" in name:
            write_amounts(root, name, seed, TASKS)
    names += synthetic_babyai.write_results(root, seeds=seeds)
    names += write_ablations(root, seeds=seeds, tasks=30)
    names += write_levels(root, seeds=seeds)
    names += write_relevance(root, seeds=seeds, tasks=30)
    names += write_held_out(root, seeds=seeds)
    ancestors = [r for r in write_ancestors(root, seeds=seeds, tasks=30) if r.startswith("ancestors/")]
    return list(dict.fromkeys([*names, *ancestors]))
