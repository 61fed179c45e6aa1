"""Tokens of observations: how observations are read and compared, and that the codes are put to use."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch

from rarl.envs.atari.observation import pack
from rarl.envs.babyai.view import CODES, decode
from rarl.envs.spec import load, spec_of
from rarl.nn.vq_vae import VQVAE, ObservationReader


def reading_of(environment) -> ObservationReader:
    return load(spec_of(environment).tokens)


def boards(n, seed=0):
    """Any numbers that can stand in an observation of Gridroboman."""
    rng = np.random.default_rng(seed)
    x = rng.integers(7, size=(n, 11))
    x[:, 4::3] = rng.integers(-1, 2, size=(n, 3))
    return torch.from_numpy(x.astype(np.int8))


# -------------------------------------------------------------------------------------------------------------- reading


def test_a_board_is_read_as_coordinates_and_statuses():
    x = torch.tensor([[0, 6, 1, 2, 0, 3, 4, -1, 5, 6, 1]], dtype=torch.int8)
    read = reading_of("gridroboman")(x)
    assert read.shape == (1, 8 * 7 + 3 * 3)
    assert read.dtype == torch.float32
    assert read.sum() == 11
    assert read[0, :56].view(8, 7).argmax(1).tolist() == [0, 6, 1, 2, 3, 4, 5, 6]
    assert read[0, 56:].view(3, 3).argmax(1).tolist() == [1, 0, 2]


def test_a_view_is_read_as_minigrid_gives_it():
    codes = np.random.default_rng(0).integers(CODES, size=(5, 49)).astype(np.uint8)
    x = torch.from_numpy(np.concatenate([codes, np.full((5, 1), 3, np.uint8)], axis=1))  # and the compass
    read = reading_of("babyai")(x)
    assert read.shape == (5, 49 * (11 + 6 + 3))
    assert (read.sum(1) == 3 * 49).all()
    parts = read.split([49 * 11, 49 * 6, 49 * 3], 1)
    image = np.stack([part.view(5, 49, -1).argmax(-1).numpy() for part in parts], axis=-1)
    assert (image == decode(codes).reshape(5, 49, 3)).all()


def test_a_screen_is_read_as_means_of_its_newest_frame():
    """Of blocks of 4 x 4 pixels, less what they are in all frames on average, in standard deviations."""
    frames = np.random.default_rng(0).integers(256, size=(3, 4, 84, 84), dtype=np.uint8)
    x = torch.from_numpy(pack(frames, np.zeros(3), np.zeros(3)))
    read = reading_of("atari")(x)
    assert read.shape == (3, 21 * 21)
    blocks = np.zeros((3, 21, 21))
    for row in range(21):
        for column in range(21):
            blocks[:, row, column] = frames[:, -1, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4].mean((1, 2))
    blocks = (blocks - blocks.mean(0)) / 255
    np.testing.assert_allclose(read, (blocks / blocks.std()).reshape(3, -1), atol=1e-3)
    # What never changes is nothing, and no division by zero.
    assert not reading_of("atari")(x[:1].repeat(4, 1)).any()


def test_symbols_compared_by_hand():
    """All logits 0 but one: ln 7 for the coordinates and ln 3 for the statuses, of which one is told."""
    reading, x = reading_of("gridroboman"), boards(2)
    read = reading(x)
    decoded = torch.zeros_like(read)
    decoded[0, 56:59] = 2 * read[0, 56:59]
    loss, error = reading.compare(decoded, read)
    told = -math.log(math.exp(2) / (math.exp(2) + 2))
    assert loss.item() == pytest.approx((16 * math.log(7) + 5 * math.log(3) + told) / 22, rel=1e-6)
    loss, error = reading.compare(100 * read, read)
    assert (loss.item(), error.item()) == (0.0, 0.0)
    said = read.clone()
    said[1, :7] = said[1, :7].roll(1)  # one of 22 numbers
    assert reading.compare(said, read)[1].item() == pytest.approx(1 / 22)


def test_screens_compared_by_hand():
    """All is unexplained by nothing, and a quarter where half of each deviation is."""
    read = reading_of("atari")(torch.from_numpy(np.random.default_rng(0).integers(256, size=(9, 7061), dtype=np.uint8)))
    for said, expected in ((0 * read, 1.0), (0.5 * read, 0.25), (read, 0.0)):
        loss, error = reading_of("atari").compare(said, read)
        assert loss.item() == error.item() == pytest.approx(expected, abs=1e-3)


# --------------------------------------------------------------------------------------------------------------- codes


def trained(model, x, updates, rate=0.01):
    optimiser = torch.optim.Adam(model.parameters(), rate)
    for _ in range(updates):
        coded = model(x)
        optimiser.zero_grad()
        coded.loss.backward()
        optimiser.step()
    return coded


@pytest.mark.parametrize("environment", ["gridroboman", "babyai", "atari"])
def test_a_few_observations_are_told_apart(environment):
    """Six of them, eight times each: each has a token of its own and is reconstructed."""
    rng = np.random.default_rng(1)
    some = {
        "gridroboman": lambda: boards(6, seed=1),
        "babyai": lambda: torch.from_numpy(rng.integers(CODES, size=(6, 50)).astype(np.uint8)),
        "atari": lambda: torch.from_numpy(
            pack(rng.integers(256, size=(6, 1, 1, 84), dtype=np.uint8).repeat(84, 2), np.zeros(6), np.zeros(6))
        ),
    }[environment]()
    torch.manual_seed(0)
    model = VQVAE(reading_of(environment), tokens=12, d_token=4, width=32)
    before = model(some.repeat(8, 1))
    after = trained(model, some.repeat(8, 1), 150)
    assert after.tokens.shape == (48,)
    assert after.perplexity.item() == pytest.approx(6, rel=1e-4)
    assert len(set(after.tokens.tolist())) == 6
    assert (after.tokens.view(8, 6) == after.tokens[:6]).all()
    assert after.loss < before.loss / 5
    assert after.error < before.error / 10


def test_perplexity_counts_the_codes_in_use():
    torch.manual_seed(0)
    coded = VQVAE(reading_of("gridroboman"), tokens=16, d_token=4)(boards(200))
    share = np.bincount(coded.tokens.numpy(), minlength=16) / 200
    assert coded.perplexity.item() == pytest.approx(np.exp(-sum(p * np.log(p) for p in share if p)), rel=1e-5)
    assert coded.perplexity > 8


def test_codes_out_of_use_come_back():
    torch.manual_seed(0)
    model, x = VQVAE(reading_of("gridroboman"), tokens=16, d_token=4), boards(200)
    model(x)
    codes = model.quantiser._codebook
    far = torch.full_like(codes.embed, 50.0)
    far[:, 0] = 0.0
    codes.embed.copy_(far)
    codes.embed_avg.copy_(far * codes.cluster_size[..., None])
    assert model(x).perplexity == 1
    trained(model, x, 60, rate=0.001)
    assert model(x).perplexity > 8


def test_without_gradients_nothing_moves():
    torch.manual_seed(0)
    model = VQVAE(reading_of("gridroboman"), tokens=8, d_token=4)
    trained(model, boards(50), 3)
    state = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        model(boards(50, seed=1))
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    model(boards(50, seed=1))
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, state[name])}
    assert {"standardise.mean", "quantiser._codebook.embed"} <= moved


def test_the_state_says_all(monkeypatch):
    """Codes begin with the first batch; which observations some become later is chance. All goes on as it would."""
    monkeypatch.setattr(VQVAE, "UNUSED", 1.0)
    torch.manual_seed(0)
    one = VQVAE(reading_of("gridroboman"), tokens=30, d_token=4)
    for _ in range(2):
        one(boards(40))
    state, generator = copy.deepcopy(one.state_dict()), torch.get_rng_state()
    expected = [one(boards(40, seed)).tokens for seed in range(4)]
    torch.manual_seed(5)
    other = VQVAE(reading_of("gridroboman"), tokens=30, d_token=4)
    other(boards(30, seed=9))
    other.load_state_dict(state)
    torch.set_rng_state(generator)
    for seed in range(4):
        assert torch.equal(other(boards(40, seed)).tokens, expected[seed])
    assert not torch.equal(torch.get_rng_state(), generator)  # something was drawn
