"""Networks: encoders, summarisers, the retrieval process (Algorithm 1), bottleneck, fusion, heads.

`from rarl.nn import Retriever` is the method as a library; see `rarl.nn.retrieval`.
"""

from __future__ import annotations

from typing import Any

__all__ = ["Mode", "Retriever", "Summaries"]


def __getattr__(name: str) -> Any:
    """Imported when asked for: configuration reads small parts of this package and needs no torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from rarl.nn import retrieval

    return getattr(retrieval, name)
