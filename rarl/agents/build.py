"""From settings to networks: the one place that knows which agent has which parts."""

from __future__ import annotations

from collections.abc import Set

import torch
from torch import Tensor, nn

from rarl.config.settings import AgentSettings
from rarl.nn.encoders import encoder_options
from rarl.nn.retrieval import DirectRetrieval, RetrievalProcess
from rarl.nn.value_network import RecurrentValueNetwork, ValueNetwork


def build_network(agent: AgentSettings, n_actions: int, n_tasks: int) -> ValueNetwork:
    """A freshly initialised network (from torch's global generator)."""
    r = agent.retrieval
    retrieval = None
    if agent.kind == "ra-dqn":
        reading = {
            "d_s": agent.d_s,
            "n_actions": n_actions if r.trajectory_inputs == "state+action+reward" else 0,
            "d_e": r.d_e,
            "d_h": r.d_h,
            "d_v": r.d_v,
            # Chosen by return means chosen before encoding: then all that is there counts.
            "k_traj": r.k_traj if r.select_by == "attention" else None,
            "k_states": r.k_states,
            "summariser": r.summariser,
            "standardise": r.standardise,
        }
        if r.process == "direct":
            retrieval = DirectRetrieval(**reading)
        else:
            slots = {
                "n_f": r.n_f,
                "d_m": r.d_m,
                "slot_heads": r.slot_heads,
                "draw_z": r.draw_z,
                "priced": r.bottleneck > 0,
                "sigma": r.sigma,
                "draw_slots": r.draw_slots,
                "retrieves": agent.retrieves,
            }
            retrieval = RetrievalProcess(**reading, **slots, n_tasks=n_tasks if agent.task == "query" else 0)
    recurrent = agent.core == "gru"
    return (RecurrentValueNetwork if recurrent else ValueNetwork)(
        agent.encoder,
        agent.d_s,
        n_actions,
        n_tasks,
        task_observed=agent.task == "observed",
        retrieval=retrieval,
        d_m=r.d_m,
        d_e=r.d_e,
        fusion=agent.fusion,
        oracle=agent.kind == "oracle",
        encoder_options=encoder_options(agent, n_actions),
        dueling=agent.dueling,
        carry=r.carry,
        own_retriever=r.first_updates > 0,
    )


def parameter_counts(
    network: ValueNetwork, reached: Set[Tensor], auxiliary: nn.Module | None = None, masking: nn.Module | None = None
) -> dict[str, int]:
    """Parameters of each part that some loss trains.

    Args:
      network, auxiliary, masking: the parts.
      reached: the parameters that have had a gradient. Others are there and do nothing: with one slot, for example,
        there is nothing to choose among.
    """
    parts = {
        "encoder": network.encoder,
        "core": getattr(network, "core", None),
        "retrieval": network.retrieval,
        "retriever's encoder": network.retriever_encoder,
        "fusion": nn.ModuleList([m for m in (network.readout, network.fusion, network.oracle) if m is not None]),
        "head": network.head,
        "auxiliary": auxiliary,
        "masking": masking,
    }
    counts = {name: count_reached(part, reached) for name, part in parts.items() if part is not None}
    return {name: n for name, n in counts.items() if n}


def count_reached(module: nn.Module, reached: Set[Tensor]) -> int:
    """The number of a module's parameters that are among the reached ones."""
    return sum(p.numel() for p in module.parameters() if p in reached)


def copy_network(network: ValueNetwork, agent: AgentSettings, n_actions: int, n_tasks: int) -> ValueNetwork:
    """A target network: the same weights, no gradients; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        target = build_network(agent, n_actions, n_tasks)
    target.load_state_dict(network.state_dict())
    return target.requires_grad_(False).to(next(network.parameters()).device)
