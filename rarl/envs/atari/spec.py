"""Atari, as the rest of the project knows it."""

from __future__ import annotations

from rarl.envs.atari.games import GAMES
from rarl.envs.spec import EnvSpec, Score

SPEC = EnvSpec(
    name="atari",
    tasks=GAMES,
    make_vector="rarl.envs.atari.packed:make_vector",
    options="rarl.envs.atari.options:Options",
    repeats="frame_skip",
    options_without_effect=("emulator_threads",),
    encoders={
        "resnet47": "rarl.envs.atari.encoders:resnet47",
        "nature": "rarl.envs.atari.encoders:nature",
        "impala-small": "rarl.envs.atari.encoders:impala_small",
        "tiny": "rarl.envs.atari.encoders:tiny",
    },
    encoder_options=dict.fromkeys(
        ("resnet47", "nature", "impala-small", "tiny"), "rarl.envs.atari.options:AtariEncoderOptions"
    ),
    # On the scale of rescaled values: h^-1(90) is 8,000 points.
    reward_range=(-30.0, 90.0),
    return_range=(-30.0, 90.0),
    range_points=(121, 121),
    success="rarl.envs.atari.scores:episodes_of_a_human",
    codec="rarl.envs.atari.packed:codec",
    tokens="rarl.envs.atari.tokens:READING",
    probing="rarl.envs.atari.probe:PROBING",
    title="Atari",
    score=Score(
        label="human-normalised score",
        unit="of the human's score above random play",
        margin=0.05,
        normaliser="rarl.envs.atari.ends:ends",
        marks={"random": 0.0, "human": 1.0},
        meaning="The score of a game is the mean over episodes of what it counts, neither clipped nor discounted. "
        "Human-normalised it is the score less that of random play, divided by the human's less that of random play. "
        "Frames count those of all actors, skipped ones included.",
    ),
    task_noun="game",
    one_task=True,
    reported="rarl.envs.atari.scores:reported",
    picture="rarl.envs.atari.pictures:PICTURES",
    memory="rarl.envs.atari.options:MEMORY",
    requires=("ale-py",),
    library="rarl.envs.atari.packed:library_vector",
)
