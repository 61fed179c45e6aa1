"""Episodic control that learns while it plays: exact resume, what it stores against what was played, that it learns."""

from __future__ import annotations

import os
import re
import signal

import numpy as np
import pytest
import torch

from rarl.agents.episodic_memory import state_hashes
from rarl.envs.atari.observation import EXTRA_BYTES
from rarl.envs.gridroboman import vector as boards
from rarl.errors import RunFailedError
from rarl.jobs import code_digest_of, train_job
from rarl.learners.episodic import EpisodicLearner
from rarl.rollouts import evaluation
from rarl.runs import checkpoints
from tests import tiny_atari, tiny_project
from tests.fake_games import FakeGames
from tests.kept_episodes import roll_out_kept
from tests.runs.run_processes import assert_same, products, start, wait_for_update

PROJECTS = {"gridroboman": tiny_project, "atari": tiny_atari}


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def fake(monkeypatch):
    FakeGames.play_instead(monkeypatch)


@pytest.fixture
def roots(tiny_root, tiny_atari_root):
    return {"gridroboman": tiny_root, "atari": tiny_atari_root}


def learner_of(roots, environment, variant, changes=None):
    return PROJECTS[environment].learner_of(roots[environment], variant, changes)


BOTH = pytest.mark.parametrize("environment", PROJECTS)
AGENTS = pytest.mark.parametrize("variant", ["mfec", "nec"])


# --------------------------------------------------------------------------------------------------------------- resume


def goes_on_bitwise(roots, tmp_path, environment, variant, changes=None, updates=8):
    whole = learner_of(roots, environment, variant, changes)
    scalars = [whole.update() for _ in range(updates)]
    end = whole.evaluate()

    first = learner_of(roots, environment, variant, changes)
    for _ in range(updates // 2):
        first.update()
    state = first.state_dict()
    assert checkpoints.first_not_finite(state) is None
    checkpoints.save(tmp_path / "c.pt", state, checkpoints.Header("test"))
    second = learner_of(roots, environment, variant, changes)
    second.update()  # whatever it did before
    second.load_state_dict(checkpoints.load(tmp_path / "c.pt").state)
    assert [second.update() for _ in range(updates - updates // 2)] == scalars[updates // 2 :]
    assert_same(second.state_dict(), whole.state_dict())
    assert second.evaluate() == end
    assert_same(second.final_state_dict(), whole.final_state_dict())
    assert ("loss" in scalars[-1]) == (variant == "nec")
    return whole


@pytest.mark.parametrize("told", ["hidden", "observed"])
@AGENTS
def test_boards_go_on_bitwise_from_a_saved_state(roots, tmp_path, variant, told):
    capacity = 12 if told == "observed" else 60
    changes = {
        "agent": {"task": told},
        "episodic": {"capacity": capacity, "learn_keys": True},
        "evaluation": {"episodes_per_task": 1},
    }
    learner = goes_on_bitwise(roots, tmp_path, "gridroboman", variant, changes, updates=2)
    assert max(len(memory) for memories in learner.agent.memories for memory in memories) == capacity


@AGENTS
@pytest.mark.usefixtures("fake")
def test_games_go_on_bitwise_from_a_saved_state(roots, tmp_path, variant):
    """In the middle of episodes."""
    learner = goes_on_bitwise(
        roots, tmp_path, "atari", variant, {"episodic": {"capacity": 25, "learn_from_steps": 60}}, updates=30
    )
    assert max(len(memory) for memory in learner.agent.memories[0]) == 25
    assert any(episode.actions for episode in learner._episodes)


@pytest.mark.slow
def test_the_same_with_real_games(roots, tmp_path):
    changes = {
        "online": {"steps_per_update": 20},
        "environment_options": {"sticky": 0.25, "max_frames": 60, "emulator_threads": 2},
        "episodic": {"learn_from_steps": 100},
        "evaluation": {"episodes_per_task": 1},
    }
    goes_on_bitwise(roots, tmp_path, "atari", "nec", changes, updates=4)


@BOTH
@AGENTS
@pytest.mark.usefixtures("fake")
def test_evaluations_are_deterministic_and_leave_learning_alone(roots, environment, variant):
    one, other = (learner_of(roots, environment, variant) for _ in range(2))
    for learner in (one, other):
        for _ in range(3):
            learner.update()
    assert one.evaluate() == one.evaluate()
    assert_same(one.state_dict(), other.state_dict())
    assert one.update() == other.update()


# ----------------------------------------------------------------------------------------------------------- evaluation


def test_boards_and_exploration_are_those_of_the_other_agents(roots, monkeypatch):
    """An agent that always prefers one action plays the same episodes, whoever it is."""
    played = []

    def record(*arguments, **options):
        played.append(roll_out_kept(*arguments, **options))
        return played[-1]

    monkeypatch.setattr(evaluation, "roll_out", record)
    changes = {"evaluation": {"epsilon": 0.3, "episodes_per_task": 5}}
    dqn, retrieving, mfec = (learner_of(roots, "gridroboman", name, changes) for name in ("dqn", "ra-dqn", "mfec"))
    with torch.no_grad():
        for learner in (dqn, retrieving):
            learner.network.head.q.weight.zero_()
            learner.network.head.q.bias.copy_(torch.arange(7.0) == 2)
    one = np.ones(1, dtype=np.int64)
    mfec.agent.write(one, 2 * one, [bytes(16)], np.zeros((1, 4)), one.astype(float))
    assert dqn.evaluate() == retrieving.evaluate() == mfec.evaluate()
    one, *others = played
    for other in others:
        assert (one.observations == other.observations).all()
        assert (one.actions == other.actions).all()
    assert 0.6 < (one.actions == 2).mean() < 0.85
    assert len(np.unique(one.observations[:, 0], axis=0)) == 50


def test_games_start_as_for_the_other_agents(roots, monkeypatch):
    FakeGames.play_instead(monkeypatch)
    changes = {"evaluation": {"episodes_per_task": 4}}
    learners = [learner_of(roots, "atari", variant, changes) for variant in ("dqn", "ra-dqn", "nec")]
    seen, reset = [], FakeGames.reset

    def recorded(games, seeds=None, where=None):
        seen[-1].extend(np.array(seeds).tolist())
        return reset(games, seeds, where)

    monkeypatch.setattr(FakeGames, "reset", recorded)
    for learner in learners:
        seen.append([])
        rows = learner.evaluate()
        assert (rows[0]["task"], rows[0]["episodes"]) == ("pong", 4)
    assert seen[0] == seen[1] == seen[2]
    assert len(set(seen[0])) == len(seen[0]) == 4


# ------------------------------------------------------------------------------------------------------- what is stored


class Written:
    """What a learner's agent was given to store, and what it looked at."""

    def __init__(self, learner, monkeypatch):
        self.stored, self.looked = [], []
        write, look = learner.agent.write, learner.agent.look

        def written(*arguments):
            self.stored.append(arguments)
            return write(*arguments)

        def looked(x, tasks, **options):
            found = look(x, tasks, **options)
            self.looked.append((x.copy(), found))
            return found

        monkeypatch.setattr(learner.agent, "write", written)
        monkeypatch.setattr(learner.agent, "look", looked)


def returns_of(variant, rewards, values, discount, n=5):
    """R_t of one episode, slowly; values[-1] is of the state after it."""
    steps = len(rewards)
    m = [steps - t if variant == "mfec" else min(n, steps - t) for t in range(steps)]
    after = [0 if variant == "mfec" else values[t + m[t]] for t in range(steps)]
    return [sum(discount**j * rewards[t + j] for j in range(m[t])) + discount ** m[t] * after[t] for t in range(steps)]


@AGENTS
def test_boards_store_what_was_played(roots, monkeypatch, variant):
    learner = learner_of(roots, "gridroboman", variant, {"episodic": {"episodes_per_update": 2}})
    for _ in range(2):
        learner.update()
    spy, log = Written(learner, monkeypatch), []
    step = boards.VectorGridroboman.step
    monkeypatch.setattr(
        boards.VectorGridroboman, "step", lambda env, actions: (log.append(actions.copy()), step(env, actions))[1]
    )
    scalars = learner.update()
    assert len(log) == 50
    assert len(spy.looked) == 51
    assert len(spy.stored) == 20
    x = np.stack([x for x, _ in spy.looked], 1)
    total = 0
    for episode, (tasks, actions, hashes, keys, returns) in enumerate(spy.stored):
        assert tasks.tolist() == [episode // 2] * 50
        assert actions.tolist() == [done[episode] for done in log]
        assert hashes == state_hashes(x[episode, :50])
        assert (keys == np.stack([found.keys[episode] for _, found in spy.looked[:50]])).all()
        rewards = rewards_of(learner.settings.tasks[episode // 2], x[episode], actions)
        total += sum(rewards)
        values = [found.q[episode].max() for _, found in spy.looked]
        expected = returns_of(variant, rewards, values, 1.0 if variant == "mfec" else 0.9)
        np.testing.assert_allclose(returns, expected, rtol=1e-4, atol=1e-4)
    assert scalars["actor_return"] == pytest.approx(total / 20)
    assert scalars["actor_steps"] == 50
    assert total > 0


def rewards_of(task, x, actions):
    """By the single environment."""
    from rarl.envs.gridroboman.env import Gridroboman

    env = Gridroboman(task=task)
    cells = [tuple(map(int, x[0, i : i + 2])) for i in (0, 2, 5, 8)]
    env.reset(options={"robot": cells[0], "objects": cells[1:]})
    rewards = []
    for t, action in enumerate(actions):
        observation, reward, *_ = env.step(int(action))
        assert (observation == x[t + 1]).all()
        rewards.append(float(reward))
    return rewards


@AGENTS
@pytest.mark.usefixtures("fake")
def test_games_store_what_was_played(roots, monkeypatch, variant):
    learner = learner_of(roots, "atari", variant, {"environment_options": {"stack": 2}})
    spy, log = Written(learner, monkeypatch), learner.playing.envs.games.log
    scalars = [learner.update() for _ in range(20)]
    acting, ends = [], [bool((step.terminated | step.truncated).any()) for _, step in log]
    looked = iter(spy.looked)
    for end in ends:
        acting.append(next(looked))
        if end:
            next(looked)  # at what comes after
    begun, stored, ended = [0] * 3, iter(spy.stored), []
    for t, (_, step) in enumerate(log):
        for actor in np.flatnonzero(step.terminated | step.truncated):
            times = range(begun[actor], t + 1)
            begun[actor] = t + 1
            tasks, actions, hashes, keys, returns = next(stored)
            assert tasks.tolist() == [0] * len(times)
            assert actions.tolist() == [log[i][0][actor] for i in times]
            assert hashes == state_hashes(np.stack([acting[i][0][actor] for i in times]))
            assert (keys == np.stack([acting[i][1].keys[actor] for i in times])).all()
            rewards = [float(log[i][1].rewards[actor]) for i in times]
            ended.append(sum(rewards))
            if step.terminated[actor] or variant == "mfec":
                values = [acting[i][1].q[actor].max() for i in times] + [0.0]
                expected = returns_of(variant, rewards, values, 1.0 if variant == "mfec" else 0.9)
                np.testing.assert_allclose(returns, expected, rtol=1e-4, atol=1e-3)
    assert next(stored, None) is None
    assert len(ended) > 15
    assert all((x[:, -EXTRA_BYTES:] == 0).all() for x, _ in spy.looked)
    found = [row["actor_return"] for row in scalars if "actor_return" in row]
    assert min(ended) <= min(found) <= max(found) <= max(ended)


@pytest.mark.parametrize("end", ["terminated", "truncated"])
def test_what_comes_after_an_end(roots, monkeypatch, end):
    """Nothing after a termination; after a truncation the value of the state that was seen last."""
    FakeGames.play_instead(monkeypatch, ends=float(end == "terminated"), cut=float(end == "truncated"))
    learner = learner_of(roots, "atari", "nec")
    learner.update()  # all episodes are a step long
    spy = Written(learner, monkeypatch)
    learner.update()
    log = learner.playing.envs.games.log[-7:]
    for t, (_, step) in enumerate(log):
        after, found = spy.looked[2 * t + 1]
        assert (after[:, :-EXTRA_BYTES].reshape(3, 84, 84) == step.observations).all()
        assert (found.q.max(1) != 0).all()
        for actor in range(3):
            returns = spy.stored[3 * t + actor][-1]
            expected = step.rewards[actor] + 0.9 * (end == "truncated") * found.q[actor].max()
            assert returns.tolist() == pytest.approx([expected], rel=1e-5)


# ------------------------------------------------------------------------------------------------------------- learning


@BOTH
@pytest.mark.usefixtures("fake")
def test_it_learns_as_often_as_asked_for(roots, monkeypatch, environment):
    changes = {"episodic": {"learn_from_steps": 240, "learn_every_steps": 7}}
    if environment == "atari":
        changes["online"] = {"steps_per_update": 80}
    learner = learner_of(roots, environment, "nec", changes)
    calls, learn = [], learner.agent.learn
    monkeypatch.setattr(learner.agent, "learn", lambda *batch: (calls.append(batch), learn(*batch))[1])
    counts = [0]
    for _ in range(3):
        before = learner.steps
        learner.update()
        counts.append(len(calls))
        if environment == "gridroboman" and not before:
            before = learner.steps - 10  # the first episodes end with the last step
        due = max(learner.steps - 240, 0) // 7 - max(before - 240, 0) // 7
        assert counts[-1] - counts[-2] == due
    assert counts[-1] == learner.learned > 0
    assert all(len(part) == 8 for part in calls[-1][:4])


@BOTH
@pytest.mark.usefixtures("fake")
def test_exploration_falls_with_the_steps(roots, environment):
    learner = learner_of(roots, environment, "mfec", {"episodic": {"epsilon_to_steps": 5100}})
    found = []
    while learner.steps < 6000:
        found.append((learner.update()["epsilon"], learner.steps))
        if environment == "atari":
            learner.steps += 300
    for epsilon, steps in found:
        assert epsilon == pytest.approx(1 - 0.9 * min(max(steps - 100, 0) / 5000, 1))


def test_a_loss_that_is_not_finite_fails_the_run(roots):
    learner = learner_of(roots, "gridroboman", "nec")
    learner.update()
    with torch.no_grad():
        learner.agent.network.key.bias.fill_(float("nan"))
    with pytest.raises(RunFailedError, match="learner step 1: the loss is nan"):
        learner.update()


@pytest.mark.parametrize(("variant", "least"), [("mfec", 40), ("nec", 30)])
def test_a_task_is_learned_where_boards_come_again(roots, monkeypatch, variant, least):
    """Two start boards; random play gets 2 of 48."""
    pool = boards.random_boards(2, np.random.default_rng(5))

    def draw(n, rng):
        which = rng.integers(2, size=n)
        return pool[which]

    monkeypatch.setattr(boards, "random_boards", draw)
    changes = {
        "learning": {"discount": 0.9},
        "episodic": {"d_key": None if variant == "mfec" else 16, "neighbours": 5, "episodes_per_update": 10}
        | {"epsilon_to_steps": 8000, "epsilon": 0.05, "learn_every_steps": 50, "n_step": 100},
        "evaluation": {"episodes_per_task": 10},
    }
    run = tiny_project.run_of(roots["gridroboman"], variant, changes=changes)
    run = run.with_settings(run.settings.model_copy(update={"tasks": ["touch red"]}))
    torch.manual_seed(0)
    learner = EpisodicLearner(run, "cpu")
    before = learner.evaluate()[0]["return_mean"]
    for _ in range(20):
        learner.update()
    after = learner.evaluate()[0]["return_mean"]
    assert before < 10
    assert after > least


# -------------------------------------------------------------------------------------------- runs, by the command line


def test_each_kind_of_agent_has_a_code_of_its_own(roots):
    digests = [
        {code_digest_of(train_job(PROJECTS[environment].run_of(roots[environment], variant))) for variant in variants}
        for environment in PROJECTS
        for variants in (("dqn",), ("mfec", "nec"))
    ]
    assert [len(of_kind) for of_kind in digests] == [1, 1, 1, 1]
    assert len(set().union(*digests)) == 4


@pytest.mark.slow
@pytest.mark.parametrize("environment", PROJECTS)
def test_a_killed_run_ends_as_if_nothing_had_happened(tmp_path, tiny_root, environment):
    project = PROJECTS[environment]
    run = {"gridroboman": "gridroboman/10-tasks/nec/seed-0", "atari": "atari/pong/nec/seed-0"}[environment]
    settings = {
        "updates": 40,
        "log_every": 2,
        "checkpoint_seconds": 0.05,
        "evaluation": {"every_updates": 20, "episodes_per_task": 1},
        **({"environment_options": {"max_frames": 60}} if environment == "atari" else {}),
    }
    key = {"gridroboman": 10, "atari": "pong"}[environment]
    change = {"settings": settings, "task_sets": {key: {"variants": ["nec"], "probes": []}}}
    folders = [tmp_path / name for name in ("undisturbed", "killed")]
    for folder in folders:
        project.write_config(folder, {"experiments": {environment: change}})
        if environment == "gridroboman":
            os.symlink(tiny_root / "data", folder / "data")
    reference, process = start(folders[0], run), start(folders[1], run)
    wait_for_update(folders[1], run, process, 14)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    process = start(folders[1], run)
    said = process.communicate()[0]
    assert process.returncode == 0, said
    assert 14 <= int(re.search(r"goes on from update (\d+)/40", said)[1]) < 40
    said = reference.communicate()[0]
    assert reference.returncode == 0, said
    (state, evaluations, rows, record), (expected, *same, other) = (products(folder, run) for folder in folders[::-1])
    assert_same(state, expected)
    assert [evaluations, rows] == same
    assert rows[-1]["loss"]
    assert (record["resumed"], other["resumed"]) == (1, 0)
    assert record["code_digest"] == code_digest_of(train_job(project.run_of(folders[0], "nec")))
    assert record["parameters"]["total"] > 0
    assert set(state["learner"]) == {"agent"}
