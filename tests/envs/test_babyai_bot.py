"""BabyAI datasets: the same arguments give the same bytes, and every episode happened in minigrid."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections import Counter

import gymnasium as gym
import numpy as np
import pytest

from rarl.envs.babyai import datasets as babyai
from rarl.envs.babyai.datasets import expert_return, generate_bot
from rarl.envs.babyai.expert import Expert, ExpertFailed
from rarl.envs.babyai.generation import PutNextMaze
from rarl.envs.babyai.levels import level_named, make_level
from rarl.envs.babyai.missions import words
from rarl.envs.babyai.view import decode
from rarl.errors import RarlError
from rarl.files import read_json
from rarl.trajectories.store import TrajectoryDataset

# SHA-256 of generate_bot("ActionObjDoor", episodes=60, seed=7).
GOLDEN = {
    "actions": "5ff46f6421789ac0ea9fafd56459a0686811ed3d55d255b8bdfbcae28653b14c",
    "mission": "fa9598c7560c6d67ba781fe8744036cfbfcb3c286d7e831cd1fa13347d3212cd",
    "noise": "bd4f4ec00541d198a6af6f5659ffc44a35314e50d18966db1879ba81419f43d9",
    "observations": "495e5c7253dda0f3c55fd0728a980e268ac03ff50a03a7879b7f2bb2801ef67d",
    "offsets": "41f43ec0b743f76656ec5784cba7c7e02f54bb5246802b7e241dc32091e3142e",
    "returns": "f9853e8a0dab9de5bf15c714d3eb210684db30e698e7bed52ec12763eeb656fc",
    "rewards": "eb3998994a5bf70997e24c5d4a2b5cf4dbd81697c07e857564a60ea0524c344d",
    "seed": "953ebebdf231240797aea6df9fae2340c2113567e7047ba0ec8641864789cacd",
    "terminated": "401bea3cc254090c6b78380840a3f69feae60ddcba41317438e8c3e5811eebe8",
}


def hashes(folder):
    return {name: entry["sha256"] for name, entry in read_json(folder / "manifest.json")["arrays"].items()}


def content(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def made(folder, *arguments, **keywords):
    generate_bot(*arguments, folder, **keywords)
    return TrajectoryDataset.open(folder)


def test_golden_bytes(tmp_path):
    """Changes in the expert, the views, the missions, minigrid or NumPy's stream all show here."""
    generate_bot("ActionObjDoor", 60, 7, tmp_path / "a")
    assert hashes(tmp_path / "a") == GOLDEN


def test_same_arguments_same_bytes(tmp_path, monkeypatch):
    generate_bot("PutNextLocal", 60, 1, tmp_path / "a", (0, 50))
    generate_bot(level_named("PutNextLocal"), 60, 2, tmp_path / "b", (0, 50))
    assert hashes(tmp_path / "a")["observations"] != hashes(tmp_path / "b")["observations"]
    # Neither the number of lanes nor that of the steps written at once matters.
    monkeypatch.setattr(babyai, "LANES", 3)
    monkeypatch.setattr(babyai, "CHUNK_STEPS", 100)
    generate_bot("PutNextLocal", 60, 1, tmp_path / "b", (0, 50))
    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert read_json(tmp_path / "a" / "manifest.json")["generator"]["rejected"]  # and some were


def test_a_smaller_dataset_is_the_beginning_of_a_larger_one(tmp_path):
    large = made(tmp_path / "large", "PutNextLocal", 70, 2, noise_percent=(0, 50))
    small = made(tmp_path / "small", "PutNextLocal", 33, 2, noise_percent=(0, 50))
    rejected = [sum(dataset.manifest["generator"]["rejected"].values()) for dataset in (small, large)]
    assert 0 < rejected[0] < rejected[1]
    np.testing.assert_array_equal(large.offsets[:34], small.offsets)
    np.testing.assert_array_equal(large.observations[: small.steps + 33], small.observations)
    for name in ("actions", "rewards"):
        np.testing.assert_array_equal(getattr(large, name)[: small.steps], getattr(small, name))
    for name in ("mission", "noise", "seed", "terminated"):
        np.testing.assert_array_equal(large.extras[name][:33], small.extras[name])


def plain_level(name):
    return PutNextMaze() if name == "PutNext" else gym.make(f"BabyAI-{name}-v0", disable_env_checker=True).unwrapped


@pytest.mark.parametrize("level", ["PutNext", "Unlock", "MoveTwoAcrossS8N9", "KeyInBox", "OpenDoorsOrderN4"])
def test_episodes_replay_in_minigrid(tmp_path, level):
    dataset = made(tmp_path / "a", level, 10, 5)
    dataset.check_valid()
    assert dataset.observations.shape[1:] == (50,)
    assert dataset.observations.dtype == dataset.actions.dtype == dataset.extras["mission"].dtype == np.uint8
    assert (dataset.extras["noise"].dtype, dataset.extras["seed"].dtype) == (np.int8, np.int64)
    env, ends = plain_level(level), Counter()
    for episode in dataset:
        with contextlib.redirect_stdout(None):
            seen, _ = env.reset(seed=int(episode.extras["seed"]))
        assert words(episode.extras["mission"]) == seen["mission"]
        for t, action in enumerate([*episode.actions, None]):
            np.testing.assert_array_equal(decode(episode.observations[t, :49]), seen["image"])
            assert episode.observations[t, 49] == seen["direction"]
            if action is not None:
                seen, reward, terminated, truncated, _ = env.step(int(action))
                assert episode.rewards[t] == np.float32(reward)
                assert (terminated or truncated) == (t == len(episode) - 1)
        assert episode.extras["terminated"] == terminated
        ends["terminated" if terminated else "truncated"] += 1
    assert ends["terminated"] > 3


def test_manifest_and_noise(tmp_path, monkeypatch):
    monkeypatch.setattr(babyai, "CHUNK_STEPS", 2000)
    done = []
    dataset = made(tmp_path / "a", "GoToObj", 500, 0, progress=lambda *numbers: done.append(numbers))
    assert done[-1] == (500, 500)
    assert [d for d, _ in done] == sorted({d for d, _ in done})
    assert len(done) > 3
    manifest = dataset.manifest
    assert (manifest["environment"], manifest["task"], manifest["source"]) == ("babyai", "GoToObj", "bot")
    assert (manifest["seed"], manifest["episodes"], manifest["ends"]) == (0, 500, "per-episode")
    assert manifest["generator"] == {
        "policy": "bot", "noise_percent": [0, 10, 25, 50, 100], "rejected": {}, "minigrid": "3.2.0"
    }  # fmt: skip
    noise = dataset.extras["noise"]
    assert manifest["expert_return"] == dataset.returns[noise == 0].astype(float).mean()
    means = [dataset.returns[noise == percent].mean() for percent in (0, 10, 25, 50, 100)]
    assert (np.diff(means) < 0).all()  # the more noise, the less return
    counts = np.array([(noise == percent).sum() for percent in (0, 10, 25, 50, 100)])
    assert ((counts - 100) ** 2 / 100).sum() < 23.5  # chi square, 4 degrees of freedom, p = 0.0001
    random = np.concatenate([episode.actions for episode in dataset if episode.extras["noise"] == 100])
    counts = np.bincount(random, minlength=7)
    assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < 27.9  # 6 degrees of freedom
    assert len(set(dataset.extras["seed"].tolist())) == 500
    assert not dataset.terminated.all()
    assert (dataset.lengths[~dataset.terminated] == 64).all()
    assert (dataset.returns[~dataset.terminated] == 0).all()


def test_without_noise_the_expert_acts(tmp_path):
    dataset = made(tmp_path / "a", "PickupAbove", 12, 0, noise_percent=[0])
    env = make_level("PickupAbove")
    for episode in dataset:
        env.reset(seed=int(episode.extras["seed"]))
        expert, last = Expert(env), None
        for action in episode.actions:
            last = expert.action(last)
            assert action == last
            env.step(last)


def test_share_of_random_actions(tmp_path):
    """At 40 %: six of seven random draws differ from the advice, so a third of the actions do."""
    dataset = made(tmp_path / "a", "OpenDoor", 80, 0, noise_percent=[40])
    env, different = make_level("OpenDoor"), []
    for episode in dataset:
        env.reset(seed=int(episode.extras["seed"]))
        expert, last = Expert(env), None
        for action in episode.actions.tolist():
            different.append(expert.action(last) != action)
            last = action
            env.step(action)
    expected = 0.4 * 6 / 7
    assert abs(np.mean(different) - expected) < 4 * np.sqrt(expected * (1 - expected) / len(different))
    assert dataset.manifest["expert_return"] is None


def test_missions_without_a_solution_are_rejected_and_counted(tmp_path):
    dataset = made(tmp_path / "a", "GoToImpUnlock", 22, 1, noise_percent=[0])
    assert dataset.manifest["generator"]["rejected"] == {"endless plan": 2}
    assert (dataset.returns > 0).all()
    level = level_named("GoToImpUnlock")
    streams = [np.random.default_rng([1, level.id, number]) for number in range(24)]
    seeds = [int(stream.integers(1 << 63, dtype=np.uint64)) for stream in streams]
    kept = dataset.extras["seed"].tolist()
    assert [seed for seed in seeds if seed in kept] == kept
    for seed in set(seeds) - set(kept):
        with pytest.raises(ExpertFailed, match="endless plan"):
            play(level.name, seed)


def test_the_expert_is_measured_on_the_episodes_without_noise(tmp_path):
    dataset = made(tmp_path / "a", "GoToImpUnlock", 22, 1, noise_percent=[0])
    assert expert_return("GoToImpUnlock", 1, 22) == dataset.manifest["expert_return"]


def play(name, seed):
    env = make_level(name)
    env.reset(seed=seed)
    expert, last = Expert(env), None
    for _ in range(env.max_steps):
        last = expert.action(last)
        env.step(last)


def test_failures_of_all_kinds_are_counted(tmp_path, monkeypatch):
    class Moody(Expert):
        """Fails at the third step in every other column."""

        def action(self, last_action=None):
            self.asked = getattr(self, "asked", 0) + 1
            env = self._bot.mission
            if self.asked == 3 and int(env.agent_pos[0]) % 2 == 0:
                raise ExpertFailed("moody" if env.agent_dir % 2 else "cross")
            return super().action(last_action)

    monkeypatch.setattr(babyai, "Expert", Moody)
    dataset = made(tmp_path / "a", "GoToObj", 40, 0, noise_percent=[0])
    rejected = dataset.manifest["generator"]["rejected"]
    assert set(rejected) == {"moody", "cross"}
    assert dataset.episodes == 40
    monkeypatch.setattr(babyai, "LANES", 1)
    generate_bot("GoToObj", 40, 0, tmp_path / "b", [0])
    assert content(tmp_path / "a") == content(tmp_path / "b")


def test_a_level_that_the_expert_never_solves(tmp_path, monkeypatch):
    class Useless(Expert):
        def action(self, last_action=None):
            raise ExpertFailed("useless")

    monkeypatch.setattr(babyai, "Expert", Useless)
    monkeypatch.setattr(babyai, "MAX_REJECTED", 50)
    with pytest.raises(RarlError, match=r"level GoToObj: the expert failed 50 times in a row: \{'useless': 50\}"):
        generate_bot("GoToObj", 3, 0, tmp_path / "a", [0])
    assert list(tmp_path.iterdir()) == []
    assert expert_return("GoToObj", 0) is None
    dataset = made(tmp_path / "a", "GoToObj", 3, 0, noise_percent=[100])  # random actions need no expert
    assert dataset.manifest["generator"]["rejected"] == {}


def test_levels_do_not_share_seeds(tmp_path):
    """Minigrid's levels coincide under equal seeds: SynthSeq and BossLevel would start with the same missions."""
    seeds = [made(tmp_path / "a", name, 4, 0, noise_percent=[0]).extras["seed"] for name in ("SynthSeq", "BossLevel")]
    assert not set(seeds[0].tolist()) & set(seeds[1].tolist())


def test_wrong_arguments(tmp_path):
    for arguments, says in (
        (("GoToObject", 10, 0), "unknown BabyAI level 'GoToObject': did you mean 'GoToObj'"),
        (("GoToObj", 0, 0), "episodes=0: must be at least 1"),
        (("GoToObj", 10, -1), "seed=-1: must be at least 0"),
        (("GoToObj", 10, 0, [101]), r"noise_percent=\(101,\): must be percentages from 0 to 100"),
        (("GoToObj", 10, 0, []), "must be percentages"),
    ):
        with pytest.raises(RarlError, match=says):
            generate_bot(*arguments[:3], tmp_path / "a", *arguments[3:])
    assert list(tmp_path.iterdir()) == []


def test_silent(tmp_path):
    """Minigrid prints every rejected sample of a level; Unlock has many."""
    code = (
        "import sys\n"
        "from rarl.envs.babyai.datasets import generate_bot\n"
        "generate_bot('Unlock', 6, 0, sys.argv[1], [0])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a")], capture_output=True, text=True, check=True)
    assert done.stdout == ""
