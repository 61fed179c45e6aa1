"""Ordinary gymnasium environments played as all others are, against each played alone."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

from rarl.envs.vector import GymnasiumVector, VectorEnv, where_of
from rarl.errors import RarlError
from rarl.rollouts.roll_out import Memoryless
from rarl.runs.checkpoints import decode, encode
from tests.kept_episodes import roll_out_kept


class Walk(gym.Env):
    """A walk on a line, where the wind blows; ends by chance. What is told: how strong the wind is."""

    observation_space = gym.spaces.Box(-1e6, 1e6, (2,), np.float32)
    action_space = gym.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at, self.wind = self.np_random.normal(), int(self.np_random.integers(1, 9))
        self.steps = 0
        return self.look(), {"wind": self.wind}

    def look(self):
        return np.array([self.at, self.steps], dtype=np.float64)

    def step(self, action):
        self.steps += 1
        self.at += int(action) - 1 + self.wind * self.np_random.normal() / 8
        reward = round(self.at) / 4
        return self.look(), reward, bool(self.np_random.random() < 0.1), False, {}


def walks(n, seed=0, cap=9, **options):
    return GymnasiumVector([gym.wrappers.TimeLimit(Walk(), cap) for _ in range(n)], seed, **options)


def lakes(n, seed=0):
    """Observations are numbers."""
    return GymnasiumVector([gym.make("FrozenLake-v1") for _ in range(n)], seed)


def poles(n, seed=0):
    return GymnasiumVector([gym.make("CartPole-v1") for _ in range(n)], seed)


KINDS = pytest.mark.parametrize("make", [walks, lakes, poles])


def actions_of(envs, steps, seed=0):
    return np.random.default_rng(seed).integers(len(envs.actions), size=(steps, envs.num_envs))


def assert_same(one, other):
    for name, ours, theirs in zip(one._fields, one, other, strict=True):
        np.testing.assert_array_equal(ours, theirs, err_msg=name)
        assert ours.dtype == theirs.dtype


@KINDS
def test_seeds_fix_episodes_which_are_those_of_the_environment_alone(make):
    envs, seeds = make(3), [5, 2**31 - 1, 5]
    actions = actions_of(envs, 60)
    actions[:, 2] = actions[:, 0]
    for _ in range(2):  # whatever was played before
        first = envs.reset(seeds)
        space = envs.envs[0].observation_space
        assert first.dtype == space.dtype
        steps, alone = [envs.step(now) for now in actions], make(3).envs
        for i in range(3):
            observation, _ = alone[i].reset(seed=seeds[i])
            expected, over = np.asarray(observation, dtype=space.dtype), False
            np.testing.assert_array_equal(first[i], expected)
            for now, step in zip(actions, steps, strict=True):
                reward, terminated, truncated = 0.0, False, False
                if not over:
                    observation, reward, terminated, truncated, _ = alone[i].step(now[i])
                    expected, over = np.asarray(observation, dtype=space.dtype), terminated or truncated
                np.testing.assert_array_equal(step.observations[i], expected)  # the last one stays
                assert step.rewards[i] == np.float32(reward)
                assert (step.terminated[i], step.truncated[i]) == (terminated, truncated)
            assert over
        assert not envs.active.any()
        assert [part.dtype for part in steps[0][1:]] == [np.float32, bool, bool]
        assert (steps[-1].observations[0] == steps[-1].observations[2]).all()


def test_episodes_end_in_both_ways():
    envs = walks(40)
    envs.reset(range(40))
    ends = np.zeros((2, 40), dtype=int)
    for now in actions_of(envs, 20):
        step = envs.step(now)
        ends += [step.terminated, step.truncated]
    assert (ends.sum(0) >= 1).all()
    assert (ends.sum(1) > 5).all()


@KINDS
def test_some_begin_while_the_others_go_on(make):
    envs, undisturbed = make(3), make(3)
    for each in (envs, undisturbed):
        each.reset([1, 2, 3])
    actions = actions_of(envs, 12)
    for now in actions[:3]:
        before = envs.step(now)
        undisturbed.step(now)
    observations = envs.reset([7, 8], np.array([2, 0]))
    np.testing.assert_array_equal(observations[1], before.observations[1])
    alone = make(2)
    np.testing.assert_array_equal(observations[[2, 0]], alone.reset([7, 8]))
    assert envs.active[[2, 0]].all()
    for now in actions[3:]:
        step, whole, fresh = envs.step(now), undisturbed.step(now), alone.step(now[[2, 0]])
        for ours, old, new in zip(step, whole, fresh, strict=True):
            np.testing.assert_array_equal(ours[1], old[1])
            np.testing.assert_array_equal(ours[[2, 0]], new)


def test_without_seeds_each_environment_has_a_stream_of_its_own():
    one, same, other = walks(2, 4), walks(2, 4), walks(2, 5)
    starts = [one.reset(), one.reset()]
    assert len(np.unique(starts)) == 4 + 1  # the step is 0 in all
    np.testing.assert_array_equal(same.reset(), starts[0])
    assert (same.reset(where=np.array([1]))[1] == starts[1][1]).all()  # whatever the others have begun
    assert (same.reset(where=np.array([0]))[0] == starts[1][0]).all()
    assert (other.reset()[:, 0] != starts[0][:, 0]).all()


def test_an_abandoned_episode_stands_still():
    envs = walks(2, cap=50)
    envs.reset([1, 2])
    before = envs.step(np.array([0, 0]))
    envs.active[0] = False
    for _ in range(3):
        step = envs.step(np.array([99, 1]))  # what does not matter is not looked at
        np.testing.assert_array_equal(step.observations[0], before.observations[0])
        assert (step.rewards[0], step.terminated[0], step.truncated[0]) == (0, False, False)
    assert (envs.reset([1], np.array([0]))[0] == walks(1).reset([1])[0]).all()


def test_what_was_handed_out_is_not_written_to():
    envs = walks(2)
    handed = [envs.reset([1, 2])]
    kept = [handed[0].copy()]
    for now in actions_of(envs, 5):
        handed.append(envs.step(now).observations)
        kept.append(handed[-1].copy())
    handed.append(envs.reset(where=np.array([1])))
    kept.append(handed[-1].copy())
    envs.reset()
    for ours, theirs in zip(handed, kept, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_what_is_told_is_of_each_episode():
    envs = walks(3, context=lambda observation, info: np.array([info["wind"], 100 * observation[0]]).astype(np.int16))
    assert walks(3).context is None
    first = envs.reset([1, 2, 3])

    def told(seed):
        observation, info = Walk().reset(seed=seed)
        return [info["wind"], int(100 * observation[0])]

    assert envs.context.dtype == np.int16
    assert envs.context.tolist() == [told(1), told(2), told(3)]
    assert len(np.unique(first[:, 0])) == 3
    envs.step(np.zeros(3, dtype=int))
    envs.reset([9], np.array([1]))
    assert envs.context.tolist() == [told(1), told(9), told(3)]


@pytest.mark.parametrize("n", [1, 3, 8])
def test_every_seed_is_rolled_out_to_its_end(n):
    """Against each played alone by hand."""
    seeds = [4, 9, 2, 2, 7, 1]

    def best(x):
        return np.where(x[..., 0] > 0, 0, 2)

    tell = {"context": lambda observation, info: np.array([info["wind"]])}
    episodes = roll_out_kept(walks(n, **tell), Memoryless(best), seeds)
    for i, seed in enumerate(seeds):
        env = gym.wrappers.TimeLimit(Walk(), 9)
        observation, info = env.reset(seed=seed)
        rewards, over = [], False
        while not over:
            assert (episodes.observations[i, len(rewards)] == observation.astype(np.float32)).all()
            action = best(observation)
            assert episodes.actions[i, len(rewards)] == action
            observation, reward, terminated, truncated, _ = env.step(action)
            rewards.append(reward)
            over = terminated or truncated
        assert episodes.lengths[i] == len(rewards)
        assert episodes.returns[i] == sum(rewards)
        assert episodes.last_rewards[i] == rewards[-1]
        assert episodes.terminated[i] == terminated
        assert episodes.context[i] == [info["wind"]]
    assert len(set(episodes.lengths.tolist())) > 2


# ---------------------------------------------------------------------------------------------------------------- state


@KINDS
def test_a_saved_state_goes_on_as_if_nothing_had_happened(make):
    """In the middle of episodes, of which some have ended; also what comes after them."""
    envs = make(4, seed=3)
    envs.reset([3, 4], np.array([0, 2]))
    envs.reset(where=np.array([1, 3]))
    actions = actions_of(envs, 100)
    while envs.active.all():
        envs.step(actions[0])
    envs.reset(where=np.array([0]))
    envs.step(actions[0])
    assert envs.active.any()
    assert not envs.active.all()
    live = envs.state_dict()
    saved = encode(live)

    def goes_on(envs):
        steps = []
        for now in actions:
            steps.append(envs.step(now))
            over = np.flatnonzero(~envs.active)
            if len(over):
                steps.append((envs.reset(where=over), envs.active.copy()))
        return steps

    expected = goes_on(envs)
    for state in (decode(saved), live):  # `live` is not changed by what came after it
        for again in (make(4, seed=8), make(4, seed=8)):
            again.reset()  # whatever it did before
            again.step(actions[5])
            again.load_state_dict(state)
            for ours, theirs in zip(goes_on(again), expected, strict=True):
                for one, other in zip(ours, theirs, strict=True):
                    np.testing.assert_array_equal(one, other)


def test_a_state_of_what_has_not_begun():
    """Of no environment, and of one."""
    for begun in ([], [1]):
        envs, again = walks(2, 6), walks(2, 9)
        if begun:
            envs.reset([7], np.array(begun))
            envs.step(np.zeros(2, dtype=int))
        again.reset([1, 2])
        again.step(np.zeros(2, dtype=int))
        again.load_state_dict(decode(encode(envs.state_dict())))
        assert again.active.tolist() == [False, bool(begun)]
        if begun:
            assert_same(again.step(np.ones(2, dtype=int)), envs.step(np.ones(2, dtype=int)))
        np.testing.assert_array_equal(again.reset(), envs.reset())
        # A state of this state is the same.
        other = walks(2, 10)
        other.load_state_dict(again.state_dict())
        assert_same(other.step(np.ones(2, dtype=int)), envs.step(np.ones(2, dtype=int)))


def test_what_is_told_is_restored():
    def make():
        return walks(2, context=lambda observation, info: np.array([info["wind"]]))

    envs, again = make(), make()
    envs.reset([5, 6])
    again.reset([7, 8])
    again.load_state_dict(envs.state_dict())
    assert (again.context == envs.context).all()


class Noise(Walk):
    """Its seed does not fix it."""

    def step(self, action):
        self.at += np.random.default_rng().normal()
        return super().step(action)


def test_an_environment_that_its_seed_does_not_fix_is_named():
    envs, again = (GymnasiumVector([Walk(), Noise()]) for _ in range(2))
    envs.reset([1, 2])
    envs.step(np.array([1, 1]))
    with pytest.raises(RarlError, match=r"Noise.* does not play as it did when the state was saved"):
        again.load_state_dict(envs.state_dict())


def test_environments_that_cannot_be_saved_say_so():
    class Plain(VectorEnv):
        def reset(self, seeds=None, where=None):
            return np.zeros((1, 1))

        def step(self, actions):
            raise NotImplementedError

    for call in (lambda: Plain().state_dict(), lambda: Plain().load_state_dict({})):
        with pytest.raises(RarlError, match="Plain cannot be saved in the middle of an episode"):
            call()


# ------------------------------------------------------------------------------------------------------------- refusals


class Acting(gym.Env):
    """Of some action space."""

    observation_space = gym.spaces.Discrete(2)

    def __init__(self, space):
        self.action_space = space


@pytest.mark.parametrize(
    "space",
    [
        gym.spaces.Box(-1, 1, (2,)),
        gym.spaces.MultiDiscrete([2, 3]),
        gym.spaces.MultiBinary(3),
        gym.spaces.Discrete(3, start=1),
    ],
    ids=str,
)
def test_other_action_spaces_are_refused(space):
    for envs in ([Acting(space)], [Acting(gym.spaces.Discrete(3)), Acting(space)]):
        with pytest.raises(RarlError) as refused:
            GymnasiumVector(envs)
        assert str(refused.value) == f"action space {space}: agents here need Discrete(n), from 0"


def test_different_actions_are_refused():
    with pytest.raises(RarlError, match="played together need the same actions"):
        GymnasiumVector([Acting(gym.spaces.Discrete(n)) for n in (2, 3)])


class Growing(Walk):
    """What it shows becomes longer."""

    def look(self):
        return np.zeros(1 + self.steps, dtype=np.float32)


def test_observations_of_another_shape_are_refused():
    envs = GymnasiumVector([Walk(), Growing()])
    with pytest.raises(RarlError, match=r"Growing.*: an observation is of shape \(1,\), those before it .* \(2,\)"):
        envs.reset([1, 2])
    envs = GymnasiumVector([Growing()])
    envs.reset([1])
    with pytest.raises(RarlError, match=r"Growing.*: an observation is of shape \(2,\), those before it .* \(1,\)"):
        envs.step(np.zeros(1, dtype=int))


def test_actions_have_names():
    assert walks(1).actions == ("action 0", "action 1", "action 2")


def test_as_many_seeds_as_environments_to_begin():
    with pytest.raises(ValueError, match="2 environments to start need as many seeds, not 1"):
        walks(3).reset([1], np.array([0, 2]))
    with pytest.raises(ValueError, match="3 environments to start need as many seeds, not 4"):
        walks(3).reset([1, 2, 3, 4])
    assert where_of(3, None, None).tolist() == [0, 1, 2]
    assert where_of(3, None, [1]).dtype == np.int64
