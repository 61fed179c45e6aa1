"""Atari, as the rest of the project knows it."""

from __future__ import annotations

from rarl.envs.atari.games import GAMES
from rarl.envs.spec import EnvSpec

SPEC = EnvSpec(
    name="atari",
    tasks=GAMES,
    learners={
        "value": "rarl.learners.games:GameLearner",
        "episodic": "rarl.learners.episodic_games:GameEpisodicLearner",
    },
    encoders={
        "resnet47": "rarl.envs.atari.encoders:resnet47",
        "nature": "rarl.envs.atari.encoders:nature",
        "impala-small": "rarl.envs.atari.encoders:impala_small",
        "tiny": "rarl.envs.atari.encoders:tiny",
    },
    encoder_options=("n_actions", "stack", "recompute"),
    tokens="rarl.envs.atari.tokens:READING",
    probes={"plain": "rarl.probes.game_probe:GameProbe"},
    acting="rarl.benchmarks.acting_in_games:in_a_game",
)
