"""What jobs ask a cluster for: memory, and a GPU or none. Imports no torch.

Memory is arithmetic on a run's settings, in units of 10^6 bytes: what a process has before it learns, what one learner
step keeps for its backward pass, and what grows during a run (replay, episodic memory). Tests compare it with the peaks
of recorded runs, and the bytes per state with those of the networks.
"""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rarl.config.files import IndexCostSettings
from rarl.config.scale import Dataset, Run, Scale
from rarl.config.settings import EPISODIC, RunSettings
from rarl.envs.spec import load, spec_of
from rarl.errors import required
from rarl.workflow.rules import torch_knows_gpus

# The processes by which Snakemake starts a job on a node, and one of ours with its libraries; before it learns.
_SNAKEMAKE_MB, _PROCESS_MB, _CUDA_MB = 400, 450, 3000
_CONTEXT_MB = 600  # of a GPU's memory, what each process has there before it computes
_DATASETS_MB = 512  # resident pages of memory maps: rarl.trajectories.sampling.ResidentLimit
_LEARNER_MB = 100  # networks, gradients and moments of one, and its nearly empty replay
_MARGIN = 1.5  # what allocators, copies and the optimiser take beyond the sums below


def memory_of_run(run: Run, datasets: Iterable[Dataset], gpu: bool, playing: bool = True) -> int:
    """Memory that a job needs which trains a run, or looks into it, in MB, rounded up.

    Args:
      run: which.
      datasets: those that it opens.
      gpu: whether networks and what they compute are on a GPU.
      playing: whether a replay or an episodic memory is filled; a look into a trained agent needs none.
    """
    s = run.settings
    read = [] if s.agent.base in EPISODIC else datasets  # they learn from what they play
    most = _PROCESS_MB + min(sum(map(_dataset_mb, read)), _DATASETS_MB)
    most += _CUDA_MB if gpu else _MARGIN * step_mb(s)
    if s.online is not None:
        most += memory_model(s).environment * s.online.actors
    if playing:
        most += _replay_mb(s) + _episodic_mb(s)
    return _rounded(_SNAKEMAKE_MB + most)


def memory_of_costs(scale: Scale, gpu: bool) -> int:
    """Memory of the job that measures costs, in MB, rounded up.

    All learners of an experiment are there at the same time, but one of them takes a step; and before, each takes some
    in a process of its own.
    """
    most = 0.0
    for runs in scale.cost_runs().values():
        datasets = {name: scale.datasets[name] for run in runs.values() for name in run.datasets}
        resident = min(sum(map(_dataset_mb, datasets.values())), _DATASETS_MB)
        step = max(_MARGIN * step_mb(run.settings) for run in runs.values())
        most = max(most, resident + len(runs) * _LEARNER_MB + (0.0 if gpu else step))
    return _rounded(_SNAKEMAKE_MB + 2 * (_PROCESS_MB + (_CUDA_MB if gpu else 0)) + most)


def memory_of_index_cost(plan: tuple[IndexCostSettings, Run] | None) -> int:
    """Memory of the job that measures indices: the keys, a copy of them in an index, and one part of them in work."""
    keys = 0.0 if plan is None else 4e-6 * max(plan[0].states) * plan[1].settings.agent.retrieval.d_e
    return _rounded(_SNAKEMAKE_MB + 2 * _PROCESS_MB + 3 * keys)


def _rounded(megabytes: float) -> int:
    return 250 * math.ceil(megabytes / 250)


def _dataset_mb(dataset: Dataset) -> float:
    spec = spec_of(dataset.environment)
    steps = dataset.settings.environment_steps or dataset.settings.size * spec.long_episode
    model = MemoryModel() if spec.memory is None else load(spec.memory)
    return steps * (model.of_frame(False) + 8e-6)


class MemoryModel:
    """What the parts of an environment's jobs need, in MB, by the size of an observation in bytes.

    Attributes:
      environment: one environment that is played.
    """

    environment = 2.0

    def __init__(self, observation: int = 64):
        self._observation = observation

    def of_state(self, encoder: str, options: Mapping[str, Any], environment: Mapping[str, Any]) -> float:
        """What an encoder keeps of one state for its backward pass, beside what follows from d_s."""
        return 8e-6 * self._observation

    def recomputed(self, encoder: str, options: Mapping[str, Any]) -> float:
        """What a backward pass computes again at a time."""
        return 0.0

    def of_frame(self, compressed: bool) -> float:
        """One observation in a dataset or a replay."""
        return 1e-6 * self._observation


def memory_model(s: RunSettings) -> MemoryModel:
    """That of a run's environment."""
    spec = spec_of(s.environment)
    return MemoryModel() if spec.memory is None else load(spec.memory)


# --- one learner step -------------------------------------------------------------------------------------------------


def step_mb(s: RunSettings) -> float:
    """What one learner step keeps until its backward pass, in MB, on whatever device it is.

    States that are learned from and states that are retrieved pass the encoder; each of the former attends to all of
    the latter.
    """
    learning, retrieval = s.learning, s.agent.retrieval
    if s.agent.base in EPISODIC:
        return learning.batch_states * _state_mb(s)
    states, groups = learning.batch_states, 1
    if s.online is not None or s.agent.core != "none":
        states = learning.batch_sequences * (learning.sequence_steps + 1)
    if s.online is None:
        groups = min(learning.tasks_per_batch or len(s.tasks), len(s.tasks))
    encoded, looks = float(states), 0
    if s.agent.retrieves:
        looks, kept = _looks(s), retrieval.n_traj
        if retrieval.select_by == "return":
            kept = min(retrieval.k_traj, kept)
        trained = min(retrieval.gradient_trajectories or kept, kept)
        encoded += groups * trained * looks
        looks *= kept * (groups if retrieval.source == "all" else 1)  # that a state can attend to
    if learning.masking.weight:
        encoded += learning.masking.trajectories * _looks(s, masking=True)
    slots = retrieval.n_f * (retrieval.d_m + retrieval.d_e + retrieval.d_v) if s.agent.with_retrieval else 0
    # Of attention the logits, what is chosen among them, and the weights; 16 numbers of a layer's width in all others.
    attention = 3 * 4 * retrieval.n_f * looks + 16 * 4 * (s.agent.d_s + slots)
    recomputed = memory_model(s).recomputed(s.agent.encoder, s.agent.encoder_options)
    return encoded * _state_mb(s) + states * attention * 1e-6 + recomputed + _LEARNER_MB


def _looks(s: RunSettings, masking: bool = False) -> int:
    """Steps that are looked at of one trajectory."""
    chosen = s.learning.masking if masking else s.agent.retrieval
    steps = s.learning.sequence_steps if s.online is not None else spec_of(s.environment).long_episode
    return math.ceil(min(chosen.trajectory_steps or steps, steps) / chosen.step_stride)


def _state_mb(s: RunSettings) -> float:
    """What an encoder keeps of one state for its backward pass, and what is done with its output."""
    agent = s.agent
    width = 16 * 4e-6 * max(agent.d_s, agent.retrieval.d_h if agent.retrieves else 0)
    return width + memory_model(s).of_state(agent.encoder, agent.encoder_options, s.environment_options)


# --- what grows -------------------------------------------------------------------------------------------------------


def _replay_mb(s: RunSettings) -> float:
    """A full replay: frames, of which a checkpoint makes a copy, and all else (see `rarl.replay.prioritised`)."""
    if s.online is None or s.agent.base == "mfec":
        return 0.0
    if s.agent.base == "nec":
        frames = float(required(s.episodic, "episodic").replay)
    else:
        played = s.updates * s.online.actors * s.online.steps_per_update
        frames = min(s.online.capacity_sequences * s.online.period_steps, played)
    numbers = 6 * s.online.period_steps + 500 + 4 * (s.agent.d_s + s.agent.retrieval.n_f * s.agent.retrieval.d_m)
    windows = 0 if s.agent.base == "nec" else s.online.capacity_sequences
    return 2 * frames * memory_model(s).of_frame(s.online.compression > 0) + 3e-6 * windows * numbers


def _episodic_mb(s: RunSettings) -> float:
    """Keys, their copy in an index, with NEC their running squares, and hashes; a checkpoint copies all but the index.

    No more entries are there than steps were played.
    """
    if s.episodic is None:
        return 0.0
    if s.online is not None:
        played, memories = s.updates * s.online.actors * s.online.steps_per_update, 18
    else:
        played = s.updates * len(s.tasks) * s.episodic.episodes_per_update * spec_of(s.environment).long_episode
        memories = 7 * (len(s.tasks) if s.agent.task == "observed" else 1)
    d_key = s.episodic.d_key or (84 * 84 if s.online is not None else 11)
    arrays = 2 if s.agent.base == "nec" else 1
    return 1e-6 * min(played, memories * s.episodic.capacity) * (4 * d_key * (3 * arrays + 1) + 300)


# --- GPUs -------------------------------------------------------------------------------------------------------------

_ON_CLUSTER, GPU_PARTITION = "RARL_ON_CLUSTER", "RARL_GPU_PARTITION"


def uses_gpu(job: str, run: Run) -> bool:
    """Whether a job ("train", "probe") of a run computes on a GPU if it gets one."""
    if run.settings.agent.base in EPISODIC and run.settings.agent.base != "nec":
        return False
    return job == "train" or run.settings.online is not None  # to look into other agents is a matter of seconds


def jobs_per_gpu(scale: Scale) -> int:
    """How many jobs of a scale share a GPU of this machine: as many as its file says, unless fewer of its largest
    learner steps fit into the smallest GPU's memory."""
    most, memory = scale.settings.resources.jobs_per_gpu, _gpu_memory_mb()
    steps = [step_mb(run.settings) for run in scale.runs.values() if uses_gpu("train", run)]
    if memory is None or not steps:
        return most
    return max(1, min(most, int(memory / (_MARGIN * max(steps) + _CONTEXT_MB))))


def _gpu_memory_mb() -> float | None:
    """Of the smallest GPU; None where the driver does not say."""
    try:
        told = _told_by("nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits")
        return 1.048576 * min(map(float, told.split()))
    except ValueError:
        return None


def _told_by(*command: str) -> str:
    """What a program prints; nothing where there is no such program, or it fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def is_on_cluster(sends_jobs: bool) -> bool:
    """Whether this process sends its jobs to other machines, or is a part of such a job, which the environment says."""
    if sends_jobs:
        os.environ[_ON_CLUSTER] = "1"
    return _ON_CLUSTER in os.environ


def gpu_partition(wanted: str | None = None) -> str:
    """The partition of a Slurm cluster to which jobs go that want a GPU; "" if there is none.

    It is the one that jobs go to anyway (`wanted`, or else the cluster's default) if that has GPUs, and otherwise the
    first that has; none where torch could do nothing with a GPU. The environment variable RARL_GPU_PARTITION says
    otherwise: a name, or nothing for no GPU. What was found is put there, so that a job, which reads the workflow again
    on its node, finds the same.
    """
    if GPU_PARTITION not in os.environ:
        found = _with_gpus(_partitions(), wanted)
        if found and not torch_knows_gpus():
            print(
                f"Partition {found} has GPUs, but the torch installed here is a build for CPUs: no job asks for one. "
                "See profiles/slurm/profile.yaml",
                file=sys.stderr,
            )
            found = ""
        os.environ[GPU_PARTITION] = found
    return os.environ[GPU_PARTITION]


def _partitions() -> list[tuple[str, str]]:
    """(name, generic resources) for each kind of node of each partition; a star is behind the default's name."""
    lines = _told_by("sinfo", "--noheader", "--format=%P|%G").splitlines()
    return [(name.strip(), resources.strip()) for name, _, resources in (line.partition("|") for line in lines)]


def _with_gpus(partitions: Sequence[tuple[str, str]], wanted: str | None) -> str:
    having = [name for name, resources in partitions if re.search(r"(^|,)gpu:", resources)]
    usual = [f"{name}*" for name in wanted.split(",")] if wanted else [name for name, _ in partitions if "*" in name]
    first = [name for name in having if f"{name.rstrip('*')}*" in usual]
    return next(iter(first or having), "").rstrip("*")
