"""What `snakemake all` will do at a scale, why, and about how long that takes on this machine."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rarl.config.doubts import doubts_about
from rarl.config.scale import Run, Scale, index_cost_plan
from rarl.errors import RarlError
from rarl.jobs import (
    changed_parts,
    code_digest_of,
    costs_job,
    dataset_job,
    index_cost_job,
    probe_job,
    report_job,
    train_job,
)
from rarl.progress import duration
from rarl.reporting.choices import check_texts
from rarl.runs.run_folder import CHECKPOINT, RunPaths, read_record
from rarl.workflow.records import record_of
from rarl.workflow.resources import jobs_per_gpu
from rarl.workflow.rules import cost_digest, gpus, index_cost_digest, plan_digest
from rarl.workflow.verify import changed_settings

# What `_reference_work` takes on the core that `about_core_minutes` was measured on. That core is out of reach: seven
# runs of scale laptop, of all kinds, were made again on another (Intel Xeon with AVX-512, busy with other work), where
# they took 1.1 times the seconds of their records (0.95 to 1.5), and this work 0.035 seconds (0.028 to 0.045).
_REFERENCE_SECONDS = 0.032
_SIZE, _REPEATS = 64, 600  # of that work; NumPy would take a larger product as one for several threads
_MOST_NAMED = 8  # modules, packages or settings

CURRENT, MISSING, FAILED = "current", "not there", "failed"
OTHER_CODE, OTHER_SETTINGS = "by other code", "with other settings"
AFTER = "to follow"  # current by themselves, but what they are made from is made again


# ------------------------------------------------------------------------------------------------------ what is there


@dataclass
class Standing:
    """How the products of a scale stand against its files of today.

    states: "datasets", "runs", "probes", "costs", "report" -> how many stand how. why: of runs by other code or with
    other settings, how many for each module, package or setting that changed since.
    """

    states: dict[str, Counter[str]]
    why: Counter[str] = field(default_factory=Counter)

    @property
    def stale(self) -> bool:
        """Whether anything was made by other code or with other settings."""
        return any(counter[state] for counter in self.states.values() for state in (OTHER_CODE, OTHER_SETTINGS))

    @property
    def complete(self) -> bool:
        """Whether nothing is left to be made."""
        return not self.stale and not any(counter[MISSING] for counter in self.states.values())

    def runs_left(self) -> float:
        """The share of the runs that are still to be made; those that failed are left as they are."""
        runs = self.states["runs"]
        return 1 - (runs[CURRENT] + runs[FAILED]) / max(runs.total(), 1)


def standing(scale: Scale) -> Standing:
    """Look at the records of everything that a scale makes; the files themselves are not read."""
    root, s = scale.root, scale.name
    why: Counter[str] = Counter()
    wanted = made_by_all(scale)
    runs = {run.id: _state_of_run(scale, run, why) for run in wanted.values()}
    states = {
        "datasets": Counter(
            _recorded_state(root, f"data/{s}/{d.id}/manifest.json", d.digest, code_digest_of(dataset_job(d)))
            for d in scale.datasets.values()
        ),
        "runs": Counter(runs.values()),
    }
    probes: Counter[str] = Counter()
    for run in (wanted[name] for name in scale.probes() if name in wanted):
        path = f"results/{s}/probes/{run.id}/attention.csv"
        state = _recorded_state(root, path, run.digest, code_digest_of(probe_job(run)))
        probes[AFTER if state == CURRENT and runs[run.id] not in (CURRENT, FAILED) else state] += 1
    states["probes"] = probes
    plan = index_cost_plan(scale)
    index_cost = code_digest_of(index_cost_job(plan and plan[1]))
    costs = _recorded_state(root, f"results/{s}/costs.csv", cost_digest(scale), code_digest_of(costs_job(scale)))
    if costs == CURRENT and states["datasets"][CURRENT] < len(scale.datasets):
        costs = AFTER
    states["costs"] = Counter(
        [costs, _recorded_state(root, f"results/{s}/index-cost.csv", index_cost_digest(scale), index_cost)]
    )
    report = _recorded_state(root, f"reports/{s}/README.md", plan_digest(scale), code_digest_of(report_job(scale)))
    if report == CURRENT and not Standing(states).complete:
        report = AFTER
    return Standing(states | {"report": Counter([report])}, why)


def _state_of_run(scale: Scale, run: Run, why: Counter[str]) -> str:
    """A run that was made here, by its record; a fresh clone has the record alone."""
    return _state_of_record(scale, run, why) if _has_checkpoint(scale, run.id) else MISSING


def _has_checkpoint(scale: Scale, run: str) -> bool:
    return (RunPaths.of(run, scale.name, scale.root).checkpoint / CHECKPOINT).is_file()


def _state_of_record(scale: Scale, run: Run, why: Counter[str]) -> str:
    """By a run's own record, which names the code that it was made by; what changed since is counted in `why`."""
    try:
        record = read_record(RunPaths.of(run.id, scale.name, scale.root).record / "run.json")
    except RarlError:
        return MISSING
    job = train_job(run)
    state = CURRENT if record.get("status") == "finished" else FAILED
    if record.get("code_digest") != code_digest_of(job):
        why.update(_changed_code(record.get("code"), job.code().record))
        state = OTHER_CODE
    if changed := changed_settings(record, run):
        why.update(f"setting {line.partition(': ')[0]}" if ": " in line else line for line in changed)
        state = OTHER_SETTINGS
    return state


# ------------------------------------------------------------------------------------- what was made on another machine


def made_elsewhere(scale: Scale) -> dict[str, Run]:
    """The runs of `extended` variants of which there is the record, as git brings it, and no checkpoint.

    `all` shows them and does not make them again, so that a scale can be made in sittings, on several machines.
    """
    there = scale.wanted()
    return {i: there[i] for i in scale.extended() if i in there and not _has_checkpoint(scale, i)}


def made_by_all(scale: Scale) -> dict[str, Run]:
    """The runs that `snakemake all` makes and keeps current."""
    elsewhere = made_elsewhere(scale)
    return {i: run for i, run in scale.wanted().items() if i not in elsewhere}


def made_by_extended(scale: Scale) -> dict[str, Run]:
    """The runs that `snakemake extended` makes: all of its variants but those made elsewhere, and as today."""
    current = {i for i, run in made_elsewhere(scale).items() if _state_of_record(scale, run, Counter()) == CURRENT}
    return {i: scale.runs[i] for i in scale.extended() if i not in current}


def made_by_other_code(scale: Scale) -> set[str]:
    """The runs that a report shows though their code, or a setting, was another one than it is today."""
    states = {i: _state_of_record(scale, run, Counter()) for i, run in scale.wanted().items()}
    return {i for i, state in states.items() if state in (OTHER_CODE, OTHER_SETTINGS)}


def _changed_code(then: Any, now: Mapping[str, Mapping[str, str]]) -> Iterable[str]:
    parts = [then.get(name) for name in ("modules", "packages")] if isinstance(then, Mapping) else []
    if not parts or not all(isinstance(part, Mapping) for part in parts):
        return ["code that its record does not name"]
    return changed_parts(then, now)


def _recorded_state(root: Path, path: str, settings: str, code: str) -> str:
    """By Snakemake's record of a file, in which the parameters of its job are."""
    if not (root / path).is_file():
        return MISSING
    params = (record_of(path, root) or {}).get("params")
    if params is None:  # nobody knows; Snakemake leaves it as it is
        return CURRENT
    if repr(settings) not in params:
        return OTHER_SETTINGS
    return CURRENT if repr(code) in params else OTHER_CODE


# ------------------------------------------------------------------------------------------------ what a person is told


def describe_plan(scale: Scale, found: Standing | None = None) -> str:
    """A few lines for a person: products, what is there already, what is to be made again and why, time.

    Raises:
      RarlError: a fault in the texts of the report, which would be told at the very end.
    """
    check_texts(scale.root)
    found = found or standing(scale)
    lines = [f"Scale {scale.name}: {scale.settings.description}"]
    lines += [f"  {name:9s} {_counted(counter)}" for name, counter in found.states.items()]
    if left := len(scale.runs) - len(scale.wanted()):
        lines.append(f"  extended  {left} more runs by `snakemake extended`; reports show them once they are made")
    if elsewhere := made_elsewhere(scale):
        states = Counter(_state_of_record(scale, run, Counter()) for run in elsewhere.values())
        again = "" if set(states) == {CURRENT} else "; `snakemake extended` makes again what is not current"
        lines.append(f"  elsewhere {_counted(states)}, only records are here, shown as they are{again}")
    lines.append(f"  page      reports/{scale.name}/README.md; as a site by the target `site`")
    if found.why:
        named = [f"{name} ({n})" for name, n in found.why.most_common(_MOST_NAMED)]
        more = f", and {len(found.why) - _MOST_NAMED} more" if len(found.why) > _MOST_NAMED else ""
        lines.append(f"Changed since, with the number of runs that it concerns: {', '.join(named)}{more}.")
    doubts: dict[str, list[str]] = {}
    for run in made_by_all(scale).values():
        for doubt in doubts_about(run.settings):
            doubts.setdefault(doubt, []).append(run.id)
    for doubt, runs in doubts.items():
        others = f" and {len(runs) - 1} more" if len(runs) > 1 else ""
        lines.append(f"Warning: {runs[0]}{others}: {doubt}.")
    return "\n".join([*lines, _time_left(scale, found)])


def _counted(counter: Counter[str]) -> str:
    """ "90 (50 current, 40 by other code)"."""
    parts = [f"{counter[state]} {state}" for state in (CURRENT, FAILED, OTHER_CODE, OTHER_SETTINGS, MISSING, AFTER)]
    return f"{counter.total()} ({', '.join(part for part in parts if not part.startswith('0 '))})"


def _time_left(scale: Scale, found: Standing) -> str:
    if found.complete:
        return "Nothing is left to be made."
    where_to_stop = "Stop at any time with Ctrl-C; the same command goes on where it stopped."
    if scale.settings.about_core_minutes is None:
        return f"How long it takes is not known: the scale's file has no about_core_minutes.\n{where_to_stop}"
    cores, n_gpus = os.cpu_count() or 1, gpus() if scale.settings.resources.gpu else 0
    slowness = _reference_work() / _REFERENCE_SECONDS
    jobs = jobs_per_gpu(scale) if n_gpus else 0  # each
    at_a_time = min(cores, n_gpus * jobs) if n_gpus else cores
    seconds = 60 * scale.settings.about_core_minutes * found.runs_left() * slowness / at_a_time
    each = f", {jobs} jobs on each" if n_gpus else ""
    where = f"{cores} CPU core{'s' * (cores > 1)}" + (
        f" and {n_gpus} GPU{'s' * (n_gpus > 1)}{each}" if n_gpus else ", no GPU"
    )
    return (
        f"About {duration(seconds)} for the runs that are left, on this machine ({where}; a core takes {slowness:.1f} "
        f"times the reference's).\n{where_to_stop}"
    )


def _reference_work() -> float:
    """Seconds of one core for a fixed piece of work, the best of three.

    Like a learner step it is many small calls from Python: products of small matrices, and work on their elements.
    """
    import numpy as np

    rng = np.random.default_rng(0)
    x, w, v = (rng.standard_normal((_SIZE, _SIZE), dtype=np.float32) / np.float32(_SIZE**0.5) for _ in range(3))
    best = float("inf")
    for _ in range(3):
        started = time.process_time()
        for _ in range(_REPEATS):
            h = x @ w
            np.maximum(h, 0, out=h)
            q = h @ v
            q -= q.max(1, keepdims=True)
            np.exp(q, out=q)
            q /= q.sum(1, keepdims=True)
            g = h.T @ q
            g *= g
            np.sqrt(g, out=g)
            g.mean()
        best = min(best, time.process_time() - started)
    return best


def plan_to_tell(scale: Scale) -> str | None:
    """What is to be said before a workflow starts; None if nothing is left to be made, or it was said already.

    DVC starts Snakemake once for every stage: it is said in the first of them.
    """
    found = standing(scale)
    if found.complete:
        return None
    teller = _dvc()
    told = scale.root / ".snakemake" / "told.json"
    if teller is not None:
        try:
            if json.loads(told.read_text(encoding="utf-8")) == teller:
                return None
        except (OSError, ValueError):
            pass
        with contextlib.suppress(OSError):  # then it is said again
            told.parent.mkdir(exist_ok=True)
            told.write_text(json.dumps(teller), encoding="utf-8")
    return describe_plan(scale, found)


def _dvc() -> list[float] | None:
    """Process and start of the `dvc` that started this process; None if none did."""
    if "DVC_STAGE" not in os.environ:
        return None
    import psutil

    try:
        for process in psutil.Process().parents():
            if any(Path(part).name == "dvc" for part in process.cmdline()[:3]):
                return [process.pid, process.create_time()]
    except psutil.Error:
        pass
    return None
