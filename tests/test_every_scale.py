"""Every variant of every scale as it is configured: its networks, at their real sizes, are built, learn and act.

What is small here is what is drawn: few trajectories and states, short sequences, nearly empty replays. Runs that are
the same but for that, such as those of A-6's grid, are tried once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml

from rarl.agents.build import build_network
from rarl.benchmarks import costs
from rarl.benchmarks.acting import acting
from rarl.collect.make import make_dataset
from rarl.config.files import SCALES
from rarl.config.scale import Dataset, Run, Scale
from rarl.config.settings import EPISODIC, DatasetSettings, RunSettings
from rarl.files import digest
from rarl.runs.loop import LoopSettings, torch_settings
from rarl.trajectories.store import TrajectoryDataset

ROOT = Path(__file__).resolve().parents[1]
ACTING = 2  # environments
EPISODES = 6  # of each dataset; a retrieval batch has as many
DATASETS: dict[str, dict[str, Any]] = {  # by source
    "planner": {"episodes": EPISODES},
    "dqn": {"environment_steps": 50 * 32},
    "bot": {"episodes": EPISODES, "options": {"noise_percent": [0, 100]}},
    "agent": {"environment_steps": 200},
}


def small(settings: RunSettings) -> RunSettings:
    """The same agent with as little to learn and to retrieve from as there can be."""
    s = costs._shortened(settings)
    retrieval: dict[str, Any] = {"n_traj": EPISODES, "k_traj": 3, "k_states": 3, "step_stride": 25}
    learning: dict[str, Any] = {"batch_states": 1, "batch_sequences": 2, "sequence_steps": 4}
    changes: dict[str, Any] = {"episodes": None, "agent": {"retrieval": retrieval}, "learning": learning}
    if s.agent.retrieval.pool is not None:
        retrieval["pool"] = {"trajectories": EPISODES}
    if s.agent.retrieval.gradient_trajectories is not None:
        retrieval["gradient_trajectories"] = 2
    if s.learning.masking.weight:
        learning["masking"] = {"trajectories": 2, "step_stride": 2}
    if s.environment == "babyai":
        learning["tasks_per_batch"] = 2
    if s.online is not None:
        retrieval["step_stride"] = 2
        online = {"actors": 2, "steps_per_update": 24, "capacity_sequences": 64, "period_steps": 3}
        changes |= {"threads": 1, "online": online}
    return costs._changed(s, changes)


@functools.cache
def kinds_of_agents(name: str) -> list[Run]:
    """The first run of each kind of agent that a scale has."""
    found: dict[str, Run] = {}
    for run in Scale(name, ROOT).runs.values():
        settings = small(run.settings).model_dump(exclude={"experiment", "variant", "task_set", "seed", "evaluation"})
        if run.settings.environment_options.get("full_actions"):
            del settings["tasks"]  # games have the same actions and frames
        found.setdefault(digest(settings), run)
    return list(found.values())


def experiments() -> list[Any]:
    """(scale, experiment), read from the files alone: settings are not validated while tests are collected."""
    files = {name: yaml.safe_load((ROOT / "config" / f"{name}.yaml").read_text()) for name in SCALES}
    slow = {name: [pytest.mark.slow] for name in ("smoke", "workstation", "paper")}
    return [
        pytest.param(name, experiment, marks=slow.get(name, ()))
        for name, file in files.items()
        for experiment in file["experiments"]
    ]


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Run], list[TrajectoryDataset]]:
    """Small datasets of the tasks that a run learns, made when they are first asked for."""
    place = SimpleNamespace(root=tmp_path_factory.mktemp("every-scale"), name="small")
    made: dict[str, TrajectoryDataset] = {}

    def dataset(environment: str, source: str, task: str) -> TrajectoryDataset:
        settings = DatasetSettings(source=source, seed=0, **DATASETS[source])
        planned = Dataset(environment, task, settings)
        if planned.id not in made:
            made[planned.id] = TrajectoryDataset.open(make_dataset(place, planned))
        return made[planned.id]

    def of(run: Run) -> list[TrajectoryDataset]:
        s = run.settings
        return [] if s.source == "replay" else [dataset(s.environment, s.source, task) for task in run.tasks]

    return of


def shapes(network: torch.nn.Module) -> dict[str, torch.Size]:
    return {name: parameter.shape for name, parameter in network.named_parameters()}


def try_out(run: Run, datasets: list[TrajectoryDataset]) -> None:
    """Build the learner of a run, take its first learner steps, and let it act."""
    ready = small(run.settings)
    subject = costs._Variant(run, ready, datasets, "cpu")
    with subject.named(), torch_settings(LoopSettings(device="cpu"), 0):
        learner = subject.learner()
        actions = acting(learner, ACTING)()
        episodic = run.settings.agent.base in EPISODIC
        n_actions = learner.agent.n_actions if episodic else learner.n_actions
        assert actions.shape == (ACTING,)
        assert 0 <= actions.min() <= actions.max() < n_actions
        if episodic:
            assert len(learner.agent) > 0, "nothing is remembered"
            return
        with torch.device("meta"):
            configured = build_network(run.settings, n_actions)
        assert shapes(learner.network) == shapes(configured)
        assert learner.optimiser.state, "nothing was learned"
        assert all(parameter.isfinite().all() for parameter in learner.parameters)


@pytest.mark.parametrize(("scale", "experiment"), experiments())
def test_every_agent_is_built_learns_and_acts(
    scale: str, experiment: str, datasets: Callable[[Run], list[TrajectoryDataset]]
) -> None:
    for run in kinds_of_agents(scale):
        if run.settings.experiment == experiment:
            try_out(run, datasets(run))
