"""What is measured on a trained agent of BabyAI's levels, on tiny runs trained for it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from rarl.agents.memory import RetrievalBatch
from rarl.config.scale import Scale
from rarl.envs.babyai.levels import level_named
from rarl.envs.babyai.missions import share_a_thing, things, words
from rarl.envs.babyai.probe import PROBING
from rarl.envs.babyai.vector import VectorBabyAI
from rarl.nn.retrieval import Summaries
from rarl.probes.plain import PlainProbe
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
    monkeypatch.setattr("rarl.envs.babyai.probe.PROBING", replace(PROBING, episodes=EPISODES))


@pytest.fixture(scope="module", params=["rdqn", pytest.param("own", marks=pytest.mark.slow), "all"])
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
    return PlainProbe(*trained)


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
    rows = [row for row in PlainProbe(*trained).interventions() if row["intervention"] == "own"]
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
    assert not set(probe.evaluation.seeds.ravel().tolist()) & set(evaluated.ravel().tolist())
    own = probe.rng.integers(2**31, size=EPISODES).tolist()
    assert own not in probe.evaluation.seeds.tolist()


def test_each_intervention_changes_what_is_read(probe, monkeypatch):
    read, acting = [], Evaluation.policy

    def policy(evaluation, network, retrieved):
        read.append((evaluation, retrieved))
        return acting(evaluation, network, retrieved)

    monkeypatch.setattr(Evaluation, "policy", policy)
    monkeypatch.setattr(PlainProbe, "_understood", lambda probe: [])
    rows = probe.interventions()
    kinds = list(dict.fromkeys(row["intervention"] for row in rows))
    if probe.memory is None:
        assert kinds == ["own"]
        assert [retrieved for _, retrieved in read] == [None]
        return
    last = "others" if probe.memory.pooled else "swapped"
    assert kinds == ["own", "removed", "shuffled", last]
    (own, _), (removed, nothing), (shuffled, _), (others, of_others) = read
    assert own is removed is shuffled is probe.evaluation
    assert nothing is None
    assert len(read[0][1].keys) == len(read[2][1].keys) == (4 if probe.memory.pooled else 4 * N)
    assert not torch.equal(read[0][1].keys, read[2][1].keys)
    if last == "swapped":  # all pairs
        assert len(of_others.keys) == N * (N - 1)
        assert {(row["task"], row["given_task"]) for row in rows if row["intervention"] == last} == {
            (a, b) for a in LEVELS for b in LEVELS if a != b
        }
        return
    assert (others.seeds == own.seeds).all()
    assert len(of_others.keys) == N
    assert others.places.tolist() == np.arange(N * EPISODES).reshape(N, EPISODES).tolist()


def test_others_are_all_but_the_levels_own(probe, monkeypatch):
    if probe.memory is None or not probe.memory.pooled:
        return  # it reads nothing, or another dataset
    batches, sample = [], probe.memory.sample
    monkeypatch.setattr(probe.memory, "sample", lambda *a, **k: batches.append(sample(*a, **k)) or batches[-1])
    summaries = probe._of_others()
    (batch,) = batches
    plain = batch.summarise(probe.network)
    looks = batch.a.shape[-1]
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
    kls, unroll, weights = [], probe.network.unroll, {0: 0.75, 7: 0.25}

    def known(*arguments, **more):
        out = unroll(*arguments, **more)
        alpha = torch.zeros_like(out.step.alpha)
        for candidate, weight in weights.items():
            alpha[..., candidate] = weight
        kls.append(np.zeros(N * EPISODES))
        kls[-1][probe.evaluation.places] = out.step.kl[:, :, 0].numpy()
        return out._replace(step=out.step._replace(alpha=alpha))

    monkeypatch.setattr(probe.network, "unroll", known)
    values = {(row["task"], row["quantity"]): row["value"] for row in probe.attention()}
    episodes, batch, _ = probe.played
    group_of = {row: g for g, rows in enumerate(probe.evaluation.places) for row in rows}
    looks = batch.a.shape[-1]
    real = np.ones(batch.a.shape, bool) if batch.mask is None else batch.mask.numpy()
    entropy = -sum(weight * np.log(weight) for weight in weights.values())
    for i, name in enumerate(LEVELS):
        steps, there = [], []
        for e in range(i * EPISODES, (i + 1) * EPISODES):
            g, mission = group_of[e], things(words(episodes.context[e]))
            of_batch = zip(batch.given[g], batch.episodes[g], strict=True)
            retrieved = [probe.memory.samplers[s].dataset.extras["mission"][k] for s, k in of_batch]
            related = np.array([share_a_thing(mission, things(words(other))) for other in retrieved])
            there.append(related.any())
            for t in range(episodes.lengths[e]):
                which = {
                    "other": np.broadcast_to(batch.given[g][:, None] != i, real[g].shape),
                    "rewarded": batch.r[g].numpy() > 0,
                    "related": np.broadcast_to(related[:, None], real[g].shape),
                }
                found = {"kl": kls[t][e]}
                for key, candidates in which.items():
                    mass = sum(w * candidates[c // looks, c % looks] for c, w in weights.items())
                    found |= {f"{key}_share": mass, f"{key}_candidates": candidates[real[g]].mean()}
                steps.append(found)
        expected = {key: np.mean([step[key] for step in steps]) for key in steps[0]}
        expected |= {"effective_states": np.exp(entropy), "related_there": np.mean(there)}
        if not probe.memory.pooled:
            del expected["other_share"], expected["other_candidates"]
        places = {"place_distance", "place_candidates"}
        assert {quantity for task, quantity in values if task == name} == expected.keys() | places
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
