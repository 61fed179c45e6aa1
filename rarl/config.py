"""Configuration: scale files and experiment files to the typed, validated settings of one dataset or one run.

    config/config.yaml               which scale is the default
    config/{scale}.yaml              sizes: datasets, seeds, budgets, which variants run
    config/experiments/{name}.yaml   what is compared: the base settings and the variants, each a few values changed

A run's settings are the experiment's base, changed by the scale's `settings`, changed by the task set's, changed by the
variant's, changed by the scale's `variant_settings`. Nothing else enters a run, so its digest names it. An experiment
that extends another begins with that one's base and settings at the scale.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

from rarl.envs.catalogue import TASK_NAMES, tasks_of_set
from rarl.envs.names import slug
from rarl.errors import RarlError, did_you_mean
from rarl.files import digest, read_yaml

_NO_SCALES = ("config", "claims")  # other files beside those of the scales
SCALES = ("smoke", "laptop", "workstation", "paper")
MOST = 2**53  # of an integer setting: beyond it neighbours are the same number in JSON and as float64
TUNING_SEEDS_FROM = 100  # settings are tried on these seeds; runs that are reported have seeds below
WITHOUT_EFFECT = {  # settings of a run that change how it is carried out, and not what comes out
    "checkpoint_seconds": True,
    "tensorboard": True,
    "online": {"overlap": True, "emulator_threads": True},
}
DECAYS = (0.0, 0.5, 0.8, 1.0)  # of the decay summariser, per looked-at step


def _once(values: list[Any]) -> list[Any]:
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise ValueError(f"{twice[0]!r} stands there twice")
    return values


_A_NAME = "a name of letters, digits, '_', '-' and '.', not a path"


def check_name(name: str, what: str) -> str:
    """`name`, if it can be a part of a path: letters, digits, "_", "-" and ".", and no dot in front.

    Args:
      name: of a scale, an experiment, a task set or a variant.
      what: which of these, for the error.

    Raises:
      RarlError: it is no name, for example because it is a path.
    """
    if not _is_name(name):
        raise RarlError(f"{what} {name!r}: must be {_A_NAME}")
    return name


def _is_name(name: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name) is not None


def _named(values: Any) -> Any:
    """The keys of a mapping, the entries of a list, or a text alone are names; whole numbers are left alone."""
    for name in [values] if isinstance(values, str) else values or ():
        if not isinstance(name, int) and not _is_name(name):
            raise PydanticCustomError("name", f"must be {_A_NAME}", {"got": name})
    return values


def _reported(seeds: list[int]) -> list[int]:
    for seed in seeds:
        if not 0 <= seed < TUNING_SEEDS_FROM:
            raise ValueError(
                f"seed {seed} cannot be reported: 0 to {TUNING_SEEDS_FROM - 1}, those above are for tuning"
            )
    return seeds


Variants = Annotated[list[str], AfterValidator(_once)]
Names = AfterValidator(_named)
Seeds = Annotated[list[int], Field(min_length=1), AfterValidator(_once), AfterValidator(_reported)]
Percent = Annotated[int, Field(ge=0, le=100)]
Environment = Literal["gridroboman", "babyai", "atari"]
DatasetSource = Literal["planner", "dqn", "bot", "rdqn"]
Source = Literal["planner", "dqn", "bot", "rdqn", "replay"]
SOURCES = {"gridroboman": ("planner", "dqn"), "babyai": ("bot", "rdqn")}
ONLINE = ("atari",)  # environments whose agents learn while they play, from their own replay
EPISODIC = ("mfec", "nec")  # agents that learn while they play, from their own episodes
ENCODERS = {  # that read an environment's observations
    "gridroboman": ("relational", "mlp"),
    "babyai": ("babyai",),
    "atari": ("resnet47", "nature", "impala-small", "tiny"),
}
CORES = {"gridroboman": ("none",), "babyai": ("gru",), "atari": ("none", "gru")}
SIZE_KEYS = {  # in which setting the size of a source's datasets is given
    "planner": "episodes",
    "dqn": "environment_steps",
    "bot": "episodes",
    "rdqn": "environment_steps",
}


class Settings(BaseModel):
    """Frozen; unknown keys are errors, and so are numbers that no setting can mean."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @field_validator("*", mode="before")
    @classmethod
    def _sane_numbers(cls, value: Any) -> Any:
        _check_numbers(value, ())
        return value


def _check_numbers(value: Any, place: tuple[str, ...]) -> None:
    """Refuse NaN, infinity and integers that a float64 cannot hold exactly, in whatever mappings and lists they are."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _check_numbers(inner, (*place, str(key)))
    elif isinstance(value, list | tuple):
        for i, inner in enumerate(value):
            _check_numbers(inner, (*place, str(i)))
    elif isinstance(value, float) and not math.isfinite(value):
        raise PydanticCustomError("number", "must be a finite number", {"place": place, "got": value})
    elif isinstance(value, int) and abs(value) > MOST:
        raise PydanticCustomError("number", "must be at most 2^53 in size", {"place": place, "got": value})


# --- one run ----------------------------------------------------------------------------------------------------------


class PoolSettings(Settings):
    """Retrieval datasets mixed from the task's own trajectories, which are relevant, and those of all others."""

    trajectories: int = Field(4000, ge=1, description="in the dataset of each task, own and others' together")
    relevant: Annotated[list[Annotated[float, Field(gt=0, le=1)]], AfterValidator(_once)] = Field(
        [1.0], min_length=1, description="shares of own trajectories; a retrieval batch is of one of them, by chance"
    )

    def counts(self, n_tasks: int, task: int, share: float) -> list[int]:
        """How many trajectories of each task are in the retrieval dataset of `task` with this share of own ones.

        At least one is its own, unless the share is 0; the others' are spread evenly over the other tasks.
        """
        own = max(round(share * self.trajectories), 1) if share > 0 else 0
        counts = [0] * n_tasks
        counts[task] = own
        others = [(task + i) % n_tasks for i in range(1, n_tasks)]
        if not others and own < self.trajectories:
            raise RarlError(f"a share of {share:g} relevant trajectories needs other tasks; there is one task only")
        for i, other in enumerate(others):
            counts[other] = (self.trajectories - own + len(others) - 1 - i) // len(others)
        return counts

    def needs(self, n_tasks: int) -> list[int]:
        """How many trajectories of each task are in any of the retrieval datasets.

        Those without a relevant one, which probes look into, are among them: they hold more of the others'.
        """
        shares = [*self.relevant, 0.0] if n_tasks > 1 else self.relevant
        of = [self.counts(n_tasks, task, share) for task in range(n_tasks) for share in shares]
        return [max(column) for column in zip(*of, strict=True)]


class IndexSettings(Settings):
    """An index over the keys of all states of a retrieval dataset."""

    kind: Literal["exact", "ivf", "hnsw"] = Field("exact", description="exact search, or faiss's approximate ones")
    refresh_updates: int = Field(
        100, ge=1, description="learner steps after which all keys are computed and the index is built again"
    )
    share: float = Field(
        0.5, gt=0, le=1, description="of a retrieval batch in training that the index proposes; the rest is drawn"
    )
    queries: int = Field(16, ge=1, description="states of each task in a learner batch that ask it")
    candidates: int = Field(64, ge=1, description="states that approximate search finds for each query")


class RetrievalSettings(Settings):
    """The retrieval process (Algorithm 1 and the appendix); symbols as there."""

    source: Literal["own", "random", "all", "none"] = Field(
        "own", description="whose trajectories: the task's, a random task's, n_traj of every task's in one batch, none"
    )
    process: Literal["slots", "direct"] = Field(
        "slots",
        description="slots: Algorithm 1; direct: the state asks, and what is read is added to it, without slots (A-1)",
    )
    carry: bool = Field(
        True, description="recurrent agents: slots are carried from step to step; false: each step starts afresh"
    )
    n_f: int = Field(4, ge=1, description="slots")
    d_m: int = Field(32, ge=1, description="width of a slot and of z")
    d_e: int = Field(32, ge=1, description="width of queries and keys")
    d_h: int = Field(256, ge=1, description="width of a summary")
    d_v: int = Field(64, ge=1, description="width of values")
    slot_heads: int = Field(4, ge=1, description="heads of the slots' self-attention")
    summariser: Literal["gru", "decay"] = "gru"
    n_traj: int = Field(64, ge=1, description="trajectories in a retrieval batch, drawn uniformly")
    fresh: bool = Field(
        True, description="a new retrieval batch for every learner step (the paper); false: one per task, kept"
    )
    select_by: Literal["return", "attention", "none"] = Field("return", description="how k_traj of them are chosen")
    k_traj: int = Field(10, ge=1, description="trajectories kept")
    k_states: int = Field(10, ge=1, description="states kept by attention")
    step_stride: int = Field(1, ge=1, description="every how many steps a retrieved trajectory is looked at")
    trajectory_steps: int | None = Field(
        None, ge=1, description="of each trajectory so many steps in a row, from a random one on (A-3); null: all"
    )
    propose: Literal["uniform", "index"] = Field(
        "uniform", description="how a retrieval batch is found: drawn, or the best of the whole dataset by an index"
    )
    pool: PoolSettings | None = Field(None, description="retrieval datasets in which few trajectories are relevant")
    index: IndexSettings | None = Field(None, description="of `propose: index`")
    first_updates: int = Field(
        0, ge=0, description="updates that train the retriever alone, which is frozen afterwards; 0: joint training"
    )
    standardise: bool = Field(True, description="bring what is read to mean 0 and variance 1 over the batch")
    trajectory_inputs: Literal["state", "state+action+reward"] = "state"
    gradient_trajectories: int | None = Field(
        None, ge=1, description="so many of the n_traj train the encoder; null: all, at three times the encoder's cost"
    )
    target_reads: Literal["target", "online"] = Field(
        "target", description="whose summaries the target network reads; online saves work, but values may run away"
    )
    relevance: float = Field(
        0.0,
        ge=0,
        description="pool: weight of the loss by which a query scores its task's trajectories over the others",
    )
    bottleneck: float = Field(0.3, ge=0, description="beta, weight of KL(p || r); 0: no bottleneck, z is not drawn")
    auxiliary: float = Field(0.1, ge=0, description="weight of action, reward and value prediction from the summaries")

    @model_validator(mode="after")
    def _consistent(self) -> RetrievalSettings:
        if self.select_by != "none" and self.k_traj > self.n_traj:
            raise ValueError(f"k_traj = {self.k_traj} cannot exceed n_traj = {self.n_traj}")
        if self.summariser == "decay" and self.d_h % len(DECAYS):
            raise ValueError(f"d_h = {self.d_h} must be a multiple of the decay summariser's {len(DECAYS)} time scales")
        if self.d_m % self.slot_heads:
            raise ValueError(f"d_m = {self.d_m} must be a multiple of slot_heads = {self.slot_heads}")
        return self


class AgentSettings(Settings):
    """What acts: encoder, who knows the task, and whether and how it retrieves."""

    kind: Literal["dqn", "ra-dqn", "oracle", "mfec", "nec"] = Field(
        description="base agent, retrieval agent, the control in which a learned task embedding takes the place of u, "
        "or episodic control"
    )
    task: Literal["hidden", "observed", "query"] = Field(
        description="whether the task id is part of the observation; query: it is told to the query alone"
    )
    core: Literal["none", "gru"] = Field(
        "none", description="what carries the past: nothing, or a GRU of width d_s (and slots through time)"
    )
    encoder: Literal["relational", "mlp", "babyai", "resnet47", "nature", "impala-small", "tiny"] = "relational"
    channels: int = Field(16, ge=1, description="encoder babyai: channels of cells and convolutions")
    blocks: int = Field(2, ge=0, description="encoder babyai: convolutions modulated by the mission")
    d_mission: int = Field(128, ge=1, description="encoder babyai: width of the mission's GRU")
    stack: int = Field(1, ge=1, description="Atari's encoders: frames in an observation")
    recompute: int = Field(
        0, ge=0, description="Atari's encoders: frames at a time whose activations the backward pass computes again"
    )
    d_s: int = Field(256, ge=1, description="width of the agent's state")
    dueling: bool = Field(False, description="Q = V + A - mean A in the head")
    fusion: Literal["film", "gru", "add"] = "film"
    retrieval: RetrievalSettings = RetrievalSettings()

    @property
    def retrieves(self) -> bool:
        """Whether it reads a retrieval batch."""
        return self.kind == "ra-dqn" and self.retrieval.source != "none"


class MaskingSettings(Settings):
    """BERT-style prediction of masked states' tokens (A-4, A-5); the tokens are those of a VQ-VAE."""

    weight: float = Field(0.0, ge=0, description="of the loss; 0: none")
    trajectories: int = Field(
        64, ge=1, description="per learner step, over its tasks; on Atari no more than are learned from"
    )
    step_stride: int = Field(5, ge=1, description="every how many steps a trajectory is looked at")
    trajectory_steps: int | None = Field(
        None, ge=1, description="of each trajectory so many steps in a row, from a random one on; null: all"
    )
    share: float = Field(0.15, gt=0, lt=1, description="of the looked-at states that are masked")
    tokens: int = Field(64, ge=2, description="codes of the VQ-VAE")
    d_token: int = Field(16, ge=1, description="width of a code")
    token_rate: float = Field(3e-3, gt=0, description="learning rate of the VQ-VAE")


class EpisodicSettings(Settings):
    """Model-Free and Neural Episodic Control (Blundell et al., 2016; Pritzel et al., 2017)."""

    capacity: int = Field(1_000_000, ge=1, description="entries per action; the least recently used one makes room")
    neighbours: int = Field(11, ge=1, description="k, over which a value is averaged")
    d_key: int | None = Field(64, ge=1, description="width of keys; null: mfec takes the observation itself")
    search: Literal["exact", "ivf"] = Field("exact", description="of neighbours, by faiss")
    episodes_per_update: int = Field(1, ge=1, description="of each task, in one update; on Gridroboman")
    epsilon: float = Field(0.005, ge=0, le=1, description="exploration after it has fallen from 1")
    epsilon_from_steps: int = Field(5_000, ge=0, description="environment steps after which it begins to fall")
    epsilon_to_steps: int = Field(25_000, ge=1, description="and those after which it has fallen")
    n_step: int = Field(100, ge=1, description="nec: rewards before the bootstrap")
    tabular_rate: float = Field(0.1, gt=0, le=1, description="nec: step of a stored value towards a new one")
    kernel_delta: float = Field(0.001, gt=0, description="nec: of the kernel 1 / (d^2 + delta)")
    replay: int = Field(100_000, ge=1, description="nec: states to learn from")
    learn_from_steps: int = Field(50_000, ge=0, description="nec: environment steps before learning begins")
    learn_every_steps: int = Field(4, ge=1, description="nec: environment steps per learner step")
    learn_keys: bool = Field(False, description="nec: gradients reach the stored keys and values too")

    @model_validator(mode="after")
    def _epsilon_falls(self) -> EpisodicSettings:
        if self.epsilon_to_steps <= self.epsilon_from_steps:
            raise ValueError(
                f"epsilon_to_steps = {self.epsilon_to_steps} must exceed epsilon_from_steps = {self.epsilon_from_steps}"
            )
        return self


class LearningSettings(Settings):
    """Value learning: offline multi-task double DQN (the paper's appendix A.4), and what R2D2 adds to it."""

    batch_states: int = Field(256, ge=1, description="states in a learner batch, spread evenly over its tasks")
    batch_sequences: int = Field(64, ge=1, description="recurrent agents: sequences in a learner batch, likewise")
    sequence_steps: int = Field(20, ge=2, description="recurrent agents: steps of a sequence")
    burn_in: int = Field(0, ge=0, description="recurrent agents: first steps of a sequence, for the state alone")
    tasks_per_batch: int | None = Field(None, ge=1, description="tasks in a learner batch; null: all")
    learning_rate: float = Field(3e-4, gt=0)
    encoder_rate: float = Field(1.0, gt=0, description="the encoder's learning rate, as a multiple")
    retrieval_rate: float = Field(
        1.0, gt=0, description="the retrieval process's (with auxiliary heads), as a multiple"
    )
    warm_up_updates: int = Field(0, ge=0, description="the learning rate rises linearly over so many updates")
    decay_from: float = Field(
        1.0, ge=0, le=1, description="share of the run after which the learning rate falls linearly"
    )
    decay_to: float = Field(1.0, ge=0, le=1, description="share of the learning rate that is left at the end")
    adam_epsilon: float = Field(1e-8, gt=0)
    max_gradient_norm: float = Field(10.0, gt=0)
    discount: float = Field(0.99, gt=0, le=1)
    n_step: int = Field(1, ge=1)
    targets: Literal["n-step", "peng", "watkins"] = Field("n-step", description="online agents: returns of sequences")
    trace_lambda: float = Field(0.8, ge=0, le=1, description="lambda of Peng's and Watkins's Q(lambda)")
    rescale_epsilon: float | None = Field(
        None,
        gt=0,
        description="online agents: values are learned as h(x) = sign(x)(sqrt(|x|+1)-1) + epsilon x; null: x",
    )
    huber_delta: float | None = Field(1.0, gt=0, description="null: half the squared error")
    double: bool = True
    conservative: float = Field(
        0.0, ge=0, description="weight of logsumexp Q - Q(a) (CQL), which holds Q of actions down that the data lacks"
    )
    target_period_updates: int | None = Field(
        2500, ge=1, description="copy to the target network every so many updates"
    )
    target_rate: float | None = Field(None, gt=0, le=1, description="or move it by this share on every update")
    masking: MaskingSettings = MaskingSettings()

    @model_validator(mode="after")
    def _one_target_rule(self) -> LearningSettings:
        if (self.target_period_updates is None) == (self.target_rate is None):
            raise ValueError("set one of target_period_updates and target_rate, and the other to null")
        return self


class OnlineSettings(Settings):
    """Playing and replay of agents that learn while they play (Atari)."""

    actors: int = Field(8, ge=1, description="environments that are played in lockstep")
    steps_per_update: int = Field(5, ge=1, description="steps of every actor between two learner steps")
    epsilon_base: float = Field(0.4, gt=0, lt=1, description="actor i of N explores with base^(1 + alpha i/(N-1))")
    epsilon_alpha: float = Field(7.0, ge=0)
    refresh_updates: int = Field(
        10, ge=1, description="learner steps after which the actors get the network, and a new retrieval batch"
    )
    overlap: bool = Field(True, description="play while learning; the result is the same")
    capacity_sequences: int = Field(100_000, ge=1, description="sequences in the replay")
    start_sequences: int = Field(5_000, ge=1, description="sequences in the replay before learning begins")
    period_steps: int = Field(40, ge=1, description="steps from the start of one sequence to that of the next")
    eta: float = Field(
        0.9, ge=0, le=1, description="weight of the largest TD error in a priority; the mean has the rest"
    )
    priority_exponent: float = Field(0.9, ge=0)
    importance_exponent: float = Field(0.6, ge=0, le=1)
    retrieve_by: Literal["priority", "uniform"] = Field("priority", description="how retrieval batches are drawn")
    keep_apart: Literal["windows", "episodes"] = Field(
        "windows", description="what a retrieval batch may not share with the sequences that are learned from"
    )
    compression: int = Field(1, ge=0, le=9, description="of frames in the replay, zlib's level; 0: none")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="of the encoder's convolutions in a learner step"
    )
    full_actions: bool = Field(
        True,
        description="all that the emulator accepts (18, 9 on Skiing); false: those that do something in the game",
    )
    sticky: float = Field(0.0, ge=0, le=1, description="probability that the emulator repeats the last action")
    noop_max: int = Field(30, ge=0, description="most no-op frames at the start of an episode")
    frame_skip: int = Field(4, ge=1)
    max_frames: int = Field(108_000, ge=1, description="frames after which an episode is cut off")
    emulator_threads: int = Field(1, ge=1)


class EvaluationSettings(Settings):
    """Greedy roll-outs on boards that no dataset holds."""

    every_updates: int = Field(ge=1)
    episodes_per_task: int = Field(20, ge=1)
    epsilon: float = Field(6.5e-4, ge=0, le=1)
    retrieval_batches: int = Field(4, ge=1, description="retrieval batches per task; its episodes are spread over them")
    board_seed: int = Field(
        10_000_019, ge=0, description="evaluation boards are drawn from this seed and the run's own"
    )


class DatasetSettings(Settings):
    """One dataset per task of an environment, all made alike."""

    source: DatasetSource
    tasks: list[str] | Literal["all"] = "all"
    seed: int = Field(0, ge=0)
    episodes: int | None = Field(None, ge=1, description="sources planner and bot: episodes per task")
    noise_percent: list[Percent] = Field(
        [0, 10, 25, 50, 100], description="sources planner and bot: one of these per episode"
    )
    environment_steps: int | None = Field(None, ge=1, description="sources dqn and rdqn: steps per task")

    @model_validator(mode="after")
    def _size(self) -> DatasetSettings:
        if self.size is None:
            raise ValueError(f"source {self.source!r} needs {SIZE_KEYS[self.source]!r}")
        return self

    @property
    def size(self) -> int:
        """Per task, in episodes or in environment steps, whichever the source counts."""
        return getattr(self, SIZE_KEYS[self.source])


class RunSettings(Settings):
    """Everything that decides one run."""

    experiment: str
    environment: Environment
    task_set: str = Field(description="its name, as in paths")
    tasks: list[str] = Field(description="the names of the tasks that are learned")
    held_out: Annotated[list[str], AfterValidator(_once)] = Field(
        [], description="tasks that are not learned, but tried in the end with their datasets to retrieve from"
    )
    variant: str
    seed: int = Field(ge=0)
    source: Source
    episodes: int | None = Field(None, ge=1, description="of each dataset the first so many; null: all")
    updates: int = Field(ge=1)
    log_every: int = Field(100, ge=1)
    checkpoint_seconds: float = Field(30.0, gt=0)
    threads: int = Field(1, ge=1, description="CPU threads of one run; more runs side by side use the cores better")
    tensorboard: bool = True
    agent: AgentSettings
    learning: LearningSettings
    evaluation: EvaluationSettings
    online: OnlineSettings | None = Field(None, description="on Atari")
    episodic: EpisodicSettings | None = Field(None, description="of the agents mfec and nec")

    @model_validator(mode="after")
    def _agent_fits_environment(self) -> RunSettings:
        agent, environment = self.agent, self.environment
        if agent.core not in CORES[environment]:
            needed = " or ".join(map(repr, CORES[environment]))
            raise ValueError(f"agent.core = {agent.core!r}: {environment} needs {needed}")
        if agent.encoder not in ENCODERS[environment]:
            raise ValueError(f"agent.encoder = {agent.encoder!r} does not read the observations of {environment}")
        allowed = {"gridroboman": ("own", "random", "none"), "atari": ("own", "none")}.get(environment)
        if allowed and agent.retrieval.source not in allowed:
            raise ValueError(
                f"agent.retrieval.source = {agent.retrieval.source!r} is not for {environment}: "
                f"use {' or '.join(map(repr, allowed[:-1]))}"
            )
        if agent.kind == "oracle" and environment != "gridroboman":
            raise ValueError("agent.kind = 'oracle' is for gridroboman alone")
        return self

    @model_validator(mode="after")
    def _variants_fit(self) -> RunSettings:
        agent, retrieval = self.agent, self.agent.retrieval
        if (agent.kind in EPISODIC) != (self.episodic is not None):
            needs = "needs" if agent.kind in EPISODIC else "has no use for"
            raise ValueError(f"episodic: agent.kind = {agent.kind!r} {needs} these settings")
        if agent.kind in EPISODIC and self.environment == "babyai":
            raise ValueError(f"agent.kind = {agent.kind!r} is for gridroboman and atari")
        if agent.kind in EPISODIC and agent.core != "none":
            raise ValueError(f"agent.core = {agent.core!r}: episodic control has none")
        if agent.kind == "nec" and self.episodic.d_key is None:
            raise ValueError("episodic.d_key: nec needs a width of keys")
        if agent.task == "query" and not self.retrieves_by_task:
            raise ValueError("agent.task = 'query' is for gridroboman's agents that retrieve, whose queries it reaches")
        if (retrieval.propose == "index") != (retrieval.index is not None):
            raise ValueError("agent.retrieval.index: belongs to propose = 'index', which needs it")
        if (retrieval.pool or retrieval.index) and not self.retrieves_by_task:
            raise ValueError("agent.retrieval.pool and index are for gridroboman's agents that retrieve")
        if (retrieval.index or retrieval.relevance) and not retrieval.pool:
            raise ValueError("agent.retrieval.index and relevance need a pool, of which they are")
        if retrieval.pool and (retrieval.source != "own" or not retrieval.fresh or self.held_out):
            raise ValueError("agent.retrieval.pool goes with source = 'own', fresh = true and no held_out tasks")
        if retrieval.pool and retrieval.n_traj > retrieval.pool.trajectories:
            raise ValueError(f"agent.retrieval.pool.trajectories must be n_traj = {retrieval.n_traj} at least")
        if retrieval.index and agent.task == "observed":
            raise ValueError("agent.retrieval.index: keys serve all tasks, so agent.task must be 'hidden' or 'query'")
        if retrieval.first_updates and not (agent.retrieves and self.environment == "gridroboman"):
            raise ValueError("agent.retrieval.first_updates is for gridroboman's agents that retrieve")
        if retrieval.first_updates >= self.updates:
            raise ValueError(f"agent.retrieval.first_updates must be less than updates = {self.updates}")
        if self.learning.masking.weight and agent.kind in EPISODIC:
            raise ValueError("learning.masking is not for episodic control")
        if self.held_out and (self.environment != "gridroboman" or agent.task == "observed" or agent.kind == "oracle"):
            raise ValueError("held_out is for gridroboman's agents from which the task is hidden")
        for task in self.held_out:
            if task in self.tasks:
                raise ValueError(f"held_out: {task!r} is among the tasks that are learned")
        return self

    @property
    def retrieves_by_task(self) -> bool:
        """Whether each task of a learner batch has a retrieval batch of its own, from boards whose task is hidden."""
        return self.environment == "gridroboman" and self.agent.retrieves

    @model_validator(mode="after")
    def _online_fits_environment(self) -> RunSettings:
        plays = self.environment in ONLINE
        if plays != (self.online is not None):
            raise ValueError(f"online: {self.environment} {'needs' if plays else 'has no use for'} these settings")
        if plays != (self.source == "replay"):
            raise ValueError(
                f"source = {self.source!r}: {self.environment} learns from {'' if plays else 'no '}'replay'"
            )
        if not plays:
            for key, neutral in (("targets", "n-step"), ("rescale_epsilon", None)):
                if getattr(self.learning, key) != neutral:
                    raise ValueError(
                        f"learning.{key} is for agents that learn while they play, not for {self.environment}"
                    )
            return self
        learning, online, retrieval = self.learning, self.online, self.agent.retrieval
        if len(self.tasks) != 1:
            raise ValueError(f"tasks: an agent of {self.environment} plays one game, not {len(self.tasks)}")
        if self.episodes is not None:
            raise ValueError(
                f"episodes: {self.environment} learns from no dataset of which it could use the first ones"
            )
        if learning.conservative > 0:
            raise ValueError("learning.conservative is for agents that learn from datasets")
        if learning.burn_in >= learning.sequence_steps:
            raise ValueError(f"learning.burn_in = {learning.burn_in} leaves nothing of sequence_steps to learn from")
        if online.period_steps > learning.sequence_steps - learning.burn_in:
            raise ValueError("online.period_steps cannot exceed learning.sequence_steps - learning.burn_in")
        if online.start_sequences > online.capacity_sequences:
            raise ValueError("online.start_sequences cannot exceed online.capacity_sequences")
        if self.least_sequences > online.capacity_sequences:
            raise ValueError(
                f"online.capacity_sequences = {online.capacity_sequences}: a learner step that retrieves needs "
                f"{self.least_sequences} sequences, so that those retrieved overlap with none that is learned from"
            )
        if self.agent.kind == "ra-dqn":
            if retrieval.select_by == "return":
                raise ValueError("agent.retrieval.select_by = 'return' is not for atari: use 'attention' or 'none'")
            if not retrieval.fresh:
                raise ValueError("agent.retrieval.fresh = false is not for atari, whose replay changes all the time")
        return self

    @property
    def plays(self) -> bool:
        """Whether the agent learns while it plays, from no dataset.

        On Gridroboman the datasets of such a run are there for their expert's return, by which its own is divided.
        """
        return self.environment in ONLINE or self.agent.kind in EPISODIC

    @property
    def least_sequences(self) -> int:
        """Online agents: sequences in the replay before learning begins.

        A retrieval batch must be there that does not overlap with what is learned from: a sequence overlaps with
        sequence_steps // period_steps others on either side at most.
        """
        online, learning, retrieval = self.online, self.learning, self.agent.retrieval
        if not self.agent.retrieves or online.keep_apart == "episodes":
            return online.start_sequences
        neighbours = 2 * (learning.sequence_steps // online.period_steps) + 1
        return max(online.start_sequences, learning.batch_sequences * neighbours + retrieval.n_traj)


# --- files ------------------------------------------------------------------------------------------------------------


class ExperimentSettings(Settings):
    """config/experiments/{name}.yaml."""

    environment: Environment
    title: str
    extends: Annotated[str | None, Names] = Field(
        None,
        description="the experiment whose base, and whose settings at a scale, come before these; not its variants",
    )
    base_variant: str | None = Field(
        None,
        description="what the costs of all variants are compared with: one of these or, where the experiment extends "
        "another, one of that; null: the first",
    )
    base: dict[str, Any] = Field(description="run settings that all variants share")
    variants: Annotated[dict[str, dict[str, Any]], Names] = Field(description="what each variant changes")


class TaskSetSettings(Settings):
    """A task set of an experiment at a scale."""

    tasks: int | Literal["all"] | Annotated[list[str], AfterValidator(_once)] | None = Field(
        None, description="names of tasks, or all; on Gridroboman also the size of a set (default: the set's own name)"
    )
    variants: Variants
    settings: dict[str, Any] = {}
    probes: Variants = Field([], description="variants whose final checkpoints are looked into")


class IndexCostSettings(Settings):
    """Against how many states the cost of an index is measured, on drawn keys."""

    states: list[Annotated[int, Field(ge=1)]] = Field(min_length=1, description="numbers of keys")
    kinds: list[Literal["exact", "ivf", "hnsw"]] = Field(["exact", "ivf", "hnsw"], min_length=1)
    most_states: dict[Literal["exact", "ivf", "hnsw"], int] = Field({}, description="by kind, where it ends")
    candidates: int = Field(64, ge=10, description="keys found for each query")


class ScaleExperimentSettings(Settings):
    """An experiment at a scale."""

    settings: dict[str, Any] = {}
    variant_settings: dict[str, dict[str, Any]] = Field({}, description="by variant, over everything else")
    seeds: Seeds | None = Field(None, description="null: the scale's")
    task_sets: Annotated[dict[int | str, TaskSetSettings], Names]
    index_cost: IndexCostSettings | None = Field(
        None,
        description="searching keys, against their number; one experiment of a scale may have it",
    )


class CostSettings(Settings):
    """How long costs are measured."""

    seconds_per_variant: float = Field(
        2.0, gt=0, description="of learner steps, acting and reading; a slow variant has a few of each in any case"
    )
    experiments: list[str] | None = Field(None, description="whose variants are measured; null: those of all")


class ScaleSettings(Settings):
    """config/{scale}.yaml."""

    description: str = Field(description="one sentence for the report's first lines")
    judges: bool = Field(description="whether results at this scale may carry a verdict")
    about_core_minutes: float = Field(gt=0, description="measured cost of `all` on one core of a common machine")
    seeds: Seeds
    costs: CostSettings = CostSettings()
    datasets: dict[Literal["gridroboman", "babyai"], list[DatasetSettings]]
    experiments: Annotated[dict[str, ScaleExperimentSettings], Names]


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models in an annotation, whatever lists, mappings and unions are around them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models(argument)]


def keys_of(model: type[BaseModel], location: tuple) -> list[str]:
    """The keys that are allowed in the place of the last part of `location`, such as ("learning", "discount")."""
    models = [model]
    for part in location[:-1]:
        named = [m.model_fields[part].annotation for m in models if part in m.model_fields]
        if named:  # else an index or a free key, which leads to no other model
            models = [inner for annotation in named for inner in _models(annotation)]
    return [key for m in models for key in m.model_fields]


def validate(model: type[Settings], value: Any, where: str) -> Any:
    """Build `model` from plain data; the first fault becomes one line that names the key and what would be right."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        context = first.get("ctx", {})
        key = ".".join(map(str, (*first["loc"], *context.get("place", ())))) or "the file"
        if first["type"] == "extra_forbidden":
            known = keys_of(model, first["loc"])
            raise RarlError(f"{where}: unknown key {key!r}; {did_you_mean(str(first['loc'][-1]), known)}") from None
        if first["type"] == "missing":
            raise RarlError(f"{where}: key {key!r} is missing") from None
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "literal_error" and isinstance(first["input"], str):
            message += _meant(first["input"], context["expected"])
        got = context.get("got", first["input"])
        hint = _number_hint(got)
        raise RarlError(f"{where}: {key}: {message[0].lower() + message[1:]}, got {got!r:.80}{hint}") from None


def _meant(name: str, expected: str) -> str:
    """The close ones of the names that pydantic expects, as it writes them: "'a', 'b' or 'c'"."""
    hint = did_you_mean(name, re.findall(r"'([^']*)'", expected))
    return f" ({hint})" if hint.startswith("did you mean") else ""


def _number_hint(value: Any) -> str:
    """YAML 1.1 reads 3e-4 as text, which nobody expects."""
    try:
        number = float(value) if isinstance(value, str) and "e" in value.lower() else None
    except ValueError:
        number = None
    return "" if number is None else f" (YAML reads this as text; write {number:f}".rstrip("0") + ")"


def merge(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values of `change` in place of its own, mapping by mapping."""
    merged = dict(base)
    for key, value in change.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def _essence(settings: Settings, neutral: Mapping[str, Any]) -> dict[str, Any]:
    """What a digest is of: all values that are not their key's default.

    So a new key leaves the digests of what does not set it alone. Who changes what a default means changes results
    behind the digests' back: give the key a new name instead.
    """
    return settings.model_dump(exclude=neutral, exclude_defaults=True)


def task_set_name(key: int | str) -> str:
    """The name of a task set in paths: 30 -> "30-tasks"."""
    return f"{key}-tasks" if isinstance(key, int) else key


class Run:
    """One planned run: its place and its settings."""

    def __init__(self, scale: str, settings: RunSettings):
        self.scale, self.settings = scale, settings

    @property
    def id(self) -> str:
        """For example "gridroboman/30-tasks/ra-dqn-hidden/seed-0"."""
        s = self.settings
        return f"{s.experiment}/{s.task_set}/{s.variant}/seed-{s.seed}"

    @cached_property
    def digest(self) -> str:
        """12 hex digits that change with every setting that can change the result."""
        return digest(_essence(self.settings, WITHOUT_EFFECT))

    @property
    def retrieves(self) -> bool:
        """Whether its agent reads a retrieval batch."""
        return self.settings.agent.retrieves

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks that it learns."""
        return self.settings.tasks


class Dataset:
    """One planned dataset: a task's trajectories from a source."""

    def __init__(self, environment: str, task: str, settings: DatasetSettings):
        self.environment, self.task, self.settings = environment, task, settings

    @property
    def id(self) -> str:
        """For example "gridroboman/planner/lift-red"."""
        return f"{self.environment}/{self.settings.source}/{slug(self.task)}"

    @cached_property
    def digest(self) -> str:
        return digest(_essence(self.settings, {"tasks": True}))


class Scale:
    """A scale with its experiments, read and validated from `root`/config.

    Args:
      name: one of `SCALES`, or of any file config/{name}.yaml.
      root: the project's folder.
    """

    def __init__(self, name: str, root: str | Path = "."):
        self.name, self.root = check_name(name, "scale"), Path(root)
        path = self.root / "config" / f"{name}.yaml"
        if not path.is_file() or name in _NO_SCALES:
            present = sorted(p.stem for p in path.parent.glob("*.yaml") if p.stem not in _NO_SCALES)
            raise RarlError(f"{path}: no such scale; {did_you_mean(name, present)}")
        self.settings: ScaleSettings = validate(ScaleSettings, read_yaml(path), str(path))
        self._path = path
        self.experiments: dict[str, ExperimentSettings] = {}
        for experiment in self.settings.experiments:
            file = self.root / "config" / "experiments" / f"{experiment}.yaml"
            if not file.is_file():
                present = sorted(p.stem for p in file.parent.glob("*.yaml"))
                raise RarlError(
                    f"{path}: experiments: unknown experiment {experiment!r}; {did_you_mean(experiment, present)}"
                )
            self.experiments[experiment] = validate(ExperimentSettings, read_yaml(file), str(file))
        for name, experiment in self.experiments.items():
            if experiment.extends is not None:
                self._check_extends(name, experiment)
            self._check_base_variant(name, experiment)
        self.runs: dict[str, Run] = {}
        for run in self._runs():
            if run.id in self.runs:
                raise RarlError(f"{path}: experiments.{run.settings.experiment}.task_sets: {run.id} is planned twice")
            self.runs[run.id] = run
        self.datasets: dict[str, Dataset] = {}
        for dataset in self._datasets():
            if dataset.id in self.datasets:
                raise RarlError(f"{path}: datasets.{dataset.environment}: {dataset.id} is made twice")
            self.datasets[dataset.id] = dataset
        self._check_datasets()

    def _check_extends(self, name: str, experiment: ExperimentSettings) -> None:
        """That the experiment that another extends is there, of the same environment, and extends none itself."""
        where = f"config/experiments/{name}.yaml: extends"
        other = self.experiments.get(experiment.extends)
        if other is None:
            hint = did_you_mean(experiment.extends, [e for e in self.experiments if e != name])
            raise RarlError(f"{where}: {self._path} has no experiment {experiment.extends!r}; {hint}")
        if other.extends is not None:
            raise RarlError(f"{where}: {experiment.extends!r} itself extends {other.extends!r}; name that one")
        if other.environment != experiment.environment:
            raise RarlError(f"{where}: {experiment.extends!r} is of {other.environment}, not {experiment.environment}")

    def _check_base_variant(self, name: str, experiment: ExperimentSettings) -> None:
        """That there is such a variant, here or in the experiment that this one extends."""
        known = [*experiment.variants, *(self.experiments[experiment.extends].variants if experiment.extends else ())]
        if not known:
            raise RarlError(f"config/experiments/{name}.yaml: variants: there is none")
        wanted = experiment.base_variant
        if wanted is not None and wanted not in known:
            where = f"config/experiments/{name}.yaml: base_variant"
            raise RarlError(f"{where}: unknown variant {wanted!r}; {did_you_mean(wanted, known)}")

    def _base(self, experiment: str) -> dict[str, Any]:
        """The settings that all runs of an experiment share at this scale."""
        settings = self.experiments[experiment]
        base = self._base(settings.extends) if settings.extends is not None else {}
        return merge(merge(base, settings.base), self.settings.experiments[experiment].settings)

    def _runs(self) -> Iterator[Run]:
        for name, at_scale in self.settings.experiments.items():
            experiment = self.experiments[name]
            for listed in at_scale.variant_settings:
                if listed not in experiment.variants:
                    raise RarlError(
                        f"{self._path}: experiments.{name}.variant_settings: unknown variant {listed!r}; "
                        f"{did_you_mean(listed, experiment.variants)}"
                    )
            for size, chosen in at_scale.task_sets.items():
                where = f"{self._path}: experiments.{name}.task_sets.{size}"
                for listed in (*chosen.variants, *chosen.probes):
                    if listed not in experiment.variants:
                        raise RarlError(
                            f"{where}: unknown variant {listed!r}; {did_you_mean(listed, experiment.variants)}"
                        )
                for variant in chosen.variants:
                    for seed in at_scale.seeds or self.settings.seeds:
                        yield self.run(name, size, variant, seed)
                for listed in chosen.probes:
                    if listed not in chosen.variants:
                        raise RarlError(f"{where}: probes: variant {listed!r} is not among the task set's variants")
                    if self.run(name, size, listed, 0).settings.agent.kind in EPISODIC:
                        raise RarlError(f"{where}: probes: variant {listed!r} is episodic control, which has no probe")
                    # On BabyAI the episodes of agents without retrieval are looked at, too.
                    if experiment.environment == "gridroboman" and not self.run(name, size, listed, 0).retrieves:
                        raise RarlError(f"{where}: probes: variant {listed!r} retrieves nothing to look into")

    def run(
        self, experiment: str, task_set: int | str, variant: str, seed: int, changes: Mapping[str, Any] | None = None
    ) -> Run:
        """The run of these coordinates, planned or not; `changes` go over everything else (used in the search)."""
        settings, at_scale = self.experiments[experiment], self.settings.experiments[experiment]
        chosen = at_scale.task_sets.get(task_set)
        place = f"{self._path}: experiments.{experiment}.task_sets.{task_set}"
        tasks = chosen.tasks if chosen else None
        if tasks is None:
            if not isinstance(task_set, int):
                raise RarlError(f"{place}: a set that is not named by its size needs the key 'tasks'")
            tasks = task_set
        value = merge(self._base(experiment), chosen.settings if chosen else {})
        value = merge(merge(value, settings.variants[variant]), at_scale.variant_settings.get(variant, {}))
        value = merge(value, changes or {})
        value |= {
            "experiment": experiment,
            "environment": settings.environment,
            "task_set": task_set_name(task_set),
            "tasks": tasks_of_set(settings.environment, tasks, place),
            "variant": variant,
            "seed": seed,
        }
        where = f"config/experiments/{experiment}.yaml with config/{self.name}.yaml, variant {variant!r}"
        return Run(self.name, validate(RunSettings, value, where))

    def _datasets(self) -> Iterator[Dataset]:
        for environment, kinds in self.settings.datasets.items():
            known = TASK_NAMES[environment]
            for i, kind in enumerate(kinds):
                if kind.source not in SOURCES[environment]:
                    sources = " or ".join(map(repr, SOURCES[environment]))
                    raise RarlError(
                        f"{self._path}: datasets.{environment}.{i}.source: must be {sources}, got {kind.source!r}"
                    )
                for task in known if kind.tasks == "all" else kind.tasks:
                    if task not in known:
                        raise RarlError(
                            f"{self._path}: datasets.{environment}: unknown task {task!r}; {did_you_mean(task, known)}"
                        )
                    yield Dataset(environment, task, kind)

    def _check_datasets(self) -> None:
        for run in self.runs.values():
            pool = run.settings.agent.retrieval.pool if run.retrieves else None
            needed = max(pool.needs(len(run.tasks))) if pool else 0
            for dataset in self.datasets_of(run):
                if dataset not in self.datasets:
                    raise RarlError(
                        f"{self._path}: run {run.id} needs dataset {dataset}, which `datasets` does not make"
                    )
                made, used = self.datasets[dataset].settings.episodes, run.settings.episodes
                if made is not None and used is not None and used > made:
                    raise RarlError(
                        f"{self._path}: run {run.id} uses {used} episodes of {dataset}, which has {made} episodes"
                    )
                there, n_traj = used or made, run.settings.agent.retrieval.n_traj
                if run.retrieves and there is not None and n_traj > there:
                    raise RarlError(
                        f"{self._path}: run {run.id} draws n_traj = {n_traj} trajectories from {dataset}, "
                        f"which has {there} episodes"
                    )
                if there is not None and needed > there:
                    raise RarlError(
                        f"{self._path}: run {run.id}: agent.retrieval.pool takes {needed} trajectories of {dataset}, "
                        f"which has {there} episodes"
                    )

    def datasets_of(self, run: Run) -> list[str]:
        """Ids of the datasets that a run learns from, in the order of its tasks; then those of the held-out tasks."""
        s = run.settings
        if s.environment in ONLINE:
            return []
        return [f"{s.environment}/{s.source}/{slug(task)}" for task in (*run.tasks, *s.held_out)]

    def largest_task_set(self, experiment: str) -> int | str | None:
        """The last of an experiment's task sets: they are written smallest first. None if it has none."""
        return next(reversed(self.settings.experiments[experiment].task_sets), None)

    def base_variant(self, experiment: str) -> tuple[str, str]:
        """(experiment, variant) that the costs of an experiment's variants are compared with.

        It is the experiment's own or, where it has no variant of that name, the one that it extends.
        """
        settings = self.experiments[experiment]
        name = settings.base_variant or next(iter(settings.variants or self.experiments[settings.extends].variants))
        return (experiment if name in settings.variants else settings.extends), name

    def cost_runs(self) -> dict[str, dict[str, Run]]:
        """The runs whose costs are measured, on a tuning seed: experiment -> variant -> run.

        They are the variants of each experiment's largest task set. The base variant comes first if it is not among
        them; that of another experiment has the settings that it has there, on the tasks of this one.
        """
        found: dict[str, dict[str, Run]] = {}
        experiments = self.settings.experiments
        measured = experiments if self.settings.costs.experiments is None else self.settings.costs.experiments
        for name in measured:
            if name not in experiments:
                raise RarlError(f"{self._path}: costs.experiments: {name!r}; {did_you_mean(name, experiments)}")
            at_scale = experiments[name]
            key = self.largest_task_set(name)
            if key is None or not at_scale.task_sets[key].variants:
                continue
            runs = {
                variant: self.run(name, key, variant, TUNING_SEEDS_FROM) for variant in at_scale.task_sets[key].variants
            }
            home, base = self.base_variant(name)
            if base not in runs:
                runs = {base: self._base_run(name, key, home, base)} | runs
            found[name] = runs
        return found

    def _base_run(self, experiment: str, task_set: int | str, home: str, variant: str) -> Run:
        """The run of a base variant of experiment `home` on a task set of `experiment`."""
        if home == experiment:
            return self.run(home, task_set, variant, TUNING_SEEDS_FROM)
        there = task_set if task_set in self.settings.experiments[home].task_sets else self.largest_task_set(home)
        if there is None:
            raise RarlError(
                f"{self._path}: experiments.{home}.task_sets: none, but {variant!r} is the base of {experiment}"
            )
        run = self.run(home, there, variant, TUNING_SEEDS_FROM)
        chosen = self.settings.experiments[experiment].task_sets[task_set].variants[0]
        tasks = self.run(experiment, task_set, chosen, TUNING_SEEDS_FROM).tasks
        return Run(self.name, run.settings.model_copy(update={"tasks": tasks, "held_out": []}))

    def probes(self) -> list[str]:
        """Ids of the runs whose checkpoints are looked into."""
        wanted = {
            (name, task_set_name(key), variant)
            for name, at_scale in self.settings.experiments.items()
            for key, chosen in at_scale.task_sets.items()
            for variant in chosen.probes
        }
        return [
            run.id
            for run in self.runs.values()
            if (run.settings.experiment, run.settings.task_set, run.settings.variant) in wanted
        ]

    def find_run(self, run_id: str) -> Run:
        """The planned run of this id; an unknown one is an error with the close ones."""
        if run_id not in self.runs:
            raise RarlError(f"scale {self.name!r} has no run {run_id!r}; {did_you_mean(run_id, self.runs)}")
        return self.runs[run_id]

    def find_dataset(self, dataset_id: str) -> Dataset:
        """The planned dataset of this id; an unknown one is an error with the close ones."""
        if dataset_id not in self.datasets:
            raise RarlError(
                f"scale {self.name!r} has no dataset {dataset_id!r}; {did_you_mean(dataset_id, self.datasets)}"
            )
        return self.datasets[dataset_id]


def default_scale(root: str | Path = ".") -> str:
    """The scale named in config/config.yaml."""
    path = Path(root) / "config" / "config.yaml"
    value = read_yaml(path)
    if not isinstance(value, Mapping) or set(value) != {"scale"}:
        raise RarlError(f"{path}: must hold one key, 'scale'")
    if not isinstance(value["scale"], str):
        raise RarlError(f"{path}: scale: must be a name such as 'laptop', got {value['scale']!r}")
    return value["scale"]
