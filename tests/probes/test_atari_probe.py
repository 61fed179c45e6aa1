"""What is measured on a trained agent of a game: a tiny run on the real game, and fake ones whose answer is known."""

from __future__ import annotations

import base64
import csv
import io
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from rarl.agents.memory import RetrievalBatch
from rarl.config.scale import Scale
from rarl.envs.atari.observation import newest_frame, pack
from rarl.envs.atari.probe import PROBING
from rarl.envs.pictures import chosen_steps
from rarl.probes import plain as module
from rarl.probes.plain import PlainProbe
from rarl.probes.probe import probe_run
from rarl.probes.recorder import AttentionRecorder, Moment, Recorded
from rarl.probes.trained import final_state, shuffled
from rarl.rollouts.evaluation import Evaluation
from rarl.runs.run_folder import RunPaths
from rarl.runs.train import train_run
from tests import tiny_atari
from tests.fake_games import FakeGames

QUANTITIES = {"effective_states", "kl", "rewarded_share", "rewarded_candidates", "place_distance", "place_candidates"}


def trained_run(root, variant):
    """The scale and a finished run of it."""
    torch.set_num_threads(1)
    tiny_atari.write_config(root)
    scale = Scale("tiny", root)
    run = scale.runs[f"atari/pong/{variant}/seed-0"]
    train_run(scale, run, device="cpu")
    return scale, run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """RA-R2D2 on the real game."""
    return trained_run(tmp_path_factory.mktemp("game"), "ra-r2d2")


@pytest.fixture(scope="module")
def written(trained):
    """The folder of the three files."""
    return probe_run(*trained)


@pytest.fixture
def fakes(monkeypatch):
    """From here on games are fake; those made, in their order."""
    made = []

    def games(tasks, *, seed=0, **options):
        made.append(FakeGames(len(tasks), seed, ends=0.01, cut=0.01))
        return made[-1]

    monkeypatch.setattr("rarl.envs.atari.packed.VectorAtari", games)
    return made


def rows_of(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def screen(text):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


# --- products of a real run -------------------------------------------------------------------------------------------


def test_own_is_the_last_evaluation_over_again(trained, written):
    scale, run = trained
    rows = {row["intervention"]: row for row in rows_of(written / "interventions.csv")}
    assert list(rows) == ["own", "removed", "shuffled", "z-mean"]
    last = rows_of(RunPaths.of(run.id, scale.name, scale.root).record / "evaluations.csv")[-1]
    own = rows["own"]
    assert (own["task"], own["given_task"], own["episodes"]) == ("pong", "pong", last["episodes"])
    assert float(own["return_mean"]) == float(last["return_mean"])
    assert float(own["success_rate"]) == float(last["success_rate"])


def test_attention_has_its_format(trained, written):
    rows = rows_of(written / "attention.csv")
    values = {row["quantity"]: float(row["value"]) for row in rows if row["task"] == "pong"}
    assert values.keys() == QUANTITIES
    retrieval = trained[1].settings.agent.retrieval
    assert 1 <= values["effective_states"] <= retrieval.k_states
    assert values["kl"] > 0
    assert 0 <= values["rewarded_share"] <= 1 + 1e-6


def test_the_gallery_shows_what_is_in_the_retrieval_batch(trained, written):
    scale, run = trained
    text = (written / "gallery.json").read_text()
    assert text.count("\n") == 1
    assert len(text) < 1e6
    content = json.loads(text)
    assert content.keys() == {"run", "rule", "episodes"}
    (episode,) = content["episodes"]
    assert episode.keys() == {"task", "seed", "return", "length", "actions", "steps", "final_frame"}
    steps, batch = episode["steps"], final_state(scale, run)["memory"]
    assert [step["t"] for step in steps] == list(range(30))  # 120 frames, four to a step, nothing was scored
    frames = batch["x"][..., : 84 * 84].numpy().reshape(-1, 84, 84)
    places = batch["steps"].ravel()
    chosen = {*chosen_steps([step["reward"] for step in steps]), *range(0, 30, 6)}
    described: dict[int, int] = {}
    for i, step in enumerate(steps):
        assert screen(step["frame"]).shape == (84, 84)
        described |= {state["candidate"]: state["step"] for state in step["retrieved"]}
        assert bool(step["retrieved"]) >= (i in chosen)
        assert bool(step["retrieved"]) != ("attended" in step)
        assert described.keys() >= dict(step.get("attended", [])).keys()
        assert len(step["q"]) == len(episode["actions"])
        assert step["q"][episode["actions"].index(step["action"])] == max(step["q"])
        weights = [state["weight"] for state in step["retrieved"]] or [weight for _, weight in step["attended"]]
        assert weights == sorted(weights, reverse=True)
        assert len(weights) <= 6
        assert sum(weights) <= 1 + 1e-4
        for state in step["retrieved"]:
            assert state.keys() == {"weight", "candidate", "step", "rewarded", "reward", "frame"}
            seen = screen(state["frame"])
            assert any((seen == frames[k]).all() for k in np.flatnonzero(places == state["step"]))


def test_probing_again_gives_the_same_files(trained, written):
    before = {file.name: file.read_bytes() for file in written.iterdir()}
    assert before.keys() == {"interventions.csv", "attention.csv", "gallery.json"}
    assert probe_run(*trained) == written
    assert {file.name: file.read_bytes() for file in written.iterdir()} == before


# --- what is changed --------------------------------------------------------------------------------------------------


def test_each_intervention_changes_what_is_read(trained, monkeypatch):
    probe, read, batches = PlainProbe(*trained), [], []

    def policy(evaluation, network, retrieved):
        read.append(retrieved)
        return acting(evaluation, network, retrieved)

    def exchanged(batch, rng):
        batches.append((batch, shuffled(batch, rng)))
        return batches[-1][1]

    acting = Evaluation.policy
    monkeypatch.setattr(Evaluation, "policy", policy)
    monkeypatch.setattr(module, "shuffled", exchanged)
    monkeypatch.setattr(PlainProbe, "_understood", lambda probe: [])
    probe.interventions()
    own, removed, mixed = read
    assert removed is None
    ((before, after),) = batches
    assert before is probe.played.batch
    with torch.no_grad():
        for summaries, batch in ((own, before), (mixed, after)):
            assert torch.equal(summaries.keys, batch.summarise(probe.network).keys)
    assert not torch.allclose(own.keys, mixed.keys)
    assert not torch.equal(before.x, after.x)
    # And the network acts on it: other values in the same state.
    x, state = before.x[:, :, :1], probe.network.initial_state(1, before.x.shape[1])
    with torch.no_grad():
        values = [probe.network.unroll(x, None, state, summaries).q for summaries in read]
    assert not torch.allclose(values[0], values[1])
    assert not torch.allclose(values[0], values[2])


def test_shuffling_exchanges_real_states_only():
    """Steps of three trajectories of 3, 1 and 2 steps, numbered; padding is 0 and stays where it is."""
    mask = torch.tensor([[[1, 1, 1], [1, 0, 0], [1, 1, 0]]], dtype=torch.bool)
    numbers = torch.tensor([[[1, 2, 3], [4, 0, 0], [5, 6, 0]]])
    none = np.zeros((1, 3, 3), dtype=np.int64)
    parts = numbers[..., None], numbers, numbers.float(), numbers.float(), mask, numbers[..., :1]
    batch = RetrievalBatch(*parts, none[..., 0], none[..., 0], none, none > 0)
    seen = set()
    for seed in range(100):
        mixed = shuffled(batch, np.random.default_rng(seed))
        assert mixed.mask is mask
        assert torch.equal(mixed.x[..., 0], mixed.a)
        assert torch.equal(mixed.r, mixed.a.float())
        assert sorted(mixed.a[0, :, 0].tolist()) == [1, 4, 5]
        assert (mixed.a[0, 1, 1], mixed.a[0, 0, 2]) == (0, 3)
        assert sorted(mixed.a[0, :, 1].tolist()) == [0, 2, 6]
        seen.add(tuple(mixed.a.flatten().tolist()))
    assert len(seen) == 12  # 3! orders of the first steps, 2! of the second


def test_an_agent_without_retrieval_is_played_and_shown(fakes, tmp_path):
    scale, run = trained_run(tmp_path, "dqn")
    folder = probe_run(scale, run)
    assert [row["intervention"] for row in rows_of(folder / "interventions.csv")] == ["own"]
    assert rows_of(folder / "attention.csv") == [{"task": "pong", "quantity": "none", "value": "0.0"}]
    (episode,) = json.loads((folder / "gallery.json").read_text())["episodes"]
    assert episode["steps"]
    assert not any(step["retrieved"] for step in episode["steps"])


# --- what is shown ----------------------------------------------------------------------------------------------------


def test_what_is_shown_is_what_was_played(fakes, tmp_path):
    """Frames, actions and rewards of every episode, held against the games' own log."""
    scale, run = trained_run(tmp_path, "ra-dqn")
    probe = PlainProbe(scale, run)
    episodes, _, recorder = probe.played
    last = rows_of(RunPaths.of(run.id, scale.name, scale.root).record / "evaluations.csv")[-1]
    assert float(last["return_mean"]) == episodes.returns.mean()
    game = fakes[-1]
    of_env = [[] for _ in range(game.num_envs)]  # episodes, of (action, reward, observation after it)
    goes_on = [False] * game.num_envs
    for actions, step in game.log:
        for i, played in enumerate(of_env):
            if not goes_on[i] and len(recorder.episodes) > sum(map(len, of_env)):
                played.append([])
                goes_on[i] = True
            if goes_on[i]:
                played[-1].append((actions[i], float(step.rewards[i]), step.observations[i]))
                goes_on[i] = not (step.terminated[i] or step.truncated[i])
    log = [played for of_one in of_env for played in of_one]
    assert sorted(map(len, log)) == sorted(episodes.lengths)
    for recorded, score, length in zip(recorder.episodes, episodes.returns, episodes.lengths, strict=True):
        assert recorded.length == length
        (steps,) = [e for e in log if len(e) == length and sum(r for _, r, _ in e) == score]
        for moment in recorded.shown:
            assert (moment.action, moment.reward) == steps[moment.t][:2]
            if moment.t:
                assert (newest_frame(moment.x) == steps[moment.t - 1][2]).all()
        assert (newest_frame(recorded.last) == steps[-1][2]).all()
    assert any(moment.reward > 0 for recorded in recorder.episodes for moment in recorded.shown)
    gallery = probe.gallery()["episodes"][0]
    assert gallery["return"] == sorted(episodes.returns)[len(episodes.returns) // 2]


BEFORE, MOST = PROBING.up_to_reward, PROBING.steps


@pytest.mark.parametrize(
    ("rewarded", "length", "first", "last"),
    [
        (None, 200, 200 - BEFORE, 199),
        (None, 5, 0, 4),
        (100, 200, 100 - BEFORE + 1, 100 - BEFORE + MOST),
        (3, 200, 0, MOST - 1),
        (100, 105, 100 - BEFORE + 1, 104),
        (199, 200, 200 - BEFORE, 199),
    ],
)
def test_what_is_shown_is_around_the_first_reward(rewarded, length, first, last):
    episode, nothing = Recorded(PROBING, 0, 0, None), np.zeros(0)
    for t in range(length):
        episode.begin(Moment(t, nothing, 7, {}))
        episode.end(float(t == rewarded) - 2.0 * (t == 1), nothing)  # losing a point is no reward
    assert [moment.t for moment in episode.shown] == list(range(first, last + 1))
    assert [moment.t for moment in episode.shown if moment.reward > 0] == ([] if rewarded is None else [rewarded])


def test_the_first_steps_are_shown_where_nothing_else_is_asked_for():
    episode, nothing = Recorded(replace(PROBING, steps=4, up_to_reward=None), 0, 0, None), np.zeros(0)
    for t in range(9):
        episode.begin(Moment(t, nothing, 0, {}))
        episode.end(1.0, nothing)
    assert [moment.t for moment in episode.shown] == [0, 1, 2, 3]


def test_quantities_of_attention_by_hand():
    """Two trajectories of two steps, of which the last is padding; one state rewarded, one with a loss."""
    x = torch.from_numpy(pack(np.zeros((1, 2, 2, 1, 84, 84), np.uint8), np.zeros((1, 2, 2), int), np.zeros((1, 2, 2))))
    a, r = torch.zeros(1, 2, 2, dtype=torch.int64), torch.tensor([[[0.0, 0.5], [-1.0, 0.0]]])
    mask, steps = torch.tensor([[[True, True], [True, False]]]), np.array([[[10, 14], [50, 0]]])
    two = np.zeros((1, 2), dtype=np.int64)
    batch = RetrievalBatch(x, a, r, r, mask, a[..., :1], two, two, steps, steps > 1000)
    policy = SimpleNamespace(places=np.array([[0, 1]]))
    recorder = AttentionRecorder(policy, PROBING, np.zeros(2, dtype=np.int64), batch)
    first, both = np.zeros(1, dtype=np.int64), np.zeros(2, dtype=np.int64)

    def at(*lengths):
        return [SimpleNamespace(length=length) for length in lengths]

    alpha = np.array([[[0.5, 0.5, 0.0, 0.0]], [[0.0, 0.0, 1.0, 0.0]]])
    recorder.count(both, both, alpha, np.array([1.0, 3.0]), at(10, 20))
    slots = np.array([[[0.25, 0.75, 0.0, 0.0], [0.25, 0.75, 0.0, 0.0]]])
    recorder.count(first, first, slots, np.array([2.0]), at(30))
    found = {name: total[0] / recorder.steps[0] for name, total in recorder.sums.items()}
    assert found.keys() == QUANTITIES
    assert found["kl"] == pytest.approx(2.0)
    entropy = -0.25 * np.log(0.25) - 0.75 * np.log(0.75)
    assert found["effective_states"] == pytest.approx((2 + 1 + np.exp(entropy)) / 3)
    assert found["rewarded_share"] == pytest.approx((0.5 + 0 + 0.75) / 3)
    assert found["rewarded_candidates"] == pytest.approx(1 / 3)
    assert found["place_distance"] == pytest.approx((2 + 30 + 0.25 * 20 + 0.75 * 16) / 3)
    assert found["place_candidates"] == pytest.approx(((0 + 4 + 40) + (10 + 6 + 30) + (20 + 16 + 20)) / 9)
