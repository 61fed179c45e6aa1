"""Wrong arguments of networks are named where they are given."""

from __future__ import annotations

import pytest
import torch

from rarl.config.fit import with_options
from rarl.envs.spec import spec_of
from rarl.errors import RarlError
from rarl.nn.masking import MaskedTokens
from rarl.nn.retrieval import DirectRetrieval, Retriever, SlotAttention, SlotRetrieval, select

READING = {"d_s": 6, "n_actions": 0, "d_e": 4, "d_h": 8, "d_v": 4, "k_traj": 2, "k_states": 3, "summariser": "gru",
           "standardise": False}  # fmt: skip
SLOTS = {"n_f": 2, "d_m": 8, "slot_heads": 2}


@pytest.mark.unchecked
@pytest.mark.parametrize("name", ["k_traj", "k_states", "d_e", "d_h", "d_v", "d_s"])
@pytest.mark.parametrize("value", [0, -1, 1.5])
def test_sizes_are_at_least_one(name, value):
    for build, arguments in ((SlotRetrieval, READING | SLOTS), (DirectRetrieval, READING)):
        with pytest.raises(ValueError, match=f"{name}={value}: must be a whole number of at least 1"):
            build(**arguments | {name: value})


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"d_m": 9}, "d_m=9: must be a multiple of slot_heads=2"),
        ({"slot_heads": 0}, "slot_heads=0: must be a whole number"),
        ({"n_f": 0}, "n_f=0: must be a whole number"),
        ({"summariser": "gruu"}, r"summariser='gruu': unknown; did you mean 'gru'\?"),
        ({"summariser": None}, "summariser=None: unknown; known: 'gru', 'decay'"),
        ({"summariser": "decay", "d_h": 6}, "d_h=6: must be a multiple of the 4 decays"),
    ],
)
def test_what_slots_cannot_be_is_named(changes, expected):
    with pytest.raises(ValueError, match=expected):
        SlotRetrieval(**READING | SLOTS | changes)


def test_no_k_traj_keeps_all():
    assert SlotRetrieval(**READING | SLOTS | {"k_traj": None}).k_traj is None


def test_heads_divide_the_width():
    with pytest.raises(ValueError, match="d_m=10: must be a multiple of heads=4"):
        SlotAttention(10, 4)


def test_nothing_is_selected_by_zero():
    for name in ("k_traj", "k_states"):
        with pytest.raises(ValueError, match=f"{name}=0: must be"):
            select(torch.zeros(2, 6), 3, **{"k_traj": 2, "k_states": 2} | {name: 0})


def test_a_network_names_what_it_does_not_know():
    with pytest.raises(ValueError, match="summariser='lstm': unknown; known: 'gru', 'decay'"):
        MaskedTokens(6, 8, 4, "lstm")
    with pytest.raises(RarlError, match=r"here: agent.encoder = 'relation' does not .*; did you mean 'relational'"):
        with_options(spec_of("gridroboman"), {"agent": {"encoder": "relation"}}, "here")
    with pytest.raises(ValueError, match="fusion='flim': unknown; did you mean 'film'"):
        Retriever(8, DirectRetrieval(**READING), fusion="flim")


@pytest.mark.unchecked
@pytest.mark.parametrize("summariser", ["gru", "decay"])
def test_padding_comes_last(summariser):
    process = SlotRetrieval(**READING | SLOTS | {"summariser": summariser})
    s, a, r = torch.randn(1, 2, 4, 6), torch.zeros(1, 2, 4, dtype=torch.int64), torch.zeros(1, 2, 4)
    right = torch.tensor([[[True, True, False, False], [True, True, True, True]]])
    assert process.summarise(s, a, r, right).mask is not None
    for row in ([False, False, True, True], [True, False, True, False]):
        mask = right.clone()
        mask[0, 1] = torch.tensor(row)
        with pytest.raises(ValueError, match="mask: padding must come last"):
            process.summarise(s, a, r, mask)
    for mask in (right.float(), right[:, :1], right[..., :3]):
        with pytest.raises(ValueError, match=r"mask: must be bool of shape \(1, 2, 4\), not"):
            process.summarise(s, a, r, mask)
