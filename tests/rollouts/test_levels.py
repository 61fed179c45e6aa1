"""Episodes on levels in lockstep, against each episode played alone."""

from __future__ import annotations

import numpy as np
import pytest

from rarl.nn.retrieval import Summaries
from rarl.rollouts.levels import evaluation_seeds, roll_out_levels
from tests import tiny_babyai

EACH = 3


@pytest.fixture(scope="module", params=["rdqn", "own", "all"])
def played(request, tiny_babyai_root):
    """A learner, a function that plays some of its levels' episodes, and the widths of what its network computed."""
    learner = tiny_babyai.learner_of(tiny_babyai_root, request.param)
    for _ in range(3):
        learner.update()
    seeds = evaluation_seeds(learner.levels, EACH, 0, 0)
    retrieved = None
    if learner.memory is not None:
        batch = learner.memory.sample(np.arange(len(learner.levels)), np.random.default_rng(0))
        retrieved = batch.summarise(learner.network)
    widths = []

    def play(levels=slice(None), episodes=slice(None), epsilon=0.0, watch=None):
        given = retrieved
        if retrieved is not None and not learner.memory.pooled:
            given = Summaries(*(None if part is None else part[levels] for part in retrieved))
        rng = np.random.default_rng(1)
        unroll = learner.network.unroll

        def counted(x, *args, **kwargs):
            widths.append(x.shape[0] * x.shape[1])
            return unroll(x, *args, **kwargs)

        learner.network.unroll = counted
        try:
            return roll_out_levels(
                learner.network, learner.levels[levels], seeds[levels, episodes], given, rng, epsilon, watch
            )
        finally:
            del learner.network.unroll

    return learner, play, widths


def test_lockstep_changes_no_episode(played):
    learner, play, _ = played
    together = play()
    for i in range(len(learner.levels)):
        for j in range(EACH):
            alone = play(slice(i, i + 1), slice(j, j + 1))
            length = alone.lengths[0, 0]
            assert together.lengths[i, j] == length
            assert (together.actions[i, j, :length] == alone.actions[0, 0]).all()
            assert (together.rewards[i, j, :length] == alone.rewards[0, 0]).all()
            assert (together.missions[i, j] == alone.missions[0, 0]).all()
            assert together.success[i, j] == alone.success[0, 0]


def test_levels_that_have_ended_cost_nothing_and_change_nothing(played):
    _, play, widths = played
    # Exploration ends episodes at different times; the longest level here takes twice the steps of the others.
    widths.clear()
    without = play(epsilon=0.3)
    saved, steps = widths.copy(), without.lengths.max()
    watched = play(epsilon=0.3, watch=lambda step, active: None)
    assert len(saved) == steps
    longest = without.lengths.max(axis=1)
    assert saved == [EACH * int((longest > t).sum()) for t in range(steps)]
    assert saved[-1] < saved[0]
    for name in ("returns", "success", "lengths", "actions", "rewards", "missions"):
        assert np.array_equal(getattr(without, name), getattr(watched, name)), name
