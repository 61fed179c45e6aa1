"""Whether attention has something to choose from: the numbers, and what is told of them."""

from __future__ import annotations

import numpy as np
import pytest

from rarl.agents.candidates import candidates_of, cannot_select
from rarl.config.scale import Scale
from rarl.config.settings import RetrievalSettings
from rarl.runs.train import retrieval_warnings, train_run
from tests import tiny_atari, tiny_babyai, tiny_project


def settings(**values):
    return RetrievalSettings(**{"n_traj": 8, "k_traj": 4, "k_states": 10, "step_stride": 10} | values)


def test_the_candidates_of_boards():
    s = settings()
    found = candidates_of(s, [np.full(100, 50)] * 3, [np.zeros(100)] * 3)
    assert found == (4, 20, 5)
    assert cannot_select(s, found) == []
    assert candidates_of(settings(source="all"), [np.full(100, 50)] * 3, [np.zeros(100)] * 3) == (12, 60, 5)
    assert candidates_of(settings(select_by="attention"), [np.full(100, 50)]) == (8, 40, 5)
    assert candidates_of(settings(trajectory_steps=12), [np.full(100, 50)], [np.zeros(100)]) == (4, 8, 2)


@pytest.mark.parametrize(("k_states", "told"), [(19, False), (20, True), (64, True), (None, False)])
def test_as_many_states_as_candidates_are_told(k_states, told):
    s = settings(k_states=k_states)
    found = cannot_select(s, candidates_of(s, [np.full(100, 50)], [np.zeros(100)]))
    assert len(found) == told
    if told:
        assert f"k_states = {k_states}" in found[0]
        assert "20.0 states (4 trajectories with 5.0 each)" in found[0]


def test_of_the_best_the_lengths_are_theirs():
    """Half of the episodes are short and have the highest returns."""
    lengths, returns = np.array([2, 90] * 50), np.array([1.0, 0.1] * 50)
    s = settings(n_traj=20, k_states=None, step_stride=4)
    best = candidates_of(s, [lengths], [returns])
    assert best.steps_per_trajectory == pytest.approx(1, abs=0.1)
    (told,) = cannot_select(s, best)
    assert "step_stride = 4 leaves 1.0" in told
    everything = settings(n_traj=20, select_by="none", k_states=None, step_stride=4)
    assert candidates_of(everything, [lengths], [returns]).steps_per_trajectory == pytest.approx(12)


def test_they_are_those_of_the_batches_that_are_drawn(tiny_babyai_root):
    for variant in ("own", "all"):
        learner = tiny_babyai.learner_of(tiny_babyai_root, variant)
        datasets = [sampler.dataset for sampler in learner.memory.samplers]
        rng, tasks = np.random.default_rng(0), np.arange(3)
        batches = [learner.memory.sample(tasks, rng) for _ in range(100)]
        states = np.mean([batch.mask.flatten(1).sum(1).float().mean() for batch in batches])
        lengths, returns = ([getattr(d, name)[d.used] for d in datasets] for name in ("lengths", "returns"))
        found = candidates_of(learner.settings.agent.retrieval, lengths, returns)
        assert found.states == pytest.approx(states, rel=0.05)


def test_a_run_tells_and_records_it(tiny_root, tmp_path, caplog):
    tiny_project.write_config(tmp_path)  # a place of its own for results
    (tmp_path / "data").symlink_to(tiny_root / "data")
    run = tiny_project.run_of(tmp_path, "ra-dqn", changes={"agent": {"retrieval": {"k_states": 15}}})
    record = train_run(Scale("tiny", tmp_path), run, device="cpu")
    (told,) = record["warnings"]
    assert "k_states = 15, but a retrieval batch holds 15.0 states" in told
    assert told in caplog.text
    plain = tiny_project.run_of(tiny_root, "dqn")
    assert retrieval_warnings(plain, tiny_project.datasets_of(tiny_root)) == []


def test_online_it_is_told_of_windows(tiny_atari_root):
    run = tiny_atari.run_of(tiny_atari_root, "ra-r2d2", changes={"agent": {"retrieval": {"k_states": 8}}})
    (told,) = retrieval_warnings(run, [])
    assert "8.0 states (4 trajectories with 2.0 each)" in told


@pytest.mark.parametrize("scale", ["laptop", "workstation", "paper"])
def test_no_main_agent_of_boards_or_games_has_nothing_to_choose_from(scale):
    """BabyAI's depends on its datasets; the laptop's has hardly anything to choose from, which its runs say."""
    checked, chosen = 0, Scale(scale)
    for run in chosen.runs.values():
        if run.settings.experiment not in ("gridroboman", "atari") or not run.retrieves:
            continue
        if run.settings.seed != chosen.settings.seeds[0]:
            continue
        s = run.settings.agent.retrieval
        online = run.settings.online is not None
        steps = run.settings.learning.sequence_steps - run.settings.learning.burn_in if online else 50
        assert cannot_select(s, candidates_of(s, [np.full(1000, steps)], [np.zeros(1000)])) == [], run.id
        checked += 1
    assert checked
