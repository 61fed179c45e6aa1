"""Retrieval-augmented reinforcement learning: an open replication of Goyal et al. (ICML 2022)."""

__version__ = "0.1.0"


def __getattr__(name: str):
    """`rarl.load("experiment/task-set/variant/seed-0")`: the agent of a run (`rarl.probes.loaded`)."""
    if name != "load":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return importlib.import_module(".probes.loaded", __name__).load
