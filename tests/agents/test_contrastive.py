"""The contrastive loss: by hand, and what it does to a network."""

from __future__ import annotations

import math

import pytest
import torch

from rarl.agents.contrastive import contrastive_loss, info_nce
from rarl.errors import RarlError
from rarl.nn.retrieval import Retriever
from rarl.nn.value_network import ValueNetwork
from tests import tiny_atari, tiny_babyai, tiny_project, tiny_relevance


def test_info_nce_by_hand():
    one = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    found = info_nce(one, torch.tensor([[3.0, 0.0], [0.0, 0.1]]), 0.5).item()
    assert found == pytest.approx(math.log(1 + math.exp(-2)))
    assert info_nce(one, torch.ones(2, 2), 0.5).item() == pytest.approx(math.log(2))  # nothing can be told
    assert info_nce(one, one.flip(0), 0.5).item() == pytest.approx(math.log(1 + math.exp(2)))


class Identity(torch.nn.Module):
    def forward(self, x, context):
        return x


def made():
    torch.manual_seed(0)
    retriever = Retriever(8, n_f=2, d_m=8, d_e=8, d_h=8, d_v=8, k_states=None, summariser="decay", priced=False)
    network = ValueNetwork(Identity(), 8, 3, retriever, d_e=8)
    centres = torch.randn(5, 1, 1, 8)
    return network, centres


def test_it_falls_until_tasks_are_told_apart_and_needs_no_labels():
    network, centres = made()
    s = torch.randn(5, 4, 8)
    optimiser = torch.optim.Adam(network.process.parameters(), 0.003)
    losses = []
    for _ in range(150):
        trajectories = centres + 2 * torch.randn(5, 6, 4, 8)
        loss = contrastive_loss(network, s, network.process.summarise(trajectories), 0.1)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert sum(losses[-20:]) < 0.6 * sum(losses[:20])


def test_statistics_for_acting_stay_and_nothing_is_drawn():
    network, centres = made()
    s, summaries = torch.randn(5, 4, 8), network.process.summarise(centres + torch.randn(5, 6, 4, 8))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    random = torch.get_rng_state()
    assert torch.equal(contrastive_loss(network, s, summaries, 0.1), contrastive_loss(network, s, summaries, 0.1))
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_no_state_reads_its_own_episode():
    network, centres = made()
    trajectories = (centres + torch.randn(5, 6, 4, 8)).requires_grad_()
    exclude = torch.zeros(5, 4, 6, dtype=torch.bool)
    exclude[2, :, 3] = True
    for own, read in ((None, True), (exclude, False)):
        loss = contrastive_loss(
            network, torch.randn(5, 4, 8), network.process.summarise(trajectories), 0.1, exclude=own
        )
        (gradient,) = torch.autograd.grad(loss, trajectories)
        assert bool(gradient[2, 3].any()) is read
        assert gradient[2, 4].any()


@pytest.mark.parametrize("project", [tiny_project, tiny_babyai])
def test_a_learner_step_has_it_where_it_is_on(project, request):
    root = request.getfixturevalue("tiny_root" if project is tiny_project else "tiny_babyai_root")
    name = "ra-dqn" if project is tiny_project else "own"
    off, on = (
        project.learner_of(root, name, {"agent": {"retrieval": {"contrastive": weight}}}).update()
        for weight in (0.0, 0.3)
    )
    assert "contrastive_loss" not in off
    assert 0 < on["contrastive_loss"] < 10
    assert on["td_loss"] == pytest.approx(float(off["td_loss"]))
    assert float(on["loss"]) == pytest.approx(float(off["loss"]) + 0.3 * float(on["contrastive_loss"]), rel=1e-4)


@pytest.mark.parametrize(
    ("retrieval", "expected"),
    [
        ({"source": "random"}, "source = 'own'"),
        ({"source": "none"}, "source = 'own'"),
        ({"process": "none"}, "datasets and retrieve"),
        ({"first_updates": 1}, "no first_updates"),
    ],
)
def test_where_it_would_change_nothing_it_is_refused(tiny_root, retrieval, expected):
    changes = {"agent": {"retrieval": {"contrastive": 0.3} | retrieval}}
    with pytest.raises(RarlError, match=f"agent.retrieval.contrastive .*{expected}"):
        tiny_project.run_of(tiny_root, "ra-dqn", changes=changes)


def test_online_agents_have_one_task(tiny_atari_root):
    with pytest.raises(RarlError, match=r"agent\.retrieval\.contrastive"):
        tiny_atari.run_of(tiny_atari_root, "ra-r2d2", changes={"agent": {"retrieval": {"contrastive": 0.3}}})


def test_queries_that_are_told_the_task_are_told_it_here_too(tiny_root):
    changes = tiny_relevance.changes(more={"agent": {"retrieval": {"contrastive": 0.3}}})
    assert tiny_project.learner_of(tiny_root, "ra-dqn", changes).update()["contrastive_loss"] > 0
