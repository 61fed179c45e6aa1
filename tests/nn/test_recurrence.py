"""Recurrent agents: through time, over padding, one by one and in batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rarl.agents.build import build_network
from rarl.agents.memory import Memory
from rarl.config.settings import AgentSettings, RetrievalSettings, RunSettings
from rarl.envs.babyai.missions import MISSION_LENGTH, VOCABULARY
from rarl.envs.babyai.view import CELLS, CODES
from rarl.nn.retrieval import Mode
from rarl.trajectories.store import DatasetWriter, TrajectoryDataset

SMALL = {"d_m": 8, "d_e": 6, "d_h": 8, "d_v": 8, "slot_heads": 2, "n_f": 2, "n_traj": 5, "k_states": 6}


def settings_of(process, core="gru", **retrieval):
    agent = AgentSettings(
        task="hidden",
        core=core,
        encoder="babyai",
        encoder_options={"channels": 4, "blocks": 1, "d_mission": 6},
        d_s=12,
        retrieval=RetrievalSettings(
            **(SMALL | {"process": process, "select_by": "none", "standardise": False} | retrieval)
        ),
    )
    return RunSettings.model_construct(environment="babyai", environment_options={}, tasks=["a", "b", "c"], agent=agent)


def network_of(process, seed=0, **retrieval):
    torch.manual_seed(seed)
    network = build_network(settings_of(process, **retrieval), 7).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn_like(parameter) * (0.5 if parameter.ndim > 1 else 0.2))
    return network


def inputs_of(groups, batch, steps, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(CODES, (groups, batch, steps, CELLS + 1), generator=generator, dtype=torch.uint8)
    told = torch.randint(1, len(VOCABULARY), (groups, batch, 1, MISSION_LENGTH), generator=generator)
    for g in range(groups):
        for b in range(batch):
            told[g, b, 0, 2 + 3 * g + b :] = 0
    return x, told


@pytest.fixture(scope="module")
def memory(tmp_path_factory):
    rng = np.random.default_rng(0)
    datasets = []
    for name in "abc":
        folder = tmp_path_factory.mktemp("babyai") / name
        with DatasetWriter(
            folder, environment="babyai", task=name, source="bot", seed=0, generator={}, ends="per-episode"
        ) as writer:
            lengths = rng.integers(2, 12, 8)
            steps, n = int(lengths.sum()), len(lengths)
            mission = np.zeros((n, MISSION_LENGTH), np.uint8)
            mission[:, :4] = rng.integers(1, len(VOCABULARY), (n, 4))
            writer.add_flat(
                rng.integers(CODES, size=(steps + n, CELLS + 1)).astype(np.uint8),
                rng.integers(7, size=steps).astype(np.uint8),
                rng.random(steps).astype(np.float32),
                lengths,
                mission=mission,
                terminated=np.ones(n, bool),
            )
        datasets.append(TrajectoryDataset.open(folder))
    return datasets


def batch_from(memory, network, source="own", seed=0):
    settings = RetrievalSettings(**(SMALL | {"select_by": "none", "source": source, "step_stride": 2}))
    batch = Memory(memory, settings, context="mission").sample(np.arange(3), np.random.default_rng(seed))
    assert batch.mask is not None
    double = type(batch)(**{**vars(batch), "r": batch.r.double(), "value": batch.value.double()})
    return double.summarise(network)


@pytest.mark.parametrize("process", ["none", "slots"])
def test_unrolled_at_once_or_step_by_step(memory, process):
    network = network_of(process)
    x, told = inputs_of(3, 2, 5)
    with torch.no_grad():
        retrieved = batch_from(memory, network) if process == "slots" else None
        whole = network.unroll(x, told, network.initial_state(3, 2), retrieved)
        state = network.initial_state(3, 2)
        for t in range(5):
            step = network.unroll(x[:, :, t : t + 1], told, state, retrieved)
            torch.testing.assert_close(step.q[:, :, 0], whole.q[:, :, t])
            state = step.state
    torch.testing.assert_close(state.core, whole.state.core)
    if process == "slots":
        torch.testing.assert_close(state.slots, whole.state.slots)


@pytest.mark.parametrize("process", ["none", "slots"])
def test_a_batch_of_padded_sequences_equals_each_alone(memory, process):
    network = network_of(process)
    x, told = inputs_of(3, 3, 6)
    lengths = torch.tensor([[6, 2, 4], [1, 6, 3], [5, 5, 6]])
    x[torch.arange(6) >= lengths[..., None]] = 0
    with torch.no_grad():
        retrieved = batch_from(memory, network) if process == "slots" else None
        together = network.unroll(x, told, network.initial_state(3, 3), retrieved)
        for g in range(3):
            one = None if retrieved is None else type(retrieved)(*(part[g : g + 1] for part in retrieved))
            for b in range(3):
                n = lengths[g, b]
                alone = network.unroll(
                    x[g : g + 1, b : b + 1, :n], told[g : g + 1, b : b + 1], network.initial_state(1, 1), one
                )
                torch.testing.assert_close(alone.q[0, 0], together.q[g, b, :n])


def test_padding_of_retrieved_trajectories_changes_nothing(memory):
    """The same trajectories beside longer ones: more padding, same answers."""
    network = network_of("slots", summariser="gru")
    x, told = inputs_of(1, 2, 3)
    settings = RetrievalSettings(**(SMALL | {"select_by": "none"}))
    batch = Memory(memory[:1], settings, context="mission").sample(np.array([0]), np.random.default_rng(0))
    grown = {"x": 9, "a": 3, "r": 0.7, "value": 0.2, "mask": False}
    with torch.no_grad():
        answers = []
        for more in (0, 4):
            parts = {
                name: torch.cat(
                    [part, torch.full((*part.shape[:2], more, *part.shape[3:]), grown[name], dtype=part.dtype)], 2
                )
                for name, part in vars(batch).items()
                if name in grown
            }
            parts |= {name: parts[name].double() for name in ("r", "value")}
            parts |= {name: np.pad(vars(batch)[name], ((0, 0), (0, 0), (0, more))) for name in ("steps", "last")}
            retrieved = type(batch)(**{**vars(batch), **parts}).summarise(network)
            answers.append(network.unroll(x, told, network.initial_state(1, 2), retrieved).q)
    torch.testing.assert_close(*answers)


def test_missions_of_other_lengths_in_the_batch_change_nothing():
    network = network_of("none")
    _, told = inputs_of(1, 4, 1)
    with torch.no_grad():
        together = network.encoder.read_mission(told)
        for b in range(4):
            torch.testing.assert_close(network.encoder.read_mission(told[:, b : b + 1]), together[:, b : b + 1])


def test_the_compass_direction_is_not_looked_at():
    network = network_of("none")
    x, told = inputs_of(1, 2, 3)
    turned = x.clone()
    turned[..., CELLS] = (turned[..., CELLS] + 1) % 4
    seen = x.clone()
    seen[..., 24] = (seen[..., 24] + 1) % CODES
    with torch.no_grad():
        q, same, other = (network.unroll(each, told, network.initial_state(1, 2)).q for each in (x, turned, seen))
    assert torch.equal(q, same)
    assert not torch.allclose(q, other)


def test_slots_are_carried_from_step_to_step(memory):
    network = network_of("slots")
    x, told = inputs_of(3, 2, 4)
    with torch.no_grad():
        retrieved = batch_from(memory, network)
        kept = network.unroll(x, told, network.initial_state(3, 2), retrieved)
        state = network.unroll(x[:, :, :3], told, network.initial_state(3, 2), retrieved).state
        fresh = network.initial_state(3, 2).slots
        forgot = network.unroll(x[:, :, 3:], told, type(state)(state.core, fresh), retrieved)
    assert not torch.allclose(kept.q[:, :, 3], forgot.q[:, :, 0])


def test_gradients_reach_slots_through_time(memory):
    network = network_of("slots", bottleneck=0.3)
    x, told = inputs_of(3, 2, 4)
    out = network.unroll(x, told, network.initial_state(3, 2), batch_from(memory, network), mode=Mode.LEARN)
    out.q[:, :, -1].sum().backward()
    attention = network.process.slot_attention
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in attention.parameters() if p.requires_grad)
    assert network.process.slot_mean.grad.abs().sum() > 0
