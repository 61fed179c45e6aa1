"""The code that each kind of job depends on: what the workflow and the records of runs call its version.

Imports no torch.
"""

from __future__ import annotations

import functools
from typing import Literal

from rarl.config import EPISODIC, Run
from rarl.provenance import code_digest

# What one environment's jobs never run of another's: dispatch imports by name.
_BABYAI = (
    "rarl.trajectories.babyai",
    "rarl.trajectories.online_rdqn",
    "rarl.training.sequences",
    "rarl.evaluation.levels",
    "rarl.evaluation.level_probe",
    "rarl.envs.babyai.vector",
    "rarl.envs.babyai.generation",
    "rarl.envs.babyai.expert",
)
_GRIDROBOMAN = (
    "rarl.training.transitions",
    "rarl.agents.index",
    "rarl.agents.pools",
    "rarl.evaluation.rollouts",
    "rarl.evaluation.board_probe",
    "rarl.evaluation.relevance_probe",
    "rarl.evaluation.ranking",
)
_GRIDROBOMAN_SOURCES = ("rarl.trajectories.generate", "rarl.trajectories.online_dqn")
_ATARI = (
    "rarl.envs.atari",
    "rarl.nn.atari_encoders",
    "rarl.agents.policy",
    "rarl.agents.priorities",
    "rarl.agents.targets",
    "rarl.agents.value_rescaling",
    "rarl.training.games",
    "rarl.training.actors",
    "rarl.training.replay",
    "rarl.training.frames",
    "rarl.training.windows",
    "rarl.training.sum_tree",
    "rarl.evaluation.games",
    "rarl.evaluation.game_probe",
)
# What agents of values run alone, and what episodic control does.
_VALUES = (
    "rarl.training.learner",
    "rarl.training.transitions",
    "rarl.training.sequences",
    "rarl.training.games",
    "rarl.training.actors",
    "rarl.training.replay",
    "rarl.agents.policy",
    "rarl.nn.retrieval",
    "rarl.nn.value_network",
)
_EPISODIC = ("rarl.training.episodic_boards", "rarl.training.episodic_games")
# Per kind of job: the modules it enters by, and modules that these import for other kinds. A change in what a job may
# run makes it run again; a change of a comment, a docstring or the command line does not.
ENTRY_MODULES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "planner": (("rarl.trajectories.make",), ("rarl.trajectories.online_dqn", *_BABYAI, *_ATARI)),
    "dqn": (("rarl.trajectories.make",), ("rarl.trajectories.generate", *_BABYAI, *_ATARI)),
    "bot": (("rarl.trajectories.make",), (*_GRIDROBOMAN_SOURCES, "rarl.trajectories.online_rdqn", *_ATARI)),
    "rdqn": (("rarl.trajectories.make",), (*_GRIDROBOMAN_SOURCES, *_ATARI)),
    "train-gridroboman": (("rarl.training.transitions", "rarl.training.runs"), (*_BABYAI, *_ATARI, *_EPISODIC)),
    "train-babyai": (("rarl.training.sequences", "rarl.training.runs"), (*_GRIDROBOMAN, *_ATARI, *_EPISODIC)),
    "train-atari": (("rarl.training.games", "rarl.training.runs"), (*_GRIDROBOMAN, *_BABYAI, *_EPISODIC)),
    "train-gridroboman-episodic": (
        ("rarl.training.episodic_boards", "rarl.training.runs"),
        (*_VALUES, *_BABYAI, *_ATARI, "rarl.training.episodic_games"),
    ),
    "train-atari-episodic": (
        ("rarl.training.episodic_games", "rarl.training.runs"),
        (*_VALUES, *_GRIDROBOMAN, *_BABYAI, "rarl.training.episodic_boards"),
    ),
    "probe-gridroboman": (("rarl.evaluation.board_probe", "rarl.evaluation.probe"), (*_BABYAI, *_ATARI, *_EPISODIC)),
    "probe-babyai": (("rarl.evaluation.level_probe", "rarl.evaluation.probe"), (*_GRIDROBOMAN, *_ATARI, *_EPISODIC)),
    "probe-atari": (("rarl.evaluation.game_probe", "rarl.evaluation.probe"), (*_GRIDROBOMAN, *_BABYAI, *_EPISODIC)),
    "index-cost": (("rarl.bench_index",), ("rarl.workflow", "rarl.trajectories", *_ATARI)),
    "costs": (("rarl.costs",), ()),
    "report": (("rarl.reporting.report",), ()),
}

# What can change no number: pictures, progress lines, records of the machine. The values that `rarl.config` reads are
# in the digests of datasets and runs, so that a new setting of one environment leaves the runs of another alone.
_NEUTRAL = ("rarl.config", "rarl.jobs", "rarl.provenance", "rarl.training.progress")
_PICTURES = ("rarl.envs.gridroboman.render",)


@functools.cache
def code_of(kind: str) -> str:
    """The digest of all code by which a job of this kind can change its products, 12 hex digits."""
    modules, others = ENTRY_MODULES[kind]
    exclude = others if kind == "report" else (*others, *_NEUTRAL, *_PICTURES)
    return code_digest(modules, exclude=exclude)


def job_of(job: Literal["train", "probe"], run: Run) -> str:
    """The kind of job that trains a run, or looks into it."""
    s = run.settings
    episodic = job == "train" and s.agent.kind in EPISODIC
    return f"{job}-{s.environment}" + ("-episodic" if episodic else "")
