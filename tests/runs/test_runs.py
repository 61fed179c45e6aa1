"""The offline learner: its state, schedules, targets and evaluation, that it learns, and that a killed run goes on."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from rarl import cli
from rarl.config.scale import Run, Scale
from rarl.envs.gridroboman.datasets import generate_planner
from rarl.envs.gridroboman.tasks import task_named, task_set
from rarl.jobs import train_job
from rarl.learners.offline import OfflineLearner
from rarl.mappings import merge
from rarl.nn.retrieval import Mode
from rarl.provenance import claim_digests
from rarl.rollouts.evaluation import Evaluation
from rarl.runs import checkpoints
from rarl.trajectories.store import TrajectoryDataset
from tests import tiny_project
from tests.command_line import fails
from tests.kept_episodes import play_kept
from tests.runs.run_processes import assert_same, products, start, wait_for_update

RA_DQN = "gridroboman/10-tasks/ra-dqn/seed-0"


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


# ---------------------------------------------------------------------------------------------------------------- state


CHANGES = {
    "period": {},
    "rate": {"learning": {"target_period_updates": None, "target_rate": 0.1, "tasks_per_batch": 4, "n_step": 3}},
    "direct": {"agent": {"fusion": "add", "retrieval": {"process": "direct"}}},
    "retriever first": {"agent": {"retrieval": {"first_updates": 9}}},
    "all of it": {
        "agent": {
            "retrieval": {
                "trajectory_inputs": "state+action+reward",
                "source": "random",
                "trajectory_steps": 5,
                "step_stride": 2,
            }
        }
    },
}


@pytest.mark.parametrize(("variant", "changes"), [("dqn", "period"), *(("ra-dqn", name) for name in CHANGES)])
def test_a_learner_goes_on_bitwise_from_its_saved_state(tiny_root, tmp_path, variant, changes):
    changes = CHANGES[changes]
    whole = tiny_project.learner_of(tiny_root, variant, changes)
    scalars = [{name: float(v) for name, v in whole.update().items()} for _ in range(14)]

    first = tiny_project.learner_of(tiny_root, variant, changes)
    for _ in range(7):
        first.update()
    state = {"learner": first.state_dict(), "torch": torch.get_rng_state()}
    checkpoints.save(tmp_path / "c.pt", state, checkpoints.Header("test"))
    second = tiny_project.learner_of(tiny_root, variant, changes, seed=0)
    for _ in range(3):  # whatever it did before
        second.update()
    loaded = checkpoints.load(tmp_path / "c.pt").state
    second.load_state_dict(loaded["learner"])
    torch.set_rng_state(loaded["torch"])
    rest = [{name: float(v) for name, v in second.update().items()} for _ in range(7)]
    assert rest == scalars[7:]
    assert_same(second.state_dict(), whole.state_dict())
    assert second.evaluate() == whole.evaluate()


def test_another_seed_learns_something_else(tiny_root):
    one, other = (tiny_project.learner_of(tiny_root, "dqn", seed=seed) for seed in (0, 1))
    assert not torch.equal(one.network.encoder.table, other.network.encoder.table)
    one, other = (tiny_project.learner_of(tiny_root, "dqn", seed=seed) for seed in (0, 0))
    assert_same(one.state_dict(), other.state_dict())
    other.rng = np.random.default_rng([1, 1])
    assert float(one.update()["td_loss"]) != float(other.update()["td_loss"])


def test_the_published_state_is_the_network_alone(tiny_root):
    learner = tiny_project.learner_of(tiny_root, "ra-dqn")
    final = learner.final_state_dict()
    assert final.keys() == {"network"}
    assert_same(final["network"], learner.network.state_dict())


# ------------------------------------------------------------------------------------------------------------ schedules


def rates_of(learner, updates):
    """{parameter: its learning rate at every update}."""
    names = {id(p): name for name, p in learner.network.named_parameters()}
    if learner.auxiliary:
        names |= {id(p): f"auxiliary.{name}" for name, p in learner.auxiliary.named_parameters()}
    rates = {name: [] for name in names.values()}
    for _ in range(updates):
        learner.update()
        for group in learner.optimiser.param_groups:
            for parameter in group["params"]:
                rates[names[id(parameter)]].append(group["lr"])
    return rates


def test_the_learning_rate_rises_stays_and_falls(tiny_root):
    """12 updates: 4 of warm-up, full until half, then down to a tenth."""
    rates = rates_of(tiny_project.learner_of(tiny_root, "dqn"), 12)["head.q.bias"]
    full = 0.003
    expected = [full / 4, full / 2, 3 * full / 4, full, full, full, full]
    expected += [full * (1 - 0.9 * (done / 12 - 0.5) / 0.5) for done in range(7, 12)]
    assert rates == pytest.approx(expected)
    assert rates[6:] == sorted(rates[6:], reverse=True)
    assert full / 10 < rates[-1] < full / 3


def test_without_a_schedule_the_learning_rate_is_constant(tiny_root):
    learner = tiny_project.learner_of(
        tiny_root, "dqn", {"learning": {"warm_up_updates": 0, "decay_from": 1.0, "decay_to": 1.0}}
    )
    assert all(rates == [0.003] * 12 for rates in rates_of(learner, 12).values())


def test_encoder_and_retrieval_have_rates_of_their_own(tiny_root):
    """Every parameter is in one group; the auxiliary heads go with the retrieval process."""
    changes = {"learning": {"encoder_rate": 0.5, "retrieval_rate": 0.25, "warm_up_updates": 0, "decay_from": 1.0}}
    for name, rates in rates_of(tiny_project.learner_of(tiny_root, "ra-dqn", changes), 3).items():
        retrieves = name.startswith(("retriever.process.", "auxiliary."))
        multiple = 0.5 if name.startswith("encoder.") else 0.25 if retrieves else 1.0
        assert rates == pytest.approx([0.003 * multiple] * 3), name
    for name, rates in rates_of(tiny_project.learner_of(tiny_root, "dqn", changes), 3).items():
        assert rates == pytest.approx([0.003 * (0.5 if name.startswith("encoder.") else 1.0)] * 3), name


def test_the_first_step_is_as_large_as_its_learning_rate(tiny_root):
    """Adam's first step has the length of the learning rate in every coordinate that has a gradient."""
    learner = tiny_project.learner_of(tiny_root, "dqn")
    before = learner.network.head.q.bias.detach().clone()
    learner.update()
    moved = (learner.network.head.q.bias.detach() - before).abs()
    torch.testing.assert_close(moved[moved > 0], torch.full_like(moved[moved > 0], 0.003 / 4), rtol=1e-2, atol=0)


def test_gradients_are_clipped(tiny_root):
    learner = tiny_project.learner_of(tiny_root, "ra-dqn", {"learning": {"max_gradient_norm": 0.25}})
    norm = float(learner.update()["gradient_norm"])
    assert norm > 0.25  # what is logged is the norm before
    clipped = torch.stack([p.grad.norm() for p in learner.parameters if p.grad is not None]).norm()
    assert clipped.item() == pytest.approx(0.25, rel=1e-3)


# --------------------------------------------------------------------------------------------------------------- target


def state_of(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def test_the_target_is_copied_every_so_many_updates(tiny_root):
    learner = tiny_project.learner_of(tiny_root, "ra-dqn")
    start = state_of(learner.network)
    for update in range(1, 11):
        before = state_of(learner.target)
        learner.update()
        if update % 5:
            assert_same(state_of(learner.target), before)
        else:
            assert_same(state_of(learner.target), state_of(learner.network))
    assert not torch.equal(start["retriever.process.standardise.mean"], learner.target.process.standardise.mean)


def test_the_target_moves_by_a_share_on_every_update(tiny_root):
    learner = tiny_project.learner_of(
        tiny_root, "ra-dqn", {"learning": {"target_period_updates": None, "target_rate": 0.25}}
    )
    buffers = {name for name, _ in learner.network.named_buffers()}
    assert "retriever.process.standardise.variance" in buffers
    for _ in range(4):
        before = state_of(learner.target)
        learner.update()
        online = state_of(learner.network)
        for name, value in state_of(learner.target).items():
            # It has no statistics: in a learner step it reads by those of its batch.
            expected = before[name] if name in buffers else 0.75 * before[name] + 0.25 * online[name]
            torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("variant", ["dqn", "ra-dqn"])
def test_the_loss_is_that_of_the_batch(tiny_root, variant, double):
    """td_loss of one update, again from what the samplers gave; the online network chooses only if double."""
    plain = {"bottleneck": 0.0, "draw_z": False, "draw_slots": False, "keep_apart": "none"}
    changes = {"learning": {"double": double, "huber_delta": 0.3}, "agent": {"retrieval": plain}}
    learner = tiny_project.learner_of(tiny_root, variant, changes)
    for _ in range(4):  # away from the target, which is copied after five
        learner.update()
    seen = {}
    draw = learner.sampler.sample
    learner.sampler.sample = lambda *a, **k: seen.setdefault("batch", draw(*a, **k))
    if learner.memory is not None:
        recall = learner.memory.sample
        learner.memory.sample = lambda *a, **k: seen.setdefault("memory", recall(*a, **k))
    networks = [tiny_project.learner_of(tiny_root, variant, changes).network for _ in range(2)]
    for network, source in zip(networks, (learner.network, learner.target), strict=True):
        network.load_state_dict(state_of(source))
    loss = float(learner.update()["td_loss"])

    online, target = networks
    batch = seen["batch"]

    @torch.no_grad()
    def q_of(network, x):
        """With the statistics of the pass's own batch, as all of a learner step."""
        retrieved = seen["memory"].summarise(network) if "memory" in seen else None
        task = torch.arange(10)[:, None].expand(10, 4)
        return network(torch.from_numpy(x).view(10, 4, 11), task, retrieved, mode=Mode.TARGET)[0].flatten(0, 1).numpy()

    q_t_online, q_t_target = q_of(online, batch.x_t), q_of(target, batch.x_t)
    q_tm1 = q_of(online, batch.x_tm1)
    losses = []
    for n in range(40):
        assert batch.task_indices[n] == n // 4
        best = (q_t_online if double else q_t_target)[n].argmax()
        error = batch.r_t[n] + batch.discount_t[n] * q_t_target[n, best] - q_tm1[n, batch.a_tm1[n]]
        losses.append(error**2 / 2 if abs(error) <= 0.3 else 0.3 * (abs(error) - 0.15))
    assert loss == pytest.approx(np.mean(losses), rel=1e-4)


def test_values_of_retrieved_trajectories_count_every_step(tiny_root):
    """Also the rewards between the steps that are looked at."""
    learner = tiny_project.learner_of(tiny_root, "ra-dqn")
    seen, batches, sample = {}, [], learner.memory.sample
    learner.auxiliary.register_forward_pre_hook(lambda _, inputs: seen.update(value=inputs[4]))
    learner.memory.sample = lambda *arguments: batches.append(sample(*arguments)) or batches[-1]
    learner.update()
    (batch,) = batches
    assert seen["value"].shape == (10, 3, 5)
    for g in range(10):
        dataset = learner.memory.samplers[batch.given[g, 0]].dataset
        for i in range(3):
            rewards = dataset.episode(int(batch.episodes[g, i])).rewards
            for j, step in enumerate(batch.steps[g, i]):
                expected = sum(0.9**k * float(r) for k, r in enumerate(rewards[step:]))
                assert seen["value"][g, i, j].item() == pytest.approx(expected, rel=1e-5)


# ----------------------------------------------------------------------------------------------------------- evaluation


@pytest.fixture
def played(monkeypatch):
    """Every evaluation and its episodes."""
    found = []

    def spy(evaluation, act, **more):
        found.append((evaluation, play_kept(evaluation, act, **more)))
        return found[-1][1]

    monkeypatch.setattr(Evaluation, "play", spy)
    return found


@pytest.mark.parametrize("variant", ["dqn", "dqn-told", "ra-dqn", "oracle", "nothing", "random"])
def test_evaluations_are_deterministic_and_leave_training_alone(tiny_root, variant):
    one, other = (tiny_project.learner_of(tiny_root, variant) for _ in range(2))
    for learner in (one, other):
        torch.manual_seed(3)
        learner.update()
    first = one.evaluate()
    assert one.evaluate() == first
    torch.manual_seed(9)
    assert one.evaluate() == first
    for learner in (one, other):
        torch.manual_seed(4)
        learner.update()
    assert_same(one.state_dict(), other.state_dict())


def test_rows_describe_the_episodes(tiny_root, played):
    learner = tiny_project.learner_of(
        tiny_root, "ra-dqn", {"evaluation": {"episodes_per_task": 6, "retrieval_batches": 2}}
    )
    rows = learner.evaluate()
    ((evaluation, episodes),) = played
    assert evaluation.groups.tolist() == sorted([*range(10)] * 2)
    assert evaluation.places.tolist() == np.arange(60).reshape(20, 3).tolist()
    assert [row["task"] for row in rows] == list(evaluation.tasks) == learner.tasks == learner.settings.tasks
    rewards = episodes.rewards.reshape(10, 6, 50)
    for task, row in enumerate(rows):
        returns = rewards[task].sum(-1)
        assert row["episodes"] == 6
        assert row["return_mean"] == pytest.approx(returns.mean())
        assert row["return_std"] == pytest.approx(np.std(returns, ddof=1))
        assert row["success_rate"] == pytest.approx(rewards[task, :, -1].mean())


@pytest.mark.parametrize("per_task", [1, 2, 5, 6, 7])
def test_as_many_episodes_are_played_as_asked_for(tiny_root, per_task):
    learner = tiny_project.learner_of(tiny_root, "ra-dqn", {"evaluation": {"episodes_per_task": per_task}})
    assert {row["episodes"] for row in learner.evaluate()} == {per_task}


def test_all_agents_are_evaluated_on_the_same_boards(tiny_root, played):
    """Differences between agents are then not those between their boards."""
    for variant in ("dqn", "dqn-told", "oracle", "nothing", "ra-dqn", "random"):
        tiny_project.learner_of(tiny_root, variant).evaluate()
    starts = [episodes.observations[:, 0] for _, episodes in played]
    assert all((start == starts[0]).all() for start in starts[1:])


def test_boards_are_the_same_at_every_evaluation_and_differ_between_seeds(tiny_root, played):
    learner = tiny_project.learner_of(tiny_root, "ra-dqn")
    learner.evaluate()
    learner.update()
    learner.evaluate()
    tiny_project.learner_of(tiny_root, "ra-dqn", seed=1).evaluate()
    one, same, other = (episodes.observations[:, 0] for _, episodes in played)
    assert (one == same).all()
    assert not (one == other).all()


# ------------------------------------------------------------------------------------------------------------- learning


LEARNS = {
    "updates": 300,
    "agent": {
        "d_s": 64,
        "retrieval": {
            "summariser": "decay",
            "select_by": "none",
            "n_traj": 4,
            "k_traj": 4,
            "step_stride": 12,
            "d_h": 16,
            "d_m": 16,
            "d_v": 32,
            "bottleneck": 0.001,
        },
    },
    "learning": {
        "batch_states": 256,
        "learning_rate": 0.01,
        "warm_up_updates": 20,
        "decay_from": 0.6,
        "target_period_updates": None,
        "target_rate": 0.1,
        "discount": 0.8,
    },
    "evaluation": {"episodes_per_task": 40},
}


@pytest.fixture(scope="module")
def touching(tmp_path_factory):
    """Larger datasets of two tasks that are quickly learned, by name."""
    root = tmp_path_factory.mktemp("touching")
    found = {}
    for name in ("touch red", "touch blue"):
        generate_planner(name, 400, 0, root / task_named(name).slug)
        found[name] = TrajectoryDataset.open(root / task_named(name).slug)
    return found


def learn(root, datasets, variant, tasks, changes=None, seed=0):
    """First and last mean return over tasks, first and last td loss (of ten updates)."""
    settings = tiny_project.run_of(root, variant, changes=merge(LEARNS, changes or {})).settings
    run = Run("tiny", settings.model_copy(update={"tasks": list(tasks)}))
    torch.manual_seed(seed)
    learner = OfflineLearner(run, [datasets[name] for name in tasks], "cpu")
    before = np.mean([row["return_mean"] for row in learner.evaluate()])
    losses = [float(learner.update()["td_loss"]) for _ in range(settings.updates)]
    after = np.mean([row["return_mean"] for row in learner.evaluate()])
    return before, after, losses


def test_the_base_agent_learns_a_task(tiny_root, touching):
    """Random actions get 3 of the expert's 47."""
    before, after, losses = learn(tiny_root, touching, "dqn", ["touch red"])
    assert before < 8
    assert after > 25  # 35 to 43, by seed
    assert np.mean(losses[-20:]) < np.mean(losses[80:120]) / 3


@pytest.mark.slow
def test_the_retrieval_agent_learns_a_task(tiny_root, touching):
    changes = {"updates": 400, "learning": {"retrieval_rate": 0.1}}
    before, after, _ = learn(tiny_root, touching, "ra-dqn", ["touch red"], changes)
    assert before < 8
    assert after > 20  # 32 to 38, by seed


def test_who_knows_the_task_does_both(tiny_root, touching):
    """The oracle's z reaches behaviour: with it two tasks are told apart that look alike without."""
    tasks = ["touch red", "touch blue"]
    _, blind, _ = learn(tiny_root, touching, "dqn", tasks)
    _, knowing, _ = learn(tiny_root, touching, "oracle", tasks)
    assert knowing > 20  # 25 to 32, by seed; blind ones 17 to 19
    assert knowing > blind + 4


@pytest.mark.slow
def test_retrieval_tells_hidden_tasks_apart(tiny_root, touching):
    """The whole of it: what is retrieved says which of two tasks is in play, and the agent acts on it.

    Returns are 0 or near 47, so that it takes many episodes to tell means apart.
    """
    tasks = ["touch red", "touch blue"]
    many = {"evaluation": {"episodes_per_task": 400}}
    changes = {
        "updates": 700,
        "agent": {"retrieval": {"bottleneck": 0.0, "n_traj": 16}},
        "learning": {"retrieval_rate": 0.1},
    }
    blind, knowing = (
        np.mean([learn(tiny_root, touching, variant, tasks, merge(more, many), seed)[1] for seed in range(2)])
        for variant, more in (("dqn", {}), ("ra-dqn", changes))
    )
    assert knowing > blind + 1  # 21.0 against 18.6; 20.2 to 23.1 by seed


# -------------------------------------------------------------------------------------------- runs, by the command line


def test_a_run_killed_twice_ends_as_if_nothing_had_happened(own_root, tmp_path_factory, monkeypatch, capsys):
    settings = {"updates": 120, "checkpoint_seconds": 0.2, "evaluation": {"every_updates": 60}}
    at_scale = {"experiments": {"gridroboman": {"settings": settings}}}
    undisturbed = tmp_path_factory.mktemp("undisturbed")
    for root in (own_root, undisturbed):
        tiny_project.write_config(root, at_scale)
    os.symlink(own_root / "data", undisturbed / "data")

    reference = start(undisturbed, RA_DQN)
    process = start(own_root, RA_DQN)
    wait_for_update(own_root, RA_DQN, process, 20)
    # While it works, another one is refused.
    monkeypatch.chdir(own_root)
    with pytest.raises(SystemExit) as refused:
        cli.main(["train", RA_DQN, "--device", "cpu"])
    assert refused.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"process {process.pid} " in error
    assert RA_DQN in error
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (own_root / "results").exists()

    process = start(own_root, RA_DQN)
    wait_for_update(own_root, RA_DQN, process, 50)
    process.send_signal(signal.SIGKILL)
    assert "goes on from update" in process.communicate()[0]
    process = start(own_root, RA_DQN)
    said = process.communicate()[0]
    assert process.returncode == 0, said
    assert int(re.search(r"goes on from update (\d+)/120", said)[1]) >= 50
    reference.communicate()
    assert reference.returncode == 0

    state, evaluations, rows, run = products(own_root, RA_DQN)
    expected_state, expected_evaluations, expected_rows, expected_run = products(undisturbed, RA_DQN)
    assert_same(state, expected_state)
    assert evaluations == expected_evaluations
    assert rows == expected_rows
    assert (run["resumed"], expected_run["resumed"]) == (2, 0)
    assert run["updates"] == 120
    assert run["config_digest"] == expected_run["config_digest"]
    of_tasks = [line.split(",")[0] for line in evaluations.decode().splitlines()[1:31]]
    assert of_tasks[::10] == ["0", "60", "120"]
    scale = Scale("tiny", own_root)
    code = train_job(scale.runs[RA_DQN]).code()
    assert (run["code_digest"], run["code"]) == (code.digest, code.record)
    assert set(run["data"]) == {f"data/tiny/{name}/manifest.json" for name in scale.runs[RA_DQN].datasets}
    assert run["expert_returns"].keys() == {task.name for task in task_set(10)}
    assert not (own_root / "scratch" / "tiny" / "runs" / RA_DQN).exists()


def test_a_flipped_byte_in_a_dataset_is_named(own_root, monkeypatch, capsys):
    monkeypatch.chdir(own_root)
    path = own_root / "data" / "tiny" / "gridroboman" / "planner" / "touch-green" / "rewards.npy"
    content = bytearray(path.read_bytes())
    content[-7] ^= 1
    path.write_bytes(content)
    error = fails(capsys, "train", RA_DQN, "--device", "cpu")
    assert "data/tiny/gridroboman/planner/touch-green/rewards.npy" in error
    assert "damaged" in error
    assert not (own_root / "results").exists()


def test_a_missing_dataset_is_named_with_the_command_that_makes_it(own_root, monkeypatch, capsys):
    monkeypatch.chdir(own_root)
    folder = own_root / "data" / "tiny" / "gridroboman" / "planner" / "lift-blue"
    (folder / "manifest.json").unlink()
    error = fails(capsys, "train", RA_DQN, "--device", "cpu")
    assert "planner/lift-blue: no dataset (1 of 10 are missing)" in error
    assert "rarl datasets make --scale tiny gridroboman/planner/lift-blue" in error


def test_a_changed_configuration_is_refused_and_restarts_where_the_caller_knows(own_root, monkeypatch, capsys):
    monkeypatch.chdir(own_root)
    cli.main(["train", RA_DQN, "--device", "cpu"])
    record = own_root / "results" / "tiny" / "runs" / RA_DQN / "run.json"
    first = record.read_text()
    cli.main(["train", RA_DQN, "--device", "cpu"])  # finished: nothing to do
    assert record.read_text() == first
    old = Scale("tiny").runs[RA_DQN].digest

    change = {"settings": {"learning": {"learning_rate": 0.001}, "agent": {"retrieval": {"k_states": 5}}}}
    tiny_project.write_config(own_root, {"experiments": {"gridroboman": change}})
    error = fails(capsys, "train", RA_DQN, "--device", "cpu")
    assert "run.json" in error
    assert "learning.learning_rate" in error
    assert "agent.retrieval.k_states" in error
    assert record.read_text() == first

    new = Scale("tiny").runs[RA_DQN].digest
    error = fails(capsys, "train", RA_DQN, "--device", "cpu", "--digest", old)
    assert old in error
    assert new in error
    assert "config/" in error
    cli.main(["train", RA_DQN, "--device", "cpu", "--digest", new])
    made = json.loads(record.read_text())
    assert made["config"]["learning"]["learning_rate"] == 0.001
    assert made["config_digest"] == new
    assert made["status"] == "finished"

    # How often it saves changes nothing.
    tiny_project.write_config(
        own_root, {"experiments": {"gridroboman": merge(change, {"settings": {"checkpoint_seconds": 7.0}})}}
    )
    cli.main(["train", RA_DQN, "--device", "cpu"])
    assert json.loads(record.read_text()) == made


def test_claims_are_on_record_and_make_no_run_stale(own_root, monkeypatch):
    """What was asked when the run was made stands in its record; asking something else later changes nothing."""
    monkeypatch.chdir(own_root)
    path, record = own_root / "config" / "claims.yaml", own_root / "results" / "tiny" / "runs" / RA_DQN / "run.json"
    path.write_text("settings: {min_seeds: 5}\nclaims: [{id: A, text: t, margin: 1, scales: [tiny]}]")
    asked = claim_digests(own_root, "tiny")
    cli.main(["train", RA_DQN, "--device", "cpu"])
    made = record.read_text()
    assert json.loads(made)["claims"] == asked
    assert set(asked) == {"settings", "A"}
    path.write_text("settings: {min_seeds: 5}\nclaims: [{id: A, text: t, margin: 2, scales: [tiny]}]")
    assert claim_digests(own_root, "tiny")["A"] != asked["A"]
    cli.main(["train", RA_DQN, "--device", "cpu"])
    assert record.read_text() == made


def test_a_changed_dataset_is_refused(own_root, monkeypatch, capsys):
    monkeypatch.chdir(own_root)
    cli.main(["train", RA_DQN, "--device", "cpu"])
    generate_planner(
        "lift red", tiny_project.EPISODES, 1, own_root / "data" / "tiny" / "gridroboman" / "planner" / "lift-red"
    )
    error = fails(capsys, "train", RA_DQN, "--device", "cpu")
    assert "data/tiny/gridroboman/planner/lift-red/manifest.json" in error


def test_a_run_that_diverges_is_recorded_where_asked_for(own_root, monkeypatch, capsys):
    monkeypatch.chdir(own_root)
    change = {"learning": {"learning_rate": 1e30, "warm_up_updates": 0, "max_gradient_norm": 1e30}}
    tiny_project.write_config(own_root, {"experiments": {"gridroboman": {"settings": change}}})
    error = fails(capsys, "train", RA_DQN, "--device", "cpu")
    assert "update " in error
    assert not (own_root / "results").exists()
    cli.main(["train", RA_DQN, "--device", "cpu", "--record-failure"])
    run = json.loads((own_root / "results" / "tiny" / "runs" / RA_DQN / "run.json").read_text())
    assert run["status"] == "failed"
    assert "update " in run["reason"]


# --------------------------------------------------------------------------------------------------------------- search


def test_a_try_is_recorded(own_root, monkeypatch, capsys):
    monkeypatch.chdir(own_root)
    arguments = ["search", "gridroboman", "ra-dqn", "--task-set", "10"]
    cli.main([*arguments, "--seed", "101", "--set", "learning.discount=0.5", "--set", "agent.retrieval.source=none"])
    cli.main([*arguments, "--set", "updates=6"])
    with open(own_root / "results" / "search" / "gridroboman.jsonl", encoding="utf-8") as file:
        one, other = map(json.loads, file)
    assert one["changed"] == ["learning.discount=0.5", "agent.retrieval.source=none"]
    assert (one["seed"], one["variant"], one["task_set"], one["scale"]) == (101, "ra-dqn", 10, "tiny")
    assert one["config"]["learning"]["discount"] == 0.5
    assert one["config"]["agent"]["retrieval"]["source"] == "none"
    assert [update for update, _ in one["return_by_update"]] == [6, 12]
    assert other["config"]["updates"] == 6
    assert other["seed"] == 100
    assert not (own_root / "results" / "tiny").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["gridroboman", "ra-dqn", "--seed", "99"], "seeds 100 to 999"),
        (["gridroboman", "ra-dqn", "--seed", "0"], "seeds 100 to 999"),
        (["gridrobo", "ra-dqn"], "gridroboman"),
        (["gridroboman", "ra-dqm"], "'ra-dqn'"),
        (["gridroboman", "ra-dqn", "--task-set", "15"], "10, 20, 30"),
        (["gridroboman", "ra-dqn", "--set", "learning.discount"], "KEY=VALUE"),
        (["gridroboman", "ra-dqn", "--set", "=3"], "KEY=VALUE"),
        (["gridroboman", "ra-dqn", "--set", "learning.discont=0.5"], "'discount'"),
        (["gridroboman", "ra-dqn", "--set", "learning.discount=[1"], "learning.discount"),
        (["gridroboman", "ra-dqn", "--set", "updates=5", "--set", "updates.more=5"], "updates"),
    ],
)
def test_faults_of_a_try_are_one_line(tiny_root, monkeypatch, capsys, arguments, expected):
    monkeypatch.chdir(tiny_root)
    task_set = [] if "--task-set" in arguments else ["--task-set", "10"]
    assert expected in fails(capsys, "search", *arguments, *task_set)
    assert not (tiny_root / "results").exists()


def test_the_searches_of_this_project_used_tuning_seeds():
    path = Path(__file__).parents[2] / "results" / "search" / "gridroboman.jsonl"
    if path.is_file():
        with open(path, encoding="utf-8") as file:
            assert all(json.loads(line)["seed"] >= 100 for line in file)
