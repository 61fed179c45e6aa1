"""f_enc: observations to the agent's internal state s (s_t = f_enc(x_t) in the paper).

Every encoder maps (..., observation) to s of shape (..., d_s), layer-normalised and linear: what uses s applies its own
non-linearity. A task id may be part of the observation; it enters the encoder's last pre-activation as an embedding.
Which encoders there are is told by the environments, whose observations they read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from rarl.config.settings import AgentSettings
from rarl.envs.spec import ENVIRONMENTS, EnvSpec, load, spec_of
from rarl.errors import RarlError, did_you_mean


def _spec_with(name: str) -> EnvSpec:
    """The environment that an encoder is of: no two have encoders of the same name."""
    specs = [spec_of(environment) for environment in ENVIRONMENTS]
    for spec in specs:
        if name in spec.encoders:
            return spec
    known = [encoder for spec in specs for encoder in spec.encoders]
    raise RarlError(f"unknown encoder {name!r}; {did_you_mean(name, known)}")


def encoder_named(name: str) -> Callable[..., nn.Module]:
    """What makes an encoder of this name, or "module:attribute": (d_s, n_tasks, **options) -> module.

    Raises:
      RarlError: no environment has such an encoder.
    """
    return load(name if ":" in name else _spec_with(name).encoders[name])


def encoder_options(agent: AgentSettings, n_actions: int) -> dict[str, Any]:
    """The arguments, beside d_s and n_tasks, of an agent's encoder."""
    names = _spec_with(agent.encoder).encoder_options
    return {name: n_actions if name == "n_actions" else getattr(agent, name) for name in names}
