"""h and its inverse, against the textbook's forms in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rarl.agents.value_rescaling import rescale, unrescale

EPSILONS = [0.0, 1e-3, 1e-2, 1.0]
values = st.floats(-1e9, 1e9, allow_subnormal=False)


def textbook(x, epsilon):
    return np.sign(x) * (np.sqrt(np.abs(x) + 1) - 1) + epsilon * x


def textbook_inverse(y, epsilon):
    root = (np.sqrt(1 + 4 * epsilon * (np.abs(y) + 1 + epsilon)) - 1) / (2 * epsilon)
    return np.sign(y) * (root**2 - 1)


def double(x):
    return torch.tensor(x, dtype=torch.float64)


def test_by_hand():
    # h(3) = sqrt(4) - 1 + 0.01 * 3, h(-8) = -(sqrt(9) - 1) - 0.01 * 8; with epsilon 0 h(99) = 10 - 1
    torch.testing.assert_close(rescale(double([3.0, -8.0, 0.0]), 0.01), double([1.03, -2.08, 0.0]))
    torch.testing.assert_close(unrescale(double([1.03, -2.08, 0.0]), 0.01), double([3.0, -8.0, 0.0]))
    torch.testing.assert_close(rescale(double([99.0, -99.0]), 0.0), double([9.0, -9.0]))
    torch.testing.assert_close(unrescale(double([9.0, -9.0]), 0.0), double([99.0, -99.0]))


def test_without_an_epsilon_nothing_is_rescaled():
    x = torch.tensor([-3.0, 0.5])
    assert rescale(x, None) is x
    assert unrescale(x, None) is x


@given(values, st.sampled_from(EPSILONS))
@settings(max_examples=200)
def test_the_inverse_is_the_inverse(x, epsilon):
    x = double(x)
    torch.testing.assert_close(unrescale(rescale(x, epsilon), epsilon), x, rtol=1e-13, atol=0)
    torch.testing.assert_close(rescale(unrescale(x, epsilon), epsilon), x, rtol=1e-13, atol=0)


@given(values, values, st.sampled_from(EPSILONS))
@settings(max_examples=200)
def test_both_are_odd_and_never_fall(x, y, epsilon):
    pair = torch.tensor(sorted([x, y]), dtype=torch.float32)
    for function in (rescale, unrescale):
        out = function(pair, epsilon)
        assert out[0] <= out[1]
        assert torch.equal(function(-pair, epsilon), -out)


@pytest.mark.parametrize("epsilon", EPSILONS[1:])
def test_float32_keeps_its_digits(epsilon):
    x = np.concatenate([sign * np.geomspace(1e-6, 1e7, 2000) for sign in (1, -1)]).astype(np.float32)
    for function, reference, least in ((rescale, textbook, 1e-3), (unrescale, textbook_inverse, 1e-3)):
        found = function(torch.from_numpy(x), epsilon)
        assert found.dtype == torch.float32
        # float64 itself loses digits in the textbook's forms near 0, so there its own stable form is the reference.
        exact = function(torch.from_numpy(x.astype(np.float64)), epsilon).numpy()
        large = np.abs(x) > least
        np.testing.assert_allclose(exact[large], reference(x.astype(np.float64), epsilon)[large], rtol=1e-8)
        np.testing.assert_allclose(found.numpy(), exact, rtol=1e-6)
    # What the textbook's inverse makes of the same numbers in float32.
    one = rescale(torch.ones(1), 1e-3)
    naive = (((1 + 4 * 1e-3 * (one + 1 + 1e-3)).sqrt() - 1) / (2 * 1e-3)) ** 2 - 1
    assert abs(naive.item() - 1) > 1e-5
    assert abs(unrescale(one, 1e-3).item() - 1) < 3e-7


def test_the_slope_at_zero_is_finite():
    x = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    rescale(x, 0.25).sum().backward()
    torch.testing.assert_close(x.grad, double([0.75]))  # 1/2 + epsilon
    assert torch.isfinite(unrescale(torch.zeros(1))).all()
