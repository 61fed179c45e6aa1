"""Atari, as the rest of the project knows it."""

from __future__ import annotations

from rarl.envs.atari.games import GAMES
from rarl.envs.spec import EnvSpec

SPEC = EnvSpec(
    name="atari",
    tasks=GAMES,
    make_vector="rarl.envs.atari.packed:make_vector",
    options="rarl.envs.atari.options:Options",
    options_without_effect=("emulator_threads",),
    encoders={
        "resnet47": "rarl.envs.atari.encoders:resnet47",
        "nature": "rarl.envs.atari.encoders:nature",
        "impala-small": "rarl.envs.atari.encoders:impala_small",
        "tiny": "rarl.envs.atari.encoders:tiny",
    },
    encoder_options=dict.fromkeys(
        ("resnet47", "nature", "impala-small", "tiny"), "rarl.envs.atari.options:EncoderOptions"
    ),
    # On the scale of rescaled values: h^-1(90) is 8,000 points.
    reward_range=(-30.0, 90.0),
    return_range=(-30.0, 90.0),
    range_points=(121, 121),
    success="rarl.envs.atari.scores:episodes_of_a_human",
    codec="rarl.envs.atari.packed:codec",
    tokens="rarl.envs.atari.tokens:READING",
    probes={"plain": "rarl.probes.game_probe:GameProbe"},
    memory="rarl.envs.atari.options:MEMORY",
)
