"""Samplers against slow references and numbers worked out by hand."""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict

import numpy as np
import pytest

from rarl.errors import RarlError
from rarl.trajectories.sampling import (
    ResidentLimit,
    RetrievalSampler,
    SequenceSampler,
    TransitionSampler,
    powers_to_go,
    random_span,
)
from rarl.trajectories.store import DatasetWriter, TrajectoryDataset
from tests import tiny_babyai


def make(folder, lengths, ends="truncation", seed=0, **extras):
    """Observations count up (episode, time), so that every one is known by its value."""
    rng = np.random.default_rng(seed)
    observations = np.concatenate(
        [np.stack([np.full(length + 1, i), np.arange(length + 1)], axis=1) for i, length in enumerate(lengths)]
    ).astype(np.int16)
    steps = sum(lengths)
    with DatasetWriter(
        folder, environment="test", task=folder.name, source="bot", seed=seed, generator={}, ends=ends
    ) as out:
        out.add_flat(
            observations,
            rng.integers(0, 100, steps, dtype=np.int8),
            rng.integers(0, 9, steps, dtype=np.uint8),
            lengths,
            **extras,
        )
    return TrajectoryDataset.open(folder)


def slow_transition(dataset, step, discount, n_step):
    for i in range(dataset.episodes):
        episode = dataset.episode(i)
        if step < len(episode):
            total, weight, t = 0.0, 1.0, step
            while t < len(episode) and t < step + n_step:
                total += weight * float(episode.rewards[t])
                weight *= discount
                t += 1
            if t == len(episode) and dataset.terminated[i]:
                weight = 0.0
            return episode.observations[step], episode.actions[step], total, weight, episode.observations[t]
        step -= len(episode)
    raise IndexError


@pytest.mark.parametrize("n_step", [1, 2, 3, 7])
@pytest.mark.parametrize("lengths", [[4, 1, 6, 2], [5, 5, 5]], ids=["ragged", "equal"])
def test_transitions_against_a_slow_reference(tmp_path, lengths, n_step):
    ends = np.arange(len(lengths)) % 2 == 0
    datasets = [
        make(tmp_path / "a", lengths, seed=1),
        make(tmp_path / "b", lengths, "termination", seed=2),
        make(tmp_path / "c", lengths, "per-episode", seed=3, terminated=ends),
    ]
    sampler = TransitionSampler(datasets, discount=0.9, n_step=n_step)
    steps = sum(lengths)
    tasks, starts = (grid.ravel() for grid in np.meshgrid(np.arange(3), np.arange(steps)))
    batch = sampler.at(tasks, starts)
    assert (batch.x_tm1.dtype, batch.r_t.dtype, batch.discount_t.dtype) == (np.int16, np.float32, np.float32)
    for row, (task, start) in enumerate(zip(tasks, starts, strict=True)):
        x_tm1, a_tm1, r_t, discount_t, x_t = slow_transition(datasets[task], start, 0.9, n_step)
        np.testing.assert_array_equal(batch.x_tm1[row], x_tm1)
        np.testing.assert_array_equal(batch.x_t[row], x_t)
        assert batch.a_tm1[row] == a_tm1
        assert batch.r_t[row] == pytest.approx(r_t)
        assert batch.discount_t[row] == pytest.approx(discount_t)
        assert batch.task_indices[row] == task


def test_three_steps_by_hand(tmp_path):
    for ends, last in (("truncation", 0.5), ("termination", 0.0)):
        folder = tmp_path / ends
        with DatasetWriter(folder, environment="test", task="t", source="bot", seed=0, generator={}, ends=ends) as out:
            out.add(np.arange(5)[None], np.arange(4)[None], np.array([[1.0, 2.0, 4.0, 8.0]]))
        batch = TransitionSampler([TrajectoryDataset.open(folder)], 0.5, 3).at(np.zeros(4, int), np.arange(4))
        assert batch.r_t.tolist() == [1 + 1 + 1, 2 + 2 + 2, 4 + 4, 8]
        assert batch.x_t.tolist() == [3, 4, 4, 4]
        # Cut off by the time limit, the value of the last observation counts, however short the window; else nothing.
        assert batch.discount_t.tolist() == [0.125, 0.125 * (last > 0), 0.25 * (last > 0), last]


def test_transitions_are_uniform_over_all_steps_of_each_task(tmp_path):
    datasets = [make(tmp_path / "a", [4, 1, 6, 2]), make(tmp_path / "b", [20, 3])]
    sampler, rng = TransitionSampler(datasets, 0.9), np.random.default_rng(0)
    counts = np.zeros((2, 4, 20))
    tasks = np.array([0, 1, 1, 0] * 1000)
    for _ in range(20):
        batch = sampler.sample(tasks, rng)
        np.add.at(counts, (tasks, batch.x_tm1[:, 0], batch.x_tm1[:, 1]), 1)
    for dataset, seen in zip(datasets, counts, strict=True):
        expected = 40_000 / dataset.steps
        seen = np.concatenate([seen[i, :length] for i, length in enumerate(dataset.lengths)])
        assert seen.sum() == 40_000  # nothing beyond the last step of an episode
        degrees = dataset.steps - 1
        assert ((seen - expected) ** 2 / expected).sum() < degrees + 4 * np.sqrt(2 * degrees)


def test_the_generator_decides(tmp_path):
    sampler = TransitionSampler([make(tmp_path / "a", [4, 1, 6, 2])], 0.9)
    tasks = np.zeros(50, dtype=int)
    first, again = (sampler.sample(tasks, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first.x_tm1, again.x_tm1)
    assert (first.x_tm1 != sampler.sample(tasks, np.random.default_rng(6)).x_tm1).any()


def test_wrong_settings(tmp_path):
    a = make(tmp_path / "a", [3, 4])
    with DatasetWriter(tmp_path / "b", environment="test", task="b", source="bot", seed=0, generator={}) as out:
        out.add(np.zeros((1, 3, 5)), np.zeros((1, 2), dtype=np.int8), np.zeros((1, 2)))
    b = TrajectoryDataset.open(tmp_path / "b")
    for arguments, says in (
        (([], 0.9), "at least one dataset"),
        (([a], 0.0), "discount=0.0: must be in"),
        (([a], 1.1), "discount=1.1"),
        (([a], 0.9, 0), "n_step=0: must be at least 1"),
        (([a, b], 0.9), "b: observations of float64"),
    ):
        with pytest.raises(RarlError, match=says):
            TransitionSampler(*arguments)
    rng = np.random.default_rng(0)
    for arguments, says in (
        ((3, None, rng), "a: a retrieval batch of 3 trajectories cannot be drawn from 2 episodes"),
        ((0, None, rng), "retrieval batch of 0"),
        ((2, 3, rng), "k_best_by_return=3: must be between 1 and the 2 drawn"),
    ):
        with pytest.raises(RarlError, match=says):
            RetrievalSampler(a).draw(*arguments)


@pytest.mark.parametrize("discount", [0.0, 0.5, 0.99, 1.0])
def test_rewards_to_go_against_a_loop(discount):
    rewards = np.random.default_rng(0).normal(size=(6, 7)).astype(np.float32)
    rewards[1, 4:] = 0  # a trajectory that ended after four steps
    expected = np.zeros(rewards.shape)
    for i in range(6):
        total = 0.0
        for j in reversed(range(7)):
            total = rewards[i, j] + discount * total
            expected[i, j] = total
    to_go = rewards @ powers_to_go(7, discount)
    assert to_go.dtype == np.float32
    np.testing.assert_allclose(to_go, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("lengths", [[4, 1, 6, 2, 3], [5] * 5], ids=["ragged", "equal"])
@pytest.mark.parametrize("stride", [1, 2, 4, 9])
def test_looks_against_the_episodes(tmp_path, lengths, stride):
    dataset, chosen = make(tmp_path / "a", lengths), np.array([3, 1, 2])
    looks = RetrievalSampler(dataset).look(chosen, stride, 0.9)
    for row, i in enumerate(chosen):
        episode = dataset.episode(i)
        steps = [min(t + stride, len(episode)) - 1 for t in range(0, len(episode), stride)]
        n = len(steps)
        assert looks.mask[row].tolist() == [True] * n + [False] * (looks.mask.shape[1] - n)
        assert looks.steps[row, :n].tolist() == steps
        np.testing.assert_array_equal(looks.observations[row, :n], episode.observations[steps])
        np.testing.assert_array_equal(looks.actions[row, :n], episode.actions[steps])
        np.testing.assert_array_equal(looks.rewards[row, :n], episode.rewards[steps])
        values = [sum(0.9 ** (k - t) * float(episode.rewards[k]) for k in range(t, len(episode))) for t in steps]
        np.testing.assert_allclose(looks.values[row, :n], values, rtol=1e-5)
        for array in (looks.observations, looks.actions, looks.rewards, looks.values):
            assert not array[row, n:].any()
    assert looks.mask.any(axis=0).all()  # padded to the most looks, not further


@pytest.mark.parametrize("lengths", [[4, 1, 6, 2, 9], [5] * 5], ids=["ragged", "equal"])
@pytest.mark.parametrize(("steps", "stride"), [(3, 1), (3, 2), (3, 9), (1, 1), (5, 2), (20, 4)])
def test_looks_at_some_steps_in_a_row_against_the_episodes(tmp_path, lengths, steps, stride):
    """Whole where an episode is shorter; values are those of the whole episode all the same."""
    dataset, chosen, rng = make(tmp_path / "a", lengths), np.array([3, 1, 2, 4]), np.random.default_rng(0)
    sampler = RetrievalSampler(dataset)
    begun = set()
    for _ in range(40):
        span = sampler.span(chosen, steps, rng)
        looks = sampler.look(chosen, stride, 0.9, span)
        for row, i in enumerate(chosen):
            episode, begin = dataset.episode(i), int(span.begin[row])
            window = range(len(episode))[begin : begin + steps]
            assert len(window) == min(steps, len(episode))
            begun.add((int(i), begin))
            at = [window[min(t + stride, len(window)) - 1] for t in range(0, len(window), stride)]
            n = len(at)
            assert looks.mask[row].tolist() == [True] * n + [False] * (looks.mask.shape[1] - n)
            assert looks.steps[row, :n].tolist() == at
            np.testing.assert_array_equal(looks.observations[row, :n], episode.observations[at])
            np.testing.assert_array_equal(looks.actions[row, :n], episode.actions[at])
            np.testing.assert_array_equal(looks.rewards[row, :n], episode.rewards[at])
            values = [sum(0.9 ** (k - t) * float(episode.rewards[k]) for k in range(t, len(episode))) for t in at]
            np.testing.assert_allclose(looks.values[row, :n], values, rtol=1e-5)
            for array in (looks.observations, looks.actions, looks.rewards, looks.values):
                assert not array[row, n:].any()
        assert looks.mask.any(axis=0).all()
    assert begun == {(int(i), start) for i in chosen for start in range(max(lengths[i] - steps, 0) + 1)}


def test_steps_in_a_row_begin_anywhere_alike(tmp_path):
    span = random_span(np.full(7000, 9), 3, np.random.default_rng(0))
    counts = np.bincount(span.begin, minlength=8)
    assert counts[7] == 0
    assert (abs(counts[:7] - 1000) < 5 * np.sqrt(1000 * 6 / 7)).all()
    assert (span.end == span.begin + 3).all()


def test_nothing_is_drawn_where_all_steps_are_looked_at(tmp_path):
    sampler, rng = RetrievalSampler(make(tmp_path / "a", [4, 1, 6])), np.random.default_rng(0)
    before = rng.bit_generator.state
    assert sampler.span(np.array([0, 2]), None, rng) is None
    assert rng.bit_generator.state == before


def test_retrieval_is_uniform_and_without_replacement(tmp_path):
    sampler, rng = RetrievalSampler(make(tmp_path / "a", [2, 3] * 10)), np.random.default_rng(0)
    counts = np.zeros((20, 20))
    for _ in range(4000):
        episodes = sampler.draw(5, None, rng)
        assert len(set(episodes)) == 5
        counts[np.ix_(episodes, episodes)] += 1
    alone, pairs = np.diag(counts), counts[np.triu_indices(20, 1)]
    assert (abs(alone - 1000) < 5 * np.sqrt(1000 * 0.75)).all()
    expected = 4000 * (5 * 4) / (20 * 19)
    assert (abs(pairs - expected) < 5 * np.sqrt(expected)).all()


def test_the_best_of_those_drawn(tmp_path):
    dataset = make(tmp_path / "a", [6] * 200)
    sampler = RetrievalSampler(dataset)
    for seed in range(20):
        drawn = sampler.draw(64, None, np.random.default_rng(seed))
        best = sampler.draw(64, 10, np.random.default_rng(seed))
        order = sorted(range(64), key=lambda i: (-dataset.returns[drawn[i]], i))[:10]
        assert best.tolist() == drawn[order].tolist()
        assert (np.diff(dataset.returns[best]) <= 0).all()


# ----------------------------------------------------------------------------------------------------------- sequences


@pytest.mark.parametrize("burn_in", [0, 2])
def test_windows_against_the_episodes(tmp_path, burn_in):
    lengths, steps = [4, 1, 9, 6, 5], 5
    names = np.arange(5, dtype=np.uint8)[:, None]
    datasets = [
        make(tmp_path / "a", lengths, "per-episode", seed=1, terminated=np.array([1, 0, 1, 0, 1], bool), name=names),
        make(tmp_path / "b", lengths[::-1], "termination", seed=2, name=names + 10),
    ]
    sampler, rng = SequenceSampler(datasets, steps, 0.9, burn_in, ["name"]), np.random.default_rng(0)
    trace, traces = steps - burn_in, defaultdict(list)
    for _ in range(300):
        batch = sampler.sample(np.array([0, 1, 0, 1]), rng)
        for row in range(4):
            i, e, start = batch.task_indices[row], int(batch.episodes[row]), int(batch.starts[row])
            episode, dataset = datasets[i].episode(e), datasets[i]
            n, learned = int(batch.mask[row].sum()), np.flatnonzero(batch.learn[row])
            lead = learned[0]
            assert batch.mask[row].tolist() == [True] * n + [False] * (steps - n)
            assert learned.tolist() == list(range(lead, n))
            assert lead == min(burn_in, start + lead)  # the whole burn-in, or all that there is before
            # Cut short only by an end of the episode.
            assert n - lead == trace or start + n == len(episode) or start + lead == 0
            traces[i, e].append((start + lead, start + n))
            np.testing.assert_array_equal(batch.observations[row, : n + 1], episode.observations[start : start + n + 1])
            np.testing.assert_array_equal(batch.actions[row, :n], episode.actions[start : start + n])
            np.testing.assert_array_equal(batch.r_t[row, :n], episode.rewards[start : start + n])
            assert not batch.observations[row, n + 1 :].any()
            assert not batch.r_t[row, n:].any()
            ends = start + n == len(episode) and dataset.terminated[e]
            np.testing.assert_array_equal(
                batch.discount_t[row, :n], [np.float32(0.9)] * (n - 1) + [0.0 if ends else np.float32(0.9)]
            )
            assert batch.extras["name"][row] == e + 10 * i
    for i in (0, 1):
        for e, n in enumerate((lengths, lengths[::-1])[i]):
            possible = {(max(first, 0), min(first + trace, n)) for first in range(1 - trace, n)}
            assert set(traces[i, e]) == possible


def learned_steps(sampler, dataset, batch):
    """How often each step of the dataset is learned from in a batch."""
    counts = np.zeros(dataset.steps, int)
    rows, t = np.nonzero(batch.learn)
    np.add.at(counts, dataset.offsets[batch.episodes[rows]] + batch.starts[rows] + t, 1)
    return counts


@pytest.mark.parametrize(("steps", "burn_in"), [(4, 0), (7, 3), (1, 0), (12, 0), (12, 8)])
def test_every_step_is_in_equally_many_windows(tmp_path, steps, burn_in):
    """Also the last one, and those of episodes that are shorter than a window."""
    dataset = make(tmp_path / "a", [1, 2, 9, 30])
    sampler = SequenceSampler([dataset], steps, 0.9, burn_in)
    trace = steps - burn_in
    every = [(e, first) for e, n in enumerate(dataset.lengths) for first in range(1 - trace, n)]
    episodes, firsts = map(np.array, zip(*every, strict=True))
    batch = sampler.at(np.zeros(len(every), int), episodes, firsts)
    assert (learned_steps(sampler, dataset, batch) == trace).all()
    # And all windows are equally likely.
    assert sampler._traces[0][-1] == len(every)
    drawn, rng = np.zeros(dataset.steps), np.random.default_rng(0)
    for _ in range(100):
        drawn += learned_steps(sampler, dataset, sampler.sample(np.zeros(60, int), rng))
    assert np.abs(drawn / drawn.mean() - 1).max() < 6 * (trace / drawn.mean()) ** 0.5


@pytest.mark.parametrize("burn_in", [0, 4])
def test_rewarded_steps_are_learned_from_as_often_as_the_data_have_them(tiny_babyai_root, burn_in):
    """On BabyAI, whose only reward is at an episode's last step."""
    datasets = tiny_babyai.datasets_of(tiny_babyai_root)
    sampler, rng = SequenceSampler(datasets, 12, 0.9, burn_in), np.random.default_rng(0)
    rewards = [np.concatenate([dataset.episode(i).rewards for i in dataset.used]) for dataset in datasets]
    shares = [np.count_nonzero(of_dataset) / len(of_dataset) for of_dataset in rewards]
    for i, rewarded in enumerate(shares):
        assert rewarded > 0
        learned = total = 0
        for _ in range(400):
            batch = sampler.sample(np.full(64, i), rng)
            learned += np.count_nonzero(batch.r_t[batch.learn])
            total += batch.learn.sum()
        assert learned / total == pytest.approx(rewarded, rel=0.05)
    assert sampler.rewarded() == pytest.approx(np.mean(shares))


def test_only_the_episodes_of_a_part_are_used(tmp_path):
    whole, rng = make(tmp_path / "a", [3, 5, 2, 4, 6, 7]), np.random.default_rng(0)
    part = whole.part(3, np.random.default_rng(1))
    used = set(part.used.tolist())
    assert len(used) == 3
    assert used != {0, 1, 2}
    sequences, transitions = SequenceSampler([part, whole], 4, 0.9), TransitionSampler([part, whole], 0.9)
    for i, expected in enumerate((used, set(range(6)))):
        windows = sequences.sample(np.full(300, i), rng)
        assert set(windows.episodes.tolist()) == expected
        for row in range(50):
            episode, start, real = (
                whole.episode(int(windows.episodes[row])),
                windows.starts[row],
                windows.mask[row].sum(),
            )
            assert np.array_equal(windows.observations[row, : real + 1], episode.observations[start : start + real + 1])
        batch = transitions.sample(np.full(300, i), rng)
        assert set(batch.episodes.tolist()) == expected
        assert set(batch.x_tm1[:, 0].tolist()) == expected
    assert set(RetrievalSampler(part).draw(3, None, rng).tolist()) == used
    with pytest.raises(RarlError, match="4 trajectories cannot be drawn from 3 episodes"):
        RetrievalSampler(part).draw(4, None, rng)


def test_steps_of_a_part_come_equally_often(tmp_path):
    part = make(tmp_path / "a", [3, 5, 2, 4, 6, 7]).part(4, np.random.default_rng(1))
    lengths = part.lengths[part.used]
    drawn = TransitionSampler([part], 0.9).sample(np.zeros(20_000, int), np.random.default_rng(0)).episodes
    found = np.array([(drawn == episode).mean() for episode in part.used])
    assert found == pytest.approx(lengths / lengths.sum(), abs=0.015)


def test_a_smaller_part_lies_in_a_larger_one_and_seeds_differ(tmp_path):
    whole = make(tmp_path / "a", [2] * 40)
    parts = {n: set(whole.part(n, np.random.default_rng(3)).used.tolist()) for n in (5, 10, 39)}
    assert parts[5] < parts[10] < parts[39]
    assert set(whole.part(10, np.random.default_rng(4)).used.tolist()) != parts[10]
    assert whole.part(None, np.random.default_rng(4)) is whole.part(40, np.random.default_rng(4)) is whole
    with pytest.raises(RarlError, match="holds 40 episodes, but 41"):
        whole.part(41, np.random.default_rng(0))


def test_sequences_refuse_what_they_cannot_do(tmp_path):
    dataset = make(tmp_path / "a", [3, 5])
    with pytest.raises(RarlError, match="at least one dataset"):
        SequenceSampler([], 4, 0.9)
    with pytest.raises(RarlError, match="burn_in=4: must be at least 0 and less than the 4 steps"):
        SequenceSampler([dataset], 4, 0.9, burn_in=4)
    with pytest.raises(RarlError, match="has no array 'mission'"):
        SequenceSampler([dataset], 4, 0.9, extras=["mission"])


def test_pages_are_released_beyond_the_budget(tmp_path, monkeypatch):
    datasets = [make(tmp_path / name, [6] * 20) for name in "ab"]
    released = []
    for dataset in datasets:
        monkeypatch.setattr(dataset, "release", lambda name=dataset.task: released.append(name))
    pages = iter([100, 200, 100 + 256, 100 + 257, 50, 50 + 257])  # 256 pages of 4 KiB are the budget
    monkeypatch.setattr("rarl.trajectories.sampling._file_pages", lambda: next(pages))
    monkeypatch.setattr(ResidentLimit, "_PAGE_BYTES", 4096)
    limit = ResidentLimit(budget_mb=1)
    transitions = TransitionSampler(datasets, 0.9, limit=limit)
    RetrievalSampler(datasets[0], limit=limit)
    seen = []
    for _ in range(5):
        for _ in range(4):
            transitions.at(np.zeros(32, dtype=int), np.arange(32))
        seen.append(len(released))
    assert seen == [0, 0, 2, 2, 4]
    assert set(released) == {"a", "b"}


def test_resident_memory_stays_within_the_budget(tmp_path):
    """Read everything at random, in a process of its own: resident file pages stay near the budget, not the data."""
    with DatasetWriter(tmp_path / "a", environment="test", task="t", source="bot", seed=0, generator={}) as out:
        for _ in range(20):
            out.add(np.ones((200, 51, 1000), np.int8), np.zeros((200, 50), np.int8), np.zeros((200, 50)))  # 200 MB
    code = (
        "import sys, numpy as np\n"
        "from rarl.trajectories.sampling import ResidentLimit, TransitionSampler, _file_pages\n"
        "from rarl.trajectories.store import TrajectoryDataset\n"
        "dataset = TrajectoryDataset.open(sys.argv[1])\n"
        "sampler = TransitionSampler([dataset], 0.9, limit=ResidentLimit(int(sys.argv[2])))\n"
        "rng, before, most = np.random.default_rng(0), _file_pages(), 0\n"
        "for _ in range(400):\n"
        "    sampler.sample(np.zeros(64, dtype=int), rng)\n"
        "    most = max(most, _file_pages() - before)\n"
        "print(most * 4096 // 2**20)\n"
    )
    limited, free = (
        int(subprocess.run([sys.executable, "-c", code, tmp_path / "a", mb], capture_output=True, check=True).stdout)
        for mb in ("20", "1000")
    )
    assert free > 170
    assert limited < 130
