"""Nested mappings, as configuration has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rarl.files import canonical_json


def merge(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values of `change` in place of its own, mapping by mapping."""
    merged = dict(base)
    for key, value in change.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def leaves(mapping: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of all values that are no mappings, or empty ones."""
    for key, value in mapping.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def differences(then: Any, now: Any, *, whole_keys: bool = False) -> list[str]:
    """What differs between two configurations, one line per leaf: "learner.lr: 0.001 then, 0.01 now".

    Args:
        whole_keys: the values are opaque strings under keys that may hold dots (paths); shorten the values.
    """
    lines = []
    old, new = dict(leaves(plain(then))), dict(leaves(plain(now)))
    for key in sorted(old.keys() | new.keys()):
        if key not in old:
            lines.append(f"{key}: absent then, {_short(new[key], whole_keys)} now")
        elif key not in new:
            lines.append(f"{key}: {_short(old[key], whole_keys)} then, absent now")
        elif canonical_json(old[key]) != canonical_json(new[key]):
            lines.append(f"{key}: {_short(old[key], whole_keys)} then, {_short(new[key], whole_keys)} now")
    return lines


def _short(value: Any, checksum: bool) -> str:
    return str(value)[:12] + "…" if checksum and len(str(value)) > 12 else repr(value)


def plain(value: Any) -> Any:
    """A configuration as JSON would give it back: string keys, lists for tuples."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value
