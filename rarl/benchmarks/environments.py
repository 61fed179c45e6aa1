"""How fast environments are played, beside the library that they come from: results/{scale}/environment-speed.csv.

`rarl costs` writes a row for each environment of its experiments, its first task and settings, for each way to play it
and number of environments:

    environment, task
    library       whose: "rarl" is `make_vector`; others stand beside it under their own names, played at random just so
    environments  that are played at once; as many as a step of all takes less than `LONGEST`, by the rate of fewer
    steps_per_core_second
                  environment steps a second of the processor's time, all threads together; starts of episodes included
"""

from __future__ import annotations

import contextlib
import io
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from rarl.config.scale import Run
from rarl.envs.spec import load, make_vector, spec_of
from rarl.envs.vector import VectorEnv

COLUMNS = ("environment", "task", "library", "environments", "steps_per_core_second")
NUMBERS = (1, 64, 1024)
LONGEST = 0.2  # seconds
ROUNDS = 3


def environment_speeds(run: Run, seconds: float) -> list[dict[str, Any]]:
    """The rows of the environment of a run, each measured for so many seconds; none where nothing can be played."""
    rows = []
    for library, make in _ways(run):
        rate = math.inf
        for n in NUMBERS:
            if n / rate > LONGEST:
                break
            with contextlib.redirect_stdout(io.StringIO()):  # what libraries tell of their work
                rate = _steps_per_second(make(n), n, seconds)
            place = {"environment": run.settings.environment, "task": run.tasks[0], "library": library}
            rows.append(place | {"environments": n, "steps_per_core_second": f"{rate:.4g}"})
    return rows


def _ways(run: Run) -> Iterator[tuple[str, Callable[[int], Callable[[], None]]]]:
    """Names of libraries, and functions: number of environments -> what takes a step in all of them."""
    settings, task = run.settings, run.tasks[0]
    spec = spec_of(settings.environment)
    if spec.make is None and spec.make_vector is None:
        return
    yield "rarl", lambda n: _own_step(make_vector(settings, [task] * n))
    if spec.library is not None:
        library = load(spec.library)
        name = spec.requires[0] if spec.requires else "gymnasium"
        yield name, lambda n: _step_of(library(task, n, **settings.environment_options))


def _own_step(envs: VectorEnv) -> Callable[[], None]:
    actions = _drawn(len(envs.actions), envs.num_envs)
    envs.reset()

    def step() -> None:
        envs.step(next(actions))
        if not envs.active.all():
            envs.reset(where=np.flatnonzero(~envs.active))

    return step


def _step_of(envs: Any) -> Callable[[], None]:
    """Of gymnasium's vectors, which begin their episodes by themselves or ask for it."""
    actions = _drawn(int(envs.single_action_space.n), envs.num_envs)
    envs.reset(seed=0)

    def step() -> None:
        envs.step(next(actions))

    return step


def _drawn(n_actions: int, n: int) -> Iterator[np.ndarray]:
    drawn = np.random.default_rng(0).integers(n_actions, size=(100, n))
    while True:
        yield from drawn


def _steps_per_second(step: Callable[[], None], n: int, seconds: float) -> float:
    """The most among some rounds: what else the machine does only slows it down."""
    rates: list[float] = []
    together = 1
    while len(rates) < ROUNDS:
        started = time.process_time()
        for _ in range(together):
            step()
        taken = time.process_time() - started
        if taken < seconds / ROUNDS:
            together *= 2
        else:
            rates.append(together * n / taken)
    return max(rates)
