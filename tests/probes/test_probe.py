"""What is measured on a trained agent, on a tiny run trained for it."""

from __future__ import annotations

import csv
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rarl.collect.make import make_dataset
from rarl.config.scale import Scale
from rarl.envs.gridroboman.env import Gridroboman
from rarl.envs.gridroboman.tasks import ACTIONS, task_named
from rarl.envs.gridroboman.vector import VectorGridroboman, seeded_boards
from rarl.errors import RarlError
from rarl.probes import plain as module
from rarl.probes import probe as probing
from rarl.probes.plain import PlainProbe
from rarl.probes.probe import probe_run
from rarl.probes.trained import final_state, network_of, shuffled
from rarl.rollouts.evaluation import Evaluation
from rarl.runs.train import train_run
from rarl.trajectories.store import TrajectoryDataset
from tests import tiny_project
from tests.kept_episodes import play_kept

RUN = "gridroboman/10-tasks/ra-dqn/seed-0"
PAIRS = 90


TRUNCATED = ("truncated-4", "truncated-2", "truncated-1")
CUT = ("cut-25", "cut-10", "cut-5", "cut-1")
GIVEN = (*(f"given-{n}" for n in (1, 4, 16)), *(f"given-{kind}-{n}" for kind in ("best", "worst") for n in (1, 4)))
ON_OWN_DATA = ("own", "removed", "shuffled", *TRUNCATED, *CUT)


@pytest.fixture(scope="module")
def trained(tiny_root, tmp_path_factory):
    """The scale and the run, with its products."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("trained")
    shutil.copytree(tiny_root, root, dirs_exist_ok=True)
    scale = Scale("tiny", root)
    run = scale.runs[RUN]
    train_run(scale, run, device="cpu")
    return scale, run


@pytest.fixture(scope="module")
def written(trained):
    """The folder of the three files."""
    return probe_run(*trained)


def test_cells_stand_under_their_names_and_galleries_are_json(trained, tmp_path, monkeypatch):
    scale, run = SimpleNamespace(root=tmp_path, name="tiny"), trained[1]
    made_up = SimpleNamespace(
        interventions=lambda: [
            {"task": "a", "return_mean": 1.0},
            {"return_mean": 2.0, "success_rate": 0.5, "task": "b"},
        ],
        attention=lambda: [{"value": 1}],
        gallery=lambda: {"b": 1, "a": [0.5]},
    )
    monkeypatch.setattr(probing, "load", lambda _: lambda *_: made_up)
    folder = probe_run(scale, run, SimpleNamespace(check=lambda: None))
    assert (folder / "interventions.csv").read_text() == "task,return_mean,success_rate\na,1.0,\nb,2.0,0.5\n"
    before = (folder / "gallery.json").read_text()
    assert before == '{"b":1,"a":[0.5]}\n'
    made_up.gallery = lambda: {"a": [float("nan")]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        probe_run(scale, run, SimpleNamespace(check=lambda: None))
    assert (folder / "gallery.json").read_text() == before


def rows_of(path):
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        return reader.fieldnames, list(reader)


def test_the_trained_network_is_loaded(trained):
    scale, run = trained
    network = network_of(run, final_state(scale, run), len(ACTIONS))
    assert not any(p.requires_grad for p in network.parameters())
    fresh = tiny_project.learner_of(scale.root, "ra-dqn").network
    assert network.state_dict().keys() == fresh.state_dict().keys()
    assert not torch.equal(network.encoder.table, fresh.encoder.table)
    # 12 updates left their traces in the running statistics too.
    assert (network.process.standardise.mean != 0).any()


def test_interventions_have_their_format(written, trained):
    scale, run = trained
    assert written == scale.root / "results" / "tiny" / "probes" / RUN
    columns, rows = rows_of(written / "interventions.csv")
    assert columns == ["intervention", "task", "given_task", "episodes", "return_mean"]
    by_kind = {}
    for row in rows:
        by_kind.setdefault(row["intervention"], []).append(row)
        assert 0 <= float(row["return_mean"]) <= 50
        assert int(row["episodes"]) > 0
    understood = "z-mean", "reordered", "exchanged-by-reward", "retrieve-and-play", "retrieve-and-play-best"
    assert by_kind.keys() == {*ON_OWN_DATA, "swapped", "swapped-given", *understood, *GIVEN}
    for kind in (*ON_OWN_DATA, *understood, *GIVEN):
        assert [row["task"] for row in by_kind[kind]] == run.tasks
        assert all(row["task"] == row["given_task"] and row["episodes"] == "20" for row in by_kind[kind])
    every_pair = {(a, b) for a in run.tasks for b in run.tasks if a != b}
    for kind in ("swapped", "swapped-given"):
        pairs = [(row["task"], row["given_task"]) for row in by_kind[kind]]
        assert len(pairs) == PAIRS
        assert set(pairs) == every_pair


def test_attention_has_its_format(written, trained):
    columns, rows = rows_of(written / "attention.csv")
    assert columns == ["task", "quantity", "value"]
    values = {(row["task"], row["quantity"]): float(row["value"]) for row in rows}
    quantities = {"effective_states", "kl", "task_named", "rewarded_share", "rewarded_candidates"}
    quantities |= {"place_distance", "place_candidates"}
    assert values.keys() == {(task, quantity) for task in trained[1].tasks for quantity in quantities}
    assert len(rows) == len(values)
    k_states = trained[1].settings.agent.retrieval.k_states
    for task in trained[1].tasks:
        assert 0 <= values[task, "rewarded_share"] <= 1 + 1e-6
        assert 0 <= values[task, "rewarded_candidates"] <= 1
        assert 1 <= values[task, "effective_states"] <= k_states + 1e-4
        assert values[task, "kl"] > 0


def test_attention_is_measured_on_what_is_retrieved(trained, monkeypatch):
    """With attention replaced by a known one, its quantities are those of the batches of each task."""
    probe, unroll = PlainProbe(*trained), PlainProbe(*trained).network.unroll

    def on_two_states(*arguments, **more):
        out = unroll(*arguments, **more)
        alpha = torch.zeros_like(out.step.alpha)
        alpha[..., 0], alpha[..., 3] = 0.75, 0.25
        return out._replace(step=out.step._replace(alpha=alpha))

    monkeypatch.setattr(probe.network, "unroll", on_two_states)
    values = {(row["task"], row["quantity"]): row["value"] for row in probe.attention()}
    entropy = -0.75 * np.log(0.75) - 0.25 * np.log(0.25)
    batch, blocks = probe.played.batch, probe.evaluation.blocks
    for i, task in enumerate(trained[1].tasks):
        own = slice(i * blocks, (i + 1) * blocks)  # all episodes have 50 steps
        r, steps = batch.r[own].flatten(1).numpy() > 0, batch.steps[own].reshape(blocks, -1)
        far = np.abs(steps[..., None] - np.arange(50)).mean(-1)
        assert values[task, "effective_states"] == pytest.approx(np.exp(entropy))
        assert values[task, "rewarded_candidates"] == pytest.approx(r.mean())
        assert values[task, "rewarded_share"] == pytest.approx((0.75 * r[:, 0] + 0.25 * r[:, 3]).mean())
        assert values[task, "place_candidates"] == pytest.approx(far.mean())
        assert values[task, "place_distance"] == pytest.approx((0.75 * far[:, 0] + 0.25 * far[:, 3]).mean())


def test_the_task_is_in_z_only_if_it_is_in_what_is_retrieved(trained):
    probe = PlainProbe(*trained)
    own = probe.task_in_z()
    assert own.shape == (len(trained[1].tasks),)
    sample = probe.memory.sample
    probe.memory.sample = lambda tasks, rng: sample(tasks, rng, given=np.zeros(len(tasks), dtype=int))
    alike = probe.task_in_z()
    assert abs(alike.mean() - 0.1) < 0.15  # a guess among ten
    assert own.mean() > alike.mean() + 0.2


def test_the_gallery_has_its_format(written, trained):
    gallery = json.loads((written / "gallery.json").read_text())
    assert gallery.keys() == {"run", "rule", "episodes"}
    assert gallery["run"] == RUN
    assert "quartile" in gallery["rule"]
    assert 1 <= len(gallery["episodes"]) <= 3
    for episode in gallery["episodes"]:
        assert episode.keys() == {"task", "seed", "return", "length", "actions", "steps", "final_observation"}
        assert [step["t"] for step in episode["steps"]] == list(range(50))
        assert sum(step["reward"] for step in episode["steps"]) == episode["return"]
        greedy = [max(step["q"]) == step["q"][step["action"]] for step in episode["steps"]]
        assert np.mean(greedy) > 0.8  # the others are of epsilon
        assert len(episode["final_observation"]) == 11
        for step in episode["steps"]:
            assert step.keys() == {"t", "observation", "action", "reward", "q", "retrieved"}
            assert len(step["observation"]) == 11
            assert len(step["q"]) == len(episode["actions"]) == 7
            weights = [item["weight"] for item in step["retrieved"]]
            assert 1 <= len(weights) <= 6
            assert weights == sorted(weights, reverse=True)
            assert all(weight > 0 for weight in weights)
            assert sum(weights) <= 1 + 1e-4
            for item in step["retrieved"]:
                assert item.keys() == {
                    "weight",
                    "candidate",
                    "task",
                    "episode",
                    "return",
                    "step",
                    "observation",
                    "rewarded",
                }
                assert item["task"] == episode["task"]
                assert item["step"] in (9, 19, 29, 39, 49)


def test_the_gallery_shows_what_is_in_the_dataset(written, trained):
    """Every retrieved state is a step of an episode with that return in the task's dataset."""
    scale, _ = trained
    gallery = json.loads((written / "gallery.json").read_text())
    for episode in gallery["episodes"]:
        slug = episode["task"].replace(" ", "-")
        dataset = TrajectoryDataset.open(scale.root / "data" / "tiny" / "gridroboman" / "planner" / slug)
        for item in (item for step in episode["steps"] for item in step["retrieved"]):
            found = [
                e
                for i, e in enumerate(dataset)
                if dataset.returns[i] == item["return"]
                and e.observations[item["step"]].tolist() == item["observation"]
                and bool(e.rewards[item["step"]]) == item["rewarded"]
            ]
            assert found


def test_the_gallery_leaves_out_weights_that_round_to_nothing(trained):
    """A sharp attention gives a state a weight of a millionth, which would be written as 0."""
    probe = PlainProbe(*trained)
    with torch.no_grad():
        probe.network.process.query[-1].weight.mul_(1000)
        probe.network.process.query[-1].bias.mul_(1000)
    weights = [item["weight"] for e in probe.gallery()["episodes"] for s in e["steps"] for item in s["retrieved"]]
    assert min(weights) > 0
    assert max(weights) > 0.49  # nearly all that one of two slots has to give


def test_episodes_of_the_gallery_replay(written):
    """Its steps are an episode of the environment."""
    for episode in json.loads((written / "gallery.json").read_text())["episodes"]:
        env = Gridroboman(task=episode["task"])
        start = episode["steps"][0]["observation"]
        cells = [tuple(start[i : i + 2]) for i in (0, 2, 5, 8)]
        env.reset(options={"robot": cells[0], "objects": cells[1:]})
        following = [*(step["observation"] for step in episode["steps"][1:]), episode["final_observation"]]
        for step, expected in zip(episode["steps"], following, strict=True):
            observation, reward, *_ = env.step(step["action"])
            assert observation.tolist() == expected
            assert reward == step["reward"]


def test_own_is_what_an_evaluation_does(trained):
    """The same roll-out, by hand: own datasets, four batches per task, five episodes each; other starts."""
    scale, run = trained
    rows = [row for row in PlainProbe(scale, run).interventions() if row["intervention"] == "own"]
    probe = PlainProbe(scale, run)
    s = run.settings.evaluation
    groups = np.repeat(np.arange(10), 4)
    network = network_of(run, final_state(scale, run), len(ACTIONS))
    retrieved = probe.memory.sample(groups, probe.rng).summarise(network)
    seeds = probe.evaluation.seeds
    assert seeds.shape == (10, 20)
    assert not set(seeds.ravel().tolist()) & set(Evaluation.of(run.settings, episodes=20).seeds.ravel().tolist())
    rng = np.random.default_rng([run.settings.seed, s.board_seed, 2**32 - 1])
    envs = VectorGridroboman([task_named(task) for task in run.tasks for _ in range(20)])
    x, returns = envs.start(seeded_boards(seeds.ravel())), np.zeros(200)
    told = torch.from_numpy(groups)[:, None].expand(40, 5)
    for _ in range(50):
        with torch.no_grad():
            best = network(torch.from_numpy(x).view(40, 5, 11), told, retrieved)[0].argmax(-1).flatten().numpy()
        tries = rng.random(200) < s.epsilon
        x, rewards, *_ = envs.step(np.where(tries, rng.integers(7, size=200), best))
        returns += rewards
    assert [row["return_mean"] for row in rows] == pytest.approx(returns.reshape(10, 20).mean(1).tolist())


def test_what_is_retrieved_has_nothing_to_do_with_the_starts(trained):
    """Two streams of random numbers: none of a probe's own is also that of a task's start states."""
    probe = PlainProbe(*trained)
    own = probe.rng.integers(2**31, size=20).tolist()
    assert own not in probe.evaluation.seeds.tolist()


def returns_on(task, episode):
    """What an episode, as (observations, actions), brings for a task, stepped alone."""
    observations, actions = episode
    env = Gridroboman(task=task)
    cells = [tuple(map(int, observations[0][i : i + 2])) for i in (0, 2, 5, 8)]
    env.reset(options={"robot": cells[0], "objects": cells[1:]})
    total = 0.0
    for action, after in zip(actions, observations[1:], strict=True):
        x, reward, *_ = env.step(int(action))
        assert (x == after).all()
        total += reward
    return total


def test_each_intervention_changes_what_it_says(trained, monkeypatch):
    scale, run = trained
    probe = PlainProbe(scale, run)
    calls, originals, read = [], [], []
    draw, policy = probe.memory.draw, Evaluation.policy

    def drawn(*arguments, **more):
        originals.append(draw(*arguments, **more))
        return originals[-1]

    def played(evaluation, act, *, watch=None):
        batch = None if read[-1] is None else originals[-1]
        calls.append((evaluation, batch, play_kept(evaluation, act, watch=watch)))
        return calls[-1][2]

    def acting(evaluation, network, retrieved):
        read.append(retrieved)
        return policy(evaluation, network, retrieved)

    monkeypatch.setattr(probe.memory, "draw", drawn)
    monkeypatch.setattr(Evaluation, "play", played)
    monkeypatch.setattr(module, "shuffled", lambda batch, rng: originals.append(shuffled(batch, rng)) or originals[-1])
    monkeypatch.setattr(Evaluation, "policy", acting)
    for other in ("_understood", "_experienced"):
        monkeypatch.setattr(PlainProbe, other, lambda probe: [])
    rows = probe.interventions()

    own, removed, mixed, *falling = calls[:10]
    swaps = calls[10:]
    assert all(evaluation is own[0] for evaluation, *_ in (removed, mixed, *falling))  # the same boards
    assert all((x[:, 0] == own[2].observations[:, 0]).all() for x in (c[2].observations for c in falling))
    k_traj = run.settings.agent.retrieval.k_traj
    assert [batch.episodes.shape for _, batch, _ in falling[:3]] == [(40, min(n, k_traj)) for n in (4, 2, 1)]
    assert [batch.steps.max() + 1 for _, batch, _ in falling[3:]] == [25, 10, 5, 1]
    assert own[1] is originals[0]
    assert removed[1] is None
    assert [retrieved is None for retrieved in read] == [False, True] + [False] * (len(read) - 2)  # nothing is read
    assert torch.equal(read[0].keys, own[1].summarise(probe.network).keys)
    # Shuffled: at each step the same states, actions and rewards, in other trajectories.
    before, after = originals[1], mixed[1]
    moved = 0
    for g in range(40):
        for j in range(before.x.shape[2]):
            one, other = (
                [
                    (*x, int(a), float(r))
                    for x, a, r in zip(b.x[g, :, j].tolist(), b.a[g, :, j], b.r[g, :, j], strict=True)
                ]
                for b in (before, after)
            )
            assert sorted(one) == sorted(other)
            moved += one != other
    assert moved > 40
    # Swapped: told and rewarded as the own task, given another's dataset.
    done = np.concatenate([evaluation.task_ids for evaluation, *_ in swaps])
    given = np.concatenate([batch.given[:, 0] for _, batch, _ in swaps])
    pairs = list(zip(done.tolist(), given.tolist(), strict=True))
    assert sorted(pairs) == [(a, b) for a in range(10) for b in range(10) if a != b]
    for evaluation, batch, _ in swaps:
        assert evaluation.tasks == tuple(run.tasks[i] for i in evaluation.task_ids)
        assert evaluation.groups.tolist() == evaluation.task_ids.tolist()
        assert batch.context[:, 0, 0].tolist() == evaluation.task_ids.tolist()
    kinds = [row["intervention"] for row in rows]
    assert kinds == [kind for kind in ON_OWN_DATA for _ in range(10)] + ["swapped", "swapped-given"] * PAIRS
    episodes = [episode for *_, played in swaps for episode in zip(played.observations, played.actions, strict=True)]
    assert len(episodes) == 4 * PAIRS
    for pair, (own_task, given_task) in enumerate(pairs):
        names = run.tasks[own_task], run.tasks[given_task]
        for row, task in zip(rows[100 + 2 * pair :][:2], names, strict=True):
            assert (row["task"], row["given_task"], row["episodes"]) == (*names, 4)
            returns = [returns_on(task, episode) for episode in episodes[4 * pair : 4 * pair + 4]]
            assert row["return_mean"] == np.mean(returns)


def test_retrieval_matters_to_the_network(trained):
    """The same boards with and without retrieval: other values."""
    scale, run = trained
    probe = PlainProbe(scale, run)
    batch = probe.memory.sample(np.arange(10), np.random.default_rng(0))
    x, task = batch.x[:, 0], batch.context[:, 0].expand(10, batch.x.shape[2])
    with torch.no_grad():
        one, two = probe.network(x, task, batch.summarise(probe.network))[0], probe.network(x, task, None)[0]
    assert not torch.allclose(one, two)


def test_probing_again_gives_the_same_files(written, trained):
    before = {file.name: file.read_bytes() for file in written.iterdir()}
    assert before.keys() == {"interventions.csv", "attention.csv", "gallery.json"}
    assert probe_run(*trained) == written
    assert {file.name: file.read_bytes() for file in written.iterdir()} == before


def test_a_run_without_a_checkpoint_is_named(tiny_root):
    scale = Scale("tiny", tiny_root)
    with pytest.raises(
        RarlError, match=r"checkpoint\.pt: no checkpoint; train the run first \(`rarl train --scale tiny"
    ):
        PlainProbe(scale, scale.runs[RUN])


def test_held_out_tasks_get_their_own_nothing_and_a_learned_tasks_data(own_root):
    held_out = ["blue on red", "red to corner"]
    changes = {"settings": {"held_out": held_out}, "task_sets": {10: {"variants": ["ra-dqn"], "probes": ["ra-dqn"]}}}
    tiny_project.write_config(own_root, {"experiments": {"gridroboman": changes}})
    scale = Scale("tiny", own_root)
    for name in scale.runs[RUN].datasets[-2:]:
        make_dataset(scale, scale.datasets[name])
    run = scale.runs[RUN]
    learned = run.tasks
    record = train_run(scale, run, device="cpu")
    assert set(record["expert_returns"]) == {*learned, *held_out}
    assert {row["task"] for row in rows_of(own_root / "results" / "tiny" / "runs" / RUN / "evaluations.csv")[1]} == set(
        learned
    )
    probe = PlainProbe(scale, run)
    rows = [row for row in probe.interventions() if row["intervention"].startswith("held-out")]
    found = {(row["intervention"], row["task"], row["given_task"]) for row in rows}
    assert found == {
        *(("held-out", task, task) for task in held_out),
        *(("held-out-removed", task, task) for task in held_out),
        *(("held-out-swapped", task, given) for task in held_out for given in learned),
    }
    assert {row["task"] for row in probe.attention()} == set(learned)
    assert {episode["task"] for episode in probe.gallery()["episodes"]} <= set(learned)
    # What is drawn for a held-out task is of its own dataset.
    batch = probe.memory.sample(np.array([10, 11]), np.random.default_rng(0))
    assert [probe.memory.samplers[i].dataset.task for i in batch.given[:, 0]] == held_out
