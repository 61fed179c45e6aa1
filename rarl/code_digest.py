"""The code that something depends on, and its fingerprint: found in the sources, nothing is imported.

Followed from a few modules on:

  - what they import, transitively, in functions too; relative imports; the packages above an imported module;
  - modules that are named in text: "module:attribute", or the dotted name of a module of this package;
  - files of data that are named in text and lie beside the module ("scores.csv");
  - modules outside this package that nobody installed, such as a user's own file and its neighbours;
  - the installed distributions that all these import, of which the version counts.

Comments, docstrings, formatting and the version number do not count, and imports under `if TYPE_CHECKING` are not
followed. A name that is computed is not followed either: `rarl.envs.spec` relies on that.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import rarl
from rarl.errors import RarlError, did_you_mean

PACKAGE = Path(rarl.__file__).resolve().parent
SHORT = 8  # hex digits of a module's digest in records
_DATA = re.compile(r"[\w-]+(\.[\w-]+)+")


@dataclass(frozen=True)
class Code:
    """Code that something depends on.

    Attributes:
      modules: name -> digest of its code; files of data stand among them by the name of their module and their own.
      packages: what is installed and imported, by the name under which it is imported -> version, without the part that
        names a build ("+cpu").
      uses: what is chosen in the code by data: field of an environment's specification -> name.
    """

    modules: Mapping[str, str]
    packages: Mapping[str, str]
    uses: Mapping[str, str] = field(default_factory=dict)

    @functools.cached_property
    def digest(self) -> str:
        """12 hex digits that change if and only if one of these changes."""
        lines = [f"{name} {digest}\n" for name, digest in sorted(self.modules.items())]
        lines += [f"{name} {version}\n" for name, version in sorted(self.packages.items())]
        lines += [f"{name} {value}\n" for name, value in sorted(self.uses.items())]
        return hashlib.sha256("".join(lines).encode()).hexdigest()[:12]

    @property
    def record(self) -> dict[str, dict[str, str]]:
        """For records: modules with short digests, and versions of packages."""
        modules = {name: digest[:SHORT] for name, digest in sorted(self.modules.items())}
        return {"modules": modules, "packages": dict(sorted(self.packages.items()))}


class _Place(NamedTuple):
    """A module's name, its file, and the folder in which its top-level package or module lies."""

    name: str
    file: str
    folder: str


def code_of(
    entries: Iterable[str],
    *,
    leave_out: Iterable[str] = (),
    uses: Mapping[str, str] | None = None,
    root: str | os.PathLike = PACKAGE,
) -> Code:
    """The code that the given modules may run.

    Args:
      entries: "rarl.runs.loop", "module:attribute", "my_env.py:SPEC".
      leave_out: modules that are not followed, with all below them and what only they import.
      uses: see `Code`.
      root: the folder of the package (its name is the package's name).

    Raises:
      RarlError: no such module, or a file with a syntax error.
    """
    root, leave_out = Path(root), tuple(leave_out)
    begun = [place_of(name, root) for name in ([entries] if isinstance(entries, str) else entries)]
    waiting = [there for there in begun if isinstance(there, _Place)]
    found: dict[str, str] = {}
    packages = {there for there in begun if isinstance(there, str)}  # "gymnasium:make"
    located: dict[tuple[str, str], _Place | str | None] = {}
    while waiting:
        place = waiting.pop()
        if place.name in found or _is_below(place.name, leave_out):
            continue
        read = _read(place.file, place.name)
        found[place.name] = read.digest
        for data in read.data:
            found[f"{place.name}/{data.name}"] = _sha256(data)
        parent = place.name.rpartition(".")[0]
        names = [*read.imports, *([parent] if parent else ())]  # importing a module runs the packages above it
        for name in names:
            if (name, place.folder) not in located:
                located[name, place.folder] = _locate(name, root, place.folder)
            there = located[name, place.folder]
            if isinstance(there, _Place):
                waiting.append(there)
            elif there is not None:
                packages.add(there)
        for file in read.files:
            waiting.append(_Place(file.stem, str(file), str(file.parent)))
    return Code(found, {name: _version(name) for name in packages}, dict(uses or {}))


def module_of(text: str) -> str:
    """The module or the file of "module:attribute" or "folder/file.py:attribute"; "" for another text."""
    module, _, attribute = text.rpartition(":")
    return module if _is_dotted(attribute) else ""


def _is_dotted(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))


def _is_below(name: str, prefixes: Iterable[str]) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


# ------------------------------------------------------------------------------------------------- where a module lies


def place_of(name: str, root: Path = PACKAGE) -> _Place | str | None:
    """The place of a module, "module:attribute" or "file.py:attribute"; a package's name, None: see `_locate`.

    Raises:
      RarlError: there is none.
    """
    module = module_of(name) or name
    if module.endswith(".py"):
        file = Path(module).resolve()
        if not file.is_file():
            raise RarlError(f"{name}: no such file")
        return _Place(file.stem, str(file), str(file.parent))
    place = _locate(module, root, str(root.parent))
    if place is None and module.partition(".")[0] not in sys.stdlib_module_names:
        ours = _is_below(module, [root.name])
        hint = f" in {root}; {did_you_mean(module, _all_modules(root))}" if ours else ""
        raise RarlError(f"{name}: no module {module!r}{hint}")
    return place


def _locate(name: str, root: Path, folder: str) -> _Place | str | None:
    """Where a module is: its place, the name of an installed package, or None (Python's own, or no module).

    Args:
      name: dotted.
      root: of this package.
      folder: where the importing module's top-level package lies, beside which it may find others.
    """
    first = name.partition(".")[0]
    if first == root.name:
        return _place(str(root.parent), name)
    if first in sys.stdlib_module_names:
        return None
    if folder != str(root.parent) and _below(folder, [first]) is not None:
        return _place(folder, name)
    origin = _origin(first)
    if origin is None:
        return None
    if "site-packages" in origin.parts or "dist-packages" in origin.parts:
        return first
    return _place(str(origin), name)


def _place(folder: str, name: str) -> _Place | None:
    file = _below(folder, name.split("."))
    return None if file is None else _Place(name, file, folder)


def _below(folder: str, parts: list[str]) -> str | None:
    """The file of a module below a folder; None for a name that is none, such as that of a function."""
    base = os.path.join(folder, *parts)  # many thousand names are looked up
    for file in (os.path.join(base, "__init__.py"), base + ".py"):
        if os.path.isfile(file):
            return file
    return None


@functools.cache
def _origin(first: str) -> Path | None:
    """The folder in which a top-level module lies."""
    try:
        spec = importlib.util.find_spec(first)
    except (ImportError, ValueError):
        return None
    if spec is None or not spec.has_location or spec.origin is None:
        return None
    file = Path(spec.origin)
    return file.parent.parent if spec.submodule_search_locations else file.parent


@functools.cache
def _version(package: str) -> str:
    """The version of the distribution that an installed package or module is of, without a build's name ("+cpu")."""
    try:
        found = {importlib.metadata.version(package)}  # most are called as they are imported
    except importlib.metadata.PackageNotFoundError:
        found = {distribution.version for distribution in _distributions_with(package)}
    return ", ".join(sorted(version.partition("+")[0] for version in found))


def _distributions_with(package: str) -> list[importlib.metadata.Distribution]:
    """Found by their lists of files; `importlib.metadata.packages_distributions` takes half a second for the same."""
    starts = tuple(f"\n{package}{ending}".encode() for ending in ("/", ".py,"))
    found: list[importlib.metadata.Distribution] = []
    for path in (_origin(package) or Path()).glob("*.dist-info/RECORD"):
        text = b"\n" + path.read_bytes()
        if any(start in text for start in starts):
            found.append(importlib.metadata.Distribution.at(path.parent))
    if not found:  # installed in another way than pip's
        names = importlib.metadata.packages_distributions().get(package, ())
        found = [importlib.metadata.distribution(name) for name in names]
    return found


def _all_modules(root: Path) -> Iterator[str]:
    for file in root.rglob("*.py"):
        parts = file.relative_to(root).with_suffix("").parts
        yield ".".join((root.name, *(parts[:-1] if parts[-1] == "__init__" else parts)))


# ---------------------------------------------------------------------------------------------------- what a file holds


class _Read(NamedTuple):
    """Of one file: the digest of its code, dotted names that it may import, and files that it names."""

    digest: str
    imports: tuple[str, ...]
    files: tuple[Path, ...]
    data: tuple[Path, ...]


def _read(file: str, name: str) -> _Read:
    status = os.stat(file)
    return _read_version(file, name, status.st_mtime_ns, status.st_size)


@functools.cache
def _read_version(path: str, name: str, mtime_ns: int, size: int) -> _Read:
    file = Path(path)
    digest, imports, texts = _kept_or_parsed(file, name)
    data = [file.with_name(text) for text in texts if _DATA.fullmatch(text) and not text.endswith(".py")]
    files = [file.parent / named for named in map(module_of, texts) if named.endswith(".py")]
    return _Read(
        digest,
        tuple(imports),
        tuple(path.resolve() for path in files if os.path.isfile(path)),  # which takes every text
        tuple(path for path in data if path.is_file()),
    )


def _kept_or_parsed(file: Path, name: str) -> tuple[str, list[str], list[str]]:
    """Digest, imports, and texts that may name files: kept in the user's cache, the last of each file."""
    source, cache = file.read_bytes(), os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    of = hashlib.sha256(b"\0".join([_own_digest(), name.encode(), source])).hexdigest()
    kept = Path(cache, "rarl", "code", f"{hashlib.sha256(os.fsencode(file)).hexdigest()}.json")
    with contextlib.suppress(OSError, ValueError, TypeError):
        content, digest, imports, texts = json.loads(kept.read_bytes())
        if content == of:
            return digest, imports, texts
    found = _parsed(source, file, name)
    with contextlib.suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps([of, *found]))
        part.replace(kept)
    return found


@functools.cache
def _own_digest() -> bytes:
    return hashlib.sha256(Path(__file__).read_bytes() + sys.version.encode()).digest()


def _parsed(source: bytes, file: Path, name: str) -> tuple[str, list[str], list[str]]:
    try:
        tree = ast.parse(source, filename=str(file))
    except SyntaxError as error:
        raise RarlError(f"{file}:{error.lineno}: not valid Python ({error.msg})") from None
    package = name.split(".") if file.name == "__init__.py" else name.split(".")[:-1]
    walk = _Walk(package, name.split(".")[0])
    walk.node(tree)
    texts = [text for text in sorted(walk.texts) if _DATA.fullmatch(text) or module_of(text).endswith(".py")]
    return _digest(walk), sorted(walk.imports), texts


def _digest(walk: _Walk) -> str:
    return hashlib.sha256("\x1f".join(walk.parts).encode("utf-8", "surrogatepass")).hexdigest()


def _sha256(file: Path) -> str:
    status = file.stat()
    return _sha256_of_version(file, status.st_mtime_ns, status.st_size)


@functools.cache
def _sha256_of_version(file: Path, mtime_ns: int, size: int) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


class _Walk:
    """Goes through a syntax tree and collects what counts of it.

    Written out rather than `ast.dump`, whose text differs between versions of Python.

    Args:
      package: that relative imports start from.
      first: the name of the top-level package, whose modules are followed where they are named in text.
    """

    def __init__(self, package: list[str], first: str):
        self.package, self.first = package, first
        self.parts: list[str] = []
        self.imports: set[str] = set()
        self.texts: set[str] = set()

    def node(self, node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            self.imports.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            self._import_from(node)
        elif isinstance(node, ast.Constant):
            self.parts.append(repr(node.value))
            if type(node.value) is str:
                self._text(node.value)
            return
        elif isinstance(node, ast.If) and _is_type_checking(node.test):
            self._if_type_checking(node)
            return
        self.parts.append(type(node).__name__)
        for name in node._fields:
            if name in ("ctx", "kind", "type_comment"):
                continue
            value = getattr(node, name, None)
            if value is not None and value != []:
                self.parts.append(name)
                self._value(value)
        self.parts.append(")")

    def _value(self, value: Any) -> None:
        if isinstance(value, list):
            for inner in value:
                if not isinstance(inner, ast.AST):
                    self.parts.append(repr(inner))
                elif not _silent(inner):
                    self.node(inner)
            self.parts.append("]")
        elif isinstance(value, ast.AST):
            self.node(value)
        else:
            self.parts.append(repr(value))

    def _import_from(self, node: ast.ImportFrom) -> None:
        above = self.package[: len(self.package) - node.level + 1] if node.level else []
        module = ".".join([*above, *([node.module] if node.module else [])])
        if module:
            self.imports.add(module)
            self.imports.update(f"{module}.{alias.name}" for alias in node.names)

    def _text(self, text: str) -> None:
        """A module named in text is imported by that name: entry points, registries."""
        self.texts.add(text)
        module = module_of(text) or (text if text.startswith(self.first + ".") else "")
        if _is_dotted(module):
            self.imports.add(module)

    def _if_type_checking(self, node: ast.If) -> None:
        """Its body never runs: it counts, but what it imports is not followed."""
        imports, texts = set(self.imports), set(self.texts)
        self._value(node.body)
        self.imports, self.texts = imports, texts
        self._value(node.orelse)


def _is_type_checking(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else test.id if isinstance(test, ast.Name) else ""
    return name == "TYPE_CHECKING"


def _silent(node: ast.AST) -> bool:
    """A statement that changes nothing that runs: a docstring (or any lone text), `pass`, the version number."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    if isinstance(node, ast.Assign):
        return len(node.targets) == 1 and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "__version__"
    return isinstance(node, ast.Pass)
