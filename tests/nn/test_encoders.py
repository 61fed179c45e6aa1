"""What the encoders see of an observation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from rarl.envs.gridroboman.encoders import MLPEncoder, RelationalEncoder, relational_features
from rarl.envs.gridroboman.planner import planner_episodes
from rarl.envs.gridroboman.tasks import TASKS
from rarl.envs.spec import load, spec_of

D_S = 8
THINGS = ("robot", "red", "green", "blue")
PAIRS = [(a, b) for i, a in enumerate(THINGS) for b in THINGS[i + 1 :]]


def literal_features(observation):
    """The active one-hot features of an observation, each as (group, value), from the encoder's description."""
    numbers = [int(n) for n in observation]
    place = {"robot": numbers[0:2], "red": numbers[2:4], "green": numbers[5:7], "blue": numbers[8:10]}
    status = {"red": numbers[4], "green": numbers[7], "blue": numbers[10]}
    features = []
    for thing in THINGS:
        x, y = place[thing]
        features += [((thing, "cell"), (x, y)), ((thing, "x"), x), ((thing, "y"), y)]
    for a, b in PAIRS:
        dx, dy = place[a][0] - place[b][0], place[a][1] - place[b][1]
        features += [((a, b, "offset"), (dx, dy)), ((a, b, "dx"), dx), ((a, b, "dy"), dy)]
    features.append((("statuses",), tuple(status.values())))
    features += [((colour, "status"), value) for colour, value in status.items()]
    return features


GROUP_SIZES = {
    **{(thing, kind): n for thing in THINGS for kind, n in (("cell", 49), ("x", 7), ("y", 7))},
    **{(*pair, kind): n for pair in PAIRS for kind, n in (("offset", 169), ("dx", 13), ("dy", 13))},
    ("statuses",): 27,
    **{(colour, "status"): 3 for colour in THINGS[1:]},
}


def ids_of(observations):
    matrix, bias, _ = relational_features()
    ids = torch.as_tensor(observations).float() @ matrix + bias
    assert torch.equal(ids, ids.round())
    return ids.long()


@pytest.fixture(scope="module")
def legal_observations():
    """(n, 11): what comes up in four noisy episodes of every task, stacks and corners included."""
    rng = np.random.default_rng(0)
    episodes = [planner_episodes(task, 4, rng, np.array([25], dtype=np.int8))[0] for task in TASKS]
    found = np.concatenate(episodes).reshape(-1, 11)
    assert len(found) > 6000
    assert all(set(found[:, status]) == {-1, 0, 1} for status in (4, 7, 10))
    return found


def test_ids_of_a_board_by_hand():
    """Robot in (1, 2); red (3, 4) on the board; green (0, 6) under blue."""
    observation = np.array([1, 2, 3, 4, 0, 0, 6, -1, 0, 6, 1], dtype=np.int8)
    ids = ids_of(observation).tolist()
    sizes = list(GROUP_SIZES.values())
    starts = np.concatenate([[0], np.cumsum(sizes)])
    assert len(ids) == len(sizes) == 34
    assert relational_features()[2] == starts[-1] == 4 * 63 + 6 * 195 + 27 + 9
    value_in_group = [i - s for i, s in zip(ids, starts[:-1], strict=True)]
    assert value_in_group[:12] == [1 * 7 + 2, 1, 2, 3 * 7 + 4, 3, 4, 0 * 7 + 6, 0, 6, 0 * 7 + 6, 0, 6]
    # Robot minus red is (-2, -2): 4 of -6..6 in each direction.
    assert value_in_group[12:15] == [4 * 13 + 4, 4, 4]
    # Robot minus green, robot minus blue: (1, -4).
    assert value_in_group[15:18] == value_in_group[18:21] == [7 * 13 + 2, 7, 2]
    # Red minus green, red minus blue: (3, -2); green minus blue: (0, 0).
    assert value_in_group[21:24] == value_in_group[24:27] == [9 * 13 + 4, 9, 4]
    assert value_in_group[27:30] == [6 * 13 + 6, 6, 6]
    # Statuses 0, -1, 1, read as digits 1, 0, 2 in base three, first the ones.
    assert value_in_group[30:] == [1 + 0 * 3 + 2 * 9, 1, 0, 2]


@pytest.mark.parametrize(
    "observation",
    [
        [0, 0, 0, 0, -1, 0, 0, -1, 0, 0, -1],
        [6, 6, 6, 6, 1, 6, 6, 1, 6, 6, 1],
        [0, 6, 6, 0, 1, 0, 0, 0, 6, 6, -1],
        [6, 0, 0, 6, -1, 6, 6, 0, 0, 0, 1],
    ],
)
def test_extreme_boards_stay_in_their_groups(observation):
    ids = ids_of(np.array([observation], dtype=np.int8))[0].numpy()
    starts = np.concatenate([[0], np.cumsum(list(GROUP_SIZES.values()))])
    assert (ids >= starts[:-1]).all()
    assert (ids < starts[1:]).all()


def test_each_group_is_one_hot_on_thousands_of_boards(legal_observations):
    """One id per group, inside the group; ids of a group are equal exactly where the group's value is."""
    ids = ids_of(legal_observations).numpy()
    starts = np.concatenate([[0], np.cumsum(list(GROUP_SIZES.values()))])
    assert ids.shape[1] == len(GROUP_SIZES)
    assert (ids >= starts[:-1]).all()
    assert (ids < starts[1:]).all()
    value_of_id, id_of_value = {}, {}
    for observation, row in zip(legal_observations, ids, strict=True):
        for (group, value), number in zip(literal_features(observation), row.tolist(), strict=True):
            assert value_of_id.setdefault(number, (group, value)) == (group, value)
            assert id_of_value.setdefault((group, value), number) == number
    # Values that came up are told apart, and most did come up.
    assert len(value_of_id) == len(id_of_value) > 1000
    assert [group for group, _ in literal_features(legal_observations[0])] == list(GROUP_SIZES)


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int64, torch.float32])
def test_any_number_type_and_any_leading_axes(dtype):
    encoder = RelationalEncoder(D_S)
    x = torch.tensor([[1, 2, 3, 4, 0, 0, 6, 0, 5, 5, 1], [6, 6, 6, 6, 1, 0, 0, 0, 1, 0, 0]])
    flat = encoder(x)
    torch.testing.assert_close(encoder(x.to(dtype)), flat)
    deep = encoder(x.to(dtype).expand(3, 5, 2, 11))
    assert deep.shape == (3, 5, 2, D_S)
    torch.testing.assert_close(deep[1, 2], flat)
    assert encoder(x[0].to(dtype)).shape == (D_S,)


def test_the_gradient_of_the_sum_of_rows_is_torchs(legal_observations):
    torch.manual_seed(0)
    encoder = RelationalEncoder(D_S).double()
    encoder.matrix, encoder.bias = encoder.matrix.double(), encoder.bias.double()
    x = torch.from_numpy(legal_observations[::40])
    ids = ids_of(x)
    direction = torch.randn(len(x), D_S, dtype=torch.float64)
    out = encoder(x)
    (gradient,) = torch.autograd.grad((out * direction).sum(), encoder.table)

    table = encoder.table.detach().clone().requires_grad_()
    expected_out = F.layer_norm(F.embedding_bag(ids, table, mode="sum"), (D_S,), encoder.norm.weight, encoder.norm.bias)
    (expected,) = torch.autograd.grad((expected_out * direction).sum(), table)
    torch.testing.assert_close(out, expected_out)
    torch.testing.assert_close(gradient, expected)
    unused = torch.ones(len(table), dtype=torch.bool)
    unused[ids.flatten()] = False
    assert unused.any()
    assert (gradient[unused] == 0).all()
    assert (gradient[~unused] != 0).any(-1).all()
    # The same with an ordinary sum over one-hot vectors.
    one_hot = F.one_hot(ids, len(table)).sum(1).double()
    norm = F.layer_norm(one_hot @ table, (D_S,), encoder.norm.weight, encoder.norm.bias)
    torch.testing.assert_close(torch.autograd.grad((norm * direction).sum(), table)[0], gradient)


def test_the_gradient_of_the_sum_of_rows_agrees_with_finite_differences(legal_observations):
    torch.manual_seed(0)
    encoder = RelationalEncoder(3).double()
    x = torch.from_numpy(legal_observations[::900])[None]

    def function(table):
        return torch.func.functional_call(encoder, {"table": table}, (x,))

    assert torch.autograd.gradcheck(function, (encoder.table.detach().clone().requires_grad_(),), fast_mode=True)


def test_repeated_boards_and_single_boards_have_their_share_of_the_gradient():
    torch.manual_seed(0)
    encoder = RelationalEncoder(D_S).double()
    x = torch.tensor([[1, 2, 3, 4, 0, 0, 6, 0, 5, 5, 1]], dtype=torch.int8)

    def gradient(x):
        out = encoder(x)
        return torch.autograd.grad((out * torch.arange(D_S)).sum(), encoder.table)[0]

    torch.testing.assert_close(gradient(x.expand(7, 11)), 7 * gradient(x))
    torch.testing.assert_close(gradient(x.expand(2, 3, 11)), 6 * gradient(x[0]))


@pytest.mark.parametrize("name", ["relational", "mlp"])
def test_task_told_and_hidden(name, legal_observations):
    torch.manual_seed(0)
    x = torch.from_numpy(legal_observations[:6])
    first, second = torch.zeros(6, dtype=torch.int64), torch.full((6,), 2)
    hidden = load(spec_of("gridroboman").encoders[name])(D_S, 0)
    assert torch.equal(hidden(x, first), hidden(x, second))
    assert torch.equal(hidden(x, first), hidden(x))
    told = load(spec_of("gridroboman").encoders[name])(D_S, 3)
    assert (told(x, first) != told(x, second)).any(-1).all()
    told(x, first).square().sum().backward()
    (embedding,) = [p for name, p in told.named_parameters() if name.startswith("task")]
    assert (embedding.grad[1:] == 0).all()
    told_parameters = sum(p.numel() for p in told.parameters())
    assert told_parameters - sum(p.numel() for p in hidden.parameters()) == 3 * D_S


def test_the_mlp_is_the_papers():
    """Two layers on the 11 numbers, brought to about 1; the state is normalised and linear."""
    torch.manual_seed(0)
    encoder = MLPEncoder(D_S)
    x = torch.tensor([[1, 2, 3, 4, 0, 0, 6, -1, 0, 6, 1]], dtype=torch.int8)
    layers = [p.detach() for p in encoder.parameters() if p.ndim == 2]
    assert [tuple(layer.shape) for layer in layers] == [(D_S, 11), (D_S, D_S)]
    first, second = encoder.first, encoder.second
    hidden = torch.relu(first.weight @ (x[0].float() / 6) + first.bias)
    torch.testing.assert_close(encoder(x)[0], F.layer_norm(second.weight @ hidden + second.bias, (D_S,)))
    out = encoder(x.expand(2, 4, 11))
    assert out.shape == (2, 4, D_S)
    assert (out < 0).any()  # no activation at the end


@pytest.mark.parametrize("name", ["relational", "mlp"])
def test_states_are_normalised_from_the_start(name, legal_observations):
    torch.manual_seed(0)
    s = load(spec_of("gridroboman").encoders[name])(64)(torch.from_numpy(legal_observations[:200]))
    torch.testing.assert_close(s.mean(-1), torch.zeros(200), atol=1e-5, rtol=0)
    torch.testing.assert_close(s.var(-1, correction=0), torch.ones(200), atol=1e-3, rtol=0)
    different = np.unique(legal_observations[:200], axis=0)
    assert torch.pdist(load(spec_of("gridroboman").encoders[name])(64)(torch.from_numpy(different))).min() > 0.01
