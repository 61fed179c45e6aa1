"""What a result names as its making: commit, versions, machine, command."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import rarl
from rarl.envs.spec import ENVIRONMENTS, spec_of
from rarl.errors import RarlError
from rarl.files import digest, read_yaml

PACKAGE = Path(rarl.__file__).resolve().parent
_PACKAGES = ("torch", "numpy", "gymnasium", "snakemake", "dvc")  # and those of environments
FIXED = ("kind", "margin", "family", "primary", "validity", "unit", "test")  # of a claim, and the paper's size
_PRODUCTS = ("results", "reports", "data", "dvc.lock")  # changed by running, so they do not make the code "dirty"


def run_record(*, threads: int | None = None, device: str = "cpu") -> dict[str, Any]:
    """The parts of `run.json` that describe where and with what a run was made.

    Args:
        threads: threads that the run computes with; None if it did not set them.
        device: "cpu" or "cuda:<index>".

    Returns:
        {"command", "git", "versions", "hardware", "peak_memory_mb"}.
    """
    return {
        "command": command_line(),
        "git": git_state(),
        "versions": versions(),
        "hardware": hardware(threads=threads, device=device),
        "peak_memory_mb": peak_memory_mb(),
    }


def claim_digests(root: str | os.PathLike, scale: str) -> dict[str, str]:
    """Digests of what config/claims.yaml fixes before the runs, as it is now: for the record, by which nothing is made.

    Returns:
        "settings": the rules of judgement; id -> what is measured of each claim that the scale can judge, and how it is
        judged, without its texts. Empty where there is no such file, or it cannot be read.
    """
    try:
        raw = read_yaml(Path(root) / "config" / "claims.yaml")
    except RarlError:
        return {}
    raw = raw if isinstance(raw, Mapping) else {}
    entries = [entry for part in ("claims", "questions") for entry in raw.get(part) or () if isinstance(entry, Mapping)]
    found = {"settings": digest(raw.get("settings") or {})} if entries else {}
    for entry in entries:
        if scale in (entry.get("scales") or ()):
            paper = entry.get("paper")
            fixed = {key: entry.get(key) for key in FIXED} | {"size": paper.get("size") if paper else None}
            found[str(entry.get("id"))] = digest(fixed)
    return found


def command_line() -> str:
    """The command that started this process, ready to be pasted into a shell; without the folders of this machine."""
    first = Path(sys.argv[0] or "python")
    if first.name == "__main__.py":
        command = ["python", "-m", _module_of(first)]
    elif first.suffix == ".py":
        command = ["python", _relative(str(first))]
    else:
        command = [first.name]
    return shlex.join([*command, *(_relative(argument) for argument in sys.argv[1:])])


def _module_of(file: Path) -> str:
    try:
        return ".".join(("rarl", *file.resolve().parent.relative_to(PACKAGE).parts))
    except ValueError:
        return file.parent.name


def _relative(argument: str) -> str:
    if not os.path.isabs(argument):
        return argument
    relative = os.path.relpath(argument)
    return argument if relative.startswith("..") else relative


def git_state(folder: str | os.PathLike = PACKAGE) -> dict[str, Any]:
    """{"commit": 40 hex digits, "dirty": bool}, or "unknown" for both without git, without a repository, in a download.

    Dirty means that something that is not a product of the workflow differs from the commit. A repository that does not
    track this package (a virtual environment inside somebody's project) says nothing about it and counts as unknown.
    """
    unknown = {"commit": "unknown", "dirty": "unknown"}
    if not _git(folder, "ls-files", "--error-unmatch", "__init__.py"):
        return unknown
    commit = _git(folder, "rev-parse", "--verify", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--", ":(top)", *(f":(top,exclude){name}" for name in _PRODUCTS))
    if not commit or changes is None:
        return unknown
    return {"commit": commit, "dirty": bool(changes)}


def file_at_head(root: str | os.PathLike, path: str | os.PathLike) -> str | None:
    """The text of a file under `root` as the last commit has it; None where there is none."""
    return _git(root, "show", f"HEAD:./{Path(path).as_posix()}")


def _git(folder: str | os.PathLike, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"},  # never disturb a git command of the user
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace").strip()


def versions() -> dict[str, str]:
    """Versions of Python, rarl and the installed packages that a result may depend on."""
    found = {"python": platform.python_version(), "rarl": rarl.__version__}
    of_environments = [name for environment in ENVIRONMENTS for name in spec_of(environment).requires]
    for name in (*_PACKAGES, *of_environments):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def hardware(*, threads: int | None = None, device: str = "cpu") -> dict[str, Any]:
    """{"cpu", "cores", "gpu", "threads", "device"}; the name of a GPU only if torch is imported and uses it."""
    return {"cpu": _cpu(), "cores": _cores(), "gpu": _gpu(device), "threads": threads, "device": device}


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.lower().startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "unknown"


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1


def _gpu(device: str) -> str | None:
    torch = sys.modules.get("torch")
    if torch is None or not device.startswith("cuda"):
        return None
    try:
        return torch.cuda.get_device_name(device)
    except (RuntimeError, AssertionError, ValueError):
        return None


def peak_memory_mb() -> float:
    """The most resident memory that this process has had, in MB (10^6 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak * (1 if sys.platform == "darwin" else 1024) / 1e6, 1)
