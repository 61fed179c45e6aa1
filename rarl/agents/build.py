"""From settings to networks: the one place that knows which agent has which parts."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Set
from typing import Any

import torch
from torch import Tensor, nn

from rarl.config.settings import AgentSettings, RunSettings
from rarl.envs.common import VALUES
from rarl.envs.space import observation_space
from rarl.envs.spec import load, spec_of
from rarl.errors import RarlError
from rarl.nn.retrieval import DirectRetrieval, RetrievalProcess, Retriever, SlotRetrieval, TaskOracle
from rarl.nn.value_network import QHead, ValueNetwork


def build_network(settings: RunSettings, n_actions: int, n_tasks: int | None = None) -> ValueNetwork:
    """A freshly initialised network (from torch's global generator).

    Args:
      settings: of the run.
      n_actions: number of actions.
      n_tasks: number of tasks; None: those of the run.
    """
    agent, r = settings.agent, settings.agent.retrieval
    n_tasks = len(settings.tasks) if n_tasks is None else n_tasks
    process = _process(agent, n_actions, n_tasks) if agent.with_retrieval else None

    def new_encoder() -> nn.Module:
        return encoder_of(settings, n_actions, n_tasks if agent.task == "observed" else 0)

    encoder = new_encoder()
    if r.process == "oracle":
        process = TaskOracle(n_tasks, r.d_m)
    return ValueNetwork(
        encoder,
        agent.d_s,
        n_actions,
        None if process is None else Retriever(agent.d_s, process, d_e=r.d_e, fusion=agent.fusion),
        d_e=r.d_e,
        dueling=agent.dueling,
        recurrent=agent.core == "gru",
        carry=r.carry,
        retriever_encoder=new_encoder() if r.first_updates > 0 else None,
        head=_head_of(agent.values),
    )


def _head_of(values: str) -> type[QHead]:
    head = load(VALUES.get(values, values))
    if not (isinstance(head, type) and issubclass(head, QHead)):
        raise RarlError(f"agent.values = {values!r}: must be a class of heads (a subclass of {QHead.__name__})")
    return head


def encoder_of(settings: RunSettings, n_actions: int, n_tasks: int) -> nn.Module:
    """A new f_enc of a run's observations (s_t = f_enc(x_t) in the paper).

    Every encoder maps (..., observation) to s of shape (..., d_s), layer-normalised and linear: what uses s applies its
    own non-linearity. A task id enters its last pre-activation as an embedding.

    Args:
      settings: which encoder of those that the environment has, and its options.
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


def _process(agent: AgentSettings, n_actions: int, n_tasks: int) -> RetrievalProcess:
    r = agent.retrieval
    reading: dict[str, Any] = {
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
        return DirectRetrieval(**reading)
    return SlotRetrieval(
        **reading,
        n_f=r.n_f,
        d_m=r.d_m,
        slot_heads=r.slot_heads,
        draw_z=r.draw_z,
        priced=r.bottleneck > 0,
        sigma=r.sigma,
        draw_slots=r.draw_slots,
        retrieves=agent.retrieves,
        n_tasks=n_tasks if agent.task == "query" else 0,
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
    retriever = network.retriever
    parts = {
        "encoder": network.encoder,
        "core": network.core,
        "retrieval": None if retriever is None or isinstance(retriever.process, TaskOracle) else retriever.process,
        "retriever's encoder": network.retriever_encoder,
        "fusion": None if retriever is None else _fusing(retriever),
        "head": network.head,
        "auxiliary": auxiliary,
        "masking": masking,
    }
    counts = {name: count_reached(part, reached) for name, part in parts.items() if part is not None}
    return {name: n for name, n in counts.items() if n}


def _fusing(retriever: Retriever) -> nn.Module:
    """All of a retriever that is not steps 1 to 5."""
    parts: list[nn.Module | None] = [retriever.readout, retriever.fusion]
    parts += [retriever.process] if isinstance(retriever.process, TaskOracle) else []
    return nn.ModuleList([part for part in parts if part is not None])


def count_reached(module: nn.Module, reached: Set[Tensor]) -> int:
    """The number of a module's parameters that are among the reached ones."""
    return sum(p.numel() for p in module.parameters() if p in reached)


def copy_network(network: ValueNetwork, settings: RunSettings, n_actions: int) -> ValueNetwork:
    """A target network: the same weights, no gradients; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        target = build_network(settings, n_actions)
    target.load_state_dict(network.state_dict())
    return target.requires_grad_(False).to(next(network.parameters()).device)
