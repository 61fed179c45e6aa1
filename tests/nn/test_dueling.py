"""The dueling head, and that networks without it are what they were."""

from __future__ import annotations

import pytest
import torch

from rarl.envs.gridroboman.encoders import MLPEncoder
from rarl.nn.value_network import QHead, ValueNetwork

D_S, ACTIONS, D_M, D_E = 12, 5, 6, 4


def head_of(d_m, dueling, seed=0):
    torch.manual_seed(seed)
    return QHead(D_S, ACTIONS, d_m, D_E if d_m else 0, dueling).double()


@pytest.mark.parametrize("d_m", [0, D_M])
def test_values_by_their_definition(d_m):
    head = head_of(d_m, dueling=True)
    s = torch.randn(3, 4, D_S, dtype=torch.float64)
    z = torch.randn(3, 4, 2, D_M, dtype=torch.float64) if d_m else None
    q = head(s, z)
    relu = torch.relu
    hidden, state_hidden = head.hidden(relu(s)), head.state_hidden(relu(s))
    if d_m:
        read = head.value(head.readout(hidden, z))
        hidden, state_hidden = hidden + read, state_hidden + read
    advantage, value = head.q(relu(hidden)), head.state_value(relu(state_hidden))
    torch.testing.assert_close(q, value + advantage - advantage.mean(-1, keepdim=True))
    torch.testing.assert_close(q.mean(-1, keepdim=True), value)
    q.square().sum().backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad.abs().max() > 0 or name == "q.bias", name
    if d_m:
        assert (head(s, z + 1) != q).any()


@pytest.mark.parametrize("d_m", [0, D_M])
def test_all_other_parameters_are_initialised_alike(d_m):
    plain, dueling = (head_of(d_m, dueling).state_dict() for dueling in (False, True))
    assert not any(key.startswith("state_") for key in plain)
    assert dueling.keys() - plain.keys() == {
        f"state_{layer}.{part}" for layer in ("hidden", "value") for part in ("weight", "bias")
    }
    for key, value in plain.items():
        assert torch.equal(value, dueling[key]), key


@pytest.mark.parametrize("recurrent", [False, True])
def test_networks_are_plain_unless_asked(recurrent):
    """The default draws from the global generator what it always drew."""

    def made(**options):
        torch.manual_seed(3)
        made = ValueNetwork(MLPEncoder(D_S, 2), D_S, ACTIONS, recurrent=recurrent, **options)
        return made.state_dict(), torch.rand(3)

    (default, next_default), (plain, next_plain) = made(), made(dueling=False)
    assert default.keys() == plain.keys()
    assert torch.equal(next_default, next_plain)
    head = [key for key in default if key.startswith("head.")]
    assert head == ["head.hidden.weight", "head.hidden.bias", "head.q.weight", "head.q.bias"]
    dueling, _ = made(dueling=True)
    before_core = [key for key in default if not key.startswith("core.")]
    assert all(torch.equal(default[key], dueling[key]) for key in before_core)
