"""The tasks of every environment by name, for configuration: imports no environment library."""

from __future__ import annotations

from collections.abc import Sequence

from rarl.envs.atari.games import GAMES
from rarl.envs.babyai.levels import LEVELS
from rarl.envs.gridroboman.tasks import TASK_SETS, TASKS
from rarl.errors import RarlError, did_you_mean

TASK_NAMES: dict[str, tuple[str, ...]] = {
    "gridroboman": tuple(task.name for task in TASKS),
    "babyai": tuple(level.name for level in LEVELS),
    "atari": GAMES,
}


def tasks_of_set(environment: str, tasks: int | str | Sequence[str], where: str) -> list[str]:
    """The names of the tasks of a task set.

    Args:
      environment: whose.
      tasks: their names, or "all"; on Gridroboman also how many of the paper's nested sets of 10, 20 and 30.
      where: place in the configuration, for errors.
    """
    known = TASK_NAMES[environment]
    if isinstance(tasks, int):
        if environment != "gridroboman" or tasks not in TASK_SETS:
            *some, last = map(str, TASK_SETS)
            sizes = f"{', '.join(some)} and {last}"
            raise RarlError(f"{where}: Gridroboman has task sets of {sizes} tasks; elsewhere list the tasks by name")
        return [task.name for task in TASK_SETS[tasks]]
    if tasks == "all":
        return list(known)
    for name in tasks:
        if name not in known:
            raise RarlError(f"{where}: unknown task {name!r}; {did_you_mean(name, known)}")
    return list(tasks)
