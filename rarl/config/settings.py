"""The settings of one run and of one dataset. Data, and whether they fit together; nothing is computed here."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from rarl.config.validate import Settings, once
from rarl.errors import required
from rarl.nn.decays import DECAYS

TUNING_SEEDS = range(100, 1000)  # settings are tried on these; runs that are reported have others
EXECUTION_ONLY = {  # settings of a run that change how it is carried out, and not what comes out
    "checkpoint_seconds": True,
    "tensorboard": True,
    "cuda_graph": True,
    "online": {"overlap": True},
}

EPISODIC = ("mfec", "nec")  # agents that learn while they play, from their own episodes


class PoolSettings(Settings):
    """Retrieval datasets mixed from the task's own trajectories, which are relevant, and those of all others."""

    trajectories: int = Field(4000, ge=1, description="in the dataset of each task, own and others' together")
    relevant: Annotated[list[Annotated[float, Field(gt=0, le=1)]], AfterValidator(once)] = Field(
        [1.0], min_length=1, description="shares of own trajectories; a retrieval batch is of one of them, by chance"
    )


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
    process: Literal["none", "slots", "direct", "oracle"] = Field(
        "none",
        description="none: the base agent; slots: Algorithm 1; direct: the state asks, and what is read is added to "
        "it, without slots (A-1); oracle: the control in which a learned task embedding takes the place of u",
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
    k_states: int | None = Field(10, ge=1, description="states kept by attention; null: all, nothing is selected")
    step_stride: int = Field(1, ge=1, description="every how many steps a retrieved trajectory is looked at")
    trajectory_steps: int | None = Field(
        None, ge=1, description="of each trajectory so many steps in a row, from a random one on (A-3); null: all"
    )
    keep_apart: Literal["episodes", "none"] = Field(
        "episodes",
        description="episodes: while learning, no state reads a trajectory of its own episode, which holds its future; "
        "none: it may (windows of a replay that overlap with those learned from are left out in any case)",
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
        None,
        ge=0,
        description="so many of the n_traj train the encoder, 0: none; null: all, at three times the encoder's cost",
    )
    target_reads: Literal["target", "online"] = Field(
        "target", description="whose summaries the target network reads; online saves work, but values may run away"
    )
    relevance: float = Field(
        0.0,
        ge=0,
        description="pool: weight of the loss by which a query scores its task's trajectories over the others",
    )
    contrastive: float = Field(
        0.0,
        ge=0,
        description="weight of the loss by which z, read from one half of a retrieval batch, is to be found by what "
        "the other half gives, among those of other tasks (ours)",
    )
    contrastive_temperature: float = Field(0.1, gt=0, description="of the cosines in that loss")
    bottleneck: float = Field(0.3, ge=0, description="beta, weight of KL(p || r); 0: no price")
    kl: Literal["sum", "mean"] = Field(
        "sum",
        description="over slots and dimensions: the paper's sum, or the mean, with which beta weighs the same whatever "
        "n_f and d_m are",
    )
    draw_z: bool = Field(True, description="z is drawn while learning; false: its mean, as when acting")
    sigma: float = Field(
        0.1,
        ge=0.01,
        le=1,
        description="standard deviation of z's posterior and prior before learning; at 1 noise hides what is read for "
        "hundreds of updates, whatever beta is",
    )
    draw_slots: bool = Field(True, description="m_0 is drawn at each episode's start while learning; false: its mean")
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
    """What acts: how it learns values (base), what carries the past (core), and whether and how it retrieves."""

    base: Literal["dqn", "mfec", "nec"] = Field("dqn", description="how values are learned")
    task: Literal["hidden", "observed", "query"] = Field(
        description="whether the task id is part of the observation; query: it is told to the query alone"
    )
    core: Literal["none", "gru"] = Field(
        "none", description="what carries the past: nothing, or a GRU of width d_s (and slots through time)"
    )
    encoder: str = Field("", description="one of the environment's; without: its first")
    encoder_options: dict[str, Any] = Field({}, description="of that encoder, as the environment describes them")
    d_s: int = Field(256, ge=1, description="width of the agent's state")
    values: str = Field(
        "expected",
        description="what is learned of a state and an action: the expected return, or by a head of your own, "
        "module:Class or file.py:Class",
    )
    dueling: bool = Field(False, description="Q = V + A - mean A in the head")
    fusion: Literal["film", "gru", "add"] = "film"
    retrieval: RetrievalSettings = RetrievalSettings()

    @property
    def retrieves(self) -> bool:
        """Whether it reads a retrieval batch."""
        return self.with_retrieval and self.retrieval.source != "none"

    @property
    def with_retrieval(self) -> bool:
        """Whether it has a retrieval process, though there may be nothing to read."""
        return self.retrieval.process in ("slots", "direct")


class MaskingSettings(Settings):
    """BERT-style prediction of masked states' tokens (A-4, A-5); the tokens are those of a VQ-VAE."""

    weight: float = Field(0.0, ge=0, description="of the loss; 0: none")
    trajectories: int = Field(
        64, ge=1, description="per learner step, over its tasks; online no more than are learned from"
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
    episodes_per_update: int = Field(
        1, ge=1, description="of each task, in one update; where episodes all have one length"
    )
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
    """Playing and replay of agents that learn while they play."""

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
    compression: int = Field(1, ge=0, le=9, description="of frames in the replay, zlib's level; 0: none")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="of the encoder's convolutions in a learner step"
    )


class EvaluationSettings(Settings):
    """Greedy roll-outs from starts that no dataset holds."""

    every_updates: int = Field(ge=1)
    episodes_per_task: int = Field(20, ge=1)
    epsilon: float = Field(6.5e-4, ge=0, le=1)
    retrieval_batches: int = Field(4, ge=1, description="retrieval batches per task; its episodes are spread over them")
    board_seed: int = Field(
        10_000_019, ge=0, description="evaluation's starts are drawn from this seed and the run's own"
    )


class DatasetSettings(Settings):
    """One dataset per task of an environment, all made alike."""

    source: str = Field(description="one of the environment's")
    tasks: list[str] | Literal["all"] = "all"
    seed: int = Field(0, ge=0)
    episodes: int | None = Field(None, ge=1, description="per task, of a source that counts in episodes")
    environment_steps: int | None = Field(None, ge=1, description="per task, of a source that counts in steps")
    options: dict[str, Any] = Field({}, description="of the source, as the environment describes them")

    @property
    def size(self) -> int:
        """Per task, in episodes or in environment steps, whichever the source counts."""
        return required(self.episodes or self.environment_steps, "episodes or environment_steps")


class RunSettings(Settings):
    """Everything that decides one run."""

    experiment: str
    environment: str = Field(description="its name, or module:SPEC or file.py:SPEC")
    environment_options: dict[str, Any] = Field({}, description="how it is played, as it describes them")
    task_set: str = Field(description="its name, as in paths")
    tasks: list[str] = Field(description="the names of the tasks that are learned")
    held_out: Annotated[list[str], AfterValidator(once)] = Field(
        [], description="tasks that are not learned, but tried in the end with their datasets to retrieve from"
    )
    variant: str
    seed: int = Field(ge=0)
    source: str = Field(description="of the datasets, one of the environment's; replay: the agent's own play")
    episodes: int | None = Field(None, ge=1, description="of each dataset so many, each seed its own draw; null: all")
    updates: int = Field(ge=1)
    log_every: int = Field(100, ge=1)
    checkpoint_seconds: float = Field(30.0, gt=0)
    threads: int = Field(1, ge=1, description="CPU threads of one run; more runs side by side use the cores better")
    tensorboard: bool = True
    cuda_graph: Literal["auto", "off"] = Field(
        "off", description="on a GPU: auto: a learner step is one CUDA graph, where it can be; not tried on one yet"
    )
    agent: AgentSettings
    learning: LearningSettings
    evaluation: EvaluationSettings
    online: OnlineSettings | None = Field(None, description="of agents that learn while they play")
    episodic: EpisodicSettings | None = Field(None, description="of the agents mfec and nec")

    @model_validator(mode="after")
    def _variants_fit(self) -> RunSettings:
        agent, retrieval = self.agent, self.agent.retrieval
        if (agent.base in EPISODIC) != (self.episodic is not None):
            needs = "needs" if agent.base in EPISODIC else "has no use for"
            raise ValueError(f"episodic: agent.base = {agent.base!r} {needs} these settings")
        for key, value in (("core", agent.core), ("retrieval.process", retrieval.process)):
            if agent.base in EPISODIC and value != "none":
                raise ValueError(f"agent.{key} = {value!r}: episodic control has none")
        if agent.base == "nec" and self.episodic is not None and self.episodic.d_key is None:
            raise ValueError("episodic.d_key: nec needs a width of keys")
        by_task = "agents that retrieve, have no core, and learn from datasets"
        if agent.task == "query" and not self.retrieves_by_task:
            raise ValueError(f"agent.task = 'query' is for {by_task}: it reaches their queries")
        if (retrieval.propose == "index") != (retrieval.index is not None):
            raise ValueError("agent.retrieval.index: belongs to propose = 'index', which needs it")
        if (retrieval.pool or retrieval.index) and not self.retrieves_by_task:
            raise ValueError(f"agent.retrieval.pool and index are for {by_task}")
        if (retrieval.index or retrieval.relevance) and not retrieval.pool:
            raise ValueError("agent.retrieval.index and relevance need a pool, of which they are")
        if retrieval.contrastive and (self.online is not None or not agent.retrieves or retrieval.source != "own"):
            raise ValueError(
                "agent.retrieval.contrastive tells apart what is retrieved of several tasks: for agents that learn "
                "from datasets and retrieve, with source = 'own'"
            )
        if retrieval.contrastive and (len(self.tasks) < 2 or retrieval.first_updates):
            raise ValueError("agent.retrieval.contrastive needs two tasks at least, and no first_updates")
        if retrieval.pool and (retrieval.source != "own" or not retrieval.fresh or self.held_out):
            raise ValueError("agent.retrieval.pool goes with source = 'own', fresh = true and no held_out tasks")
        if retrieval.pool and retrieval.n_traj > retrieval.pool.trajectories:
            raise ValueError(f"agent.retrieval.pool.trajectories must be n_traj = {retrieval.n_traj} at least")
        if retrieval.index and agent.task == "observed":
            raise ValueError("agent.retrieval.index: keys serve all tasks, so agent.task must be 'hidden' or 'query'")
        if retrieval.first_updates and not self.retrieves_by_task:
            raise ValueError(f"agent.retrieval.first_updates is for {by_task}")
        if retrieval.first_updates >= self.updates:
            raise ValueError(f"agent.retrieval.first_updates must be less than updates = {self.updates}")
        if self.learning.masking.weight and agent.base in EPISODIC:
            raise ValueError("learning.masking is not for episodic control")
        hidden = agent.task != "observed" and agent.retrieval.process != "oracle"
        if self.held_out and (self.online is not None or agent.core != "none" or not hidden):
            raise ValueError(f"held_out is for {by_task}, and from which the task is hidden")
        for task in self.held_out:
            if task in self.tasks:
                raise ValueError(f"held_out: {task!r} is among the tasks that are learned")
        return self

    @property
    def retrieves_by_task(self) -> bool:
        """Whether each task of a learner batch has a retrieval batch of its own, and its states stand by themselves."""
        return self.online is None and self.agent.core == "none" and self.agent.retrieves

    @model_validator(mode="after")
    def _regimes_fit(self) -> RunSettings:
        if (self.online is not None) != (self.source == "replay"):
            raise ValueError(f"source = {self.source!r}: 'replay' goes with the settings `online`, and they with it")
        if self.online is None:
            for key, neutral in (("targets", "n-step"), ("rescale_epsilon", None)):
                if getattr(self.learning, key) != neutral:
                    raise ValueError(f"learning.{key} is for agents that learn while they play")
            if self.agent.core == "none" and self.agent.retrieves and self.agent.retrieval.source == "all":
                raise ValueError(
                    "agent.retrieval.source = 'all' is for agents with a core: single states have a retrieval batch "
                    "for each task, 'own', 'random' or 'none'"
                )
            return self
        learning, online, retrieval = self.learning, self.online, self.agent.retrieval
        if len(self.tasks) != 1:
            raise ValueError(f"tasks: an agent that learns while it plays has one task, not {len(self.tasks)}")
        if self.episodes is not None:
            raise ValueError("episodes: an agent that learns while it plays has no dataset")
        if learning.conservative > 0:
            raise ValueError("learning.conservative is for agents that learn from datasets")
        if learning.burn_in >= learning.sequence_steps:
            raise ValueError(f"learning.burn_in = {learning.burn_in} leaves nothing of sequence_steps to learn from")
        if online.period_steps > learning.sequence_steps - learning.burn_in:
            raise ValueError(
                f"online.period_steps = {online.period_steps}: cannot exceed learning.sequence_steps - learning.burn_in"
                f" = {learning.sequence_steps} - {learning.burn_in}"
            )
        if online.start_sequences > online.capacity_sequences:
            raise ValueError(
                f"online.start_sequences = {online.start_sequences}: cannot exceed online.capacity_sequences = "
                f"{online.capacity_sequences}"
            )
        if self.least_sequences > online.capacity_sequences:
            raise ValueError(
                f"online.capacity_sequences = {online.capacity_sequences}: a learner step that retrieves needs "
                f"{self.least_sequences} sequences, so that those retrieved overlap with none that is learned from"
            )
        if self.agent.with_retrieval:
            if retrieval.source not in ("own", "none"):
                raise ValueError(f"agent.retrieval.source = {retrieval.source!r}: from a replay, 'own' or 'none'")
            if retrieval.select_by == "return":
                raise ValueError("agent.retrieval.select_by = 'return': from a replay, 'attention' or 'none'")
            if not retrieval.fresh:
                raise ValueError("agent.retrieval.fresh = false is not for a replay, which changes all the time")
        return self

    @property
    def plays(self) -> bool:
        """Whether the agent learns while it plays, from no dataset.

        The datasets of such a run, where it has any, are there for their expert's return, by which its own is divided.
        """
        return self.online is not None or self.agent.base in EPISODIC

    @property
    def least_sequences(self) -> int:
        """Online agents: sequences in the replay before learning begins; others: 0.

        A retrieval batch must be there that does not overlap with what is learned from: a sequence overlaps with
        sequence_steps // period_steps others on either side at most.
        """
        online, learning, retrieval = self.online, self.learning, self.agent.retrieval
        if online is None:
            return 0
        if not self.agent.retrieves:
            return online.start_sequences
        neighbours = 2 * (learning.sequence_steps // online.period_steps) + 1
        return max(online.start_sequences, learning.batch_sequences * neighbours + retrieval.n_traj)
