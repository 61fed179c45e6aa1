"""What a learner step computes once for all steps of the slots gives the losses that it gives computed at each step."""

from __future__ import annotations

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


# Sooner or later rounding reaches what is selected of a batch, and on games what is drawn, by priorities. It depends on
# the processor when.
@pytest.mark.parametrize(("kind", "losses"), [("own", 6), ("all", 6), ("ra-r2d2", 6)])
def test_losses_are_equal(root, monkeypatch, kind, losses):  # noqa: F811
    one = updates(learner_of(kind, root, monkeypatch), losses)
    monkeypatch.setattr(SlotRetrieval, "unroll", one_by_one)
    other = updates(learner_of(kind, root, monkeypatch), losses)
    assert one != other  # they round otherwise
    for mine, its in zip(one, other, strict=True):
        assert mine["loss"] == pytest.approx(its["loss"], rel=1e-4)
