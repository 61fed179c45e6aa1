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
    from rarl.envs.vector import VectorEnv

ENVIRONMENTS = ("gridroboman", "babyai", "atari")


@dataclass(frozen=True)
class EnvSpec:
    """An environment: data, and the names of what is particular to it ("module:attribute").

    Attributes:
      name: in configuration and paths.
      tasks: names of the tasks, in the order of their ids.
      make_vector: function (tasks, seed) -> `rarl.envs.vector.VectorEnv` with one environment for each of the named
        tasks, as they may come in any number; with `protocol`, (tasks, seed, settings of the run).
      protocol: whether a run's settings decide how it is played.
      n_actions: number of actions; None: the environments tell.
      return_range: least and greatest discounted sum of rewards that there can be.
      reward_range: least and greatest reward; both as they are learned.
      range_points: on how many points predictions of rewards and of returns are spread.
      context: name of the array in datasets that holds, for each episode, what an agent is told about it from its start
        on (a mission's tokens, for example); None: it is told the task's id, where the task is observed.
      success: function (task, returns (n,), last rewards (n,)) -> (n,) bool, which episodes count as a success.
      codec: function (settings of the run) -> how observations are kept in a replay; None: as they are.
      task_sets: nested sets of tasks that go by their size.
      sources: where datasets come from: name -> function (task, size, seed, folder, progress=, ...) that writes one.
      learners: kind (`learner_kind`) -> class (run, device) of what `rarl.runs.loop` trains; with datasets to
        learn from (run, datasets, device).
      encoders: name -> class (d_s, n_tasks, **options) of encoders of its observations.
      content: what its trajectories may hold, a `rarl.envs.content.Content`; None: nothing is known, or there are none.
      encoder_options: settings of an agent that its encoders take, or "n_actions".
      tokens: what a VQ-VAE reads of an observation, a `rarl.nn.vq_vae.Reading`.
      probes: kind (`probe_kind`) -> class (scale, run) of what `rarl probe` measures.
      measure: the column of an evaluation by which settings are compared.
      gymnasium: arguments of `gymnasium.register`, one mapping for each id.
    """

    name: str
    tasks: Sequence[str]
    learners: Mapping[str, str]
    encoders: Mapping[str, str]
    tokens: str
    make_vector: str
    probes: Mapping[str, str]
    task_sets: Mapping[int, Sequence[str]] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    content: str | None = None
    encoder_options: Sequence[str] = ()
    measure: str = "return_mean"
    protocol: bool = False
    context: str | None = None
    n_actions: int | None = None
    reward_range: tuple[float, float] = (0.0, 1.0)
    return_range: tuple[float, float] = (0.0, 1.0)
    range_points: tuple[int, int] = (2, 21)
    success: str = "rarl.rollouts.evaluation:rewarded_at_the_end"
    codec: str | None = None
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


def make_vector(settings: RunSettings, tasks: Sequence[str], seed: int = 0) -> VectorEnv:
    """One environment of a run for each of the named tasks, for example ["lift red"] * 8.

    seed: of all episodes that are not given a seed of their own.
    """
    spec = spec_of(settings.environment)
    options = {"settings": settings} if spec.protocol else {}
    return load(spec.make_vector)(list(tasks), seed, **options)


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
