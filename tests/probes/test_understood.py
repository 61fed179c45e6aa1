"""What retrieval tells, and whether more is done with it than copied: interventions and a control, by hand."""

from __future__ import annotations

import shutil
from collections import Counter

import numpy as np
import pytest
import torch

from rarl.agents.memory import RetrievalBatch
from rarl.config.scale import Scale
from rarl.envs.probing import flat
from rarl.probes.copying import RetrieveAndPlay
from rarl.probes.mean_z import Constant, MeanOfZ
from rarl.probes.plain import BEST, PlainProbe
from rarl.probes.trained import exchanged_by_reward, reordered
from rarl.runs.train import train_run

# Steps of three trajectories of 3, 1 and 2 steps, numbered; padding is 0 and stays where it is.
MASK = torch.tensor([[[1, 1, 1], [1, 0, 0], [1, 1, 0]]], dtype=torch.bool)
NUMBERS = torch.tensor([[[1, 2, 3], [4, 0, 0], [5, 6, 0]]])
REWARDS = torch.tensor([[[0.0, 1, 0], [1, 0, 0], [0, 2, 0]]])


@pytest.fixture
def numbered():
    none = np.zeros((1, 3, 3), dtype=np.int64)
    parts = NUMBERS[..., None], NUMBERS, REWARDS, REWARDS, MASK, NUMBERS[..., :1]
    return RetrievalBatch(*parts, none[..., 0], none[..., 0], none, none > 0)


def test_reordered_steps_stay_in_their_trajectory(numbered):
    rewards = dict(zip(NUMBERS[MASK].tolist(), REWARDS[MASK].tolist(), strict=True))
    seen = set()
    for seed in range(50):
        batch = reordered(numbered, np.random.default_rng(seed))
        assert torch.equal(batch.x[..., 0], batch.a)
        assert (batch.a[~MASK] == 0).all()
        assert [sorted(one) for one in batch.a[0].tolist()] == [sorted(one) for one in NUMBERS[0].tolist()]
        assert [rewards[n] for n in batch.a[MASK].tolist()] == batch.r[MASK].tolist()
        seen.add(tuple(batch.a[MASK].tolist()))
    assert len(seen) == 12


def test_states_are_exchanged_where_the_reward_is_the_same(numbered):
    seen = set()
    for seed in range(50):
        batch = exchanged_by_reward(numbered, np.random.default_rng(seed))
        assert torch.equal(batch.r, REWARDS)
        assert torch.equal(batch.x[..., 0], batch.a)
        assert (batch.a[~MASK] == 0).all()
        for reward in (0, 1, 2):
            where = MASK & torch.eq(REWARDS, reward)
            assert Counter(batch.a[where].tolist()) == Counter(NUMBERS[where].tolist())
        seen.add(tuple(batch.a[MASK].tolist()))
    assert len(seen) == 12


def test_the_nearest_state_says_what_to_do(numbered):
    one = RetrieveAndPlay.of_batch(numbered, np.array([[1, 0, 2]]), flat, tells=False)
    x = np.array([[2.2], [5.9], [-9.0]])
    assert one(x, np.array([True, True, True])).tolist() == [2, 6, 1]  # padding, whose number is 0, is no state
    assert one(x, np.array([False, True, False]))[1] == 6


@pytest.fixture(scope="module")
def probe(tiny_root, tmp_path_factory):
    root = tmp_path_factory.mktemp("understood")
    shutil.copytree(tiny_root, root, dirs_exist_ok=True)
    scale = Scale("tiny", root)
    run = next(run for run in scale.runs.values() if run.settings.variant == "ra-dqn")
    train_run(scale, run, device="cpu", force=True)
    return PlainProbe(scale, run)


def test_the_best_of_all_data_are_those_of_the_highest_returns(probe):
    datasets = [probe.memory.samplers[task].dataset for task in probe.evaluation.groups]
    copier = RetrieveAndPlay.of_best(datasets, BEST, probe.evaluation.places, flat, None)
    dataset = datasets[0]
    best = np.argsort(-dataset.returns, kind="stable")[: int(BEST * dataset.episodes)]
    states = [tuple(x) for i in best for x in dataset.episode(int(i)).observations[:-1].tolist()]
    assert Counter(states) == Counter(tuple(key) for key in copier._keys[0].tolist())
    # In the states of its data it does what was done there, in one of those that are alike.
    episode = dataset.episode(int(best[0]))
    x = np.repeat(episode.observations[:1], len(probe.evaluation.places.ravel()), 0)
    action = copier(x, np.ones(len(x), bool))[probe.evaluation.places[0][0]]
    done = {int(dataset.episode(int(i)).actions[t]) for i in best
            for t, other in enumerate(dataset.episode(int(i)).observations[:-1]) if (other == x[0]).all()}  # fmt: skip
    assert action in done


@torch.no_grad()
def test_what_is_read_is_held_at_its_mean(probe):
    evaluation = probe.evaluation
    retrieved = probe.batches(evaluation).summarise(probe.network)
    policy = evaluation.policy(probe.network, retrieved)
    mean = MeanOfZ(policy, evaluation.places)
    seen, playing = [], []

    def watched(x, now):
        actions = mean(x, now)
        seen.append(policy.unrolled.step.z[:, :, 0].clone())
        playing.append(now[evaluation.places].copy())
        return actions

    class Watched:
        begin = mean.begin
        __call__ = staticmethod(watched)

    evaluation.play(Watched())
    z, counts = torch.stack(seen), torch.from_numpy(np.stack(playing)).float()[..., None, None]
    assert torch.allclose(mean.z, (z * counts).sum((0, 2)) / counts.sum((0, 2)), atol=1e-5)
    x = torch.from_numpy(evaluation.environments().reset(evaluation.seeds.ravel())[evaluation.places])
    told = torch.zeros(evaluation.places.shape, dtype=torch.int64)
    q, _ = probe.network(x, told, retrieved)
    process = probe.network.process
    probe.network.retriever.process = Constant(process, mean.z)
    held, other = probe.network(x, told, retrieved)
    probe.network.retriever.process = process
    assert torch.equal(other.z, mean.z[:, None].expand_as(other.z))
    assert not torch.equal(held, q)
    assert torch.equal(probe.network(x, told, retrieved)[0], q)
    rows = probe.rows("z-mean", evaluation, probe._with_mean_z(probe.batches(evaluation)))
    assert len(rows) == len(evaluation.tasks)
    assert probe.network.process is process
