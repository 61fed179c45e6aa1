"""The masking loss in learners: by hand, what it trains, what it leaves alone, exact resume."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch

from rarl.agents import masking as masking_module
from rarl.errors import RarlError
from rarl.learners.value_learner import ValueLearner
from rarl.nn.masking import masked_steps
from rarl.nn.retrieval import Mode
from tests import tiny_atari, tiny_babyai, tiny_project
from tests.fake_games import FakeGames
from tests.runs.run_processes import assert_same

MASKED = {
    "weight": 0.7,
    "trajectories": 20,
    "step_stride": 3,
    "trajectory_steps": 20,
    "tokens": 8,
    "d_token": 4,
}
ENVIRONMENTS = {  # project, base agent, retrieval agent
    "gridroboman": (tiny_project, "dqn", "ra-dqn"),
    "babyai": (tiny_babyai, "rdqn", "all"),
    "atari": (tiny_atari, "r2d2", "ra-r2d2"),
    "atari, frames stacked": (tiny_atari, "dqn", "ra-dqn"),
}


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(params=ENVIRONMENTS)
def learner_of(request, monkeypatch):
    """Makes a learner of the base agent (False) or of the one that retrieves (True), ready for learner steps."""
    project, base, retrieves = ENVIRONMENTS[request.param]
    atari = project is tiny_atari
    root = request.getfixturevalue(
        {"gridroboman": "tiny_root"}.get(request.param, f"{project.__name__.rpartition('.')[2]}_root")
    )
    if atari:
        FakeGames.play_instead(monkeypatch)

    def make(retrieving, masked=MASKED, **learning):
        changes = {"learning": {"max_gradient_norm": 1e9, "masking": masked, **learning}}
        learner = project.learner_of(root, retrieves if retrieving else base, changes)
        if atari:
            learner.actors.play(60).add_to(learner.replay)
        return learner

    return make


def step(learner):
    return {name: float(value) for name, value in ValueLearner.update(learner).items()}


def gradients(learner, seed=3):
    """{parameter: gradient} of a learner step that is not taken, zeros where none came."""
    learner.optimiser.step = lambda: None
    torch.manual_seed(seed)
    step(learner)
    named = [*learner.network.named_parameters()]
    named += [(f"predictor.{n}", p) for n, p in learner.masking.predictor.named_parameters()] if learner.masking else []
    return {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in named}


@pytest.mark.parametrize("retrieving", [False, True])
def test_it_trains_the_encoder_the_summariser_and_what_predicts_alone(learner_of, retrieving):
    """Two weights, all else the same: only where the loss arrives is the gradient another."""
    small, large = (gradients(learner_of(retrieving, MASKED | {"weight": w})) for w in (1e-9, 0.7))
    changed = {n for n, g in small.items() if not torch.allclose(g, large[n], rtol=1e-3, atol=1e-7)}
    summariser = "retriever.process.summariser" if retrieving else "predictor.summariser"
    assert all(name.startswith(("encoder.", "predictor.", f"{summariser}.")) for name in changed), changed
    assert not any(name.startswith("predictor.summariser") for name in large) or not retrieving
    assert {"predictor.mask", "predictor.past.weight", "predictor.future.weight", "predictor.out.bias"} <= changed
    assert {n for n in small if n.startswith("encoder.norm")} <= changed
    assert any(n.startswith(f"{summariser}.forwards") for n in changed)
    assert any(n.startswith(f"{summariser}.backwards") for n in changed)


def test_the_agent_and_the_tokens_learn_apart(learner_of):
    """The VQ-VAE's step is the same whatever the agent is, and the agent hears of it by the tokens alone."""
    one, other = learner_of(False), learner_of(False)
    optimised = {id(p) for group in one.optimiser.param_groups for p in group["params"]}
    assert not optimised & {id(p) for p in one.masking.vq_vae.parameters()}
    assert optimised == {id(p) for p in (*one.network.parameters(), *one.masking.predictor.parameters())}
    with torch.no_grad():
        for parameter in (*other.network.parameters(), *other.masking.predictor.parameters()):
            parameter.mul_(1.1)
    before = copy.deepcopy(one.masking.vq_vae.state_dict())
    for learner in (one, other):
        torch.manual_seed(5)
        batch = drawn(learner)
        learner.masking.loss(learner.network, batch, np.random.default_rng(0))
    assert_same(one.masking.vq_vae.state_dict(), other.masking.vq_vae.state_dict())
    assert not torch.equal(before["encoder.0.weight"], one.masking.vq_vae.state_dict()["encoder.0.weight"])


def drawn(learner):
    """A batch of trajectories to mask."""
    if learner.masking.memory is None:
        learner.rng = np.random.default_rng(1)
        return learner._to_mask(learner.replay.at(learner.replay.ids[:5]))
    return learner.masking.draw(np.arange(2), np.random.default_rng(1))


def test_the_loss_by_hand(learner_of):
    """-log of the softmax at the token, masked step by masked step; tokens are the nearest codes."""
    learner = learner_of(True)
    masking, batch = learner.masking, drawn(learner)
    assert batch.mask is not None or learner.settings.environment == "gridroboman"
    real = torch.ones(batch.a.shape, dtype=torch.bool) if batch.mask is None else batch.mask
    vq_vae = masking.vq_vae
    vq_vae(batch.x[real])  # the codes are there now
    codes = vq_vae.quantiser.codebook.clone()
    z = vq_vae.standardise(vq_vae.encoder(vq_vae.read(batch.x[real])), Mode.TARGET).detach()
    seen = {}
    for part in (masking.predictor, vq_vae):

        def spy(*inputs, part=part, forward=part.forward):
            seen[part] = inputs, forward(*inputs)
            return seen[part][1]

        part.forward = spy
    found = masking.loss(learner.network, batch, np.random.default_rng(4))
    (_, masked, *_), logits = seen[masking.predictor]
    expected = masked_steps(real.flatten(0, 1).numpy(), 0.15, np.random.default_rng(4))
    assert (masked.numpy() == expected).all()

    tokens = seen[vq_vae][1].tokens
    distances = ((z[:, None] - codes) ** 2).sum(-1)
    torch.testing.assert_close(distances.gather(1, tokens[:, None])[:, 0], distances.amin(1), rtol=1e-4, atol=1e-4)
    assert len(set(tokens.tolist())) > 3
    at = dict(zip(map(tuple, real.flatten(0, 1).nonzero().tolist()), tokens.tolist(), strict=True))
    places = list(map(tuple, np.argwhere(expected).tolist()))
    assert len(expected) <= len(places) < real.sum()
    total, right = 0.0, 0
    for row, place in zip(logits.double(), places, strict=True):
        total += math.log(sum(math.exp(v) for v in row.tolist())) - row[at[place]].item()
        right += int(row.argmax()) == at[place]
    assert found.loss.item() == pytest.approx(total / len(places), rel=1e-4)
    assert found.scalars["masking_accuracy"].item() == pytest.approx(right / len(places))
    assert found.scalars["masking_loss"] == found.loss.detach()


def test_the_whole_loss_is_the_weighted_sum(learner_of):
    learner = learner_of(False)
    scalars = step(learner)
    weight = 0.7 * scalars["masking_loss"]
    conservative = learner.settings.learning.conservative * scalars.get("conservative_loss", 0.0)
    assert scalars["loss"] == pytest.approx(scalars["td_loss"] + conservative + weight, rel=1e-5)
    assert 1 <= scalars["token_perplexity"] <= 8 + 1e-4
    assert scalars["token_error"] > 0
    assert 0 <= scalars["masking_accuracy"] <= 1


@pytest.mark.parametrize("retrieving", [False, True])
def test_it_goes_on_bitwise_from_its_saved_state(learner_of, retrieving):
    one = learner_of(retrieving)
    for _ in range(3):
        step(one)
    state, generator = copy.deepcopy(one.state_dict()), torch.get_rng_state()
    expected = [step(one) for _ in range(3)]
    other = learner_of(retrieving)
    step(other)
    other.load_state_dict(state)
    torch.set_rng_state(generator)
    assert [step(other) for _ in range(3)] == expected
    assert_same(one.state_dict(), other.state_dict())
    assert "masking" not in other.final_state_dict()


def test_without_weight_nothing_is_built_and_nothing_drawn(learner_of, monkeypatch):
    masked = learner_of(True)
    for name in ("VQVAE", "MaskedTokens", "masked_steps"):
        monkeypatch.setattr(masking_module, name, None)
    plain = learner_of(True, {"weight": 0.0})
    assert plain.masking is None
    assert "masking" not in plain.state_dict()
    assert "masking" not in plain.parameter_counts()
    # The agent itself begins the same.
    assert_same(plain.network.state_dict(), masked.network.state_dict())
    step(plain)


def test_parameters_are_counted(learner_of):
    learner = learner_of(True)
    parts = (learner.masking.predictor, learner.masking.vq_vae)
    step(learner)
    assert learner.parameter_counts()["masking"] == sum(p.numel() for part in parts for p in part.parameters())


# ------------------------------------------------------------------------------------------------- which trajectories


def test_trajectories_are_drawn_evenly_from_the_tasks_of_the_batch(tiny_root):
    changes = {"learning": {"masking": MASKED, "tasks_per_batch": 4}, "episodes": 9}
    for variant in ("dqn", "ra-dqn"):
        learner = tiny_project.learner_of(tiny_root, variant, changes)
        batches, sample = [], learner.masking.memory.sample
        learner.masking.memory.sample = lambda *a, b=batches, s=sample: b.append(s(*a)) or b[-1]
        tasks, spread = [], learner._tasks_of_batch
        learner._tasks_of_batch = lambda size, t=tasks, s=spread: t.append(s(size)) or t[-1]
        for _ in range(3):
            learner.update()
        for batch, (of_batch, _) in zip(batches, tasks, strict=True):
            assert batch.x.shape == (4, 5, 7, 11)  # 20 trajectories of 20 steps, every third looked at
            assert batch.given[:, 0].tolist() == of_batch.tolist()
            assert (batch.context[:, 0, 0].numpy() == of_batch).all()
            used = [set(learner.masking.memory.samplers[g].dataset.used.tolist()) for g in batch.given[:, 0]]
            assert all(len(of) == 9 and set(e.tolist()) <= of for of, e in zip(used, batch.episodes, strict=True))
        assert len({tuple(b.episodes.ravel()) for b in batches}) == 3


def test_missions_are_told_with_the_trajectories(tiny_babyai_root):
    learner = tiny_babyai.learner_of(tiny_babyai_root, "rdqn", {"learning": {"masking": MASKED}})
    batch = learner.masking.draw(np.arange(3), np.random.default_rng(0))
    assert batch.context.shape[:3] == (3, 6, 1)
    datasets = [sampler.dataset for sampler in learner.masking.memory.samplers]
    for g in range(3):
        assert (batch.context[g, :, 0].numpy() == datasets[g].extras["mission"][batch.episodes[g]]).all()


def test_a_dataset_too_small_is_named(tiny_root):
    with pytest.raises(RarlError, match=r"touch-red: holds 16 episodes, but learning\.masking\.trajectories = 170"):
        tiny_project.learner_of(tiny_root, "dqn", {"learning": {"masking": MASKED | {"trajectories": 170}}})


def test_atari_masks_windows_that_are_learned_from(tiny_atari_root, monkeypatch):
    FakeGames.play_instead(monkeypatch)
    changes = {"learning": {"masking": MASKED | {"trajectories": 2, "trajectory_steps": None}}}
    learner = tiny_atari.learner_of(tiny_atari_root, "r2d2", changes)
    learner.actors.play(60).add_to(learner.replay)
    draws, sample = [], learner.replay.sample
    learner.replay.sample = lambda *a: draws.append(sample(*a)) or draws[-1]
    batches, loss = [], learner.masking.loss
    learner.masking.loss = lambda network, batch, rng: batches.append(batch) or loss(network, batch, rng)
    step(learner)
    (draw,), (batch,) = draws, batches
    assert (batch.episodes[0] == draw.learn.episodes[:2]).all()
    assert batch.x.shape[:3] == (1, 2, 3)


# ------------------------------------------------------------------------------------------------------------- learning


def test_masked_steps_are_predicted_better_than_by_how_frequent_tokens_are(tiny_root):
    masked = {"weight": 1.0, "trajectories": 60, "step_stride": 2, "trajectory_steps": 20, "tokens": 8, "d_token": 4}
    learner = tiny_project.learner_of(tiny_root, "dqn", {"updates": 150, "learning": {"masking": masked}})
    rows = [{name: float(value) for name, value in learner.update().items()} for _ in range(150)]
    first, last = ({name: np.mean([row[name] for row in part]) for name in rows[0]} for part in (rows[:5], rows[-20:]))
    assert first["masking_loss"] > 1.8  # log 8 = 2.08
    assert last["masking_loss"] < np.log(last["token_perplexity"]) - 0.2
    assert last["token_perplexity"] > 5
    assert last["token_error"] < first["token_error"] - 0.1
