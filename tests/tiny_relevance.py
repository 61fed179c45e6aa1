"""Runs of the tiny Gridroboman project with retrieval datasets in which few trajectories are relevant."""

from __future__ import annotations

from typing import Any

from rarl.mappings import merge

SHARES = [1.0, 0.5, 0.1]
POOL = 12  # trajectories in a retrieval dataset


def changes(kind: str | None = None, more: dict[str, Any] | None = None) -> dict[str, Any]:
    """What makes a run of the variant ra-dqn one of rare relevance; with an index of the given kind, or none."""
    retrieval: dict[str, Any] = {"select_by": "attention", "pool": {"trajectories": POOL, "relevant": SHARES}}
    if kind is not None:
        index = {"kind": kind, "refresh_updates": 5, "queries": 3, "candidates": 16}
        retrieval |= {"propose": "index", "index": index}
    return merge({"agent": {"task": "query", "retrieval": retrieval}}, more or {})
