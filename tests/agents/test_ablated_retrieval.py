"""Ablations of the retrieval process: without slots, without recurrence, trained first and frozen."""

from __future__ import annotations

import pytest
import torch

from rarl.nn.retrieval import DirectRetrieval, Mode
from tests import tiny_babyai, tiny_project

DIRECT = {"agent": {"fusion": "add", "retrieval": {"process": "direct"}}}
NOTHING = {"process": "slots", "source": "none"}
FIRST = 4


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def asked(learner, states=3):
    """x (G, B, 11), told (G, B) and a retrieval batch of every task."""
    tasks = torch.arange(learner.n_tasks)
    drawn = learner.sampler.sample(tasks.repeat_interleave(states).numpy(), learner.rng)
    x = torch.from_numpy(drawn.x_t).unflatten(0, (learner.n_tasks, states))
    batch = learner.memory.sample(tasks.numpy(), learner.rng)
    return x, tasks[:, None].expand(-1, states), batch.summarise(learner.network)


@torch.no_grad()
def test_a1_adds_what_the_state_itself_reads_and_the_head_sees_nothing_else(tiny_root):
    network = (learner := tiny_project.learner_of(tiny_root, "ra-dqn", DIRECT)).network
    x, told, retrieved = asked(learner)
    q, step = network(x, told, retrieved, mode=Mode.TARGET)

    s = network.encoder(x, told)
    process = network.process
    logits = process.query(s) @ retrieved.keys.transpose(1, 2) / process.d_e**0.5
    best = logits.topk(process.k_states, dim=-1).indices
    kept = torch.full_like(logits, float("-inf")).scatter(-1, best, logits.gather(-1, best))
    g = process.standardise(kept.softmax(-1) @ retrieved.values, Mode.TARGET)
    torch.testing.assert_close(step.z.squeeze(2), g)
    torch.testing.assert_close(q, network.head(s + network.retriever.fusion.value(g), None))
    assert (step.p, step.r, network.retriever.readout, network.head.readout) == (None, None, None, None)
    assert not step.kl.any()
    assert isinstance(process, DirectRetrieval)


def test_a1_has_fewer_parameters_and_all_of_them_learn(tiny_root):
    learner = tiny_project.learner_of(tiny_root, "ra-dqn", DIRECT)
    whole = tiny_project.learner_of(tiny_root, "ra-dqn")
    for one in (learner, whole):
        one.update()
    assert learner.parameter_counts()["retrieval"] < whole.parameter_counts()["retrieval"]
    still = {name for name, p in learner.network.named_parameters() if p.grad is None or not p.grad.any()}
    assert not still


@torch.no_grad()
def test_a1_of_a_recurrent_agent_takes_each_step_as_if_it_stood_alone(tiny_babyai_root):
    _steps_do_not_depend_on_earlier_ones(tiny_babyai.learner_of(tiny_babyai_root, "own", DIRECT))


@torch.no_grad()
def test_a2_gives_the_agent_its_slots(tiny_root):
    """What the head sees of two states differs as their slots do; nothing else comes between."""
    network = (learner := tiny_project.learner_of(tiny_root, "nothing")).network
    drawn = learner.sampler.sample(torch.arange(10).repeat_interleave(3).numpy(), learner.rng)
    x, told = torch.from_numpy(drawn.x_t).unflatten(0, (10, 3)), torch.arange(10)[:, None].expand(-1, 3)
    q, step = network(x, told)
    s = network.encoder(x, told)
    m_hat, _ = network.process.ask(s, network.process.initial_slots(Mode.ACT, 10, 3))
    torch.testing.assert_close(step.z, network.process.slot_attention(m_hat))
    torch.testing.assert_close(
        q, network.head(network.retriever.fusion(s, network.retriever.readout(s, step.z)), step.z)
    )
    assert (step.p, step.r, step.alpha) == (None, None, None)
    assert step.z.flatten(0, 1).std(0).min() > 1e-3


@torch.no_grad()
def test_a2_of_a_recurrent_agent_carries_its_slots(tiny_babyai_root):
    learner = tiny_babyai.learner_of(tiny_babyai_root, "rdqn", {"agent": {"retrieval": NOTHING}})
    network = learner.network
    batch = learner.sampler.sample(torch.arange(learner.n_tasks).repeat_interleave(2).numpy(), learner.rng)
    x = torch.from_numpy(batch.observations)[None]
    told = torch.from_numpy(batch.extras["mission"]).long()[None, :, None]
    whole = network.unroll(x, told, network.initial_state(*x.shape[:2]), keep_states=True, keep_attention=True)
    assert torch.equal(whole.step.z, whole.trail.slots)
    assert (whole.step.p, whole.step.alpha) == (None, None)
    changed = x.clone()
    changed[:, :, 0] = x[:, :, -1]
    other = network.unroll(changed, told, network.initial_state(*x.shape[:2]))
    assert not torch.allclose(other.step.z[:, :, 1], whole.step.z[:, :, 1])  # of what was a step ago


@torch.no_grad()
def test_without_recurrence_slots_start_afresh_at_every_step(tiny_babyai_root):
    changes = {"agent": {"retrieval": {"carry": False}}}
    learner = tiny_babyai.learner_of(tiny_babyai_root, "own", changes)
    _steps_do_not_depend_on_earlier_ones(learner)

    # The first step is that of the process with recurrence, and later ones are not.
    carrying = tiny_babyai.learner_of(tiny_babyai_root, "own")
    carrying.network.load_state_dict(learner.network.state_dict())
    x, told, retrieved = _sequences(learner)
    unrolled = [
        n.unroll(x, told, n.initial_state(*x.shape[:2]), retrieved) for n in (learner.network, carrying.network)
    ]
    torch.testing.assert_close(unrolled[0].step.z[:, :, 0], unrolled[1].step.z[:, :, 0])
    assert not torch.allclose(unrolled[0].step.z[:, :, 1:], unrolled[1].step.z[:, :, 1:], atol=1e-4)
    assert unrolled[0].state.slots is None


def test_a2_of_a_recurrent_agent_learns(tiny_babyai_root):
    learner = tiny_babyai.learner_of(tiny_babyai_root, "rdqn", {"agent": {"retrieval": NOTHING}})
    learner.update()
    parts = {name for name, p in learner.network.named_parameters() if p.grad is not None and p.grad.any()}
    assert {"retriever.process.slot_gru.from_slot.weight", "retriever.process.slot_attention.out.weight"} <= parts


def _sequences(learner, steps=4):
    batch = learner.sampler.sample(torch.arange(learner.n_tasks).repeat_interleave(2).numpy(), learner.rng)
    shape = (learner.n_tasks, 2)
    x = torch.from_numpy(batch.observations).unflatten(0, shape)[:, :, :steps]
    told = torch.from_numpy(batch.extras["mission"]).long().unflatten(0, shape)[:, :, None]
    retrieved = learner.memory.sample(torch.arange(learner.n_tasks).numpy(), learner.rng).summarise(learner.network)
    return x, told, retrieved


def _steps_do_not_depend_on_earlier_ones(learner):
    network = learner.network
    x, told, retrieved = _sequences(learner)
    whole = network.unroll(
        x, told, network.initial_state(*x.shape[:2]), retrieved, keep_attention=True, keep_states=True
    )
    state = network.initial_state(*x.shape[:2])
    for t in range(x.shape[2]):
        one = network.unroll(x[:, :, t : t + 1], told, state, retrieved, keep_attention=True)
        state = one.state
        torch.testing.assert_close(one.q[:, :, 0], whole.q[:, :, t])
        for name in ("z", "alpha"):
            now, then = getattr(one.step, name)[:, :, 0], getattr(whole.step, name)[:, :, t]
            torch.testing.assert_close(now, then, msg=f"{name} at {t}")
    assert whole.trail.slots is None
    assert whole.step.kl.shape == x.shape[:3]


def test_the_retriever_learns_first_and_alone_and_then_stays_as_it_is(tiny_root):
    changes = {
        "agent": {"retrieval": {"first_updates": FIRST, "auxiliary": 0.0}},
        "learning": {"max_gradient_norm": 1e9},
    }
    learner = tiny_project.learner_of(tiny_root, "ra-dqn", changes)
    of_retriever = ("retriever.process.", "retriever_encoder.")

    def state():
        return {name: tensor.clone() for name, tensor in learner.network.state_dict().items()}

    def changed(before):
        return {name for name, tensor in learner.network.state_dict().items() if not torch.equal(tensor, before[name])}

    start = state()
    for _ in range(FIRST):
        scalars = learner.update()
        assert scalars["td_loss"] == 0
        assert scalars["retriever_loss"] > 0
    first = changed(start)
    assert all(name.startswith(of_retriever) for name in first)
    assert {"retriever_encoder.table", "retriever.process.key.weight", "retriever.process.value.weight"} <= first

    middle = state()
    for _ in range(3):
        scalars = learner.update()
        assert scalars["td_loss"] > 0
        assert "retriever_loss" not in scalars
    second = changed(middle)
    assert not any(name.startswith(of_retriever) for name in second)
    assert {"encoder.table", "head.q.weight", "retriever.fusion.scale_and_shift.weight"} <= second
    assert {"retriever's encoder", "retriever's reward prediction"} <= learner.parameter_counts().keys()


def test_what_the_retriever_learns_first_is_to_tell_rewards(tiny_root):
    changes = {"updates": 300, "agent": {"retrieval": {"first_updates": 200}}, "learning": {"learning_rate": 0.01}}
    learner = tiny_project.learner_of(tiny_root, "ra-dqn", changes)
    losses = [float(learner.update()["retriever_loss"]) for _ in range(120)]
    # Half the variance of the reward is what a constant leaves.
    rewards = learner.sampler.sample(torch.arange(learner.n_tasks).repeat_interleave(200).numpy(), learner.rng).r_t
    assert sum(losses[-20:]) / 20 < 0.5 * 0.5 * float(rewards.var())
