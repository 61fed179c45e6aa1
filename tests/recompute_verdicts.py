"""The verdicts of a scale once more, from the runs' own files, by other code: nothing of `rarl` is imported here.

    python tests/recompute_verdicts.py [SCALE] [ROOT]

prints where it disagrees with reports/SCALE/tables/claims.csv. Of the report it reads nothing else but which runs were
planned (tables/runs.csv).
"""

from __future__ import annotations

import json
import math
import re
import sys
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from scipy import optimize, stats

INF = math.inf
SHARE, ABOVE_0, ANY = (0.0, 1.0), (0.0, INF), (-INF, INF)


class Runs:
    """Raw files of one scale."""

    def __init__(self, root: Path, scale: str):
        self.root, self.scale = root, scale
        rows = pd.read_csv(root / f"reports/{scale}/tables/runs.csv")
        self.planned = [tuple(run.split("/")) for run in rows["run"][rows["status"] != "not planned"]]
        self.experiments = {
            path.stem: yaml.safe_load(path.read_text()) for path in (root / "config/experiments").glob("*.yaml")
        }
        levels = [line for line in (root / "rarl/envs/atari/scores.csv").read_text().splitlines() if line[:1] != "#"]
        table = pd.DataFrame([line.split(",") for line in levels[1:]], columns=levels[0].split(",")).set_index("game")
        self.games = table[["random", "human"]].astype(float)

    def environment(self, experiment: str) -> str:
        """The control's levels are BabyAI's, too."""
        return self.experiments[experiment]["environment"].removeprefix("rarl.envs.").partition(".")[0]

    @cached_property
    def records(self) -> dict[tuple, dict]:
        found = {}
        for run in self.planned:
            path = self.root / f"results/{self.scale}/runs" / "/".join(run) / "run.json"
            if path.is_file() and (record := json.loads(path.read_text()))["status"] == "finished":
                found[run] = record
        return found

    def read(self, run: tuple, name: str) -> pd.DataFrame | None:
        folder = "probes" if name in ("interventions", "attention") else "runs"
        path = self.root / f"results/{self.scale}" / folder / "/".join(run) / f"{name}.csv"
        return pd.read_csv(path) if path.is_file() else None

    def scored(self, run: tuple, frame: pd.DataFrame) -> pd.Series:
        """The score of each row: a share of the expert's return, percent of success, or human-normalised."""
        environment = self.environment(run[0])
        if environment == "babyai":
            return 100 * frame["success_rate"]
        if environment == "atari":
            ends = self.games.loc[frame["task"].str.replace("-", "_")]
            return (frame["return_mean"] - ends["random"].to_numpy()) / (ends["human"] - ends["random"]).to_numpy()
        on = frame["task"]
        if "given_task" in frame:  # on the reward of the task whose dataset was given
            on = on.where(~frame["intervention"].str.endswith("-given"), frame["given_task"])
        expert = {task.replace("-", " "): value for task, value in self.records[run]["expert_returns"].items()}
        return frame["return_mean"] / on.str.replace("-", " ").map(expert)

    def bounds(self, experiment: str) -> tuple[float, float]:
        environment = self.environment(experiment)
        if environment == "atari":
            games = {run[1].replace("-", "_") for run in self.records if run[0] == experiment}
            ends = self.games.loc[[game for game in games if game in self.games.index]]
            lost = {"boxing", "double_dunk", "fishing_derby", "ice_hockey", "pitfall", "pong", "private_eye", "skiing",
                    "surround", "tennis"}  # fmt: skip
            least = -ends["random"] / (ends["human"] - ends["random"])
            return ANY if set(ends.index) & lost or ends.empty else (float(least.min()), INF)
        return {"babyai": (0.0, 100.0), "gridroboman": ABOVE_0}[environment]

    def of(self, side: tuple[str, str], task_set: str) -> list[tuple]:
        return [run for run in self.records if run[0] == side[0] and fnmatchcase(run[2], side[1])
                and task_set in (run[1], "every")]  # fmt: skip

    def table(self, side: tuple[str, str], task_set: str, at: str = "last") -> pd.DataFrame:
        """(seeds, tasks); where a run learns one task alone, (seeds, task sets)."""
        cells: dict[int, dict] = {}
        for run in self.of(side, task_set):
            frame = self.read(run, "evaluations")
            frame = frame[frame["update"] == (frame["update"].max() if at == "last" else 0)]
            tasks = [run[1]] * len(frame) if self.environment(run[0]) == "atari" else frame["task"]
            cells.setdefault(seed_of(run), {}).update(zip(tasks, self.scored(run, frame), strict=True))
        return pd.DataFrame.from_dict(cells, orient="index")

    def under(self, side: tuple, task_set: str, name: str, tasks: set | None = None) -> dict[int, float]:
        found: dict[int, list] = {}
        for run in self.of(side, task_set):
            if (frame := self.read(run, "interventions")) is not None:
                frame = frame.assign(score=self.scored(run, frame))
                frame = frame[(frame["intervention"] == name) & (frame["task"].isin(tasks) if tasks else True)]
                found.setdefault(seed_of(run), []).extend(frame.groupby("task")["score"].mean())
        return {seed: float(np.mean(values)) for seed, values in found.items() if values}

    def acted(self, side: tuple, task_set: str, of: str, against: str) -> tuple[dict, dict]:
        frames = [f for run in self.of(side, task_set) if (f := self.read(run, "interventions")) is not None]
        both = [set().union(*(set(f["task"][f["intervention"] == name]) for f in frames)) for name in (of, against)]
        tasks = both[0] & both[1]
        return tuple(self.under(side, task_set, name, tasks) if tasks else {} for name in (of, against))

    def attention(self, side: tuple, task_set: str, quantity: str) -> pd.DataFrame:
        found = {}
        for run in self.of(side, task_set):
            if (frame := self.read(run, "attention")) is not None:
                found[seed_of(run)] = frame[frame["quantity"] == quantity].groupby("task")["value"].mean()
        return pd.DataFrame(found).T.astype(float)

    def named_set(self, test: dict, sides: list[tuple]) -> str | None:
        rule = test["task_set"]
        planned = [{run[1] for run in self.planned if run[0] == e and fnmatchcase(run[2], v)} for e, v in sides]
        if rule == "every" or self.environment(test["experiment"]) == "atari":
            shared = all(planned) if rule == "every" else set.intersection(*planned)
            return "every" if shared else None
        if rule == "shared":
            sets = sorted(set.intersection(*planned), key=sizes)
            return sets[-1] if sets else None
        if rule not in ("smaller", "larger", "probed"):
            return rule
        sets = sorted({run[1] for run in self.planned if run[0] == test["experiment"]}, key=sizes)
        sets = [name for name in sets if sizes(name)[0] == sizes(sets[-1])[0]]
        if rule != "probed":
            return None if not sets or (rule == "larger" and len(sets) == 1) else sets[0 if rule == "smaller" else -1]
        probed = [n for n in sets if any(self.read(run, "interventions") is not None for run in self.of(sides[0], n))]
        return (probed or sets or [None])[-1]


def seed_of(run: tuple) -> int:
    return int(run[3].removeprefix("seed-"))


def sizes(name: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", name)] or [0]


def means(table: pd.DataFrame) -> dict[int, float]:
    return table.dropna().mean(axis=1).to_dict() if table.shape[1] else {}


# ------------------------------------------------------------------------------------------------------------- measures


def measure(runs: Runs, test: dict, sides: list[tuple], task_set: str, rules: dict):
    """(design, a, b, bounds) of a claim's quantity; None without runs."""
    bounds, name = runs.bounds(test["experiment"]), test["measure"]
    if name == "difference":
        a, b = (runs.table(side, task_set) for side in sides)
        common = [task for task in a if task in b]
        return "independent", means(a[common]), means(b[common]), bounds
    if name == "intervention" and test.get("against"):
        return "paired", *runs.acted(sides[0], task_set, test["of"], test["against"]), bounds
    if name == "intervention":
        return "independent", *(runs.under(side, task_set, test["of"]) for side in sides), bounds
    if name == "interaction":
        pairs = [runs.acted(side, task_set, test["of"], test["against"]) for side in sides]
        return "independent", *({s: a[s] - b[s] for s in a if s in b} for a, b in pairs), ANY
    if name == "ratio":
        of, against = (runs.under(sides[0], task_set, test[key]) for key in ("of", "against"))
        return "single", {s: of[s] / against[s] for s in of if against.get(s, 0) > 0}, {}, ABOVE_0
    if name == "attention":
        factor = test.get("factor", 1)
        found = [runs.attention(side, task_set, test["quantity"]) for side in sides]
        if test.get("chance"):
            found = [t - runs.attention(s, task_set, test["chance"]) for t, s in zip(found, sides, strict=True)]
        bounds = ANY if test.get("chance") else (0.0, factor)
        if len(sides) == 1:
            groups = groups_of(runs)
            parts = [found[0][[t for t in found[0] if t in groups[test[key]]]] for key in ("of", "against")]
            return "paired", *(means(factor * part) for part in parts), bounds
        return "independent", *((factor * t).mean(axis=1).dropna().to_dict() for t in found), bounds
    if name == "solved_of_unsolved":
        a, b = (runs.table(side, task_set).dropna() >= rules["solved"] for side in sides)
        open_ = [task for task in b if b[task].mean() < 0.5 and task in a]
        return "single", (a[open_].sum(axis=1) / len(open_)).to_dict(), dict.fromkeys(b.index, 0.0), SHARE
    if name == "tuned":
        names = sorted({run[2] for run in runs.of(sides[0], task_set)})
        cells = pd.DataFrame({n: pd.Series(means(runs.table((sides[0][0], n), task_set))) for n in names})
        # The full agent stands for its own cell where the grid would have it; here the grid's own cells alone.
        order = sorted(cells, key=lambda n: sizes(n)[1:])
        cells = cells[order].dropna()
        best = {s: float(cells.loc[s, cells.drop(index=s).mean().idxmax()]) for s in cells.index}
        return "paired", best, means(runs.table(sides[1], task_set)), bounds
    if name == "cost_ratio":
        costs = []
        for side in sides:
            cells: dict[int, dict] = {}
            for run in runs.of(side, task_set):
                r = runs.records[run]
                per = {"parameters": r["parameters"]["total"], "ms_per_update": r["seconds"]["training"] / r["updates"]}
                cells.setdefault(seed_of(run), {})[run[1]] = per[test["quantity"]]
            costs.append(pd.DataFrame.from_dict(cells, orient="index").astype(float))
        return "single", means((costs[0] / costs[1]).dropna(how="all").dropna(axis=1, how="all")), {}, ABOVE_0
    raise ValueError(name)


def groups_of(runs: Runs) -> dict[str, set[str]]:
    """BabyAI's levels: those of which the list says why are compositional."""
    text = (runs.root / "rarl/envs/babyai/levels.py").read_text()
    rows = [
        line.split() for block in re.findall(r'^_\w+ = """(.*?)"""', text, re.S | re.M) for line in block.split("\n")
    ]
    return {"single": {row[0] for row in rows if len(row) == 1}, "compositional": {r[0] for r in rows if len(r) > 1}}


# ----------------------------------------------------------------------------------------------------------- statistics


def ends(x: np.ndarray, t: float, bounds: tuple[float, float]) -> tuple[float, float]:
    """Of a mean: Student-t, on the log-odds or the log where it has bounds."""
    (low, high), mean = bounds, x.mean()
    half = t * stats.sem(x)
    if x.min() < low - 1e-6 or x.max() > high + 1e-6 or bounds == ANY or half == 0:
        return mean - half, mean + half
    if high == INF:
        times = math.exp(min(half / (mean - low), 600.0))
        return low + (mean - low) / times, low + (mean - low) * times
    p = (mean - low) / (high - low)
    shift = half / (high - low) / p / (1 - p)
    return tuple(low + (high - low) * stats.logistic.cdf(math.log(p / (1 - p)) + s) for s in (-shift, shift))


class Quantity:
    """A mean or a difference, with its interval and p."""

    def __init__(self, design: str, a: dict, b: dict, bounds: tuple[float, float]):
        seeds = sorted(set(a) & set(b))
        self.design, self.bounds = design, bounds if design == "single" or bounds[1] < INF else ANY
        self.groups = [np.array(list(a.values()))] + ([np.array(list(b.values()))] if design == "independent" else [])
        if design == "paired":
            width = self.bounds[1] - self.bounds[0]
            self.groups, self.bounds = [np.array([a[s] - b[s] for s in seeds])], (-width, width)
        if design == "independent" and any((g == bound).all() for g in self.groups for bound in self.bounds):
            self.bounds = ANY  # from what lies on a bound, whatever stays within bounds keeps away
        self.n = [len(group) for group in self.groups] + ([len(b)] if design == "single" and b else [])
        self.d = self.groups[0].mean() - (self.groups[1].mean() if len(self.groups) > 1 else 0.0)
        variances = [group.var(ddof=1) / len(group) if len(group) > 1 else math.nan for group in self.groups]
        self.df, self.error = self.n[0] - 1, math.sqrt(sum(variances))
        if self.error < 1e-14 * sum(abs(group).sum() for group in self.groups):
            self.error = 0.0
        if design == "independent":
            parts = sum(v**2 / (n - 1) if n > 1 else math.nan for v, n in zip(variances, self.n, strict=True))
            self.df = sum(variances) ** 2 / parts if parts else sum(self.n) - 2

    def interval(self, level: float) -> tuple[float, float]:
        t = stats.t.isf((1 - level) / 2, self.df)
        found = [ends(group, t, self.bounds) for group in self.groups]
        if len(found) == 1:
            return found[0]
        (a, b), ((la, ua), (lb, ub)) = (group.mean() for group in self.groups), found
        return self.d - math.hypot(a - la, ub - b), self.d + math.hypot(ua - a, b - lb)

    def p(self, null: float) -> float:
        """By bisection on the level of the interval of which the null is an end."""
        if min(self.n) < 2:
            return math.nan
        if self.error == 0:
            return float(math.isclose(self.d, null, rel_tol=1e-9, abs_tol=1e-12))
        if abs(self.d - null) < 1e-9 * self.error:
            return 1.0
        side = 0 if self.d > null else 1

        def end(log: float) -> float:
            return self.interval(1 - math.exp(log))[side] - null

        lowest = math.log(1e-13)
        return math.exp(optimize.brentq(end, lowest, -1e-9, xtol=1e-10)) if end(lowest) * end(-1e-9) < 0 else 1e-13


def holm(p: list[float]) -> list[float]:
    adjusted, largest = [0.0] * len(p), 0.0
    for k, i in enumerate(sorted(range(len(p)), key=lambda i: 1.0 if math.isnan(p[i]) else p[i])):
        largest = max(largest, min(1.0, (len(p) - k) * (1.0 if math.isnan(p[i]) else p[i])))
        adjusted[i] = math.nan if math.isnan(p[i]) else largest
    return adjusted


# --------------------------------------------------------------------------------------------------------------- checks


def fails(runs: Runs, name: str, test: dict, sides: list[tuple], task_set: str, rules: dict) -> bool:
    """Whether a validity check failed; what was not recorded did not."""
    lows: list[tuple[float, float]] = []  # (lower end, what it must lie above)
    variants = sorted({(e, run[2]) for e, v in sides for run in runs.of((e, v), task_set)})
    if name == "learned":
        for side in variants:
            last, first = (means(runs.table(side, task_set, at)) for at in ("last", "first"))
            bounds = runs.bounds(side[0])
            lows.append((Quantity("paired", last, first, bounds).interval(rules["level"])[0], 0.0))
            if runs.environment(side[0]) == "atari":
                lows.append((Quantity("single", last, {}, ANY).interval(rules["level"])[0], 0.0))
    if name in ("reads", "reads-or-needs"):
        columns = ["flips_exchanged", "flips_redrawn" if name == "reads" else "flips_removed"]
        for side in variants:
            flips: dict[int, list] = {}
            for run in runs.of(side, task_set):
                if (frame := runs.read(run, "retrieval")) is not None and len(frame):
                    row = frame[frame["update"] == frame["update"].max()].filter(columns)
                    flips.setdefault(seed_of(run), []).append(row.max(axis=1).iloc[0])
            if flips:
                found = Quantity("single", {s: float(np.mean(v)) for s, v in flips.items()}, {}, SHARE)
                lows.append((found.interval(rules["level"])[0], rules["reads"]))
    if name == "attends":
        others, could = (means(runs.attention(sides[0], task_set, f"other_{w}")) for w in ("share", "candidates"))
        if set(others) & set(could):
            lows.append((Quantity("paired", could, others, SHARE).interval(rules["level"])[0], 0.0))
    if name == "divides":
        shares = runs.attention(sides[0], task_set, "other_share")
        divided = ((shares > 0.01) & (shares < 0.99)).any(axis=1)
        return len(shares) > 0 and not 2 * divided.sum() > len(shares)
    if name == "control":
        a, b = runs.acted(sides[0], task_set, test.get("control", "own"), "removed")
        if set(a) & set(b):
            lows.append((Quantity("paired", a, b, runs.bounds(sides[0][0])).interval(rules["level"])[0], 0.0))
    if name == "finds":
        share = float(test["of"].removeprefix("share-"))
        for side in variants:
            found = runs.attention(side, task_set, f"{test['of']}/recall@10").mean(axis=1).to_dict()
            if found:
                pool = runs.records[runs.of(side, task_set)[0]]["config"]["agent"]["retrieval"]["pool"]
                n = pool["trajectories"]
                relevant = max(round(share * n), 1)
                by_chance = 10 * relevant / n / min(10, relevant)
                lows.append((Quantity("single", found, {}, SHARE).interval(rules["level"])[0], by_chance))
    return bool(lows) and not any(low > limit for low, limit in lows)


# ------------------------------------------------------------------------------------------------------------- verdicts


def recompute(root: Path, scale: str) -> pd.DataFrame:
    """One row per claim that this scale can judge: outcome, estimate, low, high, p and corrected p of its test."""
    file, runs = yaml.safe_load((root / "config/claims.yaml").read_text()), Runs(root, scale)
    rules, due = file["settings"], []
    for claim in [*file["claims"], *file["questions"]]:
        test = claim.get("test")
        if not test or scale not in claim["scales"] or test["experiment"] not in runs.experiments:
            continue
        sides = []
        for key in ("a", "b"):
            if test.get(key):
                experiment, _, variant = test[key].rpartition("/")
                sides.append((experiment or test["experiment"], variant))
        task_set = runs.named_set(test, sides)
        if task_set is not None:
            found = pairs = None
            if all(runs.of(side, task_set) for side in sides):
                design, a, b, bounds = measure(runs, test, sides, task_set, rules)
                found = Quantity(design, a, b, bounds) if a and (b or design == "single") else None
                drawn = [
                    runs.records[run]["config"].get("episodes") for side in sides for run in runs.of(side, task_set)
                ]
                if found and design == "independent" and set(a) == set(b) and None not in drawn:
                    pairs = Quantity("paired", a, b, bounds)
            checks = [
                revised["before"]
                if (revised := file.get("revised_checks", {}).get(name))
                and claim["id"] in revised["seen"]
                and scale in revised["scales"]
                else name
                for name in claim["validity"]
            ]
            void = found is not None and any(fails(runs, name, test, sides, task_set, rules) for name in checks)
            due.append((claim, found, void, pairs))
    rows = []
    for family in dict.fromkeys(claim["family"] for claim, *_ in due):
        members = [entry for entry in due if entry[0]["family"] == family]
        in_pairs = [(claim, pairs or found, void) for claim, found, void, pairs in members]
        p, by_pairs = (
            {name: corrected(name, entries) for name in ("sign", "margin", "gain", "size")}
            for entries in ([entry[:3] for entry in members], in_pairs)
        )
        for i, (claim, found, void, pairs) in enumerate(members):
            tests, others = (
                {name: values[i] for name, values in which.items() if i in values} for which in (p, by_pairs)
            )
            rows.append({"id": claim["id"], "outcome": outcome(claim, found, void, tests, rules)})
            rows[-1]["in_pairs"] = outcome(claim, pairs, void, others, rules) if pairs else ""
            if found is not None:
                low, high = found.interval(rules["level"])
                test = {"equivalence": "margin", "no gain": "gain"}.get(claim.get("kind"), "sign")
                one, adjusted = tests.get(test, (math.nan, math.nan))
                rows[-1] |= {"estimate": found.d, "low": low, "high": high, "p": one, "holm": adjusted}
    return pd.DataFrame(rows).set_index("id")


def corrected(name: str, members: list[tuple]) -> dict[int, tuple[float, float]]:
    """Member -> (p, corrected p) of one test in a family, of those that it applies to."""
    p: dict[int, float] = {}
    for i, (claim, found, void) in enumerate(members):
        kind, margin, size = (
            claim.get("kind", "superiority"),
            claim.get("margin", 0),
            claim.get("paper", {}).get("size"),
        )
        if name == "size":
            applies = size is not None and kind in ("superiority", "estimate")
        else:
            applies = kind not in ("estimate", "count") and (name != "gain" or kind == "no gain")
        if applies:
            d = found.d if found is not None else 0.0
            null = {"sign": 0.0, "margin": margin if d >= 0 else -margin, "gain": margin, "size": size}[name]
            p[i] = math.nan if found is None or void else found.p(null)
    return dict(zip(p, zip(p.values(), holm(list(p.values())), strict=True), strict=True))


def outcome(claim: dict, found: Quantity | None, void: bool, tests: dict, rules: dict) -> str:
    kind, margin = claim.get("kind", "superiority"), claim.get("margin", 0)
    if found is None:
        return "not tested"
    if void:
        return "not interpretable"
    if kind == "estimate" or (kind == "count" and not found.error > 0):
        return "measured"
    if min(found.n) < rules["min_seeds"] or kind == "count":
        return "inconclusive"
    sure = {name: adjusted < 1 - rules["level"] for name, (_, adjusted) in tests.items()}
    inside = sure["margin"] and abs(found.d) < margin
    if kind == "equivalence":
        return "supported" if inside else "contradicted" if sure["margin"] else "inconclusive"
    if kind == "no gain":
        return ("supported" if found.d < margin else "contradicted") if sure["gain"] else "inconclusive"
    if inside:
        return "equivalent within the margin"
    if sure["sign"]:
        return "supported" if found.d > 0 else "contradicted"
    return "the paper's size excluded" if sure.get("size") else "inconclusive"


def disagreements(root: Path, scale: str) -> list[str]:
    """What the report says otherwise: verdicts, numbers (to 1e-4 of them) and p (to 1 %)."""
    report, ours = pd.read_csv(root / f"reports/{scale}/tables/claims.csv").set_index("id"), recompute(root, scale)
    found = []
    for name, said in report.iterrows():
        if name not in ours.index:
            found += [f"{name}: {said['outcome']}, here not due"] if said["outcome"] != "not tested" else []
            continue
        here, kind = ours.loc[name], said["kind"]
        if here["outcome"] != said["outcome"]:
            found.append(f"{name}: {said['outcome']}, here {here['outcome']}")
        if here["in_pairs"] != str(said["outcome_in_pairs"]).replace("nan", ""):
            found.append(f"{name}: in pairs {said['outcome_in_pairs']}, here {here['in_pairs']}")
        test = {"equivalence": "margin", "no gain": "gain"}.get(kind, "sign")
        pairs = {"estimate": ("estimate", 1e-4), "estimate_low": ("low", 1e-4), "estimate_high": ("high", 1e-4),
                 f"p_{test}": ("p", 1e-2), f"p_{test}_holm": ("holm", 1e-2)}  # fmt: skip
        for column, (key, tolerance) in pairs.items():
            theirs, mine = said[column], here[key]
            if said["outcome"] != "not tested" and not np.isclose(
                theirs, mine, rtol=tolerance, atol=1e-6, equal_nan=True
            ):
                found.append(f"{name}: {column} {theirs:.6g}, here {mine:.6g}")
    return found


if __name__ == "__main__":
    lines = disagreements(Path(sys.argv[2] if sys.argv[2:] else "."), sys.argv[1] if sys.argv[1:] else "laptop")
    print("\n".join(lines) or "All verdicts are the same.")
    sys.exit(bool(lines))
