"""CartPole, one of gymnasium's own environments, connected in one file."""

import gymnasium

from rarl.envs.spec import EnvSpec


def make(task):
    return gymnasium.make(task)


def balances(task, returns, last_rewards):
    return returns >= 475  # gymnasium's threshold


SPEC = EnvSpec(
    name="cartpole",
    tasks=["CartPole-v1"],
    make=make,
    reward_range=(0.0, 1.0),
    return_range=(0.0, 500.0),
    success=balances,
    long_episode=500,
)
