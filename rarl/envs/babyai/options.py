"""What can be set about BabyAI's encoder, and the memory that follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from rarl.config.validate import Settings


class BabyAIEncoderOptions(Settings):
    """Of the encoder "babyai"."""

    channels: int = Field(16, ge=1, description="of cells and convolutions")
    blocks: int = Field(2, ge=0, description="convolutions modulated by the mission")
    d_mission: int = Field(128, ge=1, description="width of the mission's GRU")


class _BabyAIMemory:
    """Megabytes by arithmetic; tests compare it with what the network keeps."""

    environment = 1.0

    def of_state(self, encoder: str, options: Mapping[str, Any], environment: Mapping[str, Any]) -> float:
        return 4e-6 * 49 * options["channels"] * (2 + 1.6 * options["blocks"])

    def recomputed(self, encoder: str, options: Mapping[str, Any]) -> float:
        return 0.0

    def of_frame(self, compressed: bool) -> float:
        return 50e-6


MEMORY = _BabyAIMemory()
