"""How the code is laid out: environments behind their seam, no folder that needs itself, one meaning for a name."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from rarl.envs.spec import ENVIRONMENTS, spec_of

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "rarl"
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
NAMES = [*ENVIRONMENTS, *(name for environment in ENVIRONMENTS for name in spec_of(environment).requires)]
# Data that is about experiments, not code.
DATA = {PACKAGE / "reporting" / "choices.yaml"}


def test_nothing_but_its_package_names_an_environment() -> None:
    named = re.compile("|".join(re.escape(name).replace("\\-", "[-_]") for name in NAMES), re.IGNORECASE)
    files = [path for path in PACKAGE.rglob("*.*") if path.suffix != ".pyc"]
    files += [*(ROOT / "workflow").rglob("*.smk"), *(ROOT / "workflow").rglob("*.py"), ROOT / "Snakefile"]
    files.append(ROOT / "dvc.yaml")
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in files
        if path.is_file() and path not in DATA and PACKAGE / "envs" not in path.parents
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if named.search(line)
    ]
    assert found == []


# ------------------------------------------------------------------------------------------------------ who needs whom


def folder_of(module: str) -> str:
    """The folder of a module; an environment's is its own, and what lies directly under rarl stands for itself."""
    parts = module.split(".")
    return ".".join(parts[: 3 if len(parts) > 2 and parts[1] == "envs" and parts[2] in ENVIRONMENTS else 2])


def imports(tree: ast.AST, package: list[str]) -> Iterator[str]:
    """Modules of this package that are imported, in functions too, but not for the checking of types alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] == "rarl")
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            if base.partition(".")[0] == "rarl":
                names = [f"{base}.{alias.name}" for alias in node.names]
                yield from (name if name in MODULES else base for name in names)
        yield from imports(node, package)


def graph() -> dict[str, dict[str, str]]:
    """Folder -> folders that it imports -> one of the modules that do."""
    found: dict[str, dict[str, str]] = {}
    for module, path in MODULES.items():
        package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
        needs = found.setdefault(folder_of(module), {})
        for other in imports(ast.parse(path.read_bytes()), package):
            if folder_of(other) != folder_of(module):
                needs.setdefault(folder_of(other), module)
    return found


def circle_in(needs: dict[str, dict[str, str]]) -> list[str]:
    """The folders of a circle, in their order, the first once more at its end; empty if there is none."""
    done: set[str] = set()

    def visit(folder: str, path: list[str]) -> list[str]:
        if folder in path:
            return [*path[path.index(folder) :], folder]
        if folder in done:
            return []
        done.add(folder)
        return next((circle for other in needs.get(folder, ()) if (circle := visit(other, [*path, folder]))), [])

    return next((circle for folder in needs if (circle := visit(folder, []))), [])


def test_folders_need_each_other_in_no_circle() -> None:
    needs = graph()
    assert len(needs) > 20
    circle = circle_in(needs)
    steps = [f"{one} -> {other} (by {needs[one][other]})" for one, other in pairwise(circle)]
    assert steps == []


@pytest.mark.parametrize(
    ("needs", "circle"),
    [
        ({"a": ["b"], "b": ["c"], "c": []}, []),
        ({"a": ["b", "c"], "b": ["c"], "c": ["d"], "d": ["b"]}, ["b", "c", "d", "b"]),
        ({"a": ["a"]}, ["a", "a"]),
    ],
)
def test_a_circle_is_found(needs: dict[str, list[str]], circle: list[str]) -> None:
    assert circle_in({one: dict.fromkeys(others, "") for one, others in needs.items()}) == circle


def test_no_two_classes_have_the_same_name() -> None:
    where: dict[str, list[str]] = {}
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.ClassDef):
                where.setdefault(node.name, []).append(module)
    assert {name: modules for name, modules in where.items() if len(modules) > 1} == {}
