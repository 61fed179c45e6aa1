"""Priorities of sequences and exploration of actors, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rarl.agents.priorities import actor_epsilons, sequence_priorities
from rarl.errors import RarlError


def test_priorities_mix_maximum_and_mean_of_what_is_learned():
    td = torch.tensor([[-3.0, 1.0, 2.0, 50.0], [0.5, float("nan"), 7.0, -7.0]])
    learn = torch.tensor([[True, True, True, False], [True, False, False, False]])
    found = sequence_priorities(td, learn)
    torch.testing.assert_close(found, torch.tensor([0.9 * 3 + 0.1 * 2, 0.5]))
    torch.testing.assert_close(sequence_priorities(td, learn, eta=1.0), torch.tensor([3.0, 0.5]))
    assert sequence_priorities(td[:1], torch.zeros(1, 4, dtype=torch.bool)).tolist() == [0.0]


def test_priorities_carry_no_gradient():
    td = torch.ones(2, 3, requires_grad=True)
    assert not sequence_priorities(td, torch.ones(2, 3, dtype=torch.bool)).requires_grad


def test_epsilons_of_actors():
    found = actor_epsilons(8)
    np.testing.assert_allclose(found, [0.4**k for k in (1, 2, 3, 4, 5, 6, 7, 8)])
    np.testing.assert_allclose(actor_epsilons(256)[[0, 255]], [0.4, 0.4**8])
    np.testing.assert_allclose(actor_epsilons(1), [0.4**4.5])
    with pytest.raises(RarlError, match="actors=0"):
        actor_epsilons(0)
