"""Recurrent agents learning from sequences: gradients, learning, exact resume, evaluation, probes."""

from __future__ import annotations

import copy
import json
import shutil

import numpy as np
import pytest
import torch

from rarl.config.scale import Scale
from rarl.learners.offline import OfflineLearner
from rarl.probes.probe import probe_run
from rarl.rollouts.evaluation import Evaluation
from rarl.runs.run_folder import RunPaths
from rarl.runs.train import train_run
from tests import tiny_babyai
from tests.kept_episodes import play_kept

VARIANTS = ["rdqn", "own", "all", "open", "nothing"]


def weights_of(learner):
    return torch.cat([p.detach().flatten() for p in learner.network.parameters()])


@pytest.mark.parametrize("variant", VARIANTS)
def test_learner_steps_change_every_part_and_stay_finite(tiny_babyai_root, variant):
    learner = tiny_babyai.learner_of(tiny_babyai_root, variant)
    assert isinstance(learner, OfflineLearner)
    assert learner.recurrent
    before = {name: p.detach().clone() for name, p in learner.network.named_parameters()}
    for _ in range(2):
        scalars = learner.update()
    assert all(np.isfinite(float(value)) for value in scalars.values())
    still = {name for name, p in learner.network.named_parameters() if torch.equal(before[name], p)}
    allowed = set()
    if variant == "nothing":
        unread = ("summariser", "state_in_key", "action_and_reward", "key.", "value.", "query.", "bottleneck.")
        allowed |= {name for name in before if name.startswith(tuple(f"retriever.process.{part}" for part in unread))}
    assert still <= allowed, still - allowed
    assert ("kl" in scalars) == (variant in ("own", "all"))
    assert ("auxiliary_loss" in scalars) == (variant in ("own", "all", "open"))


def test_the_bottleneck_trains_the_retrieval_process_alone(tiny_babyai_root):
    gradients = []
    for beta in (1e-9, 0.5):
        learner = tiny_babyai.learner_of(tiny_babyai_root, "all", {"agent": {"retrieval": {"bottleneck": beta}}})
        torch.manual_seed(3)
        learner.optimiser.step = lambda: None
        learner.settings.learning.__dict__["max_gradient_norm"] = 1e9
        learner.update()
        gradients.append({n: p.grad for n, p in learner.network.named_parameters()})
    changed = {
        name
        for name, g in gradients[0].items()
        if g is not None and not torch.allclose(g, gradients[1][name], rtol=1e-3, atol=1e-7)
    }
    assert changed
    assert all(name.startswith("retriever.process.") for name in changed), changed


def test_the_loss_ignores_padding_and_burn_in(tiny_babyai_root):
    """What the network says at steps that do not count leaves the TD loss and its gradients alone."""
    learner = tiny_babyai.learner_of(tiny_babyai_root, "rdqn")
    sample = learner.sampler.sample
    losses = []
    for disturbed in (False, True):

        def spoiled(tasks, rng, disturbed=disturbed):
            batch = sample(tasks, np.random.default_rng(5))
            assert not batch.mask.all()
            assert not batch.learn[batch.mask].all()
            if disturbed:
                batch.r_t[~batch.mask] = 100.0
                batch.actions[~batch.learn] = (batch.actions[~batch.learn] + 1) % 7
                # Observations after the one that follows the last real step.
                real = batch.mask.sum(1)
                for row, n in enumerate(real):
                    batch.observations[row, n + 1 :] = 7
            return batch

        learner.sampler.sample = spoiled
        found = learner._losses_of(learner._draw())
        losses.append((found.td, torch.autograd.grad(found.td, learner.network.core.weight_ih_l0)[0]))
    torch.testing.assert_close(losses[0], losses[1])


def test_pooled_and_own_batches_have_their_groups(tiny_babyai_root):
    for variant, groups, candidates in (("own", 3, 3), ("all", 1, 9)):
        learner = tiny_babyai.learner_of(tiny_babyai_root, variant)
        batch = learner.memory.sample(np.arange(3), learner.rng)
        assert batch.a.shape[:2] == (groups, candidates)
        used = [set(sampler.dataset.used.tolist()) for sampler in learner.memory.samplers]
        assert [len(one) for one in used] == [12] * 3  # of 16 that are there
        assert all(e in used[d] for d, e in zip(batch.given.ravel(), batch.episodes.ravel(), strict=True))
        assert set(np.unique(batch.given)) == {0, 1, 2}


@pytest.mark.parametrize("variant", ["rdqn", "all"])
def test_state_restored_goes_on_exactly(tiny_babyai_root, variant):
    one = tiny_babyai.learner_of(tiny_babyai_root, variant)
    for _ in range(2):
        one.update()
    state, generator = copy.deepcopy(one.state_dict()), torch.get_rng_state()
    expected = [one.update() for _ in range(2)], one.evaluate()
    other = tiny_babyai.learner_of(tiny_babyai_root, variant, seed=0)
    other.load_state_dict(state)
    torch.set_rng_state(generator)
    found = [other.update() for _ in range(2)], other.evaluate()
    assert found[1] == expected[1]
    for a, b in zip(found[0], expected[0], strict=True):
        assert {k: float(v) for k, v in a.items()} == {k: float(v) for k, v in b.items()}
    assert torch.equal(weights_of(one), weights_of(other))


def test_all_agents_meet_the_same_starts(tiny_babyai_root):
    """They depend on the level and the seeds, not on which other levels are evaluated."""
    changes = {"evaluation": {"board_seed": 7, "episodes_per_task": 5}}
    settings = tiny_babyai.run_of(tiny_babyai_root, "rdqn", 0, changes).settings
    together = Evaluation.of(settings)
    assert together.seeds.shape == (3, 5)
    assert np.array_equal(together.seeds[1:2], Evaluation.of(settings, tasks=tiny_babyai.LEVELS[1:2]).seeds)
    assert len(np.unique(together.seeds)) == 15
    other = tiny_babyai.run_of(tiny_babyai_root, "rdqn", 1, changes).settings
    assert not np.array_equal(together.seeds, Evaluation.of(other).seeds)
    starts = together.starts()
    for variant in VARIANTS:
        agent = Evaluation.of(tiny_babyai.run_of(tiny_babyai_root, variant, 0, changes).settings)
        assert np.array_equal(agent.starts(), starts)


def test_all_agents_explore_alike(tiny_babyai_root):
    """Agents that prefer one action play the same episodes, whatever they retrieve."""
    changes = {"evaluation": {"epsilon": 0.3, "episodes_per_task": 4, "retrieval_batches": 2}}
    played = []
    for variant in ("rdqn", "own", "all", "nothing"):
        learner = tiny_babyai.learner_of(tiny_babyai_root, variant, changes)
        with torch.no_grad():
            learner.network.head.q.weight.zero_()
            learner.network.head.q.bias.copy_(torch.arange(7.0) == 2)
            evaluation = Evaluation.of(learner.settings)
            batch = learner._batch_to_evaluate(evaluation)
            assert (batch is not None) == (variant in ("own", "all"))
            retrieved = None if batch is None else batch.summarise(learner.network)
        episodes = play_kept(evaluation, evaluation.policy(learner.network, retrieved))
        assert learner.evaluate() == evaluation.rows(episodes)
        played.append(episodes)
    assert (played[0].actions != 2).any()
    for other in played[1:]:
        for name in ("context", "observations", "actions", "rewards", "lengths"):
            assert np.array_equal(getattr(other, name), getattr(played[0], name)), name


def test_rdqn_learns_a_level(tiny_babyai_root, tmp_path):
    """Random actions reach the red ball in a fifth of the episodes."""
    shutil.copytree(tiny_babyai_root / "config", tmp_path / "config")
    scale = {
        "datasets": {
            "babyai": [
                {
                    "source": "bot",
                    "tasks": ["GoToRedBallGrey"],
                    "episodes": 200,
                    "options": {"noise_percent": [0, 50]},
                }
            ]
        },
        "experiments": {
            "babyai": {
                "settings": {
                    "updates": 250,
                    "agent": {"d_s": 48, "encoder_options": {"channels": 8}},
                    "learning": {
                        "batch_sequences": 32,
                        "sequence_steps": 10,
                        "learning_rate": 0.004,
                        "target_period_updates": 10,
                    },
                    "evaluation": {"every_updates": 250, "episodes_per_task": 30},
                },
                "task_sets": {tiny_babyai.TASK_SET: {"tasks": ["GoToRedBallGrey"], "settings": {"episodes": 200}}},
            }
        },
    }
    tiny_babyai.write_config(tmp_path, scale)
    tiny_babyai.make_datasets(tmp_path)
    learner = tiny_babyai.learner_of(tmp_path, "rdqn")
    before = learner.evaluate()[0]["success_rate"]
    for _ in range(250):
        learner.update()
    after = learner.evaluate()[0]["success_rate"]
    assert before < 0.5
    assert after > 0.6


@pytest.mark.parametrize("variant", ["rdqn", pytest.param("own", marks=pytest.mark.slow), "all"])
def test_a_run_and_what_is_seen_in_it(tiny_babyai_root, tmp_path, variant):
    shutil.copytree(tiny_babyai_root, tmp_path, dirs_exist_ok=True)
    scale = Scale("tiny", tmp_path)
    run = scale.find_run(f"babyai/{tiny_babyai.TASK_SET}/{variant}/seed-0")
    train_run(scale, run, device="cpu")
    record = json.loads((RunPaths.of(run.id, "tiny", tmp_path).record / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["task_set"] == tiny_babyai.TASK_SET
    assert record["config"]["tasks"] == tiny_babyai.LEVELS
    folder = probe_run(scale, run)
    lines = (folder / "interventions.csv").read_text().splitlines()
    assert lines[0] == "intervention,task,given_task,episodes,return_mean,success_rate"
    kinds = {line.split(",")[0] for line in lines[1:]}
    last = "others" if variant == "all" else "swapped"
    understood = {"z-mean", "reordered", "exchanged-by-reward", "retrieve-and-play"}
    understood |= {"retrieve-and-play-best"} if variant == "own" else set()
    assert kinds == ({"own"} if variant == "rdqn" else {"own", "removed", "shuffled", last} | understood)
    values = {
        (task, quantity): float(value)
        for task, quantity, value in (
            line.split(",") for line in (folder / "attention.csv").read_text().splitlines()[1:]
        )
    }
    related = ("related_share", "related_candidates", "related_there")
    if variant == "own":
        # All missions of this level are "go to the red ball".
        assert [values["GoToRedBallGrey", name] for name in related] == pytest.approx([1, 1, 1])
        assert "other_share" not in {quantity for _, quantity in values}
    if variant == "all":
        assert all(0 < values[level, "other_share"] < 1 for level in tiny_babyai.LEVELS)
        assert all(0 < values["GoToRedBallGrey", name] < 1 for name in related[:2])
        assert values["GoToRedBallGrey", "related_there"] == 1
        assert sum(1 - values[level, "other_candidates"] for level in tiny_babyai.LEVELS) == pytest.approx(1, abs=0.1)
    gallery = json.loads((folder / "gallery.json").read_text())
    for episode in gallery["episodes"]:
        assert episode["task"] in tiny_babyai.LEVELS
        assert len(episode["steps"]) == min(episode["length"], 80)
        for step in episode["steps"]:
            assert bool(step["retrieved"]) == (variant != "rdqn")
            for state in step["retrieved"]:
                assert len(state["view"]) == 49
                assert 0 < state["weight"] <= 1
                assert variant == "all" or state["task"] == episode["task"]
