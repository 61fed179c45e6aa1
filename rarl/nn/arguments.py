"""Checks of constructors' arguments: a wrong one is named, in the place of an error (or NaN) far from its cause."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor

from rarl.errors import did_you_mean

T = TypeVar("T")


def require_positive(**arguments: int | None) -> None:
    """ValueError that names the first argument that is not a whole number of at least 1; None is not looked at."""
    for name, value in arguments.items():
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise ValueError(f"{name}={value!r}: must be a whole number of at least 1")


def require_multiple(name: str, value: int, of: str, divisor: int) -> None:
    """ValueError unless `value`, the argument `name`, is a multiple of `divisor`, the argument `of`."""
    require_positive(**{name: value, of: divisor})
    if value % divisor:
        raise ValueError(f"{name}={value}: must be a multiple of {of}={divisor}")


def chosen(argument: str, name: str, known: Mapping[str, T]) -> T:
    """What `name`, given as `argument`, stands for; ValueError with the close names if it is none of those known."""
    if name not in known:
        raise ValueError(f"{argument}={name!r}: unknown; {did_you_mean(str(name), known)}")
    return known[name]


def require_prefix(mask: Tensor, shape: tuple[int, ...]) -> None:
    """ValueError unless the True entries of a mask come first on its last axis, as all that reads it assumes.

    Only shape and dtype are looked at where the mask is not on a CPU: to read it would make the device wait.

    Args:
      mask: (..., l) bool.
      shape: what its shape must be.
    """
    if str(mask.dtype) != "torch.bool" or tuple(mask.shape) != tuple(shape):
        raise ValueError(f"mask: must be bool of shape {tuple(shape)}, not {mask.dtype} of {tuple(mask.shape)}")
    if mask.device.type == "cpu" and bool((mask[..., 1:] & ~mask[..., :-1]).any()):
        raise ValueError("mask: padding must come last, but a real step comes after a padded one")
