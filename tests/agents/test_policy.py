"""epsilon-greedy play: whose random numbers, whose recurrent state."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from rarl.agents.build import build_network
from rarl.agents.policy import Policy
from rarl.envs.atari.observation import packed_size
from tests.tiny import settings_of

ACTIONS, STACK = 5, 2
RETRIEVAL = {"n_f": 2, "d_m": 8, "d_e": 8, "d_h": 8, "d_v": 8, "slot_heads": 2, "n_traj": 3, "k_traj": 2, "k_states": 3}


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def network_of(process="slots", core="gru"):
    agent = {"core": core, "encoder": "tiny", "d_s": 8, "retrieval": RETRIEVAL | {"process": process}}
    torch.manual_seed(1)
    return build_network(settings_of("atari", agent, {"stack": STACK}), ACTIONS).requires_grad_(False)


def policy_of(n, epsilon=0.0, seed=0, groups=1, places=None, **parts):
    policy = Policy(network_of(**parts), np.full(n, epsilon), np.random.default_rng(seed), places=places)
    if policy.network.retriever is not None:
        s = torch.randn(groups, 3, 4, 8, generator=torch.Generator().manual_seed(2))
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
    policy = policy_of(3, core="none", process="none")
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


@pytest.mark.parametrize("process", ["none", "slots"])
def test_only_the_actors_named_forget(process):
    """Afterwards they play as if they were fresh, the others as if nothing had happened."""
    x = looks(6, 3)
    policy, undisturbed, late = (policy_of(3, process=process) for _ in range(3))
    for t in range(3):
        policy(x[t])
        undisturbed(x[t])
    before = policy.state
    policy.begin(np.array([False, True, False]))
    after = policy.state
    assert before.keys() == ({"core"} if process == "none" else {"core", "slots"})
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


# -------------------------------------------------------------------------------------------------- not all are playing


AGENTS = pytest.mark.parametrize(
    ("process", "core", "groups"),
    [("none", "none", 1), ("none", "gru", 1), ("slots", "none", 3), ("slots", "gru", 3), ("slots", "gru", 1)],
)
PLACES = np.array([[0, 4], [5, 2], [1, 3]])


def counted(policy):
    """(groups, actors of each) of every call that reaches the network, from now on."""
    shapes, unroll = [], policy.network.unroll

    def count(x, *arguments, **options):
        shapes.append(tuple(x.shape[:2]))
        return unroll(x, *arguments, **options)

    policy.network.unroll = count
    return shapes


@AGENTS
def test_who_plays_acts_as_if_all_did(process, core, groups):
    """Values, actions, and the recurrent state that they go on with; also of those who begin again after a pause."""
    places = PLACES if groups == 3 else None
    all_play, some_play = (
        policy_of(6, 0.3, groups=groups, places=places, process=process, core=core) for _ in range(2)
    )
    shapes, rng = counted(some_play), np.random.default_rng(4)
    playing, paused, compared = np.ones(6, dtype=bool), 0, 0
    for x in looks(40, 6):
        first = ~playing & (rng.random(6) < 0.3)
        playing = (playing & (rng.random(6) < 0.7)) | first
        if not playing.any():
            first[rng.integers(6)] = True
            playing = first.copy()
        for policy in (all_play, some_play):
            policy.begin(first)
        shown = x.copy()
        shown[~playing] = 0  # what they see does not matter
        one, other = all_play(x), some_play(shown, playing)
        assert (one[playing] == other[playing]).all()
        np.testing.assert_allclose(some_play.q[playing], all_play.q[playing], atol=2e-6)
        assert some_play.state.keys() == all_play.state.keys()
        for name, part in some_play.state.items():
            np.testing.assert_allclose(part[playing], all_play.state[name][playing], atol=2e-6)
        of_groups = PLACES if groups == 3 else np.arange(6)[None]
        still = playing[of_groups].sum(1)
        assert shapes[-1] == ((still > 0).sum(), still.max())
        assert some_play.unrolled.q.shape[:2] == shapes[-1]
        paused, compared = paused + int((~playing).sum()), compared + int(playing.sum())
    assert paused > 50
    assert compared > 50
    assert some_play.rng.bit_generator.state == all_play.rng.bit_generator.state


def test_groups_in_which_nobody_plays_are_left_out():
    policy = policy_of(6, groups=3, places=PLACES)
    shapes, x = counted(policy), looks(4, 6)
    for t, (playing, shape) in enumerate(
        [
            ([1, 1, 1, 1, 1, 1], (3, 2)),
            ([1, 0, 0, 1, 0, 0], (2, 1)),  # of the first and the last group
            ([0, 0, 1, 0, 0, 1], (1, 2)),
            ([0, 0, 1, 0, 0, 0], (1, 1)),
        ]
    ):
        before, state = policy.q.copy(), policy.state
        policy(x[t], np.array(playing, dtype=bool))
        assert shapes[-1] == shape
        if t:
            still = [i for i in range(6) if not playing[i]]
            assert (policy.q[still] == before[still]).all()
            for name, part in policy.state.items():
                assert (part[still] == state[name][still]).all()


@pytest.mark.parametrize("core", ["none", "gru"])
def test_what_is_retrieved_can_change_while_some_play(core):
    """Also where the groups that play stay the same."""
    playing = np.array([1, 0, 1, 0, 1, 0], dtype=bool)
    x, policy = looks(1, 6)[0], policy_of(6, groups=3, core=core)
    policy(x, playing)
    before = policy.q.copy()
    policy.begin(np.ones(6, dtype=bool))
    other = policy_of(6, groups=3, core=core)
    rolled = type(policy.retrieved)(*(None if part is None else part.roll(1, 0) for part in policy.retrieved))
    for each in (policy, other):
        each.retrieved = rolled
    policy(x, playing)
    other(x)
    np.testing.assert_allclose(policy.q[playing], other.q[playing], atol=2e-6)
    assert (policy.q[playing] != before[playing]).any()


@pytest.mark.parametrize("core", ["none", "gru"])
def test_places_say_which_actors_read_which_batch(core):
    """The same actors in another order, with those of a batch in a row."""
    order = PLACES.ravel()
    placed, sorted_ones = (policy_of(6, groups=3, places=places, core=core) for places in (PLACES, None))
    assert (placed.places == PLACES).all()
    assert sorted_ones.places.tolist() == [[0, 1], [2, 3], [4, 5]]
    for t, x in enumerate(looks(4, 6)):
        first = np.array([t == 0, t == 2, t == 0, t == 3, t == 0, t == 2])
        placed.begin(first)
        sorted_ones.begin(first[order])
        placed(x)
        sorted_ones(x[order])
        np.testing.assert_allclose(placed.q[order], sorted_ones.q, atol=2e-6)
        for name, part in placed.state.items():
            np.testing.assert_allclose(part[order], sorted_ones.state[name], atol=2e-6)
    # It matters which.
    other = policy_of(6, groups=3, places=PLACES[::-1].copy(), core=core)
    other(x)
    assert (np.abs(other.q - placed.q) > 1e-6).any()


# ------------------------------------------------------------------------------------------------- what actors are told


@torch.no_grad()
def test_actors_are_told_their_tasks():
    settings = settings_of("gridroboman", {"task": "observed", "encoder": "mlp", "d_s": 8}, tasks=5)
    torch.manual_seed(1)
    network = build_network(settings, 7).requires_grad_(False)
    x = np.random.default_rng(0).integers(0, 2, size=(4, 11)).astype(np.int8)
    told = np.array([3, 0, 4, 4])
    expected = [network(torch.from_numpy(x[i])[None, None], torch.tensor([[told[i]]]))[0][0, 0] for i in range(4)]
    policy = Policy(network, np.zeros(4), np.random.default_rng(0), told)
    policy.begin(np.ones(4, dtype=bool))
    policy(x, np.array([1, 0, 1, 1], dtype=bool))
    np.testing.assert_allclose(policy.q[[0, 2, 3]], torch.stack(expected)[[0, 2, 3]], atol=1e-6)
    policy(x)
    np.testing.assert_allclose(policy.q, torch.stack(expected), atol=1e-6)


@torch.no_grad()
def test_what_is_told_at_an_episodes_start_holds_until_something_else_is_told():
    options = {"channels": 2, "blocks": 1, "d_mission": 4}
    torch.manual_seed(1)
    network = build_network(settings_of("babyai", {"core": "gru", "d_s": 8, "encoder_options": options}), 7)
    network.requires_grad_(False)
    rng = np.random.default_rng(0)
    x = rng.integers(0, 4, size=(4, 3, 50)).astype(np.uint8)
    missions = rng.integers(1, 6, size=(2, 3, 9)).astype(np.uint8)
    policy = Policy(network, np.zeros(3), rng)
    first = np.ones(3, dtype=bool)
    for t in range(4):
        policy.begin(first & (t == 0), missions[0] if t == 0 else None if t < 3 else missions[1])
        policy(x[t])
    for i in range(3):
        state, see = None, torch.from_numpy(x[:, i])
        for t in range(4):
            told = torch.from_numpy(missions[t // 3, i]).long()
            one = network.unroll(see[t][None, None, None], told[None, None, None], state)
            state = one.state
        np.testing.assert_allclose(policy.q[i], one.q[0, 0, 0], atol=1e-6)
