"""What people write: choices.yaml beside this module, on where we deviate from the paper and what it leaves open; and
what earlier results said that these do not, results/{scale}/errata.yaml.

Read and checked before anything runs; what is wrong in it is reported in one line that names the choice and the key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from rarl.config.files import ExperimentSettings
from rarl.config.scale import read_experiments
from rarl.config.settings import RunSettings
from rarl.config.validate import Settings, keys_of, validate
from rarl.envs.spec import ENVIRONMENTS, load, spec_of
from rarl.errors import RarlError, did_you_mean
from rarl.files import read_yaml
from rarl.reporting.claims import load_claims
from rarl.reporting.registry import PARTS

CHOICES = Path(__file__).parent / "choices.yaml"


class Choice(Settings):
    """Where we deviate from the paper, or what it leaves open."""

    what: str
    experiment: str | list[str] = Field([])
    kind: Literal["deviation", "open"]
    paper: str
    here: str
    config: str | None = None
    paper_values: list[Any] = Field([])
    words: dict[str, str] = Field({})
    why: str
    effect: str
    key: bool = False

    @property
    def experiments(self) -> list[str]:
        """Those that it is about; none where it is about all."""
        return [self.experiment] if isinstance(self.experiment, str) else self.experiment


class Texts(Settings):
    """choices.yaml; a missing part is empty."""

    experiments: dict[str, str] = Field({}, description="experiment -> what it is, at the head of its part of a page")
    choices: list[Any] = Field([])
    limitations: list[str] = Field([])
    easy: list[str] = Field([])
    difficult: list[str] = Field([])
    questions: list[str] = Field([])
    contact: str = ""


def read_texts(path: str | Path = CHOICES) -> Texts:
    """choices.yaml, with every choice checked.

    Raises:
        RarlError: the first mistake, named with the choice and key.
    """
    path = Path(path)
    file: Texts = validate(Texts, {key: v for key, v in (read_yaml(path) or {}).items() if v is not None}, str(path))
    choices = []
    for i, entry in enumerate(file.choices):
        name = entry.get("what") if isinstance(entry, dict) else None
        where = f"{path}: choice {name!r}" if name else f"{path}: choices.{i}"
        choice: Choice = validate(Choice, entry, where)
        if choice.config is not None:
            _check_setting(choice.config, f"{where}: config", ENVIRONMENTS)
        elif choice.paper_values or choice.words:
            raise RarlError(f"{where}: paper_values and words belong to the values of 'config', which is missing")
        choices.append(choice)
    return file.model_copy(update={"choices": choices})


def _check_setting(key: str, where: str, environments: Sequence[str]) -> None:
    """That a dotted key is one of a run's settings, in one of these environments."""
    parts = tuple(key.split("."))
    for n in range(1, len(parts) + 1):
        of_environment = parts[:-1] == ("environment_options",) and n == 2
        known = _options(environments) if of_environment else keys_of(RunSettings, parts[:n])
        if parts[n - 1] not in known:
            raise RarlError(f"{where}: unknown key {key!r}; {did_you_mean(parts[n - 1], known)}")


def _options(environments: Sequence[str]) -> list[str]:
    """The keys of what can be set about environments."""
    models = [spec_of(name).options for name in environments]
    return [key for model in models if model is not None for key in load(model).model_fields]


def check_texts(root: str | Path = ".") -> None:
    """Read and check all that people write for the report of the project in `root`."""
    load_claims(Path(root) / "config" / "claims.yaml")
    read_texts()
    check_experiments(read_experiments(root))


def check_experiments(experiments: Mapping[str, ExperimentSettings]) -> None:
    """Check what experiments' files say for the report alone: its parts, and the settings that it compares.

    Raises:
        RarlError: the first mistake, named with the file and key.
    """
    for name, experiment in experiments.items():
        where = f"config/experiments/{name}.yaml"
        for part in experiment.report or ():
            if part not in PARTS:
                raise RarlError(f"{where}: report: unknown part {part!r}; {did_you_mean(part, PARTS)}")
        for variant in experiment.unrecorded_trials:
            if variant not in experiment.variants:
                hint = did_you_mean(variant, experiment.variants)
                raise RarlError(f"{where}: unrecorded_trials: unknown variant {variant!r}; {hint}")
        settings = {"across": [experiment.across] if experiment.across else []}
        for sweep, of_sweep in experiment.sweeps.items():
            settings |= {f"sweeps.{sweep}.keys": of_sweep.keys, f"sweeps.{sweep}.alike": of_sweep.alike}
        for place, keys in settings.items():
            for key in keys:
                _check_setting(key, f"{where}: {place}", [experiment.environment])


class Before(Settings):
    """What an earlier report said of a claim or question."""

    was: str = Field(description="its verdict")
    number: str = Field(description="its number with its interval")


class Erratum(Settings):
    """Why this report says something else than an earlier one, and of which claims and questions, by id."""

    why: str
    before: dict[str, Before]


def read_errata(path: Path) -> list[Erratum]:
    """A file that lies beside results; no entries without it.

    Raises:
      RarlError: it is no list of such entries.
    """
    entries = read_yaml(path) if path.is_file() else []
    if not isinstance(entries, list):
        raise RarlError(f"{path}: must be a list of entries with the keys {', '.join(Erratum.model_fields)}")
    return [validate(Erratum, entry, f"{path}: entry {i}") for i, entry in enumerate(entries, 1)]
