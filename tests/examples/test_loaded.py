"""A finished run for states of one's own: `rarl.load`."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

import rarl
from rarl.config.scale import Scale
from rarl.envs.spec import make_vector
from rarl.errors import RarlError
from rarl.rollouts.roll_out import roll_out
from rarl.runs.train import open_datasets, train_run
from tests import tiny_project


@pytest.fixture(scope="module")
def root(tiny_root, tmp_path_factory):
    """A copy of the tiny project, for runs of these tests alone."""
    return shutil.copytree(tiny_root, tmp_path_factory.mktemp("loaded"), dirs_exist_ok=True)


@pytest.fixture(scope="module")
def trained(root):
    """Ids of runs, by variant."""
    scale = Scale("tiny", root)
    found = {}
    for variant in ("dqn", "ra-dqn"):
        run = tiny_project.run_of(root, variant)
        train_run(scale, run, device="cpu")
        found[variant] = run.id
    return found


@pytest.fixture(scope="module")
def states(root, trained):
    scale = Scale("tiny", root)
    dataset = open_datasets(scale, scale.find_run(trained["dqn"]))[3]
    return np.array(dataset.observations[:12])


def test_values_policy_and_what_is_retrieved(root, trained, states):
    agent = rarl.load(trained["ra-dqn"], "tiny", root)
    task = agent.tasks[3]
    retrieved = agent.retrieve(task, seed=1)
    n_traj, steps = retrieved.a.shape[1:]
    seen = agent.look(states, retrieved, task=task)
    assert seen.q.shape == (12, len(make_vector(agent.run.settings, [task]).actions))
    np.testing.assert_array_equal(seen.actions, seen.q.argmax(-1))
    assert seen.weights.shape == (12, n_traj * steps)
    np.testing.assert_allclose(seen.weights.sum(-1), 1, rtol=1e-5)
    assert (agent.retrieve(task, seed=1).episodes == retrieved.episodes).all()
    assert (agent.retrieve(task, seed=2).episodes != retrieved.episodes).any()
    assert (retrieved.given == 3).all()
    emptied = agent.look(states, None, task=task)
    assert emptied.weights is None
    assert np.abs(emptied.q - seen.q).max() > 0
    # One by one they are the same as all at once, and as sequences of one step.
    np.testing.assert_allclose(agent.look(states[:1], retrieved, task=task).q, seen.q[:1], rtol=1e-4, atol=1e-5)
    as_sequences = agent.look(states[:, None], retrieved, task=task, sequences=True)
    np.testing.assert_allclose(as_sequences.q[:, 0], seen.q, rtol=1e-4, atol=1e-5)


def test_it_plays(root, trained):
    agent = rarl.load(trained["ra-dqn"], "tiny", root)
    task = agent.tasks[0]
    envs = make_vector(agent.run.settings, [task] * 3)
    episodes = roll_out(envs, agent.policy(3, agent.retrieve(task), task=task), np.arange(3))
    assert (episodes.lengths == 50).all()


def test_an_agent_that_retrieves_nothing(root, trained, states):
    agent = rarl.load(trained["dqn"], "tiny", root)
    assert agent.retrieve() is None
    assert agent.look(states).weights is None
    assert agent.look(states).q.shape[0] == 12


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"x": 0}, r"x: must be \(n, 11\) int8, is \(11,\) int8"),
        ({"x": (slice(None), slice(3))}, r"x: must be \(n, 11\) int8, is \(12, 3\) int8"),
        ({"task": "lift the moon"}, "has no task 'lift the moon'"),
        ({"run": "gridroboman/10-tasks/dqm/seed-0"}, "no run"),
        ({"run": "gridroboman/10-tasks/oracle/seed-0"}, "no checkpoint"),
    ],
)
def test_what_does_not_fit_is_one_line(root, trained, states, changes, said):
    def look():
        agent = rarl.load(changes.get("run", trained["dqn"]), "tiny", root)
        agent.look(states[changes.get("x", slice(None))], task=changes.get("task"))

    with pytest.raises(RarlError, match=said):
        look()
