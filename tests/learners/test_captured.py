"""A learner step through the buffers of a graph gives what it gives without, to the last bit."""

from __future__ import annotations

import copy

import pytest
import torch

from rarl.learners.captured import Buffers, CapturedStep, leaves, replaced
from rarl.learners.value_learner import ValueLearner
from tests import tiny_atari, tiny_babyai, tiny_project
from tests.fake_games import FakeGames

CPU = torch.device("cpu")


def through_buffers(learner):
    learner._step = CapturedStep(learner._plain_step, learner._changed_by_a_step, CPU)
    return learner


def updates(learner, n):
    rows = []
    for _ in range(n):
        rows.append({name: float(value) for name, value in ValueLearner.update(learner).items()})
    return rows


def learner_of(kind, root, monkeypatch):
    if kind in ("dqn", "ra-dqn"):
        return tiny_project.learner_of(root["offline"], kind, {"updates": 100})
    if kind in ("rdqn", "own", "all"):
        return tiny_babyai.learner_of(root["babyai"], kind, {"updates": 100})
    FakeGames.play_instead(monkeypatch)
    learner = tiny_atari.learner_of(root["atari"], kind, {"online": {"capacity_sequences": 300}, "updates": 100})
    learner.actors.play(60).add_to(learner.replay)
    return learner


@pytest.fixture
def root(tiny_root, tiny_babyai_root, tiny_atari_root):
    return {"offline": tiny_root, "babyai": tiny_babyai_root, "atari": tiny_atari_root}


SLOW = ("own", "all", "r2d2", "ra-r2d2")


@pytest.mark.parametrize(
    "kind", ["dqn", "ra-dqn", "rdqn", *(pytest.param(kind, marks=pytest.mark.slow) for kind in SLOW)]
)
def test_fifty_losses_are_equal(root, monkeypatch, kind):
    plain = learner_of(kind, root, monkeypatch)
    one = updates(plain, 50)
    buffered = through_buffers(learner_of(kind, root, monkeypatch))
    other = updates(buffered, 50)
    assert one == other
    assert len({row["loss"] for row in one}) > 40
    for mine, its in zip(plain.network.state_dict().values(), buffered.network.state_dict().values(), strict=True):
        assert torch.equal(mine, its)


def test_a_restored_learner_goes_on_the_same(tiny_root):
    first, second = (through_buffers(tiny_project.learner_of(tiny_root, "ra-dqn", {"updates": 100})) for _ in range(2))
    updates(first, 5)
    updates(second, 2)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    generator = torch.get_rng_state()
    one = updates(first, 5)
    torch.set_rng_state(generator)
    assert updates(second, 5) == one


def test_buffers_hold_what_they_are_filled_with_and_stay_where_they_are():
    parts = [torch.arange(5), torch.rand(2, 3), torch.tensor([True, False, True]), torch.zeros(0, 4)]
    buffers = Buffers(parts, CPU)
    places = [part.data_ptr() for part in buffers.tensors]
    for values in (parts, [part.flip(0) for part in parts]):
        buffers.fill(values)
        assert all(torch.equal(buffer, value) for buffer, value in zip(buffers.tensors, values, strict=True))
    assert [part.data_ptr() for part in buffers.tensors] == places


def test_a_tree_keeps_its_form():
    tree = {"a": (torch.zeros(2), None, 3), "b": [1]}
    other = replaced(tree, lambda part: part + 1)
    assert other["a"][0].tolist() == [1, 1]
    assert (other["a"][1:], other["b"]) == ((None, 3), [1])
    assert [None if part is None else part.tolist() for part in leaves(tree)] == [[0, 0], None]
