"""Standard normal numbers of learner steps.

They come from torch's CPU generator wherever the networks are: checkpoints hold its state, so that a run that is
resumed goes on with the same numbers on any device. A learner step that is captured as a graph gets them from buffers,
which are filled before it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

_sources: list[Callable[[Sequence[int]], Tensor]] = []  # the last one gives


def standard_normal(*shape: int, device: torch.device) -> Tensor:
    """Numbers of this shape, on the device."""
    return _sources[-1](shape) if _sources else torch.randn(shape).to(device)


@contextlib.contextmanager
def noise_from(source: Callable[[Sequence[int]], Tensor]) -> Iterator[None]:
    """Within it, whoever asks for numbers of a shape gets what `source` gives for it."""
    _sources.append(source)
    try:
        yield
    finally:
        _sources.pop()
