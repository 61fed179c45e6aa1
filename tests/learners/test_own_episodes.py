"""While learning, no state reads a trajectory of its own episode: offline, on sequences, and online."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rarl.learners.value_learner import ValueLearner
from rarl.nn.retrieval import Mode
from tests import tiny_atari, tiny_babyai, tiny_project, tiny_relevance
from tests.fake_games import FakeGames

NOT_APART = {"agent": {"retrieval": {"keep_apart": "none"}}}


def attention_on_own_episode(learner, updates=6):
    """(mass on trajectories of the asking state's own episode, how many there were), summed over learner steps."""
    asking, mass, found = {}, 0.0, 0
    sampler = getattr(learner, "sampler", None)
    if sampler is None:  # online
        sample = learner.replay.sample

        def draw(*arguments):
            drawn = sample(*arguments)
            asking["of"] = np.zeros((1, len(drawn.learn)), int), drawn.learn.episodes[None]
            return drawn

        learner.replay.sample = draw
    else:
        sample = sampler.sample

        def draw(*arguments):
            batch = sample(*arguments)
            asking["of"] = batch.task_indices, batch.episodes
            return batch

        sampler.sample = draw
    summarise = learner._summarise

    def keep_batch(batch):
        asking["batch"] = batch
        return summarise(batch)

    learner._summarise = keep_batch
    passes = []

    def noticing(read):
        def read_and_notice(q, retrieved, mode, *others):
            alpha, g = read(q, retrieved, mode, *others)
            passes.append((mode, alpha.detach()))
            return alpha, g

        return read_and_notice

    for network in (learner.network, learner.target):
        network.process.read = noticing(network.process.read)
    for _ in range(updates):
        passes.clear()
        ValueLearner.update(learner)
        batch = asking["batch"]
        groups, n_traj = batch.given.shape
        given, episodes = (array.reshape(groups, -1) for array in asking["of"])
        own = (batch.given[:, None] == given[..., None]) & (batch.episodes[:, None] == episodes[..., None])
        own = torch.from_numpy(own)
        found += int(own.sum())
        assert {mode for mode, _ in passes} == {Mode.LEARN, Mode.TARGET}
        for _, alpha in passes:
            of_trajectory = alpha.unflatten(-1, (n_traj, -1)).sum(-1)  # (G, B or B T, n_f, n_traj)
            asked = own.repeat_interleave(of_trajectory.shape[1] // own.shape[1], dim=1)
            mass += float((of_trajectory * asked[:, :, None]).sum())
    return mass, found


def with_transitions(root, changes=None):
    return tiny_project.learner_of(root, "ra-dqn", changes)


@pytest.mark.parametrize("changes", [None, NOT_APART], ids=["apart", "not apart"])
def test_on_transitions(tiny_root, changes):
    mass, found = attention_on_own_episode(tiny_project.learner_of(tiny_root, "ra-dqn", changes))
    assert found > 20
    assert (mass > 0) == (changes is not None)


def test_of_an_index(tiny_root):
    learner = tiny_project.learner_of(tiny_root, "ra-dqn", tiny_relevance.changes("exact"))
    mass, found = attention_on_own_episode(learner)
    assert found > 10
    assert mass == 0


@pytest.mark.parametrize("variant", ["own", "all"])
@pytest.mark.parametrize("changes", [None, NOT_APART], ids=["apart", "not apart"])
def test_on_sequences(tiny_babyai_root, variant, changes):
    mass, found = attention_on_own_episode(tiny_babyai.learner_of(tiny_babyai_root, variant, changes))
    assert found > 10
    assert (mass > 0) == (changes is not None)


@pytest.mark.parametrize("variant", ["ra-r2d2", "ra-dqn"])
@pytest.mark.parametrize("changes", [{}, NOT_APART], ids=["apart", "not apart"])
def test_online(tiny_atari_root, monkeypatch, variant, changes):
    FakeGames.play_instead(monkeypatch)
    learner = tiny_atari.learner_of(
        tiny_atari_root, variant, changes | {"updates": 100, "online": {"capacity_sequences": 300}}
    )
    learner.actors.play(60).add_to(learner.replay)
    mass, found = attention_on_own_episode(learner, updates=30)
    assert found > 3
    assert (mass > 0) == bool(changes)
