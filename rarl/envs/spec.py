"""What the rest of the project knows of an environment: one small data module each, `rarl/envs/{name}/spec.py`.

No module outside an environment's package imports that package. What an environment brings is named in its `SPEC` as
"module:attribute" and imported by that name when it is needed. So a job depends on the code of its own environment
alone, and its digest of code follows the names that it uses (`rarl.jobs`).
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rarl.errors import RarlError, did_you_mean

if TYPE_CHECKING:
    from rarl.config.settings import RunSettings

ENVIRONMENTS = ("gridroboman", "babyai", "atari")


@dataclass(frozen=True)
class Score:
    """By what an environment's agents are compared, and how reports write it.

    Attributes:
      column: of evaluations and of interventions, "return_mean" or "success_rate".
      label: what it is, under axes and over columns.
      unit: written after a difference: "+0.40 of the expert's return".
      margin: half-width of what counts as no difference; fixed before the runs.
      digits: decimals.
      factor: of the column, such as 100 for percent.
      normaliser: what counts as 0 and as 1. None: the score is taken as it is; "expert": 0, and the return of the
        experts whose episodes the datasets hold; else a function task -> (at 0, at 1), None for an unknown task.
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
    normaliser: str | None = None
    marks: Mapping[str, float] = field(default_factory=dict)
    ends: tuple[float, float] | None = None
    suffix: str = ""
    meaning: str = ""


@dataclass(frozen=True)
class EnvSpec:
    """An environment: data, and the names of what is particular to it ("module:attribute").

    Attributes:
      name: in configuration and paths.
      tasks: names of the tasks, in the order of their ids.
      task_sets: nested sets of tasks that go by their size.
      sources: where datasets come from: name -> function (task, size, seed, folder, progress=, ...) that writes one.
      learners: kind (`learner_kind`) -> class (run, device) of what `rarl.runs.loop` trains; with datasets to
        learn from (run, datasets, device).
      encoders: name -> class (d_s, n_tasks, **options) of encoders of its observations.
      content: what its trajectories may hold, a `rarl.envs.content.Content`; None: nothing is known, or there are none.
      encoder_options: settings of an agent that its encoders take, or "n_actions".
      tokens: what a VQ-VAE reads of an observation, a `rarl.nn.vq_vae.Reading`.
      probes: kind (`probe_kind`) -> class (scale, run) of what `rarl probe` measures.
      acting: function (run, learner, datasets, n) -> what chooses actions in n states, to time it.
      title: what reports call it.
      score: by what agents are compared; None: nobody plays it, there are logs alone.
      task_noun: what one of its tasks is called: "level".
      task_groups: header -> tasks, in the order of reports; tasks in none come last.
      one_task: every run learns one task alone, and what is said of several is a mean over runs.
      reported: function (variant, task) -> (score, its spread or None) that the paper printed, or None; not normalised.
      picture: `rarl.envs.pictures.Pictures` of recorded episodes; None: there are none in reports.
      gymnasium: arguments of `gymnasium.register`, one mapping for each id.
    """

    name: str
    tasks: Sequence[str]
    learners: Mapping[str, str]
    encoders: Mapping[str, str]
    tokens: str
    probes: Mapping[str, str]
    acting: str
    task_sets: Mapping[int, Sequence[str]] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    content: str | None = None
    encoder_options: Sequence[str] = ()
    title: str = ""
    score: Score | None = None
    task_noun: str = "task"
    task_groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    one_task: bool = False
    reported: str | None = None
    picture: str | None = None
    gymnasium: Sequence[Mapping[str, Any]] = ()


@functools.cache
def spec_of(environment: str) -> EnvSpec:
    """The specification of an environment.

    Args:
      environment: one of `ENVIRONMENTS`, or "module:SPEC" or "file.py:SPEC" of somebody's own.

    Raises:
      RarlError: there is none of this name.
    """
    if ":" in environment:
        return load(environment)
    if environment not in ENVIRONMENTS:
        raise RarlError(f"unknown environment {environment!r}; {did_you_mean(environment, ENVIRONMENTS)}")
    return importlib.import_module(f"rarl.envs.{environment}.spec").SPEC


def learner_kind(settings: RunSettings) -> str:
    """Which of an environment's learners trains a run."""
    return "value" if settings.episodic is None else "episodic"


def probe_kind(settings: RunSettings) -> str:
    """Which of an environment's probes looks into a run."""
    return "pool" if settings.agent.retrieval.pool else "plain"


def load(name: str) -> Any:
    """What "module:attribute" or "folder/file.py:attribute" names. A file finds its neighbours, as a script does.

    Raises:
      RarlError: there is no such module, file or attribute.
    """
    module, _, attribute = name.rpartition(":")
    try:
        if module.endswith(".py"):
            file = Path(module).resolve(strict=True)
            if str(file.parent) not in sys.path:
                sys.path.insert(0, str(file.parent))
            module = file.stem
        return getattr(importlib.import_module(module), attribute)
    except FileNotFoundError:
        raise RarlError(f"{name}: no such file") from None
    except (AttributeError, ValueError) as error:
        raise RarlError(f"{name}: must read module:attribute or file.py:attribute ({error})") from None
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # something that it imports
        raise RarlError(f"{name}: no module {error.name!r}") from None
