"""The one seam between an environment and all else: what the rest of the project knows of it.

No module outside an environment's package imports that package. What an environment brings is named in its `EnvSpec`,
most of it as "module:attribute", and imported by that name when it is needed. So a job depends on the code of its own
environment alone, and its digest of code follows the names that it uses (`rarl.jobs`). In a file of one's own,
functions and classes may stand in the place of names.
"""

from __future__ import annotations

import functools
import importlib
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rarl.envs import common
from rarl.envs.names import slug
from rarl.errors import RarlError, did_you_mean, in_one_line

if TYPE_CHECKING:
    import gymnasium as gym

    from rarl.config.settings import RunSettings
    from rarl.envs.vector import VectorEnv

ENVIRONMENTS = ("gridroboman", "babyai", "atari")  # those that come with the project

# "module:attribute", or the thing itself.
Named = str | Callable[..., Any]


@dataclass(frozen=True)
class Source:
    """Where datasets come from.

    Attributes:
      make: function (task, size, seed, folder, *, progress, **options) that writes one with
        `rarl.trajectories.store.DatasetWriter`; progress: called with (done, of all).
      unit: what its size is counted in, "episodes" or "environment_steps".
      options: what else can be set, with its default.
      check: function (**options) that raises RarlError if one of them, given or by default, cannot have its value.
      arrays: names of the per-episode arrays that it writes beside those that every dataset has.
    """

    make: Named
    unit: str = "episodes"
    options: Mapping[str, Any] = field(default_factory=dict)
    arrays: Sequence[str] = ()
    check: Named | None = None


@dataclass(frozen=True)
class Score:
    """By what an environment's agents are compared, and how reports write it.

    Attributes:
      column: of evaluations and of interventions, "return_mean" or "success_rate"; without a simulator one of
        `MEASURED_ON_DATA`.
      label: what it is, under axes and over columns.
      unit: written after a difference: "+0.40 of the expert's return".
      margin: half-width of what counts as no difference; fixed before the runs.
      digits: decimals.
      factor: of the column, such as 100 for percent.
      normaliser: what counts as 0 and as 1. None: the score is taken as it is; "expert": 0, and the return of the
        experts whose episodes the datasets hold; else a function task -> (at 0, at 1), None for an unknown task. A
        third number is the least that there can be, None where that is not known: intervals stay above it.
      marks: name -> score, lines in figures.
      ends: of axes; None: as the numbers are.
      suffix: written after a number where the unit has to be short.
      meaning: one paragraph, for the part on the protocol.
    """

    column: str = "return_mean"
    label: str = "return"
    unit: str = "of return"
    margin: float = 0.0
    digits: int = 3
    factor: float = 1.0
    normaliser: Named | None = None
    marks: Mapping[str, float] = field(default_factory=dict)
    ends: tuple[float, float] | None = None
    suffix: str = ""
    meaning: str = ""


# What can be measured without a simulator, and by what its agents are compared by default.
MEASURED_ON_DATA = ("agreement", "td_error")
ON_DATA = Score(
    column="agreement",
    label="agreement with the data's actions",
    unit="of actions",
    ends=(0.0, 1.0),
    meaning="There is no simulator, so returns were not measured. Agents are compared by how often their best action "
    "is the one that the data has in a state; the tables also have the mean size of their TD error. Both are of the "
    "data that they learned from, and neither says which agent would do better.",
)


@dataclass(frozen=True)
class EnvSpec:
    """An environment: data, and the names of what is particular to it.

    Attributes:
      name: in configuration and paths.
      tasks: names of the tasks, in the order of their ids.
      make: function (task) -> gymnasium's environment of a task, with discrete actions; the simplest way to be played.
      make_vector: function (tasks, seed, **environment options) -> `rarl.envs.vector.VectorEnv` with one environment
        for each of the named tasks; in the place of `make`, where many at once are faster. With neither of the two
        there are logs alone, and nothing is rolled out.
      prepare: function (observation as `make`'s environments give it) -> array that is stored and learned from; None:
        as it is.
      tell: function (first observation, info) -> array, what an episode is about; goes with `context`.
      observation: space of what is stored and learned from, one observation; None: that of the environments.
      n_actions: number of actions; None: the environments tell.
      context: name of the array in datasets, and of what the environments tell, that says something about an episode
        from its start on (a mission's tokens, for example); None: an agent is told the task's id, where the task is
        observed.
      task_sets: nested sets of tasks that go by their size.
      sources: where datasets come from, by name.
      expert: function (task, seed) -> mean return of an expert, None where there is none; datasets of play tell it.
      encoders: name -> class (d_s, n_tasks, **options) of encoders of its observations, the default first; of
        n_actions, space (that of the observations) and the environment's options a class gets those that it has
        arguments for. By default one by the kind of the space.
      encoder_options: encoder's name -> model (pydantic) of the options that it has beside.
      options: model (pydantic) of what can be set about how the environments are played.
      options_without_effect: those of them that change how a run is carried out, and not what comes out.
      content: what its trajectories may hold, a `rarl.envs.content.Content`; None: what space and actions say.
      reward_range, return_range: least and greatest reward, and discounted sum of rewards, in the environment's own
        units: nothing is scaled.
      range_points: on how many points predictions of rewards and of returns are spread.
      success: function (task, returns (n,), last rewards (n,)) -> (n,) bool, which episodes count as a success; None:
        those whose last step was rewarded.
      codec: function (environment options) -> how observations are kept in a replay (`rarl.replay.codec`); None: as
        they are.
      tokens: what a VQ-VAE reads of an observation, a `rarl.nn.vq_vae.ObservationReader`; None: no masking loss.
      probing: `rarl.envs.probing.Probing`, what probes record and measure beside what they do everywhere.
      repeats: the option that says for how many frames an action is repeated; None: for one.
      long_episode: steps of a long episode, from which memory is estimated.
      memory: what jobs need, as a `rarl.workflow.resources.MemoryModel`; None: by the size of an observation.
      title: what reports call it; by default its name.
      score: by what agents are compared.
      task_noun: what one of its tasks is called: "level".
      task_groups: header -> tasks, in the order of reports; tasks in none come last.
      one_task: every run learns one task alone, and what is said of several is a mean over runs.
      reported: function (variant, task) -> (score, its spread or None) that the paper printed, or None; not normalised.
      picture: `rarl.envs.pictures.Pictures` of recorded episodes; None: colours or bars, whatever is observed.
      gymnasium: arguments of `gymnasium.register`, one mapping for each id.
      requires: distributions of which it is made, whose versions are recorded.
      library: function (task, n, **environment options) -> gymnasium's vector of n as the first of those makes it, to
        measure our speed by; None: there is none.
    """

    name: str
    tasks: Sequence[str]
    make: Named | None = None
    make_vector: Named | None = None
    prepare: Named | None = None
    tell: Named | None = None
    observation: gym.Space | None = None
    n_actions: int | None = None
    context: str | None = None
    task_sets: Mapping[int, Sequence[str]] = field(default_factory=dict)
    sources: Mapping[str, Source] = field(default_factory=dict)
    expert: Named | None = None
    encoders: Mapping[str, Named] = field(default_factory=lambda: dict(common.ENCODERS))
    encoder_options: Mapping[str, Named] = field(default_factory=dict)
    options: Named | None = None
    options_without_effect: Sequence[str] = ()
    content: Named | None = None
    reward_range: tuple[float, float] = (0.0, 1.0)
    return_range: tuple[float, float] = (0.0, 1.0)
    range_points: tuple[int, int] = (2, 21)
    success: Named | None = None
    codec: Named | None = None
    tokens: Named | None = None
    probing: Named | None = None
    repeats: str | None = None
    long_episode: int = 100
    memory: Named | None = None
    title: str = ""
    score: Score = Score()
    task_noun: str = "task"
    task_groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    one_task: bool = False
    reported: Named | None = None
    picture: Named | None = None
    gymnasium: Sequence[Mapping[str, Any]] = ()
    requires: Sequence[str] = ()
    library: Named | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "title", self.title or self.name)
        if not plays(self) and self.score == Score():
            object.__setattr__(self, "score", ON_DATA)


# Of agents that learn while they play (`rarl.collect.play.generate_agent`).
AGENT_OPTIONS: Mapping[str, Any] = {"settings": {}, "random_share": 0.0}
# Sources that every environment has that can be played, and the data of others.
COMMON: Mapping[str, Source] = {
    "random": Source(common.RANDOM),
    "agent": Source(common.AGENT, unit="environment_steps", options=AGENT_OPTIONS),
    "minari": Source(common.MINARI, options={"id": None, "sha256": None, "root": None}, check=common.CHECK_MINARI),
}


def check_spec(spec: EnvSpec) -> None:
    """That a specification does not lack or contradict what it says; nothing that it names is imported.

    Raises:
      RarlError: the first thing that is wrong, and what would be right.
    """

    def require(right: bool, what: str) -> None:
        if not right:
            raise RarlError(f"{spec.name}: {what}")

    _check_types(spec.name, spec)
    _check_types(f"{spec.name}: score", spec.score)
    require(re.fullmatch(r"[a-z0-9][a-z0-9-]*", spec.name) is not None, "name: must be of a-z, 0-9 and '-'")
    tasks = list(spec.tasks)
    require(
        all(tasks) and 0 < len({*map(slug, tasks)}) == len(tasks),
        f"tasks must be names, at least one, that differ in paths too; got {spec.tasks!r:.80}",
    )
    require(spec.n_actions is None or spec.n_actions > 0, f"n_actions = {spec.n_actions}: must be at least 1")
    for field_, listed in (("task_sets", spec.task_sets), ("task_groups", spec.task_groups)):
        for key, members in listed.items():
            for task in members:
                require(task in tasks, f"{field_}[{key!r}]: {task!r} is not among the tasks")
    for field_ in ("reward_range", "return_range"):
        low, high = getattr(spec, field_)
        require(low < high, f"{field_} = ({low:g}, {high:g}): the first must be less than the second")
    require(spec.make is None or spec.make_vector is None, "make and make_vector: give one of the two")
    for field_ in ("prepare", "tell"):
        require(
            getattr(spec, field_) is None or spec.make_vector is None,
            f"{field_}: belongs to `make`, not to make_vector",
        )
    require(spec.tell is None or spec.context is not None, "tell: needs `context`, the name of what it tells")
    require(
        spec.prepare is None or spec.observation is not None, "prepare: needs `observation`, the space of what it gives"
    )
    require(
        plays(spec) or (spec.observation is not None and spec.n_actions is not None),
        "without a simulator (make or make_vector), observation and n_actions must be given",
    )
    require(bool(spec.encoders), "encoders: must be one at least")
    for key, source in spec.sources.items():
        _check_types(f"{spec.name}: sources[{key!r}]", source)
        require(
            re.fullmatch(r"\w[\w.-]*", key, re.ASCII) is not None,
            f"sources: {key!r} must be a name of letters, digits, '_', '-' and '.', which paths have",
        )
        require(
            source.unit in ("episodes", "environment_steps"),
            f"sources[{key!r}].unit = {source.unit!r}: must be 'episodes' or 'environment_steps'",
        )
    columns = ("return_mean", "success_rate") if plays(spec) else MEASURED_ON_DATA
    require(spec.score.column in columns, f"score.column = {spec.score.column!r}: must be {' or '.join(columns)}")


_TYPES = {"str": str, "bool": bool, "int": Integral, "float": Real, "Score": Score, "Source": Source}


def _check_types(where: str, part: Any) -> None:
    """That the fields of a part of a specification are of the types that are written beside them."""
    for one in fields(part):
        value = getattr(part, one.name)
        if not _is_a(value, str(one.type)):
            raise RarlError(f"{where}: {one.name}: must be {one.type}, got {value!r:.80}")


def _is_a(value: Any, type_: str) -> bool:
    if type_.endswith(" | None"):
        return value is None or _is_a(value, type_.removesuffix(" | None"))
    outer, _, inner = type_.removesuffix("]").partition("[")
    if outer == "Sequence":
        return isinstance(value, Sequence) and not isinstance(value, str) and all(_is_a(one, inner) for one in value)
    if outer == "tuple":
        types = inner.split(", ")
        return isinstance(value, tuple | list) and len(value) == len(types) and all(map(_is_a, value, types))
    if outer == "Mapping":
        key, of_value = inner.split(", ", 1)
        return isinstance(value, Mapping) and all(_is_a(k, key) and _is_a(v, of_value) for k, v in value.items())
    return isinstance(value, _TYPES.get(outer, object))


def sources_of(spec: EnvSpec) -> dict[str, Source]:
    """All sources of an environment's datasets, its own first."""
    arrays = ("terminated", *((spec.context,) if spec.context else ()))
    others = {name: replace(source, arrays=arrays) for name, source in COMMON.items()}
    if not plays(spec):
        others = {"minari": others["minari"]}
    return {**spec.sources, **{name: source for name, source in others.items() if name not in spec.sources}}


@functools.cache
def spec_of(environment: str) -> EnvSpec:
    """The specification of an environment.

    Args:
      environment: one of `ENVIRONMENTS`, or "module:SPEC" or "file.py:SPEC" of somebody's own.

    Raises:
      RarlError: there is none of this name.
    """
    if ":" in environment:
        found = load(environment)
        if not isinstance(found, EnvSpec):
            raise RarlError(f"{environment}: must be a rarl.envs.spec.EnvSpec, is a {type(found).__name__}")
        return found
    if environment not in ENVIRONMENTS:
        raise RarlError(
            f"unknown environment {environment!r}; {did_you_mean(environment, ENVIRONMENTS)}; "
            "of your own: module:SPEC or file.py:SPEC"
        )
    return importlib.import_module(f"rarl.envs.{environment}.spec").SPEC


def make_vector(settings: RunSettings, tasks: Sequence[str], seed: int = 0) -> VectorEnv:
    """One environment of a run for each of the named tasks, for example ["lift red"] * 8.

    seed: of all episodes that are not given a seed of their own.

    Raises:
      RarlError: there is no simulator.
    """
    spec = spec_of(settings.environment)
    if spec.make_vector is not None:
        return load(spec.make_vector)(list(tasks), seed, **settings.environment_options)
    if spec.make is None:
        raise RarlError(f"{spec.name}: there is no simulator (neither `make` nor `make_vector`): nothing can be played")
    from rarl.envs.vector import GymnasiumVector

    make = load(spec.make)
    envs = [make(task, **settings.environment_options) for task in tasks]
    prepare, tell = (None if part is None else load(part) for part in (spec.prepare, spec.tell))
    return GymnasiumVector(envs, seed, tell, prepare)


def plays(spec: EnvSpec) -> bool:
    """Whether there is a simulator."""
    return spec.make is not None or spec.make_vector is not None


def learner_kind(settings: RunSettings) -> str:
    """Which learner trains a run."""
    if settings.episodic is not None:
        return "episodic"
    return "offline" if settings.online is None else "online"


def probe_kind(settings: RunSettings) -> str:
    """Which probe looks into a run."""
    if not plays(spec_of(settings.environment)):
        return "data"
    return "pool" if settings.agent.retrieval.pool else "plain"


def load(name: Named | None) -> Any:
    """What "module:attribute" or "folder/file.py:attribute" names. A file finds its neighbours, as a script does.

    What is no text is the thing itself.

    Raises:
      RarlError: there is no such module, file or attribute, or the import fails.
    """
    if not isinstance(name, str):
        return name
    module, _, attribute = name.rpartition(":")
    file = None
    if module.endswith(".py"):
        file = Path(module).resolve()
        if not file.is_file():
            raise RarlError(f"{name}: no such file")
        if str(file.parent) not in sys.path:
            sys.path.insert(0, str(file.parent))
        module = file.stem
    try:
        loaded = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise RarlError(f"{name}: no module {error.name!r}") from None
    except Exception as error:
        raise RarlError(f"{name}: importing it failed: {in_one_line(error)}") from error
    origin = getattr(loaded, "__file__", None)
    if file is not None and (origin is None or Path(origin).resolve() != file):
        raise RarlError(f"{name}: {module!r} is already the name of {origin or 'another module'}; rename the file")
    try:
        return getattr(loaded, attribute)
    except AttributeError as error:
        raise RarlError(f"{name}: must read module:attribute or file.py:attribute ({error})") from None
