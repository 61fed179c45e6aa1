"""Linear maps that a recurrence applies at each of its steps, with the weights' gradients of all steps in one product.

Autograd would compute a gradient of the weights at every step and add them up: three operations for every map and step,
on matrices so small that starting an operation is what costs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Map = Callable[[Tensor], Tensor]


class _Offsets(torch.autograd.Function):
    """The bias, once for every step and row. What comes back at all of them makes the gradients of bias and weight."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bias: Tensor, inputs: list[Tensor], steps: int, rows: int) -> Tensor:
        ctx.inputs = inputs
        return bias.expand(steps, rows, len(bias)).clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        of_outputs, inputs = gradient.flatten(0, 1), torch.cat(ctx.inputs)
        return of_outputs.T @ inputs, of_outputs.sum(0), None, None, None


def at_each_step(weight: Tensor, bias: Tensor, steps: int, rows: int) -> Map:
    """x (..., d_in) -> x weightᵀ + bias, to be called once at each of so many steps, on so many rows each time."""
    if steps == 1 or not torch.is_grad_enabled():
        return lambda x: F.linear(x, weight, bias)
    inputs: list[Tensor] = []
    offsets, fixed = _Offsets.apply(weight, bias, inputs, steps, rows).unbind(0), weight.detach().T  # type: ignore[no-untyped-call]

    def linear(x: Tensor) -> Tensor:
        flat = x.reshape(rows, -1)
        y = torch.addmm(offsets[len(inputs)], flat, fixed)
        inputs.append(flat.detach())
        return y.view(*x.shape[:-1], -1)

    return linear
