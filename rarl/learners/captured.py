"""A learner step as CUDA graphs: from buffers that are filled with what was drawn to the optimiser's step.

A graph is the same kernels on the same memory, started all at once. So all that changes from step to step comes in
through buffers, noise too, which is drawn from the CPU's generator as without a graph: both give the same numbers. Each
shape of what is drawn has a graph. On a CPU the step runs on the buffers as it is, so that this can be tested.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from rarl.nn.noise import noise_from

MOST_GRAPHS = 32  # each has memory of its own; shapes beyond these are computed without
_WARM_UP = 3  # steps before a capture, as torch.cuda.graph asks for
_ALIGNED = 64  # bytes, as memory of their own would be


def replaced(tree: Any, leaf: Callable[[Tensor], Tensor]) -> Any:
    """A tree of tuples, dictionaries and data classes with other tensors in the place of its own."""
    if isinstance(tree, Tensor):
        return leaf(tree)
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        names = [field.name for field in dataclasses.fields(tree)]
        return dataclasses.replace(tree, **{name: replaced(getattr(tree, name), leaf) for name in names})
    if isinstance(tree, dict):
        return {name: replaced(part, leaf) for name, part in tree.items()}
    if isinstance(tree, tuple):
        parts = [replaced(part, leaf) for part in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)
    return tree


def leaves(tree: Any) -> Iterator[Tensor | None]:
    """The tensors of such a tree, in order, and None where there is none."""
    if tree is None or isinstance(tree, Tensor):
        yield tree
    elif dataclasses.is_dataclass(tree):
        for field in dataclasses.fields(tree):
            yield from leaves(getattr(tree, field.name))
    elif isinstance(tree, dict | tuple):
        for part in tree.values() if isinstance(tree, dict) else tree:
            yield from leaves(part)


class Buffers:
    """Tensors of fixed shapes on a device, filled from the CPU by one copy.

    Args:
      like: of which shapes and types.
      device: where.

    Attributes:
      tensors: the buffers.
    """

    def __init__(self, like: Sequence[Tensor], device: torch.device):
        sizes = [math.ceil(part.numel() * part.element_size() / _ALIGNED) * _ALIGNED for part in like]
        on_gpu = device.type == "cuda"
        self._here = torch.zeros(sum(sizes), dtype=torch.uint8, pin_memory=on_gpu)
        self._there = torch.zeros_like(self._here, device=device) if on_gpu else self._here
        self._inputs, self.tensors = (
            [
                piece[: part.numel() * part.element_size()].view(part.dtype).view(part.shape)
                for piece, part in zip(whole.split(sizes), like, strict=True)
            ]
            for whole in (self._here, self._there)
        )
        self._copied = torch.cuda.Event() if on_gpu else None

    def fill(self, parts: Sequence[Tensor]) -> None:
        """With these values, whose shapes and types are those of the buffers."""
        if self._copied is not None:
            self._copied.synchronize()  # the copy of the step before has left the pinned memory long ago
        for buffer, part in zip(self._inputs, parts, strict=True):
            buffer.copy_(part)
        if self._copied is not None:
            self._there.copy_(self._here, non_blocking=True)
            self._copied.record()


class _Graph:
    """The step for one shape of what is drawn.

    Args:
      step: what is captured.
      changed: all tensors that a step changes, but for gradients.
      drawn: to learn from, for once.
      device: where.
    """

    def __init__(
        self,
        step: Callable[[Any], dict[str, Tensor]],
        changed: Callable[[], list[Tensor]],
        drawn: Any,
        device: torch.device,
    ):
        self._step, self._device = step, device
        self._shapes: list[Sequence[int]] = []
        self._warm_up(drawn, changed)
        like = [part for part in leaves(drawn) if part is not None]
        self._buffers = Buffers([*like, *(torch.empty(shape) for shape in self._shapes)], device)
        parts = iter(self._buffers.tensors)
        # Its arrays are those of the capture for ever: nobody looks at them.
        self._drawn = replaced(drawn, lambda _: next(parts))
        self._graph: torch.cuda.CUDAGraph | None = None
        if device.type == "cuda":
            self._graph = torch.cuda.CUDAGraph()
            # Actors may play in a thread of their own meanwhile.
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                self._found = self._computed()

    def _computed(self) -> dict[str, Tensor]:
        noise: Iterator[Tensor] = iter(self._buffers.tensors[len(self._buffers.tensors) - len(self._shapes) :])
        with noise_from(lambda _: next(noise)):
            return self._step(self._drawn)

    def _warm_up(self, drawn: Any, changed: Callable[[], list[Tensor]]) -> None:
        """A few steps which leave nothing behind but the optimiser's memory; the shapes of their noise are noted."""
        generator = torch.get_rng_state()
        before = [(tensor, tensor.detach().clone()) for tensor in changed()]

        def draw(shape: Sequence[int]) -> Tensor:
            self._shapes.append(shape)
            return torch.randn(shape, device="cpu").to(self._device)

        for _ in range(_WARM_UP):
            self._shapes.clear()
            with noise_from(draw):
                if self._device.type == "cuda":
                    stream = torch.cuda.Stream(self._device)
                    stream.wait_stream(torch.cuda.current_stream(self._device))
                    with torch.cuda.stream(stream):
                        self._step(drawn)
                    torch.cuda.current_stream(self._device).wait_stream(stream)
                else:
                    self._step(drawn)
        known = {id(tensor) for tensor, _ in before}
        with torch.no_grad():
            for tensor, value in before:
                tensor.copy_(value)
            for tensor in changed():
                if id(tensor) not in known:
                    tensor.zero_()  # the optimiser's, which was not there before
        torch.set_rng_state(generator)

    def __call__(self, drawn: Any) -> dict[str, Tensor]:
        noise = [torch.randn(shape, device="cpu") for shape in self._shapes]
        self._buffers.fill([*(part for part in leaves(drawn) if part is not None), *noise])
        if self._graph is None:
            return self._computed()
        self._graph.replay()
        return {name: value.clone() for name, value in self._found.items()}


class CapturedStep:
    """A learner step from what was drawn to the optimiser's step, captured when a shape comes for the first time.

    Args:
      step: computes on the device alone and does not look at what it has computed; returns what is to be logged.
      changed: all tensors that a step changes, but for gradients.
      device: where it computes.
    """

    def __init__(
        self, step: Callable[[Any], dict[str, Tensor]], changed: Callable[[], list[Tensor]], device: torch.device
    ):
        self._plain, self._changed, self._device = step, changed, device
        self.forget()

    def forget(self) -> None:
        """The tensors that a step changes are others now."""
        self._graphs: dict[tuple[Any, ...], _Graph] = {}

    def __call__(self, drawn: Any) -> dict[str, Tensor]:
        key = tuple(None if part is None else (part.shape, part.dtype) for part in leaves(drawn))
        if key not in self._graphs:
            if len(self._graphs) == MOST_GRAPHS:
                return self._plain(drawn)
            self._graphs[key] = _Graph(self._plain, self._changed, drawn, self._device)
        return self._graphs[key](drawn)
