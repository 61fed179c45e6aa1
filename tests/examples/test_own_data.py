"""Data that others collected with Minari, with an environment to play in and without one: the way in, and out again."""

from __future__ import annotations

import html
import json
import shutil
from pathlib import Path

import gymnasium as gym
import minari
import numpy as np
import pandas as pd
import pytest
import yaml
from minari.data_collector import EpisodeBuffer

from rarl import cli
from rarl.collect.minari_source import hash_of
from rarl.config.scale import Scale
from rarl.trajectories.store import TrajectoryDataset
from tests.command_line import fails
from tests.reporting.synthetic import write_project
from tests.tiny import RETRIEVAL, SMALLEST, variants

EPISODES = 12
ID = "me/cartpole-{}-v0"
LOGS = """
import gymnasium
import numpy
from rarl.envs.spec import EnvSpec

LOW = numpy.array([-4.8, -numpy.inf, -0.41887903, -numpy.inf], dtype=numpy.float32)
SPEC = EnvSpec(name="logs", tasks=["left", "right"], observation=gymnasium.spaces.Box(LOW, -LOW), n_actions=2,
               reward_range=(0.0, 1.0), return_range=(0.0, 500.0))
"""
PLAYED = """
import gymnasium
from rarl.envs.spec import EnvSpec

def make(task):
    return gymnasium.make(task)

SPEC = EnvSpec(name="played", tasks=["CartPole-v1"], make=make, return_range=(0.0, 500.0))
"""


def played(side: int, seed: int) -> EpisodeBuffer:
    """An episode of an agent that mostly pushes to one side, as `minari.DataCollector` keeps it (which needs jax)."""
    env, rng = gym.make("CartPole-v1"), np.random.default_rng(seed)
    observations, actions, rewards, ends = [env.reset(seed=seed)[0]], [], [], []
    while not ends or not any(ends[-1]):
        actions.append(side if rng.random() < 0.7 else 1 - side)
        x, reward, *end, _ = env.step(actions[-1])
        observations.append(x)
        rewards.append(reward)
        ends.append(end)
    terminations, truncations = zip(*ends, strict=True)
    return EpisodeBuffer(
        id=None,
        observations=np.stack(observations),
        actions=np.array(actions),
        rewards=rewards,
        terminations=list(terminations),
        truncations=list(truncations),
    )


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    """A folder with two of Minari's datasets, as others make them."""
    root = tmp_path_factory.mktemp("minari")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(root))
        for side in range(2):
            buffers = [played(side, 100 * side + episode) for episode in range(EPISODES)]
            minari.create_dataset_from_buffers(ID.format(side), buffers, env=gym.make("CartPole-v1"))
    return root


def write(root: Path, collected: Path, code: str, name: str, tasks: list[str]) -> str:
    """A project that learns from Minari's datasets, one of each task; how the environment is named."""
    environment = f"{name}.py:SPEC"
    write_project(root)
    (root / f"{name}.py").write_text(code)
    kinds = [
        {
            "source": "minari",
            "tasks": [task],
            "episodes": EPISODES - 2,
            "options": {
                "id": (id_ := f"me/cartpole-{i}-v0"),
                "sha256": hash_of(id_, collected),
                "root": str(collected),
            },
        }
        for i, task in enumerate(tasks)
    ]
    ours = {"tasks": tasks, "variants": ["dqn", "ra-dqn"], "probes": ["dqn", "ra-dqn"]}
    scale = {"seeds": [0, 1], "datasets": {environment: kinds}, "experiments": {"own": {"task_sets": {"all": ours}}}}
    experiment = {
        "environment": environment,
        "title": "Own data",
        "base_variant": "dqn",
        "full_variant": "ra-dqn",
        "base": {
            "source": "minari",
            "updates": 4,
            "log_every": 2,
            "tensorboard": False,
            "agent": {"task": "hidden", "d_s": 16, "retrieval": RETRIEVAL | {"step_stride": 4}},
            "learning": {"batch_states": 8, "target_period_updates": 2},
            "evaluation": {"every_updates": 2, "episodes_per_task": 2},
        },
        "variants": variants(dqn={}, ra_dqn={"agent": {"retrieval": {"process": "slots"}}}),
    }
    (root / "config" / "experiments" / "own.yaml").write_text(yaml.safe_dump(experiment))
    (root / "config" / "tiny.yaml").write_text(yaml.safe_dump(SMALLEST | scale))
    return environment


@pytest.fixture
def of_scale(monkeypatch):
    def of(root):
        monkeypatch.chdir(root)
        for dataset in Scale("tiny").datasets:
            cli.main(["datasets", "make", dataset, "--scale", "tiny"])
        return Scale("tiny")

    return of


def test_data_without_an_environment_to_play_in(tmp_path, collected, of_scale, capsys):
    write(tmp_path, collected, LOGS, "logs_alone", ["left", "right"])
    scale = of_scale(tmp_path)
    cli.main(["env", "check", "logs_alone.py:SPEC"])
    assert "nothing is rolled out" in capsys.readouterr().out
    for run in scale.runs:
        cli.main(["train", run, "--scale", "tiny"])
        frame = pd.read_csv(tmp_path / "results/tiny/runs" / run / "evaluations.csv")
        assert list(frame) == ["update", "task", "episodes", "agreement", "td_error"]
        assert frame["agreement"].between(0, 1).all()
        assert (frame["td_error"] > 0).all()
        assert (frame["episodes"] > 1).all()
    for run in scale.probes():
        cli.main(["probe", run, "--scale", "tiny"])
    acted = pd.read_csv(tmp_path / "results/tiny/probes/own/all/ra-dqn/seed-0/interventions.csv")
    assert list(acted.groupby("intervention").size().items()) == [
        ("own", 2), ("removed", 2), ("shuffled", 2), ("swapped", 2),
    ]  # fmt: skip
    assert set(acted[acted["intervention"] == "swapped"]["given_task"]) == {"left", "right"}
    cli.main(["costs", "--scale", "tiny"])
    cli.main(["report", "--scale", "tiny"])
    report = tmp_path / "reports" / "tiny"
    for page in ("method", "README", "logs"):
        assert "returns were not measured" in (report / f"{page}.md").read_text(), page
    page = html.unescape((report / "variants" / "own-dqn.md").read_text())
    assert 'rarl.load("own/all/dqn/seed-1", scale="tiny")' in page
    assert "Questions to the authors" not in (report / "appendix.md").read_text()
    assert 'id="C1"' not in (report / "appendix.md").read_text()  # no claim of the paper is about these experiments
    assert (report / "site" / "index.html").is_file()
    scores = pd.read_csv(report / "tables" / "own-scores.csv")
    assert scores["score"].between(0, 1).all()
    assert (report / "figures" / "own-intervention-seeds.svg").is_file()


def test_collected_data_and_the_environment(tmp_path, collected, of_scale, monkeypatch):
    write(tmp_path, collected, PLAYED, "played_too", ["CartPole-v1"])
    scale = of_scale(tmp_path)
    cli.main(["train", "own/all/ra-dqn/seed-0", "--scale", "tiny"])
    frame = pd.read_csv(tmp_path / "results/tiny/runs/own/all/ra-dqn/seed-0/evaluations.csv")
    assert (frame["return_mean"] > 0).all()
    (name,) = scale.datasets
    folder = tmp_path / "data" / "tiny" / name
    ours = TrajectoryDataset.open(folder)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(collected))
    theirs = minari.load_dataset("me/cartpole-0-v0")
    for episode, original in zip(ours, theirs.iterate_episodes(range(EPISODES - 2)), strict=True):
        np.testing.assert_array_equal(episode.observations, original.observations)
        np.testing.assert_array_equal(episode.actions, original.actions)
        assert episode.extras["terminated"] == original.terminations[-1]
    # And out again, read by Minari.
    cli.main(["datasets", "export", f"data/tiny/{name}", "again-v0", "--root", str(tmp_path / "out")])
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "out"))
    again = minari.load_dataset("again-v0")
    assert again.observation_space == theirs.observation_space
    assert (again.total_episodes, again.total_steps) == (ours.episodes, ours.steps)
    for one, other in zip(again.iterate_episodes(), ours, strict=True):
        np.testing.assert_array_equal(one.observations, other.observations)
        np.testing.assert_array_equal(one.rewards, other.rewards)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"id": None}, "id: is missing"),
        ({"sha256": None}, "me/cartpole-0-v0 is now HASH"),
        ({"sha256": "0" * 64}, "its files have HASH"),
        ({"id": "me/other-v0", "sha256": None}, "there are me/cartpole-0-v0, me/cartpole-1-v0"),
        ({"id": 3}, "id: must be text, got 3"),
        ({"episodes": 99}, "holds 12 episodes, not 99"),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path, collected, monkeypatch, capsys, options, said):
    environment = write(tmp_path, collected, PLAYED, "played_badly", ["CartPole-v1"])
    path = tmp_path / "config" / "tiny.yaml"
    scale = yaml.safe_load(path.read_text())
    (kind,) = scale["datasets"][environment]
    kind["episodes"] = options.get("episodes", kind["episodes"])
    kind["options"] |= {key: value for key, value in options.items() if key != "episodes"}
    path.write_text(yaml.safe_dump(scale))
    monkeypatch.chdir(tmp_path)
    error = fails(capsys, "datasets", "make", "played/minari/cart-pole-v1", "--scale", "tiny")
    assert said.replace("HASH", hash_of("me/cartpole-0-v0", collected)) in error


@pytest.mark.parametrize("damaged", ["metadata.json", "main_data.hdf5"])
def test_damaged_data_are_one_line(tmp_path, collected, monkeypatch, capsys, damaged):
    other = tmp_path / "minari"
    shutil.copytree(collected, other)
    file = other / "me" / "cartpole-0-v0" / "data" / damaged
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    write(tmp_path, other, PLAYED, f"played_damaged_{damaged[0]}", ["CartPole-v1"])
    monkeypatch.chdir(tmp_path)
    error = fails(capsys, "datasets", "make", "played/minari/cart-pole-v1", "--scale", "tiny")
    assert f"Minari dataset me/cartpole-0-v0 in {other}/me/cartpole-0-v0: cannot be read" in error
    assert not [*tmp_path.glob("data/tiny/played/minari/*")]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ("-0.41887903, -numpy.inf]", ""),
        ("-0.0001, -numpy.inf]", "observation 0: holds"),
        ("n_actions=3", "actions are Discrete(2), logs has Discrete(3)"),
        ("dtype=numpy.float64", "observations are float32 (4,), logs has float64 (4,)"),
    ],
)
def test_values_are_held_against_the_space(tmp_path, collected, monkeypatch, capsys, changed, said):
    code = LOGS.replace("-0.41887903, -numpy.inf]", changed) if "inf" in changed else LOGS
    code = code.replace("n_actions=2", changed) if "n_actions" in changed else code
    code = code.replace("dtype=numpy.float32", changed) if "dtype" in changed else code
    code = code.replace("Box(LOW, -LOW)", "Box(LOW, -LOW, dtype=LOW.dtype)")
    name = f"logs_{abs(hash(changed))}"
    write(tmp_path, collected, code, name, ["left", "right"])
    monkeypatch.chdir(tmp_path)
    arguments = ["datasets", "make", "logs/minari/left", "--scale", "tiny"]
    if said:
        assert said in fails(capsys, *arguments)
    else:
        cli.main(arguments)
        manifest = json.loads((tmp_path / "data/tiny/logs/minari/left/manifest.json").read_text())
        assert manifest["generator"]["sha256"] == hash_of("me/cartpole-0-v0", collected)
