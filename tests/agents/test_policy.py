"""epsilon-greedy play: whose random numbers, whose recurrent state."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from rarl.agents.build import build_network
from rarl.agents.policy import Policy
from rarl.config.settings import AgentSettings
from rarl.envs.atari.observation import packed_size
from rarl.envs.spec import spec_of

ACTIONS, STACK = 5, 2
RETRIEVAL = {"n_f": 2, "d_m": 8, "d_e": 8, "d_h": 8, "d_v": 8, "slot_heads": 2, "n_traj": 3, "k_traj": 2, "k_states": 3}


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def network_of(kind="ra-dqn", core="gru"):
    agent = AgentSettings(kind=kind, task="hidden", core=core, encoder="tiny", stack=STACK, d_s=8, retrieval=RETRIEVAL)
    torch.manual_seed(1)
    return build_network(spec_of("atari"), agent, ACTIONS, 1).requires_grad_(False)


def policy_of(n, epsilon=0.0, seed=0, **kind):
    policy = Policy(network_of(**kind), np.full(n, epsilon), np.random.default_rng(seed))
    if policy.network.process is not None:
        s = torch.randn(1, 3, 4, 8, generator=torch.Generator().manual_seed(2))
        shape = s.shape[:3]
        policy.retrieved = policy.network.process.summarise(s, torch.zeros(shape).long(), torch.zeros(shape))
    return policy


def looks(steps, n, seed=3):
    x = np.random.default_rng(seed).integers(256, size=(steps, n, packed_size(STACK)), dtype=np.uint8)
    x[..., -5] = 1
    x[..., -4:] = 0
    return x


@pytest.mark.parametrize("core", ["none", "gru"])
def test_greedy_without_epsilon_and_uniform_with_one(core):
    policy = policy_of(6, core=core)
    for x in looks(4, 6):
        assert (policy(x) == policy.q.argmax(1)).all()
        assert policy.q.shape == (6, ACTIONS)
    policy = policy_of(100, 1.0, core=core)
    counts = np.bincount(np.concatenate([policy(x) for x in looks(10, 100)]), minlength=ACTIONS)
    assert (np.abs(counts - 200) < 60).all()


def test_each_actor_explores_as_often_as_it_is_told():
    policy = policy_of(3, core="none", kind="dqn")
    policy.epsilons = np.array([0.0, 0.5, 1.0])
    explored = np.array([policy(x) != policy.q.argmax(1) for x in looks(300, 3)]).mean(0)
    np.testing.assert_allclose(explored, [0.0, 0.4, 0.8], atol=0.1)  # one of five is the greedy one


def test_play_draws_from_its_own_generator_and_leaves_the_network_alone():
    policy = policy_of(3, 0.5)
    before, weights = torch.get_rng_state(), copy.deepcopy(policy.network.state_dict())
    for t, x in enumerate(looks(4, 3)):
        policy.begin(np.array([t == 0, t == 2, False]))
        policy(x)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(weights[name], value) for name, value in policy.network.state_dict().items())


@pytest.mark.parametrize("kind", ["dqn", "ra-dqn"])
def test_only_the_actors_named_forget(kind):
    """Afterwards they play as if they were fresh, the others as if nothing had happened."""
    x = looks(6, 3)
    policy, undisturbed, late = (policy_of(3, kind=kind) for _ in range(3))
    for t in range(3):
        policy(x[t])
        undisturbed(x[t])
    before = policy.state
    policy.begin(np.array([False, True, False]))
    after = policy.state
    assert before.keys() == ({"core"} if kind == "dqn" else {"core", "slots"})
    for part in before:
        assert (after[part][[0, 2]] == before[part][[0, 2]]).all()
        assert (after[part][1] == late.state[part][1]).all()
        assert (after[part][1] != before[part][1]).any()
    for t in range(3, 6):
        for one in (policy, undisturbed, late):
            one(x[t])
        assert (policy.q[[0, 2]] == undisturbed.q[[0, 2]]).all()
        np.testing.assert_allclose(policy.q[1], late.q[1], atol=1e-6)


def test_a_state_that_was_handed_out_is_not_written_to():
    x = looks(4, 2)
    policy = policy_of(2, 0.3)
    policy(x[0])
    state = policy.state_dict()
    kept = copy.deepcopy(state)
    ends = []
    for _ in range(2):  # loaded twice, it gives the same twice
        policy.load_state_dict(state)
        policy.begin(np.array([True, False]))
        actions = [policy(x[t]) for t in (1, 2, 3)]
        ends.append((np.stack(actions), policy.q.copy(), policy.state))
        for part, array in kept["state"].items():
            assert (state["state"][part] == array).all()
    (one, q, last), (other, same_q, same_last) = ends
    assert (one == other).all()
    assert (q == same_q).all()
    assert all((last[part] == same_last[part]).all() for part in last)


def test_a_restored_policy_goes_on_bitwise():
    x = looks(6, 4)
    policy, other = policy_of(4, 0.4), policy_of(4, 0.4, seed=9)
    for t in range(3):
        policy(x[t])
    other(x[5])
    other.load_state_dict(copy.deepcopy(policy.state_dict()))
    for t in range(3, 6):
        for one in (policy, other):
            one.begin(np.array([False, t == 4, False, True]))
        assert (policy(x[t]) == other(x[t])).all()
        assert (policy.q == other.q).all()
    assert all((policy.state[part] == other.state[part]).all() for part in policy.state)
    assert policy.rng.bit_generator.state == other.rng.bit_generator.state


def test_without_recurrence_there_is_no_state():
    policy = policy_of(2, core="none")
    policy.begin(np.array([True, True]))
    policy(looks(1, 2)[0])
    assert policy.state == {}
    assert policy.state_dict()["state"] == {}
