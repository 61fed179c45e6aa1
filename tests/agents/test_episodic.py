"""MFEC and NEC, against numbers computed by hand and slow readings of the papers' equations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rarl.agents.episodic import MFEC, NEC, kernel_mean, n_step_returns, rmsprop
from rarl.agents.exploration import any_of_the_best, explore, falling_epsilon
from tests import tiny_project


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


# ------------------------------------------------------------------------------------------------------------- returns


def test_returns_by_hand():
    rewards, values = np.array([1.0, 0.0, 2.0, 4.0]), np.array([10.0, 20.0, 30.0, 40.0, 8.0])
    # The last two windows are cut short by the end, after which the value is 8.
    expected = [1 + 0 + 0.25 * 30, 0 + 0.5 * 2 + 0.25 * 40, 2 + 0.5 * 4 + 0.25 * 8, 4 + 0.5 * 8]
    np.testing.assert_allclose(n_step_returns(rewards, values, 0.5, 2), expected)
    terminated = np.array([10.0, 20.0, 30.0, 40.0, 0.0])
    np.testing.assert_allclose(n_step_returns(rewards, terminated, 0.5, 2)[2:], [4.0, 4.0])
    np.testing.assert_allclose(n_step_returns(rewards, terminated, 1.0, 100), [7, 6, 6, 4])


@settings(max_examples=60)
@given(
    steps=st.integers(1, 7),
    n=st.integers(1, 9),
    discount=st.sampled_from([0.3, 0.9, 1.0]),
    seed=st.integers(0, 99),
)
def test_returns_are_the_papers(steps, n, discount, seed):
    rng = np.random.default_rng(seed)
    rewards, values = rng.normal(size=(3, steps)), rng.normal(size=(3, steps + 1))
    found = n_step_returns(rewards, values, discount, n)
    for episode in range(3):
        for t in range(steps):
            m = min(n, steps - t)
            expected = sum(discount**j * rewards[episode, t + j] for j in range(m))
            assert found[episode, t] == pytest.approx(expected + discount**m * values[episode, t + m])


# -------------------------------------------------------------------------------------------------------------- kernel


def test_the_kernel_by_hand():
    keys = torch.tensor([[[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]]])
    found = kernel_mean(torch.zeros(1, 2), keys, torch.tensor([[1.0, 2.0, 4.0]]), 0.5)
    weights = [1 / 0.5, 1 / 25.5, 1 / 1.5]
    assert found.item() == pytest.approx((weights[0] + 2 * weights[1] + 4 * weights[2]) / sum(weights))
    assert kernel_mean(torch.zeros(1, 2), keys[:, 1:2], torch.tensor([[7.0]]), 1e-3).item() == pytest.approx(7)


def test_the_kernels_gradients_are_those_of_finite_differences():
    torch.manual_seed(0)
    queries, keys, values = (torch.randn(*shape, dtype=torch.float64) for shape in ((3, 2), (3, 4, 2), (3, 4)))
    keys[0, 1] = queries[0]  # at distance 0 too
    parts = [part.requires_grad_() for part in (queries, keys, values)]
    assert torch.autograd.gradcheck(lambda *inputs: kernel_mean(*inputs, 0.1), parts)


def test_rmsprop_by_hand():
    parameter, squares = torch.tensor([1.0, -2.0]), torch.tensor([0.0, 4.0])
    rmsprop(parameter, torch.tensor([0.5, -1.0]), squares, 0.1)
    averages = [0.05 * 0.25, 0.95 * 4 + 0.05]
    assert squares.tolist() == pytest.approx(averages)
    expected = [1 - 0.1 * 0.5 / math.sqrt(averages[0] + 0.01), -2 + 0.1 / math.sqrt(averages[1] + 0.01)]
    assert parameter.tolist() == pytest.approx(expected)


# --------------------------------------------------------------------------------------------------------- exploration


def test_epsilon_falls():
    found = [falling_epsilon(steps, 100, 300, 0.2) for steps in (0, 100, 150, 200, 300, 999)]
    assert found == pytest.approx([1, 1, 0.8, 0.6, 0.2, 0.2])


def test_as_much_is_explored_as_asked_for():
    best, rng = np.full(20_000, 1), np.random.default_rng(0)
    assert (explore(best, 4, 0.0, rng) == 1).all()
    found = np.bincount(explore(best, 4, 0.4, rng), minlength=4) / len(best)
    np.testing.assert_allclose(found, [0.1, 0.7, 0.1, 0.1], atol=0.015)
    each = explore(best, 4, np.repeat([0.0, 1.0], 10_000), rng)
    assert (each[:10_000] == 1).all()
    assert (np.bincount(each[10_000:], minlength=4) > 2000).all()


def test_equal_values_share_the_choice():
    q = np.tile(np.float32([-2, -1, -3, -1]), (20_000, 1))
    q[0] = [-4, -3, -2, -1]
    found = any_of_the_best(q, np.random.default_rng(0))
    assert found[0] == 3
    np.testing.assert_allclose(np.bincount(found, minlength=4) / len(q), [0, 0.5, 0, 0.5], atol=0.015)


# -------------------------------------------------------------------------------------------------------------- agents


def settings_of(root, variant, **changes):
    return tiny_project.run_of(root, variant, changes=changes).settings


def agent_of(root, variant, n_tasks=2, **changes):
    torch.manual_seed(0)
    chosen = settings_of(root, variant, **changes)
    return MFEC(chosen, 3, n_tasks, 11) if variant == "mfec" else NEC(chosen, 3, n_tasks)


def boards(n, seed=0):
    x = np.random.default_rng(seed).integers(0, 7, size=(n, 11)).astype(np.int8)
    x[:, 4::3] = 0
    return x


def filled(agent, n=30, seed=0):
    """The agent after n different states were written: (x, tasks, actions, returns)."""
    x, rng = boards(n, seed), np.random.default_rng(seed)
    tasks, actions, returns = rng.integers(2, size=n), rng.integers(2, size=n), rng.normal(size=n).astype(np.float32)
    looked = agent.look(x, tasks, use=False)
    assert agent.write(tasks, actions, looked.hashes, looked.keys, returns) == 0
    return x, tasks, actions, returns


@pytest.mark.parametrize("variant", ["mfec", "nec"])
@pytest.mark.parametrize("told", [False, True])
def test_estimates_are_the_papers(tiny_root, variant, told):
    """Exactly stored states count for MFEC alone; an action that was never taken (here the third) is worth 0."""
    agent = agent_of(tiny_root, variant, agent={"task": "observed" if told else "hidden"})
    x, tasks, actions, returns = filled(agent)
    assert len(agent) == 30
    asked, of_tasks = np.concatenate([x[:6], boards(6, 9)]), np.concatenate([tasks[:6], [0, 1, 0, 1, 0, 1]])
    keys, stored = agent.embed(asked, of_tasks), agent.embed(x, tasks)
    found = agent.look(asked, of_tasks)
    assert (found.keys == keys).all()
    exact = 0
    for i in range(12):
        for action in range(2):
            rows = [j for j in range(30) if actions[j] == action and (not told or tasks[j] == of_tasks[i])]
            distances = np.array([((keys[i].astype(float) - stored[j]) ** 2).sum() for j in rows])
            near = np.argsort(distances)[: agent.settings.neighbours]
            values = np.array([returns[rows[j]] for j in near])
            expected = values.mean()
            if variant == "nec":
                weights = 1 / (distances[near] + 1e-3)
                expected = (weights * values).sum() / weights.sum()
            elif i < 6 and i in rows:
                expected = returns[i]
                exact += 1
            assert found.q[i, action] == pytest.approx(expected, rel=2e-3, abs=1e-4)
    assert exact == (6 if variant == "mfec" else 0)
    assert (found.q[:, 2] == 0).all()


@pytest.mark.parametrize("variant", ["mfec", "nec"])
def test_states_that_come_again(tiny_root, variant):
    agent = agent_of(tiny_root, variant)
    x, tasks, actions, returns = filled(agent)
    again = returns + np.tile([1, -1], 15)
    looked = agent.look(x, tasks)
    assert agent.write(tasks, actions, looked.hashes, looked.keys, again.astype(np.float32)) == 30
    for action in range(2):
        mine = np.flatnonzero(actions == action)
        memory = agent.memories[0][action]
        values = memory.values[memory.find([looked.hashes[i] for i in mine])]
        expected = np.maximum(returns, again) if variant == "mfec" else returns + 0.1 * (again - returns)
        np.testing.assert_allclose(values, expected[mine], rtol=1e-5)


def test_fewer_neighbours_than_asked_for_are_averaged(tiny_root):
    agent = agent_of(tiny_root, "mfec", episodic={"neighbours": 11})
    x = boards(3)
    looked, returns = agent.look(x[:2], np.zeros(2, dtype=int)), np.array([2.0, 4.0], dtype=np.float32)
    agent.write(np.zeros(2, dtype=int), np.zeros(2, dtype=int), looked.hashes, looked.keys, returns)
    assert agent.look(x[2:], np.zeros(1, dtype=int)).q.tolist() == [[3, 0, 0]]


def test_told_tasks_share_nothing(tiny_root):
    agent = agent_of(tiny_root, "mfec", agent={"task": "observed"})
    x, one = boards(1), np.ones(1)
    looked = agent.look(x, np.zeros(1, dtype=int))
    agent.write(np.zeros(1, dtype=int), np.zeros(1, dtype=int), looked.hashes, looked.keys, one)
    assert agent.look(np.repeat(x, 2, axis=0), np.array([0, 1])).q.tolist() == [[1, 0, 0], [0, 0, 0]]


def test_which_entries_count_as_used(tiny_root):
    """MFEC: an exactly stored state, or else the neighbours. Not in evaluations."""
    agent = agent_of(tiny_root, "mfec", episodic={"neighbours": 1})
    x = boards(3)
    looked, zeros = agent.look(x, np.zeros(3, dtype=int)), np.zeros(3, dtype=int)
    agent.write(zeros, zeros, looked.hashes, looked.keys, np.zeros(3))
    memory = agent.memories[0][0]
    before = memory.state_dict()["clock"]
    agent.look(x[:1], zeros[:1], use=False)
    assert (memory.state_dict()["clock"] == before).all()
    agent.look(x[:1], zeros[:1])
    assert np.flatnonzero(memory.state_dict()["clock"] > before).tolist() == [0]
    close = x[1:2].copy()
    close[0, 4] = 1
    agent.look(close, zeros[:1])
    assert np.flatnonzero(memory.state_dict()["clock"] > before).tolist() == [0, 1]


def test_the_projection_is_fixed_by_the_seed_and_keeps_distances(tiny_root):
    agents = [
        MFEC(tiny_project.run_of(tiny_root, "mfec", seed, {"episodic": {"d_key": 4000}}).settings, 3, 2, 11)
        for seed in (1, 1, 2)
    ]
    assert (agents[0].projection == agents[1].projection).all()
    assert not (agents[0].projection == agents[2].projection).any()
    x = boards(20)
    keys = agents[0].embed(x, np.zeros(20, dtype=int))
    real = np.linalg.norm(x[:, None].astype(float) - x, axis=-1)[np.triu_indices(20, 1)]
    found = np.linalg.norm(keys[:, None] - keys, axis=-1)[np.triu_indices(20, 1)]
    np.testing.assert_allclose(found / real / math.sqrt(4000), 1, atol=0.1)
    plain = MFEC(settings_of(tiny_root, "mfec", episodic={"d_key": None}), 3, 2, 11)
    assert (plain.embed(x, np.zeros(20, dtype=int)) == x).all()


# ------------------------------------------------------------------------------------------------------------ learning


def learner_batch(agent):
    x, tasks, actions, returns = filled(agent)
    return x[:9], tasks[:9], actions[:9], (returns[:9] + 2).astype(np.float32)


def loss_by_hand(agent, x, tasks, actions, returns, keys=None, values=None):
    """The squared error as a function of the network, and of memories' keys and values where given."""
    embedded = agent.network(torch.from_numpy(x), torch.from_numpy(tasks))
    errors = []
    for i in range(len(x)):
        memory = agent.memories[0][actions[i]]
        near = memory.nearest(embedded[i : i + 1].detach().numpy(), agent.settings.neighbours)[0]
        some_keys, some_values = (
            torch.from_numpy(part).clone() if given is None else given[actions[i]]
            for part, given in ((memory.keys, keys), (memory.values, values))
        )
        weights = 1 / ((embedded[i] - some_keys[near]).square().sum(-1) + 1e-3)
        errors.append(((weights * some_values[near]).sum() / weights.sum() - float(returns[i])) ** 2)
    return torch.stack(errors).mean()


@pytest.mark.parametrize("learn_keys", [False, True])
def test_a_learner_step_is_rmsprop_on_the_loss(tiny_root, learn_keys):
    agent = agent_of(tiny_root, "nec", episodic={"learn_keys": learn_keys})
    batch = learner_batch(agent)
    keys, values = (
        [torch.from_numpy(getattr(memory, part).copy()).requires_grad_() for memory in agent.memories[0][:2]]
        for part in ("keys", "values")
    )
    expected_loss = loss_by_hand(agent, *batch, keys, values)
    parameters = dict(agent.network.named_parameters())
    gradients = torch.autograd.grad(expected_loss, [*parameters.values(), *keys, *values])
    gradients = [gradient.clone() for gradient in gradients]
    before = [part.detach().clone() for part in [*parameters.values(), *keys, *values]]
    assert all((gradient != 0).any() for gradient in gradients)
    assert agent.learn(*batch, 0.01) == pytest.approx(expected_loss.item(), rel=1e-4)
    memories = agent.memories[0][:2]
    stored = [torch.from_numpy(getattr(memory, part).copy()) for part in ("keys", "values") for memory in memories]
    after = [*(parameter.detach() for parameter in parameters.values()), *stored]
    for i, (old, new, gradient) in enumerate(zip(before, after, gradients, strict=True)):
        moves = i < len(parameters) or learn_keys
        step = 0.01 * gradient / (0.05 * gradient.square() + 0.01).sqrt() * moves
        torch.testing.assert_close(new, old - step, rtol=1e-3, atol=1e-5)


def test_learning_lowers_the_loss(tiny_root):
    agent = agent_of(tiny_root, "nec", episodic={"learn_keys": True})
    batch = learner_batch(agent)
    losses = [agent.learn(*batch, 0.01) for _ in range(40)]
    assert losses[-1] < losses[0] / 2


def test_parameters_are_counted(tiny_root):
    agent = agent_of(tiny_root, "nec")
    assert agent.parameter_counts() == {
        "encoder": sum(p.numel() for p in agent.network.encoder.parameters()),
        "key": 16 * 4 + 4,
    }
    assert agent_of(tiny_root, "mfec").parameter_counts() == {}
