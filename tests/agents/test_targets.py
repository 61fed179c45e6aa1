"""Targets on sequences, against literal loops in float64 and numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

from rarl.agents.targets import lambda_targets, sequence_targets, watkins_lambda

# Three steps of two actions. In s_1 the action taken is greedy, in s_2 it is not. In units of reward:
# v = max Q(s_1), Q(s_2), Q(s_3) = 8, 16, 32.
REWARD = [1.0, 2.0, 4.0]
Q = [[0.0, 9.0], [8.0, 3.0], [16.0, 5.0], [1.0, 32.0]]
ACTIONS = [1, 0, 1]
HALF, LAMBDA = 0.5, 0.25


def h(x, epsilon):
    return np.sign(x) * (np.sqrt(np.abs(x) + 1) - 1) + epsilon * x


def h_inverse(y, epsilon):
    return np.sign(y) * (((np.sqrt(1 + 4 * epsilon * (np.abs(y) + 1 + epsilon)) - 1) / (2 * epsilon)) ** 2 - 1)


def by_hand(method, discount=(HALF, HALF, HALF), mask=(True, True, True), epsilon=None, q=Q, **options):
    def row(values, dtype=torch.float64):
        return torch.tensor([values], dtype=dtype)

    return sequence_targets(
        row(REWARD),
        row(discount),
        row(ACTIONS, torch.int64),
        row(mask, torch.bool),
        row(q),
        method=method,
        epsilon=epsilon,
        **options,
    )[0].tolist()


def test_n_step_by_hand():
    # The last step: 4 + 16. Two steps: 2 + (4 + 16) / 2; one fewer is left at the end.
    assert by_hand("n-step", n_step=1) == [1 + 4, 2 + 8, 20]
    assert by_hand("n-step", n_step=2) == [1 + (2 + 8) / 2, 2 + 20 / 2, 20]
    assert by_hand("n-step", n_step=5) == [1 + (2 + 20 / 2) / 2, 12, 20]
    # Terminated with the last step: its value does not count. Cut short by the mask: v of s_2 takes over.
    assert by_hand("n-step", (HALF, HALF, 0.0), n_step=5) == [1 + (2 + 4 / 2) / 2, 2 + 4 / 2, 4]
    assert by_hand("n-step", mask=(True, True, False), n_step=5)[:2] == [1 + 10 / 2, 2 + 8]


def test_peng_by_hand():
    # G_2 = 4 + 32 / 2 = 20; G_1 = 2 + (3/4 16 + 1/4 20) / 2 = 10.5; G_0 = 1 + (3/4 8 + 1/4 10.5) / 2 = 5.3125
    assert by_hand("peng", lambda_=LAMBDA) == [5.3125, 10.5, 20]
    # Terminated: G_2 = 4, G_1 = 2 + (12 + 1) / 2 = 8.5, G_0 = 1 + (6 + 2.125) / 2
    assert by_hand("peng", (HALF, HALF, 0.0), lambda_=LAMBDA) == [5.0625, 8.5, 4]
    # Two real steps, truncated: G_1 = 2 + 16 / 2, G_0 = 1 + (6 + 2.5) / 2
    assert by_hand("peng", mask=(True, True, False), lambda_=LAMBDA)[:2] == [5.25, 10]
    # Two real steps, terminated: G_1 = 2, G_0 = 1 + (6 + 0.5) / 2
    assert by_hand("peng", (HALF, 0.0, HALF), mask=(True, True, False), lambda_=LAMBDA)[:2] == [4.25, 2]
    assert by_hand("peng", lambda_=0.0) == by_hand("n-step", n_step=1)
    assert by_hand("peng", lambda_=1.0) == by_hand("n-step", n_step=3)


def test_watkins_by_hand():
    # The action in s_2 is not greedy: G_1 = 2 + 16 / 2 = 10; that in s_1 is: G_0 = 1 + (3/4 8 + 1/4 10) / 2
    assert by_hand("watkins", lambda_=LAMBDA) == [5.25, 10, 20]
    assert by_hand("watkins", (HALF, 0.0, HALF), mask=(True, True, False), lambda_=LAMBDA)[:2] == [4.25, 2]
    # Greedy everywhere, it is Peng's.
    greedy = [[0.0, 9.0], [8.0, 3.0], [5.0, 16.0], [1.0, 32.0]]
    assert by_hand("watkins", q=greedy, lambda_=LAMBDA) == by_hand("peng", lambda_=LAMBDA) == [5.3125, 10.5, 20]


@pytest.mark.parametrize("method", ["n-step", "peng", "watkins"])
def test_rescaled_by_hand(method):
    # epsilon 0, one step: h^-1(2) = 8, so h(1 + 8 / 2) = sqrt(6) - 1; h^-1(3) = 15, h^-1(4) = 24
    q = [[0.0, 0.0], [2.0, 1.0], [3.0, 0.0], [0.0, 4.0]]
    found = by_hand(method, q=q, epsilon=0.0, lambda_=0.0, n_step=1)
    assert found == pytest.approx(
        [(1 + 1 + 8 / 2) ** 0.5 - 1, (1 + 2 + 15 / 2) ** 0.5 - 1, (1 + 4 + 24 / 2) ** 0.5 - 1]
    )


def slow_targets(r, discount, a, mask, q_target, q_online, method, n_step, lambda_, epsilon):
    """(B, T), one number after the other."""
    out = np.full(r.shape, np.nan)
    for b in range(len(r)):
        length = int(mask[b].sum())
        value = []
        for t in range(length + 1):
            best = int(np.argmax(q_online[b, t]))
            value.append(h_inverse(q_target[b, t, best], epsilon))
        for t in range(length):
            if method == "n-step":
                total, weight, k = 0.0, 1.0, t
                while k < length and k < t + n_step:
                    total += weight * r[b, k]
                    weight *= discount[b, k]
                    k += 1
                out[b, t] = h(total + weight * value[k], epsilon)
                continue
            # Forward view: the return of every length, weighted by how likely the trace gets there and no further.
            total, reached, k_return, weight = 0.0, 1.0, 0.0, 1.0
            for k in range(t, length):
                k_return += weight * r[b, k]
                weight *= discount[b, k]
                goes_on = 0.0
                if k + 1 < length:
                    goes_on = lambda_
                    if method == "watkins" and q_online[b, k + 1, a[b, k + 1]] < q_online[b, k + 1].max():
                        goes_on = 0.0
                total += reached * (1 - goes_on) * (k_return + weight * value[k + 1])
                reached *= goes_on
            out[b, t] = h(total, epsilon)
    return out


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("method", ["n-step", "peng", "watkins"])
def test_against_a_loop(method, double):
    rng = np.random.default_rng(0)
    batch, steps, actions = 12, 9, 3
    lengths = np.array([9, 9, 9, 9, 8, 7, 5, 4, 2, 1, 1, 9])
    mask = np.arange(steps) < lengths[:, None]
    discount = np.full((batch, steps), 0.97)
    for row in (0, 2, 4, 6, 8, 9):
        discount[row, lengths[row] - 1] = 0.0
    r = rng.normal(size=(batch, steps)) * 10
    a = rng.integers(actions, size=(batch, steps))
    q_target, q_online = rng.normal(size=(2, batch, steps + 1, actions)) * 20
    # What stands at padded steps must not matter.
    for array in (r, discount, q_target[:, 1:], q_online[:, 1:]):
        array[~mask] = 1e30
    # The state after a terminal step is there, but has no value.
    greedy = q_online if double else q_target
    a[::2] = greedy[::2, :-1].argmax(-1)
    options = {"method": method, "n_step": 4, "lambda_": 0.8, "epsilon": 1e-2}
    tensors = [torch.from_numpy(array) for array in (r, discount, a, mask, q_target)]
    found = sequence_targets(*tensors, torch.from_numpy(q_online) if double else None, **options)
    expected = slow_targets(r, discount, a, mask, q_target, q_online if double else q_target, **options)
    np.testing.assert_allclose(found.numpy()[mask], expected[mask], rtol=1e-10)
    # Any leading axes; float32 as in training.
    grouped = [tensor.view(3, 4, *tensor.shape[1:]) for tensor in tensors]
    online = torch.from_numpy(q_online).view(3, 4, steps + 1, actions) if double else None
    assert torch.equal(sequence_targets(*grouped, online, **options).view(batch, steps), found)
    single = [tensor.float() if tensor.is_floating_point() else tensor for tensor in tensors]
    found32 = sequence_targets(*single, torch.from_numpy(q_online).float() if double else None, **options)
    assert found32.dtype == torch.float32
    np.testing.assert_allclose(found32.numpy()[mask], expected[mask], rtol=2e-5, atol=1e-4)


def test_equally_good_actions_are_all_greedy_and_the_last_step_has_no_trace():
    q = torch.tensor([[9.0, 0.0], [2.0, 2.0], [2.0, 3.0], [0.0, 0.0]])
    found = watkins_lambda(q, torch.tensor([1, 1, 0]), 0.5)
    assert found.tolist() == [0.5, 0.0, 0.0]
    assert watkins_lambda(q[:2], torch.tensor([1]), 0.5).tolist() == [0.0]


def test_what_stands_at_padded_steps_may_even_be_nan():
    nan = float("nan")
    found = lambda_targets(
        torch.tensor([1.0, nan]), torch.tensor([0.5, nan]), torch.tensor([4.0, nan]), torch.tensor([True, False]), 0.8
    )
    assert found[0] == 3.0


def test_targets_carry_no_gradient():
    q = torch.randn(2, 4, 3, requires_grad=True)
    ones = torch.ones(2, 3)
    out = sequence_targets(ones, ones, ones.long(), ones.bool(), q, q)
    assert not out.requires_grad


def test_wrong_shapes_and_names_are_refused():
    ones, q = torch.ones(2, 3), torch.zeros(2, 4, 2)
    with pytest.raises(TypeCheckError):
        sequence_targets(ones, ones, ones.long(), ones.bool(), q[:, :3])
    with pytest.raises(TypeCheckError):
        lambda_targets(ones, ones[:, :2], ones, ones.bool(), 0.5)
    with pytest.raises(TypeCheckError, match="sarsa"):
        sequence_targets(ones, ones, ones.long(), ones.bool(), q, method="sarsa")
