"""An environment in one file outside the package: what is said when it is wrong, and that the examples play."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from rarl import cli
from rarl.config.scale import Scale
from rarl.env_check import check_environment
from rarl.envs.spec import ENVIRONMENTS, EnvSpec, Score, Source, check_spec, load, spec_of
from rarl.errors import RarlError
from rarl.jobs import dataset_job
from rarl.trajectories.store import TrajectoryDataset
from tests.command_line import fails

RIGHT = EnvSpec(name="mine", tasks=["one", "two"], make=gym.make)
SPACE = gym.spaces.Box(0, 1, (3,))
ROOT = Path(__file__).resolve().parents[2]
ODD = """
import gymnasium
import numpy as np
import torch
from rarl.envs.spec import EnvSpec

class Told(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,))
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, x=0.0, reward=0.0):
        self.x, self.reward = x, reward

    def reset(self, *, seed=None, options=None):
        return np.full(2, self.x), {}

    def step(self, action):
        return np.full(2, self.x), self.reward, False, False, {}

class Odd(gymnasium.Env):
    observation_space = gymnasium.spaces.Dict({"a": gymnasium.spaces.Discrete(2)})
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, broken=False):
        self.broken = broken

    def reset(self, *, seed=None, options=None):
        return {"a": 0}, {}

    def step(self, action):
        return {"a": 1 // (0 if self.broken else 1)}, 0.0, False, False, {}

"""


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "my env"}, "name: must be of a-z, 0-9 and '-'"),
        ({"tasks": []}, "tasks must be names, at least one"),
        ({"tasks": [""]}, "tasks must be names, at least one"),
        ({"tasks": ["lift red", "lift-red"]}, "differ in paths too"),
        ({"tasks": ["Cart/Pole", "cart_pole"]}, "differ in paths too"),
        ({"tasks": "one"}, r"tasks: must be Sequence\[str\], got 'one'"),
        ({"tasks": 5}, r"tasks: must be Sequence\[str\], got 5"),
        ({"tasks": [5]}, r"tasks: must be Sequence\[str\], got \[5\]"),
        ({"name": 5}, "name: must be str, got 5"),
        ({"return_range": 500.0}, r"return_range: must be tuple\[float, float\], got 500\.0"),
        ({"return_range": (0.0, 1.0, 2.0)}, "return_range: must be"),
        ({"reward_range": None}, r"reward_range: must be tuple\[float, float\], got None"),
        ({"n_actions": 0}, "n_actions = 0: must be at least 1"),
        ({"score": "success_rate"}, "score: must be Score, got 'success_rate'"),
        ({"score": Score(margin="wide")}, "score: margin: must be float, got 'wide'"),
        ({"sources": {"bot": "foo:bar"}}, r"sources: must be Mapping\[str, Source\], got {'bot': 'foo:bar'}"),
        ({"sources": {"bot": Source(len, options=5)}}, r"sources\['bot'\]: options: must be Mapping"),
        ({"sources": {"my bot": Source(len)}}, "sources: 'my bot' must be a name of letters, digits"),
        ({"sources": {"my/bot": Source(len)}}, "sources: 'my/bot' must be a name of letters, digits"),
        ({"task_sets": {2: "one"}}, "task_sets: must be Mapping"),
        ({"task_sets": {2: ["one", "three"]}}, r"task_sets\[2\]: 'three' is not among the tasks"),
        ({"reward_range": (1.0, 1.0)}, r"reward_range = \(1, 1\): the first must be less"),
        ({"make_vector": gym.make}, "give one of the two"),
        ({"make": None}, "observation and n_actions must be given"),
        ({"make": None, "observation": SPACE}, "observation and n_actions must be given"),
        ({"tell": len}, "tell: needs `context`"),
        ({"prepare": len}, "prepare: needs `observation`"),
        ({"encoders": {}}, "encoders: must be one at least"),
        ({"sources": {"bot": Source(len, unit="steps")}}, "must be 'episodes' or 'environment_steps'"),
        ({"score": Score(column="agreement")}, "score.column = 'agreement': must be return_mean or success_rate"),
        ({"make": None, "observation": SPACE, "n_actions": 2, "score": Score(margin=0.1)}, "must be agreement or"),
    ],
)
def test_what_contradicts_itself_is_one_line(changes, said):
    check_spec(RIGHT)
    with pytest.raises(RarlError, match=said) as caught:
        check_spec(replace(RIGHT, **changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [*ENVIRONMENTS, "rarl.envs.babyai.go_to:SPEC", "examples/cartpole.py:SPEC"])
def test_what_there_is_is_right(name):
    check_spec(spec_of(name))


def test_values_of_numpy_are_as_good():
    made = gym.make("CartPole-v1")
    check_spec(replace(RIGHT, n_actions=made.action_space.n, return_range=[np.float32(0), np.int64(500)]))


def test_it_is_told_before_anything_runs(tmp_path, capsys, monkeypatch):
    (tmp_path / "config" / "experiments").mkdir(parents=True)
    (tmp_path / "crooked.py").write_text(
        "from rarl.envs.spec import EnvSpec\nSPEC = EnvSpec(name='x', tasks=['a'], make=None)\n"
    )
    (tmp_path / "config" / "some.yaml").write_text(
        "{description: d, allows_verdicts: false, about_core_minutes: 1, seeds: [0], experiments: {},"
        " datasets: {'crooked.py:SPEC': [{source: random, episodes: 3}]}}"
    )
    monkeypatch.chdir(tmp_path)
    assert "x: without a simulator" in fails(capsys, "datasets", "list", "--scale", "some")
    assert "x: without a simulator" in fails(capsys, "env", "check", "crooked.py:SPEC")


def test_the_environment_of_the_readme(tmp_path, monkeypatch):
    """As it is printed, with the files that are printed below it: from a dataset to a run and its probe."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"```python\n(import gymnasium\nfrom rarl.*?)```", readme, re.DOTALL)
    (tmp_path / "config" / "experiments").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    Path("my_env.py").write_text(snippet)
    for file, text in re.findall(r"```yaml\n# (config/\S+)\n(.*?)```", readme, re.DOTALL):
        Path(file).write_text(text.replace("updates: 2000", "updates: 20").replace("200}", "8}").replace("500}", "20}"))
    scale = Scale("my-scale")
    assert len(scale.runs) == 6
    cli.main(["env", "check", "my_env.py:SPEC"])
    cli.main(["datasets", "make", "cartpole/random/cart-pole-v1", "--scale", "my-scale"])
    code = dataset_job(next(iter(scale.datasets.values()))).code()
    assert "gymnasium" in code.packages
    assert "my_env" in code.modules
    for command in ("train", "probe"):
        cli.main([command, "mine/all/ra-dqn/seed-0", "--scale", "my-scale"])
    assert Path("results/my-scale/probes/mine/all/ra-dqn/seed-0/interventions.csv").is_file()


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ("gymnasium.make('Taxi-v3')", "mine: it cannot be made: DeprecatedEnv: .*Taxi-v4"),
        ("Odd()", r"mine: observations are no arrays of numbers but Dict\('a': Discrete\(2\)\); `prepare` must"),
        (
            "gymnasium.make('Blackjack-v1')",
            r"mine: the space of observations, Tuple\(.*, is none of arrays: `prepare` must",
        ),
        ("Odd(broken=True)", "mine: it cannot be played: ZeroDivisionError"),
        ("Told(x=np.nan)", "mine: observations must be finite, and some are nan"),
        ("Told(reward=np.inf)", "mine: rewards must be finite, and some are inf"),
        (
            "Told(), encoders={'flat': lambda d_s, n_tasks: torch.nn.Linear(3, d_s)}",
            "mine: encoder 'flat' cannot read .*TypeError",
        ),
        ("Told(), observation=5, n_actions=2", "mine: what its trajectories hold: AttributeError"),
        ("Told(), options='gymnasium:Env'", "mine: its options: AttributeError"),
        ("Told(), return_range=500.0", "mine: return_range: must be"),
        ("Told(), task=['one']", "importing it failed: TypeError: .*'task'"),
        ("Told(), title={}['a']", "importing it failed: KeyError: 'a'"),
        ("Told(), title=np.nonexistent_thing", "importing it failed: AttributeError: .*nonexistent_thing"),
        ("Told(), title=from", r"importing it failed: SyntaxError: .*line \d+"),
    ],
)
def test_what_is_wrong_with_somebodys_environment_is_one_line(tmp_path, made, said):
    file = tmp_path / f"{tmp_path.name}.py"  # a name may be imported once
    file.write_text(ODD + f"SPEC = EnvSpec(name='mine', tasks=['one'], make=lambda task: {made})")
    with pytest.raises(RarlError, match=said) as caught:
        list(check_environment(f"{file}:SPEC"))
    assert "\n" not in str(caught.value)


def test_an_episode_without_an_end_is_noted(tmp_path):
    (tmp_path / "endless.py").write_text(ODD + "SPEC = EnvSpec(name='mine', tasks=['one'], make=lambda task: Told())")
    said = list(check_environment(f"{tmp_path}/endless.py:SPEC"))
    assert any(line.startswith("note: no episode ended in 300 steps") and "TimeLimit" in line for line in said)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        *(({name: "no.such:THING"}, f"mine: {name}: ") for name in ("expert", "probing", "library", "picture")),
        ({"encoders": {"mine": "no.such:THING"}}, r"mine: encoders\['mine'\]: "),
        ({"sources": {"bot": Source(len, check="no.such:THING")}}, r"mine: sources\['bot'\]: check: "),
        ({"score": Score(normaliser="no.such:THING")}, "mine: score: normaliser: "),
    ],
)
def test_a_name_of_nothing_is_told_with_its_place(tmp_path, monkeypatch, changes, said):
    spec = replace(RIGHT, **changes)
    monkeypatch.setattr("rarl.env_check.spec_of", lambda environment: spec)
    with pytest.raises(RarlError, match=said):
        list(check_environment("mine"))


def test_two_files_of_one_name_are_told_apart(tmp_path, monkeypatch):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same_name.py").write_text(f"VALUE = '{folder}'\n")
    monkeypatch.chdir(tmp_path)
    assert load("a/same_name.py:VALUE") == "a"
    with pytest.raises(RarlError, match=r"'same_name' is already the name of .*/a/same_name\.py; rename the file"):
        load("b/same_name.py:VALUE")
    (tmp_path / "needs.py").write_text("import something_not_installed\n")
    with pytest.raises(RarlError, match="no module 'something_not_installed'"):
        load("needs.py:SPEC")
    for name, text, said in (
        (
            "misspelt",
            "from rarl.envs.spec import EnvSpecc",
            "misspelt.py:SPEC: importing it failed: ImportError: .*Specc",
        ),
        ("of_its_own", "raise ValueError('my own fault')", "importing it failed: ValueError: my own fault"),
        ("without", "SPECS = 1", "without.py:SPEC: must read module:attribute or file.py:attribute"),
    ):
        Path(f"{name}.py").write_text(text)
        with pytest.raises(RarlError, match=said):
            load(f"{name}.py:SPEC")


@pytest.mark.parametrize("name", ["cartpole", "doorkey"])
def test_the_examples_play(name, capsys):
    cli.main(["env", "check", f"examples/{name}.py:SPEC"])
    said = capsys.readouterr().out
    assert "plays: observations" in said
    assert "brought back in the middle" in said
    assert "note:" not in said


def test_the_experts_way_through_the_door(tmp_path):
    spec = spec_of("examples/doorkey.py:SPEC")
    make = load(spec.sources["expert"].make)
    more = {"environment": "examples/doorkey.py:SPEC"}
    make("DoorKey-5x5", 8, 0, tmp_path / "a", **more, noise_percent=[0, 90])
    dataset = TrajectoryDataset.open(tmp_path / "a")
    expert, noisy = dataset.lengths[::2], dataset.lengths[1::2]
    assert (dataset.returns[::2] > 0.9).all()
    assert expert.max() < noisy.mean()  # in the order of the environments, not of their ends
    make("DoorKey-5x5", 8, 0, tmp_path / "b", **more, noise_percent=[0, 90])
    np.testing.assert_array_equal(TrajectoryDataset.open(tmp_path / "b").observations, dataset.observations)


def test_the_scale_of_the_examples():
    scale = Scale("examples")
    assert {run.settings.environment for run in scale.runs.values()} == {
        "examples/cartpole.py:SPEC",
        "examples/doorkey.py:SPEC",
    }
    assert all(len(runs) == 5 for runs in by_variant(scale).values())


def by_variant(scale: Scale) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for run in scale.runs:
        found.setdefault(run.rpartition("/")[0], []).append(run)
    return found
