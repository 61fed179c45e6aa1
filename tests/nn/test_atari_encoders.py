"""What the Atari encoders consist of, what reaches them, and how they fit the networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from rarl.envs.atari import encoders
from rarl.envs.atari.encoders import ResNet47, Tiny, tiny
from rarl.envs.atari.observation import EXTRA_BYTES, pack, packed_size
from rarl.envs.spec import load, spec_of
from rarl.nn.value_network import ValueNetwork

ACTIONS = 18
STACKS = {"resnet47": 1, "nature": 4, "impala-small": 2, "tiny": 1}
NAMES = tuple(spec_of("atari").encoders)


def encoder_of(name, d_s=16, seed=0, **options):
    torch.manual_seed(seed)
    return load(spec_of("atari").encoders[name])(d_s, 0, **({"n_actions": ACTIONS, "stack": STACKS[name]} | options))


def x_of(*shape, stack, seed=0):
    rng = np.random.default_rng(seed)
    frames = rng.integers(256, size=(*shape, stack, 84, 84)).astype(np.uint8)
    return torch.from_numpy(pack(frames, rng.integers(ACTIONS, size=shape), rng.normal(0, 10, shape)))


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def weights_and_biases(*layers):
    """Of convolutions, as (channels in, channels out, side of the kernel)."""
    return sum(before * after * side**2 + after for before, after, side in layers)


def test_they_are_in_the_table():
    assert set(NAMES) == {"resnet47", "nature", "impala-small", "tiny"}


def test_the_paper_counts_47_layers():
    """Four first convolutions of a group, three in each of 2 + 4 + 6 + 2 blocks, and the linear layer of 512 units."""
    encoder = encoder_of("resnet47", d_s=512)
    convolutions = [m for m in encoder.trunk.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 4 + 3 * (2 + 4 + 6 + 2) == 46
    assert encoder.out.out_features == 512
    strided = [(m.in_channels, m.out_channels) for m in convolutions if m.stride == (2, 2)]
    assert strided == [(1, 64), (64, 128), (128, 256), (256, 512)]
    inner = [m.in_channels for m in convolutions if m.kernel_size == (3, 3) and m.stride == (1, 1)]
    assert inner == [16] * 2 + [32] * 4 + [64] * 6 + [128] * 2
    norms = [(m.num_channels, m.num_channels // m.num_groups) for m in encoder.modules() if isinstance(m, nn.GroupNorm)]
    assert norms == [(64, 8), (128, 8), (256, 8), (512, 8)]
    sizes, frames = [], torch.zeros(1, 1, 84, 84)
    for layer in encoder.trunk:
        frames = layer(frames)
        sizes += [frames.shape[-1]] if isinstance(layer, nn.GroupNorm) else []
    assert sizes == [42, 21, 11, 6]


def expected_parameters(name, d_s):
    """By hand: of the trunk, and of everything."""
    if name == "resnet47":
        layers, features, norms = [], 512 * 36, 2 * (64 + 128 + 256 + 512)
        for before, channels, inner, blocks in (
            (1, 64, 16, 2),
            (64, 128, 32, 4),
            (128, 256, 64, 6),
            (256, 512, 128, 2),
        ):
            layers += [(before, channels, 3)]
            layers += [(channels, inner, 1), (inner, inner, 3), (inner, channels, 1)] * blocks
        trunk = weights_and_biases(*layers) + norms
    elif name == "nature":
        trunk, features = weights_and_biases((4, 32, 8), (32, 64, 4), (64, 64, 3)), 3136
    elif name == "impala-small":
        layers = []
        for before, channels in ((2, 16), (16, 32), (32, 32)):
            layers += [(before, channels, 3)] + [(channels, channels, 3)] * 4
        trunk, features = weights_and_biases(*layers), 3872
    else:
        trunk, features = weights_and_biases((1, 8, 8), (8, 16, 4)), 1296
    return trunk, trunk + features * d_s + d_s + (ACTIONS + 1) * d_s + 2 * d_s


@pytest.mark.parametrize(
    ("name", "trunk", "total"),
    [
        ("resnet47", 2_609_728, 12_058_176),
        ("nature", 77_984, 1_694_880),
        ("impala-small", 97_456, 2_091_184),
        ("tiny", 2_584, 677_400),
    ],
)
def test_parameters(name, trunk, total):
    encoder = encoder_of(name, d_s=512)
    print(name, parameters(encoder.trunk), parameters(encoder))
    assert (parameters(encoder.trunk), parameters(encoder)) == expected_parameters(name, 512) == (trunk, total)


@pytest.mark.parametrize("name", NAMES)
def test_shapes_gradients_and_evaluation(name):
    encoder, stack = encoder_of(name), STACKS[name]
    x = x_of(2, 3, stack=stack)
    s = encoder(x, torch.zeros(2, 1, 1, dtype=torch.int64))
    assert s.shape == (2, 3, 16)
    torch.testing.assert_close(encoder(x[1, 2]), s[1, 2], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(s.mean(-1), torch.zeros(2, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(s.var(-1, correction=0), torch.ones(2, 3), atol=1e-2, rtol=0)
    assert torch.pdist(s.flatten(0, 1)).min() > 1e-3
    (s * torch.linspace(-1, 1, 16)).square().sum().backward()
    for parameter_name, parameter in encoder.named_parameters():
        used = parameter.grad.flatten(1).ne(0).any(1) if parameter.ndim > 1 else parameter.grad.ne(0)
        assert used.float().mean() > 0.4, parameter_name  # a few channels may be dead on six random pictures
    encoder.eval()
    assert torch.equal(encoder(x), s)


def test_all_of_x_counts_and_grey_values_are_divided_by_255():
    encoder = encoder_of("tiny", stack=2)
    x = x_of(3, stack=2)
    s = encoder(x)
    for byte in (0, 7056 + 17, packed_size(2) - EXTRA_BYTES, packed_size(2) - 1):
        changed = x.clone()
        changed[:, byte] = changed[:, byte] ^ 1
        assert (encoder(changed) != s).any(-1).all(), byte
    frames = x[:, :-EXTRA_BYTES].view(3, 2, 84, 84).double() / 255
    encoder.double()
    actions, rewards = x[:, -EXTRA_BYTES].long(), x[:, -4:].contiguous().view(torch.float32)[:, 0].double()
    extra = encoder.extra.weight.T[actions] + torch.outer(
        rewards.sign() * (1 + rewards.abs()).log(), encoder.extra.weight[:, -1]
    )
    expected = F.layer_norm(encoder.out(encoder.trunk(frames).flatten(1)) + extra, (16,))
    # The reward is squashed in float32.
    torch.testing.assert_close(encoder(x), expected, atol=1e-6, rtol=1e-5)


def test_bottlenecks_start_near_the_identity_and_add_up():
    torch.manual_seed(0)
    group = nn.Sequential(*(encoders.Bottleneck(64, 16, 6**-0.5) for _ in range(6)))
    x = torch.randn(4, 64, 11, 11)
    ratio = group(x).std() / x.std()
    assert 1 < ratio < 1.5
    block = group[0]
    inner = torch.relu(block.look(torch.relu(block.narrow(torch.relu(x)))))
    torch.testing.assert_close(block(x), x + block.widen(inner))


@pytest.mark.parametrize("name", ["tiny", "resnet47"])
def test_recomputing_changes_memory_but_no_gradient(name):
    plain, recomputing = (encoder_of(name, recompute=recompute).double() for recompute in (0, 2))
    x = x_of(5, stack=STACKS[name])
    sizes = []
    recomputing.trunk.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    for encoder in (plain, recomputing):
        encoder(x).pow(3).sum().backward()
    assert sizes[:3] == [2, 2, 1]
    assert sorted(sizes[3:]) == [1, 2, 2]  # again, on the way back
    for one, other in zip(plain.parameters(), recomputing.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_many_frames_without_gradients_come_in_parts(monkeypatch):
    monkeypatch.setattr(encoders, "_AT_ONCE", 4)
    encoder, sizes = encoder_of("tiny"), []
    x = x_of(2, 5, stack=1)
    expected = encoder(x)
    encoder.trunk.register_forward_hook(lambda module, args, out: sizes.append(len(out)))
    with torch.no_grad():
        torch.testing.assert_close(encoder(x), expected)
    assert sizes == [4, 4, 2]


def test_trunks_are_what_they_are_called():
    assert isinstance(encoder_of("resnet47").trunk, ResNet47)
    assert isinstance(encoder_of("tiny").trunk, Tiny)


@pytest.mark.parametrize("dueling", [False, True])
def test_in_a_recurrent_network(dueling):
    """Steps one by one and as a sequence; in batches and without."""
    torch.manual_seed(0)
    options = {"n_actions": ACTIONS, "stack": 1}
    network = ValueNetwork(tiny(16, **options), 16, ACTIONS, dueling=dueling, recurrent=True).double()
    x, told = x_of(1, 3, 4, stack=1), torch.zeros(1, 3, 1, 1, dtype=torch.int64)
    whole = network.unroll(x, told, network.initial_state(1, 3))
    assert whole.q.shape == (1, 3, 4, ACTIONS)
    state, qs = network.initial_state(1, 3), []
    for t in range(4):
        step = network.unroll(x[:, :, t : t + 1], told, state)
        state = step.state
        qs.append(step.q)
    torch.testing.assert_close(torch.cat(qs, 2), whole.q)
    plain = ValueNetwork(tiny(16, **options), 16, ACTIONS, dueling=dueling)
    q, _ = plain(x[:, :, 0], torch.zeros(1, 3, dtype=torch.int64))
    assert q.shape == (1, 3, ACTIONS)
