"""What a scale plans: its datasets and its runs, from the files under config/ (see `rarl.config`)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from rarl.config.files import NOT_SCALES, ExperimentSettings, IndexCostSettings, ScaleSettings
from rarl.config.fit import check_run, dataset_with_options, with_options
from rarl.config.settings import (
    EPISODIC,
    EXECUTION_ONLY,
    TUNING_SEEDS,
    DatasetSettings,
    RunSettings,
)
from rarl.config.validate import check_name, validate
from rarl.envs.catalogue import tasks_of_set
from rarl.envs.names import slug
from rarl.envs.spec import EnvSpec, check_spec, spec_of
from rarl.errors import RarlError, did_you_mean
from rarl.files import digest, read_yaml
from rarl.mappings import merge
from rarl.pool_sizes import needed_of_each


def _spec(environment: str, where: str) -> EnvSpec:
    try:
        spec = spec_of(environment)
        check_spec(spec)
        return spec
    except RarlError as error:
        raise RarlError(f"{where}: {error}") from None


def _check_known(where: str, named: Iterable[str | None], there: Collection[str], what: str = "variant") -> None:
    """That all that is named in a place of a file is there."""
    for one in named:
        if one is not None and one not in there:
            raise RarlError(f"{where}: unknown {what} {one!r}; {did_you_mean(one, there)}")


def values_of(part: Any, without: Mapping[str, Any] | None = None) -> Any:
    """All that code can read from settings, as JSON values: what digests are made of.

    These are the values of all keys, given or by default, and what is derived from them (properties). So a changed
    default, or a changed way to derive something, changes the digest of every run that has it.

    Args:
      part: settings, or a value of them.
      without: keys to leave out, as in `model_dump(exclude=...)`.
    """
    if isinstance(part, BaseModel):
        names = [*type(part).model_fields, *_derived(type(part))]
        without = without or {}
        kept = [name for name in names if without.get(name) is not True]
        return {name: values_of(getattr(part, name), without.get(name)) for name in kept}
    if isinstance(part, Mapping):
        without = without or {}
        return {str(key): values_of(value) for key, value in part.items() if without.get(key) is not True}
    if isinstance(part, list | tuple):
        return [values_of(value) for value in part]
    return part


@cache
def _derived(kind: type) -> list[str]:
    """The properties that a class and those above it define, pydantic's own left out."""
    own = [base for base in kind.__mro__ if base.__module__.partition(".")[0] == __name__.partition(".")[0]]
    return sorted({name for base in own for name, value in vars(base).items() if isinstance(value, property)})


def _digest_of(planned: Any, without: Mapping[str, Any] | None = None) -> str:
    """Of what is planned: its settings and what is derived from them."""
    derived = {name: values_of(getattr(planned, name)) for name in _derived(planned.__class__)}
    return digest({"settings": values_of(planned.settings, without), **derived})


def task_set_name(key: int | str) -> str:
    """The name of a task set in paths: 30 -> "30-tasks"."""
    return f"{key}-tasks" if isinstance(key, int) else key


class Run:
    """One planned run: its place and its settings."""

    def __init__(self, scale: str, settings: RunSettings):
        self.scale, self.settings = scale, settings

    @property
    def id(self) -> str:
        """ "experiment/task-set/variant/seed-0"."""
        s = self.settings
        return f"{s.experiment}/{s.task_set}/{s.variant}/seed-{s.seed}"

    @cached_property
    def digest(self) -> str:
        """12 hex digits that change with every setting that can change the result."""
        return _digest_of(self, self._without_effect)

    @property
    def _without_effect(self) -> dict[str, Any]:
        of_environment = dict.fromkeys(spec_of(self.settings.environment).options_without_effect, True)
        return {**EXECUTION_ONLY, "environment_options": of_environment}

    @property
    def retrieves(self) -> bool:
        """Whether its agent reads a retrieval batch."""
        return self.settings.agent.retrieves

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks that it learns."""
        return self.settings.tasks

    @property
    def datasets(self) -> list[str]:
        """Ids of the datasets that it learns from, in the order of its tasks; then those of the held-out tasks."""
        s = self.settings
        if s.source == "replay":
            return []
        name = spec_of(s.environment).name
        return [f"{name}/{s.source}/{slug(task)}" for task in (*self.tasks, *s.held_out)]

    def recorded(self) -> dict[str, Any]:
        """Its settings as its record shows them, JSON values: those that can change the result."""
        return self.settings.model_dump(mode="json", exclude=self._without_effect)

    def with_settings(self, settings: RunSettings) -> Run:
        """A run at the same scale with other settings."""
        return Run(self.scale, settings)


class Dataset:
    """One planned dataset: a task's trajectories from a source."""

    def __init__(self, environment: str, task: str, settings: DatasetSettings):
        self.environment, self.task, self.settings = environment, task, settings

    @property
    def name(self) -> str:
        """The environment's name, as in paths."""
        return spec_of(self.environment).name

    @property
    def id(self) -> str:
        """ "environment/source/task"."""
        return f"{self.name}/{self.settings.source}/{slug(self.task)}"

    @cached_property
    def digest(self) -> str:
        """12 hex digits that change with every setting that can change the result."""
        return _digest_of(self, {"tasks": True})

    def changed(self, **settings: Any) -> Dataset:
        """The same task's trajectories, with other values of these settings."""
        return Dataset(self.environment, self.task, self.settings.model_copy(update=settings))


class Scale:
    """A scale with its experiments, read and validated from `root`/config.

    Args:
      name: one of `SCALES`, or of any file config/{name}.yaml.
      root: the project's folder.
    """

    def __init__(self, name: str, root: str | Path = "."):
        self.name, self.root = check_name(name, "scale"), Path(root)
        self.settings = read_scale(name, root)
        self._path = path = self.root / "config" / f"{name}.yaml"
        self.experiments: dict[str, ExperimentSettings] = {}
        folder = self.root / "config" / "experiments"
        present = sorted(file.stem for file in folder.glob("*.yaml"))
        _check_known(f"{path}: experiments", self.settings.experiments, present, "experiment")
        for name in self.settings.experiments:
            file = folder / f"{name}.yaml"
            self.experiments[name] = _read_experiment(file)
            _spec(self.experiments[name].environment, f"{file}: environment")
        for name, experiment in self.experiments.items():
            if experiment.extends is not None:
                self._check_extends(name, experiment, experiment.extends)
            self._check_variants(name, experiment)
        self.runs: dict[str, Run] = {}
        for run in self._runs():
            if run.id in self.runs:
                raise RarlError(f"{path}: experiments.{run.settings.experiment}.task_sets: {run.id} is planned twice")
            self.runs[run.id] = run
        self.datasets: dict[str, Dataset] = {}
        for dataset in self._datasets():
            if dataset.id in self.datasets:
                raise RarlError(f"{path}: datasets.{dataset.environment}: {dataset.id} is made twice")
            self.datasets[dataset.id] = dataset
        self._check_datasets()

    def _check_extends(self, name: str, experiment: ExperimentSettings, extends: str) -> None:
        """That the experiment that another extends is there, of the same environment, and extends none itself."""
        where = f"config/experiments/{name}.yaml: extends"
        other = self.experiments.get(extends)
        if other is None:
            hint = did_you_mean(extends, [e for e in self.experiments if e != name])
            raise RarlError(f"{where}: {self._path} has no experiment {extends!r}; {hint}")
        if other.extends is not None:
            raise RarlError(f"{where}: {extends!r} itself extends {other.extends!r}; name that one")
        if other.environment != experiment.environment:
            raise RarlError(f"{where}: {extends!r} is of {other.environment}, not {experiment.environment}")

    def _check_variants(self, name: str, experiment: ExperimentSettings) -> None:
        """That every variant and sweep that the file speaks of is there, or in the experiment that it extends."""
        where = f"config/experiments/{name}.yaml"
        extended = list(self.experiments[experiment.extends].variants) if experiment.extends else []
        known = [*experiment.variants, *extended]
        if not known:
            raise RarlError(f"{where}: variants: there is none")
        _check_known(f"{where}: base_variant", [experiment.base_variant], known)
        _check_known(f"{where}: full_variant", [experiment.full_variant], known)
        _check_known(f"{where}: beside", experiment.beside, extended)
        for variant, settings in experiment.variants.items():
            place = f"{where}: variants.{variant}"
            _check_known(f"{place}.relative_to", settings.relative_to or (), known)
            _check_known(f"{place}.sweep", [settings.sweep], experiment.sweeps, "sweep")
            _check_known(f"{place}.same_as", [settings.same_as], extended)

    def _base(self, experiment: str) -> dict[str, Any]:
        """The settings that all runs of an experiment share at this scale."""
        settings = self.experiments[experiment]
        base = self._base(settings.extends) if settings.extends is not None else {}
        return merge(merge(base, settings.base), self.settings.experiments[experiment].settings)

    def _runs(self) -> Iterator[Run]:
        for name, at_scale in self.settings.experiments.items():
            experiment = self.experiments[name]
            place = f"{self._path}: experiments.{name}"
            _check_known(f"{place}.variant_settings", at_scale.variant_settings, experiment.variants)
            for size, chosen in at_scale.task_sets.items():
                where = f"{place}.task_sets.{size}"
                everything = [*chosen.variants, *chosen.extended]
                _check_known(where, [*everything, *chosen.probes], experiment.variants)
                for listed in (*everything, *chosen.probes):
                    if experiment.variants[listed].same_as is not None:
                        raise RarlError(f"{where}: variant {listed!r} has no runs of its own: see its 'same_as'")
                for variant in everything:
                    for seed in at_scale.seeds or self.settings.seeds:
                        yield self.run(name, size, variant, seed)
                for listed in chosen.probes:
                    if listed not in everything:
                        raise RarlError(f"{where}: probes: variant {listed!r} is not among the task set's variants")
                    if self.run(name, size, listed, 0).settings.agent.base in EPISODIC:
                        raise RarlError(f"{where}: probes: variant {listed!r} is episodic control, which has no probe")

    def run(
        self, experiment: str, task_set: int | str, variant: str, seed: int, changes: Mapping[str, Any] | None = None
    ) -> Run:
        """The run of these coordinates, planned or not; `changes` go over everything else (used in the search)."""
        settings, at_scale = self.experiments[experiment], self.settings.experiments[experiment]
        chosen = at_scale.task_sets.get(task_set)
        place = f"{self._path}: experiments.{experiment}.task_sets.{task_set}"
        tasks = chosen.tasks if chosen else None
        if tasks is None:
            if not isinstance(task_set, int):
                raise RarlError(f"{place}: a set that is not named by its size needs the key 'tasks'")
            tasks = task_set
        value = merge(self._base(experiment), chosen.settings if chosen else {})
        value = merge(merge(value, settings.variants[variant].settings), at_scale.variant_settings.get(variant, {}))
        value = merge(value, changes or {})
        value |= {
            "experiment": experiment,
            "environment": settings.environment,
            "task_set": task_set_name(task_set),
            "tasks": tasks_of_set(settings.environment, tasks, place),
            "variant": variant,
            "seed": seed,
        }
        where = f"config/experiments/{experiment}.yaml with config/{self.name}.yaml, variant {variant!r}"
        spec = spec_of(settings.environment)
        found = validate(RunSettings, with_options(spec, value, where), where)
        check_run(spec, found, where)
        return Run(self.name, found)

    def _datasets(self) -> Iterator[Dataset]:
        for environment, kinds in self.settings.datasets.items():
            spec = _spec(environment, f"{self._path}: datasets.{environment}")
            for i, kind in enumerate(kinds):
                whole = dataset_with_options(spec, kind, f"{self._path}: datasets.{environment}.{i}")
                tasks = spec.tasks if kind.tasks == "all" else kind.tasks
                _check_known(f"{self._path}: datasets.{environment}", tasks, spec.tasks, "task")
                yield from (Dataset(environment, task, whole) for task in tasks)

    def _check_datasets(self) -> None:
        for run in self.runs.values():
            pool = run.settings.agent.retrieval.pool if run.retrieves else None
            needed = max(needed_of_each(pool, len(run.tasks))) if pool else 0
            for dataset in run.datasets:
                if dataset not in self.datasets:
                    raise RarlError(
                        f"{self._path}: run {run.id} needs dataset {dataset}, which `datasets` does not make"
                    )
                made, used = self.datasets[dataset].settings.episodes, run.settings.episodes
                if made is not None and used is not None and used > made:
                    raise RarlError(
                        f"{self._path}: run {run.id} uses {used} episodes of {dataset}, which has {made} episodes"
                    )
                there, n_traj = used or made, run.settings.agent.retrieval.n_traj
                if run.retrieves and there is not None and n_traj > there:
                    raise RarlError(
                        f"{self._path}: run {run.id} draws n_traj = {n_traj} trajectories from {dataset}, "
                        f"which has {there} episodes"
                    )
                if there is not None and needed > there:
                    raise RarlError(
                        f"{self._path}: run {run.id}: agent.retrieval.pool takes {needed} trajectories of {dataset}, "
                        f"which has {there} episodes"
                    )

    def largest_task_set(self, experiment: str) -> int | str | None:
        """The last of an experiment's task sets: they are written smallest first. None if it has none."""
        return next(reversed(self.settings.experiments[experiment].task_sets), None)

    def base_variant(self, experiment: str) -> tuple[str, str]:
        """(experiment, variant) that the costs of an experiment's variants are compared with.

        It is the experiment's own or, where it has no variant of that name, the one that it extends.
        """
        settings = self.experiments[experiment]
        other = experiment if settings.extends is None else settings.extends
        name = settings.base_variant or next(iter(settings.variants or self.experiments[other].variants))
        return (experiment if name in settings.variants else other), name

    def cost_runs(self) -> dict[str, dict[str, Run]]:
        """The runs whose costs are measured, on a tuning seed: experiment -> variant -> run.

        They are the variants of each experiment's largest task set. The base variant comes first if it is not among
        them; that of another experiment has the settings that it has there, on the tasks of this one.
        """
        found: dict[str, dict[str, Run]] = {}
        experiments = self.settings.experiments
        measured = experiments if self.settings.costs.experiments is None else self.settings.costs.experiments
        _check_known(f"{self._path}: costs.experiments", measured, experiments, "experiment")
        for name in measured:
            at_scale = experiments[name]
            key = self.largest_task_set(name)
            if key is None or not at_scale.task_sets[key].variants:
                continue
            runs = {
                variant: self.run(name, key, variant, TUNING_SEEDS[0]) for variant in at_scale.task_sets[key].variants
            }
            home, base = self.base_variant(name)
            if base not in runs:
                runs = {base: self._base_run(name, key, home, base)} | runs
            found[name] = runs
        return found

    def _base_run(self, experiment: str, task_set: int | str, home: str, variant: str) -> Run:
        """The run of a base variant of experiment `home` on a task set of `experiment`."""
        if home == experiment:
            return self.run(home, task_set, variant, TUNING_SEEDS[0])
        there = task_set if task_set in self.settings.experiments[home].task_sets else self.largest_task_set(home)
        if there is None:
            raise RarlError(
                f"{self._path}: experiments.{home}.task_sets: none, but {variant!r} is the base of {experiment}"
            )
        run = self.run(home, there, variant, TUNING_SEEDS[0])
        chosen = self.settings.experiments[experiment].task_sets[task_set].variants[0]
        tasks = self.run(experiment, task_set, chosen, TUNING_SEEDS[0]).tasks
        return run.with_settings(run.settings.model_copy(update={"tasks": tasks, "held_out": []}))

    def wanted(self) -> dict[str, Run]:
        """The runs that a report is about, by id: those of `extended` variants once they were made, wherever."""
        later, made = set(self.extended()), self.root / "results" / self.name / "runs"
        return {i: run for i, run in self.runs.items() if i not in later or (made / i / "run.json").is_file()}

    def probes(self) -> list[str]:
        """Ids of the runs whose checkpoints are looked into."""
        return self._listed("probes")

    def extended(self) -> list[str]:
        """Ids of the runs that `all` does not make."""
        return self._listed("extended")

    def _listed(self, key: Literal["probes", "extended"]) -> list[str]:
        """Ids of the runs whose variants their task sets list under this key."""
        listed = {
            (name, task_set_name(size), variant)
            for name, at_scale in self.settings.experiments.items()
            for size, chosen in at_scale.task_sets.items()
            for variant in getattr(chosen, key)
        }
        return [
            run.id
            for run in self.runs.values()
            if (run.settings.experiment, run.settings.task_set, run.settings.variant) in listed
        ]

    def find_run(self, run_id: str) -> Run:
        """The planned run of this id; an unknown one is an error with the close ones, or a scale that has it."""
        return self._find("run", run_id)

    def find_dataset(self, dataset_id: str) -> Dataset:
        """The planned dataset of this id; an unknown one is an error with the close ones, or a scale that has it."""
        return self._find("dataset", dataset_id)

    def _find(self, kind: Literal["run", "dataset"], name: str) -> Any:
        planned = getattr(self, f"{kind}s")
        if name in planned:
            return planned[name]
        hint = did_you_mean(name, planned)
        for other in scales_in(self.root):
            with suppress(RarlError):
                if other != self.name and name in getattr(Scale(other, self.root), f"{kind}s"):
                    hint = f"scale {other!r} has: --scale {other}, in Python scale={other!r}"
                    break
        raise RarlError(f"scale {self.name!r} has no {kind} {name!r}; {hint}")


def scales_in(root: str | Path = ".") -> list[str]:
    """The scales of the project in `root`."""
    return sorted(p.stem for p in (Path(root) / "config").glob("*.yaml") if p.stem not in NOT_SCALES)


def read_scale(name: str, root: str | Path = ".") -> ScaleSettings:
    """What the file of a scale says, by itself.

    Raises:
        RarlError: there is no such scale, or its file is wrong.
    """
    path = Path(root) / "config" / f"{name}.yaml"
    if not path.is_file() or name in NOT_SCALES:
        present = scales_in(root)
        hint = did_you_mean(name, present) if present else "run this in the project's folder, where config/ is"
        raise RarlError(f"{path}: no such scale; {hint}")
    return validate(ScaleSettings, read_yaml(path), str(path))


def _read_experiment(file: Path) -> ExperimentSettings:
    return validate(ExperimentSettings, read_yaml(file), str(file))


def read_experiments(root: str | Path = ".") -> dict[str, ExperimentSettings]:
    """All experiments of the project in `root` by name, whether a scale has runs of them or not."""
    files = sorted((Path(root) / "config" / "experiments").glob("*.yaml"))
    return {file.stem: _read_experiment(file) for file in files}


def index_cost_plan(scale: Scale) -> tuple[IndexCostSettings, Run] | None:
    """What the cost of an index is measured on, and a run, on the keys of whose network; None if it is not measured.

    Raises:
        RarlError: two experiments ask for it, or the one that does has no run with an index.
    """
    asking = {name: s.index_cost for name, s in scale.settings.experiments.items() if s.index_cost is not None}
    if not asking:
        return None
    where = f"config/{scale.name}.yaml: experiments.{list(asking)[-1]}.index_cost"
    if len(asking) > 1:
        raise RarlError(f"{where}: experiment {next(iter(asking))!r} has it already; one table is made")
    ((name, settings),) = asking.items()
    for run in scale.runs.values():
        if run.settings.experiment == name and run.settings.agent.retrieval.index is not None:
            return settings, run
    raise RarlError(f"{where}: no run of this experiment has an index")


def default_scale(root: str | Path = ".") -> str:
    """The scale named in config/config.yaml."""
    path = Path(root) / "config" / "config.yaml"
    value = read_yaml(path)
    if not isinstance(value, Mapping) or set(value) != {"scale"}:
        raise RarlError(f"{path}: must hold one key, 'scale'")
    if not isinstance(value["scale"], str):
        raise RarlError(f"{path}: scale: must be a name such as 'laptop', got {value['scale']!r}")
    return value["scale"]
