"""Starts torch without its compiler, which nothing here uses and every learner would import: two seconds a process."""

from __future__ import annotations

import gc
import importlib
import sys
from functools import wraps
from types import ModuleType
from typing import Any

NAME = "torch._dynamo"


class _UntilUsed(ModuleType):
    """In the place of torch._dynamo until more of it is asked for than what optimisers call in ordinary, eager code."""

    @staticmethod
    def graph_break(msg: str = "") -> None:
        """Ends a graph where one is traced; in eager code there is none."""

    @staticmethod
    def disable(fn: Any = None, recursive: bool = True, **_: Any) -> Any:
        """Keeps a function from being traced; in eager code it stays what it is."""
        return fn if fn is not None else lambda function: function

    def __getattr__(self, name: str) -> Any:
        # Whoever walks over all modules asks for names such as __file__; whoever imports a part of it for __path__.
        if name.startswith("__") and name != "__path__":
            raise AttributeError(name)
        if sys.modules.get(NAME) is self:
            del sys.modules[NAME]
        return getattr(importlib.import_module(NAME), name)


def import_torch() -> None:
    """Import torch, and its compiler only when something of it is used. Without effect where that is loaded already."""
    collects = gc.isenabled()
    gc.disable()  # what is imported is no garbage, and looking for it takes an eighth of the time
    import torch

    gc.freeze()
    if collects:
        gc.enable()
    if NAME in sys.modules:
        return
    torch._dynamo = sys.modules[NAME] = _UntilUsed(NAME)
    everywhere = torch.use_deterministic_algorithms

    @wraps(everywhere)
    def use_deterministic_algorithms(mode: bool, *, warn_only: bool = False) -> None:
        if isinstance(sys.modules.get(NAME), _UntilUsed):
            torch._C._set_deterministic_algorithms(mode, warn_only=warn_only)
        else:
            everywhere(mode, warn_only=warn_only)  # tells the compiler too

    torch.use_deterministic_algorithms = use_deterministic_algorithms
