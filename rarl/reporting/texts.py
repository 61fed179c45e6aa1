"""The files that people write for the report, read and checked: config/claims.yaml and choices.yaml beside this module.

Everything that can be wrong in them is told here, in one line that names file, claim and key. Imports neither pandas
nor matplotlib nor torch, so that it is done before anything runs, and not after all runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field

from rarl.config import validate as checks
from rarl.config.scale import task_set_name
from rarl.config.settings import RunSettings
from rarl.config.validate import keys_of, validate
from rarl.envs.spec import ENVIRONMENTS, load, spec_of
from rarl.errors import RarlError, did_you_mean
from rarl.files import read_yaml
from rarl.reporting.registry import MEASURES, MODULES

LEVEL = 0.95
Kind = Literal["superiority", "equivalence", "no gain", "estimate", "count"]
KINDS: tuple[str, ...] = get_args(Kind)
WITH_MARGIN = ("equivalence", "no gain")
EVERY = "every"  # in place of a task set's name: the claim is about all of an experiment's
# Rules of sections in place of a task set's name; which set they mean depends on the scale.
_RULES = (EVERY, "shared", "smaller", "larger", "probed")
CHOICES = Path(__file__).parent / "choices.yaml"


# -------------------------------------------------------------------------------------------------------- what is read


@dataclass(frozen=True)
class Scale:
    """One scale: what its report says in the first line, and whether its numbers may be read as results."""

    name: str
    banner: str
    results: bool = True


@dataclass(frozen=True)
class Settings:
    """Rules of judgement, fixed before the runs.

    solved: share of the expert's return from which on a task counts as solved by a run.
    margins: environment -> half-width of what counts as no difference there, in the unit of its scores.
    """

    level: float = LEVEL
    min_seeds: int = 5
    solved: float = 0.5
    repetitions: int = 10_000
    bootstrap_seed: int = 0
    margins: Mapping[str, float] = dataclass_field(default_factory=dict)
    scales: Mapping[str, Scale] = dataclass_field(default_factory=dict)

    def scale(self, name: str) -> Scale:
        """The scale of this name; an unknown one is not taken for results."""
        return self.scales.get(name, Scale(name, "a scale that config/claims.yaml does not describe", results=False))


@dataclass(frozen=True)
class Claim:
    """One claim of the paper, or a question of our own (`own`).

    scales: where it can be judged. test: {"measure", "experiment", "task_set", "a", "b", ...}, or empty where no
    run of ours can answer it; its task_set is a name or a rule of the section, such as "larger"; its a and b are
    variants of its experiment, or "experiment/variant" of another one. paper_scale: quantity -> the paper's number, to
    set ours against. digits: decimals of our number. elsewhere: the paper made it of another environment.
    """

    id: str
    text: str
    place: str = ""
    number: str = ""
    n: str = ""
    kind: str = "superiority"
    margin: float = 0.0
    unit: str = ""
    scales: tuple[str, ...] = ()
    test: Mapping[str, Any] = dataclass_field(default_factory=dict)
    paper_scale: Mapping[str, float] = dataclass_field(default_factory=dict)
    own: bool = False
    elsewhere: bool = False
    headline: bool = False
    digits: int = 3

    @property
    def experiment(self) -> str:
        return str(self.test.get("experiment", ""))

    def side(self, which: str) -> tuple[str, str] | None:
        """(experiment, variant) of side "a" or "b", None without one; the variant may be a pattern, such as "a6-*"."""
        named = self.test.get(which)
        if named is None:
            return None
        experiment, _, variant = str(named).rpartition("/")
        return experiment or self.experiment, variant


# ----------------------------------------------------------------------------------------------------------- the files


class _Scale(checks.Settings):
    banner: str
    results: bool = True


class _Rules(checks.Settings):
    level: float = Field(LEVEL, gt=0, lt=1)
    min_seeds: int = Field(5, ge=1)
    solved: float = Field(0.5, gt=0, le=1)
    repetitions: int = Field(10_000, ge=1)
    bootstrap_seed: int = Field(0, ge=0)
    margins: dict[str, float] = Field({})
    scales: dict[str, _Scale] = Field({})


class _Paper(checks.Settings):
    number: str | int | float = ""
    n: str | int = ""
    scale: dict[str, float] = Field({})


class _Test(checks.Settings):
    measure: str
    experiment: str
    task_set: str
    a: str
    b: str | None = None
    of: str | None = Field(None, description="measures of interventions: under which one")
    against: str | None = Field(None, description="and compared with which")
    share: float | None = Field(None, gt=0, le=1, description="of relevant trajectories")
    quantity: str | None = None


class _Claim(checks.Settings):
    id: str = Field(min_length=1)
    text: str = Field(min_length=1)
    place: str = ""
    paper: _Paper = _Paper()
    kind: Kind = "superiority"
    margin: float = Field(0.0, ge=0)
    unit: str = ""
    scales: list[str] = Field([])
    test: _Test | None = None
    elsewhere: bool = False
    headline: bool = False
    digits: int = Field(3, ge=0, le=10)


class _Claims(checks.Settings):
    settings: _Rules = _Rules()
    claims: list[Any]
    questions: list[Any] = Field([])


class _Choice(checks.Settings):
    what: str
    experiment: str | list[str] = Field([])
    kind: Literal["deviation", "open"]
    paper: str
    here: str
    config: str | None = None
    paper_values: list[Any] | None = None
    why: str
    effect: str


class _Texts(checks.Settings):
    choices: list[Any] = Field([])
    limitations: list[str] = Field([])
    easy: list[str] = Field([])
    difficult: list[str] = Field([])
    questions: list[str] = Field([])
    contact: str = ""


# ------------------------------------------------------------------------------------------------------------- reading


def load_claims(path: str | Path) -> tuple[Settings, list[Claim]]:
    """Read and check claims.yaml.

    What claims say of experiments is compared with config/experiments beside the file, and their task sets with the
    scales beside it that can judge them, where these files are there.

    Raises:
        RarlError: the first mistake, named with the claim's id and key.
    """
    path = Path(path)
    raw = read_yaml(path)
    if not isinstance(raw, dict) or not isinstance(raw.get("claims"), list):
        raise RarlError(f"{path}: needs the keys settings, claims and questions")
    file = validate(_Claims, raw, str(path))
    rules = file.settings.model_dump()
    scales = {name: Scale(name, entry["banner"], entry["results"]) for name, entry in rules.pop("scales").items()}
    settings = Settings(**rules, scales=scales)
    plans = _Plans(path.parent)
    claims: list[Claim] = []
    for own, entries in ((False, file.claims), (True, file.questions)):
        for i, entry in enumerate(entries):
            name = entry.get("id") if isinstance(entry, dict) else None
            if not name or not entry.get("text"):
                raise RarlError(
                    f"{path}: {'questions' if own else 'claims'}.{i}: needs an id and a text: {entry!r:.80}"
                )
            where = f"{path}: claim {name}"
            claim = _as_claim(validate(_Claim, entry, where), own)
            if any(other.id == claim.id for other in claims):
                raise RarlError(f"{path}: the id {claim.id!r} is there twice")
            _check_claim(claim, settings, plans, where)
            claims.append(claim)
    return settings, claims


def _as_claim(entry: _Claim, own: bool) -> Claim:
    return Claim(
        id=entry.id,
        text=" ".join(entry.text.split()),
        place=entry.place,
        number=str(entry.paper.number),
        n=str(entry.paper.n),
        kind=entry.kind,
        margin=entry.margin,
        unit=entry.unit,
        scales=tuple(entry.scales),
        test={} if entry.test is None else entry.test.model_dump(exclude_none=True),
        paper_scale=entry.paper.scale,
        own=own,
        elsewhere=entry.elsewhere,
        headline=entry.headline,
        digits=entry.digits,
    )


def _check_claim(claim: Claim, settings: Settings, plans: _Plans, where: str) -> None:
    if claim.kind in WITH_MARGIN and not claim.margin > 0:
        raise RarlError(f"{where}: margin: {claim.kind} needs a margin above 0")
    for name in claim.scales:
        if name not in settings.scales:
            raise RarlError(f"{where}: scales: {name!r}: {did_you_mean(name, settings.scales)}")
    if not claim.test:
        return
    if claim.experiment not in MODULES:
        raise RarlError(f"{where}: test.experiment: {claim.experiment!r}: {did_you_mean(claim.experiment, MODULES)}")
    measures, measure = MEASURES[claim.experiment], claim.test["measure"]
    if measure not in measures:
        raise RarlError(f"{where}: test.measure: unknown measure {measure!r}: {did_you_mean(measure, measures)}")
    for which in ("a", "b"):
        experiment, variant = claim.side(which) or (None, None)
        if experiment is None:
            continue
        known = plans.variants(experiment)
        if experiment not in MODULES:
            raise RarlError(f"{where}: test.{which}: experiment {experiment!r}: {did_you_mean(experiment, MODULES)}")
        if known is not None and not any(fnmatchcase(name, variant) for name in known):
            raise RarlError(f"{where}: test.{which}: unknown variant {variant!r}: {did_you_mean(variant, known)}")
    task_set = claim.test["task_set"]
    planned = [plans.task_sets(scale, claim.experiment) for scale in claim.scales]
    if task_set not in _RULES and planned and None not in planned:
        known = sorted({name for names in planned for name in names})
        if task_set not in known:
            raise RarlError(
                f"{where}: test.task_set: no scale of {', '.join(claim.scales)} plans {task_set!r}: "
                f"{did_you_mean(task_set, (*known, *_RULES))}"
            )


class _Plans:
    """What claims speak of, as far as the files beside claims.yaml say; those are checked where they are used."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._read: dict[str, Any] = {}

    def variants(self, experiment: str) -> list[str] | None:
        """Of an experiment; None without its file."""
        variants = self._file(f"experiments/{experiment}").get("variants")
        return list(map(str, variants)) if isinstance(variants, Mapping) else None

    def task_sets(self, scale: str, experiment: str) -> list[str] | None:
        """Names of the task sets of an experiment at a scale; None without the scale's file."""
        experiments = self._file(scale).get("experiments")
        if not isinstance(experiments, Mapping):
            return None
        at_scale = experiments.get(experiment)
        task_sets = at_scale.get("task_sets") if isinstance(at_scale, Mapping) else None
        return [task_set_name(key) for key in task_sets] if isinstance(task_sets, Mapping) else []

    def _file(self, name: str) -> Mapping[str, Any]:
        if name not in self._read:
            path = self.folder / f"{name}.yaml"
            self._read[name] = read_yaml(path) if path.is_file() else None
        found = self._read[name]
        return found if isinstance(found, Mapping) else {}


def read_texts(path: str | Path = CHOICES) -> dict[str, Any]:
    """choices.yaml: choices, limitations, easy, difficult, questions, contact; a missing part is empty.

    Raises:
        RarlError: the first mistake, named with the choice and key.
    """
    path = Path(path)
    file = validate(_Texts, {key: v for key, v in (read_yaml(path) or {}).items() if v is not None}, str(path))
    choices = []
    for i, entry in enumerate(file.choices):
        name = entry.get("what") if isinstance(entry, dict) else None
        where = f"{path}: choice {name!r}" if name else f"{path}: choices.{i}"
        choice = validate(_Choice, entry, where)
        for experiment in experiments_of(choice.model_dump()):
            if experiment not in MODULES:
                raise RarlError(f"{where}: experiment {experiment!r}: {did_you_mean(experiment, MODULES)}")
        if choice.config is not None:
            _check_setting(choice.config, where)
        elif choice.paper_values is not None:
            raise RarlError(f"{where}: paper_values belong to the values of 'config', which is missing")
        choices.append(choice.model_dump(exclude_none=True))
    return file.model_dump() | {"choices": choices}


def _check_setting(key: str, where: str) -> None:
    """That a dotted key is one of a run's settings."""
    parts = tuple(key.split("."))
    for n in range(1, len(parts) + 1):
        known = _options() if parts[:-1] == ("environment_options",) and n == 2 else keys_of(RunSettings, parts[:n])
        if parts[n - 1] not in known:
            raise RarlError(f"{where}: config: unknown key {key!r}; {did_you_mean(parts[n - 1], known)}")


def _options() -> list[str]:
    """The keys of what can be set about the environments that come with the project."""
    models = [spec_of(name).options for name in ENVIRONMENTS]
    return [key for model in models if model is not None for key in load(model).model_fields]


def experiments_of(choice: Mapping[str, Any]) -> list[str]:
    """Those that a choice is about; none where it is about all."""
    named = choice.get("experiment") or []
    return [named] if isinstance(named, str) else list(named)


def check_texts(root: str | Path = ".") -> None:
    """Read and check all that people write for the report of the project in `root`."""
    load_claims(Path(root) / "config" / "claims.yaml")
    read_texts()
