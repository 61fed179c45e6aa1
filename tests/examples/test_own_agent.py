"""A base agent of one's own: the distributional one of examples/quantiles.py, offline and online, with retrieval."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rarl.config.fit import check_run
from rarl.config.scale import Scale
from rarl.envs.spec import load, spec_of
from rarl.errors import RarlError
from rarl.jobs import train_job
from rarl.runs.train import learner_of
from tests import tiny_project
from tests.tiny import settings_of

VALUES = "examples/quantiles.py:QuantileHead"


def head():
    torch.manual_seed(0)
    return load(VALUES)(6, 3)


def test_its_loss_is_that_of_quantile_regression():
    ours, n = head(), 16
    values, target = torch.randn(2, 5, 3, n), torch.randn(2, 5, n)
    a = torch.randint(3, (2, 5))
    loss = ours.loss(values, a, target, 1.0)
    expected = 0.0
    for i in range(n):  # by hand, for one of the states
        for j in range(n):
            u = float(target[1, 3, j] - values[1, 3, a[1, 3], i])
            huber = 0.5 * u * u if abs(u) <= 1 else abs(u) - 0.5
            expected += abs((i + 0.5) / n - (u < 0)) * huber / n
    assert loss.shape == (2, 5)
    assert float(loss[1, 3]) == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(ours.expected(values), values.mean(-1))


@pytest.mark.parametrize("variant", ["dqn", "ra-dqn"])
def test_it_learns_offline(tiny_root, variant):
    changes = {"agent": {"values": VALUES}, "updates": 60, "learning": {"discount": 0.1}}  # so that targets stand still
    learner = tiny_project.learner_of(tiny_root, variant, changes)
    found = [float(learner.update()["td_loss"]) for _ in range(60)]
    assert np.mean(found[-10:]) < 0.8 * np.mean(found[:10])
    assert {row["task"] for row in learner.evaluate()} == set(learner.tasks)


@pytest.mark.parametrize(("variant", "double"), [("dqn", True), ("ra-dqn", False)])
def test_it_learns_while_it_plays(variant, double):
    smaller = {"learning": {"batch_sequences": 4, "double": double}, "online": {"start_sequences": 8, "actors": 4}}
    run = Scale("examples").run("cartpole", "cartpole", variant, 100, smaller | {"agent": {"values": VALUES}})
    torch.manual_seed(0)
    learner = learner_of(run, [], "cpu")
    scalars = [learner.update() for _ in range(120)]
    assert all(np.isfinite(float(row["td_loss"])) for row in scalars if "td_loss" in row)
    assert learner.updates_done > 20


def test_its_code_belongs_to_its_jobs(tiny_root):
    run = tiny_project.run_of(tiny_root, "dqn", changes={"agent": {"values": VALUES}})
    assert any("quantiles" in name for name in train_job(run).code().modules)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ("expcted", "here: agent.values = 'expcted': did you mean 'expected'"),
        ("nothing/there.py:Head", "here: agent.values = nothing/there.py:Head: no such file$"),
        ("nothing:Head", "here: agent.values = nothing:Head: no module 'nothing'$"),
        ("rarl.nn.value_netwrk:QHead", "no module 'rarl.nn.value_netwrk' .*did you mean 'rarl.nn.value_network'"),
    ],
)
def test_an_unknown_one_is_one_line(values, said):
    settings = settings_of("gridroboman", {"values": values})
    with pytest.raises(RarlError, match=said):
        check_run(spec_of("gridroboman"), settings, "here")


def test_what_is_no_head_is_named(tiny_root):
    with pytest.raises(RarlError, match=r"^agent\.values = 'examples/cartpole.py:SPEC': must be a class of heads"):
        tiny_project.learner_of(tiny_root, "dqn", {"agent": {"values": "examples/cartpole.py:SPEC"}})
