"""Retrieval batches."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from rarl.agents.build import build_network
from rarl.agents.memory import Memory
from rarl.config.settings import AgentSettings, RetrievalSettings, RunSettings
from rarl.errors import RarlError
from rarl.trajectories.store import DatasetWriter, TrajectoryDataset
from tests import tiny_project


def settings_of(**changes):
    return RetrievalSettings(**({"n_traj": 6, "k_traj": 3, "select_by": "none"} | changes))


def ragged_dataset(folder, lengths, first=0):
    """Episodes of the given lengths; step t of episode e has observation [e, t] and action t mod 7, reward e."""
    folder.parent.mkdir(exist_ok=True, parents=True)
    with DatasetWriter(folder, environment="toy", task="toy", source="toy", seed=0, generator={}) as writer:
        for e, length in enumerate(lengths, start=first):
            steps = np.arange(length)
            observations = np.stack([np.full(length + 1, e), np.arange(length + 1)], axis=1).astype(np.int8)
            writer.add_flat(
                observations, (steps % 7).astype(np.int8), np.full(length, e, dtype=np.uint8), np.array([length])
            )
    return TrajectoryDataset.open(folder)


@pytest.fixture(scope="module")
def datasets(tiny_root):
    return tiny_project.datasets_of(tiny_root)


@pytest.mark.parametrize(
    ("stride", "steps"),
    [(1, list(range(50))), (10, [9, 19, 29, 39, 49]), (12, [11, 23, 35, 47, 49]), (50, [49]), (70, [49])],
)
def test_a_stride_looks_at_the_last_step_of_each(datasets, stride, steps):
    batch = Memory(datasets, settings_of(step_stride=stride)).sample(np.array([0, 3, 3]), np.random.default_rng(0))
    assert (batch.steps == np.array(steps)).all()
    assert batch.steps.shape == (3, 6, len(steps))
    assert batch.x.shape == (3, 6, len(steps), 11)
    assert batch.a.shape == batch.r.shape == (3, 6, len(steps))
    assert (batch.x.dtype, batch.a.dtype, batch.r.dtype) == (torch.int8, torch.int64, torch.float32)
    assert batch.mask is None
    assert batch.context[:, 0, 0].tolist() == batch.given[:, 0].tolist() == [0, 3, 3]
    for g in range(3):
        for i in range(6):
            episode = datasets[batch.given[g, i]].episode(int(batch.episodes[g, i]))
            assert (batch.x[g, i].numpy() == episode.observations[steps]).all()
            assert (batch.a[g, i].numpy() == episode.actions[steps]).all()
            assert (batch.r[g, i].numpy() == episode.rewards[steps]).all()


def test_trajectories_of_a_batch_differ_and_groups_draw_for_themselves(datasets):
    batch = Memory(datasets, settings_of()).sample(np.zeros(40, dtype=int), np.random.default_rng(1))
    assert all(len(set(row)) == 6 for row in batch.episodes.tolist())
    assert len({tuple(row) for row in batch.episodes.tolist()}) > 30
    counts = np.bincount(batch.episodes.ravel(), minlength=tiny_project.EPISODES)
    assert (counts > 0).all()  # uniform: 240 draws from 16 episodes


def test_selection_by_return_keeps_the_best_of_those_drawn(datasets):
    rng = np.random.default_rng(3)
    batch = Memory(datasets, settings_of(select_by="return")).sample(np.arange(10), rng)
    everything = Memory(datasets, settings_of()).sample(np.arange(10), np.random.default_rng(3))
    assert batch.a.shape[:2] == (10, 3)
    differs = 0
    for task in range(10):
        returns = datasets[task].returns
        drawn = returns[everything.episodes[task]]
        kept = returns[batch.episodes[task]]
        assert sorted(kept) == sorted(drawn)[-3:]
        assert set(batch.episodes[task]) <= set(everything.episodes[task])
        differs += sorted(kept) != sorted(drawn)[:3]
        for i, episode in enumerate(batch.episodes[task]):
            assert (batch.a[task, i].numpy() == datasets[task].episode(int(episode)).actions).all()
    assert differs > 0


def test_selection_by_attention_keeps_all_for_the_network(datasets):
    batch = Memory(datasets, settings_of(select_by="attention")).sample(np.arange(2), np.random.default_rng(0))
    assert batch.a.shape[:2] == (2, 6)


def test_given_datasets_take_the_place_of_the_tasks_own(datasets):
    batch = Memory(datasets, settings_of(source="random")).sample(
        np.array([0, 1, 2]), np.random.default_rng(0), given=np.array([5, 5, 7])
    )
    assert batch.context[:, 0, 0].tolist() == [0, 1, 2]  # what the encoder is told
    assert batch.given[:, 0].tolist() == [5, 5, 7]
    for g, given in enumerate([5, 5, 7]):
        episode = datasets[given].episode(int(batch.episodes[g, 0]))
        assert (batch.x[g, 0].numpy() == episode.observations[:-1]).all()


def test_kept_batches_depend_on_the_seed_and_the_dataset_alone(datasets):
    kept = [Memory(datasets, settings_of(fresh=False), seed=seed) for seed in (3, 3, 4)]
    rng = np.random.default_rng(0)
    first = kept[0].sample(np.arange(10), rng).episodes
    assert (kept[0].sample(np.arange(10), rng).episodes == first).all()
    assert (kept[1].sample(np.arange(4, 6), np.random.default_rng(9)).episodes == first[4:6]).all()
    assert (kept[1].sample(np.arange(2), rng, given=np.array([7, 8])).episodes == first[7:9]).all()
    assert not (kept[2].sample(np.arange(10), rng).episodes == first).all()


def test_source_all_makes_one_batch_of_every_task(datasets):
    memory = Memory(datasets, settings_of(source="all", select_by="return"))
    assert memory.pooled
    batch = memory.sample(np.arange(10), np.random.default_rng(2))
    apart = Memory(datasets, settings_of(select_by="return")).sample(np.arange(10), np.random.default_rng(2))
    assert batch.x.shape == (1, 30, *apart.x.shape[2:])
    assert batch.given.shape == batch.episodes.shape == (1, 30)
    assert (batch.given == np.repeat(np.arange(10), 3)).all()
    assert torch.equal(batch.x[0], apart.x.flatten(0, 1))
    assert torch.equal(batch.context[0, :, 0], torch.arange(10).repeat_interleave(3))


def test_missions_go_with_their_trajectories(tmp_path):
    words = np.arange(8, dtype=np.uint8).reshape(4, 2)
    with DatasetWriter(tmp_path / "a", environment="toy", task="a", source="toy", seed=0, generator={}) as writer:
        writer.add(np.zeros((4, 4, 2), np.uint8), np.zeros((4, 3), np.uint8), np.zeros((4, 3), np.uint8), mission=words)
    dataset = TrajectoryDataset.open(tmp_path / "a")
    batch = Memory([dataset], settings_of(n_traj=4), context="mission").sample(np.array([0]), np.random.default_rng(0))
    assert batch.context.shape == (1, 4, 1, 2)
    assert batch.context[0, :, 0].tolist() == words[batch.episodes[0]].tolist()


def test_source_random_draws_from_all_tasks_alike(datasets):
    memory = Memory(datasets, settings_of(source="random"))
    rng = np.random.default_rng(0)
    given = np.concatenate([memory.sample(np.arange(10), rng).given[:, 0] for _ in range(40)])
    counts = np.bincount(given, minlength=10)
    assert (counts > 15).all()
    assert (counts < 80).all()
    assert (np.arange(10) == Memory(datasets, settings_of()).sample(np.arange(10), rng).given.T).all()


@pytest.mark.parametrize("source", ["own", "random"])
def test_all_randomness_comes_from_the_generator(datasets, source):
    memory = Memory(datasets, settings_of(source=source, select_by="return"))
    tasks = np.array([1, 4, 9])
    one = memory.sample(tasks, np.random.default_rng(7))
    np.random.seed(3)  # noqa: NPY002 (must not matter)
    other = Memory(datasets, memory.settings).sample(tasks, np.random.default_rng(7))
    assert torch.equal(one.x, other.x)
    assert (one.episodes == other.episodes).all()
    assert (one.given == other.given).all()
    assert not torch.equal(one.x, memory.sample(tasks, np.random.default_rng(8)).x)


def test_ragged_trajectories_are_padded_under_a_mask(tmp_path):
    lengths = [3, 8, 5, 9]
    both = [ragged_dataset(tmp_path / "a", lengths), ragged_dataset(tmp_path / "b", [4, 4, 4, 4], first=50)]
    memory = Memory(both, settings_of(n_traj=4, step_stride=2))
    batch = memory.sample(np.array([0, 1, 0]), np.random.default_rng(0))
    assert batch.x.shape == (3, 4, 5, 2)
    assert batch.mask.dtype == torch.bool
    for g in range(3):
        for i, episode in enumerate(batch.episodes[g]):
            length = lengths[episode] if batch.given[g, 0] == 0 else 4
            name = episode + 50 * batch.given[g, 0]
            for j in range(5):
                # SampledSteps at steps 1, 3, 5, ..., the last at the trajectory's own last step.
                real, step = 2 * j < length, min(2 * j + 1, length - 1)
                assert batch.mask[g, i, j].item() == real
                assert not real or batch.steps[g, i, j] == step
                expected = ([name, step], step % 7, name) if real else ([0, 0], 0, 0)
                assert (batch.x[g, i, j].tolist(), batch.a[g, i, j].item(), batch.r[g, i, j].item()) == expected
    assert memory.sample(np.array([1, 1]), np.random.default_rng(0)).mask is None


def test_a_trajectory_shorter_than_the_stride_is_still_looked_at(tmp_path):
    """Otherwise a group of short trajectories beside a group of long ones has nothing to attend to: its z is NaN."""
    both = [ragged_dataset(tmp_path / "a", [3] * 4), ragged_dataset(tmp_path / "b", [20] * 4, first=50)]
    batch = Memory(both, settings_of(n_traj=4, step_stride=10)).sample(np.array([0, 1]), np.random.default_rng(0))
    assert batch.mask is None or batch.mask.any(-1).all()


@pytest.mark.parametrize("fresh", [True, False])
def test_short_trajectories_are_looked_at_in_a_row(datasets, fresh):
    """Of each the same steps of the episode that its numbers say; drawn anew where the batch is."""
    memory = Memory(datasets, settings_of(trajectory_steps=5, step_stride=2, fresh=fresh), discount=0.9)
    rng = np.random.default_rng(0)
    batch, again = (memory.sample(np.array([0, 3]), rng) for _ in range(2))
    assert batch.x.shape[:3] == (2, 6, 3)
    assert batch.mask is None
    begins = batch.steps[:, :, 0] - 1
    assert (batch.steps == begins[..., None] + [1, 3, 4]).all()
    assert len(set(begins.ravel())) > 6
    assert (begins >= 0).all()
    assert (begins <= 45).all()
    assert ((batch.episodes == again.episodes).all() and (batch.steps == again.steps).all()) == (not fresh)
    for g in range(2):
        for i in range(6):
            episode = datasets[batch.given[g, i]].episode(int(batch.episodes[g, i]))
            steps = batch.steps[g, i]
            assert (batch.x[g, i].numpy() == episode.observations[steps]).all()
            assert (batch.r[g, i].numpy() == episode.rewards[steps]).all()
            to_go = [sum(0.9**k * r for k, r in enumerate(episode.rewards[t:].tolist())) for t in steps]
            np.testing.assert_allclose(batch.value[g, i], to_go, rtol=1e-5)


def test_moving_a_batch_keeps_what_it_is(tmp_path):
    memory = Memory([ragged_dataset(tmp_path / "a", [3, 8, 5, 9])], settings_of(n_traj=4))
    batch = memory.sample(np.array([0]), np.random.default_rng(0))
    moved = batch.to("meta")
    assert {moved.x.device.type, moved.a.device.type, moved.mask.device.type, moved.context.device.type} == {"meta"}
    assert moved.steps is batch.steps


def test_a_dataset_too_small_is_named(datasets):
    with pytest.raises(RarlError, match=r"touch-red: 16 episodes are used, but a retrieval batch takes n_traj = 17"):
        Memory(datasets, settings_of(n_traj=17))


def test_gradients_of_some_trajectories_only(datasets):
    """The same summaries; the encoder learns from the first trajectories alone."""
    batch = Memory(datasets, settings_of()).sample(np.array([0, 3]), np.random.default_rng(0))
    torch.manual_seed(0)
    agent = AgentSettings(task="hidden", encoder="mlp", d_s=16, retrieval=settings_of(d_h=16, process="slots"))
    settings = RunSettings.model_construct(environment="gridroboman", environment_options={}, agent=agent)
    network = build_network(settings, 7, 30)
    x = batch.x.float().requires_grad_()
    batch = dataclasses.replace(batch, x=x)
    network.encoder = torch.nn.Linear(11, 16)
    network.encoder.forward = lambda x, told: torch.nn.functional.linear(x, network.encoder.weight)
    everything, some = batch.summarise(network), batch.summarise(network, gradients=2)
    for a, b in zip(everything, some, strict=True):
        assert a is b is None or torch.equal(a, b)
    (gradient,) = torch.autograd.grad(some.keys.sum() + some.values.sum(), x)
    reached = gradient.abs().sum((2, 3)) > 0
    assert reached.tolist() == [[True, True, False, False, False, False]] * 2
    assert batch.summarise(network, gradients=6).keys.requires_grad
