"""What every run records of its retrieval: by hand, and on agents that are known to use it or not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rarl.agents.diagnosis import diagnose
from tests import tiny_atari, tiny_babyai, tiny_project
from tests.fake_games import FakeGames

OF_ONE = {
    "states", "last_share", "steps_per_trajectory", "effective_states", "logit_std", "z_rms", "flips_redrawn",
    "flips_removed",
}  # fmt: skip
OF_SEVERAL = OF_ONE | {"flips_exchanged", "z_between"}


def asked(learner):
    """The fixed states and two draws of retrieval batches."""
    rng = np.random.default_rng(0)
    return learner._asking(rng), learner._batch_to_diagnose(rng), learner._batch_to_diagnose(rng)


@torch.no_grad()
def test_on_boards_by_hand(tiny_root):
    learner = tiny_project.learner_of(tiny_root, "ra-dqn")
    asking, batch, again = asked(learner)
    found = diagnose(learner.network, asking, batch, again)
    assert found.keys() == OF_SEVERAL
    # Three trajectories of 50 steps, of which every tenth is looked at.
    assert (found["states"], found["steps_per_trajectory"]) == (15, 5)
    assert found["last_share"] == pytest.approx(0.2)
    network = learner.network
    answers = {}
    for name, of, roll in (("own", batch, 0), ("again", again, 0), ("other", batch, 1)):
        summaries = of.summarise(network)
        rolled = type(summaries)(*(None if part is None else part.roll(roll, 0) for part in summaries))
        answers[name] = network(asking.x[:, :, 0], asking.context[:, :, 0], rolled)
    answers["none"] = network(asking.x[:, :, 0], asking.context[:, :, 0], None)
    _, step = answers["own"]
    greedy = {name: answer[0].argmax(-1) for name, answer in answers.items()}
    for name, other in (("redrawn", "again"), ("exchanged", "other"), ("removed", "none")):
        assert found[f"flips_{name}"] == pytest.approx((greedy[other] != greedy["own"]).float().mean().item())
    alpha = step.alpha.numpy()
    entropy = -np.where(alpha > 0, alpha * np.log(np.where(alpha > 0, alpha, 1)), 0).sum(-1)
    assert found["effective_states"] == pytest.approx(np.exp(entropy).mean(), rel=1e-5)
    keys = batch.summarise(network).keys
    logits = [q @ keys[g].T / 8**0.5 for g, q in enumerate(step.q)]
    spread = np.mean([part.numpy().std(-1) for part in logits])
    assert found["logit_std"] == pytest.approx(spread, rel=1e-5)
    rms = step.z.square().mean().sqrt().item()
    assert found["z_rms"] == pytest.approx(rms, rel=1e-5)
    apart = (step.z - answers["other"][1].z).square().mean().sqrt().item()
    assert found["z_between"] == pytest.approx(apart / 2**0.5 / rms, rel=1e-4)


def deaf(network):
    """z has no way to the values any more."""
    with torch.no_grad():
        network.retriever.fusion.scale_and_shift.weight.zero_()
        network.head.value.weight.zero_()


def loud(network):
    with torch.no_grad():
        network.retriever.fusion.scale_and_shift.weight.mul_(30)
        network.process.bottleneck.posterior.weight.mul_(30)


@pytest.mark.parametrize(
    ("module", "root", "variant", "names"),
    [
        (tiny_project, "tiny_root", "ra-dqn", OF_SEVERAL),
        (tiny_babyai, "tiny_babyai_root", "own", OF_SEVERAL),
        (tiny_babyai, "tiny_babyai_root", "all", OF_ONE),
        (tiny_atari, "tiny_atari_root", "ra-r2d2", OF_ONE),
        (tiny_atari, "tiny_atari_root", "ra-dqn", OF_ONE),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_it_tells_whether_retrieval_is_used(request, monkeypatch, module, root, variant, names):
    FakeGames.play_instead(monkeypatch)
    learner = module.learner_of(request.getfixturevalue(root), variant)
    if hasattr(learner, "replay"):
        assert learner.diagnose() == {}  # nothing to retrieve from yet
        learner.actors.play(60).add_to(learner.replay)
    state = torch.get_rng_state()
    found = learner.diagnose()
    assert found.keys() == names
    assert learner.diagnose() == found  # always of the same states and batches
    assert torch.equal(torch.get_rng_state(), state)
    loud(learner.network)
    assert max(found["flips_removed"], learner.diagnose()["flips_removed"]) > 0
    deaf(learner.network)
    assert all(value == 0 for name, value in learner.diagnose().items() if name.startswith("flips"))


@pytest.mark.parametrize("variant", ["dqn", "oracle", "nothing"])
def test_an_agent_without_retrieval_has_nothing_to_diagnose(tiny_root, variant):
    assert tiny_project.learner_of(tiny_root, variant).diagnose() == {}


def test_padded_steps_are_left_out(tiny_babyai_root):
    learner = tiny_babyai.learner_of(tiny_babyai_root, "own")
    asking, batch, again = asked(learner)
    assert not asking.real.all()
    shape = asking.real.shape + (1,) * (asking.x.dim() - 3)
    x = torch.where(asking.real.view(shape), asking.x, torch.ones_like(asking.x))
    one, other = (diagnose(learner.network, asking._replace(x=part), batch, again) for part in (asking.x, x))
    assert one == pytest.approx(other)
    lengths = batch.mask.sum(-1).float()
    assert one["steps_per_trajectory"] == pytest.approx(lengths.mean().item())
    assert one["last_share"] == pytest.approx((batch.mask.any(-1).sum() / lengths.sum()).item())
