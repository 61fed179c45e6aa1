"""Which steps are masked, and what their tokens are predicted from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from rarl.nn.masking import MaskedTokens, masked_steps


def real_of(lengths, longest=None):
    return np.arange(longest or max(lengths)) < np.array(lengths)[:, None]


@settings(max_examples=60)
@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    extra=st.integers(0, 4),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**32 - 1),
)
def test_real_steps_alone_are_masked_and_one_at_least(lengths, extra, share, seed):
    real = real_of(lengths, max(lengths) + extra)
    masked = masked_steps(real, share, np.random.default_rng(seed))
    assert masked.shape == real.shape
    assert masked.dtype == bool
    assert not masked[~real].any()
    for row, length in zip(masked.sum(1), lengths, strict=True):
        assert max(1, np.floor(share * length)) <= row <= max(1, np.ceil(share * length))


@pytest.mark.parametrize(("length", "expected"), [(50, 7.5), (10, 1.5), (7, 1.05), (3, 1.0), (1, 1.0)])
def test_the_share_is_right_on_average_and_all_steps_are_masked_alike(length, expected):
    masked = masked_steps(real_of([length] * 8000, length + 2), 0.15, np.random.default_rng(0))
    assert masked.sum(1).mean() == pytest.approx(expected, abs=0.03)
    per_step = masked[:, :length].sum(0)
    assert (abs(per_step - per_step.mean()) < 5 * np.sqrt(8000 * expected / length)).all()


@pytest.mark.parametrize("summariser", ["gru", "decay"])
def test_predictions_see_neither_masked_steps_nor_padding(summariser):
    torch.manual_seed(0)
    model = MaskedTokens(6, 8, 5, summariser)
    real = torch.from_numpy(real_of([4, 2, 5], 6))
    masked = torch.from_numpy(masked_steps(real.numpy(), 0.3, np.random.default_rng(1)))
    s = torch.randn(3, 6, 6)
    logits = model(s, masked, real)
    assert logits.shape == (int(masked.sum()), 5)
    hidden = s.clone()
    hidden[masked] = 100.0
    hidden[~real] = -100.0
    torch.testing.assert_close(model(hidden, masked, real), logits)
    # Each trajectory for itself: a real step that can be seen matters to its own alone.
    row = 2
    seen = (real & ~masked)[row].nonzero()[0]
    s[row, seen] += 1.0
    changed = (model(s, masked, real) != logits).any(1)
    assert changed.tolist() == [r == row for r in masked.nonzero()[:, 0].tolist()]
    # Without padding it need not be said.
    whole, mask = torch.randn(2, 4, 6), torch.eye(2, 4, dtype=torch.bool)
    torch.testing.assert_close(model(whole, mask), model(whole, mask, torch.ones(2, 4, dtype=torch.bool)))


@pytest.mark.parametrize("summariser", ["gru", "decay"])
def test_what_lies_between_is_learned(summariser):
    """Walks along a line: a masked place is one from which both neighbours can be reached."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    encoder, model = torch.nn.Embedding(8, 16), MaskedTokens(16, 16, 8, summariser)
    optimiser = torch.optim.Adam([*encoder.parameters(), *model.parameters()], 0.02)
    losses = []
    for _ in range(60):
        places = np.clip(4 + rng.integers(-1, 2, (64, 6)).cumsum(1), 0, 7)
        masked = torch.from_numpy(masked_steps(np.ones(places.shape, bool), 0.2, rng))
        places = torch.from_numpy(places)
        loss = F.cross_entropy(model(encoder(places), masked), places[masked])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[0] > 1.9  # log 8 = 2.08
    assert np.mean(losses[-10:]) < 1.2
