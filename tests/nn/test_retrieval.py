"""The retrieval process against a slow version of the paper's text, and what must hold for any of its versions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from rarl.nn.auxiliary import AuxiliaryLosses, Supports
from rarl.nn.bottleneck import Gaussian, InformationBottleneck, gaussian_kl
from rarl.nn.fusion import AdditiveFusion
from rarl.nn.retrieval import DirectRetrieval, Mode, SlotReadout, SlotRetrieval, Standardise, Summaries, select
from rarl.nn.summarisers import SUMMARISERS
from tests.nn import reference

GROUPS, ASKING, N_TRAJ, LENGTH, D_S, N_ACTIONS = 2, 3, 5, 4, 6, 7
SIZES = {"n_f": 3, "d_m": 4, "d_e": 5, "d_h": 8, "d_v": 6, "slot_heads": 2}


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def process_of(seed=0, *, summariser="gru", k_traj=None, k_states=4, n_actions=0, standardise=False, **sizes):
    """A retrieval process in float64 with large random weights, so that attention differs much between states."""
    torch.manual_seed(seed)
    process = SlotRetrieval(
        D_S,
        n_actions,
        k_traj=k_traj,
        k_states=k_states,
        summariser=summariser,
        standardise=standardise,
        **(SIZES | sizes),
    )
    return randomise(process)


def randomise(module):
    module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * (0.7 if parameter.ndim > 1 else 0.3))
    return module


def batch_of(seed, mask=False, groups=GROUPS):
    """s (G, n_traj, l, d_s), a, r, mask: a retrieval batch; with a mask its trajectories have 1 to l steps."""
    generator = torch.Generator().manual_seed(seed)
    shape = (groups, N_TRAJ, LENGTH)
    s = torch.randn(*shape, D_S, generator=generator, dtype=torch.float64)
    a = torch.randint(N_ACTIONS, shape, generator=generator)
    r = torch.rand(shape, generator=generator, dtype=torch.float64)
    if not mask:
        return s, a, r, None
    lengths = torch.randint(1, LENGTH + 1, shape[:2], generator=generator)
    return s, a, r, torch.arange(LENGTH) < lengths[..., None]


def asking_of(seed, process, groups=GROUPS):
    """s_t (G, B, d_s), m_tm1 (G, B, n_f, d_m)."""
    generator = torch.Generator().manual_seed(1000 + seed)
    s_t = torch.randn(groups, ASKING, D_S, generator=generator, dtype=torch.float64)
    m_tm1 = torch.randn(groups, ASKING, process.n_f, process.d_m, generator=generator, dtype=torch.float64)
    return s_t, m_tm1


def weights_of(process, readout, fusion):
    """The weights under the reference's names: the one place that knows the names in the module."""
    state = {name: value.detach().numpy() for name, value in process.state_dict().items()}

    def linear(name):
        return {"w": state[f"{name}.weight"], "b": state[f"{name}.bias"]}

    if "summariser.inputs.weight" in state:
        summariser = {
            "kind": "decay",
            "decays": process.summariser.decays,
            "inputs_w": state["summariser.inputs.weight"],
            "inputs_b": state["summariser.inputs.bias"],
        }
        for number, name in enumerate(("forwards", "backwards")):
            gain, norm_b = (state[f"summariser.norm_{kind}"][number] for kind in ("weight", "bias"))
            summariser[name] = {"gain": gain, "norm_b": norm_b, **linear(f"summariser.{name}")}
    else:
        summariser = {"kind": "gru"}
        for name in ("forwards", "backwards"):
            summariser[name] = {
                "w_x": state[f"summariser.{name}.weight_ih_l0"],
                "w_h": state[f"summariser.{name}.weight_hh_l0"],
                "b_x": state[f"summariser.{name}.bias_ih_l0"],
                "b_h": state[f"summariser.{name}.bias_hh_l0"],
            }
    x, h = linear("slot_gru.from_state"), linear("slot_gru.from_slot")
    weights = {
        "summariser": summariser,
        "w_s": state["state_in_key.weight"],
        "w_e": state["key.weight"],
        "w_v": state["value.weight"],
        "slot_gru": {"w_x": x["w"], "w_h": h["w"], "b_x": x["b"], "b_h": h["b"]},
        "query": (linear("query.0"), linear("query.2")),
        "posterior": tuple(linear("bottleneck.posterior").values()),
        "prior": tuple(linear("bottleneck.prior").values()),
        "slot_attention": {
            "heads": process.slot_attention.heads,
            "w_in": state["slot_attention.query_key_value.weight"],
            "b_in": state["slot_attention.query_key_value.bias"],
            "w_out": state["slot_attention.out.weight"],
            "b_out": state["slot_attention.out.bias"],
        },
        "gate": tuple(linear("slot_attention.gate").values()),
        "slot_norm": tuple(linear("slot_attention.norm").values()),
        "readout_q": readout.query.weight.detach().numpy(),
        "readout_e": readout.key.weight.detach().numpy(),
        "fusion_v": fusion.value.weight.detach().numpy(),
        "standardise": None,
    }
    if process.action_and_reward is not None:
        columns = state["action_and_reward.weight"].T
        weights["actions"], weights["rewards"] = columns[:-1], columns[-1]
    return weights


def close(actual, expected, tolerance=1e-9):
    np.testing.assert_allclose(actual.detach().numpy(), expected, rtol=tolerance, atol=tolerance)


def close_all(step, s_tilde, expected):
    """A step of the process, and what the agent makes of its z, are the reference's."""
    alpha = step.alpha.view(expected["alpha"].shape)
    close(alpha, expected["alpha"])
    assert ((alpha.detach().numpy() > 0) == (expected["alpha"] > 0)).all()
    close(step.kl, expected["kl"])
    close(step.m_t, expected["m_t"])
    close(s_tilde, expected["s_tilde"])


# --------------------------------------------------------------------------------------------- against the paper's text


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("masked", [False, True], ids=["full", "masked"])
@pytest.mark.parametrize("k_traj", [2, None])
@pytest.mark.parametrize(("summariser", "n_actions"), [("gru", 0), ("decay", N_ACTIONS)])
def test_all_six_steps_equal_the_papers_text(seed, masked, k_traj, summariser, n_actions):
    process = process_of(seed, summariser=summariser, k_traj=k_traj, n_actions=n_actions)
    readout = randomise(SlotReadout(D_S, process.d_m, 5))
    fusion = randomise(AdditiveFusion(D_S, process.d_m))
    s, a, r, mask = batch_of(seed, masked)
    s_t, m_tm1 = asking_of(seed, process)
    weights = weights_of(process, readout, fusion)
    real = np.ones(s.shape[:3], bool) if mask is None else mask.numpy()
    inputs = (s_t.numpy(), m_tm1.numpy(), s.numpy(), a.numpy(), r.numpy(), real, k_traj, process.k_states)

    step = process(s_t, m_tm1, process.summarise(s, a, r, mask), mode=Mode.ACT)
    expected = reference.retrieval_step(weights, *inputs)
    close(step.z, expected["z"])  # the mean
    close_all(step, fusion(s_t, readout(s_t, step.z)), expected)

    # Drawn: the slots and what the agent hears follow from the z that was drawn.
    drawn = process(s_t, m_tm1, process.summarise(s, a, r, mask), mode=Mode.LEARN)
    again = reference.retrieval_step(weights, *inputs, z_of=drawn.z.detach().numpy())
    assert not np.allclose(drawn.z.detach().numpy(), expected["z"])
    close_all(drawn, fusion(s_t, readout(s_t, drawn.z)), again)


@pytest.mark.parametrize("k_traj", [2, None])
def test_standardised_reading_equals_the_slow_reference(k_traj):
    """In a learner step by the batch's statistics, when acting by the running ones, as read slowly."""
    process = process_of(0, k_traj=k_traj, standardise=True)
    readout, fusion = randomise(SlotReadout(D_S, process.d_m, 5)), randomise(AdditiveFusion(D_S, process.d_m))
    s, a, r, mask = batch_of(0, mask=True)
    s_t, m_tm1 = asking_of(0, process)
    inputs = (s_t.numpy(), m_tm1.numpy(), s.numpy(), a.numpy(), r.numpy(), mask.numpy(), k_traj, process.k_states)
    weights = weights_of(process, readout, fusion)

    def step_and_said(mode):
        with torch.set_grad_enabled(mode is Mode.LEARN):
            step = process(s_t, m_tm1, process.summarise(s, a, r, mask), mode=mode)
            return step, fusion(s_t, readout(s_t, step.z))

    by_batch = reference.retrieval_step({**weights, "standardise": "batch"}, *inputs)
    for _ in range(2):  # a target network's pass moves no statistics
        step, said = step_and_said(Mode.TARGET)
        close(step.z, by_batch["z"])
        close_all(step, said, by_batch)
    assert process.standardise.seen == 0
    step, _ = step_and_said(Mode.LEARN)
    close(step.p.mean, by_batch["mean"])
    # Two batches, of which the second is another: weights rate (1 - rate) and rate, over their sum. The variance is
    # that over both.
    first, rate = by_batch["g"].reshape(-1, process.d_v), 0.05
    process.read(process.ask(3 - s_t, m_tm1)[1], process.summarise(s, a, r, mask), Mode.LEARN)
    inputs_of_second = ((3 - s_t).numpy(), *inputs[1:])
    second = reference.retrieval_step({**weights, "standardise": "batch"}, *inputs_of_second)["g"]
    second = second.reshape(-1, process.d_v)
    share = rate / (1 - (1 - rate) ** 2)
    mean = (1 - share) * first.mean(0) + share * second.mean(0)
    between = (1 - share) * share * (first.mean(0) - second.mean(0)) ** 2
    running = mean, (1 - share) * first.var(0) + share * second.var(0) + between
    by_running = reference.retrieval_step({**weights, "standardise": running}, *inputs)
    for _ in range(2):  # play moves none either
        step, said = step_and_said(Mode.ACT)
        close(step.z, by_running["z"])
        close_all(step, said, by_running)
    plain = reference.retrieval_step(weights, *inputs)["z"]
    for one, other in ((by_batch["z"], by_running["z"]), (by_batch["z"], plain), (by_running["z"], plain)):
        assert not np.allclose(one, other, atol=1e-2)  # else one could stand for another


def test_z_is_drawn_from_its_gaussian():
    process = process_of(3, k_traj=2)
    readout, fusion = randomise(SlotReadout(D_S, process.d_m, 5)), randomise(AdditiveFusion(D_S, process.d_m))
    s, a, r, _ = batch_of(3)
    s_t, m_tm1 = asking_of(3, process)
    real = np.ones(s.shape[:3], bool)
    expected = reference.retrieval_step(
        weights_of(process, readout, fusion),
        *(x.numpy() for x in (s_t, m_tm1, s, a, r)),
        real,
        2,
        process.k_states,
    )
    retrieved = process.summarise(s, a, r)
    with torch.no_grad():
        drawn = np.stack([process(s_t, m_tm1, retrieved, mode=Mode.LEARN, carry=False).z.numpy() for _ in range(400)])
    noise = (drawn - expected["mean"]) / expected["std"]
    assert np.abs(noise.mean(0)).max() < 5 / np.sqrt(400)
    assert np.abs(noise.std(0) - 1).max() < 0.2
    # Independent over states, slots and channels.
    flat = noise.reshape(400, -1)
    correlation = np.corrcoef(flat.T) - np.eye(flat.shape[1])
    assert np.abs(correlation).max() < 0.3


def test_a_slot_that_read_nothing_new_is_a_gru_cell():
    """Step 1 is a GRU with one set of weights for all slots, whether the slots are the same for all states or not."""
    process = process_of(0)
    cell = torch.nn.GRUCell(D_S, process.d_m).double()
    mine = process.slot_gru
    cell.load_state_dict(
        {
            "weight_ih": mine.from_state.weight,
            "bias_ih": mine.from_state.bias,
            "weight_hh": mine.from_slot.weight,
            "bias_hh": mine.from_slot.bias,
        }
    )
    s_t, m_tm1 = asking_of(0, process)
    for m in (m_tm1, m_tm1[:1, :1], m_tm1[:, :1]):
        m_hat = mine(m, mine.from_state(s_t))
        for g in range(GROUPS):
            for q in range(ASKING):
                for k in range(process.n_f):
                    slot = m.expand_as(m_tm1)[g, q, k]
                    torch.testing.assert_close(m_hat[g, q, k], cell(s_t[g, q], slot))


# ------------------------------------------------------------------------------------------------------------ selection


def selection_of(logits, n_traj, k_traj, k_states):
    """The literal selection for (..., N) logits; -inf is padding."""
    length = logits.shape[-1] // n_traj
    out = np.zeros(logits.shape, bool)
    for index in np.ndindex(*logits.shape[:-1]):
        grid = logits[index].view(n_traj, length).numpy()
        for i, j in reference.select(grid, np.isfinite(grid), k_traj, k_states):
            out[index][i * length + j] = True
    return out


def selected(logits, *amounts):
    """What `select` selects, as a mask; padding does not count."""
    chosen = select(logits, *amounts)
    every = torch.ones_like(logits, dtype=torch.bool)
    return (every if chosen is None else torch.zeros_like(every).scatter(-1, chosen, True)) & (logits > float("-inf"))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("k_traj", "k_states"), [(3, 4), (1, 10), (None, 4), (None, 1), (6, 100), (9, 5), (2, 1)])
def test_ranking_by_logsumexp_is_ranking_by_the_sum_of_the_softmax(seed, k_traj, k_states):
    generator = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(7, 2, 6 * 5, generator=generator, dtype=torch.float64)
    logits[torch.rand(logits.shape, generator=generator) < 0.2] = float("-inf")
    chosen = selected(logits, 6, k_traj, k_states)
    assert (chosen.numpy() == selection_of(logits, 6, k_traj, k_states)).all()


def test_trajectories_are_ranked_by_all_their_states_not_by_their_best_one():
    best_state = torch.tensor([3.0, 0.0, 0.0])
    best_sum = torch.tensor([2.5, 2.5, 2.5])
    logits = torch.cat([best_state, best_sum, torch.zeros(3)])
    chosen = selected(logits, 3, 1, 9)
    assert chosen.tolist() == [False] * 3 + [True] * 3 + [False] * 3


def test_k_states_may_exceed_what_there_is():
    logits = torch.tensor([[1.0, 2.0, float("-inf"), 0.0, -1.0, -2.0]])
    assert selected(logits, 2, None, 100).tolist() == [[True, True, False, True, True, True]]
    assert selected(logits, 2, 1, 100).tolist() == [[True, True, False, False, False, False]]
    assert selected(logits, 2, 1, 3).tolist() == [[True, True, False, False, False, False]]
    assert selected(logits, 2, 2, 6).tolist() == [[True, True, False, True, True, True]]


@pytest.mark.parametrize("summariser", ["gru", "decay"])
def test_ties_are_broken_without_selecting_more(summariser):
    """Equal trajectories: any may be chosen, but as many as asked for, and the weights of equals are equal."""
    process = process_of(0, summariser=summariser, k_traj=2, k_states=3)
    s, a, r, _ = batch_of(0)
    s[:] = s[:, :1]
    s_t, m_tm1 = asking_of(0, process)
    alpha = process(s_t, m_tm1, process.summarise(s, a, r), mode=Mode.ACT).alpha.unflatten(-1, (N_TRAJ, LENGTH))
    assert ((alpha > 0).sum((-1, -2)) == 3).all()
    assert ((alpha > 0).any(-1).sum(-1) <= 2).all()
    torch.testing.assert_close(alpha.sum((-1, -2)), torch.ones(GROUPS, ASKING, process.n_f, dtype=torch.float64))
    with torch.no_grad():
        process.key.weight.zero_()
    alpha = process(s_t, m_tm1, process.summarise(s, a, r), mode=Mode.ACT).alpha
    assert ((alpha > 0).sum(-1) == 3).all()
    torch.testing.assert_close(alpha[alpha > 0], torch.full_like(alpha[alpha > 0], 1 / 3))


@pytest.mark.parametrize("k_traj", [2, None])
def test_what_is_not_selected_has_weight_and_gradient_zero(k_traj):
    process = process_of(1, k_traj=k_traj, k_states=2)
    s, a, r, mask = batch_of(1, mask=True)
    made = process.summarise(s, a, r, mask)
    keys, values = (part.detach().requires_grad_() for part in (made.keys, made.values))
    s_t, m_tm1 = asking_of(1, process)
    step = process(s_t[:, :1], m_tm1[:, :1], made._replace(keys=keys, values=values), mode=Mode.ACT)
    assert ((step.alpha > 0).sum(-1) <= 2).all()
    step.z.square().sum().backward()
    used = (step.alpha > 0).flatten(1, 2).any(1)  # by any slot
    assert (~used).any()
    assert (step.alpha[:, 0].sum(1)[~used] == 0).all()
    for gradient in (keys.grad, values.grad):
        assert (gradient[~used] == 0).all()
    assert (values.grad[used] != 0).any(-1).all()
    assert (keys.grad[used] != 0).any()
    # And with each slot by itself, where all others' selections are foreign.
    for k in range(process.n_f):
        keys.grad = values.grad = None
        step = process(s_t[:, :1], m_tm1[:, :1], made._replace(keys=keys, values=values), mode=Mode.ACT, carry=False)
        step.z[:, 0, k].square().sum().backward()
        foreign = step.alpha[:, 0, k] == 0
        assert (keys.grad[foreign] == 0).all()
        assert (values.grad[foreign] == 0).all()


def test_gradients_of_reading_are_those_of_a_softmax_over_the_selected():
    """Through a selection that small changes leave as it is, finite differences see the same function."""
    process = process_of(5, k_traj=2, k_states=3)
    s, a, r, mask = batch_of(5, mask=True)
    s_t, m_tm1 = asking_of(5, process)

    def z_of(s, s_t):
        step = process(s_t, m_tm1, process.summarise(s, a, r, mask), mode=Mode.ACT)
        return step.z, step.m_t, step.kl

    assert torch.autograd.gradcheck(z_of, (s.requires_grad_(), s_t.requires_grad_()), fast_mode=True)


# ---------------------------------------------------------------------------------------------------- order and padding


@pytest.mark.parametrize("summariser", ["gru", "decay"])
@pytest.mark.parametrize("masked", [False, True], ids=["full", "masked"])
def test_the_order_of_trajectories_does_not_matter(summariser, masked):
    process = process_of(2, summariser=summariser, k_traj=3, n_actions=N_ACTIONS)
    s, a, r, mask = batch_of(2, masked)
    s_t, m_tm1 = asking_of(2, process)
    order = torch.tensor([3, 0, 4, 2, 1])
    one = process(s_t, m_tm1, process.summarise(s, a, r, mask), mode=Mode.ACT)
    moved = (s[:, order], a[:, order], r[:, order], None if mask is None else mask[:, order])
    other = process(s_t, m_tm1, process.summarise(*moved), mode=Mode.ACT)
    torch.testing.assert_close(other.z, one.z, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(other.m_t, one.m_t, rtol=1e-12, atol=1e-12)
    alpha = one.alpha.unflatten(-1, (N_TRAJ, LENGTH))[..., order, :].flatten(-2)
    torch.testing.assert_close(other.alpha, alpha, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("summariser", ["gru", "decay"])
@pytest.mark.parametrize("k_traj", [2, None])
def test_padding_changes_nothing(summariser, k_traj):
    """The same trajectories with three steps of garbage behind them, and one trajectory of nothing but garbage."""
    process = process_of(4, summariser=summariser, k_traj=k_traj, k_states=6, n_actions=N_ACTIONS)
    s, a, r, _ = batch_of(4)
    s_t, m_tm1 = asking_of(4, process)
    plain = process.summarise(s, a, r)
    wide = (GROUPS, N_TRAJ + 1, LENGTH + 3)
    s_wide = 50 * torch.randn(*wide, D_S, dtype=torch.float64)
    a_wide, r_wide = torch.randint(N_ACTIONS, wide), 50 * torch.randn(wide, dtype=torch.float64)
    mask = torch.zeros(wide, dtype=torch.bool)
    for padded, part in ((s_wide, s), (a_wide, a), (r_wide, r), (mask, torch.ones_like(a, dtype=torch.bool))):
        padded[:, :N_TRAJ, :LENGTH] = part
    s_wide.requires_grad_()
    padded = process.summarise(s_wide, a_wide, r_wide, mask)
    one, other = process(s_t, m_tm1, plain, mode=Mode.ACT), process(s_t, m_tm1, padded, mode=Mode.ACT)
    torch.testing.assert_close(other.z, one.z, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(other.kl, one.kl, rtol=1e-10, atol=1e-10)
    alpha = other.alpha.unflatten(-1, wide[1:])
    torch.testing.assert_close(
        alpha[..., :N_TRAJ, :LENGTH], one.alpha.unflatten(-1, (N_TRAJ, LENGTH)), rtol=1e-10, atol=1e-10
    )
    assert (alpha.flatten(0, 2)[:, ~mask[0]] == 0).all()
    for mine, theirs in ((padded.h, plain.h), (padded.b, plain.b)):
        torch.testing.assert_close(mine[:, :N_TRAJ, :LENGTH], theirs, rtol=1e-10, atol=1e-10)
    other.z.sum().backward()
    assert (s_wide.grad[~mask] == 0).all()
    assert (s_wide.grad[mask] != 0).any()


@pytest.mark.parametrize("summariser", ["gru", "decay"])
def test_padding_does_not_reach_the_auxiliary_losses(summariser):
    torch.manual_seed(0)
    part = randomise(SUMMARISERS[summariser](D_S, 8))
    losses = randomise(AuxiliaryLosses(8, N_ACTIONS, Supports(value=(0.0, 5.0))))
    s, a, r, _ = batch_of(0, groups=1)
    s, a, r = s[0], a[0], r[0]
    plain = losses(*part(s), a, r, 3 * r, None)
    mask = torch.zeros(N_TRAJ, LENGTH + 2, dtype=torch.bool)
    mask[:, :LENGTH] = True
    padded = torch.nn.functional.pad(s, (0, 0, 0, 2), value=9.0)
    a, r = torch.nn.functional.pad(a, (0, 2), value=3), torch.nn.functional.pad(r, (0, 2), value=0.7)
    torch.testing.assert_close(losses(*part(padded, mask), a, r, 3 * r, mask), plain)


@pytest.mark.parametrize("summariser", ["gru", "decay"])
def test_a_summary_knows_its_own_side_of_time_only(summariser):
    torch.manual_seed(0)
    part = randomise(SUMMARISERS[summariser](D_S, 8))
    s = torch.randn(1, 6, D_S, dtype=torch.float64, requires_grad=True)
    for direction in (0, 1):
        for j in range(6):
            (gradient,) = torch.autograd.grad(part(s)[direction][0, j].sum(), s)
            seen = (gradient[0] != 0).any(-1)
            expected = torch.arange(6) <= j if direction == 0 else torch.arange(6) >= j
            assert (seen == expected).all()


def test_groups_read_their_own_batch_only():
    process = process_of(6, k_traj=2)
    s, a, r, _ = batch_of(6)
    s.requires_grad_()
    s_t, m_tm1 = asking_of(6, process)
    process(s_t, m_tm1, process.summarise(s, a, r), mode=Mode.ACT).z[0].sum().backward()
    assert (s.grad[0] != 0).any()
    assert (s.grad[1] == 0).all()


# ---------------------------------------------------------------------------------------------------------------- slots


def test_slots_are_carried_only_where_asked_for():
    process = process_of(0, k_traj=2)
    s, a, r, _ = batch_of(0)
    s_t, m_tm1 = asking_of(0, process)
    retrieved = process.summarise(s, a, r)
    with_slots = process(s_t, m_tm1, retrieved, mode=Mode.ACT, carry=True)
    without = process(s_t, m_tm1, retrieved, mode=Mode.ACT, carry=False)
    assert without.m_t is None
    assert with_slots.m_t.shape == m_tm1.shape
    assert torch.equal(with_slots.z, without.z)
    assert torch.equal(with_slots.kl, without.kl)
    # What is carried matters for the next step.
    second = process(s_t, with_slots.m_t, retrieved, mode=Mode.ACT)
    assert not torch.allclose(second.z, with_slots.z)


def test_initial_slots_are_random_when_drawn_and_the_same_otherwise():
    process = process_of(0)
    for mode in (Mode.ACT, Mode.TARGET):
        m_0 = process.initial_slots(mode, 3, 200)
        assert m_0.shape == (1, 1, process.n_f, process.d_m)
        assert torch.equal(m_0[0, 0], process.slot_mean)
    drawn = process.initial_slots(Mode.LEARN, 3, 200)
    assert drawn.shape == (3, 200, process.n_f, process.d_m)
    drawn = drawn.flatten(0, 1)  # each episode has its own
    spread = drawn.std(0) / torch.exp(process.slot_log_std)
    assert (spread - 1).abs().max() < 0.2
    assert ((drawn.mean(0) - process.slot_mean).abs() < 0.3 * torch.exp(process.slot_log_std)).all()
    assert torch.unique(drawn[:, 0, 0]).numel() == 600
    fixed = process_of(0, draw_slots=False)
    assert torch.equal(fixed.initial_slots(Mode.LEARN, 3, 200)[0, 0], fixed.slot_mean)
    # Slots start apart, or they would all ask the same.
    fresh = SlotRetrieval(D_S, 0, k_traj=2, k_states=2, summariser="gru", standardise=False, **SIZES)
    assert torch.pdist(fresh.initial_slots(Mode.ACT, 1, 1)[0, 0]).min() > 0.1


def test_nothing_retrieved_reads_zeros():
    process = process_of(0, standardise=True)
    s_t, m_tm1 = asking_of(0, process)
    step = process(s_t, m_tm1, None, mode=Mode.ACT)
    assert step.alpha is None
    mean = process.bottleneck.posterior.bias[: process.d_m]
    torch.testing.assert_close(step.z, mean.expand_as(step.z))
    assert torch.isfinite(step.kl).all()
    assert step.m_t.shape == m_tm1.shape


def test_evaluation_is_deterministic_and_takes_the_mean():
    process = process_of(0, k_traj=2)
    s, a, r, _ = batch_of(0)
    s_t, m_tm1 = asking_of(0, process)
    retrieved = process.summarise(s, a, r)
    before = torch.get_rng_state()
    one, other = (process(s_t, m_tm1, retrieved, mode=Mode.ACT).z for _ in range(2))
    assert torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), before)  # draws nothing
    drawn = process(s_t, m_tm1, retrieved, mode=Mode.LEARN).z
    assert not torch.allclose(drawn, one)


# ----------------------------------------------------------------------------------------------------------- bottleneck


@pytest.mark.parametrize("seed", range(3))
def test_kl_is_that_of_torch(seed):
    torch.manual_seed(seed)
    p, r = (Gaussian(torch.randn(4, 3, 5).double(), torch.randn(4, 3, 5).double()) for _ in range(2))
    expected = kl_divergence(Normal(p.mean, p.log_std.exp()), Normal(r.mean, r.log_std.exp())).sum(-1)
    torch.testing.assert_close(gaussian_kl(p, r), expected)
    assert (gaussian_kl(p, r) > 0).all()
    assert (gaussian_kl(p, p) == 0).all()


def test_kl_is_zero_where_posterior_and_prior_agree():
    bottleneck = randomise(InformationBottleneck(4, 4, draw=True, priced=True, sigma=0.1))
    bottleneck.prior.load_state_dict(bottleneck.posterior.state_dict())
    g = torch.randn(3, 2, 4, dtype=torch.float64)
    assert (gaussian_kl(*bottleneck.gaussians(bottleneck.posterior(g), g)) == 0).all()
    assert (gaussian_kl(*bottleneck.gaussians(bottleneck.posterior(g), g + 1)) > 0).all()


def test_the_spread_of_z_stays_within_its_range():
    bottleneck = InformationBottleneck(2, 3, draw=True, priced=True, sigma=0.1)
    with torch.no_grad():
        bottleneck.posterior.weight.zero_()
        bottleneck.posterior.bias.copy_(torch.tensor([0.0, 0, 0, 1e6, -1e6, 0]))
    g, m = torch.zeros(20_000, 1, 2), torch.zeros(20_000, 1, 3)
    torch.manual_seed(0)
    posterior = bottleneck.posterior(g)
    z, (p, r) = bottleneck(posterior, torch.randn(20_000, 1, 3)), bottleneck.gaussians(posterior, m)
    assert torch.isfinite(gaussian_kl(p, r)).all()
    wide, narrow, one = z.detach()[:, 0].std(0).tolist()
    assert wide == pytest.approx(np.exp(2), rel=0.05)
    assert narrow == pytest.approx(np.exp(-5), rel=0.05)
    assert one == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize("sigma", [0.02, 0.1, 1.0])
def test_posterior_and_prior_start_at_the_chosen_deviation(sigma):
    torch.manual_seed(0)
    bottleneck = InformationBottleneck(6, 4, draw=True, priced=True, sigma=sigma)
    g, m = 3 * torch.randn(500, 2, 6), torch.randn(500, 2, 4)
    posterior = bottleneck.posterior(g)
    z, (p, r) = bottleneck(posterior, torch.randn(500, 2, 4)), bottleneck.gaussians(posterior, m)
    for gaussian in (p, r):
        torch.testing.assert_close(gaussian.log_std.exp(), torch.full_like(z, sigma))
    assert (z - p.mean).std().item() == pytest.approx(sigma, rel=0.05)
    (z.square().sum() + gaussian_kl(p, r).sum()).backward()
    for head in (bottleneck.posterior, bottleneck.prior):
        assert (head.weight.grad != 0).all()  # the deviations learn, too


def test_a_deviation_that_the_range_would_cut_is_refused():
    with pytest.raises(ValueError, match="must be between 0"):
        InformationBottleneck(6, 4, draw=True, priced=True, sigma=0.001)


def test_drawing_and_paying_are_two_switches():
    g, m = torch.randn(5, 2, 6), torch.randn(5, 2, 4)
    for draw in (False, True):
        for priced in (False, True):
            bottleneck = InformationBottleneck(6, 4, draw, priced, 0.1)
            posterior = bottleneck.posterior(g)
            p, r = bottleneck.gaussians(posterior, m)
            drawn = bottleneck(posterior, torch.randn(5, 2, 4)) if draw else bottleneck(posterior, None)
            assert torch.equal(drawn, bottleneck(posterior, None)) == (not draw)
            assert (r is not None) == priced
            assert (p is not None) == (draw or priced)
            assert (bottleneck.prior is not None) == priced


# ---------------------------------------------------------------------------------------------------------- standardise


def test_standardise_uses_the_batch_in_a_learner_step_and_running_statistics_when_acting():
    torch.manual_seed(0)
    module = Standardise(4, rate=0.1).double()
    g = 5 + 3 * torch.randn(8, 16, 2, 4, dtype=torch.float64)
    before = module(g, Mode.ACT)
    torch.testing.assert_close(before, g / (1 + 1e-5) ** 0.5)  # nothing is known yet: as it is
    flat = g.flatten(0, -2)
    for mode in (Mode.TARGET, Mode.LEARN):
        assert module.seen == 0
        out = module(g, mode)
        torch.testing.assert_close(out.mean((0, 1, 2)), torch.zeros(4, dtype=torch.float64), atol=1e-9, rtol=0)
        torch.testing.assert_close(out.var((0, 1, 2), correction=0), torch.ones(4).double(), atol=1e-5, rtol=0)
    # From the first batch on what is acted on has the scale of what was learned from.
    torch.testing.assert_close(module(g, Mode.ACT), module(g, Mode.TARGET))
    torch.testing.assert_close(module(g[:1, :1], Mode.ACT), module(g, Mode.ACT)[:1, :1])  # of each row alone
    other = 2 - 0.5 * g
    module(other, Mode.LEARN)
    both, weight = torch.stack([flat, other.flatten(0, -2)]), torch.tensor([0.9, 1.0]).double()[:, None, None] / 1.9
    mean = (weight * both).sum(0).mean(0)
    variance = (weight * (both - mean) ** 2).sum(0).mean(0)  # over both together
    torch.testing.assert_close(module(g, Mode.ACT), (g - mean) / (variance + 1e-5).sqrt())
    # Once frozen, running statistics in all modes, and none of them moves.
    kept = {name: value.clone() for name, value in module.state_dict().items()}
    module.eval()
    for mode in Mode:
        torch.testing.assert_close(module(g, mode), (g - mean) / (variance + 1e-5).sqrt())
    assert all(torch.equal(value, kept[name]) for name, value in module.state_dict().items())


def test_rows_that_do_not_count_are_in_no_statistic():
    torch.manual_seed(0)
    one, other = (Standardise(4, rate=0.1).double() for _ in range(2))
    g = torch.randn(3, 6, 2, 4, dtype=torch.float64)
    counts = torch.rand(3, 6, 1) < 0.6
    wild = torch.where(counts[..., None], g, 1e6)
    real = g[counts.expand(3, 6, 2)]
    out = one(wild, Mode.LEARN, counts)
    torch.testing.assert_close(out[counts.expand(3, 6, 2)], other(real, Mode.LEARN))
    for name, value in one.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name])
    # A batch in which nothing counts teaches nothing.
    nothing = one(wild, Mode.LEARN, torch.zeros_like(counts))
    assert torch.isfinite(nothing).all()
    for name, value in one.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name])


def test_standardise_is_differentiated_through_its_statistics():
    module = Standardise(3).double()
    g = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(6, 3, dtype=torch.float64)
    for counts in (None, torch.tensor([True, True, False, True, False, True])):
        assert torch.autograd.gradcheck(lambda g, counts=counts: (module(g, Mode.TARGET, counts) * weights).sum(), (g,))
    (gradient,) = torch.autograd.grad((module(g, Mode.LEARN) * weights).sum(), g)
    torch.testing.assert_close(gradient.sum(0), torch.zeros(3, dtype=torch.float64), atol=1e-10, rtol=0)


def test_what_standardise_learned_is_saved():
    process, other = process_of(0, standardise=True), process_of(1, standardise=True)
    s, a, r, _ = batch_of(0)
    s_t, m_tm1 = asking_of(0, process)
    for _ in range(3):
        process(s_t, m_tm1, process.summarise(s, a, r), mode=Mode.LEARN)
    other.load_state_dict(process.state_dict())
    with torch.no_grad():
        one, two = (p(s_t, m_tm1, p.summarise(s, a, r), mode=Mode.ACT).z for p in (process, other))
    assert torch.equal(one, two)
    assert (process.standardise.mean != 0).any()


# ---------------------------------------------------------------------------------------- nothing real to retrieve from


def direct_of(seed, **options):
    torch.manual_seed(seed)
    sizes = {name: SIZES[name] for name in ("d_e", "d_h", "d_v")}
    return randomise(DirectRetrieval(D_S, 0, k_traj=2, k_states=4, **options, **sizes))


@pytest.mark.parametrize("standardise", [False, True])
@pytest.mark.parametrize("summariser", ["gru", "decay"])
@pytest.mark.parametrize("direct", [False, True])
def test_an_empty_retrieval_batch_reads_zeros_and_harms_no_other(standardise, summariser, direct):
    """One of three groups has a batch of padding alone."""
    of_kind = direct_of if direct else process_of
    process, alone = (of_kind(0, summariser=summariser, standardise=standardise) for _ in range(2))
    s, a, r, mask = batch_of(0, mask=True, groups=3)
    mask[1] = False
    generator = torch.Generator().manual_seed(7)
    s_t = torch.randn(3, ASKING, D_S, generator=generator, dtype=torch.float64, requires_grad=True)
    none = process.initial_slots(Mode.ACT, 1, 1)  # of a process without slots
    m_tm1 = none if direct else asking_of(0, process, groups=3)[1]
    keep = [0, 2]
    torch.manual_seed(1)
    step = process(s_t, m_tm1, process.summarise(s, a, r, mask), mode=Mode.TARGET)
    made = alone.summarise(s[keep], a[keep], r[keep], mask[keep])
    full = alone(s_t[keep], none if direct else m_tm1[keep], made, mode=Mode.TARGET)
    torch.testing.assert_close(step.z[keep], full.z)
    torch.testing.assert_close(step.alpha[keep], full.alpha)
    assert (step.alpha[1] == 0).all()
    nothing = process(s_t, m_tm1, None, mode=Mode.TARGET)
    torch.testing.assert_close(step.z[1], nothing.z[1])
    step.z.square().sum().backward()
    assert torch.isfinite(s_t.grad).all()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in process.parameters())
    # Its statistics are those of the groups that read something.
    for module, groups in ((process, [0, 1, 2]), (alone, keep)):
        made = module.summarise(s[groups], a[groups], r[groups], mask[groups])
        module(s_t[groups], none if direct else m_tm1[groups], made, mode=Mode.LEARN)
    for name, value in process.state_dict().items():
        torch.testing.assert_close(value, alone.state_dict()[name])


def test_a_retrieval_batch_of_padding_alone_for_all_groups_moves_nothing():
    process = process_of(0, standardise=True)
    s, a, r, mask = batch_of(0, mask=True)
    s_t, m_tm1 = asking_of(0, process)
    before = {name: value.clone() for name, value in process.state_dict().items()}
    step = process(s_t, m_tm1, process.summarise(s, a, r, torch.zeros_like(mask)), mode=Mode.LEARN)
    assert torch.isfinite(step.z).all()
    assert (step.alpha == 0).all()
    for name, value in process.state_dict().items():
        assert torch.equal(value, before[name])


def test_padded_states_are_in_no_statistic():
    process, other = process_of(0, standardise=True), process_of(0, standardise=True)
    s, a, r, _ = batch_of(0)
    s_t, m_tm1 = asking_of(0, process)
    counts = torch.tensor([[True, False, True], [True, True, False]])
    wild = torch.where(counts[..., None], s_t, 50.0)
    for module, states in ((process, s_t), (other, wild)):
        module(states, m_tm1, module.summarise(s, a, r), mode=Mode.LEARN, counts=counts)
    for name, value in process.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name])


# --------------------------------------------------------------------------------------------------- own episodes apart


@pytest.mark.parametrize("masked", [False, True], ids=["full", "masked"])
@pytest.mark.parametrize("k_traj", [2, None])
def test_what_a_state_must_not_read_is_as_if_it_were_not_there(masked, k_traj):
    """Each state is compared with one that asks a batch without the trajectories that it must not read."""
    process = process_of(0, k_traj=k_traj)
    s, a, r, mask = batch_of(0, masked)
    s_t, m_tm1 = asking_of(0, process)
    exclude = torch.zeros(GROUPS, ASKING, N_TRAJ, dtype=torch.bool)
    exclude[0, 0, 1] = exclude[0, 1, [0, 3]] = exclude[1, 2, [1, 2, 4]] = True
    retrieved = process.summarise(s, a, r, mask)
    step = process(s_t, m_tm1, retrieved, mode=Mode.ACT, readable=retrieved.readable(exclude))
    alpha = step.alpha.unflatten(-1, (N_TRAJ, LENGTH))
    for g in range(GROUPS):
        for b in range(ASKING):
            keep = ~exclude[g, b]
            rest = (part[g : g + 1, keep] for part in (s, a, r))
            made = process.summarise(*rest, None if mask is None else mask[g : g + 1, keep])
            alone = process(s_t[g : g + 1, b : b + 1], m_tm1[g : g + 1, b : b + 1], made, mode=Mode.ACT)
            torch.testing.assert_close(step.z[g, b], alone.z[0, 0])
            torch.testing.assert_close(alpha[g, b][:, keep].flatten(1), alone.alpha[0, 0])
            assert (alpha[g, b][:, ~keep] == 0).all()


def test_a_state_that_must_read_nothing_reads_zeros_and_harms_no_other():
    process, other = process_of(0, standardise=True), process_of(0, standardise=True)
    s, a, r, _ = batch_of(0)
    s_t, m_tm1 = asking_of(0, process)
    s_t.requires_grad_()
    exclude = torch.zeros(GROUPS, ASKING, N_TRAJ, dtype=torch.bool)
    exclude[0, 1] = True
    retrieved = process.summarise(s, a, r)
    step = process(s_t, m_tm1, retrieved, mode=Mode.TARGET, readable=retrieved.readable(exclude))
    torch.testing.assert_close(step.z[0, 1], process(s_t, m_tm1, None, mode=Mode.TARGET).z[0, 1])
    step.z.square().sum().backward()
    assert torch.isfinite(s_t.grad).all()
    # It counts in no statistic.
    process(s_t, m_tm1, retrieved, mode=Mode.LEARN, readable=retrieved.readable(exclude))
    other(s_t, m_tm1, other.summarise(s, a, r), mode=Mode.LEARN, counts=~exclude[..., 0])
    for name, value in process.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name])


def test_summaries_know_how_many_trajectories_there_are():
    process = process_of(0)
    s, a, r, mask = batch_of(0, mask=True)
    made = process.summarise(s, a, r, mask)
    assert isinstance(made, Summaries)
    assert made.n_traj == N_TRAJ
    assert made.keys.shape == (GROUPS, N_TRAJ * LENGTH, process.d_e)
    assert made.values.shape == (GROUPS, N_TRAJ * LENGTH, process.d_v)
    assert made.h.shape == made.b.shape == (GROUPS, N_TRAJ, LENGTH, SIZES["d_h"])
