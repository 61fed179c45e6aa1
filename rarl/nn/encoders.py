"""f_enc: observations to the agent's internal state s (s_t = f_enc(x_t) in the paper).

Every encoder maps (..., observation) to s of shape (..., d_s), layer-normalised and linear: what uses s applies its own
non-linearity. A task id may be part of the observation; it enters the encoder's last pre-activation as an embedding.
Which encoders there are is told by the environments, whose observations they read.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable

from torch import nn

from rarl.config.settings import RunSettings
from rarl.envs.space import observation_space
from rarl.envs.spec import load, spec_of


def encoder_of(settings: RunSettings, n_actions: int, n_tasks: int) -> nn.Module:
    """A new encoder of a run's observations.

    Args:
      settings: which encoder, and its options.
      n_actions: number of actions.
      n_tasks: number of tasks that may be told; 0 if the task is hidden.
    """
    spec, agent = spec_of(settings.environment), settings.agent
    make: Callable[..., nn.Module] = load(spec.encoders[agent.encoder])
    known = inspect.signature(make).parameters
    offered = {**settings.environment_options, "n_actions": n_actions}
    if "space" in known:
        offered["space"] = observation_space(settings)
    asked = {name: value for name, value in offered.items() if name in known}
    return make(agent.d_s, n_tasks, **asked, **agent.encoder_options)
