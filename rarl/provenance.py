"""What a result names as its making: code, versions, machine, command.

`code_digest` is the fingerprint by which Snakemake decides whether a change of code concerns a job.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import os
import platform
import resource
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import rarl
from rarl.errors import RarlError, did_you_mean

PACKAGE = Path(rarl.__file__).resolve().parent
_PACKAGES = ("torch", "numpy", "gymnasium", "minigrid", "ale-py", "snakemake", "dvc")
_PRODUCTS = ("results", "reports", "data", "dvc.lock")  # changed by running, so they do not make the code "dirty"


# ------------------------------------------------------------------------------------------------------ records of runs


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
    for name in _PACKAGES:
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


# ------------------------------------------------------------------------------------------------------- digest of code


def code_digest(modules: Iterable[str], *, exclude: Iterable[str] = (), root: str | os.PathLike = PACKAGE) -> str:
    """12 hex digits that change if and only if code changes that the given modules may run.

    Covers the modules and everything in `rarl` that they import, transitively, inside functions too. Comments,
    docstrings, formatting and the version number do not count. Nothing is imported, so it is cheap and safe in a
    Snakefile. It does not depend on the Python version.

    Args:
        modules: "rarl.training.loop", ...
        exclude: modules to leave out, with all below them and what only they import: "rarl.reporting".
        root: the folder of the package (its name is the package's name).

    Raises:
        RarlError: no such module, or a file with a syntax error.
    """
    root = Path(root)
    hasher = hashlib.sha256()
    for name in imported_modules(modules, exclude=exclude, root=root):
        hasher.update(f"{name} {_read(_file_of(name, root), root.name)[0]}\n".encode())
    return hasher.hexdigest()[:12]


def imported_modules(
    modules: Iterable[str], *, exclude: Iterable[str] = (), root: str | os.PathLike = PACKAGE
) -> list[str]:
    """The modules that `code_digest` covers, sorted."""
    root = Path(root)
    exclude = tuple(exclude)
    waiting = []
    for name in [modules] if isinstance(modules, str) else modules:
        if _file_of(name, root) is None:
            raise RarlError(f"no module {name!r} in {root}; {did_you_mean(name, _all_modules(root))}")
        waiting.append(name)
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in found or any(name == prefix or name.startswith(prefix + ".") for prefix in exclude):
            continue
        file = _file_of(name, root)
        if file is None:  # `from rarl.files import sha256_file` names no module
            continue
        found.add(name)
        parent = name.rpartition(".")[0]
        if parent:  # importing a module runs the packages above it
            waiting.append(parent)
        waiting += _read(file, root.name)[1]
    return sorted(found)


def _file_of(name: str, root: Path) -> Path | None:
    first, *rest = name.split(".")
    if first != root.name:
        return None
    base = root.joinpath(*rest)
    for file in (base / "__init__.py", base.with_name(base.name + ".py") if rest else None):
        if file is not None and file.is_file():
            return file
    return None


def _all_modules(root: Path) -> Iterator[str]:
    for file in root.rglob("*.py"):
        parts = file.relative_to(root).with_suffix("").parts
        yield ".".join((root.name, *(parts[:-1] if parts[-1] == "__init__" else parts)))


def _read(file: Path, package: str) -> tuple[str, tuple[str, ...]]:
    """The digest of one file's code and the names in the package that it may import."""
    status = file.stat()
    return _read_version(file, package, status.st_mtime_ns, status.st_size)


@functools.cache
def _read_version(file: Path, package: str, mtime_ns: int, size: int) -> tuple[str, tuple[str, ...]]:
    try:
        tree = ast.parse(file.read_bytes(), filename=str(file))
    except SyntaxError as error:
        raise RarlError(f"{file}:{error.lineno}: not valid Python ({error.msg})") from None
    parts: list[str] = []
    imports: set[str] = set()
    _walk(tree, parts, imports, _package_of(file, package), package)
    return hashlib.sha256("\x1f".join(parts).encode("utf-8", "surrogatepass")).hexdigest(), tuple(sorted(imports))


def _package_of(file: Path, package: str) -> list[str]:
    """The dotted package that relative imports in `file` start from."""
    folders: list[str] = []
    for folder in file.parents:
        folders.insert(0, folder.name)
        if folder.name == package and not (folder.parent / "__init__.py").is_file():
            break
    return folders


def _walk(node: Any, parts: list[str], imports: set[str], here: list[str], package: str) -> None:
    """Append to `parts` what counts of a syntax tree, and to `imports` the dotted names below `package` in it.

    Written out rather than `ast.dump`, whose text differs between versions of Python.
    """
    if isinstance(node, ast.Import):
        imports.update(alias.name for alias in node.names if alias.name.split(".")[0] == package)
    elif isinstance(node, ast.ImportFrom):
        base = [*here[: len(here) - node.level + 1], *(node.module or "").split(".")] if node.level else []
        module = ".".join(part for part in base if part) if node.level else node.module or ""
        if module.split(".")[0] == package:
            imports.add(module)
            imports.update(f"{module}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Constant):
        value = node.value
        parts.append(repr(value))
        # A module named in text is imported by that name: entry points, registries.
        if type(value) is str and value.startswith(package + "."):
            module = value.partition(":")[0]
            if all(part.isidentifier() for part in module.split(".")):
                imports.add(module)
        return
    parts.append(type(node).__name__)
    for name in node._fields:
        if name in ("ctx", "kind", "type_comment"):
            continue
        value = getattr(node, name, None)
        if value is None or value == []:
            continue
        parts.append(name)
        if isinstance(value, list):
            for inner in value:
                if isinstance(inner, ast.AST):
                    if not _silent(inner):
                        _walk(inner, parts, imports, here, package)
                else:
                    parts.append(repr(inner))
            parts.append("]")
        elif isinstance(value, ast.AST):
            _walk(value, parts, imports, here, package)
        else:
            parts.append(repr(value))
    parts.append(")")


def _silent(node: ast.AST) -> bool:
    """A statement that changes nothing that runs: a docstring (or any lone text), `pass`, the version number."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    if isinstance(node, ast.Assign):
        return len(node.targets) == 1 and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "__version__"
    return isinstance(node, ast.Pass)
