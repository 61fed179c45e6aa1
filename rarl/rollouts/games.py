"""Evaluation on Atari: whole episodes of one game under a run's protocol."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rarl.agents.policy import Policy
from rarl.config.settings import OnlineSettings, RunSettings
from rarl.envs.atari.episodes import Act, Episodes, play_episodes
from rarl.envs.atari.vector import VectorAtari
from rarl.nn.retrieval import Summaries
from rarl.nn.value_network import ValueNetwork
from rarl.rollouts.rows import retrieval_blocks

# policy, x (n, bytes), first (n,), playing (n,): called after every step's values are known.
Watch = Callable[[Policy, np.ndarray, np.ndarray, np.ndarray], None]


def environments(game: str, n: int, online: OnlineSettings, seed: int = 0) -> VectorAtari:
    """n environments of a game under a run's protocol."""
    return VectorAtari(
        [game] * n,
        seed=seed,
        full_actions=online.full_actions,
        sticky=online.sticky,
        noop_max=online.noop_max,
        frame_skip=online.frame_skip,
        max_frames=online.max_frames,
        threads=online.emulator_threads,
    )


def evaluation_environments(settings: RunSettings) -> int:
    """How many environments an evaluation plays side by side."""
    return min(settings.online.actors, settings.evaluation.episodes_per_task)


def evaluation_blocks(settings: RunSettings) -> int:
    """Over how many retrieval batches the environments of an evaluation are spread."""
    return retrieval_blocks(evaluation_environments(settings), settings.evaluation.retrieval_batches)


def evaluation_episodes(settings: RunSettings, agent: Callable[[int, np.random.Generator], Act]) -> Episodes:
    """The episodes of a run's evaluation, which begin alike for every agent.

    agent: given the number of environments and the source of its exploration, what plays.
    """
    s, online = settings.evaluation, settings.online
    of_starts, of_exploration = (np.random.default_rng([settings.seed, s.board_seed, 10 + k]) for k in range(2))
    seeds = of_starts.integers(2**31, size=s.episodes_per_task)
    envs = environments(settings.tasks[0], evaluation_environments(settings), online)
    return play_episodes(envs, agent(envs.num_envs, of_exploration), seeds, settings.agent.stack)


def evaluate_game(
    settings: RunSettings, network: ValueNetwork, retrieved: Summaries | None, watch: Watch | None = None
) -> Episodes:
    """The episodes of a run's evaluation, played by a network (on its device) that retrieves from `retrieved`."""

    def agent(n: int, rng: np.random.Generator) -> Act:
        policy = Policy(network, np.full(n, settings.evaluation.epsilon), rng)
        policy.retrieved = retrieved

        def act(x: np.ndarray, first: np.ndarray, playing: np.ndarray) -> np.ndarray:
            policy.begin(first)
            actions = policy(x)
            if watch is not None:
                watch(policy, x, first, playing)
            return actions

        return act

    return evaluation_episodes(settings, agent)
