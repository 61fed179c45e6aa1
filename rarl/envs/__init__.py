"""Environments. Importing this package registers them with gymnasium.

`gymnasium.make("rarl/Gridroboman-v0", task="lift red")` works after `import rarl.envs`; gymnasium 1.x does not
look for installed environments by itself, but imports a module that is named in front:
`gymnasium.make("rarl.envs:rarl/Gridroboman-v0", task="lift red")`.
"""

from __future__ import annotations

import gymnasium as gym

from rarl.envs.spec import ENVIRONMENTS, spec_of


def register() -> None:
    """Make the environments known to gymnasium; their dependencies are not loaded. Calling it again changes nothing."""
    for environment in ENVIRONMENTS:
        for arguments in spec_of(environment).gymnasium:
            if arguments["id"] not in gym.registry:
                gym.register(**arguments)


register()
