"""The tasks of every environment by name, for configuration: imports no environment library."""

from __future__ import annotations

from collections.abc import Sequence

from rarl.envs.spec import spec_of
from rarl.errors import RarlError, did_you_mean


def tasks_of_set(environment: str, tasks: int | str | Sequence[str], where: str) -> list[str]:
    """The names of the tasks of a task set.

    Args:
      environment: whose.
      tasks: their names, or "all"; where the environment has nested sets also the size of one.
      where: place in the configuration, for errors.
    """
    spec = spec_of(environment)
    if isinstance(tasks, int):
        if tasks not in spec.task_sets:
            sizes = ", ".join(map(str, spec.task_sets))
            has = f"has sets of {sizes} tasks" if sizes else "has no sets that go by their size"
            raise RarlError(f"{where}: {spec.name} {has}; elsewhere list the tasks by name")
        return list(spec.task_sets[tasks])
    if tasks == "all":
        return list(spec.tasks)
    for name in tasks:
        if name not in spec.tasks:
            raise RarlError(f"{where}: unknown task {name!r}; {did_you_mean(name, spec.tasks)}")
    return list(tasks)
