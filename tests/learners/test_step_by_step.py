"""What a learner step computes once for all steps of the slots gives the losses that it gives computed at each step."""

from __future__ import annotations

import copy

import pytest
import torch

from rarl.nn.bottleneck import Gaussian
from rarl.nn.retrieval import SlotRetrieval
from tests.learners.test_captured import learner_of, root, updates  # noqa: F401

UNROLL = SlotRetrieval.unroll


def one_by_one(self, s, m_0, retrieved, *, counts=None, **options):
    """Steps 1 to 5 at each step by itself, with maps, gradients and noise of its own."""
    found, slots = [], [m_0.expand(*s.shape[:2], *m_0.shape[2:])]
    for t in range(s.shape[2]):
        now = None if counts is None else counts[:, :, t : t + 1]
        step, (_, *after) = UNROLL(self, s[:, :, t : t + 1], slots[-1], retrieved, counts=now, **options)
        slots += after
        found.append(step)

    def over_time(*parts):
        if parts[0] is None:
            return None
        return Gaussian(*map(over_time, *parts)) if isinstance(parts[0], Gaussian) else torch.cat(parts, 2)

    return type(found[0])(*map(over_time, *found)), slots


@pytest.mark.parametrize(
    ("kind", "losses"), [("own", 12), pytest.param("all", 50, marks=pytest.mark.slow), ("ra-r2d2", 8)]
)
def test_losses_are_equal(root, monkeypatch, kind, losses):  # noqa: F811
    """From the same state in every update: else rounding reaches what is selected of a batch, or drawn by priorities,
    when depends on the processor."""
    learner, other = (learner_of(kind, root, monkeypatch) for _ in range(2))
    found = []
    for _ in range(losses):
        generator = torch.get_rng_state()
        other.load_state_dict(copy.deepcopy(learner.state_dict()))
        with monkeypatch.context() as patch:
            patch.setattr(SlotRetrieval, "unroll", one_by_one)
            (its,) = updates(other, 1)
        torch.set_rng_state(generator)
        (mine,) = updates(learner, 1)
        assert mine["loss"] == pytest.approx(its["loss"], rel=1e-4)
        found.append((mine, its))
    assert any(mine != its for mine, its in found)  # they round otherwise
