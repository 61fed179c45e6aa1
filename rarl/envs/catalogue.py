"""The tasks of every environment by name, for configuration: imports no environment library."""

from __future__ import annotations

from collections.abc import Sequence

from rarl.envs.spec import ENVIRONMENTS, spec_of
from rarl.errors import RarlError, did_you_mean

TASK_NAMES: dict[str, tuple[str, ...]] = {name: tuple(spec_of(name).tasks) for name in ENVIRONMENTS}


def tasks_of_set(environment: str, tasks: int | str | Sequence[str], where: str) -> list[str]:
    """The names of the tasks of a task set.

    Args:
      environment: whose.
      tasks: their names, or "all"; on Gridroboman also how many of the paper's nested sets of 10, 20 and 30.
      where: place in the configuration, for errors.
    """
    known = TASK_NAMES[environment]
    if isinstance(tasks, int):
        sets = spec_of(environment).task_sets
        if tasks not in sets:
            *some, last = map(str, spec_of("gridroboman").task_sets)
            sizes = f"{', '.join(some)} and {last}"
            raise RarlError(f"{where}: Gridroboman has task sets of {sizes} tasks; elsewhere list the tasks by name")
        return list(sets[tasks])
    if tasks == "all":
        return list(known)
    for name in tasks:
        if name not in known:
            raise RarlError(f"{where}: unknown task {name!r}; {did_you_mean(name, known)}")
    return list(tasks)
