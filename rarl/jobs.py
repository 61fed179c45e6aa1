"""The code that each job depends on: what the workflow and the records of runs know it by. Imports no torch.

A job runs the generic modules of its kind, and of its environment what the environment's specification names for it:
the generator of a dataset's source, the learner and the encoder of a run. `rarl.code_digest` follows both.
"""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from rarl.code_digest import PACKAGE, Code, code_of, module_of
from rarl.envs.common import AGENT, LEARNERS, PICTURES, PROBES, RANDOM, VALUES
from rarl.envs.spec import learner_kind, probe_kind, sources_of, spec_of
from rarl.errors import RarlError
from rarl.files import digest

if TYPE_CHECKING:
    from rarl.config.scale import Dataset, Run, Scale
    from rarl.config.settings import RunSettings

# What changes no number by its code. The first hands over settings, the values of which, defaults and derived ones
# too, are in the digests of settings; so a new setting of one environment leaves the code of the others' jobs alone.
DATA = {
    "rarl.config": "reads and checks values and says which datasets and runs there are, all in the digests of settings",
}
NOT_COMPUTING = {
    "rarl.jobs": "says what belongs to the digest of a job's code, and so changes that digest itself",
    "rarl.provenance": "records commit, machine and versions",
    "rarl.progress": "says how far a job is",
    "rarl.envs.common": "names what every environment has; of that a job's digest names what it uses",
}


class Kind(NamedTuple):
    """A kind of job.

    entries: the modules that run it. leave_out: modules that they import and that change no number of it.
    """

    entries: tuple[str, ...]
    leave_out: tuple[str, ...] = (*DATA, *NOT_COMPUTING)


KINDS = {
    "dataset": Kind(("rarl.collect.make",)),
    "train": Kind(("rarl.quick_start", "rarl.runs.train")),
    "probe": Kind(("rarl.quick_start", "rarl.probes.probe")),
    "index-cost": Kind(("rarl.benchmarks.index_cost",)),
    # It measures memory by `rarl.provenance`.
    "costs": Kind(
        ("rarl.benchmarks.costs",), tuple(name for name in (*DATA, *NOT_COMPUTING) if name != "rarl.provenance")
    ),
    # It shows what settings are by default, how a run was made, and how long things took.
    "report": Kind(("rarl.reporting.report",), ("rarl.envs.common",)),
}


@dataclass(frozen=True)
class Job:
    """A job, as far as its code is concerned.

    Attributes:
      kind: one of `KINDS`.
      uses: (environment's field, what it names) of all that it takes from specifications.
    """

    kind: str
    uses: tuple[tuple[str, str], ...] = ()

    def code(self, root: str | os.PathLike = PACKAGE) -> Code:
        """Its code as the files of the package in `root` are now."""
        entries, leave_out = KINDS[self.kind]
        followed = [name for _, name in self.uses if module_of(name)]
        return code_of((*entries, *followed), leave_out=leave_out, uses=dict(self.uses), root=root)


@functools.cache
def code_digest_of(job: Job) -> str:
    """The digest of a job's code, read once in this process: for a workflow that plans many jobs."""
    return job.code().digest


# ------------------------------------------------------------------------------------------------ which job is which


def dataset_job(dataset: Dataset) -> Job:
    """Making a dataset."""
    spec, s = spec_of(dataset.environment), dataset.settings
    make = sources_of(spec)[s.source].make
    uses = [(f"{spec.name}.sources.{s.source}", named(make)), *_own_file(dataset.environment)]
    if make in (RANDOM, AGENT):
        uses += _of_play(dataset, make == AGENT)
    elif s.source not in spec.sources:
        uses += _said(
            dataset.environment, ["content", "prepare", "tell", "context", "observation", "n_actions", "make"]
        )
    return _job("dataset", uses)


def _of_play(dataset: Dataset, learns: bool) -> list[tuple[str, str]]:
    """What playing takes of an environment, and the settings of who plays, which no digest of settings knows."""
    from rarl.config.player import run_of

    given = dataset.settings.options.get("settings") if learns else None
    run = run_of(dataset.environment, spec_of(dataset.environment).tasks[0], 0, given)  # the same for all tasks
    uses = _learning(run.settings) if learns else _playing(run.settings)
    return [("settings", run.digest), *_said(dataset.environment, ["content", "expert"]), *uses]


def train_job(run: Run) -> Job:
    """Training a run."""
    return _job("train", _learning(run.settings))


def probe_job(run: Run) -> Job:
    """Looking into a run."""
    s, spec = run.settings, spec_of(run.settings.environment)
    own = [("probe", PROBES[probe_kind(s)]), (f"{spec.name}.score.column", spec.score.column), *_fields(s, ["probing"])]
    if s.agent.retrieval.pool is not None:  # more datasets are made
        own.append((f"{spec.name}.sources.{s.source}", named(sources_of(spec)[s.source].make)))
    return _job("probe", [*own, *_network(s), *_playing(s), *_data(s)])


def costs_job(scale: Scale) -> Job:
    """Measuring what the variants of a scale cost."""
    uses = []
    for runs in scale.cost_runs().values():
        for run in runs.values():
            uses += [*_learning(run.settings), *_fields(run.settings, ["library"])]
    return _job("costs", uses)


def index_cost_job(run: Run | None) -> Job:
    """Measuring what an index costs; run: by whose network, None if nothing is measured."""
    uses = (
        []
        if run is None
        else [*_network(run.settings), *_playing(run.settings), *_fields(run.settings, ["long_episode"])]
    )
    return _job("index-cost", uses)


def report_job(scale: Scale) -> Job:
    """Writing the report of a scale, in which environments say how agents are compared and episodes are drawn."""
    uses = []
    for environment in {experiment.environment for experiment in scale.experiments.values()}:
        spec = spec_of(environment)
        uses += _said(environment, ["reported"])
        uses.append((f"{spec.name}.picture", named(spec.picture or PICTURES)))
        if spec.score.normaliser is not None:
            uses.append((f"{spec.name}.score.normaliser", named(spec.score.normaliser)))
        score = replace(spec.score, normaliser=None)  # a function would be written with its address
        data = (spec.title, score, spec.task_noun, spec.task_groups, spec.one_task, spec.tasks)
        uses.append((f"{spec.name}.in reports", digest(repr(data))))
    return _job("report", uses)


def named(value: Any) -> str:
    """What an environment's specification says, as text: "module:attribute" of functions and classes."""
    if isinstance(value, str) or not callable(value):
        return str(value)
    return f"{value.__module__}:{getattr(value, '__qualname__', type(value).__name__)}"


def _learning(s: RunSettings) -> list[tuple[str, str]]:
    fields = ["reward_range", "return_range", "range_points"]
    fields += ["tokens"] if s.learning.masking.weight > 0 else []
    fields += ["codec"] if s.plays else []
    return [("learner", LEARNERS[learner_kind(s)]), *_fields(s, fields), *_network(s), *_playing(s), *_data(s)]


def _data(s: RunSettings) -> list[tuple[str, str]]:
    """By what its datasets are checked."""
    return _fields(s, ["content"]) if s.source != "replay" else []


def _network(s: RunSettings) -> list[tuple[str, str]]:
    spec = spec_of(s.environment)
    encoder = (f"{spec.name}.encoders.{s.agent.encoder}", named(spec.encoders[s.agent.encoder]))
    head = ("values", VALUES.get(s.agent.values, s.agent.values))
    return [encoder, head, *_fields(s, ["n_actions", "observation"])]


def _playing(s: RunSettings) -> list[tuple[str, str]]:
    return _fields(s, ["make", "make_vector", "prepare", "tell", "context", "success"])


def _fields(s: RunSettings, names: Iterable[str]) -> list[tuple[str, str]]:
    return _said(s.environment, names)


def _said(environment: str, names: Iterable[str]) -> list[tuple[str, str]]:
    """What is said about an environment, as far as it says anything, and the file that says it if it is no part of this
    package."""
    spec = spec_of(environment)
    values = ((name, getattr(spec, name)) for name in names)
    said = [(f"{spec.name}.{name}", named(value)) for name, value in values if value is not None]
    return [*said, *_own_file(environment)]


def _own_file(environment: str) -> list[tuple[str, str]]:
    own = ":" in environment and not environment.startswith("rarl.")
    return [("environment", environment)] if own else []


def _job(kind: str, uses: Iterable[tuple[str, str]]) -> Job:
    return Job(kind, tuple(sorted(set(uses))))


# --------------------------------------------------------------------------------------- what a process computes with


class LoadedCode:
    """The code that this process computes with, held against what is in the files.

    All its modules are imported between two readings of the files, so that it is the code that was read. Whoever
    computes calls `check` before anything is published.

    Args:
      job: what the process does.
      planned: the digest of the code that the caller expects; None: whatever is there.

    Raises:
      RarlError: the files hold other code, or change just now.
    """

    def __init__(self, job: Job, planned: str | None = None):
        self.job, self.code = job, job.code()
        if planned is not None and self.code.digest != planned:
            raise RarlError(
                f"the code of this job ({job.kind}) has digest {self.code.digest}, the caller expected {planned}; "
                "a file under rarl/ changed meanwhile: start the workflow again"
            )
        for name in self.code.modules:
            if "/" not in name and (name == "rarl" or name.startswith("rarl.")):
                importlib.import_module(name)
        self.check("while it was loaded")

    def check(self, when: str = "while it worked") -> None:
        """That the files still hold this code."""
        now = self.job.code()
        if now.digest == self.code.digest:
            return
        changed = changed_parts(self.code.record, now.record)
        raise RarlError(
            f"the code of this job ({self.job.kind}) changed {when}: {', '.join(changed)}; "
            "undo the change or keep it, and start again"
        )


def changed_parts(then: Mapping[str, Mapping[str, str]], now: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Modules that differ between two `Code.record`, and packages with both versions."""
    modules = {*then["modules"].items()} ^ {*now["modules"].items()}
    lines = sorted({name for name, _ in modules})
    for name in sorted({*then["packages"], *now["packages"]}):
        old, new = then["packages"].get(name, "none"), now["packages"].get(name, "none")
        if old != new:
            lines.append(f"{name} {old} -> {new}")
    return lines
