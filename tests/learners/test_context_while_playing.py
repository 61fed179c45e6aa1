"""Agents that learn while they play are told what an episode is about, and so is what they retrieve."""

from __future__ import annotations

import copy

import gymnasium as gym
import numpy as np
import torch
from torch import nn

from rarl.config.player import run_of
from rarl.envs.spec import EnvSpec
from rarl.learners.online import OnlineLearner
from rarl.nn.retrieval import Mode

STEPS = 4


class Told(gym.Env):
    """Rewards the action that is told in the beginning, and shows nothing."""

    observation_space = gym.spaces.Box(0, 1, (1,), np.float32)
    action_space = gym.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.wanted, self.t = int(self.np_random.integers(3)), 0
        return np.zeros(1, np.float32), {"wanted": self.wanted}

    def step(self, action):
        self.t += 1
        return np.zeros(1, np.float32), float(action == self.wanted), self.t == STEPS, False, {}


class Encoder(nn.Module):
    """Two words of context: the action, and one that says nothing."""

    def __init__(self, d_s: int, n_tasks: int):
        super().__init__()
        self.words = nn.Embedding(10, d_s)

    def forward(self, x, context):
        assert context.dtype == torch.int64
        return self.words(context).sum(-2).expand(*x.shape[:-1], -1)


def tell(observation, info):
    return np.array([info["wanted"], 9], np.uint8)


SPEC = EnvSpec(
    "told", ["it"], make=lambda task: Told(), tell=tell, context="wanted", encoders={"told": Encoder}, n_actions=3
)


def learner_of(process: str, core: str = "gru") -> OnlineLearner:
    retrieval = {"n_f": 2, "d_m": 8, "d_e": 8, "d_v": 8, "slot_heads": 2, "n_traj": 4, "k_traj": 2, "select_by": "none"}
    settings = {
        "agent": {"core": core, "d_s": 16, "retrieval": retrieval | {"process": process}},
        "learning": {"batch_sequences": 16, "sequence_steps": STEPS, "learning_rate": 3e-3, "discount": 0.5},
        "evaluation": {"episodes_per_task": 30},
        "online": {"actors": 8, "period_steps": STEPS, "capacity_sequences": 500, "start_sequences": 100},
    }
    torch.manual_seed(0)
    return OnlineLearner(run_of(f"{__name__}:SPEC", "it", 0, settings), "cpu")


def test_it_learns_what_it_is_told():
    learner = learner_of("none")
    while learner.updates_done < 150:
        learner.update()
    assert learner.evaluate()[0]["return_mean"] > 0.9 * STEPS


def test_the_replay_keeps_what_was_told():
    learner = learner_of("slots")
    seen = []
    unroll = learner.network.unroll

    def watched(x, context, *more, **options):
        if options.get("mode") is Mode.LEARN:
            seen.append(context)
        return unroll(x, context, *more, **options)

    learner.network.unroll = watched
    while learner.updates_done < 3:
        learner.update()
    windows = learner.replay.at(learner.replay.ids)
    told = windows.state["context"]
    assert (told[:, 1] == 9).all()
    assert {*told[:, 0].tolist()} == {0, 1, 2}
    # A step is rewarded if and only if it does what was told about its episode.
    assert ((windows.actions == told[:, :1]) == (windows.r_t > 0))[windows.mask].all()
    batch = learner.sample_batch(np.random.default_rng(0))
    assert batch.context.shape == (1, 4, 1, 2)
    wanted = batch.context[..., :1].squeeze(-1)
    assert ((batch.a == wanted) == (batch.r > 0)).all()
    assert all(context.shape == (1, 16, 1, 2) for context in seen)
    assert seen


def test_it_goes_on_as_it_would_have():
    learner, other = learner_of("slots"), learner_of("slots")
    while learner.updates_done < 2:
        learner.update()
    other.load_state_dict(copy.deepcopy(learner.state_dict()))
    for seed in range(3):
        losses = []
        for each in (learner, other):
            torch.manual_seed(seed)  # torch's own generator is saved by the loop
            losses.append(each.update()["loss"])
        assert losses[0] == losses[1]
