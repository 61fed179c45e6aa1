"""Episodes of an evaluation are spread over several retrieval batches, for every kind of agent."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rarl.agents.memory import RetrievalBatch
from rarl.agents.policy import Policy
from rarl.envs.atari.observation import EXTRA_BYTES
from rarl.envs.spec import make_vector
from rarl.nn.retrieval import Summaries
from rarl.rollouts.evaluation import Evaluation, retrieval_blocks
from tests import tiny_atari, tiny_babyai, tiny_project
from tests.fake_games import FakeGames
from tests.kept_episodes import play_kept, roll_out_kept


@pytest.mark.parametrize(("episodes", "most", "blocks"), [(20, 4, 4), (6, 4, 3), (7, 4, 1), (24, 5, 4), (2, 4, 2)])
def test_blocks_are_as_many_as_are_even(episodes, most, blocks):
    assert retrieval_blocks(episodes, most) == blocks


def batch_of(summaries, at):
    """One of several retrieval batches."""
    return Summaries(*(None if part is None else part[at : at + 1] for part in summaries))


@pytest.mark.parametrize("variant", ["rdqn", pytest.param("own", marks=pytest.mark.slow), "all"])
def test_each_episode_on_a_level_is_played_with_its_blocks_batch(tiny_babyai_root, variant):
    n, blocks = 4, 2
    changes = {"evaluation": {"episodes_per_task": n, "retrieval_batches": blocks, "epsilon": 0.0}}
    learner = tiny_babyai.learner_of(tiny_babyai_root, variant, changes)
    for _ in range(3):
        learner.update()
    learner.network.requires_grad_(False)
    levels, tasks = learner.settings.tasks, np.arange(3)
    evaluation = Evaluation.of(learner.settings)
    batch = learner._batch_to_evaluate(evaluation)
    retrieved = None if batch is None else batch.summarise(learner.network)
    whole = play_kept(evaluation, evaluation.policy(learner.network, retrieved))
    of_memory = Evaluation.of(learner.settings).of_memory
    if learner.memory is None:
        summaries = None
    elif learner.memory.pooled:
        summaries = [learner.memory.sample(tasks, of_memory).summarise(learner.network) for _ in range(blocks)]
    else:
        summaries = learner.memory.sample(np.repeat(tasks, blocks), of_memory).summarise(learner.network)
    for i, level in enumerate(levels):
        for j in range(n):
            block = j // (n // blocks)
            if summaries is None:
                one = None
            elif learner.memory.pooled:
                one = summaries[block]
            else:
                one = batch_of(summaries, i * blocks + block)
            policy = Policy(learner.network, np.zeros(1), np.random.default_rng(0))
            policy.retrieved = one
            envs = make_vector(learner.settings, [level])
            alone = roll_out_kept(envs, policy, evaluation.seeds[i, j : j + 1])
            length, row = alone.lengths[0], i * n + j
            assert whole.lengths[row] == length
            assert (whole.actions[row, :length] == alone.actions[0]).all()
            assert (whole.observations[row, : length + 1] == alone.observations[0]).all()
            assert whole.returns[row] == alone.returns[0]
            assert whole.terminated[row] == alone.terminated[0]
            assert (whole.context[row] == alone.context[0]).all()


@pytest.mark.parametrize("blocks", [1, 2])
def test_each_board_is_played_with_its_blocks_batch(tiny_root, blocks):
    """The actions of all boards of an evaluation are those that the network prefers with the batch of their block."""
    n = 4
    changes = {"evaluation": {"episodes_per_task": n, "retrieval_batches": blocks, "epsilon": 0.0}}
    learner = tiny_project.learner_of(tiny_root, "ra-dqn-told", changes)
    learner.update()
    evaluation, network = Evaluation.of(learner.settings), learner.network.requires_grad_(False)
    batch = learner._batch_to_evaluate(evaluation)
    assert batch.given[:, 0].tolist() == [task for task in range(10) for _ in range(blocks)]
    summaries = batch.summarise(network)
    episodes = play_kept(evaluation, evaluation.policy(network, summaries))
    for task in range(10):
        for block in range(blocks):
            first = task * n + block * (n // blocks)
            rows = slice(first, first + n // blocks)
            x = torch.from_numpy(episodes.observations[rows, :-1]).flatten(0, 1)[None]
            q, _ = network(x, torch.full(x.shape[:2], task), batch_of(summaries, task * blocks + block))
            ahead = q[0].topk(2).values
            clear = (ahead[:, 0] - ahead[:, 1] > 1e-5).numpy()
            assert clear.mean() > 0.9
            assert (q[0].argmax(-1).numpy() == episodes.actions[rows].ravel())[clear].all()


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


@pytest.mark.parametrize("batches", [1, pytest.param(2, marks=pytest.mark.slow), 4])
def test_every_learner_honours_the_setting(tiny_root, tiny_babyai_root, tiny_atari_root, monkeypatch, batches):
    FakeGames.play_instead(monkeypatch)
    changes = {"evaluation": {"retrieval_batches": batches, "episodes_per_task": 4}}
    online = {"online": {"actors": 4, "capacity_sequences": 300}}
    any_six = {"agent": {"retrieval": {"select_by": "attention"}}}  # of the best ones, two draws may be the same
    for learner, tasks in (
        (tiny_project.learner_of(tiny_root, "ra-dqn", changes | any_six), 10),
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
    FakeGames.play_instead(monkeypatch)
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
