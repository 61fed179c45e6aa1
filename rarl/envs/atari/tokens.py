"""What a VQ-VAE reads of Atari's screens (`rarl.nn.vq_vae`)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from rarl.envs.atari.observation import SCREEN, newest_frame

SHRINK = 4  # of the screen, in width and height: 84 x 84 to 21 x 21


class Screen:
    """The newest frame of a packed x, shrunk to 21 x 21 pixels, less the mean frame, in standard deviations.

    Mean and standard deviation, one for all pixels, are those of the frames that are read together. For most of a
    screen is always the same, and games differ in the rest by orders of magnitude: without this, hundreds of steps
    would go into learning what says nothing. Loss and error: mean squared error, which is the share of the frames'
    variance that is not explained.
    """

    size = (SCREEN // SHRINK) ** 2

    def __call__(self, x: Tensor) -> Tensor:
        pixels = F.avg_pool2d(newest_frame(x).to(torch.float32)[:, None] / 255, SHRINK).flatten(1)
        pixels = pixels - pixels.mean(0)
        return pixels * torch.rsqrt(pixels.square().mean() + 1e-6)

    def compare(self, decoded: Tensor, read: Tensor) -> tuple[Tensor, Tensor]:
        error = (decoded - read).square().mean()
        return error, error


READING = Screen()
