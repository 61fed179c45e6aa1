"""Which episodes an evaluation has, from which starts, over which retrieval batches; and the rows that it makes."""

from __future__ import annotations

from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rarl.agents.policy import Policy
from rarl.envs.gridroboman.vector import seeded_boards
from rarl.envs.spec import spec_of
from rarl.nn.value_network import State
from rarl.rollouts.evaluation import Evaluation, evaluation_row, rewarded_at_the_end, successes
from rarl.rollouts.roll_out import Episodes, Memoryless
from tests import tiny_atari, tiny_babyai, tiny_project
from tests.kept_episodes import play_kept


@pytest.fixture
def boards(tiny_root):
    """Settings of a run on Gridroboman."""
    return tiny_project.run_of(tiny_root, "ra-dqn").settings


@pytest.fixture
def levels(tiny_babyai_root):
    """Settings of a run on BabyAI, where one retrieval batch serves all levels."""
    return tiny_babyai.run_of(tiny_babyai_root, "all").settings


@pytest.fixture
def game(tiny_atari_root):
    """Settings of a run on Atari, whose actors are fewer than the episodes."""
    return tiny_atari.run_of(
        tiny_atari_root, "ra-dqn", changes={"evaluation": {"episodes_per_task": 12}, "online": {"actors": 4}}
    ).settings


class NotTheBest:
    """A policy; which of its actions are not the best ones, step by step."""

    def __init__(self, policy):
        self.begin, self._policy, self.found = policy.begin, policy, []

    def __call__(self, x, playing):
        actions = self._policy(x, playing)
        self.found.append(actions != self._policy.q.argmax(1))
        return actions


def changed(settings, **changes):
    return settings.model_copy(update=changes)


# --- which episodes ---------------------------------------------------------------------------------------------------


def test_a_runs_own_evaluation_has_its_tasks_and_episodes(boards, levels, game):
    own = Evaluation.of(boards)
    assert own.tasks == tuple(boards.tasks)
    assert own.task_ids.tolist() == list(range(10))
    assert own.seeds.shape == (10, 4)
    assert (own.each, own.blocks, own.pooled) == (4, 4, False)
    assert Evaluation.of(levels).pooled
    assert (Evaluation.of(levels).each, Evaluation.of(levels).blocks) == (2, 2)
    # Games are long: as many at once as there are actors, one after another.
    assert (Evaluation.of(game).each, Evaluation.of(game).seeds.shape) == (4, (1, 12))
    assert Evaluation.of(game, episodes=3).each == 3


def test_starts_depend_on_the_task_alone_and_not_on_which_others_are_evaluated(boards):
    every = dict(zip(boards.tasks, Evaluation.of(boards, episodes=5).seeds.tolist(), strict=True))
    order = np.random.default_rng(0).permutation(boards.tasks)[:4].tolist()
    some = Evaluation.of(boards, tasks=order, task_ids=np.arange(4)[::-1], episodes=5)
    assert some.tasks == tuple(order)
    assert some.task_ids.tolist() == [3, 2, 1, 0]
    assert some.seeds.tolist() == [every[task] for task in order]
    told = Evaluation.of(boards, tasks=[order[0]] * 2, episodes=3)
    assert told.seeds.tolist() == [every[order[0]][:3]] * 2
    assert len({seed for seeds in every.values() for seed in seeds}) == 50
    # Nor on the agent, nor on how many retrieval batches there are.
    other = changed(boards, agent=changed(boards.agent, retrieval=changed(boards.agent.retrieval, process="none")))
    assert (Evaluation.of(other, blocks=1, pooled=True).seeds == Evaluation.of(boards).seeds).all()


def test_starts_depend_on_the_seed_the_board_seed_and_the_stream(boards):
    found = [
        Evaluation.of(settings, stream=stream).seeds
        for settings in (
            boards,
            changed(boards, seed=boards.seed + 1),
            changed(boards, evaluation=changed(boards.evaluation, board_seed=boards.evaluation.board_seed + 1)),
        )
        for stream in (0, 1, 3)
    ]
    for one, other in combinations(found, 2):
        assert not set(one.ravel().tolist()) & set(other.ravel().tolist())


def test_its_streams_of_random_numbers_are_always_the_same_and_have_nothing_in_common(boards):
    def draws(evaluation):
        return [rng.integers(2**31, size=20).tolist() for rng in (evaluation.of_exploration, evaluation.of_memory)]

    own = Evaluation.of(boards, episodes=20)
    assert draws(own) == draws(own) == draws(Evaluation.of(boards, episodes=3, stream=1))
    assert draws(own) != draws(Evaluation.of(changed(boards, seed=7)))
    seeds = [Evaluation.of(boards, episodes=20, stream=stream).seeds for stream in range(4)]
    every = [*draws(own), *(row.tolist() for each in seeds for row in each)]
    assert len({tuple(row) for row in every}) == len(every)


def test_episodes_begin_at_their_starts(boards, levels):
    for settings, n_actions in ((boards, 7), (levels, 7)):
        evaluation = Evaluation.of(settings, episodes=3)
        starts = evaluation.starts()
        assert starts.shape[:2] == (len(settings.tasks), 3)
        envs = evaluation.environments()
        assert len(envs.actions) == n_actions
        for g, seeds in enumerate(evaluation.seeds):
            for k, seed in enumerate(seeds):
                x = envs.reset([seed], np.array([g * 3 + k]))  # and not how the others are started
                assert (x[g * 3 + k] == starts[g, k]).all()
        episodes = play_kept(evaluation, Memoryless(lambda x: np.zeros(len(x), dtype=np.int64)))
        assert (episodes.observations[:, 0] == starts.reshape(-1, *starts.shape[2:])).all()
    assert (Evaluation.of(boards).starts()[2] == seeded_boards(Evaluation.of(boards).seeds[2]).observe()).all()


def test_episodes_of_several_tasks_are_played_all_at_once(boards):
    one_after_another = Evaluation(
        boards, tuple(boards.tasks[:2]), np.arange(2), np.arange(8).reshape(2, 4), 1, True, 2
    )
    with pytest.raises(ValueError, match="all at once"):
        one_after_another.play(Memoryless(lambda x: np.zeros(len(x), dtype=np.int64)))


def test_every_agent_meets_the_same_starts_and_the_same_exploration(tiny_root):
    """The share of random actions is the setting's, and they come at the same steps."""
    learners = [tiny_project.learner_of(tiny_root, variant) for variant in ("dqn", "ra-dqn")]
    random = []
    for learner in learners:
        evaluation = Evaluation.of(learner.settings, episodes=20)
        batch = learner._batch_to_evaluate(evaluation)
        policy = evaluation.policy(learner.network, None if batch is None else batch.summarise(learner.network))
        assert (policy.epsilons == learner.settings.evaluation.epsilon).all()
        noticing = NotTheBest(policy)
        evaluation.play(noticing)
        random.append(np.stack(noticing.found))
    epsilon = learners[0].settings.evaluation.epsilon
    for differs in random:
        assert differs.mean() == pytest.approx(epsilon * 6 / 7, abs=0.01)
    # A random action that is the best of one agent may be another's second best.
    assert (random[0] & random[1]).sum() > 0.7 * random[0].sum()


# --- which retrieval batch --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize(("tasks", "episodes", "blocks"), [(3, 4, 2), (1, 6, 3), (10, 4, 1), (2, 3, 3)])
def test_every_environment_reads_one_batch_of_its_task_and_its_block(boards, pooled, tasks, episodes, blocks):
    ids = 5 + np.arange(tasks)
    evaluation = Evaluation.of(
        boards, tasks=boards.tasks[:tasks], task_ids=ids, episodes=episodes, pooled=pooled, blocks=blocks
    )
    places, groups = evaluation.places, evaluation.groups
    assert sorted(places.ravel().tolist()) == list(range(tasks * episodes))
    for r, row in enumerate(places):
        for place in row:
            task, episode = divmod(int(place), episodes)
            block = episode // (episodes // blocks)
            assert r == (block if pooled else task * blocks + block)
    if pooled:
        assert places.shape == (blocks, tasks * episodes // blocks)
        assert groups.tolist() == ids.tolist()
    else:
        assert places.shape == (tasks * blocks, episodes // blocks)
        assert groups.tolist() == [int(task) for task in ids for _ in range(blocks)]


def test_where_episodes_follow_one_another_batches_go_by_environment(game):
    evaluation = Evaluation.of(game)
    assert (evaluation.each, evaluation.blocks) == (4, 4)
    assert evaluation.places.tolist() == [[0], [1], [2], [3]]
    assert Evaluation.of(game, blocks=2).places.tolist() == [[0, 1], [2, 3]]


@pytest.mark.unchecked  # networks and batches that are none
def test_a_policy_is_told_the_ids_and_reads_where_it_should(boards):
    network = torch.nn.Linear(1, 1)
    network.initial_state = lambda groups, batch: State(None, None)
    evaluation = Evaluation.of(boards, tasks=boards.tasks[:3], task_ids=[7, 2, 5], episodes=4, blocks=2)
    batch = SimpleNamespace(keys=[None] * 6)
    policy = evaluation.policy(network, batch)
    assert isinstance(policy, Policy)
    assert policy.retrieved is batch
    assert (policy.places == evaluation.places).all()
    assert policy._context.tolist() == [7] * 4 + [2] * 4 + [5] * 4
    assert (policy.epsilons == boards.evaluation.epsilon).all()
    assert evaluation.policy(network, None).places.shape == (1, 12)


# --- its rows ---------------------------------------------------------------------------------------------------------


def episodes_of(returns, last):
    returns = np.array(returns, dtype=np.float64)
    n = len(returns)
    return Episodes(returns, np.ones(n, dtype=np.int64), np.zeros(n, bool), np.array(last, dtype=np.float64))


def test_rows_by_hand(boards):
    evaluation = Evaluation.of(boards, tasks=boards.tasks[:2], episodes=3)
    rows = evaluation.rows(episodes_of([1, 2, 6, 0, 0, 50], [0, 1, 1, 0, 0, -1]))
    assert rows == [
        {
            "task": boards.tasks[0],
            "episodes": 3,
            "return_mean": 3.0,
            "return_std": pytest.approx(np.sqrt((4 + 1 + 9) / 2)),
            "success_rate": pytest.approx(2 / 3),
        },
        {
            "task": boards.tasks[1],
            "episodes": 3,
            "return_mean": pytest.approx(50 / 3),
            "return_std": pytest.approx(np.std([0, 0, 50], ddof=1)),
            "success_rate": 0.0,
        },
    ]


def test_one_episode_has_no_spread():
    row = evaluation_row("any", np.array([3.0]), np.array([True]))
    assert row == {"task": "any", "episodes": 1, "return_mean": 3.0, "return_std": 0.0, "success_rate": 1.0}


def test_success_is_what_the_environment_says():
    episodes = episodes_of([10, 20, 5, -25], [0, 0, 1, -1])
    assert successes(spec_of("gridroboman"), ["a", "b"], episodes).tolist() == [[False, False], [True, False]]
    # A human scores 14.6 in Pong, 30.5 in Breakout.
    assert successes(spec_of("atari"), ["pong", "breakout"], episodes).tolist() == [[False, True], [False, False]]
    assert rewarded_at_the_end("any", np.array([9.0]), np.array([0.0])).tolist() == [False]
