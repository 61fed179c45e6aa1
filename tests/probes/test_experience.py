"""What a trained agent is given at test time: more or less, better or worse, known or new."""

from __future__ import annotations

import numpy as np
import pytest

from rarl.agents.memory import Memory
from rarl.config.scale import Scale
from rarl.probes.experience import experiences
from rarl.runs.train import open_datasets

RUN = "gridroboman/10-tasks/ra-dqn/seed-0"
USED = 12  # of 16


@pytest.fixture(scope="module")
def memory(tiny_root):
    """What a run retrieves from, which uses a part of each dataset."""
    scale = Scale("tiny", tiny_root)
    run = scale.runs[RUN]
    rng = np.random.default_rng(0)
    datasets = [dataset.part(USED, rng) for dataset in open_datasets(scale, run)]
    return Memory(datasets, run.settings.agent.retrieval)


def test_which_episodes_are_given(memory):
    found = {name: (given, n) for name, given, n in experiences(memory, (1, 3, 100_000))}
    assert {f"given-{kind}{n}" for kind in ("", "best-", "worst-", "new-") for n in (1, 3)} == found.keys()
    for name, (given, n) in found.items():
        assert name.endswith(f"-{n}")
        for own, sampler in zip(memory.samplers, given.samplers, strict=True):
            there, used, returns = own.dataset.used, sampler.dataset.used, own.dataset.returns
            assert (np.diff(used) > 0).all()
            if "new" in name:
                assert sorted([*used, *there]) == list(range(own.dataset.episodes))
                continue
            assert set(used) <= set(there)
            rest = np.setdiff1d(there, used)
            if "best" in name:
                assert len(used) == USED // 4
                assert returns[used].min() >= returns[rest].max()
            elif "worst" in name:
                assert len(used) == USED // 4
                assert returns[used].max() <= returns[rest].min()
            else:
                assert len(rest) == 0


def test_what_is_drawn_is_of_them_and_the_run_keeps_its_own(memory):
    before = [sampler.dataset.used.copy() for sampler in memory.samplers]
    tasks = np.arange(len(memory.samplers))
    for _, given, n in experiences(memory, (3,)):
        batch = given.draw(tasks, np.random.default_rng(0), None, n_traj=n)
        assert batch.episodes.shape == (len(tasks), min(n, memory.settings.k_traj))
        for episodes, sampler in zip(batch.episodes, given.samplers, strict=True):
            assert set(episodes) <= set(sampler.dataset.used)
    assert all((a == sampler.dataset.used).all() for a, sampler in zip(before, memory.samplers, strict=True))
