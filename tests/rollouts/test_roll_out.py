"""Episodes in lockstep: against each played alone, and against environments stepped one by one."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rarl.agents.policy import Policy
from rarl.envs.gridroboman.env import Gridroboman
from rarl.envs.gridroboman.tasks import task_named
from rarl.envs.gridroboman.vector import VectorGridroboman, condition
from rarl.envs.vector import Step, VectorEnv, where_of
from rarl.nn.retrieval import Summaries
from rarl.nn.value_network import State, Unrolled, ValueNetwork
from rarl.rollouts.evaluation import Evaluation
from rarl.rollouts.roll_out import Memoryless, roll_out
from tests import tiny_babyai, tiny_project
from tests.kept_episodes import roll_out_kept

# --- boards, all of one length ----------------------------------------------------------------------------------------

TASKS = [task_named(name) for name in ("touch red", "lift green", "red to corner")]


class Scripted(ValueNetwork):
    """Prefers an action that depends on the observation and on the task it is told; remembers what it was asked."""

    def __init__(self):
        torch.nn.Module.__init__(self)
        self.nothing = torch.nn.Parameter(torch.zeros(1))
        self.calls = []

    def initial_state(self, groups, batch):
        return State(None, None)

    def unroll(self, x, context, state, retrieved, *, keep_attention):
        assert not torch.is_grad_enabled()
        assert state is None
        self.calls.append(SimpleNamespace(x=x.clone(), context=context.clone(), retrieved=retrieved))
        q = torch.nn.functional.one_hot(best_action(x, context), 7).float()
        return Unrolled(q, State(None, None), None, q)


def best_action(x, task):
    return (x.long().sum(-1) + task) % 7


def play(network, each, rng, epsilon, tasks=TASKS, told=(0, 1, 2), retrieved=None, seeds=None, watch=None):
    """`each` episodes of all tasks, by default those of the seeds 0, 1, ..."""
    seeds = np.arange(len(tasks) * each) if seeds is None else seeds
    policy = Policy(network, np.full(len(seeds), epsilon), np.random.default_rng(rng), np.repeat(told, each))
    policy.retrieved = retrieved
    envs = VectorGridroboman([task for task in tasks for _ in range(each)])
    return roll_out_kept(envs, policy, seeds, watch=None if watch is None else watch(envs))


@pytest.mark.unchecked  # a retrieval batch that is none
def test_every_step_is_the_single_environments():
    network = Scripted()
    marker = SimpleNamespace(keys=[None] * 3)
    episodes = play(network, 2, 1, 0.0, told=[4, 5, 6], retrieved=marker)
    assert episodes.observations.shape == (6, 51, 11)
    assert episodes.observations.dtype == np.int8
    assert episodes.actions.shape == episodes.rewards.shape == (6, 50)
    assert episodes.lengths.tolist() == [50] * 6
    assert not episodes.terminated.any()
    assert episodes.context is None
    assert len(network.calls) == 50
    for t, call in enumerate(network.calls):
        assert call.retrieved is marker
        assert call.context.tolist() == [[[4], [4]], [[5], [5]], [[6], [6]]]
        assert (call.x.flatten(0, 2).numpy() == episodes.observations[:, t]).all()
    rewarded = 0
    for n in range(6):
        env = Gridroboman(task=TASKS[n // 2].name)
        start = episodes.observations[n, 0]
        cells = [tuple(map(int, start[i : i + 2])) for i in (0, 2, 5, 8)]
        observation, _ = env.reset(options={"robot": cells[0], "objects": cells[1:]})
        assert (observation == start).all()
        for t in range(50):
            expected = (int(observation.astype(int).sum()) + [4, 5, 6][n // 2]) % 7
            assert episodes.actions[n, t] == expected
            observation, reward, *_ = env.step(expected)
            assert (observation == episodes.observations[n, t + 1]).all()
            assert reward == episodes.rewards[n, t]
            rewarded += reward
        assert episodes.last_rewards[n] == reward
    assert rewarded > 0
    assert (episodes.returns == episodes.rewards.sum(1)).all()


def test_who_watches_sees_every_step_and_may_ask_for_other_tasks_rewards():
    other = [task_named(name) for name in ("touch green", "lift green", "red to center")]
    others = [task for task in other for _ in range(4)]
    steps, measured, by_hand = [], [], []

    def watch(envs):
        def look(playing, step):
            assert playing.all()
            steps.append(step)
            measured.append(envs.rewards_of(others))
            by_hand.append([condition(envs.boards[[n]], task).item() for n, task in enumerate(others)])

        return look

    plain = play(Scripted(), 4, 5, 0.3)
    more = play(Scripted(), 4, 5, 0.3, watch=watch)
    assert (plain.observations == more.observations).all()
    for name in ("observations", "rewards"):
        seen = np.stack([getattr(step, name) for step in steps], axis=1)
        assert (seen == getattr(more, name)[:, -50:]).all()
    also = np.stack(measured, axis=1)
    assert also.dtype == np.float32
    assert (also == np.stack(by_hand, axis=1)).all()
    assert (also[4:8] == more.rewards[4:8]).all()  # the same task
    direct = play(Scripted(), 4, 5, 0.3, tasks=other)
    assert (direct.observations == more.observations).all()  # what is told is the same, so is what is done
    assert (also == direct.rewards).all()
    assert (also != more.rewards).any()


def test_epsilon_is_the_share_of_random_actions():
    def actions(epsilon):
        network = Scripted()
        episodes = play(network, 40, 0, epsilon)
        greedy = [best_action(c.x, c.context).flatten().numpy() for c in network.calls]
        return episodes.actions, np.stack(greedy, axis=1)

    for epsilon in (0.0, 0.2, 1.0):
        done, greedy = actions(epsilon)
        assert (done != greedy).mean() == pytest.approx(epsilon * 6 / 7, abs=0.02)
    done, _ = actions(1.0)
    assert np.bincount(done.ravel(), minlength=7) / done.size == pytest.approx(np.full(7, 1 / 7), abs=0.02)


def test_all_randomness_comes_from_seeds_and_generator():
    seeds = np.arange(9) * 7
    one, same = (play(Scripted(), 3, 1, 0.2, seeds=seeds) for _ in range(2))
    explored, elsewhere = play(Scripted(), 3, 2, 0.2, seeds=seeds), play(Scripted(), 3, 1, 0.2, seeds=seeds + 1)
    assert (one.observations == same.observations).all()
    assert (one.actions == same.actions).all()
    assert (one.observations[:, 0] == explored.observations[:, 0]).all()
    assert (one.actions != explored.actions).any()
    assert not (one.observations[:, 0] == elsewhere.observations[:, 0]).all()
    assert len({tuple(row) for row in one.observations[:, 0].tolist()}) == 9  # starts differ


class Whole:
    """A policy whose network leaves nobody out."""

    def __init__(self, policy):
        self._policy, self.begin, self.unrolled = policy, policy.begin, []

    def __call__(self, x, playing):
        actions = self._policy(x, keep_attention=True)
        self.unrolled.append(self._policy.unrolled)
        return actions


def test_each_group_plays_with_its_own_retrieval_batch(tiny_root):
    """Exchanging two groups' batches exchanges what is read, and nothing else."""
    learner = tiny_project.learner_of(tiny_root, "ra-dqn")
    network = learner.network
    retrieved = learner.memory.sample(np.array([0, 1]), np.random.default_rng(0)).summarise(network)
    policy = Policy(network, np.zeros(4), np.random.default_rng(1), np.repeat([0, 1], 2))
    policy.retrieved = retrieved
    watched = Whole(policy)
    unrolled = watched.unrolled
    roll_out(VectorGridroboman([TASKS[0]] * 2 + [TASKS[1]] * 2), watched, np.arange(4))
    assert len(unrolled) == 50
    assert unrolled[0].step.alpha.shape[:3] == (2, 2, 1)
    order = torch.tensor([1, 0])
    swapped = Summaries(*(None if part is None else part[order] for part in retrieved))
    with torch.no_grad():
        q, q_swapped = (
            network(torch.zeros(2, 1, 11, dtype=torch.int8), torch.arange(2)[:, None], r)[0]
            for r in (retrieved, swapped)
        )
    torch.testing.assert_close(q_swapped, q[order])
    assert not torch.allclose(q_swapped, q)


# --- episodes of different lengths, one after another -----------------------------------------------------------------


class Counting(VectorEnv):
    """An episode is its seed: it says it, and how many steps it has had; its length, end and rewards follow from it."""

    actions = ("0", "1", "2")

    def __init__(self, n):
        self.num_envs = n
        self.active = np.ones(n, dtype=bool)  # somebody played before
        self.context = np.zeros((n, 2), dtype=np.int64)
        self._x = np.full((n, 2), -1)
        self.log = []  # seed, action

    def reset(self, seeds=None, where=None):
        where = where_of(self.num_envs, seeds, where)
        self._x[where] = np.stack([seeds, np.zeros(len(where), dtype=int)], 1)
        self.context[where] = self._x[where] + 100
        self.active[where] = True
        return self._x.copy()

    def step(self, actions):
        rewards, terminated, truncated = np.zeros(self.num_envs, np.float32), *np.zeros((2, self.num_envs), bool)
        for i in np.flatnonzero(self.active):
            seed, t = self._x[i]
            self.log.append((seed, actions[i]))
            self._x[i, 1] += 1
            rewards[i] = reward_of(seed, t)
            if t + 1 == length_of(seed):
                terminated[i], truncated[i] = seed % 2 == 0, seed % 2 == 1
        self.active &= ~(terminated | truncated)
        return Step(self._x.copy(), rewards, terminated, truncated)


def length_of(seed):
    return 1 + seed * 5 % 7


def reward_of(seed, t):
    return (seed + 3 * t) % 4 - 1.0


def action_of(seed, t):
    return (seed + t) % 3


SEEDS = [3, 8, 8, 1, 12, 5, 10, 7, 2, 6, 4]


@pytest.mark.parametrize("n", [1, 2, 3, 11, 20])
def test_every_seed_is_played_once_and_to_its_end(n):
    envs = Counting(n)
    episodes = roll_out_kept(envs, Memoryless(lambda x: action_of(x[:, 0], x[:, 1])), SEEDS)
    lengths = [length_of(seed) for seed in SEEDS]
    rewards = [[reward_of(seed, t) for t in range(length)] for seed, length in zip(SEEDS, lengths, strict=True)]
    assert episodes.lengths.tolist() == lengths
    assert episodes.returns.tolist() == [sum(each) for each in rewards]
    assert episodes.last_rewards.tolist() == [each[-1] for each in rewards]
    assert episodes.terminated.tolist() == [seed % 2 == 0 for seed in SEEDS]
    assert episodes.context.tolist() == [[seed + 100, 100] for seed in SEEDS]
    steps = [(seed, action_of(seed, t)) for seed, length in zip(SEEDS, lengths, strict=True) for t in range(length)]
    assert sorted(envs.log) == sorted(steps)
    assert not envs.active.any()
    longest = max(lengths)
    assert episodes.observations.shape == (11, longest + 1, 2)
    assert episodes.actions.shape == episodes.rewards.shape == (11, longest)
    for i, (seed, length) in enumerate(zip(SEEDS, lengths, strict=True)):
        padding = longest - length
        assert episodes.observations[i].tolist() == [[seed, t] for t in range(length + 1)] + [[0, 0]] * padding
        assert episodes.actions[i].tolist() == [action_of(seed, t) for t in range(length)] + [0] * padding
        assert episodes.rewards[i].tolist() == rewards[i] + [0.0] * padding


def test_it_is_told_where_episodes_begin_and_who_plays():
    class Forgetful:
        """Counts its own steps since an episode's start."""

        def __init__(self):
            self.age, self.told, self.calls = np.zeros(3, int), None, 0

        def begin(self, first, context):
            self.age[first] = 0
            self.told = context.copy()

        def __call__(self, x, playing):
            assert playing.any()
            assert (x[playing, 1] == self.age[playing]).all()
            assert (self.told[playing] == np.stack([x[playing, 0] + 100, np.full(playing.sum(), 100)], 1)).all()
            self.age += 1
            self.calls += 1
            return np.zeros(3, dtype=np.int64)

    act, seen = Forgetful(), []
    roll_out(Counting(3), act, SEEDS, watch=lambda playing, step: seen.append((playing.copy(), step)))
    assert len(seen) == act.calls
    assert sum(playing.sum() for playing, _ in seen) == sum(map(length_of, SEEDS))
    assert sum((step.terminated | step.truncated).sum() for _, step in seen) == len(SEEDS)
    # Towards the end there are fewer episodes than environments.
    assert seen[0][0].all()
    assert not seen[-1][0].all()


# --- levels -----------------------------------------------------------------------------------------------------------

EACH = 3


@pytest.fixture(scope="module", params=["rdqn", pytest.param("own", marks=pytest.mark.slow), "all"])
def played(request, tiny_babyai_root):
    """A learner, a function that plays some of its levels' episodes, and the widths of what its network computed."""
    learner = tiny_babyai.learner_of(tiny_babyai_root, request.param)
    for _ in range(3):
        learner.update()
    names = learner.tasks
    retrieved = None
    if learner.memory is not None:
        batch = learner.memory.sample(np.arange(len(names)), np.random.default_rng(0))
        retrieved = batch.summarise(learner.network)
    widths = []

    def play(only=None, epsilon=0.0, watching=False):
        """only: (level, episode)."""
        given = retrieved
        evaluation = Evaluation.of(learner.settings, episodes=EACH, blocks=1)
        envs, seeds = evaluation.environments(), evaluation.seeds.ravel()
        policy = evaluation.policy(learner.network, given)
        if only is not None:
            level, episode = only
            if retrieved is not None and not learner.memory.pooled:
                given = Summaries(*(None if part is None else part[level : level + 1] for part in retrieved))
            evaluation = Evaluation.of(learner.settings, tasks=[names[level]], episodes=1, blocks=1)
            envs, seeds = evaluation.environments(), seeds[[level * EACH + episode]]
            policy = evaluation.policy(learner.network, given)
        policy.epsilons = np.full_like(policy.epsilons, epsilon)
        unroll = learner.network.unroll

        def counted(x, *args, **kwargs):
            widths.append(x.shape[0] * x.shape[1])
            return unroll(x, *args, **kwargs)

        learner.network.unroll = counted
        try:
            act = Whole(policy) if watching else policy
            return roll_out_kept(envs, act, seeds)
        finally:
            del learner.network.unroll

    return learner, play, widths


def test_lockstep_changes_no_episode(played):
    learner, play, _ = played
    together = play()
    for i in range(len(learner.tasks)):
        for j in range(EACH):
            alone, k = play((i, j)), i * EACH + j
            length = alone.lengths[0]
            assert together.lengths[k] == length
            assert (together.observations[k, : length + 1] == alone.observations[0]).all()
            assert (together.actions[k, :length] == alone.actions[0]).all()
            assert (together.rewards[k, :length] == alone.rewards[0]).all()
            assert (together.context[k] == alone.context[0]).all()
            assert together.returns[k] == alone.returns[0]
            assert together.last_rewards[k] == alone.last_rewards[0]
            assert together.terminated[k] == alone.terminated[0]


def test_episodes_that_have_ended_cost_nothing_and_change_nothing(played):
    learner, play, widths = played
    # Exploration ends episodes at different times; the longest level here takes twice the steps of the others.
    widths.clear()
    without = play(epsilon=0.3)
    saved, steps = widths.copy(), without.lengths.max()
    widths.clear()
    watched = play(epsilon=0.3, watching=True)
    assert widths == [3 * EACH] * steps
    assert len(saved) == steps
    # As many rows as any retrieval batch that is still read has readers; episodes without one share one group.
    groups = without.lengths.reshape(3, EACH) if learner.memory and not learner.memory.pooled else without.lengths[None]
    reading = [(groups > t).sum(axis=1) for t in range(steps)]
    assert saved == [int((readers > 0).sum() * readers.max()) for readers in reading]
    assert saved[-1] < saved[0]
    for name in ("returns", "last_rewards", "lengths", "actions", "rewards", "context"):
        assert np.array_equal(getattr(without, name), getattr(watched, name)), name
