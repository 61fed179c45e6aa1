"""f_enc: observations to the agent's internal state s (s_t = f_enc(x_t) in the paper).

Every encoder maps (..., observation) to s of shape (..., d_s), layer-normalised and linear: what uses s applies its own
non-linearity. A task id may be part of the observation; it enters the encoder's last pre-activation as an embedding.
Which encoders there are is told by the environments, whose observations they read.
"""

from __future__ import annotations

from torch import nn

from rarl.config.settings import AgentSettings
from rarl.envs.spec import EnvSpec, load
from rarl.errors import RarlError, did_you_mean


def encoder_of(spec: EnvSpec, agent: AgentSettings, n_actions: int, n_tasks: int) -> nn.Module:
    """A new encoder of an environment's observations.

    Args:
      spec: the environment.
      agent: which encoder, and its options.
      n_actions: number of actions.
      n_tasks: number of tasks that may be told; 0 if the task is hidden.

    Raises:
      RarlError: the environment has no such encoder.
    """
    if agent.encoder not in spec.encoders:
        raise RarlError(
            f"agent.encoder = {agent.encoder!r}: {spec.name} has none of this name; "
            f"{did_you_mean(agent.encoder, spec.encoders)}"
        )
    options = {name: n_actions if name == "n_actions" else getattr(agent, name) for name in spec.encoder_options}
    return load(spec.encoders[agent.encoder])(agent.d_s, n_tasks, **options)
