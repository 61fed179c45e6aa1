"""Datasets that are played: by chance, and by agents while they learn."""

from __future__ import annotations

import numpy as np
import pytest

from rarl.collect.play import generate_agent
from rarl.envs.spec import sources_of, spec_of
from rarl.errors import RarlError
from rarl.mappings import merge
from rarl.trajectories.store import TrajectoryDataset

SMALL = {  # settings over those of the source
    "agent": {"d_s": 32},
    "learning": {"batch_sequences": 64},
    "online": {"actors": 4, "start_sequences": 100},
}


def played(folder, environment, source, task, steps, seed=0, **options):
    options = merge(merge(sources_of(spec_of(environment))[source].options, {"settings": SMALL}), options)
    generate_agent(task, steps, seed, folder, environment=environment, source=source, **options)
    return TrajectoryDataset.open(folder)


@pytest.mark.slow
def test_it_begins_with_random_play_and_becomes_better(tmp_path):
    options = {"settings": {"online": {"actors": 8, "steps_per_update": 2}}}
    dataset = played(tmp_path / "a", "gridroboman", "dqn", "touch red", 12_000, **options)
    actions = [episode.actions for episode in dataset]
    first, last = (np.bincount(np.concatenate(part), minlength=7) for part in (actions[:16], actions[-16:]))
    assert first.min() > 0.5 * first.mean()  # all alike, roughly
    assert last.min() < 0.5 * last.mean()
    returns = np.array(dataset.returns)
    assert returns[-40:].mean() > returns[:40].mean()
    assert dataset.manifest["expert_return"] > 40


@pytest.mark.parametrize(("environment", "source", "task"), [("babyai", "rdqn", "GoToRedBallGrey")])
def test_arguments_fix_the_bytes(tmp_path, environment, source, task):
    one, again, other = (
        played(tmp_path / str(i), environment, source, task, 600, seed).manifest for i, seed in enumerate((0, 0, 1))
    )
    hashes = [{name: array["sha256"] for name, array in m["arrays"].items()} for m in (one, again, other)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_share_is_between_0_and_1(tmp_path):
    with pytest.raises(RarlError, match=r"random_share=1\.5: must be between 0 and 1"):
        played(tmp_path / "a", "gridroboman", "dqn", "touch red", 100, random_share=1.5)
