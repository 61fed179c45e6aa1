"""Episodes of an evaluation are spread over several retrieval batches, for every kind of agent."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rarl.agents.memory import RetrievalBatch
from rarl.agents.policy import Policy
from rarl.envs.atari.observation import EXTRA_BYTES
from rarl.learners import games
from rarl.nn.retrieval import Summaries
from rarl.rollouts import games as evaluation
from rarl.rollouts.levels import evaluation_seeds, play_levels, roll_out_levels
from rarl.rollouts.rows import retrieval_blocks
from tests import tiny_atari, tiny_babyai, tiny_project
from tests.fake_games import FakeGames


@pytest.mark.parametrize(("episodes", "most", "blocks"), [(20, 4, 4), (6, 4, 3), (7, 4, 1), (24, 5, 4), (2, 4, 2)])
def test_blocks_are_as_many_as_are_even(episodes, most, blocks):
    assert retrieval_blocks(episodes, most) == blocks


@pytest.mark.parametrize("variant", ["rdqn", "own", "all"])
def test_each_episode_on_a_level_is_played_with_its_blocks_batch(tiny_babyai_root, variant):
    learner = tiny_babyai.learner_of(tiny_babyai_root, variant)
    for _ in range(3):
        learner.update()
    levels, n, blocks = learner.levels, 4, 2
    seeds = evaluation_seeds(levels, n, 0, 0)
    rngs = [np.random.default_rng(1) for _ in range(4)]
    whole = play_levels(learner.network, levels, seeds, learner.memory, rngs[0], blocks, rngs[1], 0.0)
    tasks = np.arange(len(levels))
    if learner.memory is None:
        summaries = None
    elif learner.memory.pooled:
        summaries = [learner.memory.sample(tasks, rngs[2]).summarise(learner.network) for _ in range(blocks)]
    else:
        summaries = learner.memory.sample(np.repeat(tasks, blocks), rngs[2]).summarise(learner.network)
    for i, level in enumerate(levels):
        for j in range(n):
            block = j // (n // blocks)
            if summaries is None:
                one = None
            elif learner.memory.pooled:
                one = summaries[block]
            else:
                at = slice(i * blocks + block, i * blocks + block + 1)
                one = Summaries(*(None if part is None else part[at] for part in summaries))
            alone = roll_out_levels(learner.network, [level], seeds[i : i + 1, j : j + 1], one, rngs[3], 0.0)
            length = alone.lengths[0, 0]
            assert whole.lengths[i, j] == length
            assert (whole.actions[i, j, :length] == alone.actions[0, 0]).all()
            assert whole.returns[i, j] == alone.returns[0, 0]
            assert (whole.missions[i, j] == alone.missions[0, 0]).all()


def read_in_evaluation(learner, monkeypatch):
    """Of the retrieval batches that an evaluation reads: the episodes that each holds, in order."""
    seen = []
    summarise = RetrievalBatch.summarise

    def spy(batch, *arguments):
        seen.extend(tuple(map(tuple, np.stack([batch.given[g], batch.episodes[g]], 1))) for g in range(len(batch.a)))
        return summarise(batch, *arguments)

    monkeypatch.setattr(RetrievalBatch, "summarise", spy)
    learner.evaluate()
    return seen


@pytest.mark.parametrize("batches", [1, 2, 4])
def test_every_learner_honours_the_setting(tiny_root, tiny_babyai_root, tiny_atari_root, monkeypatch, batches):
    for module in (games, evaluation):
        monkeypatch.setattr(module, "environments", FakeGames.of())
    changes = {"evaluation": {"retrieval_batches": batches, "episodes_per_task": 4}}
    online = {"online": {"actors": 4, "capacity_sequences": 300}}
    for learner, tasks in (
        (tiny_project.learner_of(tiny_root, "ra-dqn", changes), 10),
        (tiny_babyai.learner_of(tiny_babyai_root, "own", changes), 3),
        (tiny_babyai.learner_of(tiny_babyai_root, "all", changes), 1),
        (tiny_atari.learner_of(tiny_atari_root, "ra-r2d2", changes | online), 1),
        (tiny_atari.learner_of(tiny_atari_root, "ra-dqn", changes | online), 1),
    ):
        if hasattr(learner, "replay"):
            learner.actors.play(60).add_to(learner.replay)
        with monkeypatch.context() as patch:
            seen = read_in_evaluation(learner, patch)
        assert len(seen) == tasks * batches
        assert len(set(seen)) == len(seen)


@pytest.mark.parametrize("variant", ["ra-r2d2", "ra-dqn"])
@pytest.mark.usefixtures("tiny_atari_root")
def test_actors_with_batches_of_their_own_act_as_if_they_were_alone(tiny_atari_root, monkeypatch, variant):
    for module in (games, evaluation):
        monkeypatch.setattr(module, "environments", FakeGames.of())
    changes = {"online": {"actors": 4, "capacity_sequences": 300}}
    learner = tiny_atari.learner_of(tiny_atari_root, variant, changes)
    learner.actors.play(60).add_to(learner.replay)
    with torch.no_grad():
        both = learner.sample_batch(np.random.default_rng(0), 2).summarise(learner.network)
    together = Policy(learner.network, np.zeros(4), np.random.default_rng(0))
    together.retrieved = both
    alone = [Policy(learner.network, np.zeros(2), np.random.default_rng(0)) for _ in range(2)]
    for g, policy in enumerate(alone):
        policy.retrieved = Summaries(*(None if part is None else part[g : g + 1] for part in both))
    observations = np.random.default_rng(1).integers(0, 256, (5, *learner.actors._playing.x.shape), dtype=np.uint8)
    observations[..., -EXTRA_BYTES:] = learner.actors._playing.x[..., -EXTRA_BYTES:]
    for t, x in enumerate(observations):
        first = np.array([t == 0, t == 3, t == 0, t == 2])
        together.begin(first)
        together(x)
        for g, policy in enumerate(alone):
            rows = slice(2 * g, 2 * g + 2)
            policy.begin(first[rows])
            policy(x[rows])
            np.testing.assert_allclose(together.q[rows], policy.q, atol=1e-6)
            for name, part in policy.state.items():
                np.testing.assert_allclose(together.state[name][rows], part, atol=1e-6)
