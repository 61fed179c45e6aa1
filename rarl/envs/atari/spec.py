"""Atari, as the rest of the project knows it."""

from __future__ import annotations

from rarl.envs.atari.games import GAMES
from rarl.envs.spec import EnvSpec

SPEC = EnvSpec(
    name="atari",
    tasks=GAMES,
    learners={
        "value": "rarl.learners.online:OnlineLearner",
        "episodic": "rarl.learners.episodic:EpisodicLearner",
    },
    encoders={
        "resnet47": "rarl.envs.atari.encoders:resnet47",
        "nature": "rarl.envs.atari.encoders:nature",
        "impala-small": "rarl.envs.atari.encoders:impala_small",
        "tiny": "rarl.envs.atari.encoders:tiny",
    },
    encoder_options=("n_actions", "stack", "recompute"),
    tokens="rarl.envs.atari.tokens:READING",
    make_vector="rarl.envs.atari.packed:make_vector",
    protocol=True,
    codec="rarl.envs.atari.packed:codec",
    # On the scale of rescaled values: h^-1(90) is 8,000 points.
    reward_range=(-30.0, 90.0),
    return_range=(-30.0, 90.0),
    range_points=(121, 121),
    success="rarl.envs.atari.scores:episodes_of_a_human",
    probes={"plain": "rarl.probes.game_probe:GameProbe"},
)
