"""What can be set about Atari, and the memory that follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from rarl.config.validate import Settings


class Options(Settings):
    """How games are played."""

    full_actions: bool = Field(
        True,
        description="all that the emulator accepts (18, 9 on Skiing); false: those that do something in the game",
    )
    sticky: float = Field(0.0, ge=0, le=1, description="probability that the emulator repeats the last action")
    noop_max: int = Field(30, ge=0, description="most no-op frames at the start of an episode")
    frame_skip: int = Field(4, ge=1)
    max_frames: int = Field(108_000, ge=1, description="frames after which an episode is cut off")
    stack: int = Field(1, ge=1, description="frames in an observation")
    emulator_threads: int = Field(1, ge=1)


class AtariEncoderOptions(Settings):
    """Of all encoders."""

    recompute: int = Field(0, ge=0, description="frames at a time whose activations the backward pass computes again")


class _AtariMemory:
    """Megabytes by arithmetic; tests compare it with what the networks keep."""

    kept = {"tiny": 0.05, "nature": 0.12, "impala-small": 2.06, "resnet47": 5.85}  # noqa: RUF012 (of a frame)
    features = {"tiny": 1296, "nature": 3136, "impala-small": 3872, "resnet47": 18432}  # noqa: RUF012 (of a trunk)
    environment = 5.0

    def of_state(self, encoder: str, options: Mapping[str, Any], environment: Mapping[str, Any]) -> float:
        frames = 84 * 84 * environment["stack"] * 5e-6  # as bytes and as float32
        return frames + (4e-6 * self.features[encoder] if options["recompute"] else self.kept[encoder])

    def recomputed(self, encoder: str, options: Mapping[str, Any]) -> float:
        return options["recompute"] * self.kept[encoder]

    def of_frame(self, compressed: bool) -> float:
        """As many bytes as any of the 57 games takes."""
        return 1500e-6 if compressed else 84 * 84 * 1e-6


MEMORY = _AtariMemory()
