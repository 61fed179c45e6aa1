"""Which device a run uses. Snakemake limits how many jobs use GPUs, but does not say which GPU a job shall take."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from rarl.errors import RarlError

log = logging.getLogger(__name__)

# Open descriptors of the locks that this process holds, by GPU index: the system drops them when the process ends.
_held: dict[int, int] = {}
_PLACES = 64  # locks of a GPU: as many processes can be told apart on it


def choose_device(name: str = "auto") -> str:
    """The torch device to use, "cpu" or "cuda:<index>".

    "auto" takes a GPU if there is one; "auto" and "cuda" take the first of those that the fewest other runs of this
    machine use, and keep it until the process ends. "cuda:1" takes that one. torch is imported only if the answer is
    not plainly "cpu".

    Raises:
        RarlError: an unknown name, or a GPU that is not there.
    """
    if name == "cpu":
        return "cpu"
    match = re.fullmatch(r"auto|cuda(?::(\d+))?", name)
    if match is None:
        raise RarlError(f"device {name!r}: known are 'auto', 'cpu', 'cuda' and 'cuda:<index>'")
    gpus = visible_gpus()
    if not gpus:
        if name == "auto":
            return "cpu"
        raise RarlError(f"device {name!r}: {_torch()} sees no GPU; use 'cpu' or 'auto'")
    if match.group(1) is not None:
        index = int(match.group(1))
        if index >= len(gpus):
            raise RarlError(f"device {name!r}: there is only {', '.join(f'cuda:{i}' for i in range(len(gpus)))}")
        return _first_place({index: gpus[index]})
    for index in _held:
        return f"cuda:{index}"
    return _first_place(dict(enumerate(gpus)))


def _first_place(gpus: Mapping[int, str]) -> str:
    """Take the first free place, the first places of all GPUs before the second ones."""
    for place in range(_PLACES):
        for index, gpu in gpus.items():
            if _take(index, gpu, place):
                if place:
                    log.info("cuda:%d is shared with %d other runs", index, place)
                return f"cuda:{index}"
    index = min(gpus)
    log.warning("cuda:%d is shared with %d other runs and more", index, _PLACES)
    return f"cuda:{index}"


def visible_gpus() -> list[str]:
    """A name for each GPU that torch may use, the same in every process of this machine."""
    import torch

    if not torch.cuda.is_available():
        return []
    names = []
    asked = [part.strip() for part in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if part.strip()]
    for index in range(torch.cuda.device_count()):
        # Indices depend on CUDA_VISIBLE_DEVICES; the hardware's own id does not.
        uuid = getattr(torch.cuda.get_device_properties(index), "uuid", None)
        names.append(str(uuid) if uuid else asked[index] if index < len(asked) else str(index))
    return names


def _take(index: int, gpu: str, place: int) -> bool:
    """Lock a place on the GPU for this process; False if another one has it."""
    if index in _held:
        return True
    path = Path(tempfile.gettempdir()) / f"rarl-gpu-{re.sub(r'[^A-Za-z0-9-]', '-', gpu)}-{place}.lock"
    descriptor = None
    # Without O_CREAT first: systems with protected_regular refuse to create a file that another user has made.
    for flags in (os.O_RDONLY, os.O_RDONLY | os.O_CREAT):
        with contextlib.suppress(OSError):
            descriptor = os.open(path, flags | os.O_NOFOLLOW, 0o644)
            break
    if descriptor is None:
        return True  # no place for a lock: better than no run
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return False
    _held[index] = descriptor
    return True


def _torch() -> str:
    import torch

    return f"torch {torch.__version__}"
