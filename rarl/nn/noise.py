"""Standard normal numbers of learner steps.

They come from torch's CPU generator wherever the networks are: checkpoints hold its state, so that a run that is
resumed goes on with the same numbers on any device.
"""

from __future__ import annotations

import torch
from torch import Tensor


def standard_normal(*shape: int, device: torch.device) -> Tensor:
    """Numbers of this shape, on the device."""
    return torch.randn(shape).to(device)
