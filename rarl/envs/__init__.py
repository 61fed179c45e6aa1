"""Environments. Importing this package registers them with gymnasium.

`gymnasium.make("rarl/Gridroboman-v0", task="lift red")` works after `import rarl.envs`; gymnasium 1.x does not
look for installed environments by itself, but imports a module that is named in front:
`gymnasium.make("rarl.envs:rarl/Gridroboman-v0", task="lift red")`.
"""

from __future__ import annotations

import gymnasium as gym

from rarl.envs.gridroboman.tasks import EPISODE_STEPS

# Entry points are strings, so that importing this package loads no environment's dependencies.
_SPECS = (
    {
        "id": "rarl/Gridroboman-v0",
        "entry_point": "rarl.envs.gridroboman.env:Gridroboman",
        "vector_entry_point": "rarl.envs.gridroboman.env:make_vector",
        "max_episode_steps": EPISODE_STEPS,
    },
)


def register() -> None:
    """Make the environments known to gymnasium. Calling it again changes nothing."""
    for spec in _SPECS:
        if spec["id"] not in gym.registry:
            gym.register(**spec)


register()
