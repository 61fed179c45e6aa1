"""Which loss reaches which part of which agent (PAPER section 2)."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from rarl.agents.build import build_network, copy_network
from rarl.nn.retrieval import TaskOracle
from rarl.nn.value_network import ValueNetwork
from tests import tiny_project

PROCESS = "retriever.process"
UNCLIPPED = {"learning": {"max_gradient_norm": 1e9}}
SILENT = {"bottleneck": 0.0, "draw_z": False, "draw_slots": False}  # no price, no noise


def gradients(learner, seed=5):
    """{parameter: gradient or None} of one update from the learner's state, which it is left in."""
    state = copy.deepcopy(learner.state_dict())
    torch.manual_seed(seed)
    scalars = learner.update()
    named = [*learner.network.named_parameters()]
    if learner.auxiliary is not None:
        named += [(f"auxiliary.{name}", p) for name, p in learner.auxiliary.named_parameters()]
    found = {name: None if p.grad is None else p.grad.clone() for name, p in named}
    learner.load_state_dict(state)
    return found, scalars


def reached(found):
    return {name for name, gradient in found.items() if gradient is not None and (gradient != 0).any()}


def with_retrieval(root, variant="ra-dqn", **retrieval):
    return tiny_project.learner_of(root, variant, {**UNCLIPPED, "agent": {"retrieval": retrieval}})


def difference(one, other):
    """Names of the parameters whose gradients differ, up to rounding."""
    zero = torch.zeros(())
    return {
        name
        for name in one
        if not torch.allclose(
            zero if one[name] is None else one[name], zero if other[name] is None else other[name], rtol=1e-4, atol=1e-7
        )
    }


@pytest.mark.parametrize("summariser", ["gru", "decay"])
@pytest.mark.parametrize("fusion", ["film", "gru", "add"])
def test_td_reaches_encoder_retrieval_fusion_and_head(tiny_root, summariser, fusion):
    learner = tiny_project.learner_of(
        tiny_root,
        "ra-dqn",
        {
            **UNCLIPPED,
            "agent": {"fusion": fusion, "retrieval": SILENT | {"auxiliary": 0.0, "summariser": summariser}},
        },
    )
    found, scalars = gradients(learner)
    parts = reached(found)
    assert {
        "encoder.table",
        "encoder.norm.weight",
        "retriever.process.key.weight",
        "retriever.process.value.weight",
    } <= parts
    for prefix in (
        "retriever.process.summariser.forwards",
        "retriever.process.summariser.backwards",
        "retriever.process.slot_gru",
        "retriever.process.query",
        "retriever.process.state_in_key",
        "retriever.process.bottleneck.posterior",
        "retriever.process.slot_mean",
        "retriever.readout.query",
        "retriever.readout.key",
        "retriever.fusion",
        "head.hidden",
        "head.readout",
        "head.value",
        "head.q",
    ):
        assert any(name.startswith(prefix) for name in parts), prefix
    # The prior is the bottleneck's, and slots are not carried; z is not drawn.
    assert not any(name.startswith((f"{PROCESS}.bottleneck.prior", f"{PROCESS}.slot_attention")) for name in parts)
    assert "retriever.process.slot_log_std" not in parts
    assert "auxiliary_loss" not in scalars
    assert scalars["loss"] == scalars["td_loss"]


def test_the_bottleneck_reaches_the_retrieval_process_only(tiny_root):
    """Same state, same random numbers, two weights: only what the bottleneck trains has another gradient."""
    small, large = (with_retrieval(tiny_root, bottleneck=weight) for weight in (1e-12, 0.7))
    large.load_state_dict(copy.deepcopy(small.state_dict()))
    one, scalars = gradients(small)
    other, more = gradients(large)
    assert scalars["kl"] == more["kl"] > 0
    assert scalars["td_loss"] == more["td_loss"]
    changed = difference(one, other)
    assert all(name.startswith("retriever.process.") for name in changed)
    for prefix in (
        "retriever.process.bottleneck.prior",
        "retriever.process.bottleneck.posterior",
        "retriever.process.value",
        "retriever.process.key",
        "retriever.process.query",
        "retriever.process.slot_gru",
        "retriever.process.slot_mean",
        "retriever.process.slot_log_std",
        "retriever.process.summariser",
    ):
        assert any(name.startswith(prefix) for name in changed), prefix
    # The encoder's gradient is not zero, and is the same.
    assert torch.equal(one["encoder.table"], other["encoder.table"])
    assert (one["encoder.table"] != 0).any()
    assert torch.equal(one["head.q.weight"], other["head.q.weight"])


def test_the_bottleneck_is_weighed_and_its_gradient_is_that_of_the_divergence(tiny_root):
    """Twice the weight, twice the difference; and along its gradient the divergence falls."""
    learners = [with_retrieval(tiny_root, bottleneck=weight) for weight in (1e-12, 0.5, 1.0)]
    for learner in learners[1:]:
        learner.load_state_dict(copy.deepcopy(learners[0].state_dict()))
    without, half, full = (gradients(learner)[0] for learner in learners)
    name = "retriever.process.bottleneck.posterior.bias"
    torch.testing.assert_close(2 * (half[name] - without[name]), full[name] - without[name], rtol=1e-4, atol=1e-5)
    learner = learners[2]
    _, before = gradients(learner)
    with torch.no_grad():
        for name, parameter in learner.network.named_parameters():
            if full[name] is not None:
                parameter -= 1e-4 * (full[name] - (0 if without[name] is None else without[name]))
    assert gradients(learner)[1]["kl"] < before["kl"]


@pytest.mark.parametrize("bottleneck", [0.0, 0.1])
def test_what_is_drawn_is_switched_apart_from_the_price(tiny_root, bottleneck):
    for draw_z, draw_slots in ((False, False), (True, False), (False, True)):
        learner = with_retrieval(tiny_root, bottleneck=bottleneck, draw_z=draw_z, draw_slots=draw_slots)
        one, two = gradients(learner, seed=1)[1], gradients(learner, seed=2)[1]
        assert (one["td_loss"] == two["td_loss"]) == (not draw_z and not draw_slots)
        assert ("kl" in one) == (bottleneck > 0)


def test_the_mean_divergence_costs_the_same_whatever_the_width(tiny_root):
    total, mean = (with_retrieval(tiny_root, kl=kl, bottleneck=0.5) for kl in ("sum", "mean"))
    mean.load_state_dict(copy.deepcopy(total.state_dict()))
    (one, of_sum), (other, of_mean) = gradients(total), gradients(mean)
    retrieval = total.settings.agent.retrieval
    torch.testing.assert_close(of_mean["kl"] * retrieval.n_f * retrieval.d_m, of_sum["kl"])
    for scalars in (of_sum, of_mean):
        expected = 0.5 * scalars["kl"] / scalars["td_loss"]
        torch.testing.assert_close(scalars["price_per_td_loss"], expected)
    name = "retriever.process.bottleneck.prior.bias"  # only the divergence reaches it
    torch.testing.assert_close(other[name] * retrieval.n_f * retrieval.d_m, one[name])


@pytest.mark.parametrize("trajectory_inputs", ["state", "state+action+reward"])
def test_auxiliary_losses_reach_encoder_and_summariser_only(tiny_root, trajectory_inputs):
    small, large = (
        with_retrieval(tiny_root, auxiliary=weight, bottleneck=0.0, trajectory_inputs=trajectory_inputs)
        for weight in (1e-12, 0.9)
    )
    large.load_state_dict(copy.deepcopy(small.state_dict()))
    one, scalars = gradients(small)
    other, more = gradients(large)
    assert scalars["td_loss"] == more["td_loss"]
    assert more["loss"].item() == pytest.approx((more["td_loss"] + 0.9 * more["auxiliary_loss"]).item())
    changed = difference(one, other)
    inputs = ("retriever.process.action_and_reward",)
    allowed = ("encoder.", "retriever.process.summariser.", "auxiliary.", *inputs)
    assert all(name.startswith(allowed) for name in changed), changed
    expected = [
        "encoder.table",
        "retriever.process.summariser.forwards",
        "retriever.process.summariser.backwards",
        "auxiliary.out",
    ]
    expected += ["auxiliary.past", "auxiliary.future", *(inputs if trajectory_inputs != "state" else ())]
    for prefix in expected:
        assert any(name.startswith(prefix) for name in changed), prefix


@pytest.mark.parametrize("variant", ["dqn", "dqn-told"])
def test_the_base_agent_has_nothing_of_retrieval(tiny_root, variant):
    learner = tiny_project.learner_of(tiny_root, variant)
    assert learner.memory is None
    assert learner.auxiliary is None
    assert all(name.startswith(("encoder.", "head.")) for name, _ in learner.network.named_parameters())
    found, scalars = gradients(learner)
    learner.update()
    assert learner.parameter_counts().keys() == {"encoder", "head"}
    assert reached(found) == set(found)
    assert "kl" not in scalars


def test_both_agents_start_from_the_same_base(tiny_root):
    """Retrieval adds to the base agent; encoder and head are as large as they were, but for the head's view of z."""
    base = tiny_project.learner_of(tiny_root, "dqn").network
    more = tiny_project.learner_of(tiny_root, "ra-dqn").network
    theirs = {name: p.shape for name, p in more.named_parameters()}
    assert all(theirs[name] == p.shape for name, p in base.named_parameters())


def test_the_oracle_learns_one_z_per_task(tiny_root):
    learner = tiny_project.learner_of(tiny_root, "oracle", UNCLIPPED)
    assert learner.memory is None
    assert isinstance(learner.network.process, TaskOracle)
    found, scalars = gradients(learner)
    embedding = f"{PROCESS}.embedding.weight"
    assert reached(found) >= {
        embedding,
        "encoder.table",
        "retriever.fusion.scale_and_shift.weight",
        "head.value.weight",
    }
    assert found[embedding].shape[0] == 10
    assert (found[embedding] != 0).any(1).all()
    assert "kl" not in scalars
    x = torch.zeros(1, 2, 11, dtype=torch.int8)
    q, _ = learner.network(x, torch.tensor([[0, 3]]))
    assert not torch.allclose(q[0, 0], q[0, 1])


def test_without_a_retrieval_batch_the_slots_remain(tiny_root):
    """A-2: the network is that of the retrieval agent, and what reaches the head are the slots, which read nothing."""
    learner = tiny_project.learner_of(tiny_root, "nothing", UNCLIPPED)
    assert learner.memory is None
    assert learner.auxiliary is None
    usual = tiny_project.learner_of(tiny_root, "ra-dqn")
    assert learner.network.state_dict().keys() == usual.network.state_dict().keys()
    found, scalars = gradients(learner)
    parts = reached(found)
    for prefix in (
        "encoder.table",
        "retriever.fusion.scale_and_shift.weight",
        "head.value.weight",
        "retriever.process.slot_gru.from_state",
        "retriever.process.slot_mean",
        "retriever.process.slot_attention",
    ):
        assert any(name.startswith(prefix) for name in parts), prefix
    assert not any(
        name.startswith(tuple(f"{PROCESS}.{part}" for part in ("summariser", "key", "value", "query", "bottleneck")))
        for name in parts
    )
    assert "kl" not in scalars


def test_source_random_learns_from_other_tasks_trajectories(tiny_root):
    own, other = (tiny_project.learner_of(tiny_root, variant) for variant in ("ra-dqn", "random"))
    seen = []
    for learner in (own, other):
        given, sample = [], learner.memory.sample

        def spy(tasks, *rest, given=given, sample=sample, **more):
            batch = sample(tasks, *rest, **more)
            given.append((np.asarray(tasks), batch.given[:, 0]))
            return batch

        learner.memory.sample = spy
        for _ in range(4):
            learner.update()
        seen.append(given)
    assert all((tasks == given).all() for tasks, given in seen[0])
    same = np.concatenate([tasks == given for tasks, given in seen[1]])
    assert same.mean() < 0.5


def test_actions_and_rewards_of_trajectories_reach_z_only_if_switched_on(tiny_root):
    for switch, matters in (("state", False), ("state+action+reward", True)):
        learner = with_retrieval(tiny_root, trajectory_inputs=switch)
        batch = learner.memory.sample(np.arange(10), np.random.default_rng(0))
        x, task = batch.x[:, 0], batch.context[:, 0].expand(10, batch.x.shape[2])
        network = learner.network
        with torch.no_grad():
            q, step = network(x, task, batch.summarise(network))
            actions = type(batch)(**{**vars(batch), "a": (batch.a + 1) % 7})
            rewards = type(batch)(**{**vars(batch), "r": 1 - batch.r})
            for changed in (actions, rewards):
                q_then, then = network(x, task, changed.summarise(network))
                assert torch.equal(then.z, step.z) != matters
                assert torch.equal(q_then, q) != matters


def test_retrieved_states_are_encoded_by_the_networks_own_encoder(tiny_root):
    """With the task told, the encoder of the retrieved states hears of the group's task too."""
    learner = tiny_project.learner_of(tiny_root, "ra-dqn-told")
    batch = learner.memory.sample(np.array([2]), np.random.default_rng(0))
    told = type(batch)(**{**vars(batch), "context": torch.full_like(batch.context, 5)})
    one, other = (b.summarise(learner.network).keys for b in (batch, told))
    assert not torch.allclose(one, other)


def test_groups_learn_from_their_own_tasks_steps(tiny_root):
    """Every task has an equal share of the batch; with fewer tasks per batch, they change from update to update."""
    for per_batch in (None, 3):
        learner = tiny_project.learner_of(tiny_root, "dqn", {"learning": {"tasks_per_batch": per_batch}})
        drawn, sample = [], learner.sampler.sample

        def spy(task_indices, rng, drawn=drawn, sample=sample):
            drawn.append(task_indices.copy())
            return sample(task_indices, rng)

        learner.sampler.sample = spy
        for _ in range(12):
            learner.update()
        counts = [np.bincount(indices, minlength=10) for indices in drawn]
        if per_batch is None:
            assert all((row == 4).all() for row in counts)
        else:
            assert all(sorted(set(row)) == [0, 13] for row in counts)
            assert all((row > 0).sum() == 3 for row in counts)
            assert (np.sum(counts, axis=0) > 0).all()


def test_the_target_network_is_a_copy_without_gradients(tiny_root):
    run = tiny_project.run_of(tiny_root, "ra-dqn")
    torch.manual_seed(0)
    network = build_network(run.settings, 7)
    before = torch.get_rng_state()
    target = copy_network(network, run.settings, 7)
    assert torch.equal(torch.get_rng_state(), before)
    assert isinstance(target, ValueNetwork)
    assert not any(p.requires_grad for p in target.parameters())
    for name, value in network.state_dict().items():
        assert torch.equal(target.state_dict()[name], value)
        assert target.state_dict()[name].data_ptr() != value.data_ptr()
