"""Runs one job of every kind in the projects of a folder and prints what was imported, and by whom, as JSON.

Started by test_jobs.py in a process of its own, since a process imports a module once.
"""

from __future__ import annotations

import builtins
import contextlib
import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

IMPORTS: set[tuple[str, str]] = set()  # (by whom, what)
_import, _import_module = builtins.__import__, importlib.import_module


def _recorded_import(name, globals=None, locals=None, fromlist=(), level=0):
    module = _import(name, globals, locals, fromlist, level)
    by = (globals or {}).get("__name__", "")
    if by.startswith("rarl"):
        base = importlib.util.resolve_name("." * level + name, globals["__package__"]) if level else name
        IMPORTS.add((by, base))
        IMPORTS.update((by, f"{base}.{part}") for part in fromlist or () if f"{base}.{part}" in sys.modules)
    return module


def _recorded_import_module(name, package=None):
    IMPORTS.add((sys._getframe(1).f_globals["__name__"], name))
    return _import_module(name, package)


builtins.__import__, importlib.import_module = _recorded_import, _recorded_import_module

from rarl import jobs  # noqa: E402
from rarl.config.scale import Dataset, Scale, index_cost_plan  # noqa: E402
from rarl.config.settings import DatasetSettings  # noqa: E402
from rarl.envs import spec  # noqa: E402
from tests import tiny_relevance  # noqa: E402

JOBS: dict[str, dict] = {}
read: set[tuple[str, str]] | None = None  # (environment, field), while a job computes
loaded: set[str] | None = None
_get, _load = spec.EnvSpec.__getattribute__, spec.load


def _recorded_get(self, name):
    value = _get(self, name)
    by = sys._getframe(1)
    # What there is and what its digest is, not what is computed.
    planning = by.f_globals["__name__"].startswith(("rarl.envs.catalogue", "rarl.config"))
    planning = planning or by.f_code.co_qualname.partition(".")[0] in ("sources_of", "plays")
    if read is not None and value is not None and not planning and not name.startswith("_") and name != "name":
        read.add((_get(self, "name"), name))
    return value


def _recorded_load(name):
    if loaded is not None:
        loaded.add(name)
    return _load(name)


spec.EnvSpec.__getattribute__, spec.load = _recorded_get, _recorded_load


@contextlib.contextmanager
def computing(job: jobs.Job) -> Iterator[jobs.LoadedCode]:
    global read, loaded
    code = jobs.LoadedCode(job)
    read, loaded = set(), set()
    yield code
    name = f"{job.kind} {dict(job.uses)}"
    JOBS[name] = {
        "modules": sorted(code.code.modules),
        "uses": dict(job.uses),
        "read": sorted(read),
        "loaded": sorted(loaded),
    }
    read = loaded = None


MASKED = {"learning": {"masking": {"weight": 0.5, "trajectories": 20, "tokens": 4}}}
RUNS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "gridroboman": [("ra-dqn", MASKED), ("ra-dqn", tiny_relevance.changes("ivf")), ("nec", {})],
    "babyai": [("all", MASKED)],
    "atari": [("ra-r2d2", {}), ("nec", {})],
}
MORE = {"gridroboman": ("dqn", "lift red"), "babyai": ("rdqn", "GoToLocal")}  # of agents in training


def main(folder: Path) -> None:
    for environment, chosen in RUNS.items():
        scale = Scale("tiny", folder / environment)
        experiment = next(iter(scale.experiments))
        runs = [
            scale.run(experiment, scale.largest_task_set(experiment), variant, seed, changes)
            for seed, (variant, changes) in enumerate(chosen)
        ]
        make(scale, [scale.find_dataset(name) for name in runs[0].datasets])
        if environment in MORE:
            source, task = MORE[environment]
            make(scale, [Dataset(environment, task, DatasetSettings(source=source, environment_steps=100))])
        for run in runs:
            with computing(jobs.train_job(run)) as code:
                from rarl.runs.train import train_run

                train_run(scale, run, device="cpu", code=code)
            if run.settings.episodic is None:
                with computing(jobs.probe_job(run)) as code:
                    from rarl.probes.probe import probe_run

                    probe_run(scale, run, code)
        with computing(jobs.costs_job(scale)) as code:
            from rarl.benchmarks import costs

            costs._Variant.memory_mb = lambda subject: 0.0  # measured by processes of their own
            costs.measure_costs(scale, device="cpu", code=code)
        plan = index_cost_plan(scale)
        if plan is not None:
            with computing(jobs.index_cost_job(plan[1])) as code:
                from rarl.benchmarks.index_cost import write_index_cost

                write_index_cost(scale, code)
    print(json.dumps({"imports": sorted(IMPORTS), "jobs": JOBS}))


def make(scale: Scale, datasets: list[Dataset]) -> None:
    for dataset in datasets:
        with computing(jobs.dataset_job(dataset)) as code:
            from rarl.collect.make import make_dataset

            make_dataset(scale, dataset, code)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
