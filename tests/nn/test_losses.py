"""Targets, losses and fusion, against loops and numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from jaxtyping import TypeCheckError

from rarl.agents.losses import conservative_loss, greedy_value, n_step_targets, relevance_loss, td_loss
from rarl.nn.auxiliary import AuxiliaryLosses, Supports, two_hot
from rarl.nn.fusion import FUSIONS, FilmFusion
from rarl.nn.retrieval import SlotReadout
from rarl.nn.value_network import QHead


def test_greedy_value_by_hand():
    target = torch.tensor([[1.0, 5.0, 3.0], [2.0, -1.0, 0.5], [100.0, 0.0, 0.0]])
    online = torch.tensor([[9.0, 1.0, 2.0], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]])
    torch.testing.assert_close(greedy_value(target), torch.tensor([5.0, 2.0, 100.0]))
    torch.testing.assert_close(greedy_value(target, online), torch.tensor([1.0, -1.0, 0.0]))


def test_n_step_targets_by_hand():
    r = torch.tensor([[1.0, 2.0, 4.0], [1.0, 1.0, 0.0]])
    discount = torch.tensor([[0.5, 0.5, 0.5], [0.5, 0.0, 0.5]])  # the second episode terminates after its second step
    value = torch.tensor([[8.0, 16.0, 32.0], [7.0, 9.0, 9.0]])
    mask = torch.tensor([[True, True, True], [True, True, False]])
    one, two, three = (n_step_targets(r, discount, value, mask, n) for n in (1, 2, 3))
    torch.testing.assert_close(one[0], torch.tensor([1 + 4.0, 2 + 8.0, 4 + 16.0]))
    torch.testing.assert_close(one[1, :2], torch.tensor([1 + 3.5, 1.0]))
    torch.testing.assert_close(two[0], torch.tensor([1 + 0.5 * 10, 2 + 0.5 * 20, 20.0]))
    torch.testing.assert_close(two[1, :2], torch.tensor([1 + 0.5 * 1, 1.0]))
    torch.testing.assert_close(three[0], torch.tensor([1 + 0.5 * (2 + 0.5 * 20), 12.0, 20.0]))


@pytest.mark.parametrize("n", [1, 2, 3, 9])
def test_n_step_targets_against_a_loop(n):
    generator = torch.Generator().manual_seed(n)
    r, value = (torch.randn(5, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    lengths = torch.tensor([6, 5, 3, 1, 6])
    discount = torch.full((5, 6), 0.8, dtype=torch.float64)
    discount[2, 2] = discount[4, 5] = 0.0
    found = n_step_targets(r, discount, value, torch.arange(6) < lengths[:, None], n)
    for row, length in enumerate(lengths.tolist()):
        for t in range(length):
            total, weight = 0.0, 1.0
            for k in range(t, min(t + n, length)):
                total += weight * r[row, k]
                weight *= discount[row, k]
            torch.testing.assert_close(found[row, t], total + weight * value[row, k])


def test_conservative_loss_by_hand():
    q = torch.tensor([[0.0, 0.0, 0.0], [9.0, 0.0, -9.0]])
    found = conservative_loss(q, torch.tensor([1, 0]))
    torch.testing.assert_close(found, torch.tensor([math.log(3.0), math.log(1 + math.exp(-9) + math.exp(-18))]))


def test_targets_carry_no_gradient():
    q = torch.randn(2, 3, 4, requires_grad=True)
    assert not greedy_value(q, q).requires_grad
    steps = torch.ones(2, 3)
    assert not n_step_targets(steps, steps, q.mean(-1), steps.bool(), 2).requires_grad


def test_a_wrong_shape_is_refused():
    steps = torch.ones(3, 2)
    with pytest.raises(TypeCheckError):
        n_step_targets(torch.ones(3, 1), steps, steps, steps.bool(), 1)
    with pytest.raises(TypeCheckError):
        td_loss(torch.zeros(3, 4), torch.zeros(3, 1, dtype=torch.int64), torch.zeros(3), 1.0)


@pytest.mark.parametrize("delta", [0.5, 1.0])
def test_td_loss_is_hubers_on_the_chosen_action(delta):
    q = torch.tensor([[[0.0, 1.0], [3.0, 9.0]]], requires_grad=True)
    a = torch.tensor([[1, 0]])
    target = torch.tensor([[1.25, 0.0]])
    small, large = 0.25, 3.0
    loss = td_loss(q, a, target, delta)
    torch.testing.assert_close(loss, torch.tensor([[small**2 / 2, delta * (large - delta / 2)]]))
    loss.sum().backward()
    torch.testing.assert_close(q.grad, torch.tensor([[[0.0, -small], [delta, 0.0]]]))


def as_weights(low, upper, points):
    """The two neighbours' weights on the whole grid."""
    weights = torch.zeros(*low.shape, points, dtype=upper.dtype)
    return weights.scatter(-1, low[..., None], 1 - upper[..., None]).scatter(-1, low[..., None] + 1, upper[..., None])


def test_two_hot_recovers_values_and_clips():
    support = torch.linspace(-1, 3, 9, dtype=torch.float64)
    value = torch.tensor([[-1.0, -0.5, 0.3, 2.99], [3.0, 7.0, -5.0, 1.1]], dtype=torch.float64)
    weights = as_weights(*two_hot(value, support), 9)
    assert weights.shape == (2, 4, 9)
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, dtype=torch.float64))
    torch.testing.assert_close((weights * support).sum(-1), value.clamp(-1, 3))
    assert ((weights > 1e-9).sum(-1) <= 2).all()
    for row in weights.view(-1, 9):
        used = torch.nonzero(row > 1e-9).flatten()
        assert used.max() - used.min() <= 1
    # Between, and on the grid: by hand.
    weights = as_weights(*two_hot(torch.tensor([0.5, 1.0]), torch.tensor([0.0, 1.0])), 2)
    torch.testing.assert_close(weights, torch.tensor([[0.5, 0.5], [0.0, 1.0]]))


def test_auxiliary_losses_against_a_loop():
    torch.manual_seed(0)
    losses = AuxiliaryLosses(4, 3, Supports(value=(0.0, 2.0), value_points=5)).double()
    losses.reward_support, losses.value_support = losses.reward_support.double(), losses.value_support.double()
    h, b = torch.randn(2, 6, 4, dtype=torch.float64), torch.randn(2, 6, 4, dtype=torch.float64)
    a = torch.randint(3, (2, 6))
    r, value = torch.rand(2, 6, dtype=torch.float64), 3 * torch.rand(2, 6, dtype=torch.float64)
    mask = torch.arange(6) < torch.tensor([[6], [2]])
    logits = losses.out(torch.relu(losses.past(h) + losses.future(b))).detach()
    total, each = 0.0, []
    for i in range(2):
        for j in range(6):
            p_action = logits[i, j, :3].softmax(0)
            p_reward = logits[i, j, 3:5].softmax(0)
            p_value = logits[i, j, 5:].softmax(0)
            loss = -math.log(p_action[a[i, j]])
            loss -= ((1 - r[i, j]) * p_reward[0].log() + r[i, j] * p_reward[1].log()).item()
            position = min(value[i, j].item(), 2.0) / 0.5
            low = min(int(position), 3)
            loss -= (low + 1 - position) * math.log(p_value[low]) + (position - low) * math.log(p_value[low + 1])
            each.append(loss)
            total += loss if mask[i, j] else 0.0
    assert losses(h, b, a, r, value, None).item() == pytest.approx(sum(each) / 12)
    assert losses(h, b, a, r, value, mask).item() == pytest.approx(total / 8)


@pytest.mark.parametrize("name", list(FUSIONS))
def test_fusion_takes_any_leading_axes_and_lets_u_matter(name):
    torch.manual_seed(0)
    fusion = FUSIONS[name](6, 4)
    s, u = torch.randn(2, 3, 6), torch.randn(2, 3, 4, requires_grad=True)
    out = fusion(s, u)
    assert out.shape == s.shape
    torch.testing.assert_close(out[1, 2], fusion(s[1, 2], u[1, 2]))
    out.square().sum().backward()
    assert (u.grad != 0).any(-1).all()


def test_film_and_addition_leave_the_state_where_u_is_zero():
    s, nothing = torch.randn(5, 6), torch.zeros(5, 4)
    assert torch.equal(FUSIONS["add"](6, 4)(s, nothing), s)
    assert torch.equal(FUSIONS["film"](6, 4)(s, nothing), s)


def test_film_scales_and_shifts():
    film = FilmFusion(2, 1)
    with torch.no_grad():
        film.scale_and_shift.weight.copy_(torch.tensor([[1.0], [0.0], [0.0], [5.0]]))
    out = film(torch.tensor([[3.0, 7.0]]), torch.tensor([[-0.5]]))
    torch.testing.assert_close(out, torch.tensor([[1.5, 4.5]]))


def test_the_gru_fusion_is_a_normalised_gru_cell():
    torch.manual_seed(0)
    fusion = FUSIONS["gru"](6, 4)
    s, u = torch.randn(3, 6), torch.randn(3, 4)
    torch.testing.assert_close(fusion(s, u), fusion.norm(fusion.cell(u, s)))
    torch.testing.assert_close(fusion(s, u).mean(-1), torch.zeros(3), atol=1e-6, rtol=0)


def test_the_readout_weighs_slots_by_their_keys():
    torch.manual_seed(0)
    readout = SlotReadout(6, 4, 5)
    s, z = torch.randn(2, 3, 6), torch.randn(2, 3, 4, 4)
    out = readout(s, z)
    for index in ((0, 0), (1, 2)):
        logits = torch.stack([readout.query(s[index]) @ readout.key(slot) / 5**0.5 for slot in z[index]])
        torch.testing.assert_close(out[index], logits.softmax(0) @ z[index])
    # One slot is passed on as it is; the order of slots does not matter.
    torch.testing.assert_close(readout(s, z[:, :, :1]), z[:, :, 0])
    torch.testing.assert_close(readout(s, z.flip(2)), out)


def test_the_head_attends_over_z_again():
    torch.manual_seed(0)
    head = QHead(6, 3, d_m=4, d_e=5)
    s, z = torch.randn(2, 6), torch.randn(2, 4, 4)
    assert head(s, z).shape == (2, 3)
    assert not torch.allclose(head(s, z), head(s, z.flip(0)))
    torch.testing.assert_close(head(s, z), head(s, z.flip(1)))
    plain = QHead(6, 3)
    torch.testing.assert_close(plain(s, None), plain.q(torch.relu(plain.hidden(torch.relu(s)))))


def test_relevance_is_the_softmax_of_each_relevant_trajectory_against_all_others():
    """By hand: scores log 1, log 2, log 4 and log 3 of which the second and the last are relevant."""
    scores = torch.log(torch.tensor([[[1.0, 2.0, 4.0, 3.0]]]))
    relevant = torch.tensor([[False, True, False, True]])
    expected = (-math.log(2 / (1 + 4 + 2)) - math.log(3 / (1 + 4 + 3))) / 2
    assert relevance_loss(scores, relevant).item() == pytest.approx(expected)


def test_groups_of_one_kind_do_not_count_for_relevance():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(3, 5, 4, generator=generator).requires_grad_()
    relevant = torch.tensor([[True] * 4, [False, True, True, False], [False] * 4])
    loss = relevance_loss(scores, relevant)
    assert loss.item() == pytest.approx(relevance_loss(scores[1:2], relevant[1:2]).item())
    loss.backward()
    assert scores.grad.isfinite().all()
    assert (scores.grad[[0, 2]] == 0).all()
    assert (scores.grad[1][:, relevant[1]] < 0).all()  # relevant ones up,
    assert (scores.grad[1][:, ~relevant[1]] > 0).all()  # the others down
    assert relevance_loss(scores[:1], relevant[:1]).item() == 0
