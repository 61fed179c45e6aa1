"""Measured costs: of what they are measured, how times are made of what was timed, and the whole command."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from rarl.benchmarks import costs
from rarl.benchmarks.acting import acting, reading
from rarl.benchmarks.costs import COLUMNS, CYCLE, measure_costs
from rarl.config.scale import Scale
from rarl.envs.spec import make_vector
from rarl.errors import RarlError
from rarl.mappings import merge
from rarl.workflow import rules as workflow
from tests import tiny_atari, tiny_babyai, tiny_project
from tests.command_line import fails
from tests.tiny import variants

RELATIVES: dict[str, Any] = {  # an experiment without a base of its own
    "environment": "gridroboman",
    "title": "Relatives",
    "extends": "gridroboman",
    "base_variant": "dqn",
    "base": {"agent": {"retrieval": {"process": "slots"}}},
    "variants": variants(told={"agent": {"task": "observed"}}, greedy={"agent": {"retrieval": {"n_traj": 99}}}),
}


def project(root: Path, *, relatives: dict[str, Any] | None = None, **experiments: Any) -> Scale:
    """A tiny scale of all environments; what `experiments` give goes over what is there."""
    scale: dict[str, Any] = {}
    for tiny in (tiny_project, tiny_babyai, tiny_atari):
        tiny.write_config(root)
        scale = merge(scale, tiny.SCALE)
    at_scale = {
        "gridroboman": {"task_sets": {10: {"variants": ["ra-dqn", "dqn"], "probes": []}}},
        "relatives": {"task_sets": {10: {"tasks": ["touch red", "lift red"], "variants": ["told"]}}},
        "babyai": {"task_sets": {tiny_babyai.TASK_SET: {"variants": ["rdqn", "all"], "probes": []}}},
        "atari": {
            "settings": {"online": {"actors": 1}},
            "task_sets": {"pong": {"variants": ["r2d2", "ra-r2d2"], "probes": []}},
        },
    }
    scale = merge(scale, {"experiments": merge(at_scale, experiments)})
    (root / "config" / "tiny.yaml").write_text(yaml.safe_dump(scale, sort_keys=False))
    path = root / "config" / "experiments" / "relatives.yaml"
    path.write_text(yaml.safe_dump(merge(RELATIVES, relatives or {}), sort_keys=False))
    return Scale("tiny", root)


# ----------------------------------------------------------------------------------------------------- what is measured


def test_a_row_for_every_variant_of_the_largest_task_set_and_for_the_base(tmp_path):
    small = {"variants": ["oracle"], "probes": []}
    scale = project(tmp_path, gridroboman={"task_sets": {20: small, 10: small}})
    runs = scale.cost_runs()
    assert {name: list(of_one) for name, of_one in runs.items()} == {
        "gridroboman": ["dqn", "oracle"],  # 20 was written last; the base is not among its variants
        "babyai": ["rdqn", "all"],
        "atari": ["r2d2", "ra-r2d2"],
        "relatives": ["dqn", "told"],
    }
    assert {run.settings.seed for of_one in runs.values() for run in of_one.values()} == {100}
    assert {len(run.tasks) for run in runs["gridroboman"].values()} == {20}
    base, told = runs["relatives"].values()
    assert base.tasks == told.tasks == ["touch red", "lift red"]
    assert (base.settings.experiment, base.settings.agent.retrieval.process) == (
        "gridroboman",
        "none",
    )  # not of this one's base
    assert set(base.datasets) <= set(scale.datasets)
    assert scale.base_variant("relatives") == ("gridroboman", "dqn")
    assert scale.base_variant("gridroboman") == ("gridroboman", "dqn")  # the first


def test_the_base_is_looked_for_here_and_then_in_what_is_extended(tmp_path):
    own = project(tmp_path, relatives={"variants": variants(dqn={"agent": {"retrieval": {"process": "none"}}})})
    assert own.base_variant("relatives") == ("relatives", "dqn")
    assert list(own.cost_runs()["relatives"]) == ["dqn", "told"]
    assert own.cost_runs()["relatives"]["dqn"].settings.experiment == "relatives"
    with pytest.raises(
        RarlError, match=r"relatives.yaml: base_variant: unknown variant 'ra-dqm'; did you mean 'ra-dqn'"
    ):
        project(tmp_path, relatives={"base_variant": "ra-dqm"})
    path = tmp_path / "config" / "tiny.yaml"
    project(tmp_path)
    scale = yaml.safe_load(path.read_text())
    scale["experiments"]["gridroboman"]["task_sets"] = {}
    path.write_text(yaml.safe_dump(scale))
    with pytest.raises(RarlError, match=r"tiny.yaml: experiments.gridroboman.task_sets: none, but 'dqn' is the base"):
        Scale("tiny", tmp_path).cost_runs()


def test_experiments_can_be_chosen(tmp_path):
    everything = project(tmp_path).cost_runs()
    path = tmp_path / "config" / "tiny.yaml"
    scale = yaml.safe_load(path.read_text())

    def measured(*experiments: str) -> dict[str, list[str]]:
        path.write_text(yaml.safe_dump(merge(scale, {"costs": {"experiments": list(experiments)}})))
        return {name: list(runs) for name, runs in Scale("tiny", tmp_path).cost_runs().items()}

    assert measured("relatives", "babyai") == {name: list(everything[name]) for name in ("relatives", "babyai")}
    with pytest.raises(RarlError, match=r"costs.experiments: unknown experiment 'relative'; did you mean 'relatives'"):
        measured("relative")


def test_the_base_is_no_part_of_a_run(tmp_path):
    before = project(tmp_path)
    after = project(tmp_path, relatives={"base_variant": "told"})
    assert {run.id: run.digest for run in before.runs.values()} == {run.id: run.digest for run in after.runs.values()}
    assert workflow.plan_digest(before) != workflow.plan_digest(after)  # reports compare with it
    assert workflow.cost_digest(before) != workflow.cost_digest(after)


def test_the_digest_knows_what_changes_the_time_alone(tmp_path):
    before = project(tmp_path)
    slower = project(tmp_path, atari={"settings": {"online": {"overlap": True}}})
    assert before.runs.keys() == slower.runs.keys()
    assert all(run.digest == slower.runs[name].digest for name, run in before.runs.items())
    assert workflow.cost_digest(before) != workflow.cost_digest(slower)
    path = tmp_path / "config" / "tiny.yaml"
    plan = workflow.plan_digest(slower)
    path.write_text(path.read_text().replace("seconds_per_variant: ", "seconds_per_variant: 1"))
    longer = Scale("tiny", tmp_path)
    assert workflow.cost_digest(slower) != workflow.cost_digest(longer)
    assert workflow.plan_digest(longer) == plan  # the report has another input then, not another plan


def test_every_shipped_experiment_names_its_base():
    for path in (Path(__file__).parents[2] / "config" / "experiments").glob("*.yaml"):
        assert yaml.safe_load(path.read_text())["base_variant"], path.name


def test_nothing_is_waited_for_that_comes_before_the_ordinary_step(tmp_path):
    runs = project(tmp_path, atari={"settings": {"online": {"start_sequences": 50}}}).cost_runs()["atari"].values()
    ready = costs._all_shortened([run.settings for run in runs])
    # ra-r2d2 needs 3 sequences and their 2 * (8 // 3) neighbours and itself each, and 4 to retrieve from.
    assert [s.online.start_sequences for s in ready] == [19, 19]
    assert {s.online.refresh_updates for s in ready} == {CYCLE}
    first = project(tmp_path, relatives={"base": {"agent": {"retrieval": {"first_updates": 7}}}})
    (short,) = costs._all_shortened([first.cost_runs()["relatives"]["told"].settings])
    assert short.agent.retrieval.first_updates == 1


def test_what_a_learner_step_is(tmp_path):
    runs = project(tmp_path).cost_runs()
    said = {name: {costs.describe_step(run.settings) for run in of_one.values()} for name, of_one in runs.items()}
    assert said == {
        "gridroboman": {"40 states"},
        "relatives": {"40 states"},
        "babyai": {"9 sequences of 6 steps"},
        "atari": {"3 sequences of 8 steps, and 7 steps of 1 actor"},
    }


# ---------------------------------------------------------------------------------------------------------------- times


class Agent:
    """With weights, an optimiser of its own, and what is no tensor."""

    def __init__(self):
        self.squares = [torch.zeros(5)]
        self.weights = [nn.Parameter(torch.zeros(7))]
        self.entries = np.zeros(1000)


Agent.__module__ = "rarl.agents.made_up"


def test_tensors_are_counted_once():
    class Holder:
        def __init__(self):
            self.network = nn.Linear(2, 3)
            self.parameters = list(self.network.parameters())
            self.optimiser = torch.optim.Adam(self.parameters)
            self.agent = Agent()
            self.agent.holder = self  # a circle

    Holder.__module__ = "rarl.training.made_up"
    holder = Holder()
    assert costs.tensor_bytes(holder) == 4 * (9 + 5 + 7)
    holder.network(torch.ones(1, 2)).sum().backward()
    holder.optimiser.step()
    # Weight and bias; two moments of each; the number of steps for both.
    assert costs.tensor_bytes(holder) == 4 * (9 + 5 + 7 + 2 * 9 + 2)


# ------------------------------------------------------------------------------------------------------- how it acts


def test_agents_act_as_in_their_evaluation(tiny_root, tiny_babyai_root):
    """The greedy actions in the same states, whatever the batch they are computed in."""
    run, learner = tiny_project.run_of(tiny_root, "dqn"), tiny_project.learner_of(tiny_root, "dqn")
    x = torch.from_numpy(make_vector(run.settings, run.tasks[:1] * 5).reset())
    with torch.no_grad():
        q = learner.network(x[None], torch.zeros(1, 5, dtype=torch.int64), None)[0][0]
    assert acting(learner, 5)().tolist() == q.argmax(-1).tolist()
    assert reading(learner) is None

    retrieving = tiny_project.learner_of(tiny_root, "ra-dqn")
    summaries = reading(retrieving)()
    assert summaries.n_traj == 3  # the best of a batch of one task
    with torch.no_grad():
        q = retrieving.network(x[None], torch.zeros(1, 5, dtype=torch.int64), summaries)[0][0]
    assert acting(retrieving, 5)().tolist() == q.argmax(-1).tolist()

    pooled = tiny_babyai.learner_of(tiny_babyai_root, "all")
    assert reading(pooled)().keys.shape[0] == 1  # one batch for all tasks
    envs = make_vector(pooled.settings, pooled.tasks[:1] * 40)
    x, network = torch.from_numpy(envs.reset())[None, :, None], pooled.network
    told, state, summaries = torch.from_numpy(envs.context.astype(np.int64))[None, :, None], None, reading(pooled)()
    actions = acting(pooled, 40)
    for _ in range(3):  # with a recurrent state, as in an episode
        with torch.no_grad():
            out = network.unroll(x, told, state, summaries)
        assert actions().tolist() == out.q[0, :, 0].argmax(-1).tolist()
        state = out.state


def test_episodic_control_acts_by_what_it_remembers(tiny_root, monkeypatch):
    learner = tiny_project.learner_of(tiny_root, "mfec")
    learner.update()
    assert reading(learner) is None
    x = learner.codec.alone(make_vector(learner.settings, learner.settings.tasks[:1] * 3).reset())
    look, seen = type(learner.agent).look, []
    monkeypatch.setattr(
        learner.agent, "look", lambda *given, use: seen.append((*given, use)) or look(learner.agent, *given, use=use)
    )
    before = len(learner.agent)
    assert set(acting(learner, 3)()) <= set(range(learner.agent.n_actions))
    ((states, tasks, use),) = seen
    assert (states == x).all()
    assert (tasks.tolist(), use, len(learner.agent)) == ([0, 0, 0], False, before)


def test_where_nothing_can_be_played_nobody_acts(tiny_root, monkeypatch):
    learner = tiny_project.learner_of(tiny_root, "ra-dqn")
    monkeypatch.setattr("rarl.benchmarks.acting.plays", lambda spec: False)
    assert acting(learner, 3) is None
    assert reading(learner) is not None


# ---------------------------------------------------------------------------------------------------------- the command


@pytest.fixture(scope="module")
def measured(tmp_path_factory, tiny_root, tiny_babyai_root) -> list[dict[str, str]]:
    """The rows of costs.csv of a tiny scale."""
    root = tmp_path_factory.mktemp("costs")
    scale = project(root)
    (root / "data" / "tiny").mkdir(parents=True)
    for made, environment in ((tiny_root, "gridroboman"), (tiny_babyai_root, "babyai")):
        (root / "data" / "tiny" / environment).symlink_to(made / "data" / "tiny" / environment)
    threads, seed = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    path = measure_costs(scale, device="cpu")
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == (threads, seed)
    assert path == root / "results" / "tiny" / "costs.csv"
    with path.with_name(costs.SPEEDS).open() as file:
        assert {row["environment"] for row in csv.DictReader(file)} == {"gridroboman", "babyai", "atari"}
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_all_variants_are_measured_beside_their_base(measured):
    assert list(measured[0]) == list(COLUMNS)
    assert [(row["experiment"], row["task_set"], row["variant"], row["base"]) for row in measured] == [
        ("gridroboman", "10-tasks", "ra-dqn", "dqn"),
        ("gridroboman", "10-tasks", "dqn", "dqn"),
        ("babyai", tiny_babyai.TASK_SET, "rdqn", "rdqn"),
        ("babyai", tiny_babyai.TASK_SET, "all", "rdqn"),
        ("atari", "pong", "r2d2", "r2d2"),
        ("atari", "pong", "ra-r2d2", "r2d2"),
        ("relatives", "10-tasks", "dqn", "dqn"),
        ("relatives", "10-tasks", "told", "dqn"),
    ]
    for row in measured:
        for column in ("parameters", "learner_step_ms", "acting_ms", "memory_mb", "tensors_mb", "gflop"):
            assert 0 < float(row[column]) < 1e5, (row["variant"], column)
        assert int(row["rounds"]) >= costs.ROUNDS[0]
        assert (row["threads"], row["device"], row["gpu_busy"], row["kernels"]) == ("1", "cpu", "", "")
        assert row["step"]


@pytest.mark.slow
def test_what_retrieves_has_more_parameters_and_a_time_to_read(measured):
    of = {(row["experiment"], row["variant"]): row for row in measured}
    retrieves = {key for key, row in of.items() if row["read_ms"]}
    assert {variant for _, variant in retrieves} == {"ra-dqn", "all", "ra-r2d2", "told"}
    for key in retrieves:
        row, base = of[key], of[key[0], of[key]["base"]]
        assert float(row["read_ms"]) > 0
        for column in ("parameters", "tensors_mb", "gflop"):
            assert float(row[column]) > float(base[column])
    # The same agent, on fewer tasks but with as large a batch.
    assert of["relatives", "dqn"]["parameters"] == of["gridroboman", "dqn"]["parameters"]
    # Network, target, two moments; 4 bytes each, and a little more that counts steps.
    dqn = of["gridroboman", "dqn"]
    assert 4 * 4 * int(dqn["parameters"]) / 1e6 <= float(dqn["tensors_mb"]) < 4 * 5 * int(dqn["parameters"]) / 1e6


def test_operations_are_those_of_an_ordinary_step():
    a, b = torch.ones(30, 40), torch.ones(40, 50)
    works = iter([lambda: (a @ b, b.T @ a.T), lambda: a @ b, lambda: (a @ b, a @ b, a @ b)])
    assert float(costs._gflop(lambda: next(works)())) == pytest.approx(2 * 30 * 40 * 50 / 1e9)


def test_a_variant_that_cannot_be_built_is_named(tmp_path, tiny_root):
    scale = project(tmp_path, relatives={"base_variant": "greedy"}, gridroboman={"task_sets": {10: {"variants": []}}},
                    babyai={"task_sets": {tiny_babyai.TASK_SET: {"variants": []}}},
                    atari={"task_sets": {"pong": {"variants": []}}})  # fmt: skip
    (tmp_path / "data").symlink_to(tiny_root / "data")
    with pytest.raises(RarlError, match=r"^costs of relatives/10-tasks/greedy: .* n_traj = 99$"):
        measure_costs(scale, device="cpu")
    assert not (tmp_path / "results").exists()


def test_a_missing_dataset_and_a_changed_configuration_are_told(tmp_path, monkeypatch, capsys):
    scale = project(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert "no dataset (10 of 10 are missing)" in fails(capsys, "costs", "--device", "cpu")
    assert "expected 0123" in fails(capsys, "costs", "--digest", "0123")
    assert "no dataset" in fails(capsys, "costs", "--device", "cpu", "--digest", workflow.cost_digest(scale))
