"""What is measured on a trained agent of BabyAI's levels, on tiny runs trained for it."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from rarl.agents.memory import RetrievalBatch
from rarl.config.scale import Scale
from rarl.envs.babyai.levels import level_named
from rarl.envs.babyai.missions import share_a_thing, things, words
from rarl.envs.babyai.vector import VectorBabyAI
from rarl.nn.retrieval import Summaries
from rarl.probes import level_probe as module
from rarl.probes.level_probe import LevelProbe
from rarl.probes.probe import probe_run
from rarl.rollouts.evaluation import Evaluation
from rarl.runs.train import train_run
from rarl.trajectories.store import TrajectoryDataset
from tests.envs.plain_babyai import plain_level, plain_reset
from tests.tiny_babyai import LEVELS, TASK_SET

N = len(LEVELS)
EPISODES = 8  # of each level; more would only take longer


@pytest.fixture(autouse=True)
def few_episodes(monkeypatch):
    monkeypatch.setattr(module, "EPISODES", EPISODES)


@pytest.fixture(scope="module", params=["rdqn", "own", "all"])
def trained(request, tiny_babyai_root, tmp_path_factory):
    """The scale and a finished run of it."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp(request.param)
    shutil.copytree(tiny_babyai_root, root, dirs_exist_ok=True)
    scale = Scale("tiny", root)
    run = scale.runs[f"babyai/{TASK_SET}/{request.param}/seed-0"]
    train_run(scale, run, device="cpu")
    return scale, run


@pytest.fixture
def probe(trained):
    return LevelProbe(*trained)


def of_group(summaries, group):
    return None if summaries is None else Summaries(*(p if p is None else p[group : group + 1] for p in summaries))


def by_hand(probe, summaries, group_of):
    """Returns (levels, EPISODES) of the probe's episodes, each played alone.

    group_of: (level, episode) -> which of the retrieval batches it reads.
    """
    s = probe.run.settings
    rng = np.random.default_rng([s.seed, s.evaluation.board_seed, 2**32 - 1])
    drawn = [(rng.random(N * EPISODES) < s.evaluation.epsilon, rng.integers(7, size=N * EPISODES)) for _ in range(200)]
    returns = np.zeros((N, EPISODES))
    for i, name in enumerate(LEVELS):
        level = level_named(name)
        seeds = np.random.default_rng([s.seed, s.evaluation.board_seed, 3, level.id]).integers(2**31, size=EPISODES)
        for j, seed in enumerate(seeds):
            envs = VectorBabyAI([level])
            x, state, place = envs.reset([seed]), probe.network.initial_state(1, 1), i * EPISODES + j
            one = of_group(summaries, group_of(i, j))
            told, t = torch.from_numpy(envs.context.astype(np.int64))[None, :, None], 0
            while envs.active.any():
                with torch.no_grad():
                    out = probe.network.unroll(torch.from_numpy(x)[None, :, None], told, state, one)
                tries, at_random = (part[place] for part in drawn[t])
                x, reward, *_ = envs.step(np.array([at_random if tries else int(out.q.argmax())]))
                state = out.state
                returns[i, j] += reward[0]
                t += 1
    return returns


def test_own_is_what_an_evaluation_does(trained, probe):
    """Each level's episodes over four retrieval batches, from starts that no evaluation of the run has."""
    rows = [row for row in LevelProbe(*trained).interventions() if row["intervention"] == "own"]
    tasks, blocks, each = np.arange(N), 4, EPISODES // 4
    if probe.memory is None:
        summaries, group_of = None, None
    elif probe.memory.pooled:
        batch = RetrievalBatch.joined([probe.memory.sample(tasks, probe.rng) for _ in range(blocks)])
        summaries, group_of = batch.summarise(probe.network), lambda i, j: j // each
    else:
        summaries = probe.memory.sample(np.repeat(tasks, blocks), probe.rng).summarise(probe.network)

        def group_of(i, j):
            return blocks * i + j // each

    returns = by_hand(probe, summaries, group_of or (lambda i, j: 0))
    assert [row["task"] for row in rows] == [row["given_task"] for row in rows] == LEVELS
    assert [row["episodes"] for row in rows] == [EPISODES] * N
    assert [row["return_mean"] for row in rows] == pytest.approx(returns.mean(1).tolist())
    assert [row["success_rate"] for row in rows] == pytest.approx((returns > 0).mean(1).tolist())
    evaluated = Evaluation.of(probe.run.settings, episodes=EPISODES).seeds
    assert not set(probe.spread.seeds.ravel().tolist()) & set(evaluated.ravel().tolist())
    own = probe.rng.integers(2**31, size=EPISODES).tolist()
    assert own not in probe.spread.seeds.tolist()


def test_each_intervention_changes_what_is_read(probe, monkeypatch):
    read, acting = [], Evaluation.policy

    def policy(evaluation, network, retrieved, *more):
        read.append((evaluation, retrieved))
        return acting(evaluation, network, retrieved, *more)

    monkeypatch.setattr(Evaluation, "policy", policy)
    rows = probe.interventions()
    kinds = list(dict.fromkeys(row["intervention"] for row in rows))
    assert all((evaluation.seeds == probe.spread.seeds).all() for evaluation, _ in read)
    if probe.memory is None:
        assert kinds == ["own"]
        assert [retrieved for _, retrieved in read] == [None]
        return
    assert kinds == ["own", "removed", "shuffled", "others"]
    (own, _), (removed, nothing), (shuffled, _), (others, of_others) = read
    assert own is removed is shuffled is probe.spread
    assert nothing is None
    assert len(read[0][1].keys) == len(read[2][1].keys) == (4 if probe.memory.pooled else 4 * N)
    assert not torch.equal(read[0][1].keys, read[2][1].keys)
    assert len(of_others.keys) == N
    assert others.places.tolist() == np.arange(N * EPISODES).reshape(N, EPISODES).tolist()


def test_others_are_all_but_the_levels_own(probe, monkeypatch):
    if probe.memory is None:
        return  # it reads nothing
    batches, sample = [], probe.memory.sample
    monkeypatch.setattr(probe.memory, "sample", lambda *a, **k: batches.append(sample(*a, **k)) or batches[-1])
    summaries = probe._of_others()
    (batch,) = batches
    plain = batch.summarise(probe.network)
    looks = batch.a.shape[-1]
    if not probe.memory.pooled:
        assert all((given != level).all() for level, given in enumerate(batch.given))
        assert (batch.given == batch.given[:, :1]).all()
        assert torch.equal(summaries.keys, plain.keys)
        return
    real = np.ones(batch.a.shape[1:], bool) if batch.mask is None else batch.mask[0].numpy()
    for level in range(N):
        for name in ("keys", "values", "h", "b"):
            assert torch.equal(getattr(summaries, name)[level], getattr(plain, name)[0])
        may = summaries.mask[level].view(-1, looks).numpy()
        for trajectory, source in enumerate(batch.given[0]):
            assert (may[trajectory] == (real[trajectory] & (source != level))).all()


def test_attention_by_hand(probe, monkeypatch):
    """With attention replaced by a known one, on the first and the eighth candidate."""
    if probe.memory is None:
        assert probe.attention() == [{"task": name, "quantity": "none", "value": 0.0} for name in LEVELS]
        return
    batches, played, kls = [], [], []
    sample, play, unroll = probe.memory.sample, Evaluation.play, probe.network.unroll
    weights = {0: 0.75, 7: 0.25}

    def known(*arguments, **more):
        out = unroll(*arguments, **more)
        alpha = torch.zeros_like(out.step.alpha)
        for candidate, weight in weights.items():
            alpha[..., candidate] = weight
        kls.append(out.step.kl.flatten().numpy())
        return out._replace(step=out.step._replace(alpha=alpha))

    monkeypatch.setattr(probe.memory, "sample", lambda *a, **k: batches.append(sample(*a, **k)) or batches[-1])
    monkeypatch.setattr(Evaluation, "play", lambda *a, **k: played.append(play(*a, **k)) or played[-1])
    monkeypatch.setattr(probe.network, "unroll", known)
    values = {(row["task"], row["quantity"]): row["value"] for row in probe.attention()}
    (batch,), (episodes,) = batches, played
    looks = batch.a.shape[-1]
    goes_on = np.arange(len(kls)) < episodes.lengths[:, None]  # (episodes, T)
    entropy = -sum(weight * np.log(weight) for weight in weights.values())
    for i, name in enumerate(LEVELS):
        g = 0 if probe.memory.pooled else i
        own = slice(i * EPISODES, (i + 1) * EPISODES)
        steps, missions = episodes.lengths[own], [words(mission) for mission in episodes.context[own]]
        real = np.ones(batch.a.shape[1:], bool) if batch.mask is None else batch.mask[g].numpy()
        of_level = batch.given[g] == i
        rewarded = batch.r[g].numpy() > 0
        retrieved = [
            words(probe.memory.samplers[source].dataset.extras["mission"][episode])
            for source, episode in zip(batch.given[g], batch.episodes[g], strict=True)
        ]
        related = np.array([[share_a_thing(things(m), things(other)) for other in retrieved] for m in missions])

        def mean(of_trajectory, steps=steps):  # over all steps of all episodes
            mass = sum(w * of_trajectory[..., c // looks] for c, w in weights.items())
            return np.average(np.broadcast_to(mass, len(steps)), weights=steps)

        expected = {
            "other_share": mean(~of_level),
            "rewarded_share": sum(w * rewarded[c // looks, c % looks] for c, w in weights.items()),
            "effective_states": np.exp(entropy),
            "related_share": mean(related),
            "related_there": np.mean(related.any(1)),
            "related_candidates": np.average((related * real.sum(1)).sum(1) / real.sum(), weights=steps),
            "other_candidates": (real[~of_level]).sum() / real.sum(),
            "rewarded_candidates": (rewarded & real).sum() / real.sum(),
            "kl": np.stack(kls, 1)[own][goes_on[own]].mean(),
        }
        assert {quantity for task, quantity in values if task == name} == expected.keys()
        for quantity, value in expected.items():
            assert values[name, quantity] == pytest.approx(value, rel=1e-5), (name, quantity)


def test_episodes_of_the_gallery_replay(trained):
    """In minigrid, from level, seed and actions; what was retrieved is in the datasets."""
    scale, run = trained
    folder = probe_run(scale, run)
    gallery = json.loads((folder / "gallery.json").read_text())
    assert gallery["run"] == run.id
    assert 1 <= len(gallery["episodes"]) <= 3
    data = scale.root / "data" / "tiny" / "babyai" / "bot"
    datasets = {name: TrajectoryDataset.open(data / level_named(name).slug) for name in LEVELS}
    whole = 0
    for episode in gallery["episodes"]:
        env = plain_level(level_named(episode["task"]))
        plain_reset(env, episode["seed"])
        assert env.mission == episode["mission"]
        assert [step["t"] for step in episode["steps"]] == list(range(min(episode["length"], 80)))
        total = 0.0
        for t, step in enumerate(episode["steps"]):
            _, reward, terminated, truncated, _ = env.step(step["action"])
            assert step["reward"] == pytest.approx(reward)
            assert (terminated or truncated) == (t + 1 == episode["length"])
            total += reward
            for state in step["retrieved"]:
                found = [
                    words(mission)
                    for e, mission in zip(
                        datasets[state["task"]], datasets[state["task"]].extras["mission"], strict=True
                    )
                    if state["step"] < len(e.observations)
                    and e.observations[state["step"]][:49].tolist() == state["view"]
                ]
                assert state["mission"] in found
        if episode["length"] <= 80:
            whole += 1
            assert episode["return"] == pytest.approx(total)
            assert episode["success"] == (total > 0)
    assert whole
